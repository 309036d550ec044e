//! The results of `verify`: the largest error of each op, type and pass, beside its bound.

use serde::{Deserialize, Serialize};

use super::{Machine, Pass};

/// `verify-cpu.json` and `verify-metal.json`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Verify {
    /// Of candle-mps.
    pub version: String,
    /// The command line that made this.
    pub command: String,
    pub machine: Machine,
    /// `cpu` or `metal`.
    pub device: String,
    pub rows: Vec<Row>,
    /// Through whose fused ops gradients arrive.
    pub training: Vec<Training>,
    /// What Metal and MPS promise, held against this machine; where there is one.
    pub conformance: Option<Conformance>,
    /// What Apple leaves open, and what this machine answers.
    #[serde(default)]
    pub probes: Vec<Probe>,
    /// Whether nothing missed its bound and no promise was broken.
    pub ok: bool,
}

/// An op in a type, forward or backward.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// As the function is named, such as `rms_norm`.
    pub op: String,
    pub dtype: String,
    pub pass: Pass,
    /// Whether MPS computes it.
    pub mps: bool,
    /// Random cases: ragged shapes, strides, offsets.
    pub cases: usize,
    /// The largest error, as a part of its bound's scale.
    pub error: Option<f64>,
    pub bound: f64,
    pub outcome: Outcome,
}

/// How a row ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "is")]
pub enum Outcome {
    Ok,
    /// An error beyond the bound: where, and the command that shows it again.
    Miss {
        what: String,
        replay: String,
    },
    /// The op answered with an error.
    Failed {
        why: String,
        replay: String,
    },
    /// There is nothing of ours to verify yet.
    NotBuilt {
        why: String,
    },
}

/// Whether a gradient arrives behind an op.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Training {
    pub op: String,
    pub through_candles: bool,
    pub through_ours: bool,
}

/// Promises of Metal and MPS.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Conformance {
    pub kept: usize,
    /// Name of the promise, and how it was broken.
    pub broken: Vec<(String, String)>,
    /// Name of the promise, and why it could not be asked.
    pub skipped: Vec<(String, String)>,
}

/// A question that Apple leaves open. No answer is wrong.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Probe {
    /// As `docs/open-questions.md` has it.
    pub id: String,
    pub question: String,
    /// None: it could not be asked.
    pub answer: Option<String>,
    /// The simulator's switch that the answer would set, if there is one.
    pub switch: Option<String>,
    /// Figures beside the answer, or why there is none.
    pub detail: Option<String>,
}
