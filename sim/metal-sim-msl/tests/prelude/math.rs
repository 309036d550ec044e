//! Functions of floating point numbers: every half there is and many floats, against f64, within the errors that the
//! Metal Shading Language specification allows when fast math is off.

use std::{f64::consts::PI, sync::LazyLock};

use half::f16;

use crate::{Numbers, library::Library};

static LIBRARY: LazyLock<Library> =
    LazyLock::new(|| Library::new("math", include_str!("math.cpp")));

/// In units of the last place of `exact` as a number with `bits` bits of fraction and this smallest exponent.
fn ulps(got: f64, exact: f64, bits: i32, smallest: i32, largest: f64) -> f64 {
    if got.is_nan() || exact.is_nan() {
        return if got.is_nan() && exact.is_nan() {
            0.0
        } else {
            f64::INFINITY
        };
    }
    if got.is_infinite() || exact.is_infinite() {
        // An overflow is right from half a unit beyond the largest number on.
        let beyond = exact.abs() >= largest * (1.0 + 2f64.powi(-bits - 2));
        return if got == exact || (beyond && got.is_infinite() && (got > 0.0) == (exact > 0.0)) {
            0.0
        } else {
            f64::INFINITY
        };
    }
    let exponent = if exact == 0.0 {
        smallest
    } else {
        (exact.abs().log2().floor() as i32).max(smallest)
    };
    (got - exact).abs() / 2f64.powi(exponent - bits)
}

fn ulps_f32(got: f32, exact: f64) -> f64 {
    ulps(got.into(), exact, 23, -126, f32::MAX.into())
}

fn ulps_f16(got: f16, exact: f64) -> f64 {
    ulps(got.into(), exact, 10, -14, 65504.0)
}

/// Numbers of every magnitude and sign, the usual ones denser, and the ones that are special.
fn floats(count: usize) -> Vec<f32> {
    let mut numbers = Numbers::new(7);
    let mut all: Vec<f32> = (0..count)
        .map(|i| match i % 4 {
            0 => f32::from_bits(numbers.bits() as u32),
            1 => numbers.between(-1.0, 1.0),
            2 => numbers.between(-100.0, 100.0),
            _ => numbers.between(-4.0, 4.0),
        })
        .collect();
    all.extend([
        0.0,
        -0.0,
        1.0,
        -1.0,
        0.5,
        -0.5,
        1.5,
        2.5,
        -2.5,
        f32::INFINITY,
        f32::NEG_INFINITY,
        f32::NAN,
        f32::MAX,
    ]);
    all.extend([
        f32::MIN_POSITIVE,
        1e-45,
        -1e-45,
        8388607.5,
        16777216.0,
        0.99999994,
        1.0000001,
        -1e-9,
    ]);
    all
}

fn halves() -> Vec<f16> {
    (0..=u16::MAX).map(f16::from_bits).collect()
}

/// To even, as `rint`.
fn even(x: f64) -> f64 {
    x.round_ties_even()
}

fn turned(x: f64, f: fn(f64) -> f64) -> f64 {
    f(PI * (x - 2.0 * even(x / 2.0)))
}

fn sign(x: f64) -> f64 {
    if x > 0.0 {
        1.0
    } else if x < 0.0 {
        -1.0
    } else if x.is_nan() {
        0.0
    } else {
        x
    }
}

