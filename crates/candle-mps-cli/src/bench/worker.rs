//! `candle-mps peer`: this program as one side of a bench, ours or Candle's. It answers questions on standard
//! input until that ends. Not for typing: `bench` starts it, each side in a process of its own, with the
//! environment that makes it "as installed" or "configured".

use std::hint::black_box;
use std::io::{self, BufRead, Write};
use std::time::Instant;

use cpu_time::ProcessTime;

use super::ops::{self, Call, Side};
use super::protocol::{Answer, CHAIN, Hello, Question};
use crate::results::bench::Regime;

/// Whose side a worker takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Who {
    Ours,
    Candle,
}

/// Answers until the questions end.
pub fn run(who: Who) -> io::Result<()> {
    let side = match who {
        Who::Ours => Side::Ours,
        Who::Candle => Side::Candle,
    };
    let mut out = io::stdout().lock();
    say(&mut out, &Hello { title: title(side) })?;
    let mut made = None;
    for line in io::stdin().lock().lines() {
        let answer = match serde_json::from_str(&line?) {
            Ok(question) => answer(side, question, &mut made),
            Err(error) => Answer::Failed {
                error: format!("not a question: {error}"),
            },
        };
        say(&mut out, &answer)?;
    }
    Ok(())
}

fn say(out: &mut impl Write, what: &impl serde::Serialize) -> io::Result<()> {
    serde_json::to_writer(&mut *out, what)?;
    out.write_all(b"\n")?;
    out.flush()
}

fn title(side: Side) -> String {
    let threads = candle_mps_cpu::threads::count();
    let configured = match std::env::var_os("RAYON_NUM_THREADS") {
        Some(_) => format!("RAYON_NUM_THREADS={threads}"),
        None => "as installed".to_owned(),
    };
    match side {
        Side::Ours => {
            let isa = candle_mps_cpu::simd::isa().map_or("no instruction set", |isa| isa.name());
            format!(
                "candle-mps {}, {isa}, {configured}",
                env!("CARGO_PKG_VERSION")
            )
        }
        Side::Candle => {
            let gemm = match cfg!(feature = "gemm-x86-v4") {
                true => ", gemm/x86-v4",
                false => "",
            };
            format!("Candle {}, {configured}{gemm}", super::peers::CANDLE)
        }
    }
}

/// A call that is kept from one question to the next.
struct Made {
    /// What was asked, but for the number of results.
    of: Question,
    call: Call,
    /// Seconds of its latest result.
    last: f64,
}

/// Operands stay from one question to the next of the same op.
fn answer(side: Side, question: Question, made: &mut Option<Made>) -> Answer {
    let results = question.results;
    let key = Question {
        results: 0,
        ..question
    };
    if made.as_ref().is_none_or(|made| made.of != key) {
        // Before the new operands are made, or memory holds both.
        *made = None;
        match make(side, &key) {
            Ok(call) => {
                *made = Some(Made {
                    of: key.clone(),
                    call,
                    last: 0.,
                });
            }
            Err(answer) => return answer,
        }
    }
    let Some(Made { call, last, .. }) = made else {
        return Answer::Lacks { lacks: key.op };
    };
    match timed(call, key.regime, results, last) {
        Ok(answer) => answer,
        Err(error) => failed(&error),
    }
}

/// Candle has some ops in some types only, which is no failure of the bench.
fn failed(error: &candle_core::Error) -> Answer {
    let text = error.to_string();
    match text.contains("unsupported dtype") {
        true => Answer::Lacks { lacks: text },
        false => Answer::Failed { error: text },
    }
}

fn make(side: Side, question: &Question) -> Result<Call, Answer> {
    let lacks = |what: &str| Answer::Lacks {
        lacks: what.to_owned(),
    };
    let op = ops::find(&question.op).ok_or_else(|| lacks(&question.op))?;
    let dtype = ops::dtype(&question.dtype).ok_or_else(|| lacks(&question.dtype))?;
    if !op.passes.contains(&question.pass)
        || !op.takes(question.sizes.len())
        || question.sizes.contains(&0)
        || question.regime == Regime::Encode
        || (question.regime == Regime::Chain && !op.chains)
    {
        return Err(lacks("this pass, regime or number of sizes"));
    }
    op.make(side, question.pass, &question.sizes, dtype)
        .map_err(|error| failed(&error))
}

/// Seconds up to which a result notices whether its operands are in the caches.
const NOTICED: f64 = 0.02;

/// Times so many results; `last` is what one took before.
fn timed(
    call: &mut Call,
    regime: Regime,
    results: usize,
    last: &mut f64,
) -> candle_core::Result<Answer> {
    let mut once = || match regime {
        Regime::Chain => call.chain(CHAIN),
        _ => call.call(),
    };
    // What was asked in between has taken the caches. Results that take long do not notice.
    if *last < NOTICED {
        black_box(once()?);
    }
    let mut seconds = Vec::with_capacity(results);
    let cpu = ProcessTime::now();
    for _ in 0..results {
        let start = Instant::now();
        let result = black_box(once()?);
        seconds.push(start.elapsed().as_secs_f64());
        drop(result);
    }
    if let Some(seconds) = seconds.last() {
        *last = *seconds;
    }
    Ok(Answer::Done {
        seconds,
        cpu_seconds: cpu.elapsed().as_secs_f64(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::Pass;

    fn question(op: &str) -> Question {
        Question {
            op: op.to_owned(),
            pass: Pass::Forward,
            sizes: vec![2, 8],
            dtype: "f32".to_owned(),
            regime: Regime::Latency,
            results: 3,
        }
    }

    fn ask(question: Question) -> Answer {
        answer(Side::Ours, question, &mut None)
    }

    #[test]
    fn each_result_has_its_time() {
        for regime in [Regime::Latency, Regime::Chain] {
            let answer = ask(Question {
                regime,
                ..question("softmax")
            });
            assert!(
                matches!(&answer, Answer::Done { seconds, .. } if seconds.len() == 3),
                "{answer:?}"
            );
        }
    }

    #[test]
    fn what_it_has_not_is_said_and_what_fails_is_told_apart() {
        let lacking = [
            question("no_such_op"),
            Question {
                dtype: "i4".to_owned(),
                ..question("softmax")
            },
            Question {
                sizes: vec![1],
                ..question("softmax")
            },
            Question {
                sizes: vec![0, 3],
                ..question("softmax")
            },
            Question {
                regime: Regime::Chain,
                ..question("cross_entropy")
            },
            Question {
                regime: Regime::Encode,
                ..question("softmax")
            },
            Question {
                pass: Pass::Step,
                ..question("softmax")
            },
        ];
        for question in lacking {
            let answer = ask(question);
            assert!(matches!(answer, Answer::Lacks { .. }), "{answer:?}");
        }
        let odd = ask(Question {
            sizes: vec![1, 1, 1, 3],
            ..question("rope")
        });
        assert!(matches!(odd, Answer::Failed { .. }), "{odd:?}");
    }
}
