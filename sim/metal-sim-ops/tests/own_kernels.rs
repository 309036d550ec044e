//! Our own kernels, as our ops call them, under the detector, which is strict: silent under every schedule, on shapes that
//! divide nothing; and each barrier, taken away, is missed.
//!
//!     cargo test -p metal-sim-ops --test own_kernels [-- <part of a name>...]
//!
//! Names are `<op> <schedule>` and `without <file>.metal:<line>`. Each run is a process of its own, since a finding
//! ends it. A barrier that nobody misses is one that is not needed, or that no shape of the table needs: take it away,
//! or add the shape.

use std::process::{self, Command, ExitCode};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::{env, fs, thread};

use candle_core::{DType, Device, Result};
use metal_sim::Work;
use metal_sim_ops::operand::{self, Scale};
use metal_sim_ops::sources::{self, File};
use metal_sim_ops::{Op, measure, ops};
use objc2::rc::autoreleasepool;

/// Set in the processes that run ops: the op's name.
const OP: &str = "METAL_SIM_OPS_RUN";

const SCHEDULES: [&str; 6] = ["fifo", "reverse", "lifo", "1", "2", "3"];

fn main() -> ExitCode {
    if let Ok(name) = env::var(OP) {
        return child(&name);
    }
    let arguments: Vec<_> = env::args().skip(1).collect();
    if arguments.iter().any(|it| it == "--list") {
        return ExitCode::SUCCESS;
    }
    let asked = |name: &str| {
        let mut parts = arguments
            .iter()
            .filter(|it| !it.starts_with("--"))
            .peekable();
        parts.peek().is_none() || parts.any(|part| name.contains(part.as_str()))
    };
    let ops: Vec<_> = ops().into_iter().filter(Op::has_kernels).collect();
    let mut cases = Vec::new();
    for op in &ops {
        cases.extend(SCHEDULES.map(|schedule| Case::Silent { op, schedule }));
    }
    let files = sources::files();
    for file in &files {
        let barriers = 0..file.barriers();
        cases.extend(barriers.map(|barrier| Case::Without { file, barrier }));
    }
    cases.retain(|case| asked(&case.name()));
    let results = run(&cases, &ops);
    let failed = results.iter().filter(|good| !**good).count();
    let of = |is: fn(&Case) -> bool| {
        let all = cases.iter().zip(&results).filter(|(case, _)| is(case));
        let good = all.clone().filter(|(_, good)| **good).count();
        format!("{good} of {}", all.count())
    };
    println!(
        "\ntest result: {}. {} passed; {failed} failed; 0 ignored; 0 measured; 0 filtered out",
        if failed == 0 { "ok" } else { "FAILED" },
        results.len() - failed
    );
    println!(
        "own kernels: {} silent, barriers {} caught",
        of(|case| matches!(case, Case::Silent { .. })),
        of(|case| matches!(case, Case::Without { .. }))
    );
    ExitCode::from(u8::from(failed > 0))
}

enum Case<'a> {
    Silent { op: &'a Op, schedule: &'static str },
    Without { file: &'a File, barrier: usize },
}

impl Case<'_> {
    fn name(&self) -> String {
        match self {
            Self::Silent { op, schedule } => format!("{} {schedule}", op.name),
            Self::Without { file, barrier } => {
                format!("without {}.metal:{}", file.name, file.line(*barrier))
            }
        }
    }

    fn result(&self, ops: &[Op], folder: &str) -> std::result::Result<(), String> {
        match self {
            Self::Silent { op, schedule } => match ran(op, &[("METAL_SIM_SCHEDULE", schedule)])? {
                None => Ok(()),
                Some(finding) => Err(finding),
            },
            Self::Without { file, barrier } => {
                let mutant = format!("{barrier}:{}", file.mark());
                // An op whose kernels are in the file finds it; of a file that others share, any of them.
                let uses = |op: &&Op| file.is_shared() || op.kernels.contains(&file.name.as_str());
                for op in ops.iter().filter(uses) {
                    let switches = [
                        ("METAL_SIM_WITHOUT_BARRIER", mutant.as_str()),
                        // Mutants would fill the cache of this machine.
                        ("METAL_SIM_CACHE", folder),
                    ];
                    if ran(op, &switches)?.is_some() {
                        return Ok(());
                    }
                }
                Err("nothing is found without it".to_owned())
            }
        }
    }
}

/// Runs the cases, several at once, and says of each whether it is as it should be.
fn run(cases: &[Case], ops: &[Op]) -> Vec<bool> {
    let folder = env::temp_dir().join(format!("metal-sim-ops-{}", process::id()));
    let next = AtomicUsize::new(0);
    let results = Mutex::new(vec![false; cases.len()]);
    let work = || {
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            let Some(case) = cases.get(at) else { break };
            let result = case.result(ops, &folder.to_string_lossy());
            let mut results = results.lock().expect("no thread panics");
            results[at] = result.is_ok();
            match result {
                Ok(()) => println!("test {} ... ok", case.name()),
                Err(why) => println!("test {} ... FAILED\n{why}", case.name()),
            }
        }
    };
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(work);
        }
    });
    // What is left in a folder for such things harms nobody.
    let _ = fs::remove_dir_all(&folder);
    results.into_inner().expect("no thread panics")
}

/// Runs an op in a process of its own: what the detector found there. An error if it failed in another way.
fn ran(op: &Op, switches: &[(&str, &str)]) -> std::result::Result<Option<String>, String> {
    let program = env::current_exe().map_err(|why| why.to_string())?;
    let output = Command::new(program)
        .env(OP, op.name)
        // A barrier orders only what its flags name, and the simd functions order nothing.
        .env("METAL_SIM_RACES", "strict")
        // Candle's kernels have races of their own, and this is not about them.
        .env("METAL_SIM_RACES_IN", shared_mark())
        .env("METAL_SIM_FAULTS", "abort")
        .envs(switches.iter().copied())
        .output()
        .map_err(|why| why.to_string())?;
    let told = String::from_utf8_lossy(&output.stderr);
    let finding = told
        .find("metal-sim: kernel: ")
        .map(|at| told[at..].to_owned());
    match (output.status.success(), finding) {
        (true, None) => Ok(None),
        (false, Some(finding)) => Ok(Some(finding)),
        _ => Err(format!("{}: {}\n{told}", op.name, output.status)),
    }
}

/// A line that all our sources contain.
fn shared_mark() -> String {
    let files = sources::files();
    let common = files.iter().find(|file| file.name == "common");
    common.expect("common.metal").mark().to_owned()
}

/// The process that runs an op on all ragged shapes, in three types: forward and backward, and on the last one as where
/// nothing is trained.
fn child(name: &str) -> ExitCode {
    let all = ops();
    let op = all
        .iter()
        .find(|op| op.name == name)
        .expect("an op of the table");
    match passes(op) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("{why}");
            ExitCode::FAILURE
        }
    }
}

fn passes(op: &Op) -> Result<()> {
    let device = Device::new_metal(0)?;
    for dtype in [DType::F32, DType::F16, DType::BF16] {
        for (scale, training) in Scale::ragged().zip([true, true, true, false]) {
            let x = operand::tensors(&(op.operands)(scale), dtype, &device, training)?;
            let (work, done) = Work::of(|| measure::pass(op.ours, &x, training));
            done?;
            autoreleasepool(|_| device.synchronize())?;
            // What a route sent to Candle would be silent, too.
            if work.watched == 0 {
                candle_core::bail!("no kernel of ours has run for {dtype:?} {scale:?}")
            }
        }
    }
    Ok(())
}
