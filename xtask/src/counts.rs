//! Sums what test programs report. Every program of `cargo test` ends with a line
//! `test result: ok. 12 passed; 0 failed; 1 ignored; ...`; nothing else is relied on.

use std::fmt;
use std::iter::Sum;
use std::ops::{Add, AddAssign};

use crate::error::Error;

/// How many tests passed, failed and were ignored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub passed: usize,
    pub failed: usize,
    pub ignored: usize,
}

impl Counts {
    /// The counts in a result line, or `None` for any other line.
    pub fn from_line(line: &str) -> Option<Self> {
        let (_, results) = line.split_once("test result:")?;
        let number = |of: &str| -> Option<usize> {
            let (before, _) = results.split_once(of)?;
            before.rsplit(' ').next()?.parse().ok()
        };
        Some(Self {
            passed: number(" passed")?,
            failed: number(" failed")?,
            ignored: number(" ignored").unwrap_or(0),
        })
    }

    /// What a step that could not be completed counts as.
    pub fn one_failure() -> Self {
        Self {
            failed: 1,
            ..Self::default()
        }
    }

    /// The counts of a suite, whose ignored tests are those that it names as skipped.
    pub fn with_skipped(self) -> String {
        let Self {
            passed,
            failed,
            ignored,
        } = self;
        format!("{passed} passed, {failed} failed, {ignored} skipped")
    }

    /// The counts of a step; what stopped it is shown and is one failure.
    pub fn of(step: Result<Self, Error>) -> Self {
        step.unwrap_or_else(|error| {
            error.print();
            Self::one_failure()
        })
    }
}

impl Add for Counts {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            passed: self.passed + other.passed,
            failed: self.failed + other.failed,
            ignored: self.ignored + other.ignored,
        }
    }
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl Sum for Counts {
    fn sum<I: Iterator<Item = Self>>(counts: I) -> Self {
        counts.fold(Self::default(), Add::add)
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed", self.passed, self.failed)?;
        if self.ignored > 0 {
            write!(f, ", {} ignored", self.ignored)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn result_lines_are_read() {
        let line = "test result: FAILED. 31 passed; 2 failed; 4 ignored; 0 measured; 7 filtered out; finished in 0.03s";
        assert_eq!(
            Counts::from_line(line),
            Some(Counts {
                passed: 31,
                failed: 2,
                ignored: 4
            })
        );
    }

    #[test]
    fn colours_do_not_matter() {
        let line = "test result: \x1b[32mok\x1b(B\x1b[m. 3 passed; 0 failed; 0 ignored; 0 measured";
        assert_eq!(
            Counts::from_line(line),
            Some(Counts {
                passed: 3,
                failed: 0,
                ignored: 0
            })
        );
    }

    #[test]
    fn other_lines_are_not() {
        for line in [
            "",
            "running 3 tests",
            "test result: unknown",
            "3 passed; 0 failed",
        ] {
            assert_eq!(Counts::from_line(line), None, "{line}");
        }
    }

    #[test]
    fn counts_are_summed() {
        let counts = Counts {
            passed: 3,
            failed: 1,
            ignored: 2,
        };
        let sum: Counts = [counts, Counts::one_failure(), counts].into_iter().sum();
        assert_eq!(
            sum,
            Counts {
                passed: 6,
                failed: 3,
                ignored: 4
            }
        );
    }

    #[test]
    fn ignored_tests_are_mentioned_only_if_there_are_any() {
        let counts = Counts {
            passed: 3,
            failed: 1,
            ignored: 0,
        };
        assert_eq!(counts.to_string(), "3 passed, 1 failed");
        assert_eq!(
            Counts {
                ignored: 2,
                ..counts
            }
            .to_string(),
            "3 passed, 1 failed, 2 ignored"
        );
    }
}
