//! Through whose fused ops a gradient arrives: measured, by asking for one.

use candle_core::{D, Device, Result, Tensor, Var};
use candle_mps::ops;
use candle_nn::{ops as candle, rotary_emb};

use super::panics::answer;
use crate::results::verify::Training;

const EPS: f64 = 1e-5;
/// Batch, heads, positions, elements: rope wants four dimensions, and the others take them as well.
const SHAPE: (usize, usize, usize, usize) = (1, 2, 3, 4);

type Function = fn(&Tensor, &Vectors) -> Result<Tensor>;

/// The constants that the ops want.
struct Vectors {
    weight: Tensor,
    bias: Tensor,
    cos: Tensor,
    sin: Tensor,
}

impl Vectors {
    fn new() -> Result<Self> {
        let (_, _, count, width) = SHAPE;
        let of = |dims: &[usize]| -> Result<Tensor> {
            let count = dims.iter().product::<usize>();
            let values: Vec<f32> = (0..count).map(|at| 0.5 + at as f32 / 16.).collect();
            Tensor::from_vec(values, dims, &Device::Cpu)
        };
        Ok(Self {
            weight: of(&[width])?,
            bias: of(&[width])?,
            cos: of(&[count, width / 2])?,
            sin: of(&[count, width / 2])?,
        })
    }
}

/// The op, Candle's fused one and ours.
const OPS: [(&str, Function, Function); 5] = [
    (
        "softmax",
        |x, _| candle::softmax_last_dim(x),
        |x, _| Ok(ops::softmax(x, D::Minus1)?),
    ),
    (
        "rms_norm",
        |x, with| candle::rms_norm(x, &with.weight, EPS as f32),
        |x, with| Ok(ops::rms_norm(x, &with.weight, EPS)?),
    ),
    (
        "layer_norm",
        |x, with| candle::layer_norm(x, &with.weight, &with.bias, EPS as f32),
        |x, with| Ok(ops::layer_norm(x, &with.weight, Some(&with.bias), EPS)?),
    ),
    (
        "rope",
        |x, with| rotary_emb::rope(x, &with.cos, &with.sin),
        |x, with| Ok(ops::rope(x, &with.cos, &with.sin)?),
    ),
    (
        "rope_i",
        |x, with| rotary_emb::rope_i(x, &with.cos, &with.sin),
        |x, with| Ok(ops::rope_i(x, &with.cos, &with.sin)?),
    ),
];

/// Each of the ops, both ways.
pub fn measure() -> Vec<Training> {
    let rows = OPS.iter().map(|&(op, candles, ours)| Training {
        op: op.to_owned(),
        through_candles: arrives(candles),
        through_ours: arrives(ours),
    });
    rows.collect()
}

/// Whether a gradient that is not zero everywhere arrives at x. An op that fails lets none through.
fn arrives(op: Function) -> bool {
    let asked = answer(|| -> Result<bool> {
        let count = SHAPE.0 * SHAPE.1 * SHAPE.2 * SHAPE.3;
        let values: Vec<f32> = (0..count).map(|at| (at as f32).sin()).collect();
        let x = Var::from_vec(values, SHAPE, &Device::Cpu)?;
        let loss = op(&x, &Vectors::new()?)?.sqr()?.sum_all()?;
        let gradients = loss.backward()?;
        let Some(gradient) = gradients.get(&x) else {
            return Ok(false);
        };
        Ok(gradient.abs()?.sum_all()?.to_scalar::<f32>()? > 0.)
    });
    asked.unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gradients_arrive_through_our_ops() {
        for row in measure() {
            assert!(row.through_ours, "{row:?}");
        }
    }

    #[test]
    fn one_that_does_not_arrive_is_noticed() {
        assert!(arrives(|x, _| x.sqr()));
        assert!(!arrives(|x, _| Ok(x.detach())));
        assert!(!arrives(|x, _| x * 0.));
        assert!(!arrives(|x, _| x.narrow(0, 9, 9)));
    }
}
