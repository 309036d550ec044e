//! candle_nn with the layers and functions of this crate in the place of those that are slow or drop
//! gradients: `use candle_mps::nn as candle_nn;` is the one line to change in a model's file.
//!
//! Everything that candle_nn has is here under the same path. Replaced, with the same signatures, names
//! in a `VarBuilder` and defaults:
//!
//! | here | instead of candle_nn's |
//! |---|---|
//! | [`Linear`], [`linear()`], [`linear_no_bias`], [`linear_b`] | a matmul and an addition |
//! | [`LayerNorm`], [`RmsNorm`], [`layer_norm()`], [`layer_norm_no_bias`], [`rms_norm`] | fused without a backward, or slow |
//! | [`ops`]: `softmax`, `softmax_last_dim`, `log_softmax`, `rms_norm`, `layer_norm`, `swiglu`, `sdpa` | fused without a backward, or slow |
//! | [`rotary_emb`]: `rope`, `rope_i`, `rope_thd` | fused without a backward |
//! | [`loss::cross_entropy`] | four passes |
//! | [`AdamW`] | a dozen passes over fresh memory |
//!
//! [`LoraLinear`] is new. Layers are types of their own: a candle_nn `Linear` is not one of these.
//! Whole programs, with the models of candle_transformers among them, take `candle-mps patch` instead.

pub use candle_nn::*;

pub mod layer_norm;
pub mod linear;
mod lora;
pub mod loss;
pub mod ops;
pub mod optim;
pub mod rotary_emb;

pub use layer_norm::{
    LayerNorm, LayerNormConfig, RmsNorm, layer_norm, layer_norm_no_bias, rms_norm,
};
pub use linear::{Linear, linear, linear_b, linear_no_bias};
pub use lora::{LoraConfig, LoraLinear};
pub use optim::AdamW;
