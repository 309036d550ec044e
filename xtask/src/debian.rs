//! Programs from Debian's archive, unpacked into a cache folder and not installed: the compiler
//! that builds its own standard library for other machines, what links and runs programs for 64-bit
//! Arm, a browser, Python, and the compiler of the simulator's kernels.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use crate::error::Error;
use crate::layout::Layout;
use crate::process::{Step, search_path};

/// Packages that are unpacked together.
pub struct Packages {
    names: &'static [&'static str],
    /// The name of their folder, below the one where the platform keeps caches.
    folder: &'static str,
    /// The environment variable that names another folder.
    variable: &'static str,
    /// What helps on a machine that is not Debian.
    instead: &'static str,
}

/// Debian's build of the newest stable Rust, made for its browsers, and what goes with it.
pub const COMPILER: Packages = Packages {
    names: &[
        "rustc-web",
        "rust-web-clippy",
        "libstd-rust-web-dev",
        "rust-web-src",
    ],
    folder: "macos-check",
    variable: "CANDLE_MPS_MACOS_CHECK",
    instead: "`rustup target add aarch64-apple-darwin aarch64-unknown-linux-gnu`",
};

/// What links programs for Linux on 64-bit Arm, and runs them.
pub const ARM: Packages = Packages {
    names: &[
        "qemu-user",
        "gcc-aarch64-linux-gnu",
        "libc6-dev-arm64-cross",
    ],
    folder: "arm-check",
    variable: "CANDLE_MPS_ARM_CHECK",
    instead: "install aarch64-linux-gnu-gcc with a C library, and qemu-aarch64",
};

/// A browser without a window, and letters for it.
pub const BROWSER: Packages = Packages {
    names: &["chromium-headless-shell", "fonts-dejavu-core"],
    folder: "report-check",
    variable: "CANDLE_MPS_REPORT_CHECK",
    instead: "put chromium or chrome-headless-shell on the PATH",
};

/// What the peers of `candle-mps bench` are written in.
pub const PYTHON: Packages = Packages {
    names: &["python3", "python3-minimal", "libpython3-stdlib"],
    folder: "python",
    variable: "CANDLE_MPS_PYTHON",
    instead: "put python3 on the PATH",
};

/// What compiles Metal's kernels for the simulator.
pub const CLANG: Packages = Packages {
    names: &["clang-19"],
    folder: "clang",
    variable: "CANDLE_MPS_CLANG",
    instead: "put clang 19 or newer on the PATH, or name it in METAL_SIM_CLANG",
};

impl Packages {
    /// The folder that they are in, unpacked by this call or an earlier one.
    pub fn unpacked(&self) -> Result<PathBuf, Error> {
        let folder = self.folder()?;
        let complete = folder.join("complete");
        if !complete.exists() {
            self.unpack(&folder)?;
            // Last, so that an interrupted run is repeated.
            fs::write(&complete, "").map_err(Error::file("write", &complete))?;
        }
        Ok(folder)
    }

