//! `cargo xtask fuzz`: random arguments for each op of the CPU crate, under AddressSanitizer.
//!
//! libFuzzer invents bytes, `fuzz/` turns them into arguments. cargo-fuzz does the same with a
//! nightly compiler; the flags below are what it passes, and the stable compiler takes them.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::asan;
use crate::counts::Counts;
use crate::error::Error;
use crate::layout::Layout;
use crate::process::{Step, heading};

/// The sanitizer, and what tells libFuzzer which code an input has reached.
const FLAGS: &str = "-Zsanitizer=address\x1f-Cpasses=sancov-module\
    \x1f-Cllvm-args=-sanitizer-coverage-level=4\
    \x1f-Cllvm-args=-sanitizer-coverage-inline-8bit-counters\
    \x1f-Cllvm-args=-sanitizer-coverage-pc-table\
    \x1f-Cllvm-args=-sanitizer-coverage-trace-compares\x1f--cfg=fuzzing";

/// The command: says whether all is well.
pub fn run(
    layout: &Layout,
    target: Option<&str>,
    seconds: Option<u32>,
    replay: Option<&Path>,
) -> Result<bool, Error> {
    let search = seconds.map_or_else(Search::always_the_same, Search::lasting);
    let counts = match (target, replay) {
        (target, None) => Fuzzer::build(layout)?.targets(target, &search)?,
        (None, Some(_)) => Fuzzer::build(layout)?.targets(None, &search)?,
        (Some(target), Some(file)) => {
            let fuzzer = Fuzzer::build(layout)?;
            fuzzer.known(target)?;
            let file = file.canonicalize().map_err(Error::file("read", file))?;
            let result = fuzzer.step(target).args([file]).run();
            Counts::of(result.map(|()| PASSED))
        }
    };
    println!("fuzz: {counts}");
    Ok(counts.failed == 0)
}

/// Runs all targets; each counts as one test.
pub fn each(layout: &Layout) -> Result<Counts, Error> {
    Fuzzer::build(layout)?.targets(None, &Search::always_the_same())
}

/// How inputs are looked for: with the same seed, end and corpus, a run is the same.
struct Search {
    seed: u32,
    /// libFuzzer's option that ends it.
    end: String,
}

impl Search {
    /// About ten seconds, and the same at every run: a finding of CI must be one of the change.
    fn always_the_same() -> Self {
        Self {
            seed: 1,
            end: "-runs=800".to_owned(),
        }
    }

    /// So many seconds from a seed of its own.
    fn lasting(seconds: u32) -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        Self {
            seed: now.map_or(1, |time| time.subsec_nanos()),
            end: format!("-max_total_time={seconds}"),
        }
    }
}

const PASSED: Counts = Counts {
    passed: 1,
    failed: 0,
    ignored: 0,
};

/// The program, built.
struct Fuzzer {
    folder: PathBuf,
    program: PathBuf,
    targets: Vec<String>,
}

impl Fuzzer {
    fn build(layout: &Layout) -> Result<Self, Error> {
        heading("fuzz: the program");
        let folder = layout.root().join("fuzz");
        let target = asan::host(layout)?;
        Step::cargo(&folder)
            .args(["build", "--target", &target])
            .envs(asan::variables(FLAGS))
            .run()?;
        let program = folder.join("target").join(target).join("debug/fuzz");
        let list = Step::new(&program.to_string_lossy(), &folder)
            .envs(asan::variables(""))
            .envs([("FUZZ_TARGET", "list")])
            .output()?;
        let targets = list.split_whitespace().map(str::to_owned).collect();
        Ok(Self {
            folder,
            program,
            targets,
        })
    }

    fn known(&self, target: &str) -> Result<(), Error> {
        if self.targets.iter().any(|known| known == target) {
            return Ok(());
        }
        Err(Error::NoTarget {
            name: target.to_owned(),
            known: self.targets.join(", "),
        })
    }

    fn targets(&self, only: Option<&str>, search: &Search) -> Result<Counts, Error> {
        if let Some(target) = only {
            self.known(target)?;
        }
        let chosen = self.targets.iter().map(String::as_str);
        let mut counts = Counts::default();
        for target in chosen.filter(|target| only.is_none_or(|only| only == *target)) {
            counts += Counts::of(self.search(target, search).map(|()| PASSED));
        }
        Ok(counts)
    }

    /// Looks for an input that fails.
    fn search(&self, target: &str, search: &Search) -> Result<(), Error> {
        heading(&format!("fuzz: {target}"));
        let corpus = self.folder.join("corpus").join(target);
        let artifacts = self.folder.join("artifacts");
        for folder in [&corpus, &artifacts] {
            fs::create_dir_all(folder).map_err(Error::file("create", folder))?;
        }
        let prefix = format!("-artifact_prefix={}/{target}-", artifacts.display());
        let found = self
            .step(target)
            .args([format!("-seed={}", search.seed), search.end.clone(), prefix])
            .args(["-max_len=512", "-len_control=0", "-timeout=20"])
            .args(["-rss_limit_mb=4096"])
            .args(["-verbosity=0", "-print_funcs=0", "-print_final_stats=1"])
            .args([&corpus])
            .run();
        if found.is_err() {
            eprintln!(
                "again: cargo xtask fuzz {target} --replay FILE, with the file in {}",
                artifacts.display()
            );
        }
        found
    }

    fn step(&self, target: &str) -> Step {
        Step::new(&self.program.to_string_lossy(), &self.folder)
            .envs(asan::variables(""))
            .envs([("FUZZ_TARGET", target)])
    }
}
