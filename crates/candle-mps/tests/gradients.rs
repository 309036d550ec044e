//! The backward of each op against finite differences in f64.
#![cfg(feature = "metal")]

mod support;

use candle_core::{CustomOp1, CustomOp2, DType, Tensor};
use candle_mps::ops::{LogSoftmaxMps, MatmulMps, SoftmaxMps};
use support::{
    Batches, Views, compare, log_softmax, metal, numeric_gradient, product, seeded, softmax, values,
};

#[test]
fn gradients_of_matmul() {
    seeded("gradients_of_matmul", |random| {
        let device = metal();
        for round in 0..12 {
            let batch = random.batch();
            let count = batch.iter().product();
            let sizes @ [m, n, k] = [0; 3].map(|_| random.between(1, 5));
            let shape = |rows, columns| [&batch[..], &[rows, columns]].concat();
            let mut views = Views {
                device: &device,
                random,
                transposed: true,
            };
            let a = views.sample(&shape(m, k), DType::F32, 1.0);
            let b = views.sample(&shape(k, n), DType::F32, 1.0);
            let g = views.sample(&shape(m, n), DType::F32, 1.0);
            let c = a.tensor.apply_op2(&b.tensor, MatmulMps).unwrap();
            let (da, db) = MatmulMps.bwd(&a.tensor, &b.tensor, &c, &g.tensor).unwrap();
            let (da, db) = (da.unwrap(), db.unwrap());
            assert_eq!(da.shape(), a.tensor.shape());
            assert_eq!(db.shape(), b.tensor.shape());

            let of_a = |x: &[f64]| product(x, &b.values, count, sizes).0;
            let of_b = |x: &[f64]| product(&a.values, x, count, sizes).0;
            let what = format!("round {round}: batch {batch:?} sizes {sizes:?}");
            let expected = numeric_gradient(&a.values, &g.values, of_a);
            compare(&format!("dA, {what}"), &values(&da), &expected, |_| 1e-4);
            let expected = numeric_gradient(&b.values, &g.values, of_b);
            compare(&format!("dB, {what}"), &values(&db), &expected, |_| 1e-4);
        }
    });
}

fn rows(
    test: &str,
    op: impl CustomOp1 + Copy + Send + Sync + 'static,
    oracle: fn(&[f64]) -> Vec<f64>,
) {
    seeded(test, |random| {
        let device = metal();
        for round in 0..20 {
            let columns = random.between(1, 12);
            let shape = [&random.batch()[..], &[random.between(1, 4), columns]].concat();
            let mut views = Views {
                device: &device,
                random,
                transposed: false,
            };
            let x = views.sample(&shape, DType::F32, 2.0);
            let g = views.sample(&shape, DType::F32, 1.0);
            let y = x.tensor.apply_op1(op).unwrap();
            let dx = op.bwd(&x.tensor, &y, &g.tensor).unwrap().unwrap();
            assert_eq!(dx.shape(), x.tensor.shape());
            let expected: Vec<f64> = x
                .values
                .chunks(columns)
                .zip(g.values.chunks(columns))
                .flat_map(|(x, g)| numeric_gradient(x, g, oracle))
                .collect();
            compare(
                &format!("{test} round {round}: {shape:?}"),
                &values(&dx),
                &expected,
                |_| 1e-4,
            );
        }
    });
}

#[test]
fn gradient_of_softmax() {
    rows("gradient_of_softmax", SoftmaxMps, softmax);
}

#[test]
fn gradient_of_log_softmax() {
    rows("gradient_of_log_softmax", LogSoftmaxMps, log_softmax);
}

#[test]
fn gradients_of_empty_products_have_the_arguments_shape() {
    let device = metal();
    let zeros = |dims: &[usize]| Tensor::zeros(dims, DType::F32, &device).unwrap();
    for [m, n, k] in [[0, 2, 3], [2, 0, 3], [2, 3, 0]] {
        let (a, b, g) = (zeros(&[m, k]), zeros(&[k, n]), zeros(&[m, n]));
        let (da, db) = MatmulMps.bwd(&a, &b, &g, &g).unwrap();
        assert_eq!(da.unwrap().dims(), [m, k]);
        assert_eq!(db.unwrap().dims(), [k, n]);
    }
}

/// A gradient knows what it was made from, so that Candle, asked for a second derivative, finds an
/// op without one and says so, instead of a silent zero.
#[test]
fn gradients_are_tracked_themselves() {
    let device = metal();
    let x = candle_core::Var::from_slice(&[1f32, 2.], (1, 2), &device).unwrap();
    let y = x.apply_op1(SoftmaxMps).unwrap();
    let dx = SoftmaxMps.bwd(&x, &y, &y).unwrap().unwrap();
    assert!(dx.track_op());
}
