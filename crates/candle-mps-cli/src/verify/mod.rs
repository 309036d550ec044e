//! `candle-mps verify`: whether results are right on this machine. Every op, forward and backward, in every
//! type, on ragged shapes and strided views, against the same computed in f64 by Candle's basic ops. What
//! is compared with what is in docs/verify.md.

mod adamw;
pub mod cases;
mod check;
mod compare;
#[cfg(feature = "metal")]
mod conformance;
mod error;
mod exact;
#[cfg(feature = "metal")]
mod metal;
#[cfg(feature = "metal")]
mod mps;
mod panics;
mod progress;
mod random;
mod tail;
mod tally;
mod text;
mod training;

use std::fmt;
use std::io::{self, Write};
use std::num::NonZeroU64;
use std::path::PathBuf;

use candle_core::{DType, Device};
use candle_mps_cpu::threads;
use clap::ValueEnum;

use self::cases::Op;
pub use self::error::Error;
use self::progress::Progress;
use self::random::Random;
use self::tally::{Tally, Told};
use crate::results::verify::{Outcome, Row, Verify};
use crate::results::{self, Machine, Pass};

/// What the ops compute with on the CPU.
const DTYPES: [DType; 4] = [DType::F32, DType::F64, DType::F16, DType::BF16];

pub const EXAMPLES: &str = "\
Examples:
  candle-mps verify
  candle-mps verify --ops attention,rms_norm --seeds 100
  candle-mps verify --device metal";

#[derive(clap::Args)]
pub struct Arguments {
    /// Where the ops run
    #[arg(long, value_enum, default_value_t = On::Cpu)]
    device: On,
    /// Verify only these ops, named as the functions are
    #[arg(long, value_delimiter = ',', value_name = "OP")]
    ops: Vec<String>,
    /// How many rounds of random cases
    #[arg(long, value_name = "N", default_value = "10")]
    seeds: NonZeroU64,
    /// The seed of the first round; the next one's is one more
    #[arg(long, value_name = "S", default_value_t = 1)]
    seed: u64,
    /// Write verify-cpu.json or verify-metal.json into this folder [default for Metal:
    /// candle-mps-report]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Print the results as JSON
    #[arg(long)]
    json: bool,
}

/// What is verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum On {
    Cpu,
    Metal,
}

impl fmt::Display for On {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.pad(match self {
            Self::Cpu => "cpu",
            Self::Metal => "metal",
        })
    }
}

/// What a run has found, and where it is kept.
pub struct Done {
    pub results: Verify,
    written: Option<PathBuf>,
    json: bool,
}

impl Done {
    /// As JSON or as a table.
    pub fn print(&self, out: &mut impl Write) -> io::Result<()> {
        if self.json {
            serde_json::to_writer_pretty(&mut *out, &self.results)?;
            writeln!(out)?;
        } else {
            text::write(&self.results, self.written.as_deref(), out)?;
        }
        out.flush()
    }
}

/// Runs the cases and writes the file.
pub fn run(arguments: &Arguments) -> Result<Done, Error> {
    let results = match arguments.device {
        On::Cpu => on_cpu(arguments)?,
        On::Metal => on_metal(arguments)?,
    };
    // A Mac's answers are what others want to see: its file is always there to be sent.
    let by_itself = arguments.device == On::Metal && !arguments.json;
    let folder = match &arguments.out {
        None if by_itself => Some(PathBuf::from(results::FOLDER)),
        out => out.clone(),
    };
    let name = match arguments.device {
        On::Cpu => results::VERIFY_CPU,
        On::Metal => results::VERIFY_METAL,
    };
    let write = |folder: PathBuf| results::write_json(&folder, name, &results);
    let written = folder.map(write).transpose()?;
    Ok(Done {
        results,
        written,
        json: arguments.json,
    })
}

/// Refuses names that are not among these.
fn check_names<'a>(
    arguments: &Arguments,
    known: impl Iterator<Item = &'a str> + Clone,
) -> Result<(), Error> {
    let unknown = |name: &&String| !known.clone().any(|known| known == name.as_str());
    match arguments.ops.iter().find(unknown) {
        None => Ok(()),
        Some(name) => Err(Error::UnknownOp {
            name: name.clone(),
            known: known.collect::<Vec<_>>().join(", "),
        }),
    }
}

