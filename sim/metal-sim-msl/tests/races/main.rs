//! The race corpus and the mutants: every wrong kernel is caught under every schedule, every correct twin is silent,
//! and every barrier of Candle's kernels that is taken away is either missed or known to be redundant.
//!
//!     cargo test -p metal-sim-msl --test races [-- <part of a name>...] [--full]
//!
//! `--full` runs more schedules and all mutants; without it a fixed part, for CI. Prints like Rust's own harness, and
//! at the end one line that sums up.

mod candle;
mod corpus;
mod mutants;
mod oracle;

use std::process::ExitCode;

/// What was asked for on the command line.
pub struct Asked {
    full: bool,
    filters: Vec<String>,
}

impl Asked {
    fn wants(&self, name: &str) -> bool {
        self.filters.is_empty() || self.filters.iter().any(|part| name.contains(part.as_str()))
    }
}

/// How many of how many.
#[derive(Clone, Copy, Default)]
pub struct Score {
    /// As they should be.
    pub good: usize,
    /// Of so many.
    pub all: usize,
}

impl Score {
    /// Counts a case and prints its line.
    pub fn count(&mut self, name: &str, result: Result<(), String>) {
        self.all += 1;
        match result {
            Ok(()) => {
                self.good += 1;
                println!("test {name} ... ok");
            }
            Err(why) => println!("test {name} ... FAILED\n{why}"),
        }
    }
}

fn main() -> ExitCode {
    let (options, filters): (Vec<_>, Vec<_>) = std::env::args()
        .skip(1)
        .partition(|it| it.starts_with("--"));
    if options.iter().any(|it| it == "--list") {
        return ExitCode::SUCCESS;
    }
    let asked = Asked {
        full: options.iter().any(|it| it == "--full"),
        filters,
    };
    let (caught, silent) = corpus::run(&asked);
    let explained = mutants::run(&asked);
    let all = [caught, silent, explained];
    let failed: usize = all.iter().map(|score| score.all - score.good).sum();
    let passed: usize = all.iter().map(|score| score.good).sum();
    println!(
        "\ntest result: {}. {passed} passed; {failed} failed; 0 ignored; 0 measured; 0 filtered out",
        if failed == 0 { "ok" } else { "FAILED" }
    );
    println!(
        "races: corpus {} of {}, twins {} of {} silent, barriers {} of {} explained",
        caught.good, caught.all, silent.good, silent.all, explained.good, explained.all
    );
    ExitCode::from(u8::from(failed > 0))
}
