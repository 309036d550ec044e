//! What can go wrong between a source and a finished dispatch, each with the file, the line and the remedy where there
//! is one. The text is what an `NSError` or a validation failure says.

use std::{fmt, io, path::PathBuf};

/// Why a source did not become a kernel, or a kernel did not run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No compiler that can do it is on this machine.
    #[error(
        "no compiler for Metal Shading Language: {tried}. Install clang 16 or newer \
         (`apt-get install clang-19`), or name one in METAL_SIM_CLANG"
    )]
    NoCompiler { tried: String },
    /// The compiler named in METAL_SIM_CLANG is not clang, or too old.
    #[error(
        "{path} cannot compile Metal Shading Language: {why}. Name clang 16 or newer in METAL_SIM_CLANG \
         (`apt-get install clang-19`)"
    )]
    UnusableCompiler { path: String, why: String },
    /// The compiler refused the source.
    #[error("{}", render(messages))]
    Compile { messages: Vec<Message> },
    /// The source has something that this crate does not understand, and so does not compile.
    #[error("{place}: error: {what}; {remedy}")]
    Unsupported {
        place: String,
        what: String,
        remedy: String,
    },
    /// There is no kernel of this name in the library.
    #[error("no kernel `{name}` in {library}{}", nearest.as_ref().map(|n| format!("; did you mean `{n}`?")).unwrap_or_default())]
    NoFunction {
        name: String,
        library: String,
        nearest: Option<String>,
    },
    /// A function constant has no value, and the kernel has an argument or a line that needs it.
    #[error(
        "function constant `{name}` (index {index}) has no value; set it before kernel `{kernel}` is made"
    )]
    MissingConstant {
        name: String,
        index: u32,
        kernel: String,
    },
    /// A value was given for a function constant that the library does not have, or of another type.
    #[error("function constant {constant}: {why}")]
    BadConstant { constant: String, why: String },
    /// An argument that the kernel may use has no buffer.
    #[error(
        "kernel `{kernel}`: argument `{argument}` [[buffer({index})]] is not bound; set it before the dispatch"
    )]
    UnboundArgument {
        kernel: String,
        argument: String,
        index: u32,
    },
    /// The bound buffer is smaller than what the argument is declared to be.
    #[error(
        "kernel `{kernel}`: argument `{argument}` [[buffer({index})]] needs {needed} bytes, the buffer has {length}; \
         bind a larger one"
    )]
    SmallBuffer {
        kernel: String,
        argument: String,
        index: u32,
        needed: usize,
        length: usize,
    },
    /// `[[threadgroup(index)]]` without a length.
    #[error(
        "kernel `{kernel}`: threadgroup argument `{argument}` [[threadgroup({index})]] has no memory; \
         set its length before the dispatch"
    )]
    NoThreadgroupMemory {
        kernel: String,
        argument: String,
        index: u32,
    },
    /// Threadgroup arguments and variables together exceed what a threadgroup may have.
    #[error(
        "kernel `{kernel}`: {needed} bytes of threadgroup memory ({arguments} of arguments, the rest of variables), \
         at most {limit} are there; use less"
    )]
    ThreadgroupMemory {
        kernel: String,
        arguments: usize,
        needed: usize,
        limit: usize,
    },
    /// A kernel accessed memory that is not there, overflowed its stack or divided integers by zero.
    #[error(
        "kernel `{kernel}` {what} at {place}; run it with race checks, which name the buffer and the offset"
    )]
    Fault {
        kernel: String,
        what: String,
        place: String,
    },
    /// A kernel waits for memory that no thread is left to change.
    #[error(
        "kernel `{kernel}` waits forever at {place}: it repeats an atomic operation, and all other threads ended or wait \
         too; threadgroups do not wait for each other"
    )]
    Stuck { kernel: String, place: String },
    /// More threads in a threadgroup than the pipeline allows.
    #[error(
        "kernel `{kernel}`: {threads} threads in a threadgroup, at most {limit} are allowed; use smaller threadgroups"
    )]
    ThreadgroupTooLarge {
        kernel: String,
        threads: u64,
        limit: u32,
    },
    /// The grid has nothing in it, or more than can be numbered.
    #[error("kernel `{kernel}`: {why}")]
    BadGrid { kernel: String, why: String },
    /// A compiled library could not be loaded, or is not one.
    #[error("{}: {why}; remove the file, it is made anew", path.display())]
    Load { path: PathBuf, why: String },
    /// The cache folder or the compiler could not be used.
    #[error("{doing}: {error}")]
    Io { doing: String, error: io::Error },
}

/// One message of the compiler.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// As the library was named, or a header of the prelude.
    pub file: String,
    pub line: u32,
    pub column: u32,
    pub severity: Severity,
    pub text: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    Error,
    Warning,
    /// Belongs to the message before.
    Note,
}

impl fmt::Display for Message {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let severity = match self.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
            Severity::Note => "note",
        };
        write!(
            f,
            "{}:{}:{}: {severity}: {}",
            self.file, self.line, self.column, self.text
        )
    }
}

fn render(messages: &[Message]) -> String {
    messages
        .iter()
        .map(Message::to_string)
        .collect::<Vec<_>>()
        .join("\n")
}

impl Error {
    /// An I/O error, and what was being done.
    pub(crate) fn io(doing: impl Into<String>, error: io::Error) -> Self {
        Self::Io {
            doing: doing.into(),
            error,
        }
    }
}
