//! Ops for Candle tensors, each a `CustomOp` with a backward: the layer under `candle-mps`, for
//! those who want to depend on `candle-core` only.
//!
//! | op | forward | backward |
//! |---|---|---|
//! | [`ops::matmul_mps`] | `MPSMatrixMultiplication` | two products of it |
//! | [`ops::softmax_mps`] | `MPSMatrixSoftMax` | `MPSMatrixSoftMaxGradient` |
//! | [`ops::log_softmax_mps`] | `MPSMatrixLogSoftMax` | `MPSMatrixLogSoftMaxGradient` |
//!
//! They run on Metal tensors, in place on Candle's own buffers. The feature `metal` (or `mps`, the
//! same) turns that on; without it everything compiles on any system, and a call answers with an
//! [`Error`] that says so. Nothing falls back in silence.

mod error;
#[cfg(feature = "metal")]
pub mod metal;
pub mod ops;

pub use error::{Error, Result};
