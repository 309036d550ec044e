//! What the bench says to a peer and hears from it: a line of JSON each way. `bench/peers/worker.py` speaks it,
//! too.
//!
//! A peer first tells by itself what it is. Then each question names an op and how many results are asked
//! for; the answer has the seconds that each took, none of them unfinished when its clock stopped, unless it is
//! the encoding that is asked for.

use serde::{Deserialize, Serialize};

use super::device::Place;
use crate::results::Pass;
use crate::results::bench::Regime;

/// How many calls a chain has: each on the result of the one before.
pub const CHAIN: usize = 16;

/// What a peer says first.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Hello {
    /// Name, version, configuration: the column's title.
    pub title: String,
}

/// An op at a size.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Question {
    pub op: String,
    pub pass: Pass,
    pub sizes: Vec<usize>,
    pub dtype: String,
    pub regime: Regime,
    /// Where the operands are.
    pub device: Place,
    /// Results asked for; in the regime `chain` each is the last of [`CHAIN`] calls.
    pub results: usize,
}

/// What a peer answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// It was done.
    #[serde(untagged)]
    Done {
        /// Of each result; a chain's is that of all of its calls.
        seconds: Vec<f64>,
        /// CPU time of all results, all threads.
        cpu_seconds: f64,
        /// Of the call before these, if it was the first on these operands: kernels may have been compiled in it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        first: Option<f64>,
    },
    /// The peer has no such op, type or pass.
    #[serde(untagged)]
    Lacks { lacks: String },
    /// It has, and it failed.
    #[serde(untagged)]
    Failed { error: String },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_told_apart_by_what_is_in_them() {
        let read = |text: &str| serde_json::from_str::<Answer>(text);
        let done = Answer::Done {
            seconds: vec![1e-3],
            cpu_seconds: 2e-3,
            first: None,
        };
        assert_eq!(
            read(r#"{"seconds": [1e-3], "cpu_seconds": 2e-3}"#).unwrap(),
            done
        );
        let text = serde_json::to_string(&done).unwrap();
        assert_eq!(read(&text).unwrap(), done);
        let lacks = Answer::Lacks {
            lacks: "rope".to_owned(),
        };
        assert_eq!(read(r#"{"lacks": "rope"}"#).unwrap(), lacks);
        assert!(matches!(
            read(r#"{"error": "x"}"#).unwrap(),
            Answer::Failed { .. }
        ));
        assert!(read(r#"{"time": 1}"#).is_err());
    }
}
