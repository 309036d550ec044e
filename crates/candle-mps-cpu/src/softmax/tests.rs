//! Every option and type against f64, and the rows that are unusual.

use super::*;
use crate::oracle::{Rng, cases, check as close, each_type};

/// The positions of each line along `axis` in row-major order.
fn lines(dims: &[usize], axis: usize) -> Vec<Vec<usize>> {
    let inner: usize = dims[axis + 1..].iter().product();
    let outer: usize = dims[..axis].iter().product();
    (0..outer * inner)
        .map(|line| {
            let start = line / inner * dims[axis] * inner + line % inner;
            (0..dims[axis]).map(|i| start + i * inner).collect()
        })
        .collect()
}

fn exact(v: &[f64], log: bool) -> Vec<f64> {
    let largest = v.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let sum: f64 = v.iter().map(|v| (v - largest).exp()).sum();
    let one = |v: &f64| {
        if log {
            v - largest - sum.ln()
        } else {
            (v - largest).exp() / sum
        }
    };
    v.iter().map(one).collect()
}

fn forward<T: Element>() {
    cases("softmax", |rng: &mut Rng| {
        let dims = rng.dims();
        let axis = rng.below(dims.len());
        let (x, mask) = (rng.operand::<T>(&dims), rng.operand::<T>(&dims));
        let scale = [1., 0.125, -2., 3.][rng.below(4)];
        let masked = rng.below(2) == 0;
        let log = rng.below(2) == 0;
        let options = Options {
            scale,
            mask: masked.then(|| (&mask.data[..], mask.layout())),
            hidden_rows_are_zero: rng.below(2) == 0,
        };
        let mut out = rng.values(dims.iter().product());
        let op = if log { log_softmax } else { softmax };
        op(&x.data, &x.layout(), axis, &options, &mut out).unwrap();
        let mut expected = vec![0.; out.len()];
        let (x, mask) = (x.values(), mask.values());
        for line in lines(&dims, axis) {
            let v: Vec<f64> = line
                .iter()
                .map(|&at| x[at] * scale + if masked { mask[at] } else { 0. })
                .collect();
            for (&at, value) in line.iter().zip(exact(&v, log)) {
                expected[at] = value;
            }
        }
        close("softmax", &out, &expected, if log { 16. } else { 0. }, 40.);
        out
    });
}

fn gradients<T: Element>() {
    cases("softmax_backward", |rng: &mut Rng| {
        let dims = rng.dims();
        let axis = rng.below(dims.len());
        let (y, grad) = (rng.operand::<T>(&dims), rng.operand::<T>(&dims));
        let log = rng.below(2) == 0;
        let mut out = rng.values(dims.iter().product());
        let op = if log {
            log_softmax_backward
        } else {
            softmax_backward
        };
        op(
            (&y.data, &y.layout()),
            (&grad.data, &grad.layout()),
            axis,
            0.5,
            &mut out,
        )
        .unwrap();
        let mut expected = vec![0.; out.len()];
        let (y, g) = (y.values(), grad.values());
        let mut size = 0f64;
        for line in lines(&dims, axis) {
            let factor = |at: usize| if log { 1. } else { y[at] };
            let sum: f64 = line.iter().map(|&at| g[at] * factor(at)).sum();
            let absolute: f64 = line.iter().map(|&at| (g[at] * factor(at)).abs()).sum();
            for &at in &line {
                expected[at] = 0.5
                    * if log {
                        g[at] - y[at].exp() * sum
                    } else {
                        y[at] * (g[at] - sum)
                    };
                size = size.max(absolute * y[at].exp().max(y[at].abs()).max(1.));
            }
        }
        close("dx", &out, &expected, size, 16.);
        out
    });
}

each_type!(forward gradients);

