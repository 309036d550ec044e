//! candle_nn's `loss`, with the cross-entropy in one pass forward and one back.

use candle_core::{Result, Tensor};

pub use candle_nn::loss::*;

/// The mean over the rows of log Σ exp(x) − xₜ, t the target. See [`crate::ops::cross_entropy`].
pub fn cross_entropy(inp: &Tensor, target: &Tensor) -> Result<Tensor> {
    Ok(crate::ops::cross_entropy(inp, target)?)
}
