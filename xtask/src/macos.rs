//! `cargo xtask test macos`: the GPU path type-checked and linted for macOS, on any machine.
//!
//! The simulator executes the code but replaces what is behind it; this check compiles the code
//! against what a Mac has. The compiler may be of another version than the one in use, so its new
//! warnings are shown, and only the lints of `[workspace.lints]` fail the check.

use toml::{Table, Value};

use crate::apple::{AppleCompiler, TARGET};
use crate::error::Error;
use crate::layout::{Layout, read_toml};
use crate::process::{Step, heading};

/// What clippy puts between the arguments in `CLIPPY_ARGS`.
const SEPARATOR: &str = "__CLIPPY_HACKERY__";

/// Checks every target of the crates that have a GPU path.
pub fn run(layout: &Layout) -> Result<(), Error> {
    heading("macos: a compiler for macOS");
    let compiler = AppleCompiler::find(layout)?;
    heading("macos: the crates with a GPU path");
    let manifest = read_toml(&layout.root().join("Cargo.toml"))?;
    Step::cargo(layout.root())
        .args([
            "check",
            "--all-targets",
            "--features",
            "metal,candle-mps-cpu/accelerate",
            "--target",
            TARGET,
        ])
        .args(["--target-dir", "target/macos-check"])
        .args(layout.under_test())
        .args(compiler.arguments)
        .envs(compiler.variables)
        .envs([("CLIPPY_ARGS", clippy_arguments(&manifest))])
        .run()
}

/// Denies each lint that `[workspace.lints]` sets to warn or more.
fn clippy_arguments(manifest: &Table) -> String {
    let mut arguments = String::new();
    for lint in denied(manifest) {
        for part in ["-D", &lint] {
            arguments.push_str(part);
            arguments.push_str(SEPARATOR);
        }
    }
    arguments
}

fn denied(manifest: &Table) -> Vec<String> {
    let lints = manifest
        .get("workspace")
        .and_then(|workspace| workspace.get("lints"));
    let mut denied = Vec::new();
    for (tool, lints) in lints.and_then(Value::as_table).into_iter().flatten() {
        for (lint, setting) in lints.as_table().into_iter().flatten() {
            let level = setting.get("level").unwrap_or(setting).as_str();
            if level.is_some_and(|level| level != "allow") {
                denied.push(match tool.as_str() {
                    "rust" => lint.clone(),
                    tool => format!("{tool}::{lint}"),
                });
            }
        }
    }
    denied
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lints_that_are_not_allowed_are_denied() {
        let manifest: Table = "
            [workspace.lints.rust]
            missing_docs = 'warn'
            unsafe_code = 'deny'
            [workspace.lints.clippy]
            all = { level = 'deny', priority = -1 }
            multiple_unsafe_ops_per_block = 'allow'"
            .parse()
            .unwrap();
        let mut lints = denied(&manifest);
        lints.sort();
        assert_eq!(lints, ["clippy::all", "missing_docs", "unsafe_code"]);
    }

    #[test]
    fn arguments_are_in_the_form_that_clippy_reads() {
        let manifest: Table = "[workspace.lints.clippy]\nall = 'warn'".parse().unwrap();
        let arguments = clippy_arguments(&manifest);
        assert_eq!(
            arguments,
            "-D__CLIPPY_HACKERY__clippy::all__CLIPPY_HACKERY__"
        );
        assert_eq!(clippy_arguments(&Table::new()), "");
    }
}
