//! `cargo xtask test sim`: the GPU path executed on Linux.
//!
//! The simulator is tested twice, in the two forms it has. Linked as a Rust library it is tested
//! by its own tests. Built as `libobjc.so` it stands where Apple's runtime would, under tests that
//! do not know of it: those of the crates under test, run unmodified.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use crate::bindings;
use crate::clang::Clang;
use crate::counts::Counts;
use crate::error::Error;
use crate::layout::Layout;
use crate::process::{Step, heading, search_path};
use crate::test::tests;

/// An archive without members. It satisfies `-lNAME` for libraries of which nothing is used.
const EMPTY_ARCHIVE: &[u8] = b"!<arch>\n";

/// Runs both forms and sums their results.
pub fn run(layout: &Layout, filters: &[String]) -> Result<Counts, Error> {
    if !cfg!(target_os = "linux") {
        return Err(Error::NotLinux);
    }
    heading("sim: bindings");
    bindings::prepare(layout)?;
    heading("sim: the simulator's own tests");
    let simulator: Vec<_> = layout.simulator().collect();
    let clang = Clang::find(layout)?;
    let own = tests(&layout.sim(), &simulator, filters)
        .envs(clang.variables())
        .count()?;
    let on_it = Shared::build(layout).and_then(|shared| shared.test(layout, filters));
    Ok(own + Counts::of(on_it))
}

/// The race corpus and the mutants of `metal-sim-msl`, and the product's own kernels.
pub fn races(layout: &Layout, filters: &[String]) -> Result<Counts, Error> {
    if !cfg!(target_os = "linux") {
        return Err(Error::NotLinux);
    }
    heading("races: wrong kernels are caught, right ones are not");
    bindings::prepare(layout)?;
    let clang = Clang::find(layout)?;
    let run = |package, test| {
        tests(&layout.sim(), &["-p", package, "--test", test], filters)
            .envs(clang.variables())
            .count()
    };
    let simulator = run("metal-sim-msl", "races");
    heading("races: our own kernels are silent, and each of their barriers is missed");
    let own = run("metal-sim-ops", "own_kernels");
    Ok(Counts::of(simulator) + Counts::of(own))
}

