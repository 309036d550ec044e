//! `candle-mps patch` as a user sees it, on workspaces in temporary folders. They use the candle-nn
//! that cargo has fetched for this repository, so that no test needs more of a network than a build.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const LINE: &str = "candle-nn = { path = \"candle-mps-patch/candle-nn\" }";

/// A user's workspace, removed in the end.
struct User {
    root: PathBuf,
}

impl User {
    /// With this manifest; `VERSION` in it is the version of candle-nn.
    fn new(name: &str, manifest: &str) -> Self {
        let name = format!("candle-mps-patch-{name}-{}", std::process::id());
        let root = std::env::temp_dir().join(name);
        // Of a process that had this number before.
        let _ = fs::remove_dir_all(&root);
        fs::create_dir_all(root.join("src")).unwrap();
        let user = Self {
            root: root.canonicalize().unwrap(),
        };
        user.write("Cargo.toml", manifest);
        user.write("src/lib.rs", "");
        // The versions of this repository, which cargo has.
        let lock = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../Cargo.lock");
        if let Ok(lock) = fs::read_to_string(lock) {
            user.write("Cargo.lock", &lock);
        }
        // Cargo takes out of it what is not used, before anything is compared.
        user.metadata();
        user
    }

    fn with_candle_nn(name: &str) -> Self {
        Self::new(name, MANIFEST)
    }

    fn metadata(&self) -> Output {
        Command::new(env!("CARGO"))
            .args(["metadata", "--format-version=1", "--quiet"])
            .current_dir(&self.root)
            .output()
            .unwrap()
    }

    fn write(&self, path: &str, text: &str) {
        fs::write(self.root.join(path), text).unwrap();
    }

    fn read(&self, path: &str) -> String {
        fs::read_to_string(self.root.join(path)).unwrap()
    }

    /// All files and what is in them.
    fn files(&self) -> Vec<(PathBuf, Vec<u8>)> {
        fn collect(folder: &Path, files: &mut Vec<(PathBuf, Vec<u8>)>) {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    collect(&path, files);
                } else {
                    files.push((path.clone(), fs::read(path).unwrap()));
                }
            }
        }
        let mut files = Vec::new();
        collect(&self.root, &mut files);
        files.sort();
        files
    }

    fn run(&self, arguments: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_candle-mps"))
            .arg("patch")
            .args(arguments)
            .current_dir(&self.root)
            .output()
            .unwrap()
    }

    /// Runs it, and returns what it says.
    fn succeeds(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Runs it on a workspace that it must refuse and leave alone, and returns why.
    fn refuses(&self, arguments: &[&str]) -> String {
        let before = self.files();
        let output = self.run(arguments);
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        assert!(output.stdout.is_empty(), "{output:?}");
        assert!(before == self.files(), "files changed: {output:?}");
        String::from_utf8(output.stderr).unwrap()
    }
}

impl Drop for User {
    fn drop(&mut self) {
        // Those of one test are read-only.
        let _ = fs::remove_dir_all(&self.root);
    }
}

const MANIFEST: &str = "\
# A comment of the user's.
[package]
name =    'user'   # spaced as they like it
edition = '2024'

[dependencies]
candle-nn = {version='0.11.1', default-features=false}
";

/// The checkout that these tests are in.
fn ops() -> String {
    let ops = Path::new(env!("CARGO_MANIFEST_DIR")).join("../candle-mps-ops");
    ops.to_str().unwrap().to_owned()
}

fn patched(name: &str) -> User {
    let user = User::with_candle_nn(name);
    user.succeeds(&["--ops", &ops()]);
    user
}

