//! Takes samples of several peers in turns, so that what slows the machine down slows all of them.
//!
//! The order is shuffled in each round: who comes after whom leaves its traces in caches and clocks. A round
//! that one peer did not finish counts for nobody. Before its first round a peer must show that its time grows
//! with the results that it is asked for, unless encoding is what is timed (`prove`).

mod prove;
#[cfg(test)]
mod tests;

use std::fmt;
use std::time::{Duration, Instant};

use super::device::Place;
use super::ops;
use super::protocol::{Answer, CHAIN, Question};
use super::stats;
use crate::results::bench::{Cell, Measured, Regime};

/// Somebody who can be asked.
pub trait Peer {
    /// The answer, or why there will be none: it ended, it hangs.
    fn ask(&mut self, question: &Question) -> Result<Answer, Gone>;
}

/// A peer is no longer there, and why.
#[derive(Clone, Debug, PartialEq)]
pub struct Gone(pub String);

impl fmt::Display for Gone {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// How long and how often.
#[derive(Clone, Copy, Debug)]
pub struct Effort {
    /// How long a row goes on taking samples.
    pub time: Duration,
    /// Rounds, at least, also when they take longer.
    pub least: usize,
    /// Seconds that one sample is to take.
    pub sample: f64,
}

impl Effort {
    pub fn new(time: Duration) -> Self {
        Self {
            time,
            least: 5,
            sample: 2e-3,
        }
    }
}

/// Rounds, at most.
const MOST: usize = 1000;

/// A call of so many seconds is slow: it is not repeated more than it must.
const SLOW: f64 = 0.1;

/// Rounds of a peer that is slow and takes so many times as long as ours: its ratio needs no second digit.
const FEW: usize = 3;
const FAR: f64 = 10.;

/// Whether each peer is to be a new process in this row: its first call compiles what it needs, and is told beside the
/// others.
pub fn starts_anew(question: &Question) -> bool {
    let alone = ops::find(&question.op).is_some_and(|op| op.is_made_without_a_call(question.pass));
    question.device == Place::Metal && question.regime == Regime::Latency && alone
}

/// What is left of a peer's part in a row.
enum Part {
    In(Samples),
    Out(Cell),
}

impl Part {
    /// The latest sample.
    fn last(&self) -> Option<f64> {
        match self {
            Self::In(samples) => samples.seconds.last().copied(),
            Self::Out(_) => None,
        }
    }
}

#[derive(Default)]
struct Samples {
    /// Results of one sample.
    results: usize,
    /// Seconds of a call, one for each round.
    seconds: Vec<f64>,
    cpu: Vec<f64>,
    /// Of the first call on the operands, if it is asked for.
    first: Option<f64>,
}

/// Measures one op at one size: a cell for each peer; the first is ours. `None` stands for an absent peer.
///
/// Peers that are gone are reported by their number.
pub fn row(
    peers: &mut [Option<&mut dyn Peer>],
    question: &Question,
    effort: Effort,
    random: &mut fastrand::Rng,
) -> (Vec<Cell>, Vec<(usize, Gone)>) {
    let mut gone = Vec::new();
    let mut parts: Vec<Part> = Vec::new();
    for (at, peer) in peers.iter_mut().enumerate() {
        parts.push(match peer {
            None => Part::Out(Cell::None),
            Some(peer) => match prove::prove(*peer, question, effort) {
                Ok(part) => part,
                Err(why) => {
                    gone.push((at, why.clone()));
                    Part::Out(Cell::Failed { why: why.0 })
                }
            },
        });
    }
    // Times are told of one call.
    let calls = match question.regime {
        Regime::Chain => CHAIN as f64,
        _ => 1.,
    };
    let start = Instant::now();
    let mut rounds = 0;
    while rounds < effort.least || (rounds < MOST && start.elapsed() < effort.time) {
        let ours = parts
            .first()
            .and_then(|part| part.last())
            .unwrap_or(f64::INFINITY);
        let takes_part = |part: &Part| match (part, part.last()) {
            (Part::Out(_), _) => false,
            (_, Some(last)) => rounds < FEW || last < SLOW / calls || last < FAR * ours,
            _ => true,
        };
        let mut order: Vec<usize> = (0..parts.len())
            .filter(|&at| takes_part(&parts[at]))
            .collect();
        if order.is_empty() {
            break;
        }
        random.shuffle(&mut order);
        for at in order {
            let (Part::In(samples), Some(peer)) = (&mut parts[at], &mut peers[at]) else {
                continue;
            };
            let question = Question {
                results: samples.results,
                ..question.clone()
            };
            let out = match peer.ask(&question) {
                Ok(Answer::Done {
                    seconds,
                    cpu_seconds,
                    ..
                }) => {
                    if let Some([_, median, _]) = stats::quartiles(&seconds) {
                        samples.seconds.push(median / calls);
                        // It has the work beyond the clock in it.
                        if question.regime != Regime::Encode {
                            samples.cpu.push(cpu_seconds / seconds.len() as f64 / calls);
                        }
                        continue;
                    }
                    Cell::Failed {
                        why: "it answered without a time".to_owned(),
                    }
                }
                Ok(Answer::Lacks { .. }) => Cell::None,
                Ok(Answer::Failed { error }) => Cell::Failed {
                    why: after(&error, samples),
                },
                Err(why) => {
                    let cell = Cell::Failed {
                        why: after(&why.0, samples),
                    };
                    gone.push((at, why));
                    cell
                }
            };
            parts[at] = Part::Out(out);
        }
        rounds += 1;
    }
    (cells(parts), gone)
}

fn after(why: &str, samples: &Samples) -> String {
    match stats::quartiles(&samples.seconds) {
        None => why.to_owned(),
        Some([_, median, _]) => format!(
            "{why}, after {} samples of {:.3e} s",
            samples.seconds.len(),
            median
        ),
    }
}

/// The cells, with ratios to the first.
fn cells(parts: Vec<Part>) -> Vec<Cell> {
    let ours = match parts.first() {
        Some(Part::In(samples)) => samples.seconds.clone(),
        _ => Vec::new(),
    };
    let cell = |(at, part)| match part {
        Part::Out(cell) => cell,
        Part::In(Samples {
            seconds,
            cpu,
            first,
            ..
        }) => match stats::quartiles(&seconds) {
            None => Cell::None,
            Some([low, median, high]) => Cell::Measured(Measured {
                median,
                quartiles: [low, high],
                samples: seconds.len(),
                cpu: stats::quartiles(&cpu).map(|[_, median, _]| median),
                first,
                ratio: if at == 0 {
                    None
                } else {
                    stats::ratio(&seconds, &ours)
                },
            }),
        },
    };
    parts.into_iter().enumerate().map(cell).collect()
}
