//! The ops of `candle-mps-ops` on the simulated GPU, as a table: an op is a line in `table`, and everything here that
//! runs ops takes them from there.
//!
//! | what | where |
//! |---|---|
//! | how much work an op gives the GPU, beside Candle's own | `cargo xtask bench gpu-work`, `tests/goals.rs` |
//! | whether its kernels race, and the detector misses each of their barriers | `tests/own_kernels.rs` |
//! | what a thousand calls leave behind | `tests/memory.rs` |
//! | what they answer when there is no memory, or a command buffer fails | `tests/inject.rs` |

mod candle;
pub mod goal;
mod layer;
pub mod measure;
pub mod operand;
pub mod sources;
pub mod table;

pub use goal::Goal;
pub use operand::{Operand, Scale};
pub use table::{Op, ops};
