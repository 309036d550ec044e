//! How an op reaches the GPU: `operand` turns Candle's strides into MPS matrices without a copy,
//! `stream` orders the work with Candle's own, and `rows` drives the kernels that work row by row.
//! For those who encode kernels themselves there is [`wrap`].

pub(crate) mod operand;
pub(crate) mod rows;
pub(crate) mod stream;
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
