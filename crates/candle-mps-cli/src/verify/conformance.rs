//! What Metal and MPS promise, held against this machine: the bodies of candle-mps-conformance. Those that
//! must end the process run in a child of this program, see `main`. So do the questions that Apple leaves open.

use candle_mps_conformance::{self as promises, Asked, Filter, Machine, Outcome, all, run};

use super::panics;
use crate::results::verify::{Conformance, Probe};

/// Asks every promise; `each` hears the name of the next.
pub fn ask(mut each: impl FnMut(&str)) -> Conformance {
    let mut asked = Conformance::default();
    let Some(machine) = Machine::new() else {
        let why = "the system has no default Metal device";
        asked.skipped = all()
            .map(|case| (case.name.to_owned(), why.to_owned()))
            .collect();
        return asked;
    };
    for case in all() {
        each(case.name);
        let outcome = run(case, &machine, Filter::default()).outcome;
        // What an assertion said is printed by default, and would not be in the file.
        let said = panics::last();
        let name = case.name.to_owned();
        match outcome {
            Outcome::Kept => asked.kept += 1,
            Outcome::Skipped(why) => asked.skipped.push((name, why)),
            Outcome::Broken(how) => asked.broken.push((name, said.unwrap_or(how))),
        }
    }
    asked
}

/// Asks what Apple leaves open; `each` hears the question.
pub fn probe(mut each: impl FnMut(&str)) -> Vec<Probe> {
    let ask = |probe: &'static promises::Probe| {
        each(probe.question);
        let mut answered = Probe {
            id: probe.id.to_owned(),
            question: probe.question.to_owned(),
            ..Probe::default()
        };
        match promises::ask(probe, &[]) {
            Asked::Answer(answer) => {
                answered.answer = Some(answer.text);
                answered.switch = answer.switch;
                answered.detail = answer.detail;
            }
            Asked::NotHere(why) | Asked::Broken(why) => answered.detail = Some(why),
        }
        answered
    };
    promises::probes().map(ask).collect()
}

/// How many promises and questions there are.
pub fn count() -> usize {
    all().count() + promises::probes().count()
}
