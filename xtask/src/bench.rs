//! `cargo xtask bench`: what a newcomer wants to know, in one go. Doctor, correctness on the processor and on
//! Metal (simulated on Linux), speed beside the peers, the decision, the report; its first screen comes last.
//!
//! `cargo xtask bench gpu-work` counts the work that ops give the GPU; see `sim/metal-sim-ops`. On Linux it is one of the
//! steps of the former, too.
//!
//! The work of the first is `candle-mps`'s own; here it is built in the forms that it needs. A step that fails is named at
//! the end, and the others run all the same.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use clap::ValueEnum;

use crate::bindings;
use crate::clang::Clang;
use crate::error::Error;
use crate::layout::Layout;
use crate::process::{Step, heading};
use crate::sim::Shared;

/// Where results go unless told otherwise.
const FOLDER: &str = "target/candle-mps-report";

/// Tells `candle-mps bench` where the build is whose Candle has AVX-512.
const X86_V4: &str = "CANDLE_MPS_X86_V4";

/// One part that is asked for by its name.
#[derive(Clone, Copy, ValueEnum)]
pub enum Choice {
    /// Dispatches, buffers, barriers, waits and bytes of each op, beside Candle's own path
    GpuWork,
}

/// The work that each op gives the GPU, counted on the simulator. `out` is a file.
pub fn gpu_work(
    layout: &Layout,
    out: Option<PathBuf>,
    arguments: &[String],
) -> Result<bool, Error> {
    if !cfg!(target_os = "linux") {
        return Err(Error::NotLinux);
    }
    heading("bench: gpu-work");
    let out = match out {
        Some(out) => Some(std::path::absolute(&out).map_err(Error::file("find", &out))?),
        None => None,
    };
    counting(layout, out.as_deref())?.args(arguments).run()?;
    Ok(true)
}

/// The program that counts, and the file for its tables.
fn counting(layout: &Layout, out: Option<&Path>) -> Result<Step, Error> {
    bindings::prepare(layout)?;
    let step = Step::cargo(&layout.sim())
        .args(["run", "--quiet", "-p", "metal-sim-ops", "--bin", "gpu-work"])
        .args(["--"])
        .envs(Clang::find(layout)?.variables());
    Ok(match out {
        Some(out) => step.args(["--out".as_ref(), out.as_os_str()]),
        None => step,
    })
}

/// The command. False if a step failed.
pub fn run(layout: &Layout, out: Option<PathBuf>, arguments: &[String]) -> Result<bool, Error> {
    // The steps run in the root, and a relative folder is meant from here.
    let out = match out {
        Some(out) => std::path::absolute(&out).map_err(Error::file("find", &out))?,
        None => layout.root().join(FOLDER),
    };
    fs::create_dir_all(&out).map_err(Error::file("create", &out))?;
    heading("bench: building");
    let x86_v4 = x86_v4(layout)?;
    release(layout, "build", &[]).run()?;
    let mut failed = Vec::new();
    let mut step = |name: &'static str, step: Step| -> Result<(), Error> {
        heading(&format!("bench: {name}"));
        let text = out.join(format!("{name}.txt"));
        if !step.run_into(&text)? {
            failed.push((name, text));
        }
        Ok(())
    };
    let folder = out.to_string_lossy().into_owned();
    step("doctor", candle_mps(layout, &["doctor"]))?;
    step(
        "verify-cpu",
        candle_mps(layout, &["verify", "--out", &folder]),
    )?;
    step(
        "verify-metal",
        on_metal(layout)?.args(["verify", "--device", "metal", "--out", &folder]),
    )?;
    if cfg!(target_os = "linux") {
        step(
            "gpu-work",
            counting(layout, Some(&out.join("gpu-work.md")))?,
        )?;
    }
    let bench = candle_mps(layout, &["bench", "--out", &folder]).args(arguments);
    let variable = x86_v4.map(|program| (X86_V4, program));
    step("bench", bench.envs(variable))?;
    heading("bench: report");
    let reported = candle_mps(layout, &["report", "--out", &folder]).run();
    for (name, text) in &failed {
        eprintln!("\n{name} found something wrong; see {}", text.display());
    }
    Ok(reported.is_ok() && failed.is_empty())
}

/// Cargo for the command in release, which is what users run.
fn release(layout: &Layout, command: &str, features: &[&str]) -> Step {
    Step::cargo(layout.root())
        .args([command, "--quiet", "--release", "-p", "candle-mps-cli"])
        .args(["--target-dir", "target"])
        .args(features)
}

fn candle_mps(layout: &Layout, arguments: &[&str]) -> Step {
    release(layout, "run", &["--"]).args(arguments)
}

/// The same program with another Candle: cargo unifies features, so it is a build of its own. None where the
/// processor would not notice.
fn x86_v4(layout: &Layout) -> Result<Option<PathBuf>, Error> {
    if let Some(named) = env::var_os(X86_V4) {
        return Ok(Some(named.into()));
    }
    if !has_avx512() {
        return Ok(None);
    }
    release(layout, "build", &["--features", "gemm-x86-v4"]).run()?;
    let built = layout.root().join("target/release/candle-mps");
    let kept = layout.root().join("target/release/candle-mps-x86-v4");
    fs::copy(&built, &kept).map_err(Error::file("copy", &built))?;
    Ok(Some(kept))
}

#[cfg(target_arch = "x86_64")]
fn has_avx512() -> bool {
    std::arch::is_x86_feature_detected!("avx512f")
}

#[cfg(not(target_arch = "x86_64"))]
fn has_avx512() -> bool {
    false
}

/// The command in a build with Metal: on the GPU of a Mac, on the simulator elsewhere.
fn on_metal(layout: &Layout) -> Result<Step, Error> {
    let arguments = [
        "--quiet",
        "-p",
        "candle-mps-cli",
        "--features",
        "metal",
        "--",
    ];
    if cfg!(target_vendor = "apple") {
        return Ok(Step::cargo(layout.root())
            .args(["run", "--release"])
            .args(arguments));
    }
    bindings::prepare(layout)?;
    let shared = Shared::build(layout)?;
    Ok(shared.cargo(layout, "run").args(arguments))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_step_says_is_kept_and_whether_it_failed_is_told() {
        let file = env::temp_dir().join(format!("xtask-bench-{}.txt", std::process::id()));
        let sh = |script: &str| Step::new("sh", Path::new(".")).args(["-c", script]);
        assert!(sh("echo fine").run_into(&file).unwrap());
        assert_eq!(fs::read_to_string(&file).unwrap(), "fine\n");
        assert!(!sh("echo bad; exit 1").run_into(&file).unwrap());
        assert_eq!(fs::read_to_string(&file).unwrap(), "bad\n");
        fs::remove_file(file).unwrap();
    }
}
