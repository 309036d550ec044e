//! `candle-mps patch`: gives a whole program our ops without a change of its source. The candle-nn
//! that it uses is copied out of cargo's registry into its workspace, the copy is made to call
//! candle-mps-ops, and one line makes cargo use the copy.
//!
//! Everything is looked at before anything is written. The copy is made under another name and gets
//! its own when it is complete; the line comes last, and goes first when it is taken back: so there is
//! no moment at which the workspace does not build.

mod edits;
mod error;
mod files;
mod items;
mod manifest;
mod record;
mod workspace;

use std::fmt::Write;
use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;
use serde_json::json;

use self::edits::{Change, Edited, Redirects};
pub use self::error::Error;
use self::error::Result;
use self::manifest::Patch;
use self::record::{FOLDER, Record};
use self::workspace::{Ops, Package, Packages, Workspace};

pub const EXAMPLES: &str = "\
Examples:
  candle-mps patch --dry-run       what would change, and nothing is written
  candle-mps patch                 then build and run the program as always
  candle-mps patch --undo          all is as it was
  candle-mps patch --manifest-path ../other/Cargo.toml";

#[derive(Args)]
pub struct Arguments {
    /// Take back what `candle-mps patch` has done
    #[arg(long)]
    undo: bool,
    /// Show what would be done and write nothing
    #[arg(long)]
    dry_run: bool,
    /// The Cargo.toml of the workspace or of one of its packages; otherwise the current folder's
    #[arg(long, value_name = "PATH")]
    manifest_path: Option<PathBuf>,
    /// A local checkout of candle-mps-ops; otherwise the one that the workspace uses already, or the
    /// one of crates.io
    #[arg(long, value_name = "PATH", conflicts_with = "undo")]
    ops: Option<PathBuf>,
    /// Print what was done as JSON
    #[arg(long)]
    json: bool,
}

/// What was done, as `--json` prints it.
#[derive(Debug, Serialize)]
struct Done<'a> {
    workspace: &'a Path,
    undo: bool,
    dry_run: bool,
    /// Line by line.
    said: Vec<&'a str>,
}

/// The command. Returns what is to be said.
pub fn run(arguments: &Arguments) -> Result<String> {
    let workspace = Workspace::find(arguments.manifest_path.as_deref())?;
    let Arguments { undo, dry_run, .. } = *arguments;
    let said = if undo {
        self::undo(&workspace, dry_run)?
    } else {
        let ops = arguments.ops.as_deref().map(Ops::checkout).transpose()?;
        patch(&workspace, ops, dry_run)?
    };
    if !arguments.json {
        return Ok(said);
    }
    let done = json!(Done {
        workspace: &workspace.manifest,
        undo,
        dry_run,
        said: said.lines().collect(),
    });
    Ok(format!("{done:#}\n"))
}

/// What a workspace consists of before it is changed.
struct Before {
    manifest: String,
    lock: Option<String>,
}

impl Before {
    fn read(workspace: &Workspace) -> Result<Self> {
        Ok(Self {
            manifest: files::read(&workspace.manifest)?,
            lock: files::read_if_there(&workspace.lock())?,
        })
    }

    /// Puts everything back, as far as that is possible.
    fn restore(&self, workspace: &Workspace) {
        let (manifest, lock) = (&workspace.manifest, workspace.lock());
        for (path, text) in [
            (manifest, Some(self.manifest.as_str())),
            (&lock, self.lock.as_deref()),
        ] {
            if files::read_if_there(path).ok().flatten().as_deref() != text {
                // What stopped the command is told; this can only fail for the same reason.
                let _ = files::replace(path, text);
            }
        }
        let _ = files::remove_folder(&workspace.root().join(FOLDER));
    }
}

/// What is going to be written.
struct Plan {
    candle_nn: Package,
    ops: String,
    manifest: String,
    copy_manifest: String,
    edited: Vec<Edited>,
}

