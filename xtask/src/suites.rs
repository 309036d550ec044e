//! Other people's tests on the simulator: crates are copied from cargo's registry into a
//! workspace of their own in `sim/.suites`, built against `libobjc.so`, and their tests are run.
//! `objc` and `candle` say which; what they cannot run is named in `xtask/skips`.
//!
//! Nothing of the copies is committed. Their sources stay as they are; their manifests get the
//! dependencies that publishing takes out, and lose those that only benchmarks need.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use toml::{Table, Value};

use crate::bindings::{self, Fnv, Metadata, copy_folder, write};
use crate::counts::Counts;
use crate::error::Error;
use crate::layout::{Layout, read_toml};
use crate::process::{Step, heading};
use crate::program::{Environment, Program};
use crate::sim::Shared;
use crate::skips::Skips;

/// Tests of other people that belong together.
pub struct Suite {
    pub name: &'static str,
    /// The crates whose tests are run.
    pub crates: &'static [Copied],
    /// Crates that stand in the place of published ones: name and source.
    pub stand_ins: &'static [(&'static str, &'static str)],
    /// Features, as `crate/feature`.
    pub features: &'static [&'static str],
    /// What the simulator is told.
    pub environment: &'static [(&'static str, &'static str)],
    /// Which tests of a program are meant.
    pub wanted: fn(program: &str, test: &str) -> bool,
    /// The source that the suite is described in: a change of it makes new copies.
    pub described_in: &'static str,
}

/// A crate that is copied from the registry.
pub struct Copied {
    pub name: &'static str,
    /// Tables that the published manifest lacks.
    pub added: &'static str,
    /// Development dependencies that no test needs.
    pub removed: &'static [&'static str],
}

impl Suite {
    /// Runs the suite. `ignored` of the result is the number of skipped tests.
    pub fn run(&self, layout: &Layout, filters: &[String]) -> Result<Counts, Error> {
        if !cfg!(target_os = "linux") {
            return Err(Error::NotLinux);
        }
        let skips = Skips::read(&self.skips(layout))?;
        bindings::prepare(layout)?;
        let shared = Shared::build(layout)?;
        heading(&format!("{}: the tests of others", self.name));
        let folder = self.prepare(layout)?;
        let programs = self.build(&shared, &folder)?;
        let mut environment: Environment = shared.variables();
        environment.extend(self.environment.iter().map(|(name, it)| (*name, it.into())));
        self.test(&programs, &skips, filters, &environment)
    }

    fn skips(&self, layout: &Layout) -> PathBuf {
        let file = format!("xtask/skips/{}.toml", self.name);
        layout.root().join(file)
    }

    /// Brings the suite's workspace up to date and returns its folder.
    fn prepare(&self, layout: &Layout) -> Result<PathBuf, Error> {
        let folder = layout.sim().join(".suites").join(self.name);
        let text = Step::cargo(&layout.sim())
            .args([
                "metadata",
                "--quiet",
                "--format-version=1",
                "--features=metal",
            ])
            .output()?;
        let metadata: Metadata =
            serde_json::from_str(&text).map_err(|source| Error::Metadata { source })?;
        let mut sources = Vec::new();
        let mut hash = Fnv::default();
        hash.write(self.described_in.as_bytes());
        hash.write(include_bytes!("suites.rs"));
        for copied in self.crates {
            let mut packages = metadata.packages.iter();
            let package = packages.find(|package| package.name == copied.name);
            let package = package.ok_or(Error::NoSuite { name: copied.name })?;
            hash.write(package.version.as_bytes());
            sources.extend(package.manifest_path.parent());
        }
        let (stamp, state) = (folder.join("stamp"), format!("{:016x}\n", hash.0));
        if fs::read_to_string(&stamp).is_ok_and(|text| text == state) {
            return Ok(folder);
        }
        if folder.exists() {
            fs::remove_dir_all(&folder).map_err(Error::file("remove", &folder))?;
        }
        for (copied, source) in self.crates.iter().zip(sources) {
            eprintln!("   copying {}", copied.name);
            let copy = folder.join(copied.name);
            copy_folder(source, &copy)?;
            let manifest = copy.join("Cargo.toml");
            write(&manifest, &copied.manifest(read_toml(&manifest)?))?;
        }
        self.write_stand_ins(layout, &folder)?;
        write(&folder.join("Cargo.toml"), &self.workspace(layout)?)?;
        // The versions that the simulator uses; what only the tests need is resolved anew.
        let lock = layout.sim().join("Cargo.lock");
        fs::copy(&lock, folder.join("Cargo.lock")).map_err(Error::file("copy", &lock))?;
        // Last, so that an interrupted run is repeated.
        write(&stamp, &state)?;
        Ok(folder)
    }

