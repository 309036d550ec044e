//! How an op reaches the GPU. `dispatch` has the table that says by which route; `stream` puts the work in order with
//! Candle's own.
//!
//! - Our kernels: `kernels/` has two files for each op, `library` compiles them, `view` describes tensors to them,
//!   `op` is what an op implements.
//! - MPS: `operand` turns Candle's strides into MPS matrices without a copy, and `rows` drives the kernels that work row
//!   by row. For those who encode kernels themselves there is [`wrap`].

pub(crate) mod dispatch;
mod kernels;
pub(crate) mod library;
pub(crate) mod op;
pub(crate) mod operand;
pub(crate) mod rows;
pub(crate) mod stream;
pub(crate) mod view;
pub mod wrap;

use crate::error::{Error, Result};

/// The Metal device number `ordinal`. Unlike `Device::new_metal`, which panics, this checks that
/// there is one.
pub fn device(ordinal: usize) -> Result<candle_core::Device> {
    let available = safe_mps::Device::all().len();
    if ordinal >= available {
        return Err(Error::NoSuchDevice { ordinal, available });
    }
    Ok(candle_core::Device::new_metal(ordinal)?)
}

#[doc(hidden)]
pub use dispatch::{Routes, TableRow};

/// Which route ops take, for `candle-mps doctor`.
#[doc(hidden)]
pub fn routes() -> Routes {
    Routes::now()
}

/// Whether kernels for bf16 compile on this device, for `candle-mps doctor`.
#[doc(hidden)]
pub fn knows_bf16(device: &candle_core::MetalDevice) -> bool {
    library::abilities(device).bf16
}

/// The error for more rows or columns than a kernel counts.
fn too_long(layout: &candle_core::Layout) -> Error {
    Error::TooLong {
        shape: layout.shape().clone(),
    }
}