fn patch(workspace: &Workspace, ops: Option<Ops>, dry_run: bool) -> Result<String> {
    let before = Before::read(workspace)?;
    let toml = |source| Error::Toml {
        path: workspace.manifest.clone(),
        source,
    };
    match manifest::patch(&before.manifest).map_err(toml)? {
        Patch::None => {}
        Patch::Ours => return patched_already(workspace, ops.as_ref()),
        Patch::Other(line) => {
            return Err(Error::OwnPatch {
                manifest: workspace.manifest.clone(),
                line,
            });
        }
    }
    let planned = plan(workspace, &before, ops);
    if dry_run {
        // Cargo writes a lock file where there is none.
        if files::read_if_there(&workspace.lock())? != before.lock {
            files::replace(&workspace.lock(), before.lock.as_deref())?;
        }
        return Ok(summary(workspace, &before, &planned?));
    }
    let plan = planned?;
    check_writable(workspace)?;
    let folder = workspace.root().join(FOLDER);
    if folder.symlink_metadata().is_ok() {
        // One that an interrupted run has left, or else not ours to touch.
        Record::read(&folder)?
            .filter(|record| record.holds(&folder))
            .ok_or_else(|| Error::InTheWay {
                path: folder.clone(),
            })?;
        files::remove_folder(&folder)?;
    }
    let written = write(workspace, &before, &plan).and_then(|record| {
        files::replace(&workspace.manifest, Some(&plan.manifest))?;
        verify(workspace)?;
        record.with_lock(workspace).write(&folder)
    });
    if let Err(error) = written {
        before.restore(workspace);
        return Err(error);
    }
    Ok(format!(
        "candle-nn {} is patched: {} places in {} files call candle-mps-ops ({})\n  \
         written  {}\n  changed  {}, Cargo.lock\n\
         Build as always; `candle-mps patch --undo` takes it back\n",
        plan.candle_nn.version,
        plan.places(),
        plan.edited.len(),
        plan.ops,
        manifest::COPY,
        workspace.manifest.display(),
    ))
}

/// Looks at everything, and writes nothing.
fn plan(workspace: &Workspace, before: &Before, ops: Option<Ops>) -> Result<Plan> {
    let mut packages = workspace.packages()?;
    let used = |name| packages.named(name).next().is_some();
    let (uses_nn, uses_ops) = (used("candle-nn"), used("candle-mps-ops"));
    if !uses_nn || (ops.is_none() && !uses_ops) {
        // They may be optional.
        match workspace.all_packages() {
            Ok(all) => packages = all,
            Err(_) if uses_nn => {}
            Err(error) => return Err(error),
        }
    }
    let candle_nn = candle_nn(workspace, &packages)?;
    let edited = Redirects::read().apply(&candle_nn.version, candle_nn.folder())?;
    let root = workspace.root();
    let root = root.canonicalize().map_err(Error::file("read", root))?;
    let ops = ops
        .or_else(|| packages.ops())
        .unwrap_or_else(Ops::published);
    let folder = root.join(manifest::COPY);
    let published = files::read(&candle_nn.manifest_path)?;
    let copy_manifest =
        manifest::of_copy(&published, &folder, &ops).map_err(|source| Error::Toml {
            path: candle_nn.manifest_path.clone(),
            source,
        })?;
    Ok(Plan {
        manifest: manifest::with_patch(&before.manifest).map_err(|source| Error::Toml {
            path: workspace.manifest.clone(),
            source,
        })?,
        candle_nn,
        ops: ops.dependency(&folder),
        copy_manifest,
        edited,
    })
}

