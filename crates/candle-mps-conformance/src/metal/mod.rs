//! Promises of Metal itself, by subject.

mod blits;
mod buffers;
mod command_buffers;
mod compute;
mod devices;
mod dispatches;
mod encoders;
mod events;
mod fences;
mod heaps;
pub(crate) mod kernels;
mod nil;
mod ordering;
mod residency;

use crate::Case;

pub(crate) const CASES: &[&[Case]] = &[
    buffers::CASES,
    heaps::CASES,
    command_buffers::CASES,
    encoders::CASES,
    blits::CASES,
    compute::CASES,
    kernels::CASES,
    dispatches::CASES,
    devices::CASES,
    fences::CASES,
    events::CASES,
    ordering::CASES,
    residency::CASES,
    nil::CASES,
];

/// Declares a module's cases: a name in words, what is promised, and the function.
macro_rules! cases {
    ($($name:literal: $expect:expr => $body:ident),* $(,)?) => {
        pub(crate) const CASES: &[crate::Case] = &[
            $(crate::Case { name: $name, expect: $expect, body: $body }),*
        ];
    };
}
pub(crate) use cases;
