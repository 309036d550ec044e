//! The compiler of the simulator's kernels: clang on this machine, or else Debian's, unpacked.

use std::env;
use std::ffi::OsString;

use crate::debian::{CLANG, library_path};
use crate::error::Error;
use crate::layout::Layout;
use crate::process::Step;

/// Names the compiler to the simulator.
const VARIABLE: &str = "METAL_SIM_CLANG";

/// What it is called here, newest first; the simulator looks for these, too.
const NAMES: [&str; 4] = ["clang++-21", "clang++-20", "clang++-19", "clang++"];

/// What a program needs in its environment to find it: nothing where it is on the `PATH`.
#[derive(Clone, Debug, Default)]
pub struct Clang {
    program: Option<OsString>,
    libraries: Option<OsString>,
}

impl Clang {
    /// Finds or unpacks it.
    pub fn find(layout: &Layout) -> Result<Self, Error> {
        let starts = |name: &&str| {
            let version = Step::new(name, layout.root())
                .args(["--version"])
                .captured();
            version
                .is_ok_and(|it| it.status.success() && is_new(&String::from_utf8_lossy(&it.stdout)))
        };
        if env::var_os(VARIABLE).is_some() || NAMES.iter().any(starts) {
            return Ok(Self::default());
        }
        let folder = CLANG.unpacked()?;
        Ok(Self {
            program: Some(folder.join("usr/lib/llvm-19/bin/clang++").into()),
            libraries: Some(library_path(&[&folder])),
        })
    }

    /// The variable that names it.
    pub fn variable(&self) -> Option<(&'static str, OsString)> {
        Some((VARIABLE, self.program.clone()?))
    }

    /// Where its libraries are, and what was on that path before.
    pub fn libraries(&self) -> Option<OsString> {
        self.libraries
            .clone()
            .or_else(|| env::var_os("LD_LIBRARY_PATH"))
    }

    /// Both, for a program that needs nothing else.
    pub fn variables(&self) -> Vec<(&'static str, OsString)> {
        let libraries = self.libraries.clone().map(|path| ("LD_LIBRARY_PATH", path));
        self.variable().into_iter().chain(libraries).collect()
    }
}

/// Whether what clang says of itself is 19 or newer: what the tests were made with.
fn is_new(version: &str) -> bool {
    let number = version
        .split_once("clang version ")
        .and_then(|(_, rest)| rest.split('.').next()?.parse().ok());
    number.is_some_and(|major: u32| major >= 19)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_compilers_and_others_are_told_apart() {
        assert!(is_new("Debian clang version 19.1.7 (3~deb12u1)\nTarget: …"));
        assert!(!is_new("Debian clang version 14.0.6"));
        assert!(!is_new("g++ (Debian 12.2.0) 12.2.0"));
        assert!(!is_new("Apple clang version x"));
    }

    #[test]
    fn a_compiler_on_the_path_needs_no_variables() {
        assert!(Clang::default().variables().is_empty());
        let unpacked = Clang {
            program: Some("/a/clang++".into()),
            libraries: Some("/a/lib".into()),
        };
        let names: Vec<_> = unpacked.variables().iter().map(|(name, _)| *name).collect();
        assert_eq!(names, ["METAL_SIM_CLANG", "LD_LIBRARY_PATH"]);
    }
}
