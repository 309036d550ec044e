//! The `candle-mps` command. It answers what a machine has for Candle and what would be used on
//! it; this file holds the arguments and the exit status, and each subcommand has a module.

#![forbid(unsafe_code)]

mod cpu;
mod doctor;
mod metal;
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
}

#[derive(Args)]
struct DoctorArguments {
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let Command::Doctor(doctor) = arguments
        .command
        .unwrap_or(Command::Doctor(arguments.doctor));
    let report = Report::of_this_machine();
    match print(&report, doctor.json) {
        Ok(()) if report.ok => ExitCode::SUCCESS,
        Ok(()) => ExitCode::FAILURE,
        // Whoever read the output has seen enough of it.
        Err(error) if error.kind() == ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("candle-mps: cannot write the report: {error}");
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
