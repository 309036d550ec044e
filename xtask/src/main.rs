//! `cargo xtask`: the commands of this project that cargo alone does not have.
//!
//! One command, one module. This file reads as the manual page; what the commands share is in
//! `layout` (where things are), `process` (how programs are run) and `counts` (how tests are
//! counted).

mod apple;
mod arm;
mod asan;
mod bench;
mod bindings;
mod browser;
mod candle;
mod ci;
mod clang;
mod counts;
mod debian;
mod drop_in;
mod error;
mod fuzz;
mod layout;
mod macos;
mod objc;
mod patch;
mod process;
mod program;
mod python;
mod report;
mod sim;
mod skips;
mod suites;
mod tables;
mod test;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::layout::Layout;

/// The project's own commands.
///
/// `cargo xtask test` is what a push needs, `cargo xtask ci` is what CI runs.
#[derive(Parser)]
#[command(
    name = "cargo xtask",
    bin_name = "cargo xtask",
    arg_required_else_help = true
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run tests; without a set, `fast` and `sim`: what a push needs
    ///
    /// Each set ends with a line `SET: P passed, F failed` and several sets with a line
    /// `test: ...` that sums them. A run in which no test ran has failed.
    Test {
        /// Which tests to run
        #[arg(value_enum)]
        set: Option<test::Choice>,
        /// Passed on to the test programs, for example a part of the tests' names
        #[arg(last = true, value_name = "TEST ARGUMENTS")]
        filters: Vec<String>,
    },
    /// Find out what this machine does with candle-mps: doctor, correctness, work of a GPU, speed, decision, report
    ///
    /// Takes about a quarter of an hour on two cores, most of it to build. PyTorch and MLX take part once
    /// `candle-mps bench --install-peers` has installed them.
    ///
    /// `cargo xtask bench gpu-work` is one step of it, on Linux: it counts the work that each op gives the GPU, beside
    /// Candle's own path, on the simulator, in a minute or two.
    Bench {
        /// What to find out; otherwise all of the above
        #[arg(value_enum)]
        what: Option<bench::Choice>,
        /// The folder for the results, otherwise target/candle-mps-report; of `gpu-work`, the file for its tables
        #[arg(long, value_name = "PATH")]
        out: Option<std::path::PathBuf>,
        /// Passed on to `candle-mps bench`, for example `--ops softmax`, or to `gpu-work`: `--help` tells
        #[arg(last = true, value_name = "BENCH ARGUMENTS")]
        arguments: Vec<String>,
    },
    /// Give the CPU ops random arguments, good and bad, under AddressSanitizer
    ///
    /// The last line is `fuzz: P passed, F failed`. What fails
    /// is written to a file that `--replay` takes. See `docs/cpu-checks.md`.
    Fuzz {
        /// An op; without it, all of them
        target: Option<String>,
        /// Run each target for so long, from a new seed; without it, 800 inputs that are the same
        /// at every run, as in CI
        #[arg(long)]
        seconds: Option<u32>,
        /// Run the target once, with this file
        #[arg(long, value_name = "FILE", requires = "target")]
        replay: Option<std::path::PathBuf>,
    },
    /// Check everything: formatting, lints, documentation, versions, and `test all`
    ///
    /// All steps run, even after one of them failed. The last line is `ci: P passed, F failed`;
    /// a step that fails without a failing test counts as one failure.
    Ci {
        /// Remove what a step built as soon as no later step needs it; for machines with little
        /// disk that are not kept
        #[arg(long)]
        frugal: bool,
    },
    /// Prepare the framework bindings of the simulator in `sim/.bindings`
    ///
    /// The other commands do this by themselves. Needed once before plain cargo works in `sim/`,
    /// and again when `Cargo.lock` has a new version of a binding crate. See `docs/bindings.md`.
    Bindings,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let done = Layout::find().and_then(|layout| match arguments.command {
        Command::Test { set, filters } => Ok(test::run(&layout, set, &filters)),
        Command::Bench {
            what: Some(bench::Choice::GpuWork),
            out,
            arguments,
        } => bench::gpu_work(&layout, out, &arguments),
        Command::Bench {
            what: None,
            out,
            arguments,
        } => bench::run(&layout, out, &arguments),
        Command::Fuzz {
            target,
            seconds,
            replay,
        } => fuzz::run(&layout, target.as_deref(), seconds, replay.as_deref()),
        Command::Ci { frugal } => ci::run(&layout, frugal),
        Command::Bindings => bindings::run(&layout),
    });
    match done {
        Ok(true) => ExitCode::SUCCESS,
        // What failed has been shown, and the last line must stay the summary.
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            error.print();
            ExitCode::FAILURE
        }
    }
}
