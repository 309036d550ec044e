//! Where things are: the two workspaces, their members, their target folders.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use toml::Table;

use crate::error::Error;

/// The repository. Crates are named like their folders here.
pub struct Layout {
    root: PathBuf,
    /// The crates of the simulator.
    simulator: Vec<String>,
    /// The crates of the product, which are members of `sim/` as well, through its symlink.
    under_test: Vec<String>,
}

impl Layout {
    /// Finds the repository that this program was built from, or is run for by cargo.
    pub fn find() -> Result<Self, Error> {
        let xtask = env::var_os("CARGO_MANIFEST_DIR")
            .unwrap_or_else(|| OsString::from(env!("CARGO_MANIFEST_DIR")));
        let root = Path::new(&xtask).parent().unwrap_or(Path::new("."));
        Ok(Self {
            root: root.to_owned(),
            simulator: crates_in(&root.join("sim"))?,
            under_test: crates_in(&root.join("crates"))?,
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

/// The folders with a manifest, in alphabetical order.
fn crates_in(folder: &Path) -> Result<Vec<String>, Error> {
    let read = fs::read_dir(folder).map_err(Error::file("read", folder))?;
    let paths = read.filter_map(Result::ok).map(|entry| entry.path());
    let crates = paths.filter(|path| path.join("Cargo.toml").is_file());
    let mut names: Vec<_> = crates
        .filter_map(|path| Some(path.file_name()?.to_str()?.to_owned()))
        .collect();
    names.sort();
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_simulator_and_what_it_tests_are_told_apart() {
        let layout = Layout::find().unwrap();
        let simulator: Vec<_> = layout.simulator().collect();
        let under_test: Vec<_> = layout.under_test().collect();
        assert!(simulator.contains(&"metal-sim"), "{simulator:?}");
        assert!(under_test.contains(&"safe-mps"), "{under_test:?}");
        assert!(!simulator.contains(&"safe-mps"), "{simulator:?}");
        assert_eq!(simulator[0], "-p");
    }
}
