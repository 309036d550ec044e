//! Takes samples of several peers in turns, so that what slows the machine down slows all of them.
//!
//! The order is shuffled in each round: who comes after whom leaves its traces in caches and clocks. A round
//! that one peer did not finish counts for nobody. Before its first round a peer must show that its time grows
//! with the results that it is asked for, unless handing work over is what is timed.

use std::fmt;
use std::time::{Duration, Instant};

use super::device::Place;
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

/// How many times the results are asked for when a peer must show that it finishes, and for one that is slow.
const MORE: usize = 8;
const MORE_IF_SLOW: usize = 3;

/// How many times as long as its clock a question about handing work over may take, with the work.
const MOST_BEYOND: f64 = 10.;

/// A call of so many seconds is slow: it is not repeated more than it must.
const SLOW: f64 = 0.1;

/// Rounds of a peer that is slow and takes so many times as long as ours: its ratio needs no second digit.
const FEW: usize = 3;
const FAR: f64 = 10.;

/// Whether each peer is to be a new process in this row: its first call compiles what it needs, and is told beside the
/// others.
pub fn starts_anew(question: &Question) -> bool {
    question.device == Place::Metal && question.regime == Regime::Latency
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
            Some(peer) => match prove(*peer, question, effort) {
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

/// Finds how many results make a sample, and lets the peer show that it finishes them.
fn prove(peer: &mut dyn Peer, question: &Question, effort: Effort) -> Result<Part, Gone> {
    // The first is for the caches, and for what a peer compiles.
    let (first, compiled) = match peer.ask(&Question {
        results: 1,
        ..question.clone()
    })? {
        Answer::Done { seconds, first, .. } => (seconds.iter().sum::<f64>(), first),
        Answer::Lacks { .. } => return Ok(Part::Out(Cell::None)),
        Answer::Failed { error } => return Ok(Part::Out(Cell::Failed { why: error })),
    };
    let compiled = compiled.filter(|_| starts_anew(question));
    let samples = |each: f64| Samples {
        results: ((effort.sample / each.max(1e-9)) as usize).clamp(1, 2000),
        first: compiled,
        ..Samples::default()
    };
    let mut total = |results: usize, tries: usize| -> Result<Result<f64, Cell>, Gone> {
        let mut best = f64::INFINITY;
        for _ in 0..tries {
            let question = Question {
                results,
                ..question.clone()
            };
            match peer.ask(&question)? {
                Answer::Done { seconds, .. } => best = best.min(seconds.iter().sum()),
                Answer::Lacks { .. } => return Ok(Err(Cell::None)),
                Answer::Failed { error } => return Ok(Err(Cell::Failed { why: error })),
            }
        }
        Ok(Ok(best))
    };
    let slow = first > SLOW;
    let more = if slow { MORE_IF_SLOW } else { MORE };
    // A single result is all that a peer that puts work off cannot make look cheap.
    let asked = Instant::now();
    let one = match total(1, if slow { 1 } else { 3 })? {
        Ok(one) => one,
        Err(cell) => return Ok(Part::Out(cell)),
    };
    // Handing work over is all that is timed, so that work beyond the clock is no fault; but it takes time as well.
    if question.regime == Regime::Encode {
        let all = asked.elapsed().as_secs_f64();
        return Ok(Part::In(samples(one.max(all / MOST_BEYOND))));
    }
    let few = ((1e-4 / one.max(1e-9)) as usize).clamp(1, 1000);
    let mut growth = f64::NAN;
    // Again and longer, because a busy machine can make the smaller number of results the slower one.
    for tries in [1, 5, if slow { 5 } else { 50 }] {
        let small = if few == 1 && tries == 1 {
            Ok(one)
        } else {
            total(few, tries)?
        };
        let [small, large] = match [small, total(more * few, tries)?] {
            [Ok(small), Ok(large)] => [small, large],
            [Err(cell), _] | [_, Err(cell)] => return Ok(Part::Out(cell)),
        };
        growth = large / small;
        if growth >= more as f64 / 2. {
            return Ok(Part::In(samples(small / few as f64)));
        }
    }
    Ok(Part::Out(Cell::Unfinished {
        why: format!(
            "{} results take {growth:.1} times as long as {few}: the work is put off beyond the clock",
            more * few
        ),
    }))
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

#[cfg(test)]
mod tests {
    use std::hint::black_box;
    use std::sync::{Mutex, PoisonError};

    use super::*;
    use crate::results::Pass;
    use crate::results::bench::{Ratio, Regime, Verdict};

    /// Short enough that a call is seldom interrupted: a busy machine makes long ones longer.
    const WORK: usize = 10_000;

    /// Measurements take turns, too.
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

    fn question() -> Question {
        Question {
            op: "spin".to_owned(),
            pass: Pass::Forward,
            sizes: vec![1],
            dtype: "f32".to_owned(),
            regime: Regime::Latency,
            device: Place::Cpu,
            results: 1,
        }
    }

    fn spin(rounds: usize) {
        let mut state = black_box(1u64);
        for _ in 0..rounds {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
        }
        black_box(state);
    }

    fn timed(results: usize, mut call: impl FnMut()) -> Answer {
        let seconds = (0..results).map(|_| {
            let start = Instant::now();
            call();
            start.elapsed().as_secs_f64()
        });
        Answer::Done {
            seconds: seconds.collect(),
            cpu_seconds: 0.,
            first: Some(2. * SLOW),
        }
    }

    /// Does as much work as it is made with.
    struct Spin(usize);

    impl Peer for Spin {
        fn ask(&mut self, question: &Question) -> Result<Answer, Gone> {
            Ok(timed(question.results, || spin(self.0)))
        }
    }

    /// The loop that the origin timed MLX with: a node for each result, which costs little, and one
    /// evaluation after the loop, of the last. The time is divided by the number of results.
    struct Lazy(usize);

    impl Peer for Lazy {
        fn ask(&mut self, question: &Question) -> Result<Answer, Gone> {
            let start = Instant::now();
            let mut nodes: Vec<Box<dyn Fn()>> = Vec::new();
            for _ in 0..question.results {
                let work = self.0;
                nodes.push(Box::new(move || spin(work)));
            }
            if let Some(last) = nodes.last() {
                last();
            }
            let each = start.elapsed().as_secs_f64() / question.results as f64;
            Ok(Answer::Done {
                seconds: vec![each; question.results],
                cpu_seconds: 0.,
                first: None,
            })
        }
    }

    /// Works so often and ends then.
    struct Mortal(usize);

    impl Peer for Mortal {
        fn ask(&mut self, question: &Question) -> Result<Answer, Gone> {
            self.0 = self
                .0
                .checked_sub(1)
                .ok_or(Gone("ended by signal 9".to_owned()))?;
            Spin(WORK).ask(question)
        }
    }

    fn effort(milliseconds: u64) -> Effort {
        Effort::new(Duration::from_millis(milliseconds))
    }

    fn against(ours: usize, theirs: &mut dyn Peer, seed: u64) -> (Cell, Vec<(usize, Gone)>) {
        asked(&question(), ours, theirs, seed)
    }

    fn asked(
        question: &Question,
        ours: usize,
        theirs: &mut dyn Peer,
        seed: u64,
    ) -> (Cell, Vec<(usize, Gone)>) {
        let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
        let mut ours = Spin(ours);
        let (mut cells, gone) = row(
            &mut [Some(&mut ours), Some(theirs)],
            question,
            effort(700),
            &mut fastrand::Rng::with_seed(seed),
        );
        (cells.remove(1), gone)
    }

    fn compare(ours: usize, theirs: usize, seed: u64) -> Ratio {
        match against(ours, &mut Spin(theirs), seed).0 {
            Cell::Measured(Measured {
                ratio: Some(ratio), ..
            }) => ratio,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn peers_of_the_same_speed_do_not_differ() {
        for seed in 0..5 {
            let ratio = compare(WORK, WORK, seed);
            assert_eq!(
                ratio.verdict,
                Verdict::NoDifference,
                "seed {seed}: {ratio:?}"
            );
        }
    }

    #[test]
    fn five_per_cent_are_a_small_difference_on_either_side() {
        for seed in 0..5 {
            let ratio = compare(WORK, WORK * 21 / 20, seed);
            assert_eq!(ratio.verdict, Verdict::Faster, "seed {seed}: {ratio:?}");
            assert!((ratio.times - 1.05).abs() < 0.02, "seed {seed}: {ratio:?}");
            assert!(ratio.reading() == "a little faster", "{}", ratio.reading());
            let ratio = compare(WORK * 21 / 20, WORK, seed);
            assert_eq!(ratio.verdict, Verdict::Slower, "seed {seed}: {ratio:?}");
        }
    }

    #[test]
    fn twice_as_fast_is_2x() {
        for seed in 0..5 {
            let ratio = compare(WORK, 2 * WORK, seed);
            assert_eq!(ratio.verdict, Verdict::Faster, "seed {seed}: {ratio:?}");
            assert!((ratio.times - 2.).abs() < 0.1, "seed {seed}: {ratio:?}");
        }
    }

    #[test]
    fn the_origins_loop_over_lazy_nodes_is_unfinished() {
        let (cell, gone) = against(WORK, &mut Lazy(100 * WORK), 0);
        assert!(
            matches!(&cell, Cell::Unfinished { why } if why.contains("put off")),
            "{cell:?}"
        );
        assert_eq!(gone, []);
    }

    #[test]
    fn handing_work_over_is_all_that_encode_asks_for() {
        let on_gpu = |regime| Question {
            regime,
            device: Place::Metal,
            ..question()
        };
        let (cell, _) = asked(&on_gpu(Regime::Encode), WORK, &mut Lazy(100 * WORK), 0);
        assert!(
            matches!(&cell, Cell::Measured(it) if it.first.is_none() && it.cpu.is_none()),
            "{cell:?}"
        );
        for regime in [Regime::Latency, Regime::Chain] {
            let (cell, _) = asked(&on_gpu(regime), WORK, &mut Lazy(100 * WORK), 0);
            assert!(matches!(&cell, Cell::Unfinished { .. }), "{cell:?}");
        }
    }

    #[test]
    fn the_first_call_is_told_of_a_gpu() {
        for (device, told) in [(Place::Cpu, None), (Place::Metal, Some(2. * SLOW))] {
            let question = Question {
                device,
                ..question()
            };
            let (cell, _) = asked(&question, WORK, &mut Spin(WORK), 0);
            assert!(
                matches!(&cell, Cell::Measured(it) if it.first == told),
                "{cell:?}"
            );
        }
    }

    #[test]
    fn a_peer_that_ends_half_way_is_reported_and_the_others_go_on() {
        let (cell, gone) = against(WORK, &mut Mortal(20), 0);
        assert!(
            matches!(&cell, Cell::Failed { why } if why.starts_with("ended by signal 9, after")),
            "{cell:?}"
        );
        assert_eq!(gone, [(1, Gone("ended by signal 9".to_owned()))]);
        let mut mortal = Mortal(0);
        let (cells, _) = row(
            &mut [None, Some(&mut Spin(1000)), Some(&mut mortal)],
            &question(),
            effort(10),
            &mut fastrand::Rng::with_seed(0),
        );
        assert_eq!(cells[0], Cell::None);
        // Without ours there is no ratio, but there are times.
        assert!(matches!(&cells[1], Cell::Measured(it) if it.ratio.is_none()));
        assert!(matches!(&cells[2], Cell::Failed { .. }));
    }
}