#[test]
fn patch_makes_cargo_use_a_copy_and_undo_takes_back_every_byte() {
    let user = User::with_candle_nn("there-and-back");
    let before = user.files();
    let said = user.succeeds(&["--ops", &ops()]);
    assert!(said.contains("candle-nn 0.11.1 is patched"), "{said}");
    let manifest = user.read("Cargo.toml");
    assert!(manifest.starts_with(MANIFEST), "{manifest}");
    assert!(manifest.contains(LINE), "{manifest}");
    let copy = "candle-mps-patch/candle-nn";
    assert!(
        user.read(&format!("{copy}/src/ops.rs"))
            .contains("crate::candle_mps::softmax(")
    );
    assert!(
        user.read(&format!("{copy}/Cargo.toml"))
            .contains("candle-mps-ops")
    );
    let metadata = String::from_utf8(user.metadata().stdout).unwrap();
    assert!(
        metadata.contains("/candle-mps-patch/candle-nn/Cargo.toml"),
        "{metadata}"
    );
    assert!(
        !metadata.contains("/candle-nn-0.11.1/Cargo.toml"),
        "{metadata}"
    );

    let said = user.succeeds(&["--undo"]);
    assert!(said.contains("without the patch"), "{said}");
    assert!(before == user.files(), "not as before");
}

#[test]
fn a_dry_run_shows_everything_and_writes_nothing() {
    let user = User::with_candle_nn("dry");
    let before = user.files();
    let said = user.succeeds(&["--dry-run", "--ops", &ops()]);
    for part in [
        "candle-nn/src/linear.rs",
        "+     if let Some(done) = crate::candle_mps::softmax_last_dim(xs)",
        "-     first_moment: Var,",
        LINE,
        "+ candle-mps-ops = { path = ",
        "Nothing was written.",
    ] {
        assert!(said.contains(part), "no {part} in {said}");
    }
    assert!(before == user.files());
    fs::remove_file(user.root.join("Cargo.lock")).unwrap();
    let before = user.files();
    user.succeeds(&["--dry-run", "--ops", &ops()]);
    assert!(before == user.files(), "a lock file was left");
}

#[test]
fn json_has_the_same_lines() {
    let user = User::with_candle_nn("json");
    let said = user.succeeds(&["--dry-run", "--ops", &ops()]);
    let json = user.succeeds(&["--dry-run", "--json", "--ops", &ops()]);
    let done: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(done["dry_run"], true);
    assert_eq!(done["undo"], false);
    let lines: Vec<_> = done["said"].as_array().unwrap().iter().collect();
    assert_eq!(lines, said.lines().collect::<Vec<_>>());
}

#[test]
fn a_second_run_and_a_second_undo_do_nothing_and_say_so() {
    let user = patched("twice");
    let once = user.files();
    for arguments in [&[][..], &["--ops", &ops()], &["--dry-run"]] {
        let said = user.succeeds(arguments);
        assert!(
            said.starts_with("nothing to do: candle-nn 0.11.1"),
            "{said}"
        );
    }
    assert!(once == user.files());
    user.succeeds(&["--undo", "--dry-run"]);
    assert!(once == user.files());
    user.succeeds(&["--undo"]);
    let said = user.succeeds(&["--undo"]);
    assert!(said.starts_with("nothing to undo"), "{said}");
}

#[test]
fn what_the_user_changes_in_between_stays() {
    let user = patched("between");
    let manifest = format!("{}\n[profile.dev]\ndebug = 0\n", user.read("Cargo.toml"));
    user.write("Cargo.toml", &manifest);
    user.write(
        "Cargo.lock",
        &format!("# mine\n{}", user.read("Cargo.lock")),
    );
    user.succeeds(&["--undo"]);
    assert_eq!(
        user.read("Cargo.toml"),
        format!("{MANIFEST}\n[profile.dev]\ndebug = 0\n")
    );
    assert!(!user.root.join("candle-mps-patch").exists());
    let metadata = String::from_utf8(user.metadata().stdout).unwrap();
    assert!(
        metadata.contains("/candle-nn-0.11.1/Cargo.toml"),
        "{metadata}"
    );
}

