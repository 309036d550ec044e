//! [`log_softmax_mps`]: y = x − ln Σ exp(x) over the last dimension, by
//! [MPSMatrixLogSoftMax](https://developer.apple.com/documentation/metalperformanceshaders/mpsmatrixlogsoftmax),
//! and back by MPSMatrixLogSoftMaxGradient.

use candle_core::{CpuStorage, CustomOp1, CustomOp2, Layout, Shape, Tensor};

use super::{check_float, check_on_metal, check_rank, not_on_cpu};
use crate::error::Result;

const OP: &str = "log_softmax_mps";
const GRADIENT: &str = "the gradient of log_softmax_mps";

/// The logarithm of softmax over the last dimension, on MPS: an f32 or f16 tensor on Metal, of any rank but 0.
pub fn log_softmax_mps(x: &Tensor) -> Result<Tensor> {
    check_on_metal(OP, "x", x)?;
    check_float(OP, "x", x.dtype())?;
    check_rank(OP, "x", x.shape(), 1)?;
    #[cfg(feature = "metal")]
    let x = &crate::metal::operand::addressable(x, crate::metal::rows::describe)?;
    Ok(x.apply_op1(LogSoftmaxMps)?)
}

/// The op behind [`log_softmax_mps`]. Applied directly it copies nothing: strides that MPS cannot
/// address are an error.
#[derive(Debug, Clone, Copy, Default)]
pub struct LogSoftmaxMps;

impl CustomOp1 for LogSoftmaxMps {
    fn name(&self) -> &'static str {
        OP
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout) -> candle_core::Result<(CpuStorage, Shape)> {
        not_on_cpu(OP, "x")
    }

    #[cfg(feature = "metal")]
    fn metal_fwd(
        &self,
        x: &candle_core::MetalStorage,
        layout: &Layout,
    ) -> candle_core::Result<(candle_core::MetalStorage, Shape)> {
        use candle_core::backend::BackendStorage;

        check_float(OP, "x", x.dtype())?;
        check_rank(OP, "x", layout.shape(), 1)?;
        let result = crate::metal::rows::run(
            OP,
            [("x", x, layout)],
            safe_mps::LogSoftMax::new,
            |kernel, commands, [x], y| kernel.encode(commands, &x?, y),
        )?;
        Ok((result, layout.shape().clone()))
    }

    /// dx = g − exp(y) · Σ g.
    fn bwd(
        &self,
        _: &Tensor,
        y: &Tensor,
        gradient: &Tensor,
    ) -> candle_core::Result<Option<Tensor>> {
        #[cfg(feature = "metal")]
        let gradient = &crate::metal::operand::addressable(gradient, crate::metal::rows::describe)?;
        Ok(Some(gradient.apply_op2(y, Gradient)?))
    }
}

/// From the gradient of y and y to the gradient of x. It has no backward itself.
struct Gradient;

impl CustomOp2 for Gradient {
    fn name(&self) -> &'static str {
        GRADIENT
    }

    fn cpu_fwd(
        &self,
        _: &CpuStorage,
        _: &Layout,
        _: &CpuStorage,
        _: &Layout,
    ) -> candle_core::Result<(CpuStorage, Shape)> {
        not_on_cpu(GRADIENT, "gradient")
    }

    #[cfg(feature = "metal")]
    fn metal_fwd(
        &self,
        gradient: &candle_core::MetalStorage,
        gradient_layout: &Layout,
        y: &candle_core::MetalStorage,
        y_layout: &Layout,
    ) -> candle_core::Result<(candle_core::MetalStorage, Shape)> {
        let result = crate::metal::rows::run(
            GRADIENT,
            [("gradient", gradient, gradient_layout), ("y", y, y_layout)],
            safe_mps::LogSoftMaxGradient::new,
            |kernel, commands, [gradient, y], dx| kernel.encode(commands, &gradient?, &y?, dx),
        )?;
        Ok((result, gradient_layout.shape().clone()))
    }
}
