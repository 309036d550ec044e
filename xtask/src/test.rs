//! `cargo xtask test`: the sets of tests and how their results become one answer.

use std::path::Path;
use std::time::Instant;

use clap::ValueEnum;

use crate::counts::Counts;
use crate::error::Error;
use crate::layout::Layout;
use crate::process::{Step, duration, heading};
use crate::{arm, asan, candle, drop_in, macos, objc, report, sim};

/// What can be asked for.
#[derive(Clone, Copy, ValueEnum)]
pub enum Choice {
    /// The root workspace as any user has it: no GPU, no simulator
    Fast,
    /// The simulator's own tests, and the GPU path of the product on it
    Sim,
    /// The tests of objc2, block2 and objc2-foundation on the simulator's runtime
    Objc,
    /// Candle's own tests of its Metal backend on the simulator
    Candle,
    /// Kernels with a race each and their correct twins, Candle's kernels without one of their barriers, and our own:
    /// silent as they are, caught without each of their barriers; `-- --full` for more schedules and all of Candle's
    Races,
    /// Programs that lack an ordering on the GPU and their correct twins, and the routes onto Candle's stream;
    /// `-- --full` for 1000 seeds
    Hazards,
    /// The CPU ops as programs for 64-bit Arm, emulated; fewer random cases
    Arm,
    /// The CPU ops under AddressSanitizer; fewer random cases
    Asan,
    /// Models of candle-transformers and candle-nn's own tests after `candle-mps patch`
    DropIn,
    /// The page of `candle-mps report` in a browser: how it looks, light, dark and on a phone; and the peers in Python
    Report,
    /// The GPU path type-checked and linted for macOS; runs no test
    Macos,
    /// All of the above
    All,
}

/// A set of tests.
#[derive(Clone, Copy)]
pub enum Set {
    Fast,
    Sim,
    Objc,
    Candle,
    Races,
    Hazards,
    Arm,
    Asan,
    DropIn,
    Report,
    Macos,
}

/// The command: runs the sets, sums them, and says whether all is well.
pub fn run(layout: &Layout, choice: Option<Choice>, filters: &[String]) -> bool {
    let sets: &[Set] = match choice {
        None => &[Set::Fast, Set::Sim],
        Some(Choice::Fast) => &[Set::Fast],
        Some(Choice::Sim) => &[Set::Sim],
        Some(Choice::Objc) => &[Set::Objc],
        Some(Choice::Candle) => &[Set::Candle],
        Some(Choice::Races) => &[Set::Races],
        Some(Choice::Hazards) => &[Set::Hazards],
        Some(Choice::Arm) => &[Set::Arm],
        Some(Choice::Asan) => &[Set::Asan],
        Some(Choice::DropIn) => &[Set::DropIn],
        Some(Choice::Report) => &[Set::Report],
        Some(Choice::Macos) => &[Set::Macos],
        Some(Choice::All) => &[
            Set::Fast,
            Set::Sim,
            Set::Objc,
            Set::Candle,
            Set::Races,
            Set::Hazards,
            Set::Arm,
            Set::Asan,
            Set::DropIn,
            Set::Report,
            Set::Macos,
        ],
    };
    let total: Counts = sets.iter().map(|set| set.run(layout, filters)).sum();
    if sets.len() > 1 {
        println!("test: {total}");
    }
    total.failed == 0
}

impl Set {
    /// Runs the set and prints its last line.
    ///
    /// What stops it is shown and counts as one failure. So does a run without a test: a filter
    /// that matches nothing, or tests that cargo no longer finds, must not look like success.
    pub fn run(self, layout: &Layout, filters: &[String]) -> Counts {
        let start = Instant::now();
        let mut line = None;
        let (name, result) = match self {
            Self::Fast => ("fast", fast(layout, filters).and_then(some)),
            Self::Sim => ("sim", sim::run(layout, filters).and_then(some)),
            Self::Objc => (
                "objc suites",
                objc::SUITE.run(layout, filters).and_then(some),
            ),
            Self::Candle => (
                "candle suites",
                candle::SUITE.run(layout, filters).and_then(some),
            ),
            Self::Races => ("races", sim::races(layout, filters).and_then(some)),
            Self::Hazards => ("hazards", sim::hazards(layout, filters).and_then(some)),
            Self::Arm => ("arm", arm::run(layout, filters).and_then(some)),
            Self::Asan => ("asan", asan::run(layout, filters).and_then(some)),
            Self::DropIn => {
                let score = drop_in::run(layout, filters);
                line = score.as_ref().ok().map(drop_in::Score::line);
                ("drop-in", score.map(|score| score.sum()).and_then(some))
            }
            Self::Report => ("report", report::run(layout, filters).and_then(some)),
            Self::Macos => ("macos", macos::run(layout).map(|()| Counts::default())),
        };
        let counts = Counts::of(result);
        eprintln!("\n   {name} took {}", duration(start.elapsed()));
        match self {
            Self::Fast | Self::Sim | Self::Arm | Self::Asan | Self::Report => {
                println!("{name}: {counts}")
            }
            Self::Objc | Self::Candle => println!("{name}: {}", counts.with_skipped()),
            // The tests have summed up themselves, unless they did not get that far.
            Self::Races | Self::Hazards if counts.passed > 0 => {}
            Self::Races | Self::Hazards => println!("{name}: failed"),
            Self::DropIn => println!("{}", line.unwrap_or_else(|| format!("{name}: failed"))),
            Self::Macos if counts.failed == 0 => println!("{name}: no errors"),
            Self::Macos => println!("{name}: failed"),
        }
        counts
    }
}

fn some(counts: Counts) -> Result<Counts, Error> {
    if counts.passed + counts.failed == 0 {
        Err(Error::NoTests)
    } else {
        Ok(counts)
    }
}

fn fast(layout: &Layout, filters: &[String]) -> Result<Counts, Error> {
    heading("fast: the root workspace");
    tests(layout.root(), &["--workspace"], filters).count()
}

/// `cargo test` as every set runs it: to the end, so that the sums are complete.
pub fn tests(folder: &Path, selection: &[&str], filters: &[String]) -> Step {
    Step::cargo(folder)
        .args(["test", "--no-fail-fast"])
        .args(selection)
        .args(["--"])
        .args(filters)
}
