//! Orderings that are missing, and the same programs with them.
//!
//!     cargo test -p metal-sim --test hazards [-- <part of a name>...] [--full]
//!
//! Every wrong program is caught in every order, and every right one is silent in all of them: 32 seeds, or 1000 with
//! `--full`. Prints like Rust's own harness, and at the end one line that sums up.

// These tests use the raw bindings, as a Metal program would.
#![allow(unsafe_code)]

mod buffers;
mod candle;
mod deadlocks;
mod encoders;
mod gpu;
mod litmus;
mod routes;
mod stream;
#[path = "../support/mod.rs"]
mod support;

use metal_sim::Check;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;

/// What was asked for on the command line.
pub struct Asked {
    seeds: u64,
    full: bool,
    filters: Vec<String>,
}

impl Asked {
    fn wants(&self, name: &str) -> bool {
        self.filters.is_empty() || self.filters.iter().any(|part| name.contains(part.as_str()))
    }

    /// A check in all orders.
    fn check(&self) -> Check {
        Check::new().seeds(0..self.seeds)
    }

    /// A check of a program that is caught in each order: in fewer of them, unless all were asked for.
    fn mutant(&self) -> Check {
        match self.full {
            true => self.check(),
            false => self.check().seeds(0..8),
        }
    }
}

/// How many of how many.
#[derive(Clone, Copy, Default)]
pub struct Score {
    good: usize,
    all: usize,
}

impl Score {
    /// Runs a case, if it was asked for, and prints its line.
    fn case(&mut self, asked: &Asked, name: &str, case: impl FnOnce()) {
        if !asked.wants(name) {
            return;
        }
        self.all += 1;
        match catch_unwind(AssertUnwindSafe(case)) {
            Ok(()) => {
                self.good += 1;
                println!("test {name} ... ok");
            }
            Err(_) => println!("test {name} ... FAILED"),
        }
    }
}

fn main() -> ExitCode {
    let (options, filters): (Vec<_>, Vec<_>) = std::env::args()
        .skip(1)
        .partition(|it| it.starts_with("--"));
    if options.iter().any(|it| it == "--list") {
        return ExitCode::SUCCESS;
    }
    let full = options.iter().any(|it| it == "--full");
    let asked = Asked {
        seeds: if full { 1000 } else { 32 },
        full,
        filters,
    };
    // Kernels are compiled once, with the detector that sees what they touch.
    metal_sim::rules::choose(|rules| rules.hazards = true);
    let gpu = gpu::Gpu::new();
    let mut litmus = litmus::run(&asked, &gpu);
    let deadlocks = deadlocks::run(&asked, &gpu);
    litmus.good += deadlocks.good;
    litmus.all += deadlocks.all;
    let stream = candle::Stream::new();
    let [mut routes, mutants] = routes::run(&asked, &stream);
    let own = stream::run(&asked, &stream);
    routes.good += own.good;
    routes.all += own.all;
    let all = [litmus, routes, mutants];
    let passed: usize = all.iter().map(|score| score.good).sum();
    let failed = all.iter().map(|score| score.all).sum::<usize>() - passed;
    println!(
        "\ntest result: {}. {passed} passed; {failed} failed; 0 ignored; 0 measured; 0 filtered out",
        if failed == 0 { "ok" } else { "FAILED" }
    );
    println!(
        "hazards: litmus {} of {}, routes {} of {}, mutants {} of {}",
        litmus.good, litmus.all, routes.good, routes.all, mutants.good, mutants.all
    );
    ExitCode::from(u8::from(failed > 0))
}
