//! `metal-sim check`: compiles a file and lists what is in it.

use std::io::Write;

use metal_sim_msl::{ArgumentKind, Checks, Constants, Function, Library, Pipeline};
use serde::Serialize;

use super::{Error, library};

#[derive(clap::Args)]
pub struct Arguments {
    /// The `.metal` file
    file: String,
    /// Only this kernel; otherwise every kernel is compiled
    #[arg(long, value_name = "NAME")]
    kernel: Option<String>,
    /// Only list the kernels, and compile none
    #[arg(long)]
    list: bool,
    /// Define a macro
    #[arg(short = 'D', value_name = "NAME=VALUE")]
    define: Vec<String>,
    /// Look for included files there, too
    #[arg(short = 'I', value_name = "FOLDER")]
    include: Vec<String>,
    /// Print the list as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Listed {
    file: String,
    kernels: Vec<Kernel>,
    constants: Vec<Constant>,
}

#[derive(Serialize)]
struct Kernel {
    name: String,
    line: u32,
    arguments: Vec<Argument>,
    /// Why it does not compile, if so.
    error: Option<String>,
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

/// Runs it. False if a kernel does not compile.
pub fn run(arguments: &Arguments) -> Result<bool, Error> {
    let library = library(&arguments.file, &arguments.define, &arguments.include)?;
    let wanted: Vec<&Function> = match &arguments.kernel {
        None => library.functions().iter().collect(),
        Some(name) => vec![
            library
                .function(name)
                .ok_or_else(|| Error::Usage(format!("{} has no kernel {name}", arguments.file)))?,
        ],
    };
    let listed = Listed {
        file: arguments.file.clone(),
        kernels: wanted
            .into_iter()
            .map(|it| kernel(&library, it, arguments.list))
            .collect(),
        constants: library.constants().iter().map(constant).collect(),
    };
    let ok = listed.kernels.iter().all(|kernel| kernel.error.is_none());
    let mut out = std::io::stdout().lock();
    if arguments.json {
        serde_json::to_writer_pretty(&mut out, &listed).map_err(std::io::Error::from)?;
        writeln!(out)?;
    } else {
        print(&listed, &mut out)?;
    }
    Ok(ok)
}

fn kernel(library: &Library, function: &Function, list: bool) -> Kernel {
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
    let compiled = || {
        Pipeline::new(
            library,
            &function.name,
            &Constants::default(),
            Checks::default(),
        )
    };
    Kernel {
        name: function.name.clone(),
        line: function.line,
        arguments: function.arguments.iter().map(argument).collect(),
        error: if list {
            None
        } else {
            compiled().err().map(|why| why.to_string())
        },
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
        if let Some(error) = &kernel.error {
            writeln!(out, "    {error}")?;
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
        "{} kernels, {} function constants",
        listed.kernels.len(),
        listed.constants.len()
    )
}
