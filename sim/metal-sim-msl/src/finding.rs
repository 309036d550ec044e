//! What the detector found: two accesses, and the ordering that is missing between them.

use std::fmt;

/// Something wrong with a kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    pub kind: FindingKind,
    pub kernel: String,
    /// The buffer by index and label, or the variable by name.
    pub what: String,
    /// The earlier of two accesses.
    pub first: Option<Access>,
    pub second: Access,
    /// The ordering that is absent, or the rule that is broken.
    pub missing: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FindingKind {
    Race,
    OutOfBounds,
    /// A read of threadgroup or private memory that nobody wrote.
    Uninitialised,
    /// A simd operation that some lanes of the simdgroup do not take part in, or at another place.
    DivergentSimd,
    /// A barrier that some threads of the threadgroup do not reach, or at another place.
    DivergentBarrier,
}

/// One access of one GPU thread.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Access {
    pub kind: AccessKind,
    pub thread: ThreadName,
    /// The `.metal` line, innermost last inlined first; the file as the library was named.
    pub place: Place,
    /// Bytes from the beginning of what was accessed; negative before it.
    pub offset: i64,
    pub size: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AccessKind {
    Read,
    Write,
    /// A read or a write by an atomic function.
    Atomic,
    /// No memory is accessed: a barrier, a simd operation.
    Meets,
}

/// A GPU thread, as Metal numbers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ThreadName {
    pub threadgroup: [u32; 3],
    pub in_threadgroup: [u32; 3],
    pub simdgroup: u32,
    pub lane: u32,
}

/// A line of source.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Place {
    pub file: String,
    pub line: u32,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{}:{}", self.file, self.line)
    }
}
