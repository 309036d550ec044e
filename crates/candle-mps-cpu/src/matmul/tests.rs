//! Every option and type against sums in f64, element by element.

use super::*;
use crate::{
    oracle::{Operand, Rng, cases, each_type},
    simd::{available, with_isa},
};

/// Refuses an element that is farther from the exact one than `size`, the product of the magnitudes,
/// allows: 1e-5 of it in f32, and one rounding.
pub(crate) fn close<T: Element>(what: &str, got: &[T], exact: &[f64], size: &[f64]) {
    assert_eq!(
        (got.len(), exact.len()),
        (exact.len(), size.len()),
        "{what}"
    );
    let (acc, store, tiny) = match (size_of::<T>(), T::from_f64(1e10).to_f64().is_infinite()) {
        (8, _) => (1e-14, 0., 0.),
        (4, _) => (1e-5, 0., 1e-37),
        (_, true) => (1e-5, 2f64.powi(-11), 2f64.powi(-24)),
        (_, false) => (1e-5, 2f64.powi(-8), 1e-37),
    };
    for (at, ((got, &exact), size)) in got.iter().zip(exact).zip(size).enumerate() {
        let bound = (acc * size + exact.abs() * store) * 1.01 + tiny;
        let got = got.to_f64();
        assert!(
            (got - exact).abs() <= bound,
            "{what}[{at}] = {got}, not {exact} (within {bound:e})"
        );
    }
}

/// A·B and |A|·|B|, of row-major values.
pub(crate) fn exact(a: &[f64], b: &[f64], (m, depth, n): (usize, usize, usize)) -> [Vec<f64>; 2] {
    let mut all = [vec![0.; m * n], vec![0.; m * n]];
    for i in 0..m {
        for j in 0..n {
            for k in 0..depth {
                let x = a[i * depth + k] * b[k * n + j];
                all[0][i * n + j] += x;
                all[1][i * n + j] += x.abs();
            }
        }
    }
    all
}

fn activated(activation: Activation, x: f64) -> f64 {
    match activation {
        Activation::None => x,
        Activation::Relu => x.max(0.),
        Activation::Silu => x / (1. + (-x).exp()),
        Activation::Gelu => {
            0.5 * x
                * (1. + ((2. / std::f64::consts::PI).sqrt() * (x + 0.044_715 * x.powi(3))).tanh())
        }
    }
}

fn pick(rng: &mut Rng, from: &[usize]) -> usize {
    from[rng.below(from.len())]
}

/// Sizes around the edges of vectors, tiles and blocks.
fn sizes(rng: &mut Rng) -> (usize, usize, usize) {
    let m = pick(rng, &[1, 1, 2, 3, 4, 5, 13, 14, 15, 29, 40]);
    let n = pick(rng, &[1, 2, 8, 15, 16, 17, 31, 32, 33, 70, 100]);
    let depth = pick(rng, &[1, 2, 3, 8, 17, 64, 130, 257, 520]);
    (
        m,
        if depth > 200 {
            depth
        } else {
            pick(rng, &[depth, 5, 40])
        },
        n,
    )
}

