//! What can go wrong, as values.
//!
//! A precondition that MPS enforces with an assertion ends the process: it is not an Objective-C
//! exception and cannot be caught. So every such precondition is checked here first, and each
//! violation has a variant that names the operation, the operand, the sizes and the way out.

use crate::data_type::DataType;

/// The result of a fallible call in this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Everything that this crate refuses or that Metal reports.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// [`Device::system_default`](crate::Device::system_default) found no GPU.
    #[error("this system has no Metal device: Metal needs macOS or iOS on supported hardware")]
    NoDevice,

    /// A kernel was built for a GPU that `MPSSupportsMTLDevice` turns down.
    #[error(
        "{op}: MPS does not support the GPU {device:?}: pick one of Device::all() whose \
         supports_mps() is true"
    )]
    UnsupportedDevice {
        /// The kernel that was to be built.
        op: &'static str,
        /// The name of the GPU.
        device: String,
    },

    /// Operands, kernel and command buffer do not all belong to one GPU.
    #[error(
        "{op}: {operand} is on GPU {got:#x} but the command buffer is on GPU {expected:#x}: \
         create both from the same Device"
    )]
    DeviceMismatch {
        /// The operation that was to be encoded.
        op: &'static str,
        /// Which operand (or the kernel) is elsewhere.
        operand: &'static str,
        /// Registry id of the command buffer's GPU.
        expected: u64,
        /// Registry id of the operand's GPU.
        got: u64,
    },

    /// A size of zero, which Metal or MPS answers by ending the process.
    #[error("{op}: {dimension} is 0, which needs no GPU work: treat the empty case without a call")]
    ZeroSize {
        /// The constructor or kernel that was called.
        op: &'static str,
        /// Which size is zero.
        dimension: &'static str,
    },

    /// Sizes whose product does not fit the address space.
    #[error("{what} is too large to address: split the work into smaller matrices")]
    SizeOverflow {
        /// What was being computed.
        what: &'static str,
    },

    /// A buffer longer than the device allows.
    #[error("a buffer of {bytes} bytes exceeds the device's limit of {max}: split it")]
    BufferTooLarge {
        /// The length that was asked for.
        bytes: usize,
        /// `maxBufferLength` of the device.
        max: usize,
    },

    /// Metal returned nil for an object that it was asked to create.
    #[error("Metal could not create a {what}: the system is out of memory or the GPU is gone")]
    CreationFailed {
        /// The kind of object.
        what: &'static str,
    },

    /// 64 command buffers of one queue are open; Metal would block on the 65th for ever.
    #[error("{open} command buffers of this queue are still open: commit or drop one first")]
    TooManyCommandBuffers {
        /// How many are open.
        open: usize,
    },

    /// The distance between rows is smaller than a row, or no multiple of the element size.
    #[error(
        "row_bytes {row_bytes} does not fit rows of {columns} {data_type} elements: it must be a \
         multiple of {element} and at least {needed}",
        element = data_type.size_in_bytes()
    )]
    RowBytes {
        /// The stride that was given.
        row_bytes: usize,
        /// The number of columns.
        columns: usize,
        /// The element type.
        data_type: DataType,
        /// Bytes of one row without padding.
        needed: usize,
    },

    /// The distance between the matrices of a batch is unusable.
    #[error(
        "matrix_bytes {matrix_bytes} does not fit a batch of {matrices}: it must be a multiple of \
         row_bytes ({row_bytes}) and at least {needed}"
    )]
    MatrixBytes {
        /// The stride that was given.
        matrix_bytes: usize,
        /// The number of matrices.
        matrices: usize,
        /// The row stride it must be a multiple of.
        row_bytes: usize,
        /// Bytes of one matrix with its padding.
        needed: usize,
    },

    /// A matrix does not start at a whole element.
    #[error("offset {offset} is not a multiple of the {element}-byte element: align it")]
    Misaligned {
        /// The byte offset that was given.
        offset: usize,
        /// The size of one element.
        element: usize,
    },

    /// A matrix or a copy ends behind the end of its buffer.
    #[error(
        "{what} needs bytes {offset}..{end} of a buffer that has {length}: enlarge the buffer, or \
         lower the offset, the strides or the sizes",
        end = offset.saturating_add(*bytes)
    )]
    OutOfBounds {
        /// What was placed.
        what: &'static str,
        /// Its first byte.
        offset: usize,
        /// How many bytes it spans.
        bytes: usize,
        /// Length of the buffer.
        length: usize,
    },

    /// A view reaches beyond the matrix that it is taken of.
    #[error("{dimension} {start}..{end} are not all inside the matrix, which has {available}")]
    ViewOutOfRange {
        /// `rows`, `columns` or `matrices`.
        dimension: &'static str,
        /// First index of the view.
        start: usize,
        /// One past its last index.
        end: usize,
        /// How many there are.
        available: usize,
    },

    /// A slice does not have one element per matrix element.
    #[error("the slice has {got} elements, the matrix {expected}: pass exactly that many")]
    Length {
        /// Elements of the matrix.
        expected: usize,
        /// Elements of the slice.
        got: usize,
    },

    /// The Rust type of a slice is not the element type of the matrix.
    #[error("the matrix holds {matrix} but was accessed as {host}: use the type it was made with")]
    HostType {
        /// Element type of the matrix.
        matrix: DataType,
        /// Element type that was asked for.
        host: DataType,
    },

    /// MPS has no such data type.
    #[error("MPS data type {raw:#x} is not an element type of matrices")]
    UnknownDataType {
        /// The value of `MPSDataType`.
        raw: u32,
    },

    /// MPS has no kernel for these element types.
    #[error("{op}: {operands} is not supported by MPS: {remedy}")]
    DataTypes {
        /// The kernel.
        op: &'static str,
        /// Operands and their types, such as `left bf16, right bf16 -> result f32`.
        operands: String,
        /// What to do about it.
        remedy: &'static str,
    },

    /// An operand does not have the size that the kernel was built for.
    #[error(
        "{op}: {operand} has {got} {dimension}, the kernel needs {expected}: pass a matrix of that \
         size, or a sub_matrix of it"
    )]
    Dimension {
        /// The kernel.
        op: &'static str,
        /// Which operand.
        operand: &'static str,
        /// `rows` or `columns`, as stored.
        dimension: &'static str,
        /// What the kernel needs.
        expected: usize,
        /// What the operand has.
        got: usize,
    },

    /// Operands hold different numbers of matrices.
    #[error(
        "{op}: {operand} holds {got} matrices, the result {expected}: MPS does not broadcast, \
         encode once per matrix with Matrix::matrix(i)"
    )]
    Batch {
        /// The kernel.
        op: &'static str,
        /// Which operand.
        operand: &'static str,
        /// Matrices of the result.
        expected: usize,
        /// Matrices of the operand.
        got: usize,
    },

    /// The result shares memory with an input, for which MPS defines no outcome.
    #[error("{op}: the result overlaps {operand} in memory: give the result memory of its own")]
    Overlap {
        /// The kernel or copy.
        op: &'static str,
        /// The input that it overlaps.
        operand: &'static str,
    },

    /// The result is a matrix over memory that may only be read.
    #[error("{op}: {operand} was made read-only: write into a matrix of your own")]
    ReadOnly {
        /// The kernel or copy.
        op: &'static str,
        /// The operand.
        operand: &'static str,
    },

    /// Even one row or column of the product is in the range where MPS computes wrong results.
    #[error(
        "matrix multiplication {rows}x{columns} with inner size {inner}: MPS returns wrong results \
         at this size and no tiling avoids it: split the inner dimension and add with beta(1.0)"
    )]
    ProductTooLarge {
        /// Rows of the result.
        rows: usize,
        /// Columns of the result.
        columns: usize,
        /// Inner dimension.
        inner: usize,
    },

    /// Two operations on one command buffer depend on each other through a buffer for which Metal
    /// keeps no order (hazard-untracked, as Candle's are).
    #[error(
        "{op}: {operand} depends on an earlier operation of this command buffer through an \
         untracked buffer: commit and wait, then continue on a new command buffer"
    )]
    Unordered {
        /// The operation that came second.
        op: &'static str,
        /// The operand that links the two.
        operand: &'static str,
    },

    /// The memory is in use by someone else.
    #[error("{op}: {operand} is in use: {by}")]
    Busy {
        /// What was attempted.
        op: &'static str,
        /// On which operand.
        operand: &'static str,
        /// Who holds it, and how it becomes free.
        by: Holder,
    },

    /// A host view of memory that the CPU cannot see, or that this crate did not allocate.
    #[error("no host view of this buffer: {why}")]
    NotHostVisible {
        /// The reason, and what to do instead.
        why: HostAccess,
    },

    /// A copy that does not start or end on a multiple of four bytes.
    #[error("copy: {what} {value} is not a multiple of 4, which macOS requires")]
    CopyAlignment {
        /// Which of the numbers.
        what: &'static str,
        /// Its value.
        value: usize,
    },

    /// The GPU did not complete a command buffer. Its results are undefined.
    #[error("the GPU reported error {code}: {description}")]
    CommandBufferFailed {
        /// `MTLCommandBufferError`: 2 timeout, 3 page fault, 8 out of memory, 9 invalid resource.
        code: isize,
        /// Metal's own words.
        description: String,
    },
}

