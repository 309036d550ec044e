//! The `candle-mps` command. It answers what a machine has for Candle and what would be used on
//! it; this file holds the arguments and the exit status, and each subcommand has a module.

#![forbid(unsafe_code)]

mod bench;
mod decision;
mod doctor;
mod patch;
mod report;
mod results;
mod style;
mod verify;

use std::io::{self, ErrorKind, Write};
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::doctor::Report;

const EXIT_STATUS: &str = "\
Exit status:
  0  all is well
  1  a problem was found
  2  the command line was wrong";

/// Candle with Apple's Metal Performance Shaders and fused kernels, from the command line.
///
/// Without a subcommand, `doctor` is run.
#[derive(Parser)]
#[command(version, after_help = EXIT_STATUS, args_conflicts_with_subcommands = true)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    doctor: DoctorArguments,
}

#[derive(Subcommand)]
enum Command {
    /// Show what this machine has and what would be used on it
    ///
    /// A problem is something that this build should have and cannot get, such as a Metal device
    /// in a build with Metal. Whatever else would be good to know is a note.
    #[command(after_help = EXIT_STATUS)]
    Doctor(DoctorArguments),
    /// Show whether results are right on this machine
    ///
    /// Every op in every type, forward and backward, on random shapes and views, against the same in f64.
    /// A case is drawn from a seed, so that what goes wrong can be run again. On Metal, the promises of
    /// Metal and MPS are asked for, too. What is compared with what is in docs/verify.md.
    #[command(after_help = format!("{}\n\n{EXIT_STATUS}", verify::EXAMPLES))]
    Verify(verify::Arguments),
    /// Measure the ops beside Candle, PyTorch and MLX
    ///
    /// All sides take turns in one run, each in a process of its own, and every result is there before its
    /// clock stops. The results are written after every row, and `candle-mps report` makes a page of them.
    #[command(after_help = format!("{}\n\n{}\n\n{}", bench::EXAMPLES, bench::TIME, bench::EXIT_STATUS))]
    Bench(bench::Arguments),
    /// Make a page, pictures and a decision of what `verify` and `bench` found
    ///
    /// Reads the files that they left in a folder, and names the parts that are missing. Nothing is
    /// measured again.
    #[command(after_help = EXIT_STATUS)]
    Report(report::Arguments),
    /// Make a program train and run on our ops, without a change of its source
    ///
    /// Copies the candle-nn that the program uses into the folder candle-mps-patch of its workspace,
    /// redirects its functions there to candle-mps-ops, and adds one line to [patch.crates-io] of its
    /// Cargo.toml. What is redirected is in docs/patch.md.
    #[command(after_help = format!("{}\n\n{EXIT_STATUS}", patch::EXAMPLES))]
    Patch(patch::Arguments),
    /// Take a side in a bench, asked on standard input
    #[command(hide = true)]
    Peer { who: bench::worker::Who },
}

#[derive(Args)]
struct DoctorArguments {
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
}

fn main() -> ExitCode {
    // Some promises of Metal's are about the end of a process: `verify` starts this program again.
    #[cfg(feature = "metal")]
    candle_mps_conformance::child();
    let arguments = Arguments::parse();
    let command = arguments.command;
    match command.unwrap_or(Command::Doctor(arguments.doctor)) {
        Command::Doctor(doctor) => {
            let report = Report::of_this_machine();
            status(print(&report, doctor.json), report.ok)
        }
        Command::Verify(verify) => match verify::run(&verify) {
            Ok(done) => status(done.print(&mut anstream::stdout().lock()), done.results.ok),
            Err(error) => failure(&error, error.is_usage()),
        },
        Command::Bench(bench) => match bench::run(&bench) {
            Ok(ok) => status(Ok(()), ok),
            Err(bench::Error::Output(error)) => status(Err(error), false),
            Err(error) => failure(&error, error.is_usage()),
        },
        Command::Report(report) => match report::run(&report) {
            Ok(()) => ExitCode::SUCCESS,
            Err(report::Error::Output(error)) => status(Err(error), true),
            Err(error) => failure(&error, false),
        },
        Command::Patch(patch) => match patch::run(&patch) {
            Ok(said) => status(io::stdout().write_all(said.as_bytes()), true),
            Err(error) => failure(&error, false),
        },
        // Its end is that of whoever asks.
        Command::Peer { who } => status(bench::worker::run(who), true),
    }
}

/// The exit status of a command that could not begin, which says why.
fn failure(error: &dyn std::error::Error, usage: bool) -> ExitCode {
    eprintln!("candle-mps: {error}");
    ExitCode::from(if usage { 2 } else { 1 })
}

/// The exit status, given how the output went and whether all is well.
fn status(printed: io::Result<()>, ok: bool) -> ExitCode {
    match printed {
        Ok(()) if ok => ExitCode::SUCCESS,
        Ok(()) => ExitCode::FAILURE,
        // Whoever read the output has seen enough of it.
        Err(error) if error.kind() == ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("candle-mps: cannot write the output: {error}");
            ExitCode::FAILURE
        }
    }
}

fn print(report: &Report, json: bool) -> io::Result<()> {
    // Drops the colours when nobody would see them.
    let mut output = anstream::stdout().lock();
    if json {
        serde_json::to_writer_pretty(&mut output, report)?;
        writeln!(output)?;
    } else {
        doctor::text::write(report, &mut output)?;
    }
    output.flush()
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn arguments_are_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn options_of_doctor_work_with_and_without_its_name() {
        let parse = |arguments: &[&str]| Arguments::try_parse_from(arguments);
        assert!(parse(&["candle-mps", "--json"]).unwrap().doctor.json);
        let named = parse(&["candle-mps", "doctor", "--json"]).unwrap();
        assert!(matches!(
            named.command,
            Some(Command::Doctor(DoctorArguments { json: true }))
        ));
        assert!(parse(&["candle-mps", "--json", "doctor"]).is_err());
    }
}