    /// Downloads the packages and unpacks them under `folder`.
    fn unpack(&self, folder: &Path) -> Result<(), Error> {
        let archives = folder.join("archives");
        fs::create_dir_all(&archives).map_err(Error::file("create", &archives))?;
        let download = || -> Result<(), Error> {
            let names = self.needed(&archives)?;
            Step::new("apt-get", &archives)
                .args(["download", "-qq", "-o", "APT::Sandbox::User=root"])
                .args(names)
                .run()
        };
        if download().is_err() {
            // The machine has no package lists, or they are older than the archive.
            update(&archives).map_err(|error| self.missing(&error))?;
            download().map_err(|error| self.missing(&error))?;
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
    fn needed(&self, folder: &Path) -> Result<Vec<String>, Error> {
        let plan = Step::new("apt-get", folder)
            .args([
                "install",
                "--simulate",
                "--reinstall",
                "--no-install-recommends",
            ])
            .args(self.names)
            .output()?;
        Ok(planned(&plan))
    }

    fn missing(&self, error: &Error) -> Error {
        Error::NoPackages {
            names: self.names.join(", "),
            reason: error.to_string(),
            remedy: "`sudo apt-get update`, then run this again".to_owned(),
            instead: self.instead,
        }
    }

    fn folder(&self) -> Result<PathBuf, Error> {
        let variable = |name| {
            env::var_os(name)
                .filter(|value| !value.is_empty())
                .map(PathBuf::from)
        };
        let below = |cache: PathBuf| cache.join("candle-mps").join(self.folder);
        variable(self.variable)
            .or_else(|| variable("XDG_CACHE_HOME").map(below))
            .or_else(|| variable("HOME").map(|home| below(home.join(".cache"))))
            .ok_or_else(|| Error::NoPackages {
                names: self.names.join(", "),
                reason: "there is no cache folder to unpack them into".to_owned(),
                remedy: format!("set {} to a folder", self.variable),
                instead: self.instead,
            })
    }
}

/// Debian's compiler, unpacked.
pub struct Compiler {
    folder: PathBuf,
}

impl Compiler {
    /// What makes cargo build the standard library, which is not among the packages.
    pub const ARGUMENTS: &'static [&'static str] = &["-Zbuild-std=std,panic_abort"];

    /// None when the toolchain in use knows `target` by itself.
    pub fn find(layout: &Layout, target: &str) -> Result<Option<Self>, Error> {
        let installed = Step::new("rustc", layout.root())
            .args(["--print", "target-libdir", "--target", target])
            .output()?;
        if Path::new(installed.trim()).is_dir() {
            return Ok(None);
        }
        let folder = COMPILER.unpacked()?;
        Ok(Some(Self { folder }))
    }

    /// One of its programs.
    pub fn program(&self, name: &str) -> OsString {
        self.folder.join("usr/bin").join(name).into()
    }

    /// The environment variables that make cargo use it.
    pub fn variables(&self) -> Vec<(&'static str, OsString)> {
        vec![
            ("RUSTC", self.program("rustc")),
            // A launcher script would be tidier, but a shell loses variables like
            // CARGO_BIN_EXE_candle-mps, which are no names to it.
            ("LD_LIBRARY_PATH", library_path(&[&self.folder])),
            // Building the standard library is still an unstable option.
            ("RUSTC_BOOTSTRAP", "1".into()),
        ]
    }

    /// Where it is.
    pub fn folder(&self) -> &Path {
        &self.folder
    }
}

/// The `LD_LIBRARY_PATH` of programs unpacked in `folders`.
pub fn library_path(folders: &[&Path]) -> OsString {
    let libraries: Vec<_> = folders
        .iter()
        .flat_map(|folder| libraries(folder))
        .collect();
    let libraries: Vec<_> = libraries.iter().map(PathBuf::as_path).collect();
    search_path(&libraries, env::var_os("LD_LIBRARY_PATH"))
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
    as_root.or_else(|_| {
        Step::new("sudo", folder)
            .args(["--non-interactive"])
            .args(update)
            .run()
    })
}

/// Where the shared libraries of unpacked programs are; the name has the machine in it. What only one
/// other library uses is in a folder of that one's.
fn libraries(folder: &Path) -> Vec<PathBuf> {
    let roots = ["usr/lib", "lib"].map(|name| folder.join(name));
    let entries = roots
        .iter()
        .filter_map(|root| fs::read_dir(root).ok())
        .flatten();
    let paths = entries.filter_map(Result::ok).map(|entry| entry.path());
    let paths = paths.filter(|path| path.to_string_lossy().ends_with("-linux-gnu"));
    let private = |path: PathBuf| [path.join("pulseaudio"), path];
    paths
        .flat_map(private)
        .filter(|path| path.is_dir())
        .collect()
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
        let folder = env::temp_dir().join(format!("xtask-debian-{}", std::process::id()));
        for name in ["aarch64-linux-gnu", "rustlib"] {
            fs::create_dir_all(folder.join("usr/lib").join(name)).unwrap();
        }
        assert_eq!(
            libraries(&folder),
            [folder.join("usr/lib/aarch64-linux-gnu")]
        );
        fs::remove_dir_all(folder).unwrap();
    }
}
