//! Fused ops for Candle that train, and Apple's Metal Performance Shaders: the layer under
//! `candle-mps`, for those who want to depend on `candle-core` only.
//!
//! | op | computes |
//! |---|---|
//! | [`ops::softmax`], [`ops::log_softmax`] | along any dimension |
//! | [`ops::rms_norm`], [`ops::layer_norm`] | over the last dimension, weight and bias included |
//! | [`ops::rope`], [`ops::rope_i`], [`ops::rope_thd`] | rotary embedding in Candle's three layouts |
//! | [`ops::attention`] | with mask, causal, shared heads, soft cap; no matrix of scores |
//! | [`ops::swiglu`], [`ops::geglu`], [`ops::geglu_erf`] | gated units |
//! | [`ops::lora`], [`ops::lora_delta`] | a linear layer's low-rank correction, with it or alone |
//! | [`ops::matmul`] | products of any rank, broadcast without a copy |
//! | [`ops::linear`], [`ops::linear_with`], [`ops::linear_add`] | x · Wᵀ + b, with an activation, or added to something |
//! | [`ops::cross_entropy`], [`ops::cross_entropy_with`] | the loss of class indices |
//!
//! Each is differentiable in every float argument. Candle's own fused ops are not: they drop
//! gradients, and say nothing. On the CPU these run kernels of `candle-mps-cpu`, forward and backward,
//! on whatever strides a tensor has. On Metal they run kernels of this crate on Candle's own encoder,
//! without a wait; a table says which op takes which route, and `CANDLE_MPS_ROUTE` overrules it. On CUDA
//! they are compositions of Candle's ops, so that gradients are right there, too.
//!
//! | op of MPS | forward | backward |
//! |---|---|---|
//! | [`ops::matmul_mps`] | `MPSMatrixMultiplication` | two products of it |
//! | [`ops::softmax_mps`] | `MPSMatrixSoftMax` | `MPSMatrixSoftMaxGradient` |
//! | [`ops::log_softmax_mps`] | `MPSMatrixLogSoftMax` | `MPSMatrixLogSoftMaxGradient` |
//!
//! These run on Metal tensors only, in place on Candle's own buffers. The feature `metal` (or `mps`,
//! the same) turns that on; without it everything compiles on any system, and such a call answers with
//! an [`Error`] that says so. None of them falls back in silence.

mod error;
#[cfg(feature = "metal")]
pub mod metal;
pub mod ops;

pub use error::{Error, Result};