impl Arguments {
    fn wants(&self, op: &str) -> bool {
        self.ops.is_empty() || self.ops.iter().any(|name| name == op)
    }

    /// The seeds of the rounds.
    fn rounds(&self) -> impl Iterator<Item = u64> + use<> {
        let first = self.seed;
        (0..self.seeds.get()).map(move |round| first.wrapping_add(round))
    }

    /// The command that runs the round of an op again.
    fn replay(&self, op: &str, seed: u64) -> String {
        let device = match self.device {
            On::Cpu => "",
            On::Metal => " --device metal",
        };
        format!("candle-mps verify{device} --ops {op} --seed {seed} --seeds 1")
    }

    /// Puts rows together.
    fn results(&self, rows: Vec<Row>) -> Verify {
        let ok = |row: &Row| matches!(row.outcome, Outcome::Ok | Outcome::NotBuilt { .. });
        Verify {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            command: results::command(),
            machine: Machine::of_this_machine(),
            device: self.device.to_string(),
            ok: rows.iter().all(ok),
            rows,
            training: Vec::new(),
            conformance: None,
            probes: Vec::new(),
        }
    }
}

/// The names of the ops that run on the CPU.
pub fn names() -> impl Iterator<Item = &'static str> + Clone {
    let ops = cases::OPS.iter().map(|op| op.name);
    ops.chain([adamw::NAME])
}

fn on_cpu(arguments: &Arguments) -> Result<Verify, Error> {
    check_names(arguments, names())?;
    let count = names().filter(|name| arguments.wants(name)).count();
    let progress = Progress::new(count * DTYPES.len());
    let rows = panics::kept(|| {
        let mut rows = Vec::new();
        for op in cases::OPS.iter().filter(|op| arguments.wants(op.name)) {
            for dtype in DTYPES {
                rows.extend(rows_of(op, dtype, &Device::Cpu, arguments));
                progress.step(op.name);
            }
        }
        for dtype in DTYPES {
            if arguments.wants(adamw::NAME) {
                rows.push(row_of_adamw(dtype, arguments));
                progress.step(adamw::NAME);
            }
        }
        rows
    });
    let mut results = arguments.results(rows);
    if arguments.ops.is_empty() {
        results.training = panics::kept(training::measure);
        results.ok &= results.training.iter().all(|row| row.through_ours);
    }
    Ok(results)
}

/// Forward and backward.
fn rows_of(op: &Op, dtype: DType, device: &Device, arguments: &Arguments) -> [Row; 2] {
    let mut tallies = [Pass::Forward, Pass::Backward]
        .map(|pass| Tally::new(op.name, dtype, pass, compare::bound(dtype, pass)));
    for seed in arguments.rounds() {
        for variant in op.variants {
            let words = [op.name, variant.name, dtype.as_str()];
            let mut random = Random::of(seed, &words);
            let case = (variant.draw)(&mut random);
            let told = Told::of(variant.name, &case, arguments.replay(op.name, seed));
            // Sizes are too small for more than one thread by themselves.
            let passed = match random.below(3) {
                0 => threads::with_count(random.between(2, 4), || {
                    check::check(&case, dtype, device, &mut random)
                }),
                _ => check::check(&case, dtype, device, &mut random),
            };
            for (tally, passed) in tallies.iter_mut().zip(passed) {
                tally.add(passed, &told);
            }
        }
    }
    tallies.map(Tally::done)
}

fn row_of_adamw(dtype: DType, arguments: &Arguments) -> Row {
    let bound = compare::bound(dtype, Pass::Step);
    let mut tally = Tally::new(adamw::NAME, dtype, Pass::Step, bound);
    for seed in arguments.rounds() {
        let mut random = Random::of(seed, &[adamw::NAME, dtype.as_str()]);
        let (shape, passed) = adamw::check(dtype, &mut random);
        let told = Told {
            case: format!("variable {shape:?}"),
            replay: arguments.replay(adamw::NAME, seed),
        };
        tally.add(passed, &told);
    }
    tally.done()
}

#[cfg(not(feature = "metal"))]
fn on_metal(_: &Arguments) -> Result<Verify, Error> {
    Err(Error::NoMetal)
}

#[cfg(feature = "metal")]
use self::metal::on_metal;