/// The candle-nn that the workspace uses, if it is one that is known.
fn candle_nn(workspace: &Workspace, packages: &Packages) -> Result<Package> {
    let known = Redirects::read().versions;
    let all: Vec<&Package> = packages.named("candle-nn").collect();
    let published = all.iter().filter(|it| it.is_of_crates_io());
    let mut published = published.copied().peekable();
    let other = published.peek().copied();
    if let Some(package) = published.find(|it| known.contains(&it.version)) {
        return Ok(package.clone());
    }
    Err(match (other, all.first()) {
        (Some(package), _) => Error::Unknown {
            found: package.version.clone(),
            own: env!("CARGO_PKG_VERSION"),
            known: known.join(", "),
        },
        (None, Some(package)) => Error::Elsewhere {
            manifest: workspace.manifest.clone(),
            version: package.version.clone(),
            origin: match &package.source {
                Some(source) => source.clone(),
                None => package.folder().display().to_string(),
            },
        },
        (None, None) => Error::NoCandleNn {
            manifest: workspace.manifest.clone(),
        },
    })
}

fn check_writable(workspace: &Workspace) -> Result<()> {
    let lock = workspace.lock();
    for path in [workspace.root(), &workspace.manifest, &lock] {
        if path.exists() {
            files::check_writable(path)?;
        }
    }
    Ok(())
}

/// Writes the folder with the copy and the record.
fn write(workspace: &Workspace, before: &Before, plan: &Plan) -> Result<Record> {
    let new = workspace.root().join(format!(".{FOLDER}.new"));
    let folder = workspace.root().join(FOLDER);
    let fill = || {
        files::remove_folder(&new)?;
        let copy = new.join("candle-nn");
        files::copy_folder(plan.candle_nn.folder(), &copy)?;
        for edited in &plan.edited {
            files::write(&copy.join(&edited.file), &edited.after())?;
        }
        let (file, text) = edits::MODULE;
        files::write(&copy.join(file), text)?;
        files::write(&copy.join("Cargo.toml"), &plan.copy_manifest)?;
        let record = Record::new(&plan.candle_nn.version, &plan.ops, &new, &plan.manifest)?;
        record::keep(&new, &before.manifest, before.lock.as_deref())?;
        record.write(&new)?;
        std::fs::rename(&new, &folder).map_err(Error::file("write", &folder))?;
        Ok(record)
    };
    fill().inspect_err(|_| {
        // What stopped the command is told.
        let _ = files::remove_folder(&new);
    })
}

/// Asks cargo whether it uses the copy now.
fn verify(workspace: &Workspace) -> Result<()> {
    let used = uses_copy(workspace).map_err(|error| match error {
        Error::Cargo { message } if message.contains("candle-mps-ops") => Error::Refused {
            remedy: "name a checkout with --ops PATH, or make the workspace depend on candle-mps:",
            message,
        },
        Error::Cargo { message } => Error::Refused {
            remedy: "if it takes the copy for a member, add `exclude = [\"candle-mps-patch\"]` to \
                     [workspace]:",
            message,
        },
        error => error,
    })?;
    if used {
        return Ok(());
    }
    Err(Error::Refused {
        remedy: "it uses another candle-nn all the same; is there a patch in a .cargo/config.toml?",
        message: String::new(),
    })
}

fn uses_copy(workspace: &Workspace) -> Result<bool> {
    let copy = workspace.root().join(manifest::COPY).canonicalize().ok();
    let among = |packages: Packages| {
        let mut all = packages.named("candle-nn");
        all.any(|package| package.source.is_none() && package.folder().canonicalize().ok() == copy)
    };
    // It may be optional.
    Ok(among(workspace.packages()?) || among(workspace.all_packages()?))
}

