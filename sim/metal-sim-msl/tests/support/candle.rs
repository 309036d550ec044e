//! Candle's sources, in cargo's registry.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Where cargo has unpacked Candle's kernels.
pub fn kernels() -> PathBuf {
    let output = Command::new(env!("CARGO"))
        .args([
            "metadata",
            "--format-version=1",
            "--features",
            "metal",
            "--offline",
        ])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo");
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).expect("metadata");
    let packages = metadata["packages"].as_array().expect("packages");
    let package = packages
        .iter()
        .find(|it| it["name"] == "candle-metal-kernels")
        .expect("Candle");
    let manifest = package["manifest_path"].as_str().expect("a path");
    Path::new(manifest).with_file_name("src").join("metal_src")
}
