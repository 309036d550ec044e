//! The `candle-mps` command. It answers what a machine has for Candle and what would be used on
//! it; this file holds the arguments and the exit status, and each subcommand has a module.

#![forbid(unsafe_code)]

mod cpu;
mod decision;
mod doctor;
mod metal;
mod patch;
mod report;
mod results;
mod system;
mod text;

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
    /// Make a program train and run on our ops, without a change of its source
    ///
    /// Copies the candle-nn that the program uses into the folder candle-mps-patch of its workspace,
    /// redirects its functions there to candle-mps-ops, and adds one line to [patch.crates-io] of its
    /// Cargo.toml. What is redirected is in docs/patch.md.
    #[command(after_help = format!("{}\n\n{EXIT_STATUS}", patch::EXAMPLES))]
    Patch(patch::Arguments),
    /// Make a page, pictures and a decision of what `verify` and `bench` found
    ///
    /// Reads the files that they left in a folder, and names the parts that are missing. Nothing is
    /// measured again.
    #[command(after_help = EXIT_STATUS)]
    Report(report::Arguments),
}

#[derive(Args)]
struct DoctorArguments {
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let command = arguments.command;
    match command.unwrap_or(Command::Doctor(arguments.doctor)) {
        Command::Doctor(doctor) => {
            let report = Report::of_this_machine();
            status(print(&report, doctor.json), report.ok)
        }
        Command::Patch(patch) => match patch::run(&patch) {
            Ok(said) => status(io::stdout().write_all(said.as_bytes()), true),
            Err(error) => {
                eprintln!("candle-mps: {error}");
                ExitCode::FAILURE
            }
        },
        Command::Report(arguments) => match report::run(&arguments) {
            Ok(()) => ExitCode::SUCCESS,
            Err(report::Error::Output(error)) => status(Err(error), true),
            Err(error) => {
                eprintln!("candle-mps: {error}");
                ExitCode::FAILURE
            }
        },
    }
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
        text::write(report, &mut output)?;
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
