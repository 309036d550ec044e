//! [`rope`], [`rope_i`], [`rope_thd`]: rotary position embedding. Each pair (a, b) of a row is turned
//! by the angle of its position, to (a·cos − b·sin, a·sin + b·cos).
//! <https://arxiv.org/abs/2104.09864>
//!
//! Backward: the gradient is turned back by the same angle; neither x nor the result is needed.

use candle_core::{D, Tensor};
use candle_mps_cpu::rope::{self as cpu, Pairs};

use super::fused::{self, Kept, Op, Pass, Route, apply, bad_shape, route};
use super::operand::{Float, Operand};
use crate::error::Result;

/// Rotary embedding with pairs of the first and the second half of each row, as in Llama.
///
/// `x` is [batch, heads, positions, size]; `cos` and `sin` are [at least positions, size / 2], or with
/// a batch in front. Positions beyond those of `x` are not read. Any strides; f32, f64, f16 or bf16,
/// one for all. Differentiable in `x`, and by way of Candle's ops also in `cos` and `sin`.
///
/// ```
/// use candle_core::{Device, Tensor};
/// use candle_mps_ops::ops;
///
/// let x = Tensor::new(&[[[[1f32, 2., 3., 4.]]]], &Device::Cpu)?;
/// // The first pair (1, 3) by a quarter turn, the second (2, 4) not at all.
/// let cos = Tensor::new(&[[0f32, 1.]], &Device::Cpu)?;
/// let sin = Tensor::new(&[[1f32, 0.]], &Device::Cpu)?;
/// let y = ops::rope(&x, &cos, &sin)?.flatten_all()?;
/// assert_eq!(y.to_vec1::<f32>()?, [-3., 2., 1., 4.]);
/// # Ok::<(), candle_mps_ops::Error>(())
/// ```
pub fn rope(x: &Tensor, cos: &Tensor, sin: &Tensor) -> Result<Tensor> {
    run(
        Rope {
            op: "rope",
            pairs: Pairs::Halves,
        },
        2,
        x,
        cos,
        sin,
    )
}

/// Rotary embedding with pairs of neighbours, as in the paper. Otherwise as [`rope`].
///
/// ```
/// use candle_core::{Device, Tensor};
/// use candle_mps_ops::ops;
///
/// let x = Tensor::new(&[[[[1f32, 2., 3., 4.]]]], &Device::Cpu)?;
/// // The first pair (1, 2) by a quarter turn, the second (3, 4) not at all.
/// let cos = Tensor::new(&[[0f32, 1.]], &Device::Cpu)?;
/// let sin = Tensor::new(&[[1f32, 0.]], &Device::Cpu)?;
/// let y = ops::rope_i(&x, &cos, &sin)?.flatten_all()?;
/// assert_eq!(y.to_vec1::<f32>()?, [-2., 1., 3., 4.]);
/// # Ok::<(), candle_mps_ops::Error>(())
/// ```
pub fn rope_i(x: &Tensor, cos: &Tensor, sin: &Tensor) -> Result<Tensor> {
    run(
        Rope {
            op: "rope_i",
            pairs: Pairs::Neighbours,
        },
        2,
        x,
        cos,
        sin,
    )
}

/// [`rope`] for positions before heads: `x` is [batch, positions, heads, size].
///
/// ```
/// use candle_core::{Device, Tensor};
/// use candle_mps_ops::ops;
///
/// // Two positions of one head; the second is turned by a quarter.
/// let x = Tensor::new(&[[[[1f32, 2.]], [[1., 2.]]]], &Device::Cpu)?;
/// let cos = Tensor::new(&[[1f32], [0.]], &Device::Cpu)?;
/// let sin = Tensor::new(&[[0f32], [1.]], &Device::Cpu)?;
/// let y = ops::rope_thd(&x, &cos, &sin)?.flatten_all()?;
/// assert_eq!(y.to_vec1::<f32>()?, [1., 2., -2., 1.]);
/// # Ok::<(), candle_mps_ops::Error>(())
/// ```
pub fn rope_thd(x: &Tensor, cos: &Tensor, sin: &Tensor) -> Result<Tensor> {
    run(
        Rope {
            op: "rope_thd",
            pairs: Pairs::Halves,
        },
        1,
        x,
        cos,
        sin,
    )
}

