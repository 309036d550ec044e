//! Apple's Metal Performance Shaders on Candle tensors: safe, on Candle's own buffers, and with
//! gradients.
//!
#![cfg_attr(feature = "metal", doc = "```")]
#![cfg_attr(not(feature = "metal"), doc = "```ignore")]
//! use candle_core::Tensor;
//! use candle_mps::FusedOps;
//!
//! fn main() -> Result<(), candle_mps::Error> {
//!     let device = candle_mps::metal::device(0)?;
//!     let x = Tensor::from_slice(&[1f32, 2., 3., 4., 5., 6.], (2, 3), &device)?;
//!     let w = Tensor::from_slice(&[1f32, 0., -1., 1., 2., 0.], (2, 3), &device)?;
//!     let y = x.matmul_mps(&w.t()?)?;
//!     assert_eq!(y.to_vec2::<f32>()?, [[-2., 5.], [-2., 14.]]);
//!     Ok(())
//! }
//! ```
//!
//! The fused ops (softmax, norms, rope, attention, LoRA, linear, gated units, cross-entropy) run on any
//! device and are differentiable there, which Candle's own are not:
//!
//! ```
//! use candle_core::{D, Device, Var};
//! use candle_mps::FusedOps;
//!
//! let x = Var::new(&[[1f32, 2., 3.]], &Device::Cpu)?;
//! let loss = x.softmax(D::Minus1)?.sqr()?.sum_all()?;
//! assert!(loss.backward()?.get(&x).is_some());
//! # Ok::<(), candle_mps::Error>(())
//! ```
//!
//! MPS is behind the feature `metal` (or `mps`, the same). Without it this crate compiles on any
//! system, and an op whose name ends in `_mps` answers with an [`Error`] that says what to turn on.
//! With it, such an op on a tensor of the CPU is an error too: it does not fall back in silence.
//!
//! | you want | use |
//! |---|---|
//! | an op as a method of a tensor | [`FusedOps`] |
//! | the op as a function | [`ops`] |
//! | candle_nn's layers, losses and AdamW on these ops, LoRA layers | [`nn`] |
//! | to know which variables got no gradient | [`check`] |
//! | a Metal device, checked | `metal::device` |
//! | the names of the first MPS bindings for Candle | [`compat`] |
//! | MPS itself, without Candle | `safe_mps`, re-exported here |

pub mod check;
pub mod compat;
mod fused_ops;
#[cfg(feature = "metal")]
pub mod metal;
pub mod nn;

pub use candle_mps_ops::{Error, Result, ops};
pub use fused_ops::FusedOps;
#[cfg(feature = "metal")]
pub use safe_mps;