#[test]
fn the_ops_come_from_where_the_workspace_has_them() {
    let manifest = format!("{MANIFEST}candle-mps-ops = {{ path = {:?} }}\n", ops());
    let user = User::new("source", &manifest);
    user.succeeds(&[]);
    let copy = user.read("candle-mps-patch/candle-nn/Cargo.toml");
    let line = copy.lines().find(|it| it.starts_with("candle-mps-ops"));
    assert!(line.unwrap().contains("crates/candle-mps-ops"), "{line:?}");
    let optional = manifest.replace("\" }\n", "\", optional = true }\n");
    assert_ne!(optional, manifest);
    let user = User::new("optional", &optional);
    user.succeeds(&[]);
}

#[test]
fn members_of_a_workspace_are_patched_at_its_root() {
    let user = User::new(
        "members",
        "[workspace]\nmembers = ['crates/*']\nresolver = '3'\n",
    );
    fs::create_dir_all(user.root.join("crates/one/src")).unwrap();
    user.write("crates/one/Cargo.toml", MANIFEST);
    user.write("crates/one/src/lib.rs", "");
    user.metadata();
    let member = user.root.join("crates/one/Cargo.toml");
    user.succeeds(&["--ops", &ops(), "--manifest-path", member.to_str().unwrap()]);
    assert!(user.read("Cargo.toml").contains(LINE));
    assert_eq!(user.read("crates/one/Cargo.toml"), MANIFEST);
    assert!(user.metadata().status.success());
}

#[test]
fn without_candle_nn_there_is_nothing_to_patch() {
    let user = User::new("none", "[package]\nname = 'user'\nedition = '2024'\n");
    let why = user.refuses(&[]);
    assert!(why.contains("depends on candle-nn"), "{why}");
    assert!(why.contains("cargo add candle-nn"), "{why}");
}

#[test]
fn an_unknown_candle_nn_is_refused_with_its_version() {
    // No version of the registry: one that lies in a folder is none either, and needs no network.
    let user = User::with_candle_nn("unknown");
    fs::create_dir_all(user.root.join("own/src")).unwrap();
    user.write("own/src/lib.rs", "");
    user.write(
        "own/Cargo.toml",
        "[package]\nname = 'candle-nn'\nversion = '0.11.9'\n",
    );
    user.write(
        "Cargo.toml",
        &MANIFEST.replace("version='0.11.1'", "path='own'"),
    );
    user.metadata();
    let why = user.refuses(&[]);
    assert!(why.contains("candle-nn 0.11.9 from"), "{why}");
    assert!(why.contains("only the one of crates.io"), "{why}");
}

#[test]
fn a_patch_of_the_user_is_left_alone() {
    for (at, own) in [
        "[patch.crates-io]\ncandle-nn = { path = 'own' }\n",
        "[patch.crates-io.candle-nn]\npath = 'own'\n",
    ]
    .iter()
    .enumerate()
    {
        let user = User::with_candle_nn(&format!("own-{at}"));
        user.write("Cargo.toml", &format!("{MANIFEST}\n{own}"));
        fs::create_dir_all(user.root.join("own/src")).unwrap();
        user.write("own/src/lib.rs", "");
        user.write(
            "own/Cargo.toml",
            "[package]\nname = 'candle-nn'\nversion = '0.11.1'\n",
        );
        let why = user.refuses(&["--ops", &ops()]);
        assert!(why.contains("not from candle-mps"), "{why}");
        assert!(why.contains("path = 'own'"), "{why}");
        let said = user.succeeds(&["--undo"]);
        assert!(said.starts_with("nothing to undo"), "{said}");
    }
}

#[test]
fn read_only_files_and_folders_are_refused_by_name() {
    for (at, name) in ["Cargo.toml", "Cargo.lock", ""].into_iter().enumerate() {
        let user = User::with_candle_nn(&format!("read-only-{at}"));
        let path = user.root.join(name);
        let writable = fs::metadata(&path).unwrap().permissions();
        let mut read_only = writable.clone();
        read_only.set_readonly(true);
        fs::set_permissions(&path, read_only).unwrap();
        let why = user.refuses(&["--ops", &ops()]);
        fs::set_permissions(&path, writable).unwrap();
        assert!(why.contains("is read-only: make it writable"), "{why}");
        assert!(
            why.contains(path.to_str().unwrap().trim_end_matches('/')),
            "{why}"
        );
    }
}

