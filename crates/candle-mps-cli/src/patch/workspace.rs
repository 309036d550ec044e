//! The user's workspace as cargo sees it: where it is, which candle-nn it uses, and where its
//! candle-mps-ops comes from.

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde::Deserialize;

use crate::patch::error::{Error, Result};
use crate::patch::files;

/// The workspace's root, before cargo is asked about its dependencies.
pub struct Workspace {
    /// The manifest at its root.
    pub manifest: PathBuf,
    /// What the user named.
    named: Option<PathBuf>,
}

/// What `cargo metadata` says, as far as it matters here.
#[derive(Deserialize)]
pub struct Packages {
    pub packages: Vec<Package>,
}

/// A package of the workspace or of its dependencies.
#[derive(Clone, Deserialize)]
pub struct Package {
    pub name: String,
    pub version: String,
    /// Where it comes from; none for a folder.
    pub source: Option<String>,
    pub manifest_path: PathBuf,
}

/// Where candle-mps-ops comes from.
#[derive(Debug, PartialEq, Eq)]
pub enum Ops {
    Path(PathBuf),
    /// The address, and what is fetched: `rev`, `tag` or `branch` and its name.
    Git(String, Option<(String, String)>),
    Version(String),
}

impl Workspace {
    /// Finds the root of the workspace that a manifest belongs to, or the current folder.
    pub fn find(named: Option<&Path>) -> Result<Self> {
        let named = named.map(|path| match path.is_dir() {
            true => path.join("Cargo.toml"),
            false => path.to_owned(),
        });
        let arguments = ["locate-project", "--workspace", "--message-format=plain"];
        let printed = cargo(&arguments, named.as_deref())?;
        Ok(Self {
            manifest: PathBuf::from(printed.trim_end()),
            named,
        })
    }

    pub fn root(&self) -> &Path {
        self.manifest.parent().unwrap_or(Path::new("."))
    }

    pub fn lock(&self) -> PathBuf {
        self.root().join("Cargo.lock")
    }

    /// All packages that are built by default.
    pub fn packages(&self) -> Result<Packages> {
        self.metadata(&[])
    }

    /// All packages that are built with every feature, among them optional dependencies.
    pub fn all_packages(&self) -> Result<Packages> {
        self.metadata(&["--all-features"])
    }

    fn metadata(&self, more: &[&str]) -> Result<Packages> {
        let arguments = [&["metadata", "--quiet", "--format-version=1"], more].concat();
        let printed = cargo(&arguments, self.named.as_deref())?;
        serde_json::from_str(&printed).map_err(|source| Error::Metadata { source })
    }

    /// Makes cargo go on with a version that the workspace has used before. Without it, the newest
    /// that fits would be taken.
    pub fn keep(&self, version: &str) -> Result<()> {
        let arguments = ["update", "--quiet", "candle-nn", "--precise", version];
        cargo(&arguments, Some(&self.manifest)).map(|_| ())
    }
}

impl Packages {
    pub fn named<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Package> {
        self.packages.iter().filter(move |it| it.name == name)
    }

    /// Where candle-mps-ops comes from in this workspace, if it is used there.
    pub fn ops(&self) -> Option<Ops> {
        self.named("candle-mps-ops").next().map(Package::origin)
    }
}

impl Package {
    pub fn folder(&self) -> &Path {
        self.manifest_path.parent().unwrap_or(Path::new("."))
    }

    /// Whether it is of crates.io, however cargo reaches that.
    pub fn is_of_crates_io(&self) -> bool {
        self.source.as_deref().is_some_and(|source| {
            source == "registry+https://github.com/rust-lang/crates.io-index"
                || source == "sparse+https://index.crates.io/"
        })
    }

    fn origin(&self) -> Ops {
        let Some(source) = &self.source else {
            return Ops::Path(self.folder().to_owned());
        };
        let Some(git) = source.strip_prefix("git+") else {
            return Ops::Version(self.version.clone());
        };
        let git = git.split('#').next().unwrap_or(git);
        match git.split_once('?') {
            Some((url, query)) => {
                let what = query.split_once('=');
                let what = what.map(|(key, name)| (key.to_owned(), name.replace("%2F", "/")));
                Ops::Git(url.to_owned(), what)
            }
            None => Ops::Git(git.to_owned(), None),
        }
    }
}

