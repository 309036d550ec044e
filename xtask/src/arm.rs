//! `cargo xtask test arm`: the tests of the CPU ops as programs for 64-bit Arm, run by qemu.
//!
//! Once with NEON required and once with plain Rust. Programs are linked statically, so that qemu
//! needs no system of the other machine.

use std::env;
use std::ffi::OsString;
use std::path::Path;

use crate::counts::Counts;
use crate::debian::{ARM, Compiler, library_path};
use crate::error::Error;
use crate::layout::Layout;
use crate::process::{Step, heading, search_path};

/// What the tests are built for.
const TARGET: &str = "aarch64-unknown-linux-gnu";

const GCC: &str = "aarch64-linux-gnu-gcc";
const QEMU: &str = "qemu-aarch64";

/// The random cases of each test, unless the environment says otherwise; emulation is slow.
const ROUNDS: &str = "4";

/// What each instruction set leaves out, and why.
const RUNS: [(&str, &[&str]); 2] = [
    // qemu does not pass the advice on to the kernel, so the test that looks for it cannot see it.
    ("neon", &["large_results_are_advised"]),
    // These run every instruction set by themselves, and have done so.
    (
        "scalar",
        &["large_results_are_advised", "simd::math", "simd::tests"],
    ),
];

/// Runs the tests with each instruction set.
pub fn run(layout: &Layout, filters: &[String]) -> Result<Counts, Error> {
    heading("arm: a compiler and an emulator for 64-bit Arm");
    let emulated = Emulated::find(layout)?;
    let mut counts = Counts::default();
    for (isa, skips) in RUNS {
        heading(&format!("arm: the CPU ops with {isa}"));
        counts += emulated
            .test(layout.root())
            .envs([("CANDLE_MPS_ISA", isa), rounds(ROUNDS)])
            .args(["--"])
            .args(skips.iter().flat_map(|skip| ["--skip", skip]))
            .args(filters)
            .count()?;
    }
    Ok(counts)
}

/// How many random cases a test tries: what the environment says, or `default`.
pub fn rounds(default: &'static str) -> (&'static str, &'static str) {
    const NAME: &str = "CANDLE_MPS_TEST_ROUNDS";
    let asked = env::var(NAME).ok().map(String::leak);
    (NAME, asked.map_or(default, |asked| asked))
}

/// Whether this machine has what [`ARM`] has.
fn installed(layout: &Layout) -> bool {
    let output = |program, argument| Step::new(program, layout.root()).args([argument]).output();
    // gcc answers with a path where there is one.
    output(GCC, "-print-file-name=libc.a").is_ok_and(|path| path.contains('/'))
        && output(QEMU, "--version").is_ok()
}

/// Cargo's settings for programs of the other machine.
struct Emulated {
    arguments: &'static [&'static str],
    variables: Vec<(&'static str, OsString)>,
}

impl Emulated {
    fn find(layout: &Layout) -> Result<Self, Error> {
        if cfg!(all(target_arch = "aarch64", target_os = "linux")) {
            return Ok(Self {
                arguments: &[],
                variables: vec![],
            });
        }
        let compiler = Compiler::find(layout, TARGET)?;
        let mut flags = OsString::from("-Ctarget-feature=+crt-static");
        let mut variables = compiler.as_ref().map_or(vec![], Compiler::variables);
        if !installed(layout) {
            let programs = ARM.unpacked()?;
            // gcc looks for its C library where the packages would be installed.
            let library = programs.join("usr/aarch64-linux-gnu/lib");
            for option in ["-L", "-B"] {
                flags.push("\x1f-Clink-arg=");
                flags.push(option);
                flags.push(&library);
            }
            let mut folders = vec![programs.as_path()];
            folders.extend(compiler.as_ref().map(Compiler::folder));
            let path = search_path(&[&programs.join("usr/bin")], env::var_os("PATH"));
            variables.extend([("LD_LIBRARY_PATH", library_path(&folders)), ("PATH", path)]);
        }
        variables.extend([
            ("CARGO_ENCODED_RUSTFLAGS", flags),
            ("CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER", GCC.into()),
            ("CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER", QEMU.into()),
        ]);
        let arguments = compiler.as_ref().map_or(&[][..], |_| Compiler::ARGUMENTS);
        Ok(Self {
            arguments,
            variables,
        })
    }

    fn test(&self, folder: &Path) -> Step {
        Step::cargo(folder)
            .args(["test", "--no-fail-fast", "-p", "candle-mps-cpu", "--lib"])
            .args(["--target", TARGET, "--target-dir", "target/arm"])
            .args(self.arguments)
            .envs(self.variables.clone())
    }
}
