//! What Metal and MPS promise, held against this machine: the bodies of candle-mps-conformance. Those that
//! must end the process run in a child of this program, see `main`.

use candle_mps_conformance::{Filter, Machine, Outcome, all, run};

use super::panics;
use crate::results::verify::Conformance;

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

/// How many there are.
pub fn count() -> usize {
    all().count()
}
