//! A Python for the tests of `bench/peers`, which need no framework.

use std::ffi::OsString;

use crate::debian::{PYTHON, library_path};
use crate::error::Error;
use crate::layout::Layout;
use crate::process::Step;

const NAME: &str = "python3";

/// Where the peers and their tests are.
const FOLDER: &str = "bench/peers";

/// One that starts.
pub struct Python {
    program: OsString,
    variables: Vec<(&'static str, OsString)>,
}

impl Python {
    /// The one on the `PATH`, or else Debian's, unpacked.
    pub fn find(layout: &Layout) -> Result<Self, Error> {
        let version = Step::new(NAME, layout.root())
            .args(["--version"])
            .captured();
        if version.is_ok_and(|it| it.status.success()) {
            return Ok(Self {
                program: NAME.into(),
                variables: Vec::new(),
            });
        }
        let unpacked = PYTHON.unpacked()?;
        Ok(Self {
            program: unpacked.join("usr/bin").join(NAME).into(),
            variables: vec![("LD_LIBRARY_PATH", library_path(&[&unpacked]))],
        })
    }

    /// Runs the tests of the peers; what they say, if one fails.
    pub fn test_peers(&self, layout: &Layout) -> Result<Option<String>, Error> {
        let folder = layout.root().join(FOLDER);
        let output = Step::new(&self.program.to_string_lossy(), &folder)
            // Without files of bytecode beside the sources.
            .args(["-B", "-m", "unittest", "-q"])
            .envs(self.variables.iter().map(|(name, value)| (*name, value)))
            .captured()?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        Ok(match output.status.success() {
            // Before 3.12 none is a success, too.
            true if said.contains("Ran 0 tests") => Some(format!("no test in {FOLDER}")),
            true => None,
            false => Some(said),
        })
    }
}
