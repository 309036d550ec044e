//! `candle-mps peer`: this program as one side of a bench, ours or Candle's. It answers questions on standard
//! input until that ends. Not for typing: `bench` starts it, each side in a process of its own, with the
//! environment that makes it "as installed" or "configured".

use std::hint::black_box;
use std::io::{self, BufRead, Write};
use std::time::Instant;

use candle_core::{DType, Device};
use cpu_time::ProcessTime;

use super::device::Place;
use super::ops::{self, Call, Side};
use super::peers::ROUTE;
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
    let mut worker = Worker::new(side);
    for line in io::stdin().lock().lines() {
        let answer = match serde_json::from_str(&line?) {
            Ok(question) => worker.answer(question),
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
            let route =
                std::env::var(ROUTE).map_or_else(|_| String::new(), |it| format!(", {ROUTE}={it}"));
            format!(
                "candle-mps {}, {isa}, {configured}{route}",
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

/// A side, and what it keeps from one question to the next.
struct Worker {
    side: Side,
    /// Opened once: each opening of a GPU is a device with pools and kernels of its own.
    gpu: Option<Device>,
    made: Option<Made>,
}

/// A call with its operands.
struct Made {
    /// What was asked, but for the number of results.
    of: Question,
    call: Call,
    device: Device,
    /// Seconds of its latest result; none before the first.
    last: Option<f64>,
}

impl Worker {
    fn new(side: Side) -> Self {
        Self {
            side,
            gpu: None,
            made: None,
        }
    }

    /// Operands stay from one question to the next of the same op.
    fn answer(&mut self, question: Question) -> Answer {
        let results = question.results;
        let key = Question {
            results: 0,
            ..question
        };
        let mut made = match self.made.take() {
            Some(made) if made.of == key => made,
            other => {
                // Before the new operands are made, or memory holds both.
                drop(other);
                match self.make(key) {
                    Ok(made) => made,
                    Err(answer) => return answer,
                }
            }
        };
        let answer = made.timed(results);
        self.made = Some(made);
        answer.unwrap_or_else(|error| failed(&error))
    }

    fn make(&mut self, of: Question) -> Result<Made, Answer> {
        let op = ops::find(&of.op).ok_or_else(|| lacks(&of.op))?;
        let dtype = ops::dtype(&of.dtype).ok_or_else(|| lacks(&of.dtype))?;
        if !op.passes.contains(&of.pass)
            || !op.takes(of.sizes.len())
            || of.sizes.contains(&0)
            || (of.regime == Regime::Encode && of.device == Place::Cpu)
            || (of.regime == Regime::Chain && !op.chains)
        {
            return Err(lacks("this pass, regime or number of sizes"));
        }
        if of.device == Place::Metal && dtype == DType::F64 {
            return Err(lacks("Metal has no f64"));
        }
        let device = self.open(of.device)?;
        let call = op
            .make(self.side, of.pass, &of.sizes, dtype, &device)
            .map_err(|error| failed(&error))?;
        // The work of making the operands is none of the call's.
        device.synchronize().map_err(|error| failed(&error))?;
        Ok(Made {
            of,
            call,
            device,
            last: None,
        })
    }

    fn open(&mut self, place: Place) -> Result<Device, Answer> {
        match (place, &self.gpu) {
            (Place::Metal, Some(gpu)) => Ok(gpu.clone()),
            _ => {
                let device = place.open().map_err(|why| lacks(&why))?;
                self.gpu = (place == Place::Metal).then(|| device.clone());
                Ok(device)
            }
        }
    }
}

fn lacks(what: &str) -> Answer {
    Answer::Lacks {
        lacks: what.to_owned(),
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

/// Seconds up to which a result notices whether its operands are in the caches.
const NOTICED: f64 = 0.02;

impl Made {
    /// Times so many results.
    fn timed(&mut self, results: usize) -> candle_core::Result<Answer> {
        // What was asked in between has taken the caches. Results that take long do not notice.
        let warmed = match self.last {
            Some(last) if last >= NOTICED => None,
            _ => Some(self.once()?),
        };
        let first = warmed.filter(|_| self.last.is_none());
        let mut seconds = Vec::with_capacity(results);
        let cpu = ProcessTime::now();
        for _ in 0..results {
            seconds.push(self.once()?);
        }
        self.last = seconds.last().copied().or(self.last);
        Ok(Answer::Done {
            seconds,
            cpu_seconds: cpu.elapsed().as_secs_f64(),
            first,
        })
    }

    /// The seconds of a result: until the device has finished it, or, if that is asked, until it has been encoded,
    /// which Candle may have committed or not. Nothing is left on the device for the next.
    fn once(&mut self) -> candle_core::Result<f64> {
        let start = Instant::now();
        let result = black_box(match self.of.regime {
            Regime::Chain => self.call.chain(CHAIN)?,
            Regime::Latency | Regime::Encode => self.call.call()?,
        });
        let encoded = start.elapsed();
        self.device.synchronize()?;
        let finished = start.elapsed();
        drop(result);
        Ok(match self.of.regime {
            Regime::Encode => encoded.as_secs_f64(),
            Regime::Latency | Regime::Chain => finished.as_secs_f64(),
        })
    }
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
            device: Place::Cpu,
            results: 3,
        }
    }

    fn ask(question: Question) -> Answer {
        Worker::new(Side::Ours).answer(question)
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
    fn the_first_call_on_new_operands_is_told_apart() {
        let mut worker = Worker::new(Side::Ours);
        let mut first = |op: &str| match worker.answer(question(op)) {
            Answer::Done { first, .. } => first,
            other => panic!("{other:?}"),
        };
        assert!(first("softmax").is_some());
        assert_eq!(first("softmax"), None);
        assert!(first("rms_norm").is_some());
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
            Question {
                dtype: "f64".to_owned(),
                device: Place::Metal,
                ..question("softmax")
            },
        ];
        for question in lacking {
            let answer = ask(question);
            assert!(matches!(answer, Answer::Lacks { .. }), "{answer:?}");
        }
        #[cfg(not(feature = "metal"))]
        {
            let answer = ask(Question {
                device: Place::Metal,
                ..question("softmax")
            });
            let why = matches!(&answer, Answer::Lacks { lacks } if lacks.contains("no Metal"));
            assert!(why, "{answer:?}");
        }
        let odd = ask(Question {
            sizes: vec![1, 1, 1, 3],
            ..question("rope")
        });
        assert!(matches!(odd, Answer::Failed { .. }), "{odd:?}");
    }
}
