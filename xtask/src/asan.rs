//! `cargo xtask test asan`: the tests of the CPU ops under AddressSanitizer, which reports each read
//! or write outside of an allocation.
//!
//! The sanitizer is an unstable option of the stable compiler. The standard library is not
//! instrumented, but its allocations are watched.

use std::fs;

use crate::arm::rounds;
use crate::counts::Counts;
use crate::error::Error;
use crate::layout::Layout;
use crate::process::{Step, heading};

/// The random cases of each test, unless the environment says otherwise.
const ROUNDS: &str = "8";

/// Must not run to its end.
const CANARY: &str = "fn main() {
    let bytes = vec![1u8; 8];
    println!(\"{}\", unsafe { bytes.as_ptr().add(8).read_volatile() });
}
";

/// Runs the tests, after a program that shows that the sanitizer works.
pub fn run(layout: &Layout, filters: &[String]) -> Result<Counts, Error> {
    let target = host(layout)?;
    heading("asan: a read behind an allocation is reported");
    canary(layout, &target)?;
    heading("asan: the CPU ops");
    Step::cargo(layout.root())
        .args(["test", "--no-fail-fast", "-p", "candle-mps-cpu", "--lib"])
        .args(["--target", &target, "--target-dir", "target/asan"])
        .args(["--"])
        .args(filters)
        .envs(variables("-Zsanitizer=address"))
        .envs([rounds(ROUNDS)])
        .count()
}

/// What a build with the sanitizer and other unstable `flags`, and the program it makes, need.
pub fn variables(flags: &str) -> [(&'static str, &str); 3] {
    [
        ("CARGO_ENCODED_RUSTFLAGS", flags),
        ("RUSTC_BOOTSTRAP", "1"),
        // The search for leaks needs a right that containers often lack, and finds none here.
        ("ASAN_OPTIONS", "detect_leaks=0"),
    ]
}

/// The machine that this is. Named as a target, it keeps the flags away from build scripts.
pub fn host(layout: &Layout) -> Result<String, Error> {
    let version = Step::new("rustc", layout.root()).args(["-vV"]).output()?;
    let host = version.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(host.unwrap_or_default().to_owned())
}

fn canary(layout: &Layout, target: &str) -> Result<(), Error> {
    let folder = layout.root().join("target/asan");
    fs::create_dir_all(&folder).map_err(Error::file("create", &folder))?;
    let source = folder.join("canary.rs");
    fs::write(&source, CANARY).map_err(Error::file("write", &source))?;
    Step::new("rustc", &folder)
        .args(["-Zsanitizer=address", "--target", target, "canary.rs"])
        .envs(variables(""))
        .run()?;
    let program = folder.join("canary");
    let caught = Step::new(&program.to_string_lossy(), &folder)
        .shown_as("canary".to_owned())
        .envs(variables(""))
        .fails_with("heap-buffer-overflow")?;
    if caught { Ok(()) } else { Err(Error::Blind) }
}
