//! Attention: ours, and Candle's three. Its best for inference is one kernel on Metal and a composition elsewhere;
//! candle_transformers composes on every device; for training there is but the composition.

use candle_core::{D, DType, Device, Result, Tensor};
use candle_mps::ops::{self, AttentionOptions};

use super::{Function, Kind, Op, Work};
use crate::results::Pass;

const BOTH: &[Pass] = &[Pass::Forward, Pass::Backward];
const HEADS: &[&str] = &["BATCHxHEADSxLENGTHxWIDTH"];

pub const OPS: &[Op] = &[
    Op {
        name: "attention",
        sizes: HEADS,
        passes: BOTH,
        chains: true,
        work: |sizes| heads_work(sizes, 1.),
        kind: Kind::Function(Function {
            operands: |of, sizes| {
                Ok(vec![
                    of.random(sizes)?,
                    of.random(sizes)?,
                    of.random(sizes)?,
                ])
            },
            ours: |x| ours([&x[0], &x[1], &x[2]], false),
            candle: |x| best([&x[0], &x[1], &x[2]], None),
            trained: |x| composed([&x[0], &x[1], &x[2]], None, slow),
            wanted: 3,
        }),
    },
    Op {
        name: "attention_causal",
        sizes: HEADS,
        passes: BOTH,
        chains: true,
        work: |sizes| heads_work(sizes, 0.5),
        kind: Kind::Function(Function {
            operands: |of, sizes| {
                let hidden = of.put(&hidden(sizes[2])?)?;
                Ok(vec![
                    of.random(sizes)?,
                    of.random(sizes)?,
                    of.random(sizes)?,
                    hidden,
                ])
            },
            ours: |x| ours([&x[0], &x[1], &x[2]], true),
            candle: |x| best([&x[0], &x[1], &x[2]], Some(&x[3])),
            trained: |x| composed([&x[0], &x[1], &x[2]], Some(&x[3]), slow),
            wanted: 3,
        }),
    },
];

fn heads_work(sizes: &[usize], seen: f64) -> Work {
    let all: usize = sizes.iter().product();
    Work {
        elements: 4. * all as f64,
        flops: 4. * seen * (all * sizes[2]) as f64,
    }
}

/// By our op. Keys and values may have fewer heads.
pub fn ours([q, k, v]: [&Tensor; 3], causal: bool) -> Result<Tensor> {
    let options = AttentionOptions {
        causal,
        ..AttentionOptions::default()
    };
    Ok(ops::attention(q, k, v, None, &options)?)
}

/// The best that Candle has for inference: its kernel on Metal, and what it composes where that does not go.
/// `hidden` is −∞ where a query must not see a key, which the kernel knows without it.
pub fn best(qkv: [&Tensor; 3], hidden: Option<&Tensor>) -> Result<Tensor> {
    let [q, k, v] = qkv;
    let width = q.dim(D::Minus1)?;
    if q.device().is_metal() && has_kernel(width, q.dtype()) {
        let scale = 1. / (width as f32).sqrt();
        return candle_nn::ops::sdpa(q, k, v, None, hidden.is_some(), scale, 1.);
    }
    composed(qkv, hidden, candle_nn::ops::softmax_last_dim)
}

/// Whether Candle's kernel takes heads of this width.
fn has_kernel(width: usize, dtype: DType) -> bool {
    matches!(width, 32 | 64 | 72 | 80 | 96 | 128 | 256) || (width == 512 && dtype != DType::F32)
}

/// As candle_transformers composes it, with one of Candle's two softmaxes.
pub fn composed(
    [q, k, v]: [&Tensor; 3],
    hidden: Option<&Tensor>,
    softmax: fn(&Tensor) -> Result<Tensor>,
) -> Result<Tensor> {
    let times = q.dim(1)? / k.dim(1)?;
    let (k, v) = (repeated(k, times)?, repeated(v, times)?);
    let mut scores = (q.matmul(&k.t()?)? / (q.dim(D::Minus1)? as f64).sqrt())?;
    if let Some(hidden) = hidden {
        scores = scores.broadcast_add(hidden)?;
    }
    softmax(&scores)?.matmul(&v.contiguous()?)
}

/// Candle's softmax that has a backward.
pub fn slow(scores: &Tensor) -> Result<Tensor> {
    candle_nn::ops::softmax(scores, D::Minus1)
}

/// Each of the heads, so many times.
fn repeated(x: &Tensor, times: usize) -> Result<Tensor> {
    if times == 1 {
        return Ok(x.clone());
    }
    let (batch, heads, length, size) = x.dims4()?;
    Tensor::cat(&vec![x; times], 2)?.reshape((batch, heads * times, length, size))
}

/// −∞ where a query must not see a key, on the processor.
pub fn hidden(length: usize) -> Result<Tensor> {
    let later = (0..length * length).map(|at| match at % length > at / length {
        true => f32::NEG_INFINITY,
        false => 0.,
    });
    Tensor::from_iter(later, &Device::Cpu)?.reshape((length, length))
}

#[cfg(all(test, feature = "metal"))]
mod tests {
    use super::*;

    #[test]
    fn candles_kernel_takes_the_widths_that_it_is_given_and_no_others() {
        let gpu = candle_mps::metal::device(0).unwrap();
        for width in [32, 40, 64, 512] {
            for dtype in [DType::F32, DType::BF16] {
                let x = super::super::random(&[1, 2, 3, width]).unwrap();
                let x = x.to_dtype(dtype).unwrap().to_device(&gpu).unwrap();
                let taken = candle_nn::ops::sdpa(&x, &x, &x, None, false, 1., 1.).is_ok();
                assert_eq!(taken, has_kernel(width, dtype), "{width} {dtype:?}");
            }
        }
    }
}
