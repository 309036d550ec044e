//! Why `candle-mps patch` stopped. Every message names the file and the remedy.

use std::io;
use std::path::{Path, PathBuf};

/// What stopped the command. Nothing is written then, or what was written has been taken back.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Cargo could not be started.
    #[error("cannot start `{program}` ({source}): install Rust, or set CARGO to the path of cargo")]
    NoCargo { program: String, source: io::Error },

    /// Cargo does not accept the workspace as it is.
    #[error(
        "cargo cannot read the workspace: repair what it names, or point --manifest-path at \
         another Cargo.toml\n{message}"
    )]
    Cargo { message: String },

    /// Cargo printed something else than the JSON that it documents.
    #[error("cannot read the output of `cargo metadata` ({source}): is this cargo very old?")]
    Metadata { source: serde_json::Error },

    /// The workspace has no candle-nn.
    #[error(
        "nothing in the workspace of {manifest} depends on candle-nn: add it with `cargo add \
         candle-nn`, or point --manifest-path at another Cargo.toml"
    )]
    NoCandleNn { manifest: PathBuf },

    /// The candle-nn in use is not one of crates.io.
    #[error(
        "the workspace of {manifest} uses candle-nn {version} from {origin}; only the one of \
         crates.io can be patched: depend on that, or use candle_mps::nn in its place"
    )]
    Elsewhere {
        manifest: PathBuf,
        version: String,
        origin: String,
    },

    /// A version whose source is not known here.
    #[error(
        "candle-nn {found} is not known to candle-mps {own}, which knows {known}: choose one of \
         these with `cargo update candle-nn --precise VERSION`, or install a candle-mps that \
         knows it"
    )]
    Unknown {
        found: String,
        own: &'static str,
        known: String,
    },

    /// A known version with other text in it than was published.
    #[error(
        "candle-nn {version} differs from what was published: {item} in {file} is {found}. Remove \
         that folder, and cargo fetches it anew"
    )]
    Changed {
        version: String,
        item: String,
        file: PathBuf,
        found: String,
    },

    /// The user has replaced candle-nn already.
    #[error(
        "{manifest} has a patch of candle-nn that is not from candle-mps ({line}): remove it, \
         then run `candle-mps patch` again"
    )]
    OwnPatch { manifest: PathBuf, line: String },

    /// A file or folder that must be changed may not be.
    #[error("{path} is read-only: make it writable, then run `candle-mps patch` again")]
    ReadOnly { path: PathBuf },

    /// Something of the user's is where the copy belongs.
    #[error("{path} is in the way, and not from candle-mps: move it, then run the command again")]
    InTheWay { path: PathBuf },

    /// The workspace is patched, but not as it would be now.
    #[error(
        "the workspace of {manifest} is patched already, {how}: run `candle-mps patch --undo`, \
         then `candle-mps patch` again"
    )]
    PatchedOtherwise { manifest: PathBuf, how: String },

    /// The copy was edited after it was made; taking it back would lose that.
    #[error(
        "{path} was changed after `candle-mps patch` wrote it: save what you need, remove that \
         folder, then run `candle-mps patch --undo` again"
    )]
    Edited { path: PathBuf },

    /// `--ops` names something else than candle-mps-ops.
    #[error("--ops: {path} is not a folder of candle-mps-ops: its Cargo.toml {found}")]
    NotOps { path: PathBuf, found: String },

    /// Cargo does not accept the patched workspace; everything was taken back.
    #[error("cargo refuses the patched workspace, so all is as it was; {remedy}\n{message}")]
    Refused {
        remedy: &'static str,
        message: String,
    },

    /// A file operation failed.
    #[error("cannot {action} {path}: {source}")]
    File {
        action: &'static str,
        path: PathBuf,
        source: io::Error,
    },

    /// A manifest is not TOML.
    #[error("{path} is not valid TOML, repair it: {source}")]
    Toml {
        path: PathBuf,
        source: toml_edit::TomlError,
    },
}

pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// For `map_err` after a file operation. A file that may not be written is [`Self::ReadOnly`].
    pub fn file(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| match source.kind() {
            io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied
                if action != "read" =>
            {
                Self::ReadOnly { path }
            }
            _ => Self::File {
                action,
                path,
                source,
            },
        }
    }
}
