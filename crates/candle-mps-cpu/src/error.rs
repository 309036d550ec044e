//! What the ops refuse, as values.
//!
//! Every variant names the op and the argument, what it got, and what would be accepted.

/// The result of a fallible call in this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Everything that can go wrong in a kernel.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A slice does not have the number of elements that its shape asks for.
    #[error(
        "{op}: `{argument}` has {got} elements, {expected} are needed: pass a slice of exactly \
         {expected} elements"
    )]
    Length {
        /// The op.
        op: &'static str,
        /// Which argument.
        argument: &'static str,
        /// How many elements it should have.
        expected: usize,
        /// How many it has.
        got: usize,
    },

    /// A layout reaches past the end of its slice.
    #[error(
        "{op}: the layout of `{argument}` reaches element {last}, the slice has {len}: pass the \
         whole storage, or a smaller offset or shape"
    )]
    OutOfBounds {
        /// The op.
        op: &'static str,
        /// Which argument.
        argument: &'static str,
        /// The largest index that the layout reaches.
        last: usize,
        /// The length of the slice.
        len: usize,
    },

    /// Dimensions or strides whose products do not fit the address space.
    #[error("{argument}: {dims:?} is too large to address: split the work")]
    SizeOverflow {
        /// Which argument.
        argument: &'static str,
        /// The dimensions or strides.
        dims: Vec<usize>,
    },

    /// Not as many strides as dimensions.
    #[error("layout: {strides} strides for {dims} dimensions: give one stride for each dimension")]
    StrideCount {
        /// How many dimensions.
        dims: usize,
        /// How many strides.
        strides: usize,
    },

    /// A scalar where the op needs at least some dimensions.
    #[error("{op}: `{argument}` has rank {got}, at least {least} is needed: reshape it")]
    Rank {
        /// The op.
        op: &'static str,
        /// Which argument.
        argument: &'static str,
        /// The smallest rank that is accepted.
        least: usize,
        /// The rank.
        got: usize,
    },

    /// An axis that the operand does not have.
    #[error("{op}: axis {axis} of a tensor of rank {rank}: pass an axis below {rank}")]
    Axis {
        /// The op.
        op: &'static str,
        /// The axis that was asked for.
        axis: usize,
        /// The operand's rank.
        rank: usize,
    },

    /// Two operands whose dimensions must agree do not.
    #[error(
        "{op}: `{argument}` is {got:?}, {expected:?} is needed: reshape it, or broadcast it with \
         strides of 0"
    )]
    Dims {
        /// The op.
        op: &'static str,
        /// Which argument.
        argument: &'static str,
        /// The dimensions that are needed.
        expected: Vec<usize>,
        /// The dimensions that came.
        got: Vec<usize>,
    },

    /// An option outside its range.
    #[error("{op}: `{argument}` is {got}: {remedy}")]
    Option {
        /// The op.
        op: &'static str,
        /// Which option.
        argument: &'static str,
        /// Its value.
        got: f64,
        /// What is accepted.
        remedy: &'static str,
    },

    /// An index (a class, a position) beyond what it points into.
    #[error("{op}: `{argument}`[{at}] is {got}: indices must be below {limit}")]
    Index {
        /// The op.
        op: &'static str,
        /// Which argument holds the indices.
        argument: &'static str,
        /// The place of the index in it.
        at: usize,
        /// The index.
        got: usize,
        /// The number of things that can be pointed to.
        limit: usize,
    },

    /// `CANDLE_MPS_ISA` asks for an instruction set that this machine does not have.
    #[error(
        "CANDLE_MPS_ISA={wanted}, but this machine has {available}: unset it, or name one of these"
    )]
    IsaMissing {
        /// The value of the variable.
        wanted: String,
        /// The instruction sets of this machine.
        available: String,
    },
}
