//! [`softmax`]: yᵢ = exp(xᵢ) / Σⱼ exp(xⱼ) along any dimension, and its logarithm [`log_softmax`].
//! <https://en.wikipedia.org/wiki/Softmax_function>
//!
//! Backward, with g the gradient of y: dx = y · (g − Σ g·y), and for the logarithm
//! dx = g − exp(y) · Σ g. Nothing is kept but y.

use candle_core::shape::Dim;
use candle_core::{D, Tensor};
use candle_mps_cpu::softmax as cpu;

use super::fused::{self, Kept, Op, Pass, Route, apply, route};
use super::operand::{Float, Operand};
use super::{check_float, log_softmax_mps, softmax_mps};
use crate::error::{Error, Result};

/// Softmax: y = exp(x) / Σ exp(x), the sum taken over `dim`.
///
/// Any shape, any strides; f32, f64, f16 or bf16, summed in f32 (f64 for f64). A row of −∞ only, or
/// with NaN or +∞ in it, is NaN. Differentiable in `x`.
///
/// ```
/// use candle_core::{D, Device, Tensor};
/// use candle_mps_ops::ops;
///
/// let x = Tensor::new(&[[0f32, 0.], [1., 3.]], &Device::Cpu)?;
/// let y = ops::softmax(&x, D::Minus1)?.to_vec2::<f32>()?;
/// assert_eq!(y[0], [0.5, 0.5]);
/// assert!((y[1][1] - 0.8808).abs() < 1e-4);
/// # Ok::<(), candle_mps_ops::Error>(())
/// ```
pub fn softmax(x: &Tensor, dim: impl Dim) -> Result<Tensor> {
    run(x, dim, Softmax::<false>)
}

/// [`softmax`] over the last dimension.
///
/// ```
/// use candle_core::{Device, Tensor};
/// use candle_mps_ops::ops;
///
/// let x = Tensor::new(&[[1f32, 1., 1., 1.]], &Device::Cpu)?;
/// assert_eq!(ops::softmax_last_dim(&x)?.to_vec2::<f32>()?, [[0.25; 4]]);
/// # Ok::<(), candle_mps_ops::Error>(())
/// ```
pub fn softmax_last_dim(x: &Tensor) -> Result<Tensor> {
    softmax(x, D::Minus1)
}

/// The logarithm of softmax: y = x − ln Σ exp(x), the sum taken over `dim`.
///
/// Any shape, any strides; f32, f64, f16 or bf16, summed in f32 (f64 for f64). Differentiable in `x`.
///
/// ```
/// use candle_core::{Device, Tensor};
/// use candle_mps_ops::ops;
///
/// let x = Tensor::new(&[[0f32, 7.], [0., 7.]], &Device::Cpu)?;
/// let y = ops::log_softmax(&x, 0)?.to_vec2::<f32>()?;
/// assert!((y[0][0] - 0.5f32.ln()).abs() < 1e-6);
/// # Ok::<(), candle_mps_ops::Error>(())
/// ```
pub fn log_softmax(x: &Tensor, dim: impl Dim) -> Result<Tensor> {
    run(x, dim, Softmax::<true>)
}

fn run<const LOG: bool>(
    x: &Tensor,
    dim: impl Dim,
    op: impl Fn(usize) -> Softmax<LOG>,
) -> Result<Tensor> {
    let name = Softmax::<LOG>::NAME;
    let operands = [("x", x)];
    fused::check(name, &operands)?;
    let dim = dim.to_index(x.shape(), name).map_err(|source| Error::Dim {
        op: name,
        shape: x.shape().clone(),
        source: Box::new(source),
    })?;
    let op = op(dim);
    let mps = dim + 1 == x.rank() && check_float(name, "x", x.dtype()).is_ok();
    match route(&op, &operands, mps)? {
        Route::Ours => apply(op, x.shape().clone(), &operands),
        Route::Mps if LOG => log_softmax_mps(x),
        Route::Mps => softmax_mps(x),
        Route::Candle => Ok(composed(x, dim, LOG)?),
    }
}

/// The same by ops of Candle, each with a backward.
pub(super) fn composed(x: &Tensor, dim: usize, log: bool) -> candle_core::Result<Tensor> {
    if x.elem_count() == 0 {
        return Ok(x.clone());
    }
    let shifted = x.broadcast_sub(&x.max_keepdim(dim)?)?;
    let exp = shifted.exp()?;
    let sum = exp.sum_keepdim(dim)?;
    if log {
        shifted.broadcast_sub(&sum.log()?)
    } else {
        exp.broadcast_div(&sum)
    }
}

/// Along this dimension.
pub(crate) struct Softmax<const LOG: bool>(pub(crate) usize);

impl<const LOG: bool> Op for Softmax<LOG> {
    const NAME: &'static str = if LOG { "log_softmax" } else { "softmax" };

    fn forward<T: Float>(
        &self,
        arguments: &[Operand<T>],
        _: bool,
        out: &mut [T],
    ) -> Result<Option<Kept>> {
        let kernel = if LOG { cpu::log_softmax } else { cpu::softmax };
        for x in arguments {
            kernel(x.data, &x.view()?, self.0, &cpu::Options::default(), out)?;
        }
        Ok(None)
    }

    fn backward<T: Float>(&self, pass: &Pass<T>) -> Result<Vec<Option<Vec<T>>>> {
        let kernel = if LOG {
            cpu::log_softmax_backward
        } else {
            cpu::softmax_backward
        };
        let (y, gradient) = (pass.result, pass.gradient);
        let mut dx = pass.fresh(0);
        let y = (y.data, &y.view()?);
        kernel(y, (gradient.data, &gradient.view()?), self.0, 1., &mut dx)?;
        Ok(vec![Some(dx)])
    }
}
