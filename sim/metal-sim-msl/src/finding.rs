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

impl fmt::Display for FindingKind {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(match self {
            Self::Race => "race",
            Self::OutOfBounds => "access out of bounds",
            Self::Uninitialised => "read of uninitialised memory",
            Self::DivergentSimd => "divergent simd operation",
            Self::DivergentBarrier => "divergent barrier",
        })
    }
}

impl fmt::Display for ThreadName {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let [x, y, z] = self.in_threadgroup;
        let [gx, gy, gz] = self.threadgroup;
        let Self {
            simdgroup, lane, ..
        } = self;
        write!(
            f,
            "thread ({x},{y},{z}) of threadgroup ({gx},{gy},{gz}), simdgroup {simdgroup} lane {lane}"
        )
    }
}

impl fmt::Display for Access {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let Self {
            kind,
            thread,
            place,
            offset,
            size,
        } = self;
        let does = match kind {
            AccessKind::Read => "reads",
            AccessKind::Write => "writes",
            AccessKind::Atomic => "accesses by an atomic function",
            AccessKind::Meets => return write!(f, "{place}: {thread} waits"),
        };
        let bytes = if *size == 1 { "byte" } else { "bytes" };
        write!(
            f,
            "{place}: {thread} {does} {size} {bytes} at offset {offset}"
        )
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        writeln!(
            f,
            "{}: {} in kernel `{}`, {}",
            self.second.place, self.kind, self.kernel, self.what
        )?;
        for access in self.first.iter().chain([&self.second]) {
            writeln!(f, "  {access}")?;
        }
        write!(f, "  {}", self.missing)
    }
}