type Unary = (&'static str, fn(f64) -> f64, f64);

/// What is allowed for floats, in units of the last place; 0.5: correctly rounded.
const UNARY: [Unary; 32] = [
    ("acos", f64::acos, 4.0),
    ("acosh", f64::acosh, 4.0),
    ("asin", f64::asin, 4.0),
    ("asinh", f64::asinh, 4.0),
    ("atan", f64::atan, 5.0),
    ("atanh", f64::atanh, 5.0),
    ("ceil", f64::ceil, 0.0),
    ("cos", f64::cos, 4.0),
    ("cosh", f64::cosh, 4.0),
    (
        "cospi",
        |x| {
            if (x - even(x)).abs() == 0.5 {
                0.0
            } else {
                turned(x, f64::cos)
            }
        },
        0.51,
    ),
    ("exp", f64::exp, 4.0),
    ("exp2", f64::exp2, 4.0),
    ("exp10", |x| 10f64.powf(x), 4.0),
    ("fabs", f64::abs, 0.0),
    ("abs", f64::abs, 0.0),
    ("floor", f64::floor, 0.0),
    ("log", f64::ln, 4.0),
    ("log2", f64::log2, 4.0),
    ("log10", f64::log10, 4.0),
    ("rint", even, 0.0),
    ("round", f64::round, 0.0),
    ("rsqrt", |x| 1.0 / x.sqrt(), 0.5001),
    ("saturate", |x| x.clamp(0.0, 1.0), 0.0),
    ("sign", sign, 0.0),
    ("sin", f64::sin, 4.0),
    ("sinh", f64::sinh, 4.0),
    (
        "sinpi",
        |x| {
            if x.is_finite() && even(x) == x {
                0.0
            } else {
                turned(x, f64::sin)
            }
        },
        0.51,
    ),
    ("sqrt", f64::sqrt, 0.5001),
    ("tan", f64::tan, 6.0),
    ("tanh", f64::tanh, 5.0),
    (
        "tanpi",
        |x| {
            if x.is_finite() && even(x) == x {
                0.0
            } else {
                turned(x, f64::tan)
            }
        },
        6.0,
    ),
    ("trunc", f64::trunc, 0.0),
];

#[test]
fn functions_of_one_number_are_within_their_bounds() {
    let (floats, halves) = (floats(40_000), halves());
    for (name, exact, bound) in UNARY {
        // The clamp of a NaN is 0, and where the tangent goes through infinity either sign is right.
        let skips = |x: f64| {
            (name == "saturate" && x.is_nan()) || (name == "tanpi" && (x - even(x)).abs() == 0.5)
        };
        let got: Vec<f32> = LIBRARY.map(&format!("{name}_f"), &floats);
        for (&x, &y) in floats.iter().zip(&got).filter(|&(&x, _)| !skips(x.into())) {
            let exact = exact(x.into());
            assert!(
                ulps_f32(y, exact) <= bound,
                "{name}({x:e}) = {y:e}, exactly {exact:e}"
            );
        }
        // Computed in float and rounded once.
        let bound = if bound == 0.0 { 0.0 } else { 0.51 };
        let got: Vec<f16> = LIBRARY.map(&format!("{name}_h"), &halves);
        for (&x, &y) in halves.iter().zip(&got).filter(|&(&x, _)| !skips(x.into())) {
            let exact = exact(x.into());
            assert!(
                ulps_f16(y, exact) <= bound,
                "{name}({x:e}h) = {y:e}, exactly {exact:e}"
            );
        }
    }
}

#[test]
fn fractions_stay_below_one() {
    let floats = floats(10_000);
    let got: Vec<f32> = LIBRARY.map("fract_f", &floats);
    for (&x, &y) in floats.iter().zip(&got).filter(|(x, _)| x.is_finite()) {
        assert_eq!(y, (x - x.floor()).min(0.999_999_94), "fract({x:e})");
    }
    let halves = halves();
    let got: Vec<f16> = LIBRARY.map("fract_h", &halves);
    for (&x, &y) in halves.iter().zip(&got).filter(|(x, _)| x.is_finite()) {
        let exact = f64::from(x) - f64::from(x).floor();
        assert!((0.0..1.0).contains(&f64::from(y)), "fract({x:e}h) = {y:e}");
        assert_eq!(
            y,
            f16::from_f64(exact.min(2047.0 / 2048.0)),
            "fract({x:e}h)"
        );
    }
}

#[test]
fn functions_of_two_numbers_are_within_their_bounds() {
    let floats = floats(20_000);
    let pairs: Vec<[f32; 2]> = floats
        .iter()
        .zip(floats.iter().rev())
        .map(|(&a, &b)| [a, b])
        .collect();
    let halves: Vec<[f16; 2]> = pairs.iter().map(|p| p.map(f16::from_f32)).collect();
    type Binary = (&'static str, fn(f64, f64) -> f64, f64);
    let smaller = |a: f64, b: f64| if a.is_nan() || b < a { b } else { a };
    let larger = |a: f64, b: f64| if a.is_nan() || b > a { b } else { a };
    let all: [Binary; 12] = [
        ("atan2", f64::atan2, 6.0),
        ("copysign", f64::copysign, 0.0),
        ("divide", |a, b| a / b, 0.5001),
        (
            "fdim",
            |a, b| {
                if a.is_nan() || b.is_nan() {
                    f64::NAN
                } else if a > b {
                    a - b
                } else {
                    0.0
                }
            },
            0.5001,
        ),
        ("fmax", larger, 0.0),
        ("fmin", smaller, 0.0),
        ("max", larger, 0.0),
        ("min", smaller, 0.0),
        ("fmod", |a, b| a % b, 0.0),
        ("pow", f64::powf, 16.0),
        (
            "powr",
            |a, b| if a < 0.0 { f64::NAN } else { a.powf(b) },
            16.0,
        ),
        ("step", |edge, x| if x < edge { 0.0 } else { 1.0 }, 0.0),
    ];
    for (name, exact, bound) in all {
        let got: Vec<f32> = LIBRARY.map(&format!("{name}_f"), &pairs);
        for (&[a, b], &y) in pairs.iter().zip(&got) {
            let exact = exact(a.into(), b.into());
            assert!(
                ulps_f32(y, exact) <= bound,
                "{name}({a:e}, {b:e}) = {y:e}, exactly {exact:e}"
            );
        }
        let bound = if bound == 0.0 { 0.0 } else { 0.51 };
        let got: Vec<f16> = LIBRARY.map(&format!("{name}_h"), &halves);
        for (&[a, b], &y) in halves.iter().zip(&got) {
            let exact = exact(a.into(), b.into());
            assert!(
                ulps_f16(y, exact) <= bound,
                "{name}({a:e}h, {b:e}h) = {y:e}, exactly {exact:e}"
            );
        }
    }
}

#[test]
fn functions_of_three_numbers_are_within_their_bounds() {
    let mut numbers = Numbers::new(3);
    let triples: Vec<[f32; 3]> = (0..20_000)
        .map(|_| [0; 3].map(|_| numbers.between(-8.0, 8.0)))
        .collect();
    let halves: Vec<[f16; 3]> = triples.iter().map(|t| t.map(f16::from_f32)).collect();
    type Ternary = (&'static str, fn(f64, f64, f64) -> f64, f64, f64);
    let middle = |a: f64, b: f64, c: f64| a.min(b).max(a.max(b).min(c));
    // Of those that add and subtract, the error is in units of the largest number that they handle.
    let all: [Ternary; 9] = [
        ("fma", f64::mul_add, 0.5001, 0.0),
        ("mix", |a, b, t| a + (b - a) * t, 0.0, 2e-5),
        ("clamp", |x, low, high| x.max(low).min(high), 0.0, 0.0),
        ("fmax3", |a, b, c| a.max(b).max(c), 0.0, 0.0),
        ("fmin3", |a, b, c| a.min(b).min(c), 0.0, 0.0),
        ("fmedian3", middle, 0.0, 0.0),
        ("max3", |a, b, c| a.max(b).max(c), 0.0, 0.0),
        ("min3", |a, b, c| a.min(b).min(c), 0.0, 0.0),
        ("median3", middle, 0.0, 0.0),
    ];
    for (name, exact, bound, slack) in all {
        let got: Vec<f32> = LIBRARY.map(&format!("{name}_f"), &triples);
        for (&[a, b, c], &y) in triples.iter().zip(&got) {
            let exact = exact(a.into(), b.into(), c.into());
            let right = ulps_f32(y, exact) <= bound || (f64::from(y) - exact).abs() <= slack;
            assert!(
                right,
                "{name}({a:e}, {b:e}, {c:e}) = {y:e}, exactly {exact:e}"
            );
        }
        let bound = if name == "mix" || name == "fma" {
            0.51
        } else {
            0.0
        };
        let got: Vec<f16> = LIBRARY.map(&format!("{name}_h"), &halves);
        for (&[a, b, c], &y) in halves.iter().zip(&got) {
            let exact = exact(a.into(), b.into(), c.into());
            let right = ulps_f16(y, exact) <= bound || (f64::from(y) - exact).abs() <= slack;
            assert!(
                right,
                "{name}({a:e}h, {b:e}h, {c:e}h) = {y:e}, exactly {exact:e}"
            );
        }
    }
    let steps: Vec<f32> = LIBRARY.map(
        "smoothstep_f",
        &[
            [0.0f32, 2.0, -1.0],
            [0.0, 2.0, 0.5],
            [0.0, 2.0, 1.0],
            [0.0, 2.0, 3.0],
        ],
    );
    assert_eq!(steps, [0.0, 0.15625, 0.5, 1.0]);
}

#[test]
fn functions_with_a_second_result_split_as_they_say() {
    let floats: Vec<f32> = floats(10_000)
        .into_iter()
        .filter(|x| x.is_finite())
        .collect();
    let parts: Vec<[f32; 2]> = LIBRARY.map("modf_f", &floats);
    let angles: Vec<[f32; 2]> = LIBRARY.map("sincos_f", &floats);
    let split: Vec<[f32; 2]> = LIBRARY.map("frexp_f", &floats);
    let exponents: Vec<i32> = LIBRARY.map("ilogb_f", &floats);
    for (i, &x) in floats.iter().enumerate() {
        assert_eq!(parts[i], [x.fract(), x.trunc()], "modf({x:e})");
        assert!(
            ulps_f32(angles[i][0], f64::from(x).sin()) <= 4.0
                && ulps_f32(angles[i][1], f64::from(x).cos()) <= 4.0
        );
        let [fraction, exponent] = split[i];
        assert_eq!(
            f64::from(fraction) * f64::from(exponent).exp2(),
            x.into(),
            "frexp({x:e})"
        );
        if x == 0.0 {
            assert_eq!(fraction.to_bits(), x.to_bits());
            assert_eq!(exponents[i], i32::MIN, "ilogb(0) is FP_ILOGB0");
        } else {
            assert!(
                (0.5..1.0).contains(&fraction.abs()),
                "frexp({x:e}) = {fraction}"
            );
            assert_eq!(exponents[i], exponent as i32 - 1, "ilogb({x:e})");
        }
    }
    let infinite: Vec<[f32; 2]> = LIBRARY.map("modf_f", &[f32::NEG_INFINITY]);
    assert_eq!(infinite, [[-0.0, f32::NEG_INFINITY]]);
    let scaled: Vec<f32> = LIBRARY.map(
        "ldexp_f",
        &[[1.5f32, 3.0], [1.0, -149.0], [1.0, 200.0], [-3.0, -1.0]],
    );
    assert_eq!(scaled, [12.0, 1e-45, f32::INFINITY, -1.5]);
    let scaled: Vec<f16> = LIBRARY.map(
        "ldexp_h",
        &[[1.5, 3.0], [1.0, -24.0], [1.0, 20.0]].map(|p| p.map(f16::from_f32)),
    );
    assert_eq!(
        scaled,
        [f16::from_f32(12.0), f16::from_bits(1), f16::INFINITY]
    );
}

#[test]
fn the_next_number_is_next() {
    let halves: Vec<f16> = halves().into_iter().filter(|h| !h.is_nan()).collect();
    // By value: 0 and -0 are one number.
    let up: Vec<f16> = LIBRARY.map(
        "nextafter_h",
        &halves
            .iter()
            .map(|&h| [h, f16::INFINITY])
            .collect::<Vec<_>>(),
    );
    let down: Vec<f16> = LIBRARY.map(
        "nextafter_h",
        &up.iter()
            .map(|&h| [h, f16::NEG_INFINITY])
            .collect::<Vec<_>>(),
    );
    for (i, &h) in halves.iter().enumerate() {
        assert!(
            h.is_infinite() && !h.is_sign_negative() && up[i] == h || up[i] > h,
            "after {h:e}: {:e}",
            up[i]
        );
        assert!(
            h == f16::INFINITY || down[i] == h,
            "before {:e}: {:e}, not {h:e}",
            up[i],
            down[i]
        );
    }
    let got: Vec<f32> = LIBRARY.map("nextafter_f", &[[1.0f32, 2.0], [0.0, -1.0], [5.0, 5.0]]);
    assert_eq!(got, [1.0f32.next_up(), -1e-45, 5.0]);
}

#[test]
fn vectors_and_mixed_arguments_agree_with_scalars() {
    let got: Vec<i32> = LIBRARY.map("agree", &[0.25f32, 3.0, -2.5, 0.0]);
    assert_eq!(got, [0; 4], "bits of the checks of agree() that failed");
}
