//! `cargo xtask bindings`: copies the binding crates of Apple's frameworks into `sim/.bindings`
//! and patches them, so that the simulator's workspace builds on Linux. `patch` has the changes,
//! docs/bindings.md the reasons.

use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use toml::{Table, Value};

use crate::error::Error;
use crate::layout::{Layout, read_toml};
use crate::patch;
use crate::process::Step;

/// The file that `patch::guard` is applied to.
const GUARDED: &str = "src/generated/mod.rs";

/// The crate whose version the others follow: all framework bindings are released together.
const LEADER: &str = "objc2-metal";

/// A binding crate, in the version that the root workspace has locked.
struct Binding {
    name: String,
    version: String,
}

/// The command: prepares the bindings and says what it did.
pub fn run(layout: &Layout) -> Result<bool, Error> {
    if prepare(layout)? {
        println!("bindings: written to sim/.bindings");
    } else {
        println!("bindings: up to date, nothing to do");
    }
    Ok(true)
}

/// Brings `sim/.bindings` up to date; false if it already was.
pub fn prepare(layout: &Layout) -> Result<bool, Error> {
    let target = layout.sim().join(".bindings");
    let stamp = target.join("stamp");
    let bindings = bindings(layout)?;
    if fs::read_to_string(&stamp).is_ok_and(|text| text == state(&target, &bindings)) {
        return Ok(false);
    }
    if target.exists() {
        fs::remove_dir_all(&target).map_err(Error::file("remove", &target))?;
    }
    let sources = download(layout, &bindings)?;
    for (binding, source) in bindings.iter().zip(sources) {
        eprintln!("   patching {} {}", binding.name, binding.version);
        let copy = target.join(&binding.name);
        copy_folder(&source, &copy)?;
        patch_crate(binding, &copy)?;
    }
    let abi = target.join(patch::ABI_CRATE);
    write(&abi.join("Cargo.toml"), patch::ABI_MANIFEST)?;
    write(&abi.join("src/lib.rs"), patch::ABI_SOURCE)?;
    // Last, so that an interrupted run is repeated.
    write(&stamp, &state(&target, &bindings))?;
    Ok(true)
}

/// The crates that `sim/Cargo.toml` patches. Their versions are the root workspace's, which can be
/// resolved before there are patched copies; `tables` sees to it that `sim/` has the same.
fn bindings(layout: &Layout) -> Result<Vec<Binding>, Error> {
    let path = layout.root().join("Cargo.lock");
    if !path.exists() {
        Step::cargo(layout.root())
            .args(["generate-lockfile"])
            .run()?;
    }
    let lock = read_toml(&path)?;
    let leader = locked_version(&lock, LEADER).ok_or(Error::NoBindings { name: LEADER })?;
    let manifest = read_toml(&layout.sim().join("Cargo.toml"))?;
    let bindings = patched_crates(&manifest).map(|name| Binding {
        version: locked_version(&lock, name).unwrap_or(leader).to_owned(),
        name: name.to_owned(),
    });
    Ok(bindings.collect())
}

pub fn patched_crates(manifest: &Table) -> impl Iterator<Item = &str> {
    let patched = manifest
        .get("patch")
        .and_then(|patch| patch.get("crates-io"));
    let patched = patched.and_then(Value::as_table).into_iter().flatten();
    patched.filter_map(|(name, source)| {
        source
            .get("path")?
            .as_str()?
            .starts_with(".bindings/")
            .then_some(name.as_str())
    })
}

pub fn locked_version<'a>(lock: &'a Table, name: &str) -> Option<&'a str> {
    let packages = lock.get("package")?.as_array()?;
    packages
        .iter()
        .find(|package| package.get("name").and_then(Value::as_str) == Some(name))?
        .get("version")?
        .as_str()
}

/// What `cargo metadata` says about a package, as far as it matters here.
#[derive(Deserialize)]
pub struct Package {
    pub name: String,
    pub version: String,
    pub manifest_path: PathBuf,
}

