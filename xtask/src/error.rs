//! Everything that can stop a command before it has a result. A failing test is a result, not an
//! error.

use std::error::Error as _;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;

/// What stopped a command. Every message names the remedy where there is one.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A program could not be started, most often because it is not installed.
    #[error("cannot start `{program}`")]
    Start { program: String, source: io::Error },

    /// A program ran and failed; it has said why on the terminal.
    #[error("`{command}` failed ({status})")]
    Failed { command: String, status: ExitStatus },

    /// A file or folder could not be read, written, copied or removed.
    #[error("cannot {action} {path}")]
    File {
        action: &'static str,
        path: PathBuf,
        source: io::Error,
    },

    /// A manifest or a lock file is not the TOML that cargo writes.
    #[error("{path} is not the TOML expected there")]
    Toml {
        path: PathBuf,
        source: toml::de::Error,
    },

    /// `cargo metadata` printed something else than the JSON it documents.
    #[error("cannot read the output of `cargo metadata`")]
    Metadata { source: serde_json::Error },

    /// The root workspace does not depend on the bindings that the simulator is for.
    #[error("Cargo.lock has no {name}, whose version the simulator's bindings follow")]
    NoBindings { name: &'static str },

    /// Cargo resolved a binding crate to something else than was asked for.
    #[error("cargo found no source of {name} {version}; see docs/bindings.md")]
    BindingMissing { name: String, version: String },

    /// A binding crate no longer looks like the ones `patch` was written for.
    #[error(
        "{name} {version} has changed: expected exactly one line \
         `#[link(name = \"...\", kind = \"framework\")]`, in src/generated/mod.rs; found {found}. \
         Mend `guard` in xtask/src/patch.rs; docs/bindings.md says what to look at"
    )]
    BindingChanged {
        name: String,
        version: String,
        found: String,
    },

    /// A crate whose tests are wanted is not used by the simulator's workspace.
    #[error("sim/ uses no {name} from the registry, so there are no tests of it to run")]
    NoSuite { name: &'static str },

    /// The two workspaces are not in step; the differences, one a line.
    #[error("Cargo.toml or Cargo.lock differs from the one in sim/:\n{}", .differences.join("\n"))]
    Tables { differences: Vec<String> },

    /// No test ran, although the tests were built.
    #[error("no test ran; is there one whose name contains what follows `--`?")]
    NoTests,

    /// The simulator replaces Apple's runtime, so it cannot run where there is a real one.
    #[error("the simulator needs Linux; on a Mac run `cargo test --workspace --features metal`")]
    NotLinux,

    /// Programs of another machine are needed, and there is no Debian archive to take them from.
    #[error("cannot unpack {names}: {reason}. On a Debian machine: {remedy}; elsewhere: {instead}")]
    NoPackages {
        names: String,
        reason: String,
        remedy: String,
        instead: &'static str,
    },

    /// The sanitizer did not report a read behind the end of an allocation.
    #[error("AddressSanitizer is blind here: it let a read behind an allocation pass")]
    Blind,

    /// The browser ended without the picture or the text that it was asked for.
    #[error("{program} loaded {page} and gave no {wanted}; it said:\n{said}")]
    Browser {
        program: String,
        page: PathBuf,
        wanted: &'static str,
        said: String,
    },

    /// There is no fuzz target of that name.
    #[error("no fuzz target is called {name}; there are {known}")]
    NoTarget { name: String, known: String },
}

impl Error {
    /// Shows the error and what caused it on standard error.
    pub fn print(&self) {
        eprintln!("error: {self}");
        let mut cause = self.source();
        while let Some(error) = cause {
            eprintln!("  because: {error}");
            cause = error.source();
        }
    }

    /// For `map_err` after a file operation.
    pub fn file(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::File {
            action,
            path,
            source,
        }
    }
}
