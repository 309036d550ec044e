//! What an op promises of its work, and whether it keeps it.

use metal_sim::Work;

/// The promise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Goal {
    /// None: the row is there to be looked at.
    None,
    /// Forward in at most so many dispatches, without a wait, and with at most 1.1 times the bytes that go in and out.
    Dispatches(u64),
    /// Half of Candle's dispatches and two thirds of its bytes, forward and in training, without a wait.
    HalfOfCandle,
}

/// What was measured.
#[derive(Clone, Copy, Debug)]
pub struct Measured {
    /// Of our op.
    pub ours: Work,
    /// Of what stands for it in Candle.
    pub candle: Work,
    /// Bytes of the operands and of the result.
    pub least: u64,
    /// With a backward pass.
    pub training: bool,
}

/// All bytes.
pub fn bytes(work: Work) -> u64 {
    work.bytes_read + work.bytes_written
}

impl Goal {
    /// In words; nothing where nothing is promised.
    pub fn text(self, training: bool) -> String {
        match (self, training) {
            (Self::Dispatches(1), false) => "1 dispatch, 0 waits, 1.1 of the least".to_owned(),
            (Self::Dispatches(most), false) => {
                format!("{most} dispatches, 0 waits, 1.1 of the least")
            }
            (Self::HalfOfCandle, _) => {
                "1/2 of the dispatches, 2/3 of the bytes, 0 waits".to_owned()
            }
            (Self::None, _) | (Self::Dispatches(_), true) => String::new(),
        }
    }

    /// What is missed; nothing if the promise is kept. None if nothing is promised.
    pub fn missed(self, measured: &Measured) -> Option<Vec<String>> {
        let Measured {
            ours,
            candle,
            least,
            training,
        } = *measured;
        let mut missed = Vec::new();
        let mut must = |kept: bool, what: String| {
            if !kept {
                missed.push(what);
            }
        };
        let moved = bytes(ours);
        match self {
            Self::Dispatches(most) if !training => {
                let dispatches = ours.dispatches;
                must(dispatches <= most, format!("{dispatches} dispatches"));
                let ratio = moved as f64 / least as f64;
                must(moved * 10 <= least * 11, format!("{ratio:.2} of the least"));
            }
            Self::HalfOfCandle => {
                let dispatches = ours.dispatches as f64 / candle.dispatches as f64;
                must(
                    2 * ours.dispatches <= candle.dispatches,
                    format!("{dispatches:.2} of the dispatches"),
                );
                let ratio = moved as f64 / bytes(candle) as f64;
                must(
                    3 * moved <= 2 * bytes(candle),
                    format!("{ratio:.2} of the bytes"),
                );
            }
            Self::None | Self::Dispatches(_) => return None,
        }
        must(ours.cpu_waits == 0, format!("{} waits", ours.cpu_waits));
        Some(missed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured(dispatches: u64, bytes_read: u64, cpu_waits: u64, training: bool) -> Measured {
        let work = |dispatches, bytes_read, cpu_waits| Work {
            dispatches,
            bytes_read,
            cpu_waits,
            ..Work::default()
        };
        Measured {
            ours: work(dispatches, bytes_read, cpu_waits),
            candle: work(10, 1000, 0),
            least: 100,
            training,
        }
    }

    #[test]
    fn a_goal_is_kept_up_to_its_edge() {
        let one = Goal::Dispatches(1);
        assert_eq!(one.missed(&measured(1, 110, 0, false)), Some(vec![]));
        let missed = one.missed(&measured(2, 111, 3, false)).unwrap();
        assert_eq!(missed, ["2 dispatches", "1.11 of the least", "3 waits"]);
        assert_eq!(one.missed(&measured(9, 999, 0, true)), None);
        let half = Goal::HalfOfCandle;
        assert_eq!(half.missed(&measured(5, 666, 0, true)), Some(vec![]));
        let missed = half.missed(&measured(6, 667, 0, true)).unwrap();
        assert_eq!(missed, ["0.60 of the dispatches", "0.67 of the bytes"]);
    }
}
