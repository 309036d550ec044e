//! `cargo xtask test drop-in`: what `candle-mps patch` does to a user's program. `xtask/drop-in`, which
//! runs models of candle-transformers as they are published, is copied to `target/drop-in` twice; one
//! copy is patched, by the command itself, and has to give what the other one gives, with a gradient
//! for every weight. Then candle-nn's own tests are run on the patched candle-nn.

use std::fs;
use std::path::{Path, PathBuf};

use toml::Table;

use crate::bindings::{Fnv, copy_folder, write};
use crate::counts::Counts;
use crate::error::Error;
use crate::layout::{Layout, read_toml};
use crate::process::{Step, heading};
use crate::program::{Environment, Program};
use crate::skips::Skips;
use crate::suites::{self, Copied};

/// Where `candle-mps patch` leaves the copy, in the user's workspace.
const COPY: &str = "candle-mps-patch/candle-nn";

/// How candle-nn's tests are built. Its benchmarks and examples are not.
const CANDLE_NN: Copied = Copied {
    name: "candle-nn",
    added: "",
    removed: &["criterion", "clap"],
};

/// A benchmark among candle-nn's tests: it runs for minutes and asserts nothing.
const BENCHMARK: &str = "candle-nn/bf16_conv_bench";

/// What was tested.
pub struct Score {
    pub models: Counts,
    /// candle-nn's own tests. Those that are skipped are named in `xtask/skips`.
    pub tests: Counts,
}

impl Score {
    pub fn sum(&self) -> Counts {
        self.models + self.tests
    }

    /// The last line.
    pub fn line(&self) -> String {
        let of = |counts: Counts| format!("{} of {}", counts.passed, counts.passed + counts.failed);
        let (models, tests) = (of(self.models), of(self.tests));
        format!("drop-in: {models} models, {tests} candle-nn tests")
    }
}

/// Runs both halves. The filters choose among models and tests alike.
pub fn run(layout: &Layout, filters: &[String]) -> Result<Score, Error> {
    let skips = Skips::read(&layout.root().join("xtask/skips/drop-in.toml"))?;
    let folder = layout.root().join("target/drop-in");
    heading("drop-in: a program before and after `candle-mps patch`");
    prepare(layout, &folder)?;
    let outputs = folder.join("stock.safetensors");
    program(&folder, "stock", &[])
        .args([&outputs])
        .run()
        .map_err(|error| fresh(&folder, error))?;
    let models = program(&folder, "patched", &["--features=patched"])
        .args([&outputs])
        .args(filters)
        .count()?;
    heading("drop-in: candle-nn's own tests, patched");
    let suite = folder.join("suite");
    let messages = cargo(&suite, &folder, "test")
        .args(["--no-run", "--lib", "--tests", "-p", CANDLE_NN.name])
        .args(["--message-format=json-render-diagnostics"])
        .output()?;
    let programs = Program::all(&messages);
    let none = Environment::new();
    let mut tests = suites::judge(&programs, &skips, filters, &none, |program, _| {
        program != BENCHMARK
    })?;
    println!("{BENCHMARK}: a benchmark without assertions, not run");
    if programs.is_empty() {
        println!("candle-nn: its tests were not built");
        tests.failed += 1;
    }
    if tests.ignored > 0 {
        println!(
            "candle-nn: {} tests skipped, see xtask/skips/drop-in.toml",
            tests.ignored
        );
    }
    Ok(Score { models, tests })
}

/// The program in one of the copies.
fn program(folder: &Path, copy: &str, options: &[&str]) -> Step {
    cargo(&folder.join(copy), folder, "run")
        .args(["--quiet"])
        .args(options)
        .args(["--"])
}

/// Cargo in one of the workspaces, which share what they build.
fn cargo(workspace: &Path, folder: &Path, command: &str) -> Step {
    Step::cargo(workspace)
        .args([command, "--target-dir"])
        .args([folder.join("target")])
}

/// Makes the next run start anew.
fn fresh(folder: &Path, error: Error) -> Error {
    // If it cannot be removed, nor could it be written.
    let _ = fs::remove_file(folder.join("stamp"));
    error
}

