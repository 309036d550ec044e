//! What `candle-mps patch` remembers of a run, beside the copy: enough to take back exactly that, and
//! to notice what was changed since.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::patch::edits;
use crate::patch::error::{Error, Result};
use crate::patch::files;
use crate::patch::workspace::Workspace;

/// The folder with the copy, at the workspace's root.
pub const FOLDER: &str = "candle-mps-patch";

const FILE: &str = "patch.toml";
const MANIFEST: &str = "Cargo.toml.before";
const LOCK: &str = "Cargo.lock.before";

/// The record. Hashes are of what was written.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Record {
    /// The program and its version.
    pub by: String,
    pub candle_nn: String,
    /// The copy's dependency on candle-mps-ops.
    pub ops: String,
    /// The hash of the redirects themselves.
    redirects: String,
    copy: String,
    manifest: String,
    /// Empty if the run was interrupted before cargo had written the lock file.
    lock: String,
}

/// The workspace's files as they were.
pub struct Kept {
    pub manifest: Option<String>,
    /// None if there was no lock file.
    pub lock: Option<String>,
}

impl Record {
    /// The record of a folder in which the copy is complete.
    pub fn new(candle_nn: &str, ops: &str, folder: &Path, manifest: &str) -> Result<Self> {
        Ok(Self {
            by: concat!("candle-mps ", env!("CARGO_PKG_VERSION")).to_owned(),
            candle_nn: candle_nn.to_owned(),
            ops: ops.to_owned(),
            redirects: edits::fingerprint(),
            copy: files::hash_folder(&folder.join("candle-nn"))?,
            manifest: files::hash([manifest.as_bytes()]),
            lock: String::new(),
        })
    }

    pub fn with_lock(self, workspace: &Workspace) -> Self {
        let lock = files::read(&workspace.lock()).unwrap_or_default();
        Self {
            lock: files::hash([lock.as_bytes()]),
            ..self
        }
    }

    /// The record in a folder; none if the folder is not ours.
    pub fn read(folder: &Path) -> Result<Option<Self>> {
        if !folder.is_dir() {
            return Ok(None);
        }
        let text = files::read_if_there(&folder.join(FILE))?;
        Ok(text.and_then(|text| toml_edit::de::from_str(&text).ok()))
    }

    pub fn write(&self, folder: &Path) -> Result<()> {
        let text = toml_edit::ser::to_string(self).unwrap_or_default();
        let text = format!("# Written by `candle-mps patch`; `--undo` reads it.\n{text}");
        files::replace(&folder.join(FILE), Some(&text))
    }

    /// Whether there is nothing in the folder but what was written.
    pub fn holds(&self, folder: &Path) -> bool {
        let names = std::fs::read_dir(folder).into_iter().flatten().flatten();
        let mut names = names.map(|entry| entry.file_name());
        let ours = ["candle-nn", FILE, MANIFEST, LOCK];
        names.all(|name| ours.iter().any(|it| name == *it))
            && files::hash_folder(&folder.join("candle-nn")).is_ok_and(|hash| hash == self.copy)
    }

    /// Whether it was made with the redirects of this program.
    pub fn is_current(&self) -> bool {
        self.redirects == edits::fingerprint()
    }

    pub fn is_manifest(&self, text: &str) -> bool {
        self.manifest == files::hash([text.as_bytes()])
    }

    pub fn is_lock(&self, text: Option<&str>) -> bool {
        text.is_some_and(|text| self.lock == files::hash([text.as_bytes()]))
    }
}

/// Keeps the workspace's files as they were.
pub fn keep(folder: &Path, manifest: &str, lock: Option<&str>) -> Result<(), Error> {
    files::write(&folder.join(MANIFEST), manifest)?;
    lock.map_or(Ok(()), |lock| files::write(&folder.join(LOCK), lock))
}

/// The workspace's files as they were.
pub fn kept(folder: &Path) -> Result<Kept> {
    Ok(Kept {
        manifest: files::read_if_there(&folder.join(MANIFEST))?,
        lock: files::read_if_there(&folder.join(LOCK))?,
    })
}