/// The variables that have the detector look at our own kernels: Candle's have findings on record
/// (docs/candle-findings.md). Every file of ours is compiled behind this one, and so contains its first line.
fn watched(layout: &Layout) -> Result<[(&'static str, OsString); 2], Error> {
    let shared = "crates/candle-mps-ops/src/metal/kernels/common.metal";
    let path = layout.root().join(shared);
    let text = fs::read_to_string(&path).map_err(Error::file("read", &path))?;
    let first = text.lines().next().unwrap_or_default();
    Ok([
        ("METAL_SIM_RACES", "on".into()),
        ("METAL_SIM_RACES_IN", first.into()),
    ])
}

/// The litmus tests of the simulator's scheduler, and the routes onto Candle's stream in all orders.
pub fn hazards(layout: &Layout, filters: &[String]) -> Result<Counts, Error> {
    if !cfg!(target_os = "linux") {
        return Err(Error::NotLinux);
    }
    heading("hazards: missing orderings are caught, right programs are silent");
    bindings::prepare(layout)?;
    let clang = Clang::find(layout)?;
    tests(
        &layout.sim(),
        &["-p", "metal-sim", "--test", "hazards"],
        filters,
    )
    .envs(clang.variables())
    .count()
}

/// The simulator as a shared library, with what it takes to build and run programs against it.
pub struct Shared {
    /// Its own target folder: everything in it is built with other flags than usual.
    target: PathBuf,
    /// Where `libobjc.so` is.
    library: PathBuf,
    /// Where the Rust standard library is as a shared library.
    toolchain: PathBuf,
    /// What compiles kernels.
    clang: Clang,
}

impl Shared {
    /// Builds and installs `libobjc.so`.
    pub fn build(layout: &Layout) -> Result<Self, Error> {
        heading("sim: the simulator as libobjc.so");
        let target = layout.sim().join("target/shared");
        let toolchain = Step::new("rustc", layout.root())
            .args(["--print", "target-libdir"])
            .output()?;
        let shared = Self {
            library: target.join("lib"),
            toolchain: PathBuf::from(toolchain.trim()),
            clang: Clang::find(layout)?,
            target,
        };
        // The simulator must not be linked against an earlier build of itself: its own search
        // path comes first and has an empty libobjc.
        let stubs = shared.target.join("stubs");
        install_stubs(&stubs, &["objc", "gnustep-base", "dispatch"])?;
        install_stubs(&shared.library, &["gnustep-base", "dispatch"])?;
        let mut search = OsString::from("native=");
        search.push(&stubs);
        shared
            .cargo(layout, "rustc")
            .args(["-p", "metal-sim", "--lib", "--crate-type", "cdylib"])
            .args(["--", "-L"])
            .args([search])
            .run()?;
        let built = shared.target.join("debug/libmetal_sim.so");
        install(&built, &shared.library.join("libobjc.so"))?;
        Ok(shared)
    }

    /// Runs the tests of the crates under test: unit tests, integration tests, doctests.
    fn test(&self, layout: &Layout, filters: &[String]) -> Result<Counts, Error> {
        heading("sim: the crates under test, on the simulator");
        self.cargo(layout, "test")
            .envs(watched(layout)?)
            .args(["--no-fail-fast", "--features", "metal"])
            .args(layout.under_test())
            .args(["--"])
            .args(filters)
            .count()
    }

    /// Cargo with the flags of the shared form, the same for the simulator and for the tests, so
    /// that what both depend on is built once.
    pub fn cargo(&self, layout: &Layout, command: &str) -> Step {
        self.cargo_in(&layout.sim(), command)
    }

    /// The same for a workspace of its own.
    pub fn cargo_in(&self, folder: &Path, command: &str) -> Step {
        // Rust code on both sides of the library must share one standard library, or a panic
        // that crosses it aborts instead of unwinding.
        let mut flags = OsString::from("-Cprefer-dynamic\x1f-Lnative=");
        flags.push(&self.library);
        Step::cargo(folder)
            .args([command, "--target-dir"])
            .args([&self.target])
            .envs([
                ("CARGO_ENCODED_RUSTFLAGS", &flags),
                ("CARGO_ENCODED_RUSTDOCFLAGS", &flags),
            ])
            .envs(self.variables())
    }

    /// The environment variables that let programs find the library and the compiler when they run.
    pub fn variables(&self) -> Vec<(&'static str, OsString)> {
        let path = [self.library.as_path(), self.toolchain.as_path()];
        let path = search_path(&path, self.clang.libraries());
        let libraries = ("LD_LIBRARY_PATH", path);
        std::iter::once(libraries)
            .chain(self.clang.variable())
            .collect()
    }
}

fn install_stubs(folder: &Path, names: &[&str]) -> Result<(), Error> {
    fs::create_dir_all(folder).map_err(Error::file("create", folder))?;
    for name in names {
        let path = folder.join(format!("lib{name}.a"));
        fs::write(&path, EMPTY_ARCHIVE).map_err(Error::file("write", &path))?;
    }
    Ok(())
}

/// Puts `file` in the place of `target` in one step, since a program may be using the old one.
fn install(file: &Path, target: &Path) -> Result<(), Error> {
    let fresh = target.with_extension("new");
    fs::copy(file, &fresh).map_err(Error::file("copy", file))?;
    fs::rename(&fresh, target).map_err(Error::file("replace", target))
}

#[cfg(test)]
mod tests {
    use std::env;

    use super::*;

    #[test]
    fn stubs_and_libraries_are_installed_again_and_again() {
        let folder = env::temp_dir().join(format!("xtask-sim-{}", std::process::id()));
        let library = folder.join("libobjc.so");
        for text in ["one", "two"] {
            install_stubs(&folder, &["dispatch"]).unwrap();
            let built = folder.join("built.so");
            fs::write(&built, text).unwrap();
            install(&built, &library).unwrap();
            assert_eq!(fs::read_to_string(&library).unwrap(), text);
        }
        assert_eq!(fs::read(folder.join("libdispatch.a")).unwrap().len(), 8);
        fs::remove_dir_all(folder).unwrap();
    }
}