/// What `cargo metadata` prints, as far as it matters here.
#[derive(Deserialize)]
pub struct Metadata {
    pub packages: Vec<Package>,
}

/// Lets cargo fetch the crates, and returns the folders it keeps their sources in.
///
/// `sim/` itself cannot be asked: cargo reads no workspace whose patches are not there yet.
fn download(layout: &Layout, bindings: &[Binding]) -> Result<Vec<PathBuf>, Error> {
    let scratch = layout.sim().join(".bindings/download");
    write(&scratch.join("Cargo.toml"), &scratch_manifest(bindings))?;
    write(&scratch.join("src/lib.rs"), "")?;
    // What the binding crates depend on comes in the versions that will be used anyway.
    let lock = layout.root().join("Cargo.lock");
    fs::copy(&lock, scratch.join("Cargo.lock")).map_err(Error::file("copy", &lock))?;
    let text = Step::cargo(&scratch)
        .args(["metadata", "--quiet", "--format-version=1"])
        .args(["--filter-platform=aarch64-apple-darwin"])
        .output()?;
    let metadata: Metadata =
        serde_json::from_str(&text).map_err(|source| Error::Metadata { source })?;
    let folder = |binding: &Binding| {
        let mut packages = metadata.packages.iter();
        packages
            .find(|package| package.name == binding.name && package.version == binding.version)
            .and_then(|package| package.manifest_path.parent())
            .map(Path::to_owned)
            .ok_or_else(|| Error::BindingMissing {
                name: binding.name.clone(),
                version: binding.version.clone(),
            })
    };
    bindings.iter().map(folder).collect()
}

fn scratch_manifest(bindings: &[Binding]) -> String {
    let dependencies = bindings.iter().map(|Binding { name, version }| {
        format!("{name} = {{ version = \"={version}\", default-features = false }}\n")
    });
    format!(
        "[workspace]\n[package]\nname = \"download\"\nedition = \"2024\"\n[dependencies]\n{}",
        dependencies.collect::<String>()
    )
}

/// Patches one copied crate. A link attribute outside the expected file is a change, too.
fn patch_crate(binding: &Binding, copy: &Path) -> Result<(), Error> {
    let mut found = Vec::new();
    for path in rust_files(&copy.join("src"))? {
        let attributes = patch::attributes(&read(&path)?);
        if attributes > 0 {
            let name = path.strip_prefix(copy).unwrap_or(&path).display();
            found.push(format!("{attributes} in {name}"));
        }
    }
    let path = copy.join(GUARDED);
    let guarded = if found.len() == 1 {
        patch::guard(&read(&path)?)
    } else {
        None
    };
    let Some(guarded) = guarded else {
        let found = if found.is_empty() {
            "none".to_owned()
        } else {
            found.join(", ")
        };
        let (name, version) = (binding.name.clone(), binding.version.clone());
        return Err(Error::BindingChanged {
            name,
            version,
            found,
        });
    };
    write(&path, &guarded)?;
    let manifest = copy.join("Cargo.toml");
    write(&manifest, &patch::depend_on_abi(&read(&manifest)?))
}

/// What `sim/.bindings` was made from and the patched files as they are on the disk, so that
/// neither a new version, nor an edit by hand, nor a change of `patch` goes unnoticed.
fn state(target: &Path, bindings: &[Binding]) -> String {
    let mut state = String::new();
    let mut hash = Fnv::default();
    for Binding { name, version } in bindings {
        state.push_str(&format!("{name} {version}\n"));
        for file in [GUARDED, "Cargo.toml"] {
            hash.write(&fs::read(target.join(name).join(file)).unwrap_or_default());
        }
    }
    hash.write(include_bytes!("patch.rs"));
    state.push_str(&format!("{:016x}\n", hash.0));
    state
}

/// FNV-1a: the standard library promises no hash that stays the same from release to release.
pub struct Fnv(pub u64);

