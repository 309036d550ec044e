//! Metal and MPS on Linux, for tests. Programs on `objc2-metal` and
//! `objc2-metal-performance-shaders` run unmodified against it: the classes are the ones
//! those crates link to, buffers are host memory, and command buffers run on a thread of
//! their own after `commit`.
//!
//! It is a checker before it is an emulator: what a Mac would abort on is a [`fault`] that
//! names the rule, every object is counted ([`Census`]), and the work given to the GPU is
//! accounted for ([`Work`]).
//!
//! | module | what it holds |
//! |---|---|
//! | `memory` `pass` `gpu` | what runs: memory, recorded work, the thread that runs it |
//! | `order` `schedule` | what must run before what, and what runs next of the rest |
//! | `hazards` `check` | accesses that nothing orders, and a test's way to look for them |
//! | `model/` | Metal's objects, one file per protocol |
//! | `mps/` | Metal Performance Shaders, one file per header |
//! | `rules` | the switches for behaviour that sources disagree about |
//! | `account` | how much work was given to the GPU |
//! | `mutant` | kernels with a barrier taken away |
//! | `inject` | command buffers that fail, memory that runs out, on demand |
//!
//! Two forms come from this source: the Rust library, for tests that link it, and a shared
//! library that is installed as `libobjc.so`, for programs that do not know about it.

// An implementation of an unsafe C ABI throughout: house rule 2 names the simulator as such.
#![allow(unsafe_code)]

pub mod account;
mod chance;
pub mod check;
pub mod gpu;
mod hazards;
mod inject;
pub mod memory;
pub mod model;
pub mod mps;
pub mod mutant;
mod order;
pub mod pass;
pub mod rules;
mod schedule;

pub use account::Work;
pub use check::{Check, Finding, Order, Report, check};
pub use metal_sim_objc::census::Census;
pub use metal_sim_objc::fault;

use std::sync::{Mutex, MutexGuard, Once, PoisonError};

/// Makes the simulated classes usable. Called when the library is loaded; calling it again
/// does nothing.
pub fn start() {
    static START: Once = Once::new();
    START.call_once(|| {
        metal_sim_objc::start();
        model::register();
        mps::register();
    });
}

extern "C" fn start_on_load() {
    start();
}

// SAFETY: `.init_array` holds pointers to functions without arguments, run once at load.
#[used]
#[unsafe(link_section = ".init_array")]
static START_ON_LOAD: extern "C" fn() = start_on_load;

/// Locks, and goes on after a panic elsewhere: a fault is a panic, and the state it left is
/// whole because faults are raised before anything is changed.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The example of `sim/README.md`, so that it stays true.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;
