//! [`rms_norm`]: yᵢ = xᵢ · wᵢ / √(mean(x²) + ε) over the last dimension.
//! <https://arxiv.org/abs/1910.07467>
//!
//! Backward, with r = 1/√(mean(x²) + ε) and h = g·w: dx = r·h − x·r³·mean(h·x), dw = Σ g·x·r. The
//! statistics are computed again, which costs less than keeping them.

use candle_core::{D, DType, Tensor};
use candle_mps_cpu::rms_norm as cpu;

use super::fused::{self, Kept, Op, Pass, Route, apply, route};
use super::operand::{Float, Operand};
use super::{check_last, check_rank};
use crate::error::Result;

const OP: &str = "rms_norm";

/// RMS norm: y = x · weight / √(mean(x²) + eps), the mean taken over the last dimension.
///
/// `x` has any shape but a scalar's, and `weight` one element for each of the last dimension. f32,
/// f64, f16 or bf16, one for both; statistics in f32 (f64 for f64), rounded once. Differentiable in
/// `x` and `weight`.
///
/// ```
/// use candle_core::{Device, Tensor};
/// use candle_mps_ops::ops;
///
/// let x = Tensor::new(&[[3f32, 4.], [1., 1.]], &Device::Cpu)?;
/// let weight = Tensor::new(&[1f32, 2.], &Device::Cpu)?;
/// let y = ops::rms_norm(&x, &weight, 0.)?.to_vec2::<f32>()?;
/// assert_eq!(y[1], [1., 2.]);
/// assert!((y[0][0] - 3. / 12.5f32.sqrt()).abs() < 1e-6);
/// # Ok::<(), candle_mps_ops::Error>(())
/// ```
pub fn rms_norm(x: &Tensor, weight: &Tensor, eps: f64) -> Result<Tensor> {
    run(x, Some(weight), eps)
}

/// [`rms_norm`] without a weight: y = x / √(mean(x²) + eps). Differentiable in `x`.
///
/// ```
/// use candle_core::{Device, Tensor};
/// use candle_mps_ops::ops;
///
/// let x = Tensor::new(&[[2f32, -2.]], &Device::Cpu)?;
/// assert_eq!(ops::rms_norm_no_weight(&x, 0.)?.to_vec2::<f32>()?, [[1., -1.]]);
/// # Ok::<(), candle_mps_ops::Error>(())
/// ```
pub fn rms_norm_no_weight(x: &Tensor, eps: f64) -> Result<Tensor> {
    run(x, None, eps)
}

fn run(x: &Tensor, weight: Option<&Tensor>, eps: f64) -> Result<Tensor> {
    let operands: Vec<_> = [("x", x)]
        .into_iter()
        .chain(weight.map(|weight| ("weight", weight)))
        .collect();
    fused::check(OP, &operands)?;
    check_rank(OP, "x", x.shape(), 1)?;
    if let Some(weight) = weight {
        check_last(OP, x, "weight", weight)?;
    }
    candle_mps_cpu::check_eps(OP, eps)?;
    let op = RmsNorm { eps };
    if route(&op, &operands, false)? != Route::Ours {
        return Ok(composed(x, weight, eps)?);
    }
    apply(op, x.shape().clone(), &operands)
}

/// The same by ops of Candle, each with a backward. f16 and bf16 are normalised in f32.
fn composed(x: &Tensor, weight: Option<&Tensor>, eps: f64) -> candle_core::Result<Tensor> {
    if x.elem_count() == 0 {
        return Ok(x.clone());
    }
    let wide = match x.dtype() {
        DType::F16 | DType::BF16 => x.to_dtype(DType::F32)?,
        _ => x.clone(),
    };
    let mean = (wide.sqr()?.sum_keepdim(D::Minus1)? / x.dim(D::Minus1)? as f64)?;
    let y = wide
        .broadcast_div(&(mean + eps)?.sqrt()?)?
        .to_dtype(x.dtype())?;
    weight.map_or(Ok(y.clone()), |weight| y.broadcast_mul(weight))
}

pub(crate) struct RmsNorm {
    pub(crate) eps: f64,
}

impl Op for RmsNorm {
    const NAME: &'static str = OP;

    fn forward<T: Float>(
        &self,
        arguments: &[Operand<T>],
        _: bool,
        out: &mut [T],
    ) -> Result<Option<Kept>> {
        let [x, rest @ ..] = arguments else {
            return Ok(None);
        };
        let weight = rest.first().map(Operand::elements).transpose()?;
        cpu::rms_norm(x.data, &x.view()?, weight.as_deref(), self.eps, out)?;
        Ok(None)
    }

    fn backward<T: Float>(&self, pass: &Pass<T>) -> Result<Vec<Option<Vec<T>>>> {
        let [x, rest @ ..] = pass.arguments else {
            return Ok(vec![]);
        };
        let weight = rest.first().map(Operand::elements).transpose()?;
        let mut dx = pass.fresh(0);
        let mut dw = pass.wants(1).then(|| pass.fresh(1));
        cpu::rms_norm_backward(
            (x.data, &x.view()?),
            weight.as_deref(),
            (pass.gradient.data, &pass.gradient.view()?),
            self.eps,
            cpu::RmsNormGrads {
                x: &mut dx,
                weight: dw.as_deref_mut(),
            },
        )?;
        Ok(vec![Some(dx), dw])
    }
}
