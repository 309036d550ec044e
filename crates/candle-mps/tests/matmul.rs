//! Products of tensors seen through random views, against f64: |error| ≤ 1e-5 · |A| |B|,
//! elementwise, in f32.
#![cfg(feature = "metal")]

mod support;

use candle_core::{DType, Tensor, Var};
use candle_mps::{FusedOps, ops::MatmulMps};
use support::{Batches, Views, compare, metal, product, seeded, values};

fn products(test: &str, dtype: DType, rounds: usize) {
    seeded(test, |random| {
        let device = metal();
        for round in 0..rounds {
            let batch = random.batch();
            let sizes @ [m, n, k] = [0; 3].map(|_| random.between(1, 24));
            let shape = |rows, columns| [&batch[..], &[rows, columns]].concat();
            let mut views = Views {
                device: &device,
                random,
                transposed: true,
            };
            let a = views.sample(&shape(m, k), dtype, 1.0);
            let b = views.sample(&shape(k, n), dtype, 1.0);
            let c = a.tensor.matmul_mps(&b.tensor).unwrap();
            assert_eq!(c.dims(), shape(m, n));
            assert_eq!(c.dtype(), dtype);

            let (expected, magnitude) =
                product(&a.values, &b.values, batch.iter().product(), sizes);
            // An f16 result is rounded at least once, to steps of 2^-24 near zero; how wide the sum is
            // kept, nobody promises.
            let steps = (k + 2) as f64;
            let (relative, absolute) = if dtype == DType::F16 {
                (steps * 2f64.powi(-11), steps * 2f64.powi(-24))
            } else {
                (1e-5, f64::from(f32::MIN_POSITIVE))
            };
            let what = format!(
                "{test} round {round}: {:?} by {:?}",
                a.tensor.layout(),
                b.tensor.layout()
            );
            let bound = |index: usize| relative * magnitude[index] + absolute;
            compare(&what, &values(&c), &expected, bound);
        }
    });
}

#[test]
fn f32_products_of_views() {
    products("f32_products_of_views", DType::F32, 80);
}

#[test]
fn f16_products_of_views() {
    products("f16_products_of_views", DType::F16, 40);
}

#[test]
fn empty_products() {
    let device = metal();
    let zeros = |dims: &[usize]| Tensor::zeros(dims, DType::F32, &device).unwrap();
    let dims = |a: &[usize], b: &[usize]| zeros(a).matmul_mps(&zeros(b)).unwrap().dims().to_vec();
    assert_eq!(dims(&[0, 3], &[3, 2]), [0, 2]);
    assert_eq!(dims(&[2, 3], &[3, 0]), [2, 0]);
    assert_eq!(dims(&[0, 2, 3], &[0, 3, 4]), [0, 2, 4]);
    // A sum of no terms is zero, in memory that held something else before.
    drop(Tensor::from_slice(&[7f32; 6], (2, 3), &device).unwrap());
    let sum = zeros(&[2, 0]).matmul_mps(&zeros(&[0, 3])).unwrap();
    assert_eq!(sum.to_vec2::<f32>().unwrap(), [[0.; 3]; 2]);
}

/// A result feeds the next product while its inputs are gone: what the pool hands out again must
/// not be in use any more.
#[test]
fn chains_of_products() {
    let device = metal();
    let rotate = Tensor::from_slice(&[0f32, -1., 1., 0.], (2, 2), &device).unwrap();
    let mut x = Tensor::from_slice(&[1f32, 2., 3., 4.], (2, 2), &device).unwrap();
    for _ in 0..40 {
        x = x.matmul_mps(&rotate).unwrap();
    }
    assert_eq!(x.to_vec2::<f32>().unwrap(), [[1., 2.], [3., 4.]]);
}

/// Strides that MPS cannot address are refused by the op itself, which never copies.
#[test]
fn the_op_itself_does_not_copy() {
    let device = metal();
    let row = Tensor::from_slice(&[1f32, 2., 3.], (1, 3), &device).unwrap();
    let repeated = row.broadcast_as((2, 3)).unwrap();
    let right = Tensor::zeros((3, 2), DType::F32, &device).unwrap();
    let error = repeated.apply_op2(&right, MatmulMps).unwrap_err();
    assert!(
        error.to_string().contains("call Tensor::contiguous first"),
        "{error}"
    );
}

#[test]
fn results_of_variables_are_tracked() {
    let device = metal();
    let x = Tensor::from_slice(&[1f32, 2.], (1, 2), &device).unwrap();
    let w = Var::from_slice(&[1f32, 2.], (2, 1), &device).unwrap();
    assert!(x.matmul_mps(&w).unwrap().track_op());
    assert!(!x.matmul_mps(&w.detach()).unwrap().track_op());
    assert!(w.softmax_mps().unwrap().track_op());
    assert!(w.log_softmax_mps().unwrap().track_op());
}
