//! Keeps the two workspaces in step. Cargo lets a workspace inherit nothing from another, so
//! `sim/Cargo.toml` repeats three tables of the root and has its own lock file; this module finds
//! what differs.

use std::collections::{BTreeMap, BTreeSet};

use toml::{Table, Value};

use crate::error::Error;
use crate::layout::{Layout, read_toml};
use crate::process::Step;

const SHARED: [&str; 3] = ["package", "lints", "dependencies"];

/// Compares the tables and the lock files, and checks that the lock files are up to date.
pub fn check(layout: &Layout) -> Result<(), Error> {
    let (root, sim) = (layout.root(), layout.sim());
    let mut differences = compare_tables(
        &read_toml(&root.join("Cargo.toml"))?,
        &read_toml(&sim.join("Cargo.toml"))?,
    );
    for folder in [root, &sim] {
        Step::cargo(folder)
            .args([
                "metadata",
                "--locked",
                "--quiet",
                "--format-version=1",
                "--features=metal",
            ])
            .args(["--filter-platform=x86_64-unknown-linux-gnu"])
            .output()?;
    }
    differences.extend(compare_locks(
        &read_toml(&root.join("Cargo.lock"))?,
        &read_toml(&sim.join("Cargo.lock"))?,
    ));
    if differences.is_empty() {
        Ok(())
    } else {
        Err(Error::Tables { differences })
    }
}

/// Differences in `[workspace.package]`, `[workspace.lints]` and `[workspace.dependencies]`.
fn compare_tables(root: &Table, sim: &Table) -> Vec<String> {
    let mut differences = Vec::new();
    for name in SHARED {
        let table = |manifest: &Table| manifest.get("workspace")?.get(name).cloned();
        let path = format!("workspace.{name}");
        compare(
            &path,
            table(root).as_ref(),
            table(sim).as_ref(),
            &mut differences,
        );
    }
    differences
}

/// Goes down to the innermost keys that differ, so that a message fits a line.
fn compare(path: &str, root: Option<&Value>, sim: Option<&Value>, differences: &mut Vec<String>) {
    if root == sim {
        return;
    }
    if let (Some(Value::Table(root)), Some(Value::Table(sim))) = (root, sim) {
        let keys: BTreeSet<_> = root.keys().chain(sim.keys()).collect();
        for key in keys {
            compare(
                &format!("{path}.{key}"),
                root.get(key),
                sim.get(key),
                differences,
            );
        }
        return;
    }
    let shown = |value: Option<&Value>| value.map_or("nothing".to_owned(), Value::to_string);
    differences.push(format!(
        "{path}: {} here, {} in sim",
        shown(root),
        shown(sim)
    ));
}

/// Packages of which the two lock files have different versions. A package may be there in
/// several incompatible versions; each of them is compared with its like.
fn compare_locks(root: &Table, sim: &Table) -> Vec<String> {
    let (root, sim) = (locked(root), locked(sim));
    let both = root
        .iter()
        .filter_map(|(key, version)| Some((key, version, sim.get(key)?)));
    both.filter(|(_, root, sim)| root != sim)
        .map(|((name, _), root, sim)| {
            format!(
                "{name}: {root} here, {sim} in sim; \
                 `cargo update --manifest-path sim/Cargo.toml {name}@{sim} --precise {root}`"
            )
        })
        .collect()
}

/// The versions in a lock file, by package and compatible release.
fn locked(lock: &Table) -> BTreeMap<(String, String), String> {
    let packages = lock
        .get("package")
        .and_then(Value::as_array)
        .into_iter()
        .flatten();
    packages
        .filter_map(|package| {
            let name = package.get("name")?.as_str()?;
            let version = package.get("version")?.as_str()?;
            Some(((name.to_owned(), release(version)), version.to_owned()))
        })
        .collect()
}

/// The part of a version that incompatible releases differ in: `1`, `0.3`, `0.0.7`.
fn release(version: &str) -> String {
    let parts: Vec<_> = version.split(['.', '+', '-']).collect();
    let zeros = parts
        .iter()
        .take(2)
        .take_while(|part| **part == "0")
        .count();
    parts[..parts.len().min(zeros + 1)].join(".")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(text: &str) -> Table {
        text.parse().unwrap()
    }

    const ROOT: &str = "
[workspace.package]
edition = '2024'
[workspace.lints.rust]
unsafe_code = 'deny'
[workspace.dependencies]
clap = { version = '4', features = ['derive'] }
half = '2'
[profile.dev]
opt-level = 1
";

    #[test]
    fn equal_tables_do_not_differ_whatever_else_does() {
        let sim = ROOT
            .replace("opt-level = 1", "opt-level = 2")
            .replace('\'', "\"");
        assert!(compare_tables(&table(ROOT), &table(&sim)).is_empty());
    }

    #[test]
    fn each_difference_is_one_line_with_its_path() {
        let sim = ROOT
            .replace("'4'", "'5'")
            .replace("half = '2'\n", "")
            .replace("unsafe_code = 'deny'", "unsafe_code = 'allow'");
        assert_eq!(
            compare_tables(&table(ROOT), &table(&sim)),
            [
                "workspace.lints.rust.unsafe_code: \"deny\" here, \"allow\" in sim",
                "workspace.dependencies.clap.version: \"4\" here, \"5\" in sim",
                "workspace.dependencies.half: \"2\" here, nothing in sim",
            ]
        );
        assert_eq!(compare_tables(&table(ROOT), &table("")).len(), 3);
    }

    fn lock(packages: &[(&str, &str)]) -> Table {
        let text: String = packages
            .iter()
            .map(|(name, version)| format!("[[package]]\nname='{name}'\nversion='{version}'\n"))
            .collect();
        table(&text)
    }

    #[test]
    fn locked_versions_are_compared_release_by_release() {
        let root = lock(&[
            ("a", "1.2.0"),
            ("a", "2.0.1"),
            ("b", "0.3.1"),
            ("only-here", "1.0.0"),
        ]);
        let same = lock(&[("a", "2.0.1"), ("b", "0.4.0"), ("only-there", "1.0.0")]);
        assert!(compare_locks(&root, &same).is_empty());
        let other = lock(&[("a", "1.2.1"), ("b", "0.3.1")]);
        let differences = compare_locks(&root, &other);
        assert_eq!(differences.len(), 1);
        assert!(
            differences[0].starts_with("a: 1.2.0 here, 1.2.1 in sim"),
            "{differences:?}"
        );
        assert!(
            differences[0].contains("a@1.2.1 --precise 1.2.0"),
            "{differences:?}"
        );
    }

    #[test]
    fn releases_are_what_cargo_holds_compatible() {
        let releases = ["1.2.3", "0.3.2", "0.0.7", "2.0.0-rc.1"].map(release);
        assert_eq!(releases, ["1", "0.3", "0.0.7", "2"]);
    }
}