/// Who holds a buffer, in [`Error::Busy`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Holder {
    /// Read views of the host.
    HostReads(usize),
    /// A write view of the host.
    HostWrite,
    /// A command buffer that is still being encoded.
    OpenCommandBuffer,
    /// A command buffer that the GPU has not completed yet.
    RunningCommandBuffer,
}

impl std::fmt::Display for Holder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::HostReads(count) => write!(f, "{count} host read view(s) exist: drop them first"),
            Self::HostWrite => f.write_str("a host write view exists: drop it first"),
            Self::OpenCommandBuffer => {
                f.write_str("an open command buffer uses it: commit that one and wait, or drop it")
            }
            Self::RunningCommandBuffer => {
                f.write_str("a committed command buffer uses it: wait on its Pending first")
            }
        }
    }
}

/// Why there is no host view, in [`Error::NotHostVisible`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum HostAccess {
    /// The buffer has private storage.
    Private,
    /// The buffer came from elsewhere, and others may be using its memory.
    Foreign,
}

impl std::fmt::Display for HostAccess {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let place = match self {
            Self::Private => "its storage is private to the GPU",
            Self::Foreign => "it was not allocated by this crate, whose owner may be using it",
        };
        write!(
            f,
            "{place}: copy it into a Storage::Shared buffer with CommandBuffer::copy"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The variants that a healthy machine with one GPU does not produce. All others are produced
    /// where they belong, or in the integration tests.
    #[test]
    fn rare_errors_say_what_to_do() {
        let cases = [
            (Error::NoDevice, "supported hardware"),
            (
                Error::UnsupportedDevice {
                    op: "softmax",
                    device: "GPU".into(),
                },
                "pick one of Device::all()",
            ),
            (
                Error::CreationFailed { what: "buffer" },
                "could not create a buffer",
            ),
            (
                Error::DeviceMismatch {
                    op: "softmax",
                    operand: "input",
                    expected: 1,
                    got: 2,
                },
                "create both from the same Device",
            ),
            (
                Error::CommandBufferFailed {
                    code: 2,
                    description: "timeout".into(),
                },
                "error 2: timeout",
            ),
        ];
        for (error, remedy) in cases {
            assert!(error.to_string().contains(remedy), "{error}");
        }
    }
}