fn each_element<T: Factor>() {
    cases("matmul", |rng: &mut Rng| {
        let (m, depth, n) = sizes(rng);
        let batch = match rng.below(3) {
            0 if m * n < 500 => vec![pick(rng, &[1, 2, 3]), pick(rng, &[1, 2, 5])],
            _ => vec![],
        };
        let dims = |own: &[usize], last: [usize; 2]| [own, &last].concat();
        let shrink = |rng: &mut Rng| match rng.below(3) {
            0 => vec![],
            1 => batch
                .iter()
                .map(|&dim| if rng.below(2) == 0 { 1 } else { dim })
                .collect(),
            _ => batch.clone(),
        };
        let (for_a, for_b) = match rng.below(2) {
            0 => (batch.clone(), shrink(rng)),
            _ => (shrink(rng), batch.clone()),
        };
        let a: Operand<T> = rng.operand(&dims(&for_a, [m, depth]));
        let b: Operand<T> = rng.operand(&dims(&for_b, [depth, n]));
        let bias = rng.values::<T>(n);
        let count = batch.iter().product::<usize>();
        let old = rng.values::<T>(count * m * n);
        let plain = rng.below(3) == 0;
        let activations = [
            Activation::None,
            Activation::Relu,
            Activation::Gelu,
            Activation::Silu,
        ];
        let options = Options {
            scale: if plain {
                1.
            } else {
                [1., 0.5, -2.][rng.below(3)]
            },
            bias: (!plain && rng.below(2) == 0).then_some(&bias[..]),
            activation: if plain {
                Activation::None
            } else {
                activations[rng.below(4)]
            },
            accumulate: rng.below(2) == 0,
        };
        let mut out = old.clone();
        matmul(
            (&a.data, &a.layout()),
            (&b.data, &b.layout()),
            &options,
            &mut out,
        )
        .unwrap();

        let (av, bv) = (a.values(), b.values());
        let offset = |own: &[usize], mut index: usize| {
            let mut at = 0;
            let mut step = 1;
            for (axis, &dim) in batch.iter().enumerate().rev() {
                let place = index % dim;
                index /= dim;
                if let Some(axis) = (axis + own.len()).checked_sub(batch.len()) {
                    at += if own[axis] == 1 { 0 } else { place * step };
                    step *= own[axis];
                }
            }
            at
        };
        let (mut expected, mut size) = (vec![], vec![]);
        for index in 0..count {
            let a = &av[offset(&for_a, index) * m * depth..][..m * depth];
            let b = &bv[offset(&for_b, index) * depth * n..][..depth * n];
            let [sums, sizes] = exact(a, b, (m, depth, n));
            for (at, (sum, magnitude)) in sums.iter().zip(&sizes).enumerate() {
                let bias = options.bias.map_or(0., |bias| bias[at % n].to_f64());
                let old = if options.accumulate {
                    old[index * m * n + at].to_f64()
                } else {
                    0.
                };
                expected.push(activated(options.activation, options.scale * sum + bias) + old);
                size.push(1.2 * options.scale.abs() * magnitude + bias.abs() + 0.1 * old.abs());
            }
        }
        close("c", &out, &expected, &size);
        if for_b.is_empty() {
            let packed = PackedB::new(&b.data, &b.layout()).unwrap();
            let mut out = old.clone();
            matmul_packed((&a.data, &a.layout()), &packed, &options, &mut out).unwrap();
            close("packed c", &out, &expected, &size);
        }
        out
    });
}
each_type!(each_element);

#[test]
fn each_element_by_accelerate() {
    use crate::simd::accelerate::stand_in;

    assert!(stand_in::with(each_element::<f32>) > 0);
    assert!(stand_in::with(each_element::<f64>) > 0);
}

/// More rows, columns and depth than one block holds, in f32 of every instruction set.
#[test]
fn several_blocks() {
    let (m, depth, n) = (75, 600, 150);
    let values = |len: usize| (0..len).map(|i| (i * 7919 % 1009) as f32 / 500. - 1.);
    let (a, b): (Vec<_>, Vec<_>) = (values(m * depth).collect(), values(depth * n).collect());
    let wide = |x: &[f32]| x.iter().map(|&x| f64::from(x)).collect::<Vec<_>>();
    let [expected, size] = exact(&wide(&a), &wide(&b), (m, depth, n));
    let (a_dims, b_dims) = ([m, depth], [depth, n]);
    let a = (&a[..], &Layout::contiguous(&a_dims).unwrap());
    let b = (&b[..], &Layout::contiguous(&b_dims).unwrap());
    for isa in available() {
        let mut out = vec![f32::NAN; m * n];
        with_isa(isa, || matmul(a, b, &Options::default(), &mut out)).unwrap();
        close(isa.name(), &out, &expected, &size);
    }
}

