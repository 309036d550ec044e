//! The crate of the CPU ops as a workspace of its own, in `target/`: its tests without its
//! benchmarks, whose peers (Candle among them) would be built as well and take longer than all else.

use std::fs;
use std::path::PathBuf;

use toml::{Table, Value};

use crate::error::Error;
use crate::layout::{Layout, read_toml};

const NAME: &str = "candle-mps-cpu";

/// Writes the manifest and returns its folder.
pub fn prepare(layout: &Layout) -> Result<PathBuf, Error> {
    let own = layout.root().join("crates").join(NAME);
    let manifest = manifest(
        &read_toml(&layout.root().join("Cargo.toml"))?,
        read_toml(&own.join("Cargo.toml"))?,
        own.join("src/lib.rs").to_string_lossy().into_owned(),
    );
    let folder = layout.root().join("target").join(NAME);
    fs::create_dir_all(&folder).map_err(Error::file("create", &folder))?;
    let path = folder.join("Cargo.toml");
    fs::write(&path, manifest.to_string()).map_err(Error::file("write", &path))?;
    // The same versions as everywhere; cargo leaves out what is not used.
    let lock = layout.root().join("Cargo.lock");
    fs::copy(&lock, folder.join("Cargo.lock")).map_err(Error::file("copy", &lock))?;
    Ok(folder)
}

/// The crate's manifest as that of a workspace, without what only its benchmarks need.
fn manifest(root: &Table, mut own: Table, library: String) -> Table {
    for unused in ["dev-dependencies", "bench"] {
        own.remove(unused);
    }
    let mut workspace = root.get("workspace").cloned();
    if let Some(Value::Table(workspace)) = &mut workspace {
        for members in ["members", "default-members", "exclude"] {
            workspace.remove(members);
        }
    }
    own.extend(workspace.map(|workspace| ("workspace".to_owned(), workspace)));
    let lib = Table::from_iter([("path".to_owned(), Value::String(library))]);
    own.insert("lib".to_owned(), Value::Table(lib));
    own
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn benchmarks_are_left_out_and_the_tables_taken_along() {
        let root = "[workspace]\nmembers = [\"crates/*\"]\n[workspace.lints.rust]\nx = \"deny\"";
        let own = "[package]\nname = \"a\"\n[dependencies]\nb = \"1\"\n\
                   [dev-dependencies]\nc = \"1\"\n[[bench]]\nname = \"d\"";
        let alone = manifest(
            &root.parse().unwrap(),
            own.parse().unwrap(),
            "/a".to_owned(),
        );
        let expected = "[package]\nname = \"a\"\n[dependencies]\nb = \"1\"\n\
                        [workspace.lints.rust]\nx = \"deny\"\n[lib]\npath = \"/a\"";
        assert_eq!(alone, expected.parse().unwrap());
    }
}
