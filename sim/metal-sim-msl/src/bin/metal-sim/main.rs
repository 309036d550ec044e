//! `metal-sim`: a `.metal` file and no Mac. `check` compiles a file and lists what is in it; `run` runs a kernel of
//! it with the detector of races.

mod buffers;
mod check;
mod numbers;
mod run;

use std::io;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use metal_sim_msl::{Error as Kernel, Function, Library};

const EXIT_STATUS: &str = "\
Exit status:
  0  all is well
  1  a finding, a source that does not compile, or a kernel that crashes or never ends
  2  the command line was wrong, or a file or the compiler is not there";

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
    #[command(after_help = format!("{}\n\n{EXIT_STATUS}", check::EXAMPLES))]
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
    #[error("{error}{}", remedy(error))]
    Kernel {
        #[from]
        error: Kernel,
    },
    /// Nobody reads what is printed.
    #[error("cannot write the output: {0}")]
    Output(#[from] io::Error),
}

/// What to write on the command line.
fn remedy(error: &Kernel) -> String {
    match error {
        Kernel::MissingConstant { index, .. } => format!(" (--constant {index}=TYPE:VALUE)"),
        Kernel::UnboundArgument { index, .. } => format!(" (--buffer {index}=zeros:BYTES)"),
        Kernel::NoThreadgroupMemory { index, .. } => format!(" (--threadgroup {index}=BYTES)"),
        _ => String::new(),
    }
}

/// It lies in the source, and not in how the program was called.
fn is_of_source(error: &Kernel) -> bool {
    matches!(
        error,
        Kernel::Compile { .. }
            | Kernel::Unsupported { .. }
            | Kernel::Fault { .. }
            | Kernel::Stuck { .. }
    )
}

impl Error {
    /// The exit status.
    fn status(&self) -> u8 {
        match self {
            Self::Output(_) => 1,
            Self::Usage(_) | Self::File { .. } => 2,
            Self::Kernel { error } if is_of_source(error) => 1,
            // What was asked for cannot be done.
            Self::Kernel { .. } => 2,
        }
    }
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
            match &error {
                // Its messages begin with file and line, as editors want it.
                Error::Kernel { error } if is_of_source(error) => eprintln!("{error}"),
                _ => eprintln!("metal-sim: {error}"),
            }
            ExitCode::from(error.status())
        }
    }
}

/// What both commands tell the preprocessor.
#[derive(clap::Args)]
struct Preprocessor {
    /// Define a macro
    #[arg(short = 'D', value_name = "NAME=VALUE")]
    define: Vec<String>,
    /// Look for included files there, too
    #[arg(short = 'I', value_name = "FOLDER")]
    include: Vec<String>,
}

/// Reads a source and finds its kernels.
fn library(path: &str, preprocessor: &Preprocessor) -> Result<Library, Error> {
    let source = std::fs::read_to_string(path).map_err(|source| Error::File {
        path: path.to_owned(),
        source,
    })?;
    let define = |text: &String| {
        let (name, value) = text.split_once('=').unwrap_or((text, "1"));
        (name.to_owned(), value.to_owned())
    };
    let mut includes: Vec<_> = preprocessor.include.iter().map(Into::into).collect();
    // As of a compiler: what lies beside the file is found.
    if let Some(beside) = std::path::Path::new(path).parent() {
        includes.push(beside.to_owned());
    }
    let options = metal_sim_msl::Options {
        name: path.to_owned(),
        defines: preprocessor.define.iter().map(define).collect(),
        includes,
        ..metal_sim_msl::Options::default()
    };
    Ok(Library::from_source(&source, &options)?)
}

/// The kernel of that name.
fn find<'a>(library: &'a Library, file: &str, name: &str) -> Result<&'a Function, Error> {
    library.function(name).ok_or_else(|| {
        let names: Vec<_> = library.functions().iter().map(|it| &*it.name).collect();
        let has = match names.len() {
            0 => "no kernel at all".to_owned(),
            1..=8 => names.join(", "),
            many => format!("{many} others: metal-sim check {file} --list"),
        };
        Error::Usage(format!("{file} has no kernel {name}; it has {has}"))
    })
}

/// `1 kernel`, `2 kernels`.
fn count(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
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
