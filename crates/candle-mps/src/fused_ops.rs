//! [`FusedOps`]: the ops as methods of a tensor.
//!
//! No method has the name of an inherent one of `Tensor`, which would silently win over it: hence
//! `matmul_fused`.

use candle_core::Tensor;
use candle_core::shape::Dim;

use crate::ops::{Activation, AttentionOptions};
use crate::{Result, ops};

/// Declares the trait and implements it for tensors: each method calls the function that it names.
macro_rules! fused_ops {
    ($(
        $(#[doc = $doc:literal])*
        fn $method:ident(&$self:ident $(, $argument:ident: $type:ty)*) = $function:path;
    )*) => {
        /// The ops of this crate, as methods. Each describes itself, with an example, at the function
        /// of [`ops`](crate::ops) that it names.
        pub trait FusedOps {
            $(
                $(#[doc = $doc])*
                fn $method(&$self $(, $argument: $type)*) -> Result<Tensor>;
            )*
        }

        impl FusedOps for Tensor {
            $(
                fn $method(&$self $(, $argument: $type)*) -> Result<Tensor> {
                    $function($self $(, $argument)*)
                }
            )*
        }
    };
}

fused_ops! {
    /// Softmax over a dimension. See [`ops::softmax`].
    fn softmax(&self, dim: impl Dim) = ops::softmax;

    /// Softmax over the last dimension. See [`ops::softmax_last_dim`].
    fn softmax_last_dim(&self) = ops::softmax_last_dim;

    /// The logarithm of softmax over a dimension. See [`ops::log_softmax`].
    fn log_softmax(&self, dim: impl Dim) = ops::log_softmax;

    /// RMS norm over the last dimension. See [`ops::rms_norm`].
    fn rms_norm(&self, weight: &Tensor, eps: f64) = ops::rms_norm;

    /// Layer norm over the last dimension. See [`ops::layer_norm`].
    fn layer_norm(&self, weight: &Tensor, bias: Option<&Tensor>, eps: f64) = ops::layer_norm;

    /// Rotary embedding, pairs of halves. See [`ops::rope`].
    fn rope(&self, cos: &Tensor, sin: &Tensor) = ops::rope;

    /// Rotary embedding, pairs of neighbours. See [`ops::rope_i`].
    fn rope_i(&self, cos: &Tensor, sin: &Tensor) = ops::rope_i;

    /// Rotary embedding, positions before heads. See [`ops::rope_thd`].
    fn rope_thd(&self, cos: &Tensor, sin: &Tensor) = ops::rope_thd;

    /// Attention with this tensor as the queries. See [`ops::attention`].
    fn attention(
        &self,
        k: &Tensor,
        v: &Tensor,
        mask: Option<&Tensor>,
        options: &AttentionOptions
    ) = ops::attention;

    /// The same as [`FusedOps::attention`]. See [`ops::flash_attention`].
    fn flash_attention(
        &self,
        k: &Tensor,
        v: &Tensor,
        mask: Option<&Tensor>,
        options: &AttentionOptions
    ) = ops::flash_attention;

    /// A linear layer with a low-rank correction. See [`ops::lora`].
    fn lora(
        &self,
        w: &Tensor,
        bias: Option<&Tensor>,
        a: &Tensor,
        b: &Tensor,
        scaling: f64
    ) = ops::lora;

    /// The low-rank correction alone. See [`ops::lora_delta`].
    fn lora_delta(&self, a: &Tensor, b: &Tensor, scaling: f64) = ops::lora_delta;

    /// The product of matrices, broadcast over the dimensions in front. See [`ops::matmul`].
    fn matmul_fused(&self, right: &Tensor) = ops::matmul;

    /// A fully connected layer. See [`ops::linear`].
    fn linear(&self, weight: &Tensor, bias: Option<&Tensor>) = ops::linear;

    /// A fully connected layer with an activation. See [`ops::linear_with`].
    fn linear_with(
        &self,
        weight: &Tensor,
        bias: Option<&Tensor>,
        activation: Activation
    ) = ops::linear_with;

    /// A fully connected layer, added to `residual`. See [`ops::linear_add`].
    fn linear_add(&self, weight: &Tensor, bias: Option<&Tensor>, residual: &Tensor) = ops::linear_add;

    /// The gated unit silu(self) · up. See [`ops::swiglu`].
    fn swiglu(&self, up: &Tensor) = ops::swiglu;

    /// The gated unit gelu(self) · up. See [`ops::geglu`].
    fn geglu(&self, up: &Tensor) = ops::geglu;

    /// The gated unit gelu(self) · up with the exact gelu. See [`ops::geglu_erf`].
    fn geglu_erf(&self, up: &Tensor) = ops::geglu_erf;

    /// The cross-entropy of these logits. See [`ops::cross_entropy`].
    fn cross_entropy(&self, targets: &Tensor) = ops::cross_entropy;

    /// The matrix product on MPS, batched over all dimensions but the last two. See
    /// [`ops::matmul_mps`].
    fn matmul_mps(&self, right: &Tensor) = ops::matmul_mps;

    /// Softmax over the last dimension on MPS. See [`ops::softmax_mps`].
    fn softmax_mps(&self) = ops::softmax_mps;

    /// Log softmax over the last dimension on MPS. See [`ops::log_softmax_mps`].
    fn log_softmax_mps(&self) = ops::log_softmax_mps;
}