/// A second run: says so, if all is as this program would do it.
fn patched_already(workspace: &Workspace, ops: Option<&Ops>) -> Result<String> {
    let otherwise = |how: String| Error::PatchedOtherwise {
        manifest: workspace.manifest.clone(),
        how,
    };
    let folder = workspace.root().join(FOLDER);
    let Some(record) = Record::read(&folder)? else {
        return Err(otherwise(format!("but {} is not there", manifest::COPY)));
    };
    if !record.holds(&folder) {
        return Err(otherwise(format!(
            "but {} was changed since",
            manifest::COPY
        )));
    }
    if !record.is_current() {
        let by = format!("by {}, which redirects in another way", record.by);
        return Err(otherwise(by));
    }
    let root = workspace.root();
    let root = root.canonicalize().map_err(Error::file("read", root))?;
    let ops = ops.map(|ops| ops.dependency(&root.join(manifest::COPY)));
    if ops.is_some_and(|ops| ops != record.ops) {
        return Err(otherwise(format!("with candle-mps-ops {}", record.ops)));
    }
    if !uses_copy(workspace)? {
        let unused = "but uses another version of candle-nn now".to_owned();
        return Err(otherwise(unused));
    }
    Ok(format!(
        "nothing to do: candle-nn {} is patched already, in {}\n",
        record.candle_nn,
        folder.display()
    ))
}

fn undo(workspace: &Workspace, dry_run: bool) -> Result<String> {
    let Before { manifest, lock } = Before::read(workspace)?;
    let toml = |source| Error::Toml {
        path: workspace.manifest.clone(),
        source,
    };
    let folder = workspace.root().join(FOLDER);
    let ours = manifest::patch(&manifest).map_err(toml)? == Patch::Ours;
    let record = Record::read(&folder)?;
    let there = folder.symlink_metadata().is_ok();
    if !ours && record.is_none() {
        return Ok(format!(
            "nothing to undo: {} has no patch of candle-mps\n",
            workspace.manifest.display()
        ));
    }
    if there && !record.as_ref().is_some_and(|it| it.holds(&folder)) {
        return Err(Error::Edited { path: folder });
    }
    let mut said = String::new();
    let (did, removed) = if dry_run {
        ("would be", "would remove")
    } else {
        ("is", "removed")
    };
    let before = record::kept(&folder)?;
    let untouched = record.as_ref().filter(|it| it.is_manifest(&manifest));
    let manifest = match (untouched, &before.manifest) {
        (Some(_), Some(before)) => before.clone(),
        _ => manifest::without_patch(&manifest).map_err(toml)?,
    };
    // Writing to a `String` does not fail.
    let _ = writeln!(
        said,
        "{} {did} without the patch",
        workspace.manifest.display()
    );
    if there {
        let _ = writeln!(said, "{removed} {}", folder.display());
    }
    if dry_run {
        return Ok(said);
    }
    check_writable(workspace)?;
    files::replace(&workspace.manifest, Some(&manifest))?;
    files::remove_folder(&folder)?;
    let same_lock = record
        .as_ref()
        .is_some_and(|it| it.is_lock(lock.as_deref()));
    if same_lock {
        files::replace(&workspace.lock(), before.lock.as_deref())?;
    } else if let Some(record) = record
        && workspace.keep(&record.candle_nn).is_err()
    {
        let _ = writeln!(
            said,
            "cargo takes the newest candle-nn that fits; `cargo update candle-nn --precise {}` \
             goes back to the one before",
            record.candle_nn
        );
    }
    Ok(said)
}

/// What `--dry-run` shows.
fn summary(workspace: &Workspace, before: &Before, plan: &Plan) -> String {
    let copy = Path::new(manifest::COPY);
    let mut text = format!(
        "candle-nn {} of crates.io would be copied to {}, and the copy would change:\n",
        plan.candle_nn.version,
        workspace.root().join(copy).display()
    );
    let added = |file: &Path, before: &str, after: &str| {
        let lines = manifest::added(before, after);
        let lines = lines.iter().filter(|line| !line.is_empty());
        let lines: String = lines.map(|line| format!("+ {line}\n")).collect();
        format!("\n{}\n{lines}", file.display())
    };
    // Writing to a `String` does not fail.
    for edited in &plan.edited {
        let _ = writeln!(text, "\n{}", copy.join(&edited.file).display());
        for Change {
            place,
            range,
            text: new,
        } in &edited.changes
        {
            let line = edited.before[..range.start].matches('\n').count() + 1;
            let _ = writeln!(text, "@@ line {line}: {place}");
            for (sign, lines) in [('-', &edited.before[range.clone()]), ('+', new.as_str())] {
                let lines = lines.lines().filter(|line| !line.trim().is_empty());
                for line in lines {
                    let _ = writeln!(text, "{sign} {line}");
                }
            }
        }
    }
    let (file, module) = edits::MODULE;
    let _ = writeln!(
        text,
        "\n{}\n+ {} lines: from candle-nn to candle-mps-ops",
        copy.join(file).display(),
        module.lines().count()
    );
    let published = files::read(&plan.candle_nn.manifest_path).unwrap_or_default();
    text.push_str(&added(
        &copy.join("Cargo.toml"),
        &published,
        &plan.copy_manifest,
    ));
    text.push_str(&added(
        &workspace.manifest,
        &before.manifest,
        &plan.manifest,
    ));
    text.push_str("\nNothing was written.\n");
    text
}

