//! Runs cases: in this process when they are to hold, in a child when they are to end it. The
//! harness prints like Rust's own, so that what counts its lines counts these.

use crate::{Case, Expect, Machine, NotHere, all};
use objc2::rc::autoreleasepool;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::{Command, ExitCode};

/// The name of the case that a child process is to run.
const CASE: &str = "CANDLE_MPS_CONFORMANCE_CASE";
/// A child that comes through alive says so by this code: a panic ends it with 101.
const SURVIVED: u8 = 42;
const NOT_HERE: u8 = 43;

/// How a case ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// As promised.
    Kept,
    /// Not as promised, and how.
    Broken(String),
    /// It cannot run on this machine, and why.
    Skipped(String),
}

/// A case and how it ended.
#[derive(Clone, Debug)]
pub struct Report {
    /// The case.
    pub case: &'static Case,
    /// How it ended.
    pub outcome: Outcome,
}

/// Which cases run and how much is asked of them.
#[derive(Clone, Copy, Debug, Default)]
pub struct Filter {
    /// Ask for a report of what Apple leaves undefined, and for the rule's words: for a checker.
    pub checker: bool,
}

/// The first thing that a binary with a harness does: a child runs its one case and ends here.
pub fn child() {
    crate::probes::child();
    let Ok(name) = std::env::var(CASE) else {
        return;
    };
    let case = all().find(|case| case.name == name);
    let code = match (case, Machine::new()) {
        (Some(case), Some(machine)) => match autoreleasepool(|_| (case.body)(&machine)) {
            Ok(()) => SURVIVED,
            Err(NotHere(why)) => {
                eprintln!("{why}");
                NOT_HERE
            }
        },
        _ => {
            eprintln!("no case “{name}”, or no Metal device");
            NOT_HERE
        }
    };
    std::process::exit(code.into());
}

/// Runs one case.
pub fn run(case: &'static Case, machine: &Machine, filter: Filter) -> Report {
    let outcome = match case.expect {
        Expect::Holds => run_here(case, machine),
        Expect::Ends(words) => run_in_child(case, filter.checker.then_some(words)),
        Expect::Undefined(words) if filter.checker => run_in_child(case, Some(words)),
        Expect::Undefined(_) => {
            Outcome::Skipped("Apple leaves it undefined: only a checker is asked".to_owned())
        }
    };
    Report { case, outcome }
}

fn run_here(case: &Case, machine: &Machine) -> Outcome {
    let body = || autoreleasepool(|_| (case.body)(machine));
    match catch_unwind(AssertUnwindSafe(body)) {
        Ok(Ok(())) => Outcome::Kept,
        Ok(Err(NotHere(why))) => Outcome::Skipped(why.to_owned()),
        Err(_) => Outcome::Broken("its assertion failed".to_owned()),
    }
}

fn run_in_child(case: &Case, words: Option<&str>) -> Outcome {
    let child = std::env::current_exe().and_then(|program| {
        Command::new(program)
            .env(CASE, case.name)
            // Much of what Metal checks, it checks under its debug layer only.
            .env("MTL_DEBUG_LAYER", "1")
            .output()
    });
    let output = match child {
        Ok(output) => output,
        Err(error) => return Outcome::Broken(format!("no child process: {error}")),
    };
    let told = String::from_utf8_lossy(&output.stderr);
    match (output.status.code(), words) {
        (Some(code), _) if code == i32::from(SURVIVED) => {
            Outcome::Broken("the process went on".to_owned())
        }
        (Some(code), _) if code == i32::from(NOT_HERE) => Outcome::Skipped(told.trim().to_owned()),
        (_, Some(words)) if !told.contains(words) => {
            Outcome::Broken(format!("it ended without “{words}”:\n{told}"))
        }
        _ => Outcome::Kept,
    }
}

/// Runs every case whose name contains the command line's words, prints like Rust's test harness
/// and says whether all promises were kept.
pub fn harness(filter: Filter) -> ExitCode {
    let words: Vec<String> = std::env::args()
        .skip(1)
        .filter(|arg| !arg.starts_with('-'))
        .collect();
    let Some(machine) = Machine::new() else {
        eprintln!("there is no Metal device");
        return ExitCode::FAILURE;
    };
    let wanted = |case: &&Case| words.iter().all(|word| case.name.contains(word.as_str()));
    let cases: Vec<&'static Case> = all().filter(wanted).collect();
    println!("\nrunning {} tests", cases.len());
    let (mut passed, mut failed, mut ignored) = (0, 0, 0);
    for case in cases {
        match run(case, &machine, filter).outcome {
            Outcome::Kept => {
                passed += 1;
                println!("test {} ... ok", case.name);
            }
            Outcome::Skipped(why) => {
                ignored += 1;
                println!("test {} ... ignored, {why}", case.name);
            }
            Outcome::Broken(how) => {
                failed += 1;
                println!("test {} ... FAILED\n{how}", case.name);
            }
        }
    }
    let result = if failed == 0 { "ok" } else { "FAILED" };
    println!(
        "\ntest result: {result}. {passed} passed; {failed} failed; {ignored} ignored; 0 measured; \
         0 filtered out\n"
    );
    if failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
