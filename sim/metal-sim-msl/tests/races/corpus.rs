//! The corpus: a file for each class of bug, with a kernel `wrong` and its twin `right`. A comment says how they run
//! and what is found:
//!
//!     // threads: 64, groups: 2, finds: race, strict

use std::fs;
use std::path::Path;

use metal_sim_msl::{
    Binding, Checks, Constants, Dispatch, FindingKind, Grid, Library, Options, Pipeline, Schedule,
};

use super::{Asked, Score};

/// Elements of the two buffers of every kernel of the corpus.
const LENGTH: usize = 256;

/// Seeds of random schedules, and for `--full`.
const SEEDS: u64 = 4;
const SEEDS_FULL: u64 = 100;

/// How a file's kernels are run.
struct Case {
    name: String,
    source: String,
    threads: u32,
    groups: u32,
    finds: FindingKind,
    strict: bool,
}

/// Runs all files: how many wrong kernels were caught and how many right ones were silent.
pub fn run(asked: &Asked) -> (Score, Score) {
    let (mut caught, mut silent) = (Score::default(), Score::default());
    for case in cases() {
        if asked.wants(&case.name) {
            let schedules = schedules(asked);
            caught.count(
                &format!("{}::wrong", case.name),
                is_caught(&case, &schedules),
            );
            silent.count(
                &format!("{}::right", case.name),
                is_silent(&case, &schedules),
            );
        }
    }
    (caught, silent)
}

fn schedules(asked: &Asked) -> Vec<Schedule> {
    let seeds = if asked.full { SEEDS_FULL } else { SEEDS };
    let mut schedules = vec![Schedule::Fifo, Schedule::Reverse, Schedule::Lifo];
    schedules.extend((0..seeds).map(Schedule::Random));
    schedules
}

fn cases() -> Vec<Case> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/races/corpus");
    let mut paths: Vec<_> = fs::read_dir(folder)
        .expect("the corpus")
        .map(|entry| entry.expect("an entry").path())
        .collect();
    paths.sort();
    paths.iter().map(|path| case(path)).collect()
}

fn case(path: &Path) -> Case {
    let source = fs::read_to_string(path).expect("a file of the corpus");
    let line = source
        .lines()
        .find_map(|line| line.strip_prefix("// threads: "))
        .unwrap_or_else(|| panic!("{}: no line `// threads: …`", path.display()));
    let parts: Vec<_> = line.split(", ").collect();
    let [threads, groups, finds, more @ ..] = &parts[..] else {
        panic!("{}: {line}", path.display());
    };
    let number = |text: &str| text.parse().expect("a number");
    Case {
        name: path
            .file_stem()
            .expect("a name")
            .to_string_lossy()
            .into_owned(),
        threads: number(threads),
        groups: number(groups.trim_start_matches("groups: ")),
        finds: match finds.trim_start_matches("finds: ") {
            "race" => FindingKind::Race,
            "bounds" => FindingKind::OutOfBounds,
            "uninitialised" => FindingKind::Uninitialised,
            "barrier" => FindingKind::DivergentBarrier,
            "simd" => FindingKind::DivergentSimd,
            other => panic!("{}: {other}", path.display()),
        },
        strict: more.contains(&"strict"),
        source,
    }
}

/// What one kernel's run finds.
fn findings(
    case: &Case,
    kernel: &str,
    strict: bool,
    schedule: Schedule,
) -> Result<Vec<metal_sim_msl::Finding>, String> {
    let options = Options {
        name: format!("{}.metal", case.name),
        ..Options::default()
    };
    let library = Library::from_source(&case.source, &options).map_err(|why| why.to_string())?;
    let checks = Checks {
        races: true,
        strict_flags: strict,
    };
    let pipeline = Pipeline::new(&library, kernel, &Constants::default(), checks)
        .map_err(|why| why.to_string())?;
    let mut buffers = [0, 1].map(|which| {
        let value = |at: usize| if which == 0 { at as f32 * 0.5 } else { 0. };
        (0..LENGTH).map(value).collect::<Vec<f32>>()
    });
    let labels = ["in", "out"];
    let bindings: Vec<_> = buffers
        .iter_mut()
        .zip(labels)
        .map(|(buffer, label)| {
            Some(Binding {
                address: buffer.as_mut_ptr().cast(),
                length: LENGTH * size_of::<f32>(),
                label: label.to_owned(),
                written: None,
            })
        })
        .collect();
    let outcome = pipeline.dispatch(&Dispatch {
        grid: Grid::Threadgroups {
            groups: [case.groups, 1, 1],
            threads: [case.threads, 1, 1],
        },
        buffers: &bindings,
        threadgroup_memory: &[],
        schedule,
        threads: 1,
    });
    outcome.map(|it| it.findings).map_err(|why| why.to_string())
}

fn is_caught(case: &Case, schedules: &[Schedule]) -> Result<(), String> {
    for schedule in schedules {
        let found = findings(case, "wrong", case.strict, *schedule)?;
        if !found.iter().any(|it| it.kind == case.finds) {
            return Err(format!("{schedule:?}: not caught; found {found:#?}"));
        }
        // With flags that are too weak, the same kernel is right where they do not count.
        if case.strict && !findings(case, "wrong", false, *schedule)?.is_empty() {
            return Err(format!("{schedule:?}: found although flags do not count"));
        }
    }
    Ok(())
}

fn is_silent(case: &Case, schedules: &[Schedule]) -> Result<(), String> {
    for schedule in schedules {
        for strict in [false, true] {
            let found = findings(case, "right", strict, *schedule)?;
            if let Some(finding) = found.first() {
                return Err(format!("{schedule:?}, strict {strict}: found\n{finding}"));
            }
        }
    }
    Ok(())
}
