//! Peers whose speed is known, or that do not do what they are asked.

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
        op: "softmax".to_owned(),
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
fn encoding_is_all_that_encode_asks_for() {
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
fn the_first_call_is_told_of_functions_alone_on_a_gpu() {
    let first = Some(2. * SLOW);
    for (device, op, pass, told) in [
        (Place::Cpu, "softmax", Pass::Forward, None),
        (Place::Metal, "softmax", Pass::Forward, first),
        (Place::Metal, "softmax", Pass::Backward, None),
        (Place::Metal, "llama", Pass::Forward, None),
    ] {
        let question = Question {
            op: op.to_owned(),
            pass,
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
