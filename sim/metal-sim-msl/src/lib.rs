//! Metal Shading Language on Linux: compiles `.metal` sources for the host, runs their kernels one fiber per GPU
//! thread, and finds races, accesses out of bounds and divergence exactly.
//!
//! | module | what it does |
//! |---|---|
//! | `front` | a source becomes C++: preprocessed, rewritten, with a table of its kernels |
//! | `compiler`, `cache` | C++ becomes a shared object, once per machine |
//! | `library` | what a source has in it: kernels, arguments, function constants |
//! | `pipeline`, `loaded` | a kernel, compiled and loaded, ready to be dispatched |
//! | `runtime` | fibers, simdgroups, threadgroups, barriers, schedules |
//! | `detect`, `written` | who accessed what, ordered by what |
//! | `abi` | what compiled code and the runtime know of each other |
//!
//! `prelude/` is the C++ side: `metal_stdlib` for the host's compiler.

// House rule 2: `unsafe` is allowed in sim/; here for what compiled kernels share with the runtime.
#![allow(unsafe_code)]
// What a field or a variant holds is in its name, where nothing is said beside it.
#![allow(missing_docs)]

pub mod abi;
mod cache;
pub mod compiler;
mod detect;
pub mod dispatch;
pub mod error;
pub mod finding;
mod front;
pub mod library;
mod loaded;
mod messages;
pub mod pipeline;
mod runtime;
mod written;

pub use dispatch::{Binding, Dispatch, Grid, Outcome, Schedule, Touched, Traffic};
pub use error::Error;
pub use finding::{Finding, FindingKind};
pub use library::{Argument, ArgumentKind, Builtin, Checks, Constant, Function, Library, Options};
pub use pipeline::{Constants, Pipeline};
pub use written::Written;