#[test]
fn no_depth_is_zero_and_the_epilogue() {
    let empty = Layout::contiguous(&[3, 0]).unwrap();
    let other = Layout::contiguous(&[0, 2]).unwrap();
    for m in [3, 6] {
        let (a_dims, mut out) = ([m, 0], vec![5f32; m * 2]);
        let a = Layout::contiguous(&a_dims).unwrap();
        let mut options = Options {
            bias: Some(&[1f32, -1.][..]),
            ..Options::default()
        };
        matmul((&[], &a), (&[], &other), &options, &mut out).unwrap();
        assert_eq!(out, [1., -1.].repeat(m));
        options.accumulate = true;
        matmul((&[], &a), (&[], &other), &options, &mut out).unwrap();
        assert_eq!(out, [2., -2.].repeat(m));
    }
    matmul::<f32>((&[], &other), (&[], &empty), &Options::default(), &mut []).unwrap_err();
    let none = Layout::contiguous(&[0, 3]).unwrap();
    matmul::<f32>((&[], &none), (&[], &empty), &Options::default(), &mut []).unwrap();
}

#[test]
fn activations_at_the_ends() {
    let ends = [
        f32::NEG_INFINITY,
        -1e30,
        -0.,
        0.,
        1e30,
        f32::INFINITY,
        f32::NAN,
    ];
    let (column, one) = (
        Layout::contiguous(&[7, 1]).unwrap(),
        Layout::contiguous(&[1, 1]).unwrap(),
    );
    for isa in available() {
        for activation in [Activation::Relu, Activation::Gelu, Activation::Silu] {
            let mut out = [9.; 7];
            let options = Options {
                activation,
                ..Options::default()
            };
            with_isa(isa, || {
                matmul((&ends, &column), (&[1.], &one), &options, &mut out)
            })
            .unwrap();
            assert_eq!(out[..4], [0.; 4], "{activation:?}");
            assert_eq!(out[4..6], [1e30, f32::INFINITY], "{activation:?}");
            assert!(out[6].is_nan(), "{activation:?}");
        }
    }
}

/// The stride of a dimension of size 1 is never taken, whatever it is: not by a step, and not in counting
/// what lies where.
#[test]
fn a_stride_that_no_step_takes_may_be_anything() {
    for far in [usize::MAX, 0x7aff_ff7b_e3e4_ccee, 1 << 61, 1 << 60] {
        for (m, k, n) in [
            (1, 3, 1),
            (1, 3, 16),
            (16, 1, 16),
            (16, 1, 1),
            (1, 1, 16),
            (5, 4, 1),
        ] {
            let own = |dim: usize, natural: usize| if dim == 1 { far } else { natural };
            let (a_dims, b_dims) = ([2, m, k], [2, k, n]);
            let a_strides = [m * k, own(m, k), own(k, 1)];
            let b_strides = [k * n, own(k, n), own(n, 1)];
            let a_layout = Layout::new(&a_dims, &a_strides, 0).expect("a layout");
            let b_layout = Layout::new(&b_dims, &b_strides, 0).expect("a layout");
            let a: Vec<f64> = (0..2 * m * k).map(|i| i as f64).collect();
            let b: Vec<f64> = (0..2 * k * n).map(|i| (i % 7) as f64).collect();
            let exact: Vec<f64> = (0..2 * m * n)
                .map(|at| {
                    let (of, row, col) = (at / (m * n), at / n % m, at % n);
                    (0..k)
                        .map(|l| a[(of * m + row) * k + l] * b[(of * k + l) * n + col])
                        .sum()
                })
                .collect();
            for isa in available() {
                let mut out = vec![9.; 2 * m * n];
                let (a, b) = ((&a[..], &a_layout), (&b[..], &b_layout));
                with_isa(isa, || matmul(a, b, &Options::default(), &mut out)).expect("a product");
                assert_eq!(out, exact, "{m}x{k}x{n}, {far:#x}, {isa:?}");
            }
        }
    }
}

/// Packing takes as long as there are elements, and no more memory than elements that are there; a view that
/// repeats them has no bound of its own.
#[test]
fn a_packed_matrix_that_only_repeats_is_small_or_refused() {
    let data = [2f32];
    let pack = |dims: [usize; 2]| {
        let layout = Layout::new(&dims, &[0, 0], 0).unwrap();
        PackedB::new(&data, &layout).map(|packed| (packed.rows(), packed.cols()))
    };
    assert_eq!(pack([1000, 3]).unwrap(), (1000, 3));
    assert_eq!(pack([1 << 60, 0]).unwrap(), (1 << 60, 0));
    for dims in [[1 << 40, 1], [1, 1 << 62], [usize::MAX / 3, 3]] {
        assert!(matches!(
            pack(dims),
            Err(Error::SizeOverflow { argument: "b", .. })
        ));
    }
}