/// `positions` is the dimension of `x` that counts positions.
fn run(rope: Rope, positions: usize, x: &Tensor, cos: &Tensor, sin: &Tensor) -> Result<Tensor> {
    fused::check(rope.op, &[("x", x), ("cos", cos), ("sin", sin)])?;
    if x.rank() != 4 {
        let needed = match positions {
            1 => "[batch, positions, heads, size] is needed: reshape it, or unsqueeze a dimension",
            _ => "[batch, heads, positions, size] is needed: reshape it, or unsqueeze a dimension",
        };
        return Err(bad_shape(rope.op, "x", x, needed));
    }
    let cos = angles(rope.op, positions, x, "cos", cos)?;
    let sin = angles(rope.op, positions, x, "sin", sin)?;
    let operands = [("x", x), ("cos", &cos), ("sin", &sin)];
    let trained = cos.track_op() || sin.track_op();
    if route(&rope, &operands, false)? != Route::Ours || trained {
        return Ok(composed(rope.pairs, x, &cos, &sin)?);
    }
    apply(rope, x.shape().clone(), &operands)
}

/// `cos` or `sin` as a view with the dimensions of `x`, the last one halved.
fn angles(
    op: &'static str,
    positions: usize,
    x: &Tensor,
    operand: &'static str,
    angles: &Tensor,
) -> Result<Tensor> {
    let (batch, count, size) = (x.dims()[0], x.dims()[positions], x.dims()[3]);
    let batched = match *angles.dims() {
        [rows, half] if rows >= count && half * 2 == size => false,
        [all, rows, half] if all == batch && rows >= count && half * 2 == size => true,
        _ => {
            let needed = format!(
                "[{count} or more, {half}] or [{batch}, {count} or more, {half}] is needed for x of \
                 shape {:?}: one row for each position, one column for each pair",
                x.shape(),
                half = size as f64 / 2.,
            );
            return Err(bad_shape(op, operand, angles, needed));
        }
    };
    let mut dims = x.dims().to_vec();
    dims[3] = size / 2;
    let view = if batched {
        angles.clone()
    } else {
        angles.unsqueeze(0)?
    };
    let view = view.narrow(1, 0, count)?.unsqueeze(3 - positions)?;
    Ok(view.broadcast_as(dims)?)
}

/// The same by ops of Candle, each with a backward. `cos` and `sin` have the dimensions of `x`, the
/// last one halved.
fn composed(pairs: Pairs, x: &Tensor, cos: &Tensor, sin: &Tensor) -> candle_core::Result<Tensor> {
    let half = x.dim(D::Minus1)? / 2;
    if x.elem_count() == 0 {
        return Ok(x.clone());
    }
    let (a, b) = match pairs {
        Pairs::Halves => (x.narrow(3, 0, half)?, x.narrow(3, half, half)?),
        Pairs::Neighbours => {
            let (d0, d1, d2, _) = x.dims4()?;
            let x = x.reshape((d0, d1, d2, half, 2))?;
            (
                x.narrow(4, 0, 1)?.squeeze(4)?,
                x.narrow(4, 1, 1)?.squeeze(4)?,
            )
        }
    };
    let first = ((&a * cos)? - (&b * sin)?)?;
    let second = ((&a * sin)? + (&b * cos)?)?;
    match pairs {
        Pairs::Halves => Tensor::cat(&[first, second], 3),
        Pairs::Neighbours => Tensor::stack(&[first, second], 4)?.flatten_from(3),
    }
}

pub(crate) struct Rope {
    op: &'static str,
    pub(crate) pairs: Pairs,
}

impl Op for Rope {
    const NAME: &'static str = "rope";

    fn forward<T: Float>(
        &self,
        arguments: &[Operand<T>],
        _: bool,
        out: &mut [T],
    ) -> Result<Option<Kept>> {
        if let [x, cos, sin] = arguments {
            let (x, cos, sin) = (x.pair()?, cos.pair()?, sin.pair()?);
            cpu::rope(
                (x.0, &x.1),
                (cos.0, &cos.1),
                (sin.0, &sin.1),
                self.pairs,
                out,
            )?;
        }
        Ok(None)
    }

    fn backward<T: Float>(&self, pass: &Pass<T>) -> Result<Vec<Option<Vec<T>>>> {
        let [_, cos, sin] = pass.arguments else {
            return Ok(vec![]);
        };
        let mut dx = pass.fresh(0);
        let (g, cos, sin) = (pass.gradient.pair()?, cos.pair()?, sin.pair()?);
        cpu::rope_backward(
            (g.0, &g.1),
            (cos.0, &cos.1),
            (sin.0, &sin.1),
            self.pairs,
            &mut dx,
        )?;
        Ok(vec![Some(dx)])
    }
}
