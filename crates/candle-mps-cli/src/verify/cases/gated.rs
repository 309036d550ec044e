//! Gated units. gelu is spelt out: the backward of Candle's own has constants of seven digits.

use std::f64::consts::{FRAC_1_SQRT_2, FRAC_2_PI};

use candle_core::{Result, Tensor};
use candle_mps::ops;

use super::{Case, Op, rows, variant};
use crate::verify::random::Random;

pub const SWIGLU: Op = Op {
    name: "swiglu",
    variants: &[variant("", |random| {
        case(random, ops::swiglu, Tensor::silu)
    })],
};

pub const GEGLU: Op = Op {
    name: "geglu",
    variants: &[variant("", |random| case(random, ops::geglu, gelu))],
};

pub const GEGLU_ERF: Op = Op {
    name: "geglu_erf",
    variants: &[variant("", |random| case(random, ops::geglu_erf, gelu_erf))],
};

fn case(
    random: &mut Random,
    ours: fn(&Tensor, &Tensor) -> candle_mps::Result<Tensor>,
    activation: fn(&Tensor) -> Result<Tensor>,
) -> Case {
    let width = random.width();
    let shape = rows(random, width);
    Case::new(
        vec![("gate", shape.clone()), ("up", shape)],
        move |x| Ok(ours(&x[0], &x[1])?),
        move |x| activation(&x[0])? * &x[1],
    )
}

/// With tanh.
pub fn gelu(x: &Tensor) -> Result<Tensor> {
    let cubic = ((x.sqr()? * 0.044_715)? + 1.)?;
    let inner = ((x * cubic)? * FRAC_2_PI.sqrt())?;
    (x * 0.5)? * (inner.tanh()? + 1.)?
}

fn gelu_erf(x: &Tensor) -> Result<Tensor> {
    (x * 0.5)? * ((x * FRAC_1_SQRT_2)?.erf()? + 1.)?
}
