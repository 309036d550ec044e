//! candle_nn's `ops`, with those that are fused here in their place. All of them have gradients.

use candle_core::{D, Result, Tensor, shape::Dim};

use crate::ops;

pub use candle_nn::ops::*;

/// exp(x) / Σ exp(x) over `dim`. See [`ops::softmax`].
pub fn softmax<D: Dim>(xs: &Tensor, dim: D) -> Result<Tensor> {
    Ok(ops::softmax(xs, dim)?)
}

/// x − log Σ exp(x) over `d`. See [`ops::log_softmax`].
pub fn log_softmax<D: Dim>(xs: &Tensor, d: D) -> Result<Tensor> {
    Ok(ops::log_softmax(xs, d)?)
}

/// [`softmax`] over the last dimension.
pub fn softmax_last_dim(xs: &Tensor) -> Result<Tensor> {
    Ok(ops::softmax_last_dim(xs)?)
}

/// silu(first half) · second half, of the last dimension. See [`ops::swiglu`].
pub fn swiglu(xs: &Tensor) -> Result<Tensor> {
    // As chunk does where the dimension is odd: the first half is the longer one, which then fails.
    let halves = xs.chunk(2, D::Minus1)?;
    match &halves[..] {
        [gate, up] => Ok(ops::swiglu(gate, up)?),
        _ => candle_nn::ops::swiglu(xs),
    }
}

/// x / √(mean of squares + ε) · alpha over the last dimension. See [`ops::rms_norm`].
pub fn rms_norm(xs: &Tensor, alpha: &Tensor, eps: f32) -> Result<Tensor> {
    Ok(ops::rms_norm(xs, alpha, f64::from(eps))?)
}

/// (x − mean) / √(variance + ε) · alpha + beta over the last dimension. See [`ops::layer_norm`].
pub fn layer_norm(xs: &Tensor, alpha: &Tensor, beta: &Tensor, eps: f32) -> Result<Tensor> {
    Ok(ops::layer_norm(xs, alpha, Some(beta), f64::from(eps))?)
}

/// softmax(scale · q·kᵀ + mask)·v, without the matrix of scores in memory. candle_nn's has no CPU form
/// and no gradient. See [`ops::attention`].
pub fn sdpa(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    mask: Option<&Tensor>,
    do_causal: bool,
    scale: f32,
    softcapping: f32,
) -> Result<Tensor> {
    let options = ops::AttentionOptions {
        scale: Some(f64::from(scale)),
        causal: do_causal,
        // candle_nn's way to say "none".
        soft_cap: (softcapping != 1.).then_some(f64::from(softcapping)),
    };
    Ok(ops::attention(q, k, v, mask, &options)?)
}
