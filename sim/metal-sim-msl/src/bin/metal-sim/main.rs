//! `metal-sim`: a `.metal` file and no Mac. `check` compiles a file and lists what is in it; `run` runs a kernel of
//! it with the detector of races.

mod buffers;
mod check;
mod numbers;
mod run;

use std::io;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

const EXIT_STATUS: &str = "\
Exit status:
  0  all is well
  1  a finding, or a source that does not compile
  2  the command line was wrong, or a file is not there";

/// Metal Shading Language on this machine: compiles `.metal` files, runs their kernels, finds their races.
#[derive(Parser)]
#[command(name = "metal-sim", version, after_help = EXIT_STATUS, arg_required_else_help = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Compile a file and list its kernels, their arguments and its function constants
    #[command(after_help = EXIT_STATUS)]
    Check(check::Arguments),
    /// Run a kernel on files, zeros or counts, with the detector
    #[command(after_help = format!("{}\n\n{EXIT_STATUS}", run::EXAMPLES))]
    Run(run::Arguments),
}

/// What stopped a command.
#[derive(Debug, thiserror::Error)]
enum Error {
    /// A value on the command line.
    #[error("{0}")]
    Usage(String),
    /// A file.
    #[error("{path}: {source}")]
    File { path: String, source: io::Error },
    /// The source, the compiler, or the dispatch.
    #[error(transparent)]
    Kernel(#[from] metal_sim_msl::Error),
    /// Nobody reads what is printed.
    #[error("cannot write the output: {0}")]
    Output(#[from] io::Error),
}

fn main() -> ExitCode {
    let done = match Arguments::parse().command {
        Command::Check(arguments) => check::run(&arguments),
        Command::Run(arguments) => run::run(&arguments),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(Error::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("metal-sim: {error}");
            match error {
                Error::Usage(_) | Error::File { .. } => ExitCode::from(2),
                Error::Kernel(_) | Error::Output(_) => ExitCode::FAILURE,
            }
        }
    }
}

/// Reads a source and finds its kernels.
fn library(
    path: &str,
    defines: &[String],
    include: &[String],
) -> Result<metal_sim_msl::Library, Error> {
    let source = std::fs::read_to_string(path).map_err(|source| Error::File {
        path: path.to_owned(),
        source,
    })?;
    let define = |text: &String| {
        let (name, value) = text.split_once('=').unwrap_or((text, "1"));
        (name.to_owned(), value.to_owned())
    };
    let mut includes: Vec<_> = include.iter().map(Into::into).collect();
    // As of a compiler: what lies beside the file is found.
    if let Some(beside) = std::path::Path::new(path).parent() {
        includes.push(beside.to_owned());
    }
    let options = metal_sim_msl::Options {
        name: path.to_owned(),
        defines: defines.iter().map(define).collect(),
        includes,
        ..metal_sim_msl::Options::default()
    };
    Ok(metal_sim_msl::Library::from_source(&source, &options)?)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn arguments_are_consistent() {
        Arguments::command().debug_assert();
    }
}
