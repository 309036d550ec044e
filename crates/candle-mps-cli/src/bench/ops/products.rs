//! Matmul, linear layers and LoRA. Their work is counted in multiplications and additions, and in
//! elements too: with few rows, reading the weight is all that takes time.

use candle_core::{Result, Tensor};
use candle_mps::ops;

use super::{Function, Kind, Op, Work};
use crate::results::Pass;

const BOTH: &[Pass] = &[Pass::Forward, Pass::Backward];
const LORA: &[&str] = &["ROWSxWIDTHxRANK"];
const SCALE: f64 = 2.;

pub const OPS: &[Op] = &[
    Op {
        name: "matmul",
        sizes: &["MxKxN", "BATCHxMxKxN"],
        passes: BOTH,
        chains: true,
        work: |sizes| {
            let [m, k, n] = last(sizes);
            let batch = sizes[..sizes.len() - 3].iter().product::<usize>();
            Work {
                elements: (batch * (m * k + k * n + m * n)) as f64,
                flops: 2. * (batch * m * k * n) as f64,
            }
        },
        kind: Kind::Function(Function {
            operands: |of, sizes| {
                let [m, k, n] = last(sizes);
                let batch = &sizes[..sizes.len() - 3];
                let a = of.random(&[batch, &[m, k]].concat())?;
                Ok(vec![a, of.factor(&[batch, &[k, n]].concat(), k, 1.)?])
            },
            ours: |x| Ok(ops::matmul(&x[0], &x[1])?),
            candle: |x| x[0].matmul(&x[1]),
            trained: |x| x[0].matmul(&x[1]),
            wanted: 2,
        }),
    },
    Op {
        // The weight is [out, in], as in candle_nn's Linear.
        name: "linear",
        sizes: &["ROWSxINxOUT"],
        passes: BOTH,
        chains: true,
        work: |sizes| {
            let [rows, inner, out] = last(sizes);
            Work {
                elements: (rows * inner + inner * out + rows * out) as f64,
                flops: 2. * (rows * inner * out) as f64,
            }
        },
        kind: Kind::Function(Function {
            operands: |of, sizes| {
                let [rows, inner, out] = last(sizes);
                Ok(vec![
                    of.random(&[rows, inner])?,
                    of.factor(&[out, inner], inner, 1.)?,
                ])
            },
            ours: |x| Ok(ops::linear(&x[0], &x[1], None)?),
            candle: |x| x[0].matmul(&x[1].t()?),
            trained: |x| x[0].matmul(&x[1].t()?),
            wanted: 2,
        }),
    },
    Op {
        // s·(x·A)·B.
        name: "lora_delta",
        sizes: LORA,
        passes: BOTH,
        chains: true,
        work: |sizes| {
            let [rows, width, rank] = last(sizes);
            Work {
                elements: (2 * rows * width + 2 * width * rank) as f64,
                flops: 4. * (rows * width * rank) as f64,
            }
        },
        kind: Kind::Function(Function {
            operands: |of, sizes| {
                let [rows, width, rank] = last(sizes);
                Ok(vec![
                    of.random(&[rows, width])?,
                    of.factor(&[width, rank], width, 1.)?,
                    of.factor(&[rank, width], rank, SCALE)?,
                ])
            },
            ours: |x| Ok(ops::lora_delta(&x[0], &x[1], &x[2], SCALE)?),
            candle: delta,
            trained: delta,
            wanted: 3,
        }),
    },
    Op {
        // x·W + s·(x·A)·B with W as [in, out], as the origin timed it.
        name: "lora",
        sizes: LORA,
        passes: BOTH,
        chains: true,
        work: lora_work,
        kind: Kind::Function(Function {
            operands: |of, sizes| lora_operands(of, sizes),
            ours: |x| Ok(ops::lora(&x[0], &x[3].t()?, None, &x[1], &x[2], SCALE)?),
            candle: |x| x[0].matmul(&x[3])? + delta(x)?,
            trained: |x| x[0].matmul(&x[3])? + delta(x)?,
            // The base is frozen.
            wanted: 3,
        }),
    },
    Op {
        // The same with W as [out, in], as candle_nn's Linear has it.
        name: "lora_linear",
        sizes: LORA,
        passes: BOTH,
        chains: true,
        work: lora_work,
        kind: Kind::Function(Function {
            operands: |of, sizes| lora_operands(of, sizes),
            ours: |x| Ok(ops::lora(&x[0], &x[3], None, &x[1], &x[2], SCALE)?),
            candle: |x| x[0].matmul(&x[3].t()?)? + delta(x)?,
            trained: |x| x[0].matmul(&x[3].t()?)? + delta(x)?,
            wanted: 3,
        }),
    },
];

fn last(sizes: &[usize]) -> [usize; 3] {
    let at = sizes.len() - 3;
    [sizes[at], sizes[at + 1], sizes[at + 2]]
}

fn lora_work(sizes: &[usize]) -> Work {
    let [rows, width, rank] = last(sizes);
    Work {
        elements: (2 * rows * width + width * width + 2 * width * rank) as f64,
        flops: 2. * (rows * width * (width + 2 * rank)) as f64,
    }
}

fn lora_operands(of: &super::Operands, sizes: &[usize]) -> Result<Vec<Tensor>> {
    let [rows, width, rank] = last(sizes);
    // Half of the result comes from each part.
    let a = of.factor(&[width, rank], width, SCALE)?;
    let b = of.factor(&[rank, width], rank, SCALE)?;
    let w = of.factor(&[width, width], width, 2.)?;
    Ok(vec![of.random(&[rows, width])?, a, b, w])
}

fn delta(x: &[Tensor]) -> Result<Tensor> {
    x[0].matmul(&x[1])?.matmul(&x[2])? * SCALE
}
