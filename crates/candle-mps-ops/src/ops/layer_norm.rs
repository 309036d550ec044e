//! [`layer_norm`]: yᵢ = (xᵢ − μ) / √(σ² + ε) · wᵢ + bᵢ over the last dimension.
//! <https://arxiv.org/abs/1607.06450>
//!
//! The variance takes a second pass over the differences from the mean, so that a large mean costs no
//! digits. Backward, with x̂ the norm before weight and bias, r = 1/√(σ² + ε) and h = g·w:
//! dx = r·(h − mean(h) − x̂·mean(h·x̂)), dw = Σ g·x̂, db = Σ g.

use candle_core::{D, DType, Tensor};
use candle_mps_cpu::layer_norm as cpu;

use super::fused::{self, Kept, Op, Pass, Route, apply, route};
use super::operand::{Float, Operand};
use super::{check_last, check_rank};
use crate::error::Result;

const OP: &str = "layer_norm";

/// Layer norm: y = (x − mean) / √(variance + eps) · weight + bias, over the last dimension.
///
/// `x` has any shape but a scalar's, `weight` and `bias` one element for each of the last dimension.
/// f32, f64, f16 or bf16, one for all; statistics in f32 (f64 for f64), rounded once. Differentiable
/// in `x`, `weight` and `bias`.
///
/// ```
/// use candle_core::{Device, Tensor};
/// use candle_mps_ops::ops;
///
/// let x = Tensor::new(&[[1f32, 3.], [7., 7.]], &Device::Cpu)?;
/// let weight = Tensor::new(&[1f32, 2.], &Device::Cpu)?;
/// let bias = Tensor::new(&[0f32, 10.], &Device::Cpu)?;
/// let y = ops::layer_norm(&x, &weight, Some(&bias), 1e-12)?.to_vec2::<f32>()?;
/// assert_eq!(y, [[-1., 12.], [0., 10.]]);
/// # Ok::<(), candle_mps_ops::Error>(())
/// ```
pub fn layer_norm(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>, eps: f64) -> Result<Tensor> {
    let operands: Vec<_> = [("x", x), ("weight", weight)]
        .into_iter()
        .chain(bias.map(|bias| ("bias", bias)))
        .collect();
    fused::check(OP, &operands)?;
    check_rank(OP, "x", x.shape(), 1)?;
    for &(operand, vector) in &operands[1..] {
        check_last(OP, x, operand, vector)?;
    }
    candle_mps_cpu::check_eps(OP, eps)?;
    let op = LayerNorm { eps };
    if route(&op, &operands, false)? != Route::Ours {
        return Ok(composed(x, weight, bias, eps)?);
    }
    apply(op, x.shape().clone(), &operands)
}

/// The same by ops of Candle, each with a backward. f16 and bf16 are normalised in f32.
fn composed(
    x: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    eps: f64,
) -> candle_core::Result<Tensor> {
    if x.elem_count() == 0 {
        return Ok(x.clone());
    }
    let wide = match x.dtype() {
        DType::F16 | DType::BF16 => x.to_dtype(DType::F32)?,
        _ => x.clone(),
    };
    let width = x.dim(D::Minus1)? as f64;
    let centred = wide.broadcast_sub(&(wide.sum_keepdim(D::Minus1)? / width)?)?;
    let variance = (centred.sqr()?.sum_keepdim(D::Minus1)? / width)?;
    let normal = centred.broadcast_div(&(variance + eps)?.sqrt()?)?;
    let y = normal.to_dtype(x.dtype())?.broadcast_mul(weight)?;
    bias.map_or(Ok(y.clone()), |bias| y.broadcast_add(bias))
}

pub(crate) struct LayerNorm {
    pub(crate) eps: f64,
}

impl Op for LayerNorm {
    const NAME: &'static str = OP;

    fn forward<T: Float>(
        &self,
        arguments: &[Operand<T>],
        _: bool,
        out: &mut [T],
    ) -> Result<Option<Kept>> {
        let [x, weight, rest @ ..] = arguments else {
            return Ok(None);
        };
        let weight = weight.elements()?;
        let bias = rest.first().map(Operand::elements).transpose()?;
        let x = (x.data, x.view()?);
        cpu::layer_norm(x.0, &x.1, Some(&weight), bias.as_deref(), self.eps, out)?;
        Ok(None)
    }

    fn backward<T: Float>(&self, pass: &Pass<T>) -> Result<Vec<Option<Vec<T>>>> {
        let [x, weight, ..] = pass.arguments else {
            return Ok(vec![]);
        };
        let weight = weight.elements()?;
        let mut dx = pass.fresh(0);
        let mut dw = pass.wants(1).then(|| pass.fresh(1));
        let mut db = pass.wants(2).then(|| pass.fresh(2));
        cpu::layer_norm_backward(
            (x.data, &x.view()?),
            Some(&weight),
            (pass.gradient.data, &pass.gradient.view()?),
            self.eps,
            cpu::LayerNormGrads {
                x: &mut dx,
                weight: dw.as_deref_mut(),
                bias: db.as_deref_mut(),
            },
        )?;
        Ok(vec![Some(dx), dw, db])
    }
}
