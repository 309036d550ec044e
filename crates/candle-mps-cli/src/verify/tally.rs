//! A row of the table while its cases run: the largest error, and the first thing that went wrong.

use candle_core::DType;

use super::cases::Case;
use super::check::Passed;
use crate::results::Pass;
use crate::results::verify::{Outcome, Row};

/// What is said of a case that went wrong.
pub struct Told {
    /// The variant and the shapes.
    pub case: String,
    /// The command that shows it again.
    pub replay: String,
}

impl Told {
    pub fn of(variant: &str, case: &Case, replay: String) -> Self {
        let shapes = case.operands.iter();
        let shapes = shapes.map(|operand| format!("{} {:?}", operand.name, operand.shape));
        let parts = Some(variant).filter(|name| !name.is_empty());
        let parts: Vec<_> = parts.map(str::to_owned).into_iter().chain(shapes).collect();
        Self {
            case: parts.join(", "),
            replay,
        }
    }
}

/// A row that is being filled.
pub struct Tally {
    row: Row,
}

impl Tally {
    pub fn new(op: &str, dtype: DType, pass: Pass, bound: f64) -> Self {
        Self {
            row: Row {
                op: op.to_owned(),
                dtype: dtype.as_str().to_owned(),
                pass,
                mps: false,
                cases: 0,
                error: None,
                bound,
                outcome: Outcome::Ok,
            },
        }
    }

    #[cfg(feature = "metal")]
    pub fn of_mps(mut self) -> Self {
        self.row.mps = true;
        self
    }

    /// Of an op that is not there yet.
    #[cfg(feature = "metal")]
    pub fn not_built(mut self, why: &str) -> Row {
        self.row.outcome = Outcome::NotBuilt {
            why: why.to_owned(),
        };
        self.row
    }

    pub fn add(&mut self, passed: Passed, told: &Told) {
        let row = &mut self.row;
        row.cases += 1;
        let replay = told.replay.clone();
        let (error, outcome) = match passed {
            Passed::Within(error) => (Some(error), Outcome::Ok),
            Passed::Beyond { error, what } => {
                let what = format!("{}: {what}", told.case);
                (Some(error), Outcome::Miss { what, replay })
            }
            Passed::Failed(why) => {
                let why = format!("{}: {why}", told.case);
                (None, Outcome::Failed { why, replay })
            }
        };
        if let Some(error) = error {
            row.error = Some(row.error.unwrap_or_default().max(error));
        }
        if row.outcome == Outcome::Ok {
            row.outcome = outcome;
        }
    }

    pub fn done(mut self) -> Row {
        // JSON has no infinity: a result that is no number has no error either.
        self.row.error = self.row.error.filter(|error| error.is_finite());
        self.row
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(passed: Vec<Passed>) -> Row {
        let told = Told {
            case: "x [3]".to_owned(),
            replay: "candle-mps verify".to_owned(),
        };
        let mut tally = Tally::new("op", DType::F32, Pass::Forward, 1e-5);
        for passed in passed {
            tally.add(passed, &told);
        }
        tally.done()
    }

    #[test]
    fn the_largest_error_is_kept() {
        let row = tally(vec![
            Passed::Within(1e-7),
            Passed::Within(3e-7),
            Passed::Within(0.),
        ]);
        assert_eq!((row.cases, row.error), (3, Some(3e-7)));
        assert_eq!(row.outcome, Outcome::Ok);
    }

    #[test]
    fn the_first_thing_that_goes_wrong_is_told() {
        let miss = |what: &str| Passed::Beyond {
            error: 1.,
            what: what.to_owned(),
        };
        let failed = Passed::Failed("refused".to_owned());
        let row = tally(vec![
            Passed::Within(0.),
            miss("here"),
            failed.clone(),
            miss("there"),
        ]);
        assert_eq!((row.cases, row.error), (4, Some(1.)));
        assert!(
            matches!(&row.outcome, Outcome::Miss { what, .. } if what == "x [3]: here"),
            "{row:?}"
        );
        assert!(matches!(
            tally(vec![failed]).outcome,
            Outcome::Failed { .. }
        ));
    }

    #[test]
    fn no_number_is_no_error() {
        let what = String::new();
        let row = tally(vec![Passed::Beyond {
            error: f64::INFINITY,
            what,
        }]);
        assert_eq!(row.error, None);
        assert!(matches!(row.outcome, Outcome::Miss { .. }));
    }
}
