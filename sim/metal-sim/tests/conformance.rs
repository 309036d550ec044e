//! Every promise of Metal and MPS, kept by the simulator; as a checker it also reports what
//! Apple leaves undefined, and names each rule. And every open question, with the answer that the simulator is built
//! for, and the one that each switch makes of it.

use candle_mps_conformance::{Asked, Filter, ask, child, harness, probes};
use metal_sim as _;
use std::process::{Command, ExitCode};

/// How many devices the simulator has; read when it is loaded, before `main`.
const DEVICES: &str = "METAL_SIM_DEVICES";

/// No such class here.
const NOT_HERE: &str = "there is no such class";
const ENDS: &str = "the process ends";

/// A question's answer, by default.
const ANSWERS: &[(&str, &str)] = &[
    (
        "a",
        "batchStart 1, batchSize 1 writes matrices [1]; batchSize 0 writes []",
    ),
    ("b", "it is not read"),
    (
        "c",
        "wider than f16 for an f16 result, f32 for an f32 result",
    ),
    (
        "d1",
        "-inf everywhere gives NaN; a NaN among zeros gives NaN",
    ),
    ("d2", NOT_HERE),
    ("e", NOT_HERE),
    ("f", "never too early"),
    ("g", "never too early"),
    ("h", "it may"),
    ("i1", NOT_HERE),
    ("i2", NOT_HERE),
    ("j", "they do"),
    ("k", "it is not called"),
    ("l", "it does"),
    ("m", ENDS),
    ("n", ENDS),
    // In order it is held back, as a fence of two queues may or may not be.
    ("o", "it does"),
];

/// A question's answer with a switch, which it names. Others before it are needed for it to show.
const SWITCHED: &[(&str, &str, &str)] = &[
    (
        "a",
        "METAL_SIM_IGNORE_BATCH_START=1",
        "batchStart 1, batchSize 1 writes matrices [0]; batchSize 0 writes []",
    ),
    ("b", "METAL_SIM_READ_C=1", "it is read"),
    ("h", "METAL_SIM_HANDLER_WITH_OPEN_ENCODER=fault", ENDS),
    ("l", "METAL_SIM_EMPTY_BYTES=fault", ENDS),
    ("m", "METAL_SIM_OFFSET_ALIGNMENT=accept", "it may"),
    (
        "n",
        "METAL_SIM_EMPTY_GRID=accept",
        "it may, and nothing runs",
    ),
    (
        "o",
        "METAL_SIM_ORDER=apple METAL_SIM_FENCES_ACROSS_QUEUES=off",
        "it does not",
    ),
    (
        "o",
        "METAL_SIM_ORDER=apple METAL_SIM_FENCES_ACROSS_QUEUES=on",
        "it does",
    ),
];

/// In these orders the promises of ordering are asked for once more, with every access held against the rules.
const ORDERS: &[&str] = &["apple", "1", "2", "3"];

fn main() -> ExitCode {
    child();
    if std::env::var_os(DEVICES).is_some() {
        return harness(Filter { checker: true });
    }
    // Rules about two devices need a second one, so this starts itself again with two.
    let program = std::env::current_exe().expect("the test's own path");
    let again = Command::new(program)
        .args(std::env::args_os().skip(1))
        .env(DEVICES, "2")
        .status();
    let kept = again.expect("the test starts again").success();
    // Words on the command line choose among the promises.
    let chosen = std::env::args().skip(1).any(|word| !word.starts_with('-'));
    match kept && (chosen || orders() & questions()) {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}

/// Whether the programs that are to be ordered lack nothing: they are right in other orders, and nothing is found.
fn orders() -> bool {
    let program = std::env::current_exe().expect("the test's own path");
    let silent = |order: &&&str| {
        let run = Command::new(&program)
            .arg("ordering:")
            .env(DEVICES, "2")
            .env("METAL_SIM_HAZARDS", "on")
            .env("METAL_SIM_ORDER", order)
            .output()
            .expect("the test starts again");
        match run.status.success() {
            true => println!("ordering, METAL_SIM_ORDER={order} ... ok"),
            false => println!(
                "ordering, METAL_SIM_ORDER={order} ... FAILED\n{}{}",
                String::from_utf8_lossy(&run.stdout),
                String::from_utf8_lossy(&run.stderr)
            ),
        }
        run.status.success()
    };
    ORDERS.iter().filter(silent).count() == ORDERS.len()
}

/// Whether every question has its answer, by default and with its switch.
fn questions() -> bool {
    let ids: Vec<_> = probes().map(|probe| probe.id).collect();
    let known: Vec<_> = ANSWERS.iter().map(|(id, _)| *id).collect();
    let mut sorted = ids.clone();
    sorted.sort_unstable();
    assert_eq!(
        sorted, known,
        "each question has an answer, and is asked once"
    );
    let plain = ANSWERS.iter().map(|(id, answer)| (*id, "", *answer));
    let all = plain.chain(SWITCHED.iter().copied());
    // Every one is asked, whatever the others say.
    let wrong = all.filter(|(id, switch, answer)| !is_answered(id, switch, answer));
    wrong.count() == 0
}

fn is_answered(id: &str, switches: &str, expected: &str) -> bool {
    let probe = probes().find(|probe| probe.id == id).expect("a probe");
    let variables: Vec<_> = switches
        .split_whitespace()
        .filter_map(|switch| switch.split_once('='))
        .collect();
    let switch = switches.split_whitespace().last().unwrap_or_default();
    let asked = ask(probe, &variables);
    let (text, names) = match &asked {
        Asked::Answer(answer) => (&answer.text, answer.switch.as_deref().unwrap_or("")),
        Asked::NotHere(why) => (why, ""),
        Asked::Broken(why) => (why, ""),
    };
    // The answer names the switch that gives it.
    let right = text == expected && (switch.is_empty() || switch == names);
    match right {
        true => println!("probe {id} {switches} ... ok"),
        false => println!("probe {id} {switches} ... FAILED\nexpected {expected}; {asked:?}"),
    }
    right
}
