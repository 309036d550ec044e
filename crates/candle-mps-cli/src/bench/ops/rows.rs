//! Ops on rows, and the optimizer. Their work is counted in elements: what must be read and written once.

use candle_core::{D, Device, Tensor, Var};
use candle_mps::{nn, ops};
use candle_nn::Optimizer;

use super::{Call, Function, Kind, Op, Outcome, Side, Work, random};
use crate::results::Pass;

const ROWS: &[&str] = &["ROWSxWIDTH"];
const BOTH: &[Pass] = &[Pass::Forward, Pass::Backward];

pub const OPS: &[Op] = &[
    Op {
        name: "softmax",
        sizes: ROWS,
        passes: BOTH,
        chains: true,
        work: |sizes| Work::elements(2 * sizes[0] * sizes[1]),
        kind: Kind::Function(Function {
            operands: |of, sizes| Ok(vec![of.random(sizes)?]),
            ours: |x| Ok(ops::softmax_last_dim(&x[0])?),
            candle: |x| candle_nn::ops::softmax_last_dim(&x[0]),
            trained: |x| candle_nn::ops::softmax(&x[0], D::Minus1),
            wanted: 1,
        }),
    },
    Op {
        name: "log_softmax",
        sizes: ROWS,
        passes: BOTH,
        chains: true,
        work: |sizes| Work::elements(2 * sizes[0] * sizes[1]),
        kind: Kind::Function(Function {
            operands: |of, sizes| Ok(vec![of.random(sizes)?]),
            ours: |x| Ok(ops::log_softmax(&x[0], D::Minus1)?),
            candle: |x| candle_nn::ops::log_softmax(&x[0], D::Minus1),
            trained: |x| candle_nn::ops::log_softmax(&x[0], D::Minus1),
            wanted: 1,
        }),
    },
    Op {
        name: "rms_norm",
        sizes: ROWS,
        passes: BOTH,
        chains: true,
        work: |sizes| Work::elements(2 * sizes[0] * sizes[1]),
        kind: Kind::Function(Function {
            operands: |of, sizes| Ok(vec![of.random(sizes)?, of.random(&sizes[1..])?]),
            ours: |x| Ok(ops::rms_norm(&x[0], &x[1], 1e-5)?),
            candle: |x| candle_nn::ops::rms_norm(&x[0], &x[1], 1e-5),
            trained: |x| candle_nn::ops::rms_norm_slow(&x[0], &x[1], 1e-5),
            wanted: 2,
        }),
    },
    Op {
        name: "layer_norm",
        sizes: ROWS,
        passes: BOTH,
        chains: true,
        work: |sizes| Work::elements(2 * sizes[0] * sizes[1]),
        kind: Kind::Function(Function {
            operands: |of, sizes| {
                let width = &sizes[1..];
                Ok(vec![
                    of.random(sizes)?,
                    of.random(width)?,
                    of.random(width)?,
                ])
            },
            ours: |x| Ok(ops::layer_norm(&x[0], &x[1], Some(&x[2]), 1e-5)?),
            candle: |x| candle_nn::ops::layer_norm(&x[0], &x[1], &x[2], 1e-5),
            trained: |x| candle_nn::ops::layer_norm_slow(&x[0], &x[1], &x[2], 1e-5),
            wanted: 3,
        }),
    },
    Op {
        name: "swiglu",
        sizes: ROWS,
        passes: BOTH,
        chains: true,
        work: |sizes| Work::elements(3 * sizes[0] * sizes[1]),
        kind: Kind::Function(Function {
            operands: |of, sizes| Ok(vec![of.random(sizes)?, of.random(sizes)?]),
            ours: |x| Ok(ops::swiglu(&x[0], &x[1])?),
            candle: |x| x[0].silu()? * &x[1],
            trained: |x| x[0].silu()? * &x[1],
            wanted: 2,
        }),
    },
    Op {
        name: "geglu",
        sizes: ROWS,
        passes: BOTH,
        chains: true,
        work: |sizes| Work::elements(3 * sizes[0] * sizes[1]),
        kind: Kind::Function(Function {
            operands: |of, sizes| Ok(vec![of.random(sizes)?, of.random(sizes)?]),
            ours: |x| Ok(ops::geglu(&x[0], &x[1])?),
            candle: |x| x[0].gelu()? * &x[1],
            trained: |x| x[0].gelu()? * &x[1],
            wanted: 2,
        }),
    },
    Op {
        name: "cross_entropy",
        sizes: ROWS,
        passes: BOTH,
        chains: false,
        work: |sizes| Work::elements(sizes[0] * sizes[1]),
        kind: Kind::Function(Function {
            operands: |of, sizes| {
                let targets = (0..sizes[0]).map(|row| (row * 7 % sizes[1]) as u32);
                Ok(vec![
                    of.random(sizes)?,
                    Tensor::from_iter(targets, of.device)?,
                ])
            },
            ours: |x| Ok(ops::cross_entropy(&x[0], &x[1])?),
            candle: |x| candle_nn::loss::cross_entropy(&x[0], &x[1]),
            trained: |x| candle_nn::loss::cross_entropy(&x[0], &x[1]),
            wanted: 1,
        }),
    },
    Op {
        name: "rope",
        sizes: &["BATCHxHEADSxLENGTHxWIDTH"],
        passes: BOTH,
        chains: true,
        work: |sizes| Work::elements(2 * sizes.iter().product::<usize>()),
        kind: Kind::Function(Function {
            operands: |of, sizes| {
                let angles = random(&[sizes[2], sizes[3] / 2])?;
                let (cos, sin) = (of.put(&angles.cos()?)?, of.put(&angles.sin()?)?);
                Ok(vec![of.random(sizes)?, cos, sin])
            },
            ours: |x| Ok(ops::rope(&x[0], &x[1], &x[2])?),
            candle: |x| candle_nn::rotary_emb::rope(&x[0], &x[1], &x[2]),
            trained: |x| candle_nn::rotary_emb::rope_slow(&x[0], &x[1], &x[2]),
            wanted: 1,
        }),
    },
    Op {
        name: "adamw",
        sizes: ROWS,
        passes: &[Pass::Step],
        chains: false,
        // Four passes read, three written.
        work: |sizes| Work::elements(7 * sizes[0] * sizes[1]),
        kind: Kind::Made(adamw),
    },
];

/// A step on one matrix, its gradient standing.
fn adamw(side: Side, _: Pass, sizes: &[usize], device: &Device) -> candle_core::Result<Call> {
    let values = random(sizes)?.to_device(device)?;
    let parameter = Var::from_tensor(&values)?;
    let grads = (parameter.as_tensor() * values)?.sum_all()?.backward()?;
    let vars = vec![parameter];
    Ok(match side {
        Side::Ours => {
            let mut adamw = nn::AdamW::new_lr(vars, 1e-3)?;
            Call::once(move || adamw.step(&grads).map(|()| Outcome::Nothing))
        }
        Side::Candle => {
            let mut adamw = candle_nn::AdamW::new_lr(vars, 1e-3)?;
            Call::once(move || adamw.step(&grads).map(|()| Outcome::Nothing))
        }
    })
}