#[test]
fn a_failure_after_the_first_write_takes_everything_back() {
    // There is no such package, as cargo finds out when all has been written.
    let user = User::with_candle_nn("rollback");
    fs::create_dir_all(user.root.join("ops")).unwrap();
    user.write(
        "ops/Cargo.toml",
        "[package]\nname = 'candle-mps-ops'\nversion = 'none'\n",
    );
    let why = user.refuses(&["--ops", "ops"]);
    assert!(why.contains("all is as it was"), "{why}");
    assert!(why.contains("--ops PATH"), "{why}");
}

#[test]
fn what_is_in_the_way_stays() {
    let user = User::with_candle_nn("in-the-way");
    fs::create_dir_all(user.root.join("candle-mps-patch")).unwrap();
    user.write("candle-mps-patch/mine", "precious");
    let why = user.refuses(&["--ops", &ops()]);
    assert!(why.contains("candle-mps-patch is in the way"), "{why}");
}

#[test]
fn an_interrupted_run_is_taken_up_again() {
    let user = patched("interrupted");
    // The folder comes before the line.
    user.write("Cargo.toml", MANIFEST);
    user.succeeds(&["--ops", &ops()]);
    user.succeeds(&["--undo"]);
    assert_eq!(user.read("Cargo.toml"), MANIFEST);
    // And the line goes before the folder.
    let user = patched("interrupted-undo");
    user.write("Cargo.toml", MANIFEST);
    user.succeeds(&["--undo"]);
    assert!(!user.root.join("candle-mps-patch").exists());
}

#[test]
fn an_edited_copy_is_neither_patched_again_nor_removed() {
    let user = patched("edited");
    user.write("candle-mps-patch/candle-nn/src/linear.rs", "// mine\n");
    let why = user.refuses(&[]);
    assert!(why.contains("was changed since"), "{why}");
    let why = user.refuses(&["--undo"]);
    assert!(why.contains("save what you need"), "{why}");
    // As the message says.
    fs::remove_dir_all(user.root.join("candle-mps-patch")).unwrap();
    let why = user.refuses(&[]);
    assert!(why.contains("is not there"), "{why}");
    user.succeeds(&["--undo"]);
    assert_eq!(user.read("Cargo.toml"), MANIFEST);
}

#[test]
fn other_ops_than_before_are_not_taken_silently() {
    let user = patched("other-ops");
    fs::create_dir_all(user.root.join("ops")).unwrap();
    user.write("ops/Cargo.toml", "[package]\nname = 'candle-mps-ops'\n");
    let why = user.refuses(&["--ops", "ops"]);
    assert!(
        why.contains("patched already, with candle-mps-ops"),
        "{why}"
    );
    let why = user.refuses(&["--ops", "src"]);
    assert!(why.contains("is not a folder of candle-mps-ops"), "{why}");
}

#[test]
fn a_broken_manifest_is_named() {
    let user = User::with_candle_nn("broken");
    user.write("Cargo.toml", "[package\n");
    let why = user.refuses(&[]);
    assert!(why.contains("Cargo.toml"), "{why}");
    let why = user.refuses(&["--manifest-path", "no/such/Cargo.toml"]);
    assert!(why.contains("no/such/Cargo.toml"), "{why}");
}

#[test]
fn the_help_has_examples_and_the_exit_status() {
    let user = User::with_candle_nn("help");
    let help = user.succeeds(&["--help"]);
    for part in [
        "Examples:",
        "candle-mps patch --undo",
        "Exit status:",
        "--ops",
    ] {
        assert!(help.contains(part), "{help}");
    }
    let wrong = user.run(&["--undo", "--ops", "x"]);
    assert_eq!(wrong.status.code(), Some(2));
}
