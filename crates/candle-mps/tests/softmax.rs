//! Softmax and log softmax of tensors seen through random views, against f64.
#![cfg(feature = "metal")]

mod support;

use candle_core::{DType, Result, Tensor};
use candle_mps::{FusedOps, ops};
use support::{Batches, Views, compare, log_softmax, metal, seeded, softmax, values};

fn rows(
    test: &str,
    op: impl Fn(&Tensor) -> candle_mps::Result<Tensor>,
    oracle: fn(&[f64]) -> Vec<f64>,
) {
    seeded(test, |random| {
        let device = metal();
        for round in 0..60 {
            let dtype = random.pick(&[DType::F32, DType::F16]);
            let columns = random.between(1, 40);
            let mut shape = random.batch();
            if random.chance() || !shape.is_empty() {
                shape.push(random.between(1, 9));
            }
            shape.push(columns);
            // Large scores overflow exp() unless the maximum is taken off first.
            let scale = random.pick(&[1.0, 10.0, 200.0]);
            let mut views = Views {
                device: &device,
                random,
                transposed: false,
            };
            let x = views.sample(&shape, dtype, scale);
            let y = op(&x.tensor).unwrap();
            assert_eq!((y.dims(), y.dtype()), (&shape[..], dtype));
            let expected: Vec<f64> = x.values.chunks(columns).flat_map(oracle).collect();
            let relative = if dtype == DType::F16 { 4e-3 } else { 1e-5 };
            let what = format!("{test} round {round}: {dtype:?} {:?}", x.tensor.layout());
            let bound = |index: usize| relative * (1.0 + expected[index].abs());
            compare(&what, &values(&y), &expected, bound);
        }
    });
}

#[test]
fn softmax_of_views() {
    rows("softmax_of_views", |x| x.softmax_mps(), softmax);
}

#[test]
fn log_softmax_of_views() {
    rows("log_softmax_of_views", |x| x.log_softmax_mps(), log_softmax);
}

#[test]
fn empty_tensors() {
    let device = metal();
    for dims in [vec![0], vec![0, 4], vec![4, 0], vec![2, 0, 3]] {
        let x = Tensor::zeros(&dims[..], DType::F32, &device).unwrap();
        assert_eq!(x.softmax_mps().unwrap().dims(), dims);
        assert_eq!(x.log_softmax_mps().unwrap().dims(), dims);
    }
}

/// Rows whose elements are apart are refused by the op itself, which never copies.
#[test]
fn the_op_itself_does_not_copy() {
    let device = metal();
    let x = Tensor::from_slice(&[1f32, 2., 3., 4., 5., 6.], (2, 3), &device)
        .unwrap()
        .t()
        .unwrap();
    let refused: [Result<Tensor>; 2] = [
        x.apply_op1(ops::SoftmaxMps),
        x.apply_op1(ops::LogSoftmaxMps),
    ];
    for error in refused.map(Result::unwrap_err) {
        assert!(
            error.to_string().contains("call Tensor::contiguous first"),
            "{error}"
        );
    }
}
