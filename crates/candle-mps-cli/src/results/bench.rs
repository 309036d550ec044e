//! The results of `bench`: rows of an op at a size, with a cell for each peer.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{Machine, Pass};

/// `bench.json`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Bench {
    /// Of candle-mps.
    pub version: String,
    /// The command line that made this.
    pub command: String,
    pub machine: Machine,
    pub limits: Limits,
    /// In the order of the columns; the first is ours.
    pub peers: Vec<Peer>,
    pub rows: Vec<Row>,
    /// What went wrong on the way and did not end the run.
    pub problems: Vec<String>,
    /// False while the run goes on: what it leaves behind when it is interrupted is marked.
    pub finished: bool,
}

/// What the machine can do at best, measured in the same run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Limits {
    /// Multiply-adds on registers in f32, on all threads; an operation is a multiplication or an addition.
    pub gflops: f64,
    /// Copies of so many bytes, read and write counted: bytes and GB/s, smallest first.
    pub copies: Vec<(u64, f64)>,
}

/// A column.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Peer {
    /// The name that cells use and `--against` takes, such as `candle`.
    pub id: String,
    /// What it is, with version and configuration.
    pub title: String,
    /// Whether a decision is taken against it: well configured, not as it comes.
    pub baseline: bool,
    /// Why it has no cells of this run, if so: not installed, cannot start.
    pub absent: Option<String>,
}

/// How calls follow each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Regime {
    /// One call at a time: its result is there before the clock stops.
    Latency,
    /// Many calls, each on the result of the one before; the last result is there before the clock stops.
    Chain,
    /// On a GPU: until the call returns, its work encoded, not necessarily committed.
    Encode,
}

impl fmt::Display for Regime {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.pad(match self {
            Self::Latency => "latency",
            Self::Chain => "chain",
            Self::Encode => "encode",
        })
    }
}

/// An op at a size.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// As the function is named, such as `rms_norm`.
    pub op: String,
    pub pass: Pass,
    /// The sizes as the op is asked for them, such as `128x1024`.
    pub shape: String,
    pub dtype: String,
    pub regime: Regime,
    /// `cpu` or `metal`.
    pub device: String,
    /// What must be read and written once.
    pub bytes: f64,
    /// Multiplications and additions.
    pub flops: f64,
    /// One for each peer, in their order.
    pub cells: Vec<Cell>,
}

/// What became of one peer in a row.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "is")]
pub enum Cell {
    /// It ran, in turns with the others.
    Measured(Measured),
    /// It is not here; this is from the committed results.
    AnotherRun(Measured),
    /// Its time does not grow with the number of results asked for.
    Unfinished { why: String },
    /// It began and failed.
    Failed { why: String },
    /// It has no such op, or is absent.
    None,
    /// Ours, and not there yet.
    NotBuilt,
}

/// Times of one call in seconds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Measured {
    pub median: f64,
    /// The first and the third quartile.
    pub quartiles: [f64; 2],
    /// How many samples there were.
    pub samples: usize,
    /// CPU time of a call, all threads, where the system tells it.
    pub cpu: Option<f64>,
    /// Of the first call of the process, on a GPU and of a function alone: kernels are compiled in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first: Option<f64>,
    /// This peer's time by ours; none in our own column.
    pub ratio: Option<Ratio>,
}

impl Measured {
    /// Half of the distance between the quartiles, by the median.
    pub fn spread(&self) -> f64 {
        (self.quartiles[1] - self.quartiles[0]) / 2. / self.median.max(f64::MIN_POSITIVE)
    }
}

/// How many times ours a peer takes: above 1 we are faster.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ratio {
    /// The median of the paired ratios.
    pub times: f64,
    /// Where it lies with great probability.
    pub low: f64,
    pub high: f64,
    pub verdict: Verdict,
}

/// What a ratio says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// The interval does not leave the neighbourhood of 1.
    NoDifference,
    /// The interval is wide and has both sides in it.
    Unclear,
    Slower,
    Faster,
}

impl Row {
    /// `rms_norm backward 128x1024 f32`, without what is usual.
    pub fn name(&self) -> String {
        let pass = match self.pass {
            Pass::Forward => String::new(),
            pass => format!(" {pass}"),
        };
        let dtype = match self.dtype.as_str() {
            "f32" => String::new(),
            dtype => format!(" {dtype}"),
        };
        format!("{}{pass} {}{dtype}", self.op, self.shape)
    }
}

impl Cell {
    /// The times, of this run or another.
    pub fn times(&self) -> Option<&Measured> {
        match self {
            Self::Measured(times) | Self::AnotherRun(times) => Some(times),
            _ => None,
        }
    }
}

impl Ratio {
    /// Below this a difference is called small.
    const SMALL: f64 = 1.1;

    /// What it says, in words.
    pub fn reading(&self) -> &'static str {
        let small = (1. / Self::SMALL..Self::SMALL).contains(&self.times);
        match self.verdict {
            Verdict::Faster if small => "a little faster",
            Verdict::Faster => "faster",
            Verdict::NoDifference => "no difference",
            Verdict::Unclear => "unclear",
            Verdict::Slower if small => "a little slower",
            Verdict::Slower => "slower",
        }
    }
}
