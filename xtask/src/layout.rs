//! Where things are: the two workspaces, their members, their target folders.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use toml::{Table, Value};

use crate::error::Error;

/// The repository. Crates are named like their folders here, so a member path names a package.
pub struct Layout {
    root: PathBuf,
    /// Packages that make up the simulator.
    simulator: Vec<String>,
    /// Packages of the product that can reach the GPU, members of `sim/` through its symlink.
    under_test: Vec<String>,
}

impl Layout {
    /// Finds the repository that this program was built from, or is run for by cargo.
    pub fn find() -> Result<Self, Error> {
        let xtask = env::var_os("CARGO_MANIFEST_DIR")
            .unwrap_or_else(|| OsString::from(env!("CARGO_MANIFEST_DIR")));
        let root = Path::new(&xtask)
            .parent()
            .unwrap_or(Path::new("."))
            .to_owned();
        let manifest = read_toml(&root.join("sim/Cargo.toml"))?;
        let (under_test, simulator): (Vec<_>, Vec<_>) =
            members(&manifest).partition(|path| path.starts_with("crates/"));
        let name = |path: String| path.rsplit('/').next().unwrap_or_default().to_owned();
        Ok(Self {
            root,
            simulator: simulator.into_iter().map(name).collect(),
            under_test: under_test.into_iter().map(name).collect(),
        })
    }

    /// The root workspace: the product.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The second workspace: the simulator.
    pub fn sim(&self) -> PathBuf {
        self.root.join("sim")
    }

    /// `-p NAME` for each crate of the simulator.
    pub fn simulator(&self) -> impl Iterator<Item = &str> {
        selection(&self.simulator)
    }

    /// `-p NAME` for each crate that is tested on the simulator.
    pub fn under_test(&self) -> impl Iterator<Item = &str> {
        selection(&self.under_test)
    }
}

/// Reads a manifest or a lock file.
pub fn read_toml(path: &Path) -> Result<Table, Error> {
    let text = fs::read_to_string(path).map_err(Error::file("read", path))?;
    text.parse().map_err(|source| Error::Toml {
        path: path.to_owned(),
        source,
    })
}

fn selection(names: &[String]) -> impl Iterator<Item = &str> {
    names.iter().flat_map(|name| ["-p", name.as_str()])
}

fn members(manifest: &Table) -> impl Iterator<Item = String> + '_ {
    let workspace = manifest.get("workspace").and_then(Value::as_table);
    let members = workspace
        .and_then(|table| table.get("members"))
        .and_then(Value::as_array);
    members
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_simulator_and_what_it_tests_are_told_apart() {
        let layout = Layout::find().unwrap();
        let simulator: Vec<_> = layout.simulator().collect();
        let under_test: Vec<_> = layout.under_test().collect();
        assert!(
            simulator.windows(2).any(|pair| pair == ["-p", "metal-sim"]),
            "{simulator:?}"
        );
        assert!(
            under_test.windows(2).any(|pair| pair == ["-p", "safe-mps"]),
            "{under_test:?}"
        );
        assert!(!simulator.contains(&"safe-mps"));
    }
}
