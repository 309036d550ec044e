//! Why `candle-mps verify` could not begin, or could not write its file. What goes wrong within it is a row
//! of the table.

use crate::results;

/// What stopped the command.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// `--ops` names something else than an op.
    #[error("there is no op `{name}` to verify; --ops takes some of: {known}")]
    UnknownOp { name: String, known: String },

    /// The Metal device was asked for in a build that cannot look for one.
    #[cfg(not(feature = "metal"))]
    #[error(
        "this build has no Metal, so there is no Metal device to verify: on a Mac, run `cargo install \
         candle-mps-cli --features metal`, or verify the processor with --device cpu"
    )]
    NoMetal,

    /// There is no Metal device, or Candle cannot open it.
    #[cfg(feature = "metal")]
    #[error(
        "cannot verify on Metal: {source}. `candle-mps doctor` shows what there is; --device cpu verifies \
         the processor"
    )]
    NoDevice { source: candle_mps::Error },

    /// The results could not be kept.
    #[error(transparent)]
    Results(#[from] results::Error),
}

impl Error {
    /// Whether the command line was wrong, rather than the machine.
    pub fn is_usage(&self) -> bool {
        matches!(self, Self::UnknownOp { .. })
    }
}