impl Default for Fnv {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Fnv {
    pub fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}

pub fn copy_folder(from: &Path, to: &Path) -> Result<(), Error> {
    fs::create_dir_all(to).map_err(Error::file("create", to))?;
    for entry in entries(from)? {
        let target = to.join(entry.file_name().unwrap_or_default());
        if entry.is_dir() {
            copy_folder(&entry, &target)?;
        } else {
            fs::copy(&entry, &target).map_err(Error::file("copy", &entry))?;
        }
    }
    Ok(())
}

fn rust_files(folder: &Path) -> Result<Vec<PathBuf>, Error> {
    let mut files = Vec::new();
    for entry in entries(folder)? {
        if entry.is_dir() {
            files.append(&mut rust_files(&entry)?);
        } else if entry.extension().is_some_and(|extension| extension == "rs") {
            files.push(entry);
        }
    }
    Ok(files)
}

fn entries(folder: &Path) -> Result<Vec<PathBuf>, Error> {
    let read = fs::read_dir(folder).map_err(Error::file("read", folder))?;
    let paths: Result<Vec<_>, _> = read.map(|entry| entry.map(|entry| entry.path())).collect();
    paths.map_err(Error::file("read", folder))
}

fn read(path: &Path) -> Result<String, Error> {
    fs::read_to_string(path).map_err(Error::file("read", path))
}

/// Writes a file, and the folders to it.
pub fn write(path: &Path, text: &str) -> Result<(), Error> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(Error::file("create", folder))?;
    }
    fs::write(path, text).map_err(Error::file("write", path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patched_crates_are_those_with_a_copy() {
        let manifest: Table = "
            [patch.crates-io]
            objc2-metal = { path = '.bindings/objc2-metal' }
            half = { path = '../half' }
            rand = { git = 'https://example.com/rand' }"
            .parse()
            .unwrap();
        assert_eq!(
            patched_crates(&manifest).collect::<Vec<_>>(),
            ["objc2-metal"]
        );
    }

    #[test]
    fn a_copy_is_patched_once_and_a_changed_crate_is_named() {
        let copy = std::env::temp_dir().join(format!("xtask-bindings-{}", std::process::id()));
        let binding = Binding {
            name: "objc2-metal".to_owned(),
            version: "0.3.2".to_owned(),
        };
        write(
            &copy.join("Cargo.toml"),
            "[package]\nname = \"objc2-metal\"\n",
        )
        .unwrap();
        let attribute = "#[link(name = \"Metal\", kind = \"framework\")]\nextern \"C\" {}\n";
        write(&copy.join(GUARDED), attribute).unwrap();
        patch_crate(&binding, &copy).unwrap();
        assert!(
            read(&copy.join(GUARDED))
                .unwrap()
                .starts_with("#[cfg_attr(")
        );
        assert!(
            read(&copy.join("Cargo.toml"))
                .unwrap()
                .contains(patch::ABI_CRATE)
        );

        let error = |text| {
            write(&copy.join("src/lib.rs"), text).unwrap();
            patch_crate(&binding, &copy).unwrap_err().to_string()
        };
        let none = error("");
        assert!(none.starts_with("objc2-metal 0.3.2 has changed"), "{none}");
        assert!(none.contains("found none"), "{none}");
        let elsewhere = error(attribute);
        assert!(elsewhere.contains("found 1 in src/lib.rs"), "{elsewhere}");
        fs::remove_dir_all(copy).unwrap();
    }

    #[test]
    fn the_state_changes_with_versions_and_with_files() {
        let target = std::env::temp_dir().join(format!("xtask-state-{}", std::process::id()));
        let binding = |version: &str| {
            [Binding {
                name: "objc2-metal".to_owned(),
                version: version.to_owned(),
            }]
        };
        let path = target.join("objc2-metal").join(GUARDED);
        write(&path, "one").unwrap();
        let before = state(&target, &binding("0.3.2"));
        assert_eq!(before, state(&target, &binding("0.3.2")));
        assert_ne!(before, state(&target, &binding("0.3.3")));
        write(&path, "two").unwrap();
        assert_ne!(before, state(&target, &binding("0.3.2")));
        fs::remove_dir_all(target).unwrap();
    }
}
