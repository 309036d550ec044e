//! Softmax and its logarithm, over any dimension.

use candle_core::D;
use candle_mps::ops;

use super::{Case, Op, rows, variant};
use crate::verify::random::Random;

pub const SOFTMAX: Op = Op {
    name: "softmax",
    variants: &[
        variant("over the last dimension", |random| {
            softmax(random, true, false)
        }),
        variant("over any dimension", |random| softmax(random, false, false)),
    ],
};

pub const SOFTMAX_LAST_DIM: Op = Op {
    name: "softmax_last_dim",
    variants: &[variant("", |random| {
        let width = random.width();
        let shape = rows(random, width);
        Case::new(
            vec![("x", shape)],
            |x| Ok(ops::softmax_last_dim(&x[0])?),
            |x| candle_nn::ops::softmax(&x[0], D::Minus1),
        )
    })],
};

pub const LOG_SOFTMAX: Op = Op {
    name: "log_softmax",
    variants: &[
        variant("over the last dimension", |random| {
            softmax(random, true, true)
        }),
        variant("over any dimension", |random| softmax(random, false, true)),
    ],
};

fn softmax(random: &mut Random, last: bool, log: bool) -> Case {
    let width = random.width();
    let mut shape = rows(random, width);
    if shape.len() == 1 {
        shape.insert(0, random.between(1, 5));
    }
    let dim = if last {
        shape.len() - 1
    } else {
        random.below(shape.len())
    };
    let operands = vec![("x", shape)];
    if log {
        Case::new(
            operands,
            move |x| Ok(ops::log_softmax(&x[0], dim)?),
            move |x| candle_nn::ops::log_softmax(&x[0], dim),
        )
    } else {
        Case::new(
            operands,
            move |x| Ok(ops::softmax(&x[0], dim)?),
            move |x| candle_nn::ops::softmax(&x[0], dim),
        )
    }
}
