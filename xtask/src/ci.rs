//! `cargo xtask ci`: everything a change must pass, step by step, with the time each took.

use std::time::{Duration, Instant};

use crate::counts::Counts;
use crate::error::Error;
use crate::layout::Layout;
use crate::process::{Step, duration, heading};
use crate::test::Set;
use crate::{bindings, fuzz, tables};

type Action = fn(&Layout) -> Result<Counts, Error>;

/// The steps in order: what fails fast comes first.
const STEPS: [(&str, Action); 14] = [
    ("format", |layout| format(layout).map(no_tests)),
    ("bindings", |layout| {
        bindings::prepare(layout).map(|_| Counts::default())
    }),
    ("workspaces in step", |layout| {
        tables::check(layout).map(no_tests)
    }),
    ("lints", |layout| lints(layout).map(no_tests)),
    ("lints with the GPU path", |layout| {
        lints_gpu(layout).map(no_tests)
    }),
    ("documentation", |layout| {
        documentation(layout).map(no_tests)
    }),
    ("test fast", |layout| Ok(Set::Fast.run(layout, &[]))),
    ("test sim", |layout| Ok(Set::Sim.run(layout, &[]))),
    ("test objc", |layout| Ok(Set::Objc.run(layout, &[]))),
    ("test candle", |layout| Ok(Set::Candle.run(layout, &[]))),
    ("test arm", |layout| Ok(Set::Arm.run(layout, &[]))),
    ("test asan", |layout| Ok(Set::Asan.run(layout, &[]))),
    ("fuzz", |layout| fuzz::each(layout)),
    ("test macos", |layout| Ok(Set::Macos.run(layout, &[]))),
];

/// The command: runs all steps, sums them, and says whether all is well.
pub fn run(layout: &Layout) -> bool {
    let mut rows = Vec::new();
    for (index, (name, action)) in STEPS.iter().enumerate() {
        heading(&format!("ci {}/{}: {name}", index + 1, STEPS.len()));
        let start = Instant::now();
        let counts = Counts::of(action(layout));
        rows.push((*name, start.elapsed(), counts));
    }
    heading("ci: summary");
    for (name, time, counts) in &rows {
        println!("{}", row(name, *time, *counts));
    }
    let total: Counts = rows.iter().map(|(_, _, counts)| *counts).sum();
    println!("ci: {total}");
    total.failed == 0
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
    Step::cargo(&layout.root().join("fuzz"))
        .args(["fmt", "--check"])
        .run()?;
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
