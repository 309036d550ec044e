//! `xtask/skips/known-findings.toml`: kernels of somebody else's in which the detector finds what is on record. With
//! their names it can be on for tests of ours that call them.

use std::ffi::OsString;
use std::fs;

use serde::Deserialize;

use crate::error::Error;
use crate::layout::Layout;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    known: Vec<Group>,
}

/// Kernels of one file with one reason.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Group {
    source: String,
    reason: String,
    kernels: Vec<String>,
}

/// The variables that turn the detector on for everything else.
pub fn variables(layout: &Layout) -> Result<[(&'static str, OsString); 2], Error> {
    let path = layout.root().join("xtask/skips/known-findings.toml");
    let text = fs::read_to_string(&path).map_err(Error::file("read", &path))?;
    let File { known } = toml::from_str(&text).map_err(|source| Error::Toml {
        path: path.clone(),
        source,
    })?;
    if let Some(group) = known.iter().find(|group| group.reason.trim().is_empty()) {
        return Err(Error::NoReason {
            path,
            what: group.source.clone(),
        });
    }
    let kernels: Vec<_> = known.into_iter().flat_map(|group| group.kernels).collect();
    Ok([
        ("METAL_SIM_RACES", "on".into()),
        ("METAL_SIM_KNOWN", kernels.join(",").into()),
    ])
}