/// Brings the workspaces up to date. What they have built is kept.
fn prepare(layout: &Layout, folder: &Path) -> Result<(), Error> {
    let (stamp, state) = (folder.join("stamp"), state(layout)?);
    if fs::read_to_string(&stamp).is_ok_and(|text| text == state) {
        return Ok(());
    }
    let source = layout.root().join("xtask/drop-in");
    let ops = layout.root().join("crates/candle-mps-ops");
    for name in ["stock", "patched", "suite"] {
        let copy = folder.join(name);
        if copy.exists() {
            fs::remove_dir_all(&copy).map_err(Error::file("remove", &copy))?;
        }
    }
    for name in ["stock", "patched"] {
        let copy = folder.join(name);
        copy_folder(&source.join("src"), &copy.join("src"))?;
        let mut manifest = read_toml(&source.join("Cargo.toml"))?;
        if let Some(path) = manifest
            .get_mut("dependencies")
            .and_then(|it| it.get_mut("candle-mps-ops")?.get_mut("path"))
        {
            *path = ops.to_string_lossy().into_owned().into();
        }
        write(&copy.join("Cargo.toml"), &manifest.to_string())?;
        copy_lock(layout.root(), &copy)?;
    }
    let patched = folder.join("patched");
    Step::cargo(layout.root())
        .args(["run", "--quiet", "-p", "candle-mps-cli", "--"])
        .args(["patch", "--manifest-path"])
        .args([patched.join("Cargo.toml")])
        .run()?;
    // As deep in the tree as the copy, whose way to candle-mps-ops is relative.
    let suite = folder.join("suite");
    let copy = suite.join(COPY);
    copy_folder(&patched.join(COPY), &copy)?;
    let manifest = copy.join("Cargo.toml");
    write(&manifest, &CANDLE_NN.manifest(read_toml(&manifest)?))?;
    let members = format!("[workspace]\nresolver = \"2\"\nmembers = [{COPY:?}]\n");
    let mut workspace: Table = members.parse().unwrap_or_default();
    // Built as the program is, so that what both need is built once.
    let mut program = read_toml(&source.join("Cargo.toml"))?;
    workspace.extend(program.remove_entry("profile"));
    let workspace = workspace.to_string();
    write(&suite.join("Cargo.toml"), &workspace)?;
    copy_lock(&patched, &suite)?;
    // Last, so that an interrupted run is repeated.
    write(&stamp, &state)
}

/// The same versions as everywhere; cargo adds and leaves out what it must.
fn copy_lock(from: &Path, to: &Path) -> Result<(), Error> {
    let lock = from.join("Cargo.lock");
    fs::copy(&lock, to.join("Cargo.lock")).map_err(Error::file("copy", &lock))?;
    Ok(())
}

/// What the workspaces are made from.
fn state(layout: &Layout) -> Result<String, Error> {
    let mut files = vec![
        layout.root().join("Cargo.lock"),
        layout.root().join("xtask/drop-in/Cargo.toml"),
    ];
    files.extend(files_in(&layout.root().join("xtask/drop-in/src"))?);
    files.extend(files_in(
        &layout.root().join("crates/candle-mps-cli/src/patch"),
    )?);
    let mut hash = Fnv::default();
    hash.write(include_bytes!("drop_in.rs"));
    for file in &files {
        hash.write(&fs::read(file).map_err(Error::file("read", file))?);
    }
    Ok(format!("{:016x}\n", hash.0))
}

/// The files of a folder and of those in it, in alphabetical order.
fn files_in(folder: &Path) -> Result<Vec<PathBuf>, Error> {
    let read = fs::read_dir(folder).map_err(Error::file("read", folder))?;
    let mut paths: Vec<_> = read.filter_map(Result::ok).map(|it| it.path()).collect();
    paths.sort();
    let mut files = Vec::new();
    for path in paths {
        if path.is_dir() {
            files.extend(files_in(&path)?);
        } else {
            files.push(path);
        }
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_line_has_both_halves() {
        let counts = |passed, failed, ignored| Counts {
            passed,
            failed,
            ignored,
        };
        let score = Score {
            models: counts(9, 1, 0),
            tests: counts(80, 0, 3),
        };
        assert_eq!(
            score.line(),
            "drop-in: 9 of 10 models, 80 of 80 candle-nn tests"
        );
        assert_eq!(score.sum(), counts(89, 1, 3));
    }

    #[test]
    fn the_state_follows_the_program_and_the_patch() {
        let layout = Layout::find().unwrap();
        assert_eq!(state(&layout).unwrap(), state(&layout).unwrap());
        let files = files_in(&layout.root().join("crates/candle-mps-cli/src/patch")).unwrap();
        assert!(
            files
                .iter()
                .any(|it| it.ends_with("candle_nn/redirects.toml"))
        );
    }
}
