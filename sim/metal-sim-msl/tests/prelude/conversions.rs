//! Conversions between the types of numbers: rounding to nearest, ties to even, into half and bfloat; towards zero and
//! saturating into integers, as a GPU does.

use std::sync::LazyLock;

use half::{bf16, f16};

use crate::{Numbers, library::Library};

static LIBRARY: LazyLock<Library> =
    LazyLock::new(|| Library::new("conversions", include_str!("conversions.cpp")));

/// Floats at and around every rounding boundary of a type with `bits` fewer bits of fraction, and others.
fn floats(bits: u32) -> Vec<f32> {
    let mut all = Vec::new();
    for upper in 0..1u32 << (32 - bits) {
        let half = 1 << (bits - 1);
        all.extend(
            [0, 1, half - 1, half, half + 1, 2 * half - 1]
                .map(|low| f32::from_bits(upper << bits | low)),
        );
    }
    let mut numbers = Numbers::new(1);
    all.extend((0..100_000).map(|_| f32::from_bits(numbers.bits() as u32)));
    all
}

#[test]
fn floats_round_to_halves_and_bfloats() {
    let all = floats(13);
    let got: Vec<f16> = LIBRARY.map("float_to_half", &all);
    for (x, y) in all.iter().zip(got) {
        let expected = f16::from_f32(*x);
        assert!(
            y == expected || (x.is_nan() && y.is_nan()),
            "half({x:e}) = {y:e}, not {expected:e}"
        );
    }
    let all = floats(16);
    let got: Vec<bf16> = LIBRARY.map("float_to_bfloat", &all);
    for (x, y) in all.iter().zip(got) {
        let expected = bf16::from_f32(*x);
        assert!(
            y == expected || (x.is_nan() && y.is_nan()),
            "bfloat({x:e}) = {y:e}, not {expected:e}"
        );
    }
}

#[test]
fn every_half_and_bfloat_widens_and_comes_back() {
    let halves: Vec<f16> = (0..=u16::MAX).map(f16::from_bits).collect();
    let got: Vec<f32> = LIBRARY.map("half_to_float", &halves);
    let back: Vec<f16> = LIBRARY.map("float_to_half", &got);
    for ((x, y), back) in halves.iter().zip(got).zip(back) {
        assert!(y.to_bits() == x.to_f32().to_bits() || (x.is_nan() && y.is_nan()));
        assert!(back.to_bits() == x.to_bits() || (x.is_nan() && back.is_nan()));
    }
    let bfloats: Vec<bf16> = (0..=u16::MAX).map(bf16::from_bits).collect();
    let got: Vec<f32> = LIBRARY.map("bfloat_to_float", &bfloats);
    for (x, y) in bfloats.iter().zip(got) {
        assert!(y.to_bits() == x.to_f32().to_bits() || (x.is_nan() && y.is_nan()));
    }
    let got: Vec<f16> = LIBRARY.map("bfloat_to_half", &bfloats);
    for (x, y) in bfloats.iter().zip(got) {
        let expected = f16::from_f32(x.to_f32());
        assert!(
            y == expected || (x.is_nan() && y.is_nan()),
            "half({x:e}bf) = {y:e}, not {expected:e}"
        );
    }
    let got: Vec<bf16> = LIBRARY.map("half_to_bfloat", &halves);
    for (x, y) in halves.iter().zip(got) {
        let expected = bf16::from_f32(x.to_f32());
        assert!(
            y == expected || (x.is_nan() && y.is_nan()),
            "bfloat({x:e}h) = {y:e}, not {expected:e}"
        );
    }
}