impl Plan {
    fn places(&self) -> usize {
        self.edited.iter().map(|edited| edited.changes.len()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn repository() -> Workspace {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        Workspace::find(Some(&root)).unwrap()
    }

    fn package(version: &str, source: Option<&str>) -> Package {
        Package {
            name: "candle-nn".to_owned(),
            version: version.to_owned(),
            source: source.map(str::to_owned),
            manifest_path: "/a/candle-nn/Cargo.toml".into(),
        }
    }

    #[test]
    fn a_known_candle_nn_of_crates_io_is_chosen_and_no_other() {
        let crates_io = Some("registry+https://github.com/rust-lang/crates.io-index");
        let choose = |packages: Vec<Package>| {
            let chosen = candle_nn(&repository(), &Packages { packages });
            chosen.map(|it| it.version).map_err(|it| it.to_string())
        };
        let old = || package("0.9.2", crates_io);
        let known = || package("0.11.1", crates_io);
        assert_eq!(choose(vec![old(), known()]).unwrap(), "0.11.1");
        let unknown = choose(vec![old()]).unwrap_err();
        assert!(
            unknown.starts_with("candle-nn 0.9.2 is not known"),
            "{unknown}"
        );
        assert!(unknown.contains("0.11.0, 0.11.1"), "{unknown}");
        assert!(
            unknown.contains("cargo update candle-nn --precise"),
            "{unknown}"
        );
        let git = package("0.11.1", Some("git+https://example.com/candle#0"));
        let elsewhere = choose(vec![git]).unwrap_err();
        assert!(
            elsewhere.contains("git+https://example.com/candle#0"),
            "{elsewhere}"
        );
        assert!(
            choose(Vec::new())
                .unwrap_err()
                .contains("depends on candle-nn")
        );
    }

    #[test]
    fn each_edited_item_of_the_published_source_is_recognised_by_its_text() {
        let packages = repository().packages().unwrap();
        let published = packages.named("candle-nn").next().unwrap();
        let edited = Redirects::read()
            .apply("0.11.1", published.folder())
            .unwrap();
        let scratch = std::env::temp_dir().join(format!("candle-mps-items-{}", std::process::id()));
        for file in &edited {
            for change in &file.changes {
                // One letter of it is another one.
                let mut text = file.before.clone();
                let range = match change.range.is_empty() {
                    true => change.range.start..file.before.len(),
                    false => change.range.clone(),
                };
                let at = range.start
                    + text[range]
                        .find(|it: char| it.is_ascii_lowercase())
                        .unwrap();
                text.replace_range(at..=at, "Q");
                files::copy_folder(&published.folder().join("src"), &scratch.join("src")).unwrap();
                files::write(&scratch.join(&file.file), &text).unwrap();
                let error = Redirects::read()
                    .apply("0.11.1", &scratch)
                    .unwrap_err()
                    .to_string();
                assert!(error.contains("differs from what was published"), "{error}");
                assert!(error.contains(file.file.to_str().unwrap()), "{error}");
            }
        }
        files::remove_folder(&scratch).unwrap();
    }
}
