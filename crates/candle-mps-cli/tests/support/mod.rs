//! What the tests of `candle-mps bench` share.

// Each test file compiles this for itself and uses its part.
#![allow(dead_code)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

/// A folder of its own for each test, with a shapes file of small rows.
pub struct Place(pub PathBuf);

pub const ROWS: &str = "
[[rows]]
op = \"softmax\"
shapes = [\"2x64\", \"4x64\"]
[[rows]]
op = \"softmax\"
shapes = [\"2x64\"]
regime = \"chain\"
[[rows]]
op = \"rms_norm\"
pass = \"backward\"
shapes = [\"2x64\"]
";

impl Place {
    pub fn new(test: &str) -> Self {
        let folder =
            std::env::temp_dir().join(format!("candle-mps-bench-{test}-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let place = Self(folder);
        place.write("rows.toml", ROWS);
        place
    }

    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.join(name);
        fs::write(&path, text).unwrap();
        path
    }

    /// Runs the command without any Python and with short rows.
    pub fn bench(&self, arguments: &[&str]) -> Output {
        self.with(&[], arguments)
    }

    pub fn with(&self, variables: &[(&str, &Path)], arguments: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_candle-mps"))
            .args(["bench", "--seconds", "0.05"])
            .args(arguments)
            .current_dir(&self.0)
            .env("XDG_CACHE_HOME", self.0.join("cache"))
            .env("HOME", &self.0)
            .env_remove("CANDLE_MPS_PYTORCH")
            .env_remove("CANDLE_MPS_MLX")
            .env_remove("CANDLE_MPS_X86_V4")
            .env_remove("CLICOLOR_FORCE")
            .envs(variables.iter().copied())
            .output()
            .unwrap()
    }

    pub fn results(&self, folder: &str) -> Value {
        let text = fs::read(self.0.join(folder).join("bench.json")).unwrap();
        serde_json::from_slice(&text).unwrap()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

pub fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

/// The cell of a peer in a row.
pub fn cell<'a>(results: &'a Value, row: usize, peer: &str) -> &'a Value {
    let peers = results["peers"].as_array().unwrap();
    let column = peers.iter().position(|it| it["id"] == peer).unwrap();
    &results["rows"][row]["cells"][column]
}
