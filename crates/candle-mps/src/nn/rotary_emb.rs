//! candle_nn's `rotary_emb`, with its fused functions replaced by ours, which have gradients and take
//! any strides.

use candle_core::{Result, Tensor};

use crate::ops;

pub use candle_nn::rotary_emb::*;

/// Turns pairs (i, i + d/2) of x, `[batch, heads, length, d]`. See [`ops::rope`].
pub fn rope(xs: &Tensor, cos: &Tensor, sin: &Tensor) -> Result<Tensor> {
    Ok(ops::rope(xs, cos, sin)?)
}

/// Turns pairs (2i, 2i + 1) of x, `[batch, heads, length, d]`. See [`ops::rope_i`].
pub fn rope_i(xs: &Tensor, cos: &Tensor, sin: &Tensor) -> Result<Tensor> {
    Ok(ops::rope_i(xs, cos, sin)?)
}

/// Turns pairs (i, i + d/2) of x, `[batch, length, heads, d]`. See [`ops::rope_thd`].
pub fn rope_thd(xs: &Tensor, cos: &Tensor, sin: &Tensor) -> Result<Tensor> {
    Ok(ops::rope_thd(xs, cos, sin)?)
}
