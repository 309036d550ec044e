//! The names that the first attempt at MPS for Candle gave itself, so that code written against it
//! needs a new `use` line only.

use candle_core::Tensor;

use crate::{Result, ops};

/// The matrix product of `left` and `right` on MPS. The same as
/// [`ops::matmul_mps`].
pub fn mps_matmul(left: &Tensor, right: &Tensor) -> Result<Tensor> {
    ops::matmul_mps(left, right)
}

/// The fused ops of that attempt, as methods of a tensor. All are differentiable, on every device.
///
/// ```
/// use candle_core::{Device, Tensor};
/// use candle_mps::compat::CustomMetalOps;
///
/// let x = Tensor::new(&[[2f32, -2.]], &Device::Cpu)?;
/// assert_eq!(x.rms_norm_fused(0.)?.to_vec2::<f32>()?, [[1., -1.]]);
/// # Ok::<(), candle_mps::Error>(())
/// ```
pub trait CustomMetalOps {
    /// scaling · (self · lora_a) · lora_b, with `lora_a` of [in, rank] and `lora_b` of [rank, out].
    /// The same as [`ops::lora_delta`].
    fn lora_forward_fused(&self, lora_a: &Tensor, lora_b: &Tensor, scaling: f32) -> Result<Tensor>;

    /// Softmax over the last dimension. The same as [`ops::softmax_last_dim`].
    fn softmax_fused(&self) -> Result<Tensor>;

    /// RMS norm over the last dimension, without a weight. The same as [`ops::rms_norm_no_weight`].
    fn rms_norm_fused(&self, eps: f32) -> Result<Tensor>;
}

impl CustomMetalOps for Tensor {
    fn lora_forward_fused(&self, lora_a: &Tensor, lora_b: &Tensor, scaling: f32) -> Result<Tensor> {
        ops::lora_delta(self, lora_a, lora_b, f64::from(scaling))
    }

    fn softmax_fused(&self) -> Result<Tensor> {
        ops::softmax_last_dim(self)
    }

    fn rms_norm_fused(&self, eps: f32) -> Result<Tensor> {
        ops::rms_norm_no_weight(self, f64::from(eps))
    }
}

/// Says whether [`tensor_to_mps_matrix`] can wrap the tensor without a copy: it is on Metal, has a
/// type that MPS knows, two dimensions or more, elements, and adjacent elements in each row. The
/// error says what to change.
#[cfg(feature = "metal")]
pub fn validate_tensor_for_mps(tensor: &Tensor) -> Result<()> {
    candle_mps_ops::metal::wrap::check("validate_tensor_for_mps", tensor)
}

/// Says whether MPS can use the tensor. Without the feature `metal` it never can, since no tensor
/// is on Metal; the error says so.
#[cfg(not(feature = "metal"))]
pub fn validate_tensor_for_mps(tensor: &Tensor) -> Result<()> {
    Err(crate::Error::NotOnMetal {
        op: "validate_tensor_for_mps",
        operand: "the tensor",
        device: tensor.device().location(),
    })
}

/// The tensor's own memory as an MPS matrix: the last two dimensions, with those in front as a
/// batch. Nothing is copied.
///
/// Kernels may read the matrix and not write it, since other tensors may share the memory. The
/// memory lives as long as the matrix. Waits for Candle's work so far.
#[cfg(feature = "metal")]
pub fn tensor_to_mps_matrix(tensor: &Tensor) -> Result<safe_mps::Matrix> {
    candle_mps_ops::metal::wrap::matrix("tensor_to_mps_matrix", tensor)
}
