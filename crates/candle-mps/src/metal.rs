//! Metal devices for Candle.

pub use candle_mps_ops::metal::device;
#[doc(hidden)]
pub use candle_mps_ops::metal::{Routes, TableRow, knows_bf16, routes};
