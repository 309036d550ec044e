//! The ops of neural networks on the CPU: slices and strides in, slices out.
//!
//! No Candle types and no tensors: an input is a slice with a [`Layout`] (dimensions, strides,
//! offset), an output is a slice in row-major order. `candle-mps-ops` puts tensors around it, and the
//! simulated GPU computes with it.
//!
//! | module | what it holds |
//! |---|---|
//! | [`simd`] | vectors of each instruction set, chosen at run time and proved by a token |
//! | [`threads`] | how work is divided: static parts, one thread for small work |
//! | [`memory`] | results in fresh memory without the cost of its page faults |
//! | [`Layout`], [`Element`] | where the elements of an operand lie, and what they are |
//!
//! | op | forward | backward |
//! |---|---|---|
//! | softmax, log-softmax | [`softmax::softmax`], [`softmax::log_softmax`] | [`softmax::softmax_backward`], [`softmax::log_softmax_backward`] |
//! | RMS norm | [`rms_norm::rms_norm`] | [`rms_norm::rms_norm_backward`] |
//! | layer norm | [`layer_norm::layer_norm`] | [`layer_norm::layer_norm_backward`] |
//! | rotary embedding | [`rope::rope`] | [`rope::rope_backward`] |
//! | SwiGLU, GEGLU | [`swiglu::swiglu`], [`geglu::geglu`] | [`swiglu::swiglu_backward`], [`geglu::geglu_backward`] |
//! | cross-entropy | [`cross_entropy::cross_entropy`] | [`cross_entropy::cross_entropy_backward`] |
//! | AdamW | [`adamw::adamw`] | |
//!
//! f32, f64, f16 and bf16; sums and statistics in f32 (f64 for f64), rounded once, at the store.
//! Bad input is an [`Error`] that names the argument, never a panic. Unsafe code is in `simd/` and in
//! `memory.rs`, nowhere else.

pub mod adamw;
pub mod attention;
pub mod cross_entropy;
mod element;
mod error;
pub mod geglu;
mod glu;
pub mod layer_norm;
mod layout;
pub mod lora;
pub mod matmul;
pub mod memory;
#[cfg(test)]
mod oracle;
pub mod rms_norm;
pub mod rope;
mod rows;
pub mod simd;
pub mod softmax;
pub mod swiglu;
pub mod threads;

pub use element::{Element, Real, V};
pub use error::{Error, Result};
pub use layout::Layout;
pub use rows::check_eps;
