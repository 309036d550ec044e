//! RMS norm and layer norm. The oracles are spelt out, since Candle's unfused ones take an f32 for ε.

use candle_core::{D, Result, Tensor};
use candle_mps::ops;

use super::{Case, Op, rows, variant};

const RMS_EPS: f64 = 1e-5;
const LAYER_EPS: f64 = 1e-2;

pub const RMS_NORM: Op = Op {
    name: "rms_norm",
    variants: &[variant("", |random| {
        let width = random.width();
        Case::new(
            vec![("x", rows(random, width)), ("weight", vec![width])],
            |x| Ok(ops::rms_norm(&x[0], &x[1], RMS_EPS)?),
            |x| rms_norm(&x[0])?.broadcast_mul(&x[1]),
        )
    })],
};

pub const RMS_NORM_NO_WEIGHT: Op = Op {
    name: "rms_norm_no_weight",
    variants: &[variant("", |random| {
        let width = random.width();
        Case::new(
            vec![("x", rows(random, width))],
            |x| Ok(ops::rms_norm_no_weight(&x[0], RMS_EPS)?),
            |x| rms_norm(&x[0]),
        )
    })],
};

pub const LAYER_NORM: Op = Op {
    name: "layer_norm",
    variants: &[
        variant("with a bias", |random| {
            let width = random.width();
            let vector = vec![width];
            Case::new(
                vec![
                    ("x", rows(random, width)),
                    ("weight", vector.clone()),
                    ("bias", vector),
                ],
                |x| Ok(ops::layer_norm(&x[0], &x[1], Some(&x[2]), LAYER_EPS)?),
                |x| {
                    layer_norm(&x[0])?
                        .broadcast_mul(&x[1])?
                        .broadcast_add(&x[2])
                },
            )
        }),
        variant("without a bias", |random| {
            let width = random.width();
            Case::new(
                vec![("x", rows(random, width)), ("weight", vec![width])],
                |x| Ok(ops::layer_norm(&x[0], &x[1], None, LAYER_EPS)?),
                |x| layer_norm(&x[0])?.broadcast_mul(&x[1]),
            )
        }),
    ],
};

fn rms_norm(x: &Tensor) -> Result<Tensor> {
    let mean = (x.sqr()?.sum_keepdim(D::Minus1)? / x.dim(D::Minus1)? as f64)?;
    x.broadcast_div(&(mean + RMS_EPS)?.sqrt()?)
}

fn layer_norm(x: &Tensor) -> Result<Tensor> {
    let width = x.dim(D::Minus1)? as f64;
    let centred = x.broadcast_sub(&(x.sum_keepdim(D::Minus1)? / width)?)?;
    let variance = (centred.sqr()?.sum_keepdim(D::Minus1)? / width)?;
    centred.broadcast_div(&(variance + LAYER_EPS)?.sqrt()?)
}
