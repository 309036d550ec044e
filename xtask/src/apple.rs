//! Finds a compiler that knows macOS. A toolchain with the target installed is used as it is; on
//! a Debian machine without one, Debian's own compiler, which builds the standard library as well.

use std::ffi::OsString;

use crate::debian::Compiler;
use crate::error::Error;
use crate::layout::Layout;

/// What is checked for.
pub const TARGET: &str = "aarch64-apple-darwin";

/// How to make cargo use the compiler.
pub struct AppleCompiler {
    pub arguments: &'static [&'static str],
    pub variables: Vec<(&'static str, OsString)>,
}

impl AppleCompiler {
    /// The installed toolchain if it can, Debian's compiler otherwise.
    pub fn find(layout: &Layout) -> Result<Self, Error> {
        const WRAPPER: &str = "RUSTC_WORKSPACE_WRAPPER";
        let Some(debian) = Compiler::find(layout, TARGET)? else {
            return Ok(Self {
                arguments: &[],
                variables: vec![(WRAPPER, "clippy-driver".into())],
            });
        };
        let mut variables = debian.variables();
        variables.push((WRAPPER, debian.program("clippy-driver")));
        Ok(Self {
            arguments: Compiler::ARGUMENTS,
            variables,
        })
    }
}
