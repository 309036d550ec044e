//! [`FusedOps`]: the ops as methods of a tensor.
//!
//! No method has the name of an inherent one of `Tensor`, which would silently win over it.

use candle_core::Tensor;

use crate::{Result, ops};

/// The ops of this crate, as methods. Each describes itself at the function of the same name in
/// [`ops`](crate::ops).
pub trait FusedOps {
    /// The matrix product on MPS, batched over all dimensions but the last two. See
    /// [`ops::matmul_mps`].
    fn matmul_mps(&self, right: &Tensor) -> Result<Tensor>;

    /// Softmax over the last dimension on MPS. See [`ops::softmax_mps`].
    fn softmax_mps(&self) -> Result<Tensor>;

    /// Log softmax over the last dimension on MPS. See
    /// [`ops::log_softmax_mps`].
    fn log_softmax_mps(&self) -> Result<Tensor>;
}

impl FusedOps for Tensor {
    fn matmul_mps(&self, right: &Tensor) -> Result<Tensor> {
        ops::matmul_mps(self, right)
    }

    fn softmax_mps(&self) -> Result<Tensor> {
        ops::softmax_mps(self)
    }

    fn log_softmax_mps(&self) -> Result<Tensor> {
        ops::log_softmax_mps(self)
    }
}
