//! Compiles kernels that tests write by hand against the contract, and runs them.

use metal_sim_msl::compiler::Compiler;
use metal_sim_msl::dispatch::{Binding, Dispatch, Grid, Outcome, Schedule};
use metal_sim_msl::error::Error;
use metal_sim_msl::library::Checks;
use metal_sim_msl::pipeline::{Code, Constants, Pipeline};
use std::path::{Path, PathBuf};
use std::process::Command;

#[allow(dead_code, reason = "not every test needs it")]
pub const SCHEDULES: [Schedule; 6] = [
    Schedule::Fifo,
    Schedule::Reverse,
    Schedule::Lifo,
    Schedule::Random(1),
    Schedule::Random(2),
    Schedule::Random(3),
];

pub fn source(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/runtime")
        .join(file)
}

/// Compiles a file of kernels, with the detector's callbacks or without.
pub fn compile(file: &str, checked: bool) -> PathBuf {
    compile_with(file, checked, &[])
}

/// The same with more flags.
pub fn compile_with(file: &str, checked: bool, flags: &[&str]) -> PathBuf {
    let more = flags.concat();
    let library = Path::new(env!("CARGO_TARGET_TMPDIR"))
        .join(format!("{file}-{checked}{more}-{}.so", std::process::id()));
    let found = Compiler::find().unwrap_or_else(|error| panic!("{error}"));
    let mut compiler = Command::new(found.path());
    compiler.args([
        "-std=c++17",
        "-fPIC",
        "-shared",
        "-O1",
        "-g1",
        "-nostdlib",
        "-fno-strict-aliasing",
        "-Werror",
    ]);
    // A barrier at the end of a branch returns into the branch, and not to who called the kernel.
    compiler.arg("-fno-optimize-sibling-calls");
    if checked {
        compiler.args([
            "-DMSL_DETECT",
            "-fsanitize=thread",
            "-mllvm",
            "-tsan-instrument-atomics=0",
        ]);
        compiler.args(["-mllvm", "-tsan-instrument-func-entry-exit=0"]);
    }
    compiler.args(flags);
    let done = compiler.arg(source(file)).arg("-o").arg(&library).status();
    assert!(
        done.is_ok_and(|status| status.success()),
        "{file} does not compile"
    );
    library
}

pub fn pipeline(
    library: &Path,
    file: &str,
    kernel: &str,
    checks: Checks,
    constants: &Constants,
) -> Pipeline {
    // What stands in for the prelude here.
    let prelude = &source("kernel.h");
    let code = Code {
        path: library,
        kernel,
        source: file,
        prelude,
        arguments: vec![],
        checks,
    };
    Pipeline::open(code, constants).unwrap()
}

/// Words that a kernel may use.
pub fn binding(words: &mut [u32], label: &str) -> Option<Binding> {
    Some(Binding {
        address: words.as_mut_ptr().cast(),
        length: size_of_val(words),
        label: label.into(),
        written: None,
    })
}

pub fn groups(groups: u32, threads: u32) -> Grid {
    Grid::Threadgroups {
        groups: [groups, 1, 1],
        threads: [threads, 1, 1],
    }
}

/// Runs a kernel on buffers of words.
#[allow(dead_code, reason = "not every test needs it")]
pub fn run(
    pipeline: &Pipeline,
    grid: Grid,
    schedule: Schedule,
    buffers: &mut [&mut [u32]],
) -> Result<Outcome, Error> {
    let buffers: Vec<_> = buffers.iter_mut().map(|words| binding(words, "")).collect();
    pipeline.dispatch(&Dispatch {
        grid,
        buffers: &buffers,
        threadgroup_memory: &[],
        schedule,
        threads: 1,
    })
}