    fn write_stand_ins(&self, layout: &Layout, folder: &Path) -> Result<(), Error> {
        let lock = read_toml(&layout.sim().join("Cargo.lock"))?;
        for (name, source) in self.stand_ins {
            let version = bindings::locked_version(&lock, name).ok_or(Error::NoSuite { name })?;
            let manifest = format!(
                "[package]\nname = \"{name}\"\nversion = \"{version}\"\nedition = \"2024\"\n\
                 [features]\ngnustep-1-7 = []\ngnustep-1-8 = []\ngnustep-1-9 = []\n\
                 gnustep-2-0 = []\ngnustep-2-1 = []\n"
            );
            write(&folder.join(name).join("Cargo.toml"), &manifest)?;
            write(&folder.join(name).join("src/lib.rs"), source)?;
        }
        Ok(())
    }

    /// The manifest of the suite's workspace, in which everything uses the same copies.
    fn workspace(&self, layout: &Layout) -> Result<String, Error> {
        let members: Vec<_> = self.crates.iter().map(|copied| copied.name).collect();
        let mut text = format!("[workspace]\nresolver = \"2\"\nmembers = {members:?}\n");
        text.push_str("\n[patch.crates-io]\n");
        let stand_ins = self.stand_ins.iter().map(|(name, _)| *name);
        for name in members.iter().copied().chain(stand_ins) {
            text.push_str(&format!("{name} = {{ path = \"{name}\" }}\n"));
        }
        let manifest = read_toml(&layout.sim().join("Cargo.toml"))?;
        for name in bindings::patched_crates(&manifest) {
            text.push_str(&format!(
                "{name} = {{ path = \"../../.bindings/{name}\" }}\n"
            ));
        }
        Ok(text)
    }

    fn build(&self, shared: &Shared, folder: &Path) -> Result<Vec<Program>, Error> {
        let packages = self.crates.iter().flat_map(|copied| ["-p", copied.name]);
        let messages = shared
            .cargo_in(folder, "test")
            .args(["--no-run", "--lib", "--tests", "--no-default-features"])
            .args(["--message-format=json-render-diagnostics", "--features"])
            .args([self.features.join(",")])
            .args(packages)
            .output()?;
        Ok(Program::all(&messages))
    }

    /// Runs the programs. A crate without one is a failure.
    fn test(
        &self,
        programs: &[Program],
        skips: &Skips,
        filters: &[String],
        environment: &Environment,
    ) -> Result<Counts, Error> {
        let mut counts = judge(programs, skips, filters, environment, self.wanted)?;
        for mistake in self.without_tests(programs) {
            println!("{mistake}");
            counts.failed += 1;
        }
        Ok(counts)
    }

    /// A line for each crate of which no test program was built.
    fn without_tests(&self, programs: &[Program]) -> impl Iterator<Item = String> {
        let built = |name| programs.iter().any(|program| program.name == name);
        let missing = self.crates.iter().filter(move |copied| !built(copied.name));
        missing.map(|copied| format!("{}: its unit tests were not built", copied.name))
    }
}

