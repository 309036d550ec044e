//! What a source has in it: its kernels with their arguments, and its function constants. Making a [`Library`] runs
//! the preprocessor and the rewriter only; a kernel is compiled when [`Library::build`] is asked for it.

/// A kernel, as the table of its library describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Function {
    /// Its `host_name`, or else its own.
    pub name: String,
    pub arguments: Vec<Argument>,
    pub line: u32,
}

/// One argument of a kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Argument {
    pub name: String,
    pub kind: ArgumentKind,
    /// As written, such as `device const float *`.
    pub type_name: String,
    /// A device buffer without `const`.
    pub writable: bool,
    pub line: u32,
    /// The name in `[[function_constant(name)]]`.
    pub constant: Option<String>,
}

/// Where the value of an argument comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ArgumentKind {
    /// `[[buffer(index)]]`, given or assigned.
    Buffer(u32),
    /// `[[threadgroup(index)]]`, given or assigned.
    Threadgroup(u32),
    Builtin(Builtin),
}

/// What a kernel can ask of the thread that runs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Builtin {
    ThreadPositionInGrid,
    ThreadPositionInThreadgroup,
    ThreadgroupPositionInGrid,
    ThreadsPerThreadgroup,
    DispatchThreadsPerThreadgroup,
    ThreadgroupsPerGrid,
    ThreadsPerGrid,
    ThreadIndexInThreadgroup,
    ThreadIndexInSimdgroup,
    SimdgroupIndexInThreadgroup,
    SimdgroupsPerThreadgroup,
    ThreadsPerSimdgroup,
    ThreadIndexInQuadgroup,
    QuadgroupIndexInThreadgroup,
    QuadgroupsPerThreadgroup,
}

/// A function constant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Constant {
    pub name: String,
    /// As written.
    pub type_name: String,
    /// None: it is derived from others.
    pub index: Option<u32>,
    pub line: u32,
}

/// What is checked while a kernel runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Checks {
    /// Races, bounds, uninitialised reads, divergence.
    pub races: bool,
    /// A barrier orders only the memory that its `mem_flags` name.
    pub strict_flags: bool,
}
