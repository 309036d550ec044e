//! `metal-sim check`: compiles a file and lists what is in it.

use std::io::Write;

use metal_sim_msl::{ArgumentKind, Checks, Function};
use serde::Serialize;

use super::{Error, Preprocessor, count, find, library};

pub const EXAMPLES: &str = "\
Examples:
  metal-sim check softmax.metal
  metal-sim check gemm.metal --list | grep _f16_
  metal-sim check gemm.metal --kernel gemm_nn_f32 --json";

#[derive(clap::Args)]
pub struct Arguments {
    /// The `.metal` file
    file: String,
    /// Only this kernel
    #[arg(long, value_name = "NAME")]
    kernel: Option<String>,
    /// Only list what is there, and compile nothing
    #[arg(long)]
    list: bool,
    #[command(flatten)]
    preprocessor: Preprocessor,
    /// Print the list as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Listed {
    file: String,
    kernels: Vec<Kernel>,
    constants: Vec<Constant>,
    /// Why it does not compile, if so.
    error: Option<String>,
}

#[derive(Serialize)]
struct Kernel {
    name: String,
    line: u32,
    arguments: Vec<Argument>,
}

#[derive(Serialize)]
struct Argument {
    name: String,
    /// `buffer(0)`, `threadgroup(0)`, or what the thread is asked for.
    at: String,
    type_name: String,
    /// The function constant that turns it on.
    constant: Option<String>,
}

#[derive(Serialize)]
struct Constant {
    name: String,
    type_name: String,
    index: Option<u32>,
}

/// Runs it. False if the source does not compile.
pub fn run(arguments: &Arguments) -> Result<bool, Error> {
    let mut listed = Listed {
        file: arguments.file.clone(),
        kernels: Vec::new(),
        constants: Vec::new(),
        error: None,
    };
    let failed = match fill(&mut listed, arguments) {
        Ok(()) => None,
        // Not the source's fault.
        Err(error) if error.status() != 1 => return Err(error),
        Err(error) => Some(error),
    };
    let mut out = std::io::stdout().lock();
    if arguments.json {
        listed.error = failed.as_ref().map(ToString::to_string);
        serde_json::to_writer_pretty(&mut out, &listed).map_err(std::io::Error::from)?;
        writeln!(out)?;
        return Ok(failed.is_none());
    }
    match failed {
        None => print(&listed, &mut out).map(|()| true).map_err(Error::from),
        Some(error) => Err(error),
    }
}

fn fill(listed: &mut Listed, arguments: &Arguments) -> Result<(), Error> {
    let library = library(&arguments.file, &arguments.preprocessor)?;
    listed.constants = library.constants().iter().map(constant).collect();
    match &arguments.kernel {
        None => {
            listed.kernels = library.functions().iter().map(kernel).collect();
            if !arguments.list {
                library.check()?;
            }
        }
        Some(name) => {
            let function = find(&library, &arguments.file, name)?;
            listed.kernels.push(kernel(function));
            if !arguments.list {
                library.build(name, Checks::default())?;
            }
        }
    }
    Ok(())
}

fn kernel(function: &Function) -> Kernel {
    let argument = |argument: &metal_sim_msl::Argument| Argument {
        name: argument.name.clone(),
        at: match argument.kind {
            ArgumentKind::Buffer(index) => format!("buffer({index})"),
            ArgumentKind::Threadgroup(index) => format!("threadgroup({index})"),
            ArgumentKind::Builtin(builtin) => builtin.name().to_owned(),
        },
        type_name: argument.type_name.clone(),
        constant: argument.constant.clone(),
    };
    Kernel {
        name: function.name.clone(),
        line: function.line,
        arguments: function.arguments.iter().map(argument).collect(),
    }
}

fn constant(constant: &metal_sim_msl::Constant) -> Constant {
    Constant {
        name: constant.name.clone(),
        type_name: constant.type_name.clone(),
        index: constant.index,
    }
}

fn print(listed: &Listed, out: &mut impl Write) -> std::io::Result<()> {
    for kernel in &listed.kernels {
        writeln!(out, "{}:{}: {}", listed.file, kernel.line, kernel.name)?;
        for argument in &kernel.arguments {
            let on = argument
                .constant
                .as_ref()
                .map_or(String::new(), |it| format!(", if {it}"));
            writeln!(
                out,
                "    {:<36} {} {}{on}",
                argument.at, argument.type_name, argument.name
            )?;
        }
    }
    for constant in &listed.constants {
        let index = constant.index.map_or("derived".to_owned(), |index| {
            format!("function_constant({index})")
        });
        writeln!(out, "{}: {} {}", index, constant.type_name, constant.name)?;
    }
    writeln!(
        out,
        "{}, {}",
        count(listed.kernels.len(), "kernel"),
        count(listed.constants.len(), "function constant")
    )
}
