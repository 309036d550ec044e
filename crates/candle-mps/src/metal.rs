//! Metal devices for Candle.

pub use candle_mps_ops::metal::device;
