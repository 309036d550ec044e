//! Apple's Metal Performance Shaders for matrices, safely.
//!
//! MPS answers a wrong size, type or stride with an assertion that ends the process, trusts the
//! caller about the lifetime and aliasing of GPU memory, and at some sizes returns wrong numbers.
//! This crate checks first and returns an [`Err`] that says what to change; it keeps host and GPU
//! from touching the same memory at the same time; and it cuts products that would come out wrong.
//! No public function is `unsafe`, none panics or aborts on bad input.
//!
//! | in MPS and Metal | here |
//! |---|---|
//! | `MTLDevice` | `Device` |
//! | `MTLBuffer`, `contents()` | `Buffer`, `Buffer::read`, `Buffer::write` |
//! | `MTLCommandQueue` | `Queue` |
//! | `MTLCommandBuffer` before `commit` | `CommandBuffer` |
//! | … after it | `Pending`, then `Completed` |
//! | `MPSDataType` | `DataType`, and the trait `Element` for Rust's types |
//! | `MPSMatrixDescriptor` | `MatrixDescriptor` |
//! | `MPSMatrix`, origins, batches | `Matrix`, `Matrix::sub_matrix`, `Matrix::sub_batch` |
//! | `MPSMatrixMultiplication` | `MatrixMultiplication` |
//! | `MPSMatrixSoftMax`, `MPSMatrixLogSoftMax` | `SoftMax`, `LogSoftMax` |
//! | `MPSMatrixSoftMaxGradient`, `MPSMatrixLogSoftMaxGradient` | `SoftMaxGradient`, `LogSoftMaxGradient` |
//! | `nil`, assertion, `NSError` | `Error` |
//!
//! Everything needs the feature `metal` (or `mps`, the same): without it the crate is empty, so
//! that it can be a dependency on any system.
//!
#![cfg_attr(feature = "metal", doc = "```")]
#![cfg_attr(not(feature = "metal"), doc = "```ignore")]
//! use safe_mps::{DataType, Device, Error, Matrix, MatrixMultiplication, SoftMax};
//!
//! fn main() -> Result<(), Error> {
//!     let device = Device::system_default()?;
//!     let queue = device.new_queue()?;
//!     let scores = Matrix::from_slice(&device, 2, 2, &[1.0f32, 0.0, 0.0, 1.0])?;
//!     let values = Matrix::from_slice(&device, 2, 2, &[1.0f32, 1.0, 1.0, 1.0])?;
//!     let mut weights = Matrix::zeros(&device, 2, 2, DataType::F32)?;
//!     let mut mixed = Matrix::zeros(&device, 2, 2, DataType::F32)?;
//!
//!     let commands = queue.command_buffer()?;
//!     SoftMax::new(&device)?.encode(&commands, &scores, &mut weights)?;
//!     let product = MatrixMultiplication::new(2, 2, 2).build(&device)?;
//!     product.encode(&commands, &weights, &values, &mut mixed)?;
//!
//!     // From `encode` until the work is over, the host has no view of its operands.
//!     assert!(matches!(mixed.to_vec::<f32>(), Err(Error::Busy { .. })));
//!     commands.commit().wait()?;
//!     for element in mixed.to_vec::<f32>()? {
//!         assert!((element - 1.0).abs() < 1e-6);
//!     }
//!     Ok(())
//! }
//! ```

#[cfg(feature = "metal")]
mod buffer;
#[cfg(feature = "metal")]
mod command_buffer;
#[cfg(feature = "metal")]
mod copy;
#[cfg(feature = "metal")]
mod data_type;
#[cfg(feature = "metal")]
mod descriptor;
#[cfg(feature = "metal")]
mod device;
#[cfg(feature = "metal")]
mod error;
#[cfg(feature = "metal")]
mod in_flight;
#[cfg(feature = "metal")]
mod kernels;
#[cfg(feature = "metal")]
mod limits;
#[cfg(feature = "metal")]
mod matrix;
#[cfg(feature = "metal")]
mod queue;
#[cfg(feature = "metal")]
mod tracker;

#[cfg(feature = "metal")]
pub use crate::{
    buffer::{Buffer, HostRead, HostWrite, Storage},
    command_buffer::{CommandBuffer, Completed, Pending},
    data_type::{DataType, Element},
    descriptor::MatrixDescriptor,
    device::Device,
    error::{Error, Holder, HostAccess, Result},
    kernels::multiplication::{MatrixMultiplication, MatrixMultiplicationBuilder},
    kernels::softmax::{LogSoftMax, SoftMax},
    kernels::softmax_gradient::{LogSoftMaxGradient, SoftMaxGradient},
    matrix::Matrix,
    queue::Queue,
};
