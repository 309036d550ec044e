//! What a GPU thread costs: a round trip between fibers, and a loop of loads with and without the detector. The kernels
//! are those of the tests. Each figure is the median of several runs, which alternate; the spread is that of the middle
//! half.

#[path = "../tests/support/mod.rs"]
mod support;

use metal_sim_msl::dispatch::{Binding, Dispatch, Grid, Schedule};
use metal_sim_msl::library::{Checks, Library, Options};
use metal_sim_msl::pipeline::{Constants, Pipeline};
use std::time::Instant;

const RUNS: usize = 21;

fn pipeline(kernel: &str, races: bool, library: &std::path::Path) -> Pipeline {
    let checks = Checks {
        races,
        strict_flags: false,
    };
    support::pipeline(library, "races.cpp", kernel, checks, &Constants::default())
}

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
    let checked = support::compile("races.cpp", true);

    for threads in [32, 256, 1024] {
        let switches = pipeline("switches", false, &plain);
        let times = (0..RUNS)
            .map(|_| time(&switches, support::groups(1, threads), &[]))
            .collect();
        report(
            &format!("switch at a barrier, {threads} threads"),
            times,
            1000.0 * f64::from(threads),
        );
    }

    let mut words = [vec![0_u32; 64 * 256], vec![0; 256], vec![0; 4096]];
    let buffers: Vec<_> = words
        .iter_mut()
        .map(|words| support::binding(words, ""))
        .collect();
    let both = [
        pipeline("dot", false, &plain),
        pipeline("dot", true, &checked),
    ];
    let mut times = [Vec::new(), Vec::new()];
    for _ in 0..RUNS {
        for (pipeline, times) in both.iter().zip(&mut times) {
            times.push(time(pipeline, support::groups(16, 256), &buffers));
        }
    }
    let [fast, slow] = times;
    let rounds = 4096.0 * 256.0;
    let fast = report("multiply and add, two loads", fast, rounds);
    let slow = report("the same with the detector", slow, rounds);
    println!(
        "the detector costs {:.1} times as much where there is nothing but loads",
        slow / fast
    );
    reduction();
}

/// A kernel as they usually are: a sum of each row, with simd operations and a barrier. Compiled by this crate.
fn reduction() {
    let options = Options {
        name: "rows.metal".into(),
        ..Options::default()
    };
    let library = Library::from_source(ROWS, &options).expect("it is correct");
    let mut words = [vec![0_u32; 64 * 1024], vec![0; 64]];
    let buffers: Vec<_> = words
        .iter_mut()
        .map(|words| support::binding(words, ""))
        .collect();
    let make = |races| {
        let checks = Checks {
            races,
            strict_flags: false,
        };
        Pipeline::new(&library, "rows", &Constants::default(), checks).expect("it compiles")
    };
    let both = [make(false), make(true)];
    let mut times = [Vec::new(), Vec::new()];
    for _ in 0..RUNS {
        for (pipeline, times) in both.iter().zip(&mut times) {
            times.push(time(pipeline, support::groups(64, 256), &buffers));
        }
    }
    let [fast, slow] = times;
    let fast = report("maxima and sums of 64 rows of 1024, whole", fast, 1.0);
    let slow = report("the same with the detector", slow, 1.0);
    println!("the detector costs {:.1} times as much", slow / fast);
}

const ROWS: &str = "#include <metal_stdlib>
using namespace metal;
kernel void rows(device const float *in [[buffer(0)]], device float *out [[buffer(1)]],
                 uint me [[thread_index_in_threadgroup]], uint lane [[thread_index_in_simdgroup]],
                 uint simdgroup [[simdgroup_index_in_threadgroup]], uint row [[threadgroup_position_in_grid]]) {
  threadgroup float parts[8];
  float most = -INFINITY;
  for (uint i = me; i < 1024; i += 256) most = max(most, in[row * 1024 + i]);
  most = simd_max(most);
  if (lane == 0) parts[simdgroup] = most;
  threadgroup_barrier(mem_flags::mem_threadgroup);
  most = simd_max(parts[lane % 8]);
  threadgroup_barrier(mem_flags::mem_threadgroup);
  float sum = 0;
  for (uint i = me; i < 1024; i += 256) sum += exp(in[row * 1024 + i] - most);
  sum = simd_sum(sum);
  if (lane == 0) parts[simdgroup] = sum;
  threadgroup_barrier(mem_flags::mem_threadgroup);
  if (simdgroup == 0) {
    sum = simd_sum(lane < 8 ? parts[lane] : 0.0f);
    if (lane == 0) out[row] = sum;
  }
}
";
