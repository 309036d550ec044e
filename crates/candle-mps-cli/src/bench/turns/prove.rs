//! What a peer must show before its first round: that its time grows with the results that it is asked for.

use std::time::Instant;

use super::{Effort, Gone, Part, Peer, SLOW, Samples, starts_anew};
use crate::bench::protocol::{Answer, Question};
use crate::results::bench::{Cell, Regime};

/// How many times the results are asked for when a peer must show that it finishes, and for one that is slow.
const MORE: usize = 8;
const MORE_IF_SLOW: usize = 3;

/// How many times as long as its clock a question about encoding may take, with the work.
const MOST_BEYOND: f64 = 10.;

/// Finds how many results make a sample, and lets the peer show that it finishes them.
pub fn prove(peer: &mut dyn Peer, question: &Question, effort: Effort) -> Result<Part, Gone> {
    // For the caches, and to see how slow it is. The call before it is the first, if the process is new.
    let (warm, first_call) = match peer.ask(&Question {
        results: 1,
        ..question.clone()
    })? {
        Answer::Done { seconds, first, .. } => (seconds.iter().sum::<f64>(), first),
        Answer::Lacks { .. } => return Ok(Part::Out(Cell::None)),
        Answer::Failed { error } => return Ok(Part::Out(Cell::Failed { why: error })),
    };
    let first_call = first_call.filter(|_| starts_anew(question));
    let samples = |each: f64| Samples {
        results: ((effort.sample / each.max(1e-9)) as usize).clamp(1, 2000),
        first: first_call,
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
    let slow = warm > SLOW;
    let more = if slow { MORE_IF_SLOW } else { MORE };
    // A single result is all that a peer that puts work off cannot make look cheap.
    let asked = Instant::now();
    let one = match total(1, if slow { 1 } else { 3 })? {
        Ok(one) => one,
        Err(cell) => return Ok(Part::Out(cell)),
    };
    // Encoding is all that is timed, so that work beyond the clock is no fault; but it takes time as well.
    if question.regime == Regime::Encode {
        let all = asked.elapsed().as_secs_f64();
        return Ok(Part::In(samples(one.max(all / MOST_BEYOND))));
    }
    let few = ((1e-4 / one.max(1e-9)) as usize).clamp(1, 1000);
    let mut growth = f64::NAN;
    // Again and longer, because a busy machine can make the smaller number of results the slower one; and each at least
    // twice, because it can as well make the larger number as slow as if the peer had finished them.
    for tries in [2, 5, if slow { 5 } else { 50 }] {
        let [small, large] = match [total(few, tries)?, total(more * few, tries)?] {
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