#[test]
fn doubles_round_once() {
    // Just beside a tie by less than a float can tell: by way of a float it would round to even.
    let tie = 1.0 + f64::powi(2.0, -8);
    let below = 1.0 + f64::powi(2.0, -7) + f64::powi(2.0, -8) - 1e-12;
    let all = [
        tie,
        tie + 1e-12,
        tie - 1e-12,
        -tie - 1e-12,
        below,
        1e300,
        -1e300,
        0.0,
    ];
    let got: Vec<bf16> = LIBRARY.map("double_to_bfloat", &all);
    let expected = [0x3f80, 0x3f81, 0x3f80, 0xbf81, 0x3f81, 0x7f80, 0xff80, 0].map(bf16::from_bits);
    assert_eq!(got, expected);
    let nan: Vec<bf16> = LIBRARY.map("double_to_bfloat", &[f64::NAN]);
    assert!(nan[0].is_nan());
}

#[test]
fn floats_to_integers_saturate() {
    let mut numbers = Numbers::new(5);
    let mut all: Vec<f32> = (0..20_000)
        .map(|_| f32::from_bits(numbers.bits() as u32))
        .collect();
    all.extend((0..20_000).map(|_| numbers.between(-70_000.0, 70_000.0)));
    all.extend([
        f32::NAN,
        f32::INFINITY,
        f32::NEG_INFINITY,
        -0.0,
        -0.9,
        0.9,
        255.5,
        256.0,
        -1.0,
        2147483648.0,
        -2147483904.0,
    ]);
    // `as` of Rust has the same rule: towards zero, saturating, 0 for NaN.
    macro_rules! check {
        ($($name:literal $type:ty),*) => { $(
            let got: Vec<$type> = LIBRARY.map($name, &all);
            for (x, y) in all.iter().zip(got) {
                assert_eq!(y, *x as $type, "{}({x:e})", $name);
            }
        )* };
    }
    check!("to_char" i8, "to_uchar" u8, "to_short" i16, "to_ushort" u16);
    check!("to_int" i32, "to_uint" u32, "to_long" i64, "to_ulong" u64);
}

#[test]
fn integers_round_to_nearest() {
    let mut numbers = Numbers::new(6);
    let all: Vec<i64> = (0..20_000)
        .map(|i| numbers.bits() as i64 >> (i % 63))
        .chain([i64::MAX, i64::MIN, 0])
        .collect();
    let floats: Vec<f32> = LIBRARY.map("long_to_float", &all);
    let halves: Vec<f16> = LIBRARY.map("long_to_half", &all);
    for ((x, y), h) in all.iter().zip(floats).zip(halves) {
        assert_eq!(y, *x as f32);
        assert_eq!(h, f16::from_f32(*x as f32), "half({x})");
    }
}

#[test]
fn bits_are_kept_by_as_type() {
    let mut numbers = Numbers::new(8);
    let all: Vec<u32> = (0..1000).map(|_| numbers.bits() as u32).collect();
    let got: Vec<u32> = LIBRARY.map("bits", &all);
    assert_eq!(got, all);
}

#[test]
fn halves_round_after_every_operation() {
    let pairs: Vec<[f16; 3]> = (0..3000u32)
        .map(|i| {
            [i * 7 + 11, i * 13 + 5, i * 3 + 1]
                .map(|b| f16::from_bits((b % 0x4000 + 0x2000) as u16))
        })
        .collect();
    let got: Vec<f16> = LIBRARY.map("half_steps", &pairs);
    let mut once = 0;
    for ([a, b, c], y) in pairs.iter().zip(got) {
        assert_eq!(y, *a * *b + *c, "{a} * {b} + {c}");
        once += usize::from(y != f16::from_f64(f64::from(*a) * f64::from(*b) + f64::from(*c)));
    }
    assert!(
        once > 0,
        "some of these tell rounding twice from rounding once"
    );
    let pairs: Vec<[bf16; 3]> = pairs
        .iter()
        .map(|p| p.map(|h| bf16::from_f32(h.to_f32())))
        .collect();
    let got: Vec<bf16> = LIBRARY.map("bfloat_steps", &pairs);
    for ([a, b, c], y) in pairs.iter().zip(got) {
        assert_eq!(y, *a * *b + *c, "{a} * {b} + {c}");
    }
}
