//! Mutants: each barrier of Candle's reduce, GEMM, attention and sort kernels is taken away, one at a time. The
//! detector must find something that it does not find in the kernel as it is; or the barrier is in `redundant.txt`
//! with the reason why nothing changes. As they are, the kernels must compute what they should, and nothing may be
//! found in them but what Candle is known to do wrong.
//!
//! The sources are taken from cargo's registry, where Candle is. Mutants are compiled into a folder that is removed.

use std::collections::{BTreeSet, HashSet};
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::{env, fs, process, thread};

use metal_sim_msl::{
    Binding, Checks, Constants, Dispatch, Finding, Grid, Library, Options, Pipeline, Schedule,
};

#[path = "../support/candle.rs"]
mod registry;

use registry::kernels;

use super::candle::{FILES, Run, runs};
use super::{Asked, Score};

/// Files whose mutants run without `--full`: the two that compile fastest.
const USUAL: [&str; 2] = ["reduce.metal", "sort.metal"];

/// Bytes after each buffer that belong to nobody: what is read past the end is not the next one's.
const GAP: usize = 1 << 16;

/// A barrier that may go, and why.
struct Redundant {
    file: String,
    line: usize,
    why: String,
}

/// A barrier that is taken away.
struct Mutant<'a> {
    source: &'a Source,
    line: usize,
    statement: String,
}

/// A file, and what is found in each of its runs as it is.
struct Source {
    file: &'static str,
    text: String,
    as_it_is: Result<Vec<BTreeSet<String>>, String>,
}

/// Runs the mutants: how many barriers are explained.
pub fn run(asked: &Asked) -> Score {
    let known = redundant();
    let sources = sources(asked);
    let mut mutants = Vec::new();
    for source in &sources {
        for (line, statement) in barriers(&source.text) {
            if asked.wants(&format!("{}:{line}", source.file)) {
                mutants.push(Mutant {
                    source,
                    line,
                    statement,
                });
            }
        }
    }
    let folder = env::temp_dir().join(format!("metal-sim-mutants-{}", process::id()));
    // SAFETY: no other thread runs: the corpus is done, and the mutants have not begun.
    #[allow(unsafe_code)]
    unsafe {
        env::set_var("METAL_SIM_CACHE", &folder)
    };
    let score = Mutex::new(Score::default());
    let next = AtomicUsize::new(0);
    let work = || {
        while let Some(mutant) = mutants.get(next.fetch_add(1, Ordering::Relaxed)) {
            let name = format!("without {}:{}", mutant.source.file, mutant.line);
            let result = mutant.result(&known);
            score.lock().expect("no thread panics").count(&name, result);
        }
    };
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(work);
        }
    });
    let _ = fs::remove_dir_all(&folder);
    let mut score = score.into_inner().expect("no thread panics");
    for source in &sources {
        let is_there = |line| barriers(&source.text).iter().any(|(it, _)| *it == line);
        for gone in known
            .iter()
            .filter(|it| it.file == source.file && !is_there(it.line))
        {
            score.count(
                &format!("{}:{}", gone.file, gone.line),
                Err("redundant.txt: there is no barrier".to_owned()),
            );
        }
    }
    score
}

/// The files that are asked for.
fn sources(asked: &Asked) -> Vec<Source> {
    let mut sources = Vec::new();
    let folder = kernels();
    for file in FILES {
        let text = fs::read_to_string(folder.join(file)).expect("Candle's kernels");
        let wanted = asked.full || USUAL.contains(&file);
        let named = barriers(&text)
            .iter()
            .any(|(line, _)| asked.wants(&format!("{file}:{line}")));
        if wanted && named {
            sources.push(Source {
                file,
                as_it_is: as_it_is(file, &text),
                text,
            });
        }
    }
    sources
}

impl Mutant<'_> {
    fn result(&self, known: &[Redundant]) -> Result<(), String> {
        let source = self.source;
        let as_it_is = source
            .as_it_is
            .as_ref()
            .map_err(|why| format!("as it is: {why}"))?;
        let library = library(source.file, &self.text())?;
        let mut found = None;
        for (run, as_it_is) in runs(source.file).into_iter().zip(as_it_is) {
            let all: BTreeSet<_> = findings(&library, run)?.0.iter().map(place).collect();
            found = all.difference(as_it_is).next().cloned();
            if found.is_some() {
                break;
            }
        }
        let is_it = |it: &&Redundant| it.file == source.file && it.line == self.line;
        explain(found.as_ref(), known.iter().find(is_it))
    }

    /// The source without the statement; every other line stays where it is.
    fn text(&self) -> String {
        let lines = self.source.text.lines().enumerate();
        let lines = lines.map(|(at, text)| match at + 1 == self.line {
            true => text.replacen(&self.statement, ";", 1),
            false => text.to_owned(),
        });
        lines.collect::<Vec<_>>().join("\n")
    }
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

fn library(file: &str, source: &str) -> Result<Library, String> {
    let options = Options {
        name: file.to_owned(),
        ..Options::default()
    };
    Library::from_source(source, &options).map_err(|why| why.to_string())
}

/// What is found in each run of a file's kernels; an error if it is not what is known, or if a result is wrong.
fn as_it_is(file: &str, source: &str) -> Result<Vec<BTreeSet<String>>, String> {
    let library = library(file, source)?;
    let (mut all, mut wrong) = (Vec::new(), Vec::new());
    for (at, run) in runs(file).into_iter().enumerate() {
        let name = format!("run {at}, {}", run.kernel);
        let known: HashSet<_> = run.known.iter().copied().collect();
        let (found, result) = findings(&library, run)?;
        if let Err(why) = result {
            wrong.push(format!("{name}: {why}"));
        }
        let told = |it: &Finding| (it.kind, it.second.place.line);
        for finding in found.iter().filter(|it| !known.contains(&told(it))) {
            wrong.push(format!("{name}: found\n{finding}"));
        }
        for (kind, line) in known {
            if !found.iter().any(|it| told(it) == (kind, line)) {
                wrong.push(format!("{name}: no {kind} at line {line} any more"));
            }
        }
        all.push(found.iter().map(place).collect());
    }
    if wrong.is_empty() {
        Ok(all)
    } else {
        Err(wrong.join("\n"))
    }
}

/// A finding as it is told, without the threads, which vary.
fn place(finding: &Finding) -> String {
    let first = finding.first.as_ref().map(|it| it.place.to_string());
    format!(
        "{:?} {} {first:?} {}",
        finding.kind, finding.what, finding.second.place
    )
}

/// What one run finds, and whether its result is right.
fn findings(library: &Library, run: Run) -> Result<(Vec<Finding>, Result<(), String>), String> {
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
        let length = bytes.len();
        bytes.resize(length + GAP, 0);
        bindings[*index] = Some(Binding {
            address: bytes.as_mut_ptr(),
            length,
            label: format!("argument {index}"),
            written: None,
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
    let outcome = outcome.map_err(|why| format!("{}: {why}", run.kernel))?;
    let result = run.result.map_or(Ok(()), |(index, expected)| {
        let written = buffers.iter().find(|(it, _)| *it == index);
        expected.check(&written.expect("the result is bound").1)
    });
    Ok((outcome.findings, result))
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
