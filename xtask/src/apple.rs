//! Finds a compiler that knows macOS. A toolchain with the target installed is used as it is; on
//! a Debian machine without one, Debian's own compiler is unpacked into a cache folder, together
//! with the sources of the standard library, which cargo then builds for macOS.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use crate::error::Error;
use crate::layout::Layout;
use crate::process::{Step, search_path};

/// What is checked for.
pub const TARGET: &str = "aarch64-apple-darwin";

/// Names the cache folder; without it, the platform's cache folder is used.
const FOLDER: &str = "CANDLE_MPS_MACOS_CHECK";

/// Debian's build of the newest stable Rust, made for its browsers, and what goes with it.
const PACKAGES: [&str; 4] = [
    "rustc-web",
    "rust-web-clippy",
    "libstd-rust-web-dev",
    "rust-web-src",
];

/// How to make cargo use the compiler.
pub struct AppleCompiler {
    pub arguments: &'static [&'static str],
    pub variables: Vec<(&'static str, OsString)>,
}

impl AppleCompiler {
    /// The installed toolchain if it can, Debian's compiler otherwise.
    pub fn find(layout: &Layout) -> Result<Self, Error> {
        let installed = Step::new("rustc", layout.root())
            .args(["--print", "target-libdir", "--target", TARGET])
            .output()?;
        if Path::new(installed.trim()).is_dir() {
            let wrapper = ("RUSTC_WORKSPACE_WRAPPER", "clippy-driver".into());
            return Ok(Self {
                arguments: &[],
                variables: vec![wrapper],
            });
        }
        let folder = folder()?;
        let complete = folder.join("complete");
        if !complete.exists() {
            unpack(&folder)?;
            // Last, so that an interrupted run is repeated.
            fs::write(&complete, "").map_err(Error::file("write", &complete))?;
        }
        let libraries = libraries(&folder)?;
        let libraries: Vec<_> = libraries.iter().map(PathBuf::as_path).collect();
        Ok(Self {
            arguments: &["-Zbuild-std=std,panic_abort"],
            variables: vec![
                ("RUSTC", folder.join("usr/bin/rustc").into()),
                (
                    "RUSTC_WORKSPACE_WRAPPER",
                    folder.join("usr/bin/clippy-driver").into(),
                ),
                // For the two programs above. A launcher script would be tidier, but a shell loses
                // variables like CARGO_BIN_EXE_candle-mps, which are no names to it.
                (
                    "LD_LIBRARY_PATH",
                    search_path(&libraries, env::var_os("LD_LIBRARY_PATH")),
                ),
                // Building the standard library is still an unstable option.
                ("RUSTC_BOOTSTRAP", "1".into()),
            ],
        })
    }
}

/// Downloads the packages and unpacks them under `folder`; nothing is installed.
fn unpack(folder: &Path) -> Result<(), Error> {
    let archives = folder.join("archives");
    fs::create_dir_all(&archives).map_err(Error::file("create", &archives))?;
    let download = || -> Result<(), Error> {
        let names = needed(&archives)?;
        Step::new("apt-get", &archives)
            .args(["download", "-qq", "-o", "APT::Sandbox::User=root"])
            .args(names)
            .run()
    };
    if download().is_err() {
        // The machine has no package lists, or they are older than the archive.
        update(&archives)?;
        download().map_err(|error| no_compiler(&error))?;
    }
    let read = fs::read_dir(&archives).map_err(Error::file("read", &archives))?;
    for archive in read.filter_map(Result::ok).map(|entry| entry.path()) {
        Step::new("dpkg", folder)
            .args(["-x".as_ref(), archive.as_path(), folder])
            .run()?;
    }
    fs::remove_dir_all(&archives).map_err(Error::file("remove", &archives))
}

/// The packages and whatever they need that this machine does not have.
fn needed(folder: &Path) -> Result<Vec<String>, Error> {
    let plan = Step::new("apt-get", folder)
        .args([
            "install",
            "--simulate",
            "--reinstall",
            "--no-install-recommends",
        ])
        .args(PACKAGES)
        .output()?;
    Ok(planned(&plan))
}

/// The package names in what `apt-get --simulate` prints.
fn planned(plan: &str) -> Vec<String> {
    let lines = plan.lines().filter_map(|line| line.strip_prefix("Inst "));
    lines
        .filter_map(|line| line.split(' ').next())
        .map(str::to_owned)
        .collect()
}

/// Fetches the package lists, as root or through a sudo that asks nothing.
fn update(folder: &Path) -> Result<(), Error> {
    let update = ["apt-get", "update", "-qq"];
    let as_root = Step::new(update[0], folder).args(&update[1..]).run();
    as_root
        .or_else(|_| {
            Step::new("sudo", folder)
                .args(["--non-interactive"])
                .args(update)
                .run()
        })
        .map_err(|error| no_compiler(&error))
}

fn no_compiler(error: &Error) -> Error {
    Error::NoAppleCompiler {
        reason: error.to_string(),
        remedy: "`sudo apt-get update`, then run this again".to_owned(),
    }
}

/// Where Debian's compiler is kept.
fn folder() -> Result<PathBuf, Error> {
    let variable = |name| {
        env::var_os(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    variable(FOLDER)
        .or_else(|| Some(variable("XDG_CACHE_HOME")?.join("candle-mps/macos-check")))
        .or_else(|| Some(variable("HOME")?.join(".cache/candle-mps/macos-check")))
        .ok_or_else(|| Error::NoAppleCompiler {
            reason: "there is no cache folder to unpack one into".to_owned(),
            remedy: format!("set {FOLDER} to a folder"),
        })
}

/// Where the shared libraries of the unpacked programs are; the name has the machine in it.
fn libraries(folder: &Path) -> Result<Vec<PathBuf>, Error> {
    let folder = folder.join("usr/lib");
    let read = fs::read_dir(&folder).map_err(Error::file("read", &folder))?;
    let paths = read.filter_map(Result::ok).map(|entry| entry.path());
    Ok(paths
        .filter(|path| path.to_string_lossy().ends_with("-linux-gnu"))
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn planned_packages_are_read() {
        let plan = "Reading package lists...\n\
                    The following packages will be upgraded:\n  rustc-web\n\
                    Inst libllvm22 (1:22.1.8 Debian [amd64])\n\
                    Inst rustc-web [1.85] (1.96 Debian [amd64])\n\
                    Conf libllvm22 (1:22.1.8 Debian [amd64])\n";
        assert_eq!(planned(plan), ["libllvm22", "rustc-web"]);
    }

    #[test]
    fn libraries_are_found_whatever_the_machine() {
        let folder = env::temp_dir().join(format!("xtask-apple-{}", std::process::id()));
        for name in ["aarch64-linux-gnu", "rustlib"] {
            fs::create_dir_all(folder.join("usr/lib").join(name)).unwrap();
        }
        assert_eq!(
            libraries(&folder).unwrap(),
            [folder.join("usr/lib/aarch64-linux-gnu")]
        );
        fs::remove_dir_all(folder).unwrap();
    }
}