/// Runs what is not skipped, and sees to it that what is skipped has to be. `ignored` of the result
/// is the number of skipped tests.
pub fn judge(
    programs: &[Program],
    skips: &Skips,
    filters: &[String],
    environment: &Environment,
    wanted: fn(program: &str, test: &str) -> bool,
) -> Result<Counts, Error> {
    let named = |test: &str| filters.is_empty() || filters.iter().any(|it| test.contains(it));
    let mut counts = Counts::default();
    let mut skipped = Vec::new();
    for program in programs {
        let mut tests = program.list(environment)?;
        tests.retain(|test| named(test) && wanted(&program.name, test));
        let (skip, run): (Vec<_>, Vec<_>) = tests
            .into_iter()
            .partition(|test| skips.contains(&program.name, test));
        if !run.is_empty() {
            counts += program.run(&run, environment)?;
        }
        skipped.extend(skip.into_iter().map(|test| (program, test)));
    }
    let mut mistakes = skips.mistakes();
    for (program, test) in skips.all().filter(|(_, test)| named(test)) {
        let known = |(here, name): &(&Program, String)| here.name == program && name == test;
        if !skipped.iter().any(known) {
            mistakes.push(skips.about(program, test, "does not exist here; remove it"));
        }
    }
    eprintln!("   running {} skipped tests: none must pass", skipped.len());
    for (program, test) in passing(&skipped, environment) {
        mistakes.push(skips.about(&program.name, &test, "passes; remove it"));
    }
    for mistake in &mistakes {
        println!("{mistake}");
    }
    counts.failed += mistakes.len();
    counts.ignored = skipped.len();
    Ok(counts)
}

/// The skipped tests that pass all the same.
fn passing<'a>(
    skipped: &[(&'a Program, String)],
    environment: &Environment,
) -> Vec<(&'a Program, String)> {
    let next = AtomicUsize::new(0);
    let found = Mutex::new(Vec::new());
    let work = || {
        while let Some((program, test)) = skipped.get(next.fetch_add(1, Ordering::Relaxed)) {
            if program.passes(test, environment)
                && let Ok(mut found) = found.lock()
            {
                found.push((*program, test.clone()));
            }
        }
    };
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(work);
        }
    });
    let mut found = found.into_inner().unwrap_or_default();
    found.sort_by(|left, right| (&left.0.name, &left.1).cmp(&(&right.0.name, &right.1)));
    found
}

impl Copied {
    /// The manifest of the copy.
    pub fn manifest(&self, mut manifest: Table) -> String {
        for targets in ["bench", "example"] {
            manifest.remove(targets);
        }
        if let Some(Value::Table(dependencies)) = manifest.get_mut("dev-dependencies") {
            for name in self.removed {
                dependencies.remove(*name);
            }
        }
        let quiet = "[lints.rust]\nwarnings = \"allow\"\n";
        let quiet: Table = quiet.parse().unwrap_or_default();
        manifest.remove("lints");
        merge(&mut manifest, quiet);
        merge(&mut manifest, self.added.parse().unwrap_or_default());
        manifest.to_string()
    }
}

/// Puts the entries of `more` into `table`, table by table.
fn merge(table: &mut Table, more: Table) {
    for (key, value) in more {
        match (table.get_mut(&key), value) {
            (Some(Value::Table(held)), Value::Table(value)) => merge(held, value),
            (_, value) => {
                table.insert(key, value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn manifests_get_what_they_lack_and_lose_benchmarks() {
        let copied = Copied {
            name: "a",
            added: "[dev-dependencies.b]\nversion = \"1\"\n",
            removed: &["criterion"],
        };
        let published = "
[package]
name = \"a\"
[dev-dependencies.criterion]
version = \"0.8\"
[dev-dependencies.libc]
version = \"0.2\"
[[bench]]
name = \"fast\"
[lints.rust]
missing_docs = \"warn\"
";
        let manifest: Table = copied.manifest(published.parse().unwrap()).parse().unwrap();
        let dependencies = manifest["dev-dependencies"].as_table().unwrap();
        assert_eq!(dependencies.keys().collect::<Vec<_>>(), ["b", "libc"]);
        assert!(!manifest.contains_key("bench"));
        assert_eq!(
            manifest["lints"]["rust"]["warnings"].as_str(),
            Some("allow")
        );
        assert_eq!(manifest["lints"]["rust"].as_table().unwrap().len(), 1);
    }

    #[test]
    fn what_the_suites_add_is_toml() {
        for suite in [&crate::objc::SUITE, &crate::candle::SUITE] {
            for copied in suite.crates {
                assert!(copied.added.parse::<Table>().is_ok(), "{}", copied.name);
            }
        }
    }
}
