//! What a GPU thread costs: a round trip between fibers, and kernels with and without the detector. Each figure is the
//! median of several runs, which alternate; the spread is that of the middle half.

#[path = "../tests/support/mod.rs"]
mod support;

use metal_sim_msl::dispatch::{Binding, Dispatch, Grid, Schedule};
use metal_sim_msl::library::{Checks, Library, Options};
use metal_sim_msl::pipeline::{Constants, Pipeline};
use std::time::Instant;

const RUNS: usize = 21;

/// Nanoseconds of one dispatch.
fn time(pipeline: &Pipeline, grid: Grid, buffers: &[Option<Binding>]) -> f64 {
    let dispatch = Dispatch {
        grid,
        buffers,
        threadgroup_memory: &[],
        schedule: Schedule::Fifo,
        threads: 1,
    };
    let start = Instant::now();
    let outcome = pipeline.dispatch(&dispatch).expect("the kernel is correct");
    let elapsed = start.elapsed().as_nanos() as f64;
    assert!(outcome.findings.is_empty(), "{}", outcome.findings[0]);
    elapsed
}

fn report(what: &str, mut times: Vec<f64>, per: f64) -> f64 {
    times.sort_by(f64::total_cmp);
    let at = |part: f64| times[((times.len() - 1) as f64 * part) as usize] / per;
    println!(
        "{what:<44} {:8.2} ns  ({:.2} to {:.2})",
        at(0.5),
        at(0.25),
        at(0.75)
    );
    at(0.5)
}

fn main() {
    let plain = support::compile("races.cpp", false);

    for threads in [32, 256, 1024] {
        let none = Checks::default();
        let constants = Constants::default();
        let switches = support::pipeline(&plain, "races.cpp", "switches", none, &constants);
        let times = (0..RUNS)
            .map(|_| time(&switches, support::groups(1, threads), &[]))
            .collect();
        report(
            &format!("switch at a barrier, {threads} threads"),
            times,
            1000.0 * f64::from(threads),
        );
    }

    for case in CASES {
        compare(&case);
    }
}

/// A kernel, timed with the detector and without; compiled by this crate.
struct Case {
    kernel: &'static str,
    what: &'static str,
    /// Words of its buffers.
    words: &'static [usize],
    grid: Grid,
    /// What the figure is of; 1: a whole dispatch.
    per: f64,
}

const fn groups(groups: [u32; 3], threads: u32) -> Grid {
    let threads = [threads, 1, 1];
    Grid::Threadgroups { groups, threads }
}

const CASES: [Case; 8] = [
    Case {
        kernel: "loads",
        what: "multiply and add, two loads",
        words: &[64 * 256, 256, 4096],
        grid: groups([16, 1, 1], 256),
        per: 4096.0 * 256.0,
    },
    Case {
        kernel: "vectors",
        what: "the same by vectors of four (the worst case)",
        words: &[64 * 256, 256, 4096],
        grid: groups([16, 1, 1], 256),
        per: 4096.0 * 64.0,
    },
    Case {
        kernel: "halves",
        what: "the same with halves",
        words: &[64 * 128, 128, 4096],
        grid: groups([16, 1, 1], 256),
        per: 4096.0 * 256.0,
    },
    Case {
        kernel: "copy",
        what: "copy, each word once",
        words: &[1 << 18, 1 << 18],
        grid: groups([16, 1, 1], 256),
        per: 4096.0 * 64.0,
    },
    Case {
        kernel: "rows",
        what: "maxima and sums of 64 rows of 1024",
        words: &[64 * 1024, 64],
        grid: groups([64, 1, 1], 256),
        per: 1.0,
    },
    Case {
        kernel: "softmax",
        what: "softmax in one pass, 64 rows of 1024",
        words: &[64 * 1024, 64 * 1024],
        grid: groups([64, 1, 1], 256),
        per: 1.0,
    },
    Case {
        kernel: "tiles",
        what: "product of 64x64, tiles of 16x16",
        words: &[4096, 4096, 4096],
        grid: groups([4, 4, 1], 256),
        per: 1.0,
    },
    Case {
        kernel: "matrices",
        what: "product of 64x64, simdgroup matrices",
        words: &[4096, 4096, 4096],
        grid: groups([2, 2, 1], 128),
        per: 1.0,
    },
];

fn compare(case: &Case) {
    let options = Options {
        name: "kernels.metal".into(),
        ..Options::default()
    };
    let library = Library::from_source(KERNELS, &options).expect("it is correct");
    let mut words: Vec<_> = case.words.iter().map(|&count| vec![0_u32; count]).collect();
    let buffers: Vec<_> = words
        .iter_mut()
        .map(|words| support::binding(words, ""))
        .collect();
    let both = [false, true].map(|races| {
        let checks = Checks {
            races,
            strict_flags: false,
        };
        Pipeline::new(&library, case.kernel, &Constants::default(), checks).expect("it compiles")
    });
    let mut times = [Vec::new(), Vec::new()];
    for _ in 0..RUNS {
        for (pipeline, times) in both.iter().zip(&mut times) {
            times.push(time(pipeline, case.grid, &buffers));
        }
    }
    let [fast, slow] = times;
    let fast = report(case.what, fast, case.per);
    let slow = report("  with the detector", slow, case.per);
    println!("  the detector costs {:.1} times as much", slow / fast);
}

const KERNELS: &str = include_str!("kernels.metal");
