//! What Metal and MPS promise, one test body per promise: plain functions in one registry
//! (`all`), written against Apple's API and nothing else. They run unchanged on a Mac and on
//! anything that claims to behave like one, which is how a simulator is kept honest.
//!
//! Some promises are about misuse: the process ends. Such a body runs in a child process
//! (`run` starts it), so a test binary that uses this crate begins with `child`.
//!
//! What Apple leaves open is in a second registry (`probes`): questions, to which a machine gives its answer (`ask`).
//!
//! Everything is behind the feature `metal`.
#![cfg(feature = "metal")]
// Misuse on purpose needs the raw bindings: the safe layer would refuse it.
#![allow(unsafe_code)]

mod harness;
mod machine;
mod metal;
mod mps;
mod probes;

pub use harness::{Filter, Outcome, Report, child, harness, run};
pub use machine::Machine;
pub use probes::{Answer, Asked, Probe, ask, probes};

/// One promise.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    /// Its name, in words, unique.
    pub name: &'static str,
    /// What is promised.
    pub expect: Expect,
    /// The body. It panics when the promise is broken.
    pub body: fn(&Machine) -> Result<(), NotHere>,
}

/// How a body ends when the promise is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    /// It returns.
    Holds,
    /// The process ends. The words are what a checker calls the rule; Apple's own words vary.
    Ends(&'static str),
    /// Apple leaves it undefined, so a Mac is not asked; a checker ends the process and calls the
    /// rule by these words.
    Undefined(&'static str),
}

/// Why a body cannot run on this machine (no second device, for example).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotHere(pub &'static str);

/// Every promise, by subject.
pub fn all() -> impl Iterator<Item = &'static Case> {
    metal::CASES.iter().chain(mps::CASES).copied().flatten()
}
