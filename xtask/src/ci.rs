//! `cargo xtask ci`: everything a change must pass, step by step, with the time each took.

use std::fs;
use std::time::{Duration, Instant};

use crate::counts::Counts;
use crate::error::Error;
use crate::layout::Layout;
use crate::process::{Step, duration, heading};
use crate::test::Set;
use crate::{bindings, fuzz, tables};

type Action = fn(&Layout) -> Result<Counts, Error>;

/// A part of the run.
struct Part {
    name: &'static str,
    action: Action,
    /// The target folders that no later part uses.
    done_with: &'static [&'static str],
}

/// The parts in order: what fails fast comes first.
const PARTS: [Part; 18] = [
    part("format", |layout| format(layout).map(no_tests), &[]),
    part(
        "bindings",
        |layout| bindings::prepare(layout).map(|_| Counts::default()),
        &[],
    ),
    part(
        "workspaces in step",
        |layout| tables::check(layout).map(no_tests),
        &[],
    ),
    part("lints", |layout| lints(layout).map(no_tests), &[]),
    part(
        "lints with the GPU path",
        |layout| lints_gpu(layout).map(no_tests),
        &[],
    ),
    part(
        "documentation",
        |layout| documentation(layout).map(no_tests),
        &[],
    ),
    part("test fast", |layout| Ok(Set::Fast.run(layout, &[])), &[]),
    part(
        "test report",
        |layout| Ok(Set::Report.run(layout, &[])),
        &[],
    ),
    part(
        "test drop-in",
        |layout| Ok(Set::DropIn.run(layout, &[])),
        // This program is in the first. A file in use may go.
        &["target/debug", "target/drop-in"],
    ),
    part("test races", |layout| Ok(Set::Races.run(layout, &[])), &[]),
    part(
        "test hazards",
        |layout| Ok(Set::Hazards.run(layout, &[])),
        &[],
    ),
    part(
        "test sim",
        |layout| Ok(Set::Sim.run(layout, &[])),
        &["sim/target/debug"],
    ),
    part("test objc", |layout| Ok(Set::Objc.run(layout, &[])), &[]),
    part(
        "test candle",
        |layout| Ok(Set::Candle.run(layout, &[])),
        &["sim/target/shared"],
    ),
    part(
        "test arm",
        |layout| Ok(Set::Arm.run(layout, &[])),
        &["target/arm"],
    ),
    part(
        "test asan",
        |layout| Ok(Set::Asan.run(layout, &[])),
        &["target/asan"],
    ),
    part("fuzz", fuzz::each, &["fuzz/target"]),
    part(
        "test macos",
        |layout| Ok(Set::Macos.run(layout, &[])),
        &["target/macos-check"],
    ),
];

const fn part(name: &'static str, action: Action, done_with: &'static [&'static str]) -> Part {
    Part {
        name,
        action,
        done_with,
    }
}

/// The command: runs all parts, sums them, and says whether all is well.
///
/// With `frugal`, what a part built is removed when no later part uses it: all together would fill
/// a small disk.
pub fn run(layout: &Layout, frugal: bool) -> Result<bool, Error> {
    let mut rows = Vec::new();
    for (index, part) in PARTS.iter().enumerate() {
        heading(&format!("ci {}/{}: {}", index + 1, PARTS.len(), part.name));
        let start = Instant::now();
        let counts = Counts::of((part.action)(layout));
        rows.push((part.name, start.elapsed(), counts));
        if frugal {
            remove(layout, part.done_with)?;
        }
    }
    heading("ci: summary");
    for (name, time, counts) in &rows {
        println!("{}", row(name, *time, *counts));
    }
    let total: Counts = rows.iter().map(|(_, _, counts)| *counts).sum();
    println!("ci: {total}");
    Ok(total.failed == 0)
}

fn remove(layout: &Layout, folders: &[&str]) -> Result<(), Error> {
    let folders = folders.iter().map(|folder| layout.root().join(folder));
    for folder in folders.filter(|folder| folder.exists()) {
        fs::remove_dir_all(&folder).map_err(Error::file("remove", &folder))?;
    }
    Ok(())
}

fn row(name: &str, time: Duration, counts: Counts) -> String {
    let result = match counts {
        Counts {
            failed: 0,
            passed: 0,
            ..
        } => "ok".to_owned(),
        Counts {
            failed: 1,
            passed: 0,
            ..
        } => "FAILED".to_owned(),
        counts => counts.to_string(),
    };
    format!("   {name:<24} {:>14}   {result}", duration(time))
}

fn no_tests((): ()) -> Counts {
    Counts::default()
}

fn format(layout: &Layout) -> Result<(), Error> {
    Step::cargo(layout.root())
        .args(["fmt", "--all", "--check"])
        .run()?;
    for workspace in ["fuzz", "xtask/drop-in"] {
        Step::cargo(&layout.root().join(workspace))
            .args(["fmt", "--check"])
            .run()?;
    }
    // Not `--all`, which would take in the copies under `.bindings`.
    Step::cargo(&layout.sim())
        .args(["fmt", "--check"])
        .args(layout.simulator())
        .run()
}

fn lints(layout: &Layout) -> Result<(), Error> {
    Step::cargo(layout.root())
        .args([
            "clippy",
            "--workspace",
            "--all-targets",
            "--",
            "-D",
            "warnings",
        ])
        .run()
}

fn lints_gpu(layout: &Layout) -> Result<(), Error> {
    Step::cargo(&layout.sim())
        .args([
            "clippy",
            "--workspace",
            "--all-targets",
            "--features",
            "metal",
        ])
        .args(["--", "-D", "warnings"])
        .run()?;
    // `--all-targets` leaves out what is no part of `cargo test`.
    Step::cargo(&layout.sim())
        .args(["clippy", "-p", "metal-sim-ops", "--test", "own_kernels"])
        .args(["--", "-D", "warnings"])
        .run()
}

fn documentation(layout: &Layout) -> Result<(), Error> {
    let deny = [("RUSTDOCFLAGS", "-D warnings")];
    Step::cargo(layout.root())
        .args(["doc", "--workspace", "--no-deps"])
        .envs(deny)
        .run()?;
    // The pages that only exist with the GPU path.
    Step::cargo(&layout.sim())
        .args(["doc", "--workspace", "--no-deps", "--features", "metal"])
        .envs(deny)
        .run()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_line_up() {
        let counts = Counts {
            passed: 12,
            failed: 0,
            ignored: 0,
        };
        let time = Duration::from_millis(1500);
        assert_eq!(
            row("lints", time, Counts::default()),
            format!("   {:<24} {:>14}   ok", "lints", "1.5 s")
        );
        assert!(row("test fast", time, counts).ends_with("12 passed, 0 failed"));
        assert!(row("format", time, Counts::one_failure()).ends_with("FAILED"));
    }
}