/// Dimensions beside a zero may be of any size; nothing is multiplied for them.
#[test]
fn dimensions_beyond_the_address_space_without_elements() {
    for dims in [[1 << 62, 8, 0], [0, 1 << 62, 8], [8, 0, 1 << 62]] {
        let layout = Layout::contiguous(&dims).expect("an empty layout");
        for axis in 0..3 {
            softmax::<f32>(&[], &layout, axis, &Options::default(), &mut [])
                .expect("an empty result");
        }
    }
}

#[test]
fn unusual_rows() {
    let (inf, nan) = (f32::INFINITY, f32::NAN);
    let row = |x: &[f32], zero| {
        let options = Options {
            hidden_rows_are_zero: zero,
            ..Options::default()
        };
        let dims = [x.len()];
        let layout = Layout::contiguous(&dims).unwrap();
        let (mut y, mut log) = (vec![7.; x.len()], vec![7.; x.len()]);
        softmax(x, &layout, 0, &options, &mut y).unwrap();
        log_softmax(x, &layout, 0, &options, &mut log).unwrap();
        (y, log)
    };
    for isa in crate::simd::available() {
        crate::simd::with_isa(isa, || {
            for n in [1, 3, 16, 17, 70] {
                let (y, log) = row(&vec![-inf; n], false);
                assert!(
                    y.iter().chain(&log).all(|y| y.is_nan()),
                    "{n} of -inf: {y:?} {log:?}"
                );
                let (y, log) = row(&vec![-inf; n], true);
                assert!(
                    y.iter().all(|&y| y == 0.) && log.iter().all(|&y| y == -inf),
                    "{y:?}"
                );
                for special in [nan, inf] {
                    for at in [0, n / 2, n - 1] {
                        let mut x = vec![0.; n];
                        x[at] = special;
                        for zero in [false, true] {
                            let (y, _) = row(&x, zero);
                            assert!(y.iter().all(|y| y.is_nan()), "{n} with {special}: {y:?}");
                        }
                        let mut all = vec![-inf; n];
                        all[at] = nan;
                        assert!(
                            row(&all, true).0.iter().all(|y| y.is_nan()),
                            "NaN is not hidden"
                        );
                    }
                }
                let mut x = vec![-inf; n];
                x[n - 1] = -3e38;
                let (y, log) = row(&x, true);
                assert_eq!((y[n - 1], log[n - 1]), (1., 0.));
                assert!(y[..n - 1].iter().all(|&y| y == 0.));
            }
            assert_eq!(row(&[], false).0, []);
        });
    }
}

#[test]
fn refusals_name_the_argument() {
    let dims = [2, 3];
    let layout = Layout::contiguous(&dims).unwrap();
    let (x, mut out) = ([0f32; 6], [0f32; 6]);
    let plain = Options::default();
    let refusal = |result: Result<()>| result.unwrap_err().to_string();
    assert!(refusal(softmax(&x[..5], &layout, 0, &plain, &mut out)).contains("`x`"));
    assert!(refusal(softmax(&x, &layout, 0, &plain, &mut out[..5])).contains("`out`"));
    assert!(refusal(softmax(&x, &layout, 2, &plain, &mut out)).contains("axis 2"));
    let scalar = Layout::contiguous(&[]).unwrap();
    assert!(refusal(softmax(&x, &scalar, 0, &plain, &mut out)).contains("rank 0"));
    let other = Layout::contiguous(&[3, 2]).unwrap();
    let masked = Options {
        mask: Some((&x[..], other)),
        ..plain
    };
    assert!(refusal(log_softmax(&x, &layout, 0, &masked, &mut out)).contains("`mask`"));
    let short = Options {
        mask: Some((&x[..2], layout)),
        ..plain
    };
    assert!(refusal(softmax(&x, &layout, 0, &short, &mut out)).contains("`mask`"));
    let grad = (&x[..1], &layout);
    assert!(refusal(softmax_backward((&x, &layout), grad, 0, 1., &mut out)).contains("`grad`"));
    let grad = (&x[..], &other);
    assert!(refusal(log_softmax_backward((&x, &layout), grad, 0, 1., &mut out)).contains("`grad`"));
}
