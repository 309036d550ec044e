//! Mutants: each barrier of Candle's reduce, GEMM, attention and sort kernels is taken away, one at a time. The
//! detector must find something that it does not find in the kernel as it is; or the barrier is in `redundant.txt`
//! with the reason why nothing changes.
//!
//! The sources are taken from cargo's registry, where Candle is.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use metal_sim_msl::{
    Binding, Checks, Constants, Dispatch, Finding, Grid, Library, Options, Pipeline, Schedule,
};

use super::candle::{FILES, Run, runs};
use super::{Asked, Score};

/// Files whose mutants run without `--full`: the two that compile fastest.
const USUAL: [&str; 2] = ["reduce.metal", "sort.metal"];

/// A barrier that may go, and why.
struct Redundant {
    file: String,
    line: usize,
    why: String,
}

/// Runs the mutants: how many barriers are explained.
pub fn run(asked: &Asked) -> Score {
    let mut score = Score::default();
    let known = redundant();
    for file in FILES {
        if !asked.full && !USUAL.contains(&file) {
            continue;
        }
        let source = fs::read_to_string(folder().join(file)).expect("Candle's kernels");
        let mut as_it_is = None;
        for (line, statement) in barriers(&source) {
            let name = format!("{file}:{line}");
            if !asked.wants(&name) {
                continue;
            }
            let as_it_is = as_it_is.get_or_insert_with(|| found(file, &source));
            let result = as_it_is
                .as_ref()
                .map_err(Clone::clone)
                .and_then(|as_it_is| {
                    let missed = found(file, &without(&source, line, &statement))?;
                    explain(
                        missed.difference(as_it_is).next(),
                        known.iter().find(|it| it.file == file && it.line == line),
                    )
                });
            score.count(&format!("without {name}"), result);
        }
        for gone in known.iter().filter(|it| it.file == file) {
            if !barriers(&source).iter().any(|(line, _)| *line == gone.line) {
                score.count(
                    &format!("{file}:{}", gone.line),
                    Err("redundant.txt: there is no barrier".to_owned()),
                );
            }
        }
    }
    score
}

/// Either something is found, or it is known why not; and not both.
fn explain(found: Option<&String>, known: Option<&Redundant>) -> Result<(), String> {
    match (found, known) {
        (Some(_), None) => Ok(()),
        (None, Some(redundant)) if !redundant.why.is_empty() => Ok(()),
        (None, _) => {
            Err("nothing is found without it, and redundant.txt does not say why".to_owned())
        }
        (Some(finding), Some(_)) => Err(format!(
            "redundant.txt says that it may go, but:\n{finding}"
        )),
    }
}

/// Lines with a barrier, from 1, and the statement.
fn barriers(source: &str) -> Vec<(usize, String)> {
    let statement = |line: &str| {
        let start = ["threadgroup_barrier(", "simdgroup_barrier("]
            .iter()
            .find_map(|it| line.find(it))?;
        let end = start + line[start..].find(';')? + 1;
        Some(line[start..end].to_owned())
    };
    let lines = source.lines().enumerate();
    lines
        .filter_map(|(at, line)| Some((at + 1, statement(line)?)))
        .collect()
}

/// The source without one statement; every other line stays where it is.
fn without(source: &str, line: usize, statement: &str) -> String {
    let lines = source
        .lines()
        .enumerate()
        .map(|(at, text)| match at + 1 == line {
            true => text.replacen(statement, ";", 1),
            false => text.to_owned(),
        });
    lines.collect::<Vec<_>>().join("\n")
}

/// What is found in all runs of a file's kernels: each as it would be told, without the threads, which vary.
fn found(file: &str, source: &str) -> Result<BTreeSet<String>, String> {
    let options = Options {
        name: file.to_owned(),
        ..Options::default()
    };
    let library = Library::from_source(source, &options).map_err(|why| why.to_string())?;
    let mut all = BTreeSet::new();
    for run in runs(file) {
        let findings = findings(&library, run)?;
        all.extend(findings.iter().map(place));
    }
    Ok(all)
}

fn place(finding: &Finding) -> String {
    let first = finding.first.as_ref().map(|it| it.place.to_string());
    format!(
        "{:?} {} {first:?} {}",
        finding.kind, finding.what, finding.second.place
    )
}

fn findings(library: &Library, run: Run) -> Result<Vec<Finding>, String> {
    let failed = |why: metal_sim_msl::Error| format!("{}: {why}", run.kernel);
    let mut constants = Constants::default();
    for (index, value) in &run.constants {
        constants.set_index(*index, "bool", &[u8::from(*value)]);
    }
    let checks = Checks {
        races: true,
        strict_flags: false,
    };
    let pipeline = Pipeline::new(library, &run.kernel, &constants, checks).map_err(failed)?;
    let mut buffers = run.buffers;
    let mut bindings = vec![None; 31];
    for (index, bytes) in &mut buffers {
        bindings[*index] = Some(Binding {
            address: bytes.as_mut_ptr(),
            length: bytes.len(),
            label: format!("argument {index}"),
        });
    }
    let outcome = pipeline.dispatch(&Dispatch {
        grid: Grid::Threadgroups {
            groups: run.groups,
            threads: run.threads,
        },
        buffers: &bindings,
        threadgroup_memory: &[run.threadgroup_memory],
        schedule: Schedule::Fifo,
        threads: 1,
    });
    outcome
        .map(|it| it.findings)
        .map_err(|why| format!("{}: {why}", run.kernel))
}

fn redundant() -> Vec<Redundant> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/races/redundant.txt");
    let text = fs::read_to_string(path).expect("the table");
    let lines = text
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines
        .map(|line| {
            let (place, why) = line.split_once("  ").unwrap_or((line, ""));
            let (file, line) = place.split_once(':').expect("FILE:LINE");
            Redundant {
                file: file.to_owned(),
                line: line.parse().expect("a line"),
                why: why.trim().to_owned(),
            }
        })
        .collect()
}

/// Where cargo has unpacked Candle's kernels.
fn folder() -> PathBuf {
    let output = std::process::Command::new(env!("CARGO"))
        .args([
            "metadata",
            "--format-version=1",
            "--features",
            "metal",
            "--offline",
        ])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo");
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).expect("metadata");
    let packages = metadata["packages"].as_array().expect("packages");
    let package = packages
        .iter()
        .find(|it| it["name"] == "candle-metal-kernels")
        .expect("Candle");
    let manifest = package["manifest_path"].as_str().expect("a path");
    Path::new(manifest).with_file_name("src").join("metal_src")
}