#[test]
fn refusals_name_the_argument() {
    let x = [0f32; 24];
    let plain = Options::default();
    let layout = |dims: &'static [usize]| Layout::contiguous(dims).unwrap();
    let mut out = [0f32; 16];
    let mut go = |a, b, options: &Options<f32>, len| {
        let out: &mut [f32] = &mut out[..len];
        matmul((&x, &layout(a)), (&x, &layout(b)), options, out).map_err(|error| error.to_string())
    };
    let refused = |result: Result<(), String>, part: &str| {
        let message = result.unwrap_err();
        assert!(
            message.contains(part) && message.contains("matmul"),
            "{message}"
        );
    };
    go(&[4, 3], &[3, 4], &plain, 16).unwrap();
    refused(go(&[4], &[4, 4], &plain, 4), "`a` has rank 1");
    refused(go(&[4, 4], &[], &plain, 4), "`b` has rank 0");
    refused(go(&[4, 3], &[4, 3], &plain, 12), "`b` is [4, 3], [3, 3]");
    refused(go(&[2, 3, 2], &[3, 2, 2], &plain, 12), "`b` is [3], [2]");
    refused(
        go(&[4, 3], &[3, 4], &plain, 15),
        "`out` has 15 elements, 16",
    );
    refused(go(&[9, 3], &[3, 1], &plain, 9), "`a` reaches element 26");
    let bias = Options {
        bias: Some(&x[..3]),
        ..plain
    };
    refused(go(&[4, 3], &[3, 4], &bias, 16), "`bias` has 3 elements, 4");
    let packed = PackedB::new(&x, &layout(&[3, 4])).unwrap();
    let a = layout(&[2, 4]);
    let error = matmul_packed((&x, &a), &packed, &plain, &mut [0.; 8]).unwrap_err();
    assert!(
        error.to_string().contains("`a` is [2, 4], [2, 3]"),
        "{error}"
    );
    assert!(PackedB::new(&x, &layout(&[1, 3, 4])).is_err());
}

#[test]
fn nan_and_infinity_pass_through() {
    for (m, n) in [(1, 3), (20, 40)] {
        let (a_dims, b_dims) = ([m, 2], [2, n]);
        let (mut a, b) = (vec![1f32; m * 2], vec![0f32; 2 * n]);
        a[0] = f32::INFINITY; // times 0 is NaN, in the first row only
        let mut out = vec![9.; m * n];
        let (a_layout, b_layout) = (
            Layout::contiguous(&a_dims).unwrap(),
            Layout::contiguous(&b_dims).unwrap(),
        );
        for isa in available() {
            let options = Options::default();
            with_isa(isa, || {
                matmul((&a, &a_layout), (&b, &b_layout), &options, &mut out)
            })
            .unwrap();
            assert!(out[..n].iter().all(|x| x.is_nan()) && out[n..].iter().all(|&x| x == 0.));
        }
    }
}

#[test]
fn a_depth_that_only_repeats_is_refused_where_nothing_bounds_it() {
    let data = [2f32];
    let go = |depth: usize| {
        let (a, b) = ([1, depth], [depth, 1]);
        let a = Layout::new(&a, &[0, 0], 0).unwrap();
        let b = Layout::new(&b, &[0, 0], 0).unwrap();
        let mut out = [0.];
        let result = matmul((&data, &a), (&data, &b), &Options::default(), &mut out);
        result.map(|()| out[0])
    };
    assert_eq!(go(1000).unwrap(), 4000.);
    for depth in [1 << 40, isize::MAX as usize] {
        assert!(matches!(
            go(depth),
            Err(Error::SizeOverflow { argument: "a", .. })
        ));
    }
}