impl Ops {
    /// The one that goes with this program.
    pub fn published() -> Self {
        Self::Version("0.11".to_owned())
    }

    /// The folder of a checkout that the user named.
    pub fn checkout(path: &Path) -> Result<Self> {
        let not_ops = |found: String| Error::NotOps {
            path: path.to_owned(),
            found,
        };
        let text = files::read_if_there(&path.join("Cargo.toml"))
            .map_err(|error| not_ops(format!("cannot be read ({error})")))?
            .ok_or_else(|| not_ops("is not there".to_owned()))?;
        let manifest: toml_edit::DocumentMut = text
            .parse()
            .map_err(|_| not_ops("is not valid TOML".to_owned()))?;
        match manifest.get("package").and_then(|it| it.get("name")) {
            Some(name) if name.as_str() == Some("candle-mps-ops") => {
                let path = path.canonicalize().map_err(Error::file("read", path))?;
                Ok(Self::Path(path))
            }
            Some(name) => Err(not_ops(format!("names {}", name.to_string().trim()))),
            None => Err(not_ops("has no package".to_owned())),
        }
    }

    /// As a dependency of the package in `folder`.
    pub fn dependency(&self, folder: &Path) -> String {
        match self {
            Self::Path(path) => format!("{{ path = {:?} }}", files::relative(folder, path)),
            Self::Git(url, None) => format!("{{ git = {url:?} }}"),
            Self::Git(url, Some((key, name))) => format!("{{ git = {url:?}, {key} = {name:?} }}"),
            Self::Version(version) => format!("{version:?}"),
        }
    }
}

/// Runs cargo on a manifest and returns what it prints.
fn cargo(arguments: &[&str], manifest: Option<&Path>) -> Result<String> {
    // Set by cargo for the programs that it runs, so that a `+toolchain` holds here, too.
    let program = env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let mut command = Command::new(&program);
    command.args(arguments);
    if let Some(manifest) = manifest {
        command.arg("--manifest-path").arg(manifest);
    }
    let Output {
        status,
        stdout,
        stderr,
    } = command
        .output()
        .map_err(|source| Error::NoCargo { program, source })?;
    if status.success() {
        return Ok(String::from_utf8_lossy(&stdout).into_owned());
    }
    Err(Error::Cargo {
        message: String::from_utf8_lossy(&stderr).trim_end().to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(source: Option<&str>) -> Package {
        Package {
            name: "candle-mps-ops".to_owned(),
            version: "0.11.3".to_owned(),
            source: source.map(str::to_owned),
            manifest_path: "/a/ops/Cargo.toml".into(),
        }
    }

    fn dependency(source: Option<&str>) -> String {
        package(source).origin().dependency(Path::new("/a/w/copy"))
    }

    #[test]
    fn ops_come_from_where_the_workspace_has_them() {
        assert_eq!(dependency(None), "{ path = \"../../ops\" }");
        assert_eq!(
            dependency(Some("git+https://example.com/x?branch=a%2Fb#0123")),
            "{ git = \"https://example.com/x\", branch = \"a/b\" }"
        );
        assert_eq!(
            dependency(Some("git+https://example.com/x#0123")),
            "{ git = \"https://example.com/x\" }"
        );
        let crates_io = "registry+https://github.com/rust-lang/crates.io-index";
        assert_eq!(dependency(Some(crates_io)), "\"0.11.3\"");
        let none = Packages { packages: vec![] };
        assert_eq!(none.ops(), None);
    }

    #[test]
    fn only_crates_io_is_crates_io() {
        for (source, expected) in [
            (
                Some("registry+https://github.com/rust-lang/crates.io-index"),
                true,
            ),
            (Some("registry+https://example.com/index"), false),
            (Some("git+https://github.com/huggingface/candle#0"), false),
            (None, false),
        ] {
            assert_eq!(package(source).is_of_crates_io(), expected, "{source:?}");
        }
    }
}
