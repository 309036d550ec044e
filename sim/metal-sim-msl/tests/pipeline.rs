//! From a `.metal` source to results: compiled, loaded, dispatched, checked.

use metal_sim_msl::dispatch::{Binding, Dispatch, Grid, Outcome, Schedule};
use metal_sim_msl::error::Error;
use metal_sim_msl::finding::FindingKind;
use metal_sim_msl::library::{Checks, Library, Options};
use metal_sim_msl::pipeline::{Constants, Pipeline};
use std::fs;
use std::path::PathBuf;

const RACES: Checks = Checks {
    races: true,
    strict_flags: false,
};

const SOURCE: &str = "#include <metal_stdlib>
using namespace metal;

constant bool doubled [[function_constant(0)]];

kernel void total(device const float *in [[buffer(0)]],
                  device float *out [[buffer(1)]],
                  constant uint &count [[buffer(2)]],
                  uint me [[thread_index_in_threadgroup]],
                  uint lane [[thread_index_in_simdgroup]],
                  uint simdgroup [[simdgroup_index_in_threadgroup]],
                  uint threads [[threads_per_threadgroup]],
                  uint group [[threadgroup_position_in_grid]]) {
  threadgroup float parts[32];
  float sum = 0;
  for (uint i = me; i < count; i += threads) sum += in[group * count + i];
  sum = simd_sum(sum);
  if (lane == 0) parts[simdgroup] = sum;
  threadgroup_barrier(mem_flags::mem_threadgroup);
  if (simdgroup == 0) {
    sum = simd_sum(lane < threads / 32 ? parts[lane] : 0.0f);
    if (lane == 0) out[group] = doubled ? 2 * sum : sum;
  }
}
";

fn words<T>(values: &mut [T], label: &str) -> Option<Binding> {
    Some(Binding {
        address: values.as_mut_ptr().cast(),
        length: size_of_val(values),
        label: label.into(),
        written: None,
    })
}

fn groups(groups: u32, threads: u32) -> Grid {
    Grid::Threadgroups {
        groups: [groups, 1, 1],
        threads: [threads, 1, 1],
    }
}

fn doubled(value: bool) -> Constants {
    let mut constants = Constants::default();
    constants.set_index(0, "bool", &[value.into()]);
    constants
}

fn total(source: &str, constants: &Constants, checks: Checks) -> (Vec<f32>, Outcome) {
    let options = Options {
        name: "total.metal".into(),
        ..Options::default()
    };
    let library = Library::from_source(source, &options).unwrap();
    let pipeline = Pipeline::new(&library, "total", constants, checks).unwrap();
    let mut input: Vec<f32> = (0..600).map(|i| (i % 300) as f32).collect();
    let (mut out, mut count) = (vec![0.0_f32; 2], [300_u32]);
    let buffers = [
        words(&mut input, "numbers"),
        words(&mut out, "sums"),
        words(&mut count, ""),
    ];
    let dispatch = Dispatch {
        grid: groups(2, 128),
        buffers: &buffers,
        threadgroup_memory: &[],
        schedule: Schedule::Reverse,
        threads: 2,
    };
    let outcome = pipeline.dispatch(&dispatch).unwrap();
    (out, outcome)
}

#[test]
fn a_sum_is_right_and_silent() {
    for checks in [Checks::default(), RACES] {
        let (out, outcome) = total(SOURCE, &doubled(false), checks);
        assert_eq!(out, [44850.0; 2]);
        assert!(outcome.findings.is_empty(), "{}", outcome.findings[0]);
    }
    assert_eq!(total(SOURCE, &doubled(true), RACES).0, [89700.0; 2]);
}

#[test]
fn a_missing_barrier_is_found_at_its_lines() {
    let line = "  threadgroup_barrier(mem_flags::mem_threadgroup);\n";
    let (_, outcome) = total(&SOURCE.replace(line, "\n"), &doubled(false), RACES);
    assert_eq!(outcome.findings.len(), 1, "{:#?}", outcome.findings);
    let finding = &outcome.findings[0];
    assert_eq!(finding.kind, FindingKind::Race);
    assert_eq!(finding.what, "threadgroup variable `parts`");
    let mut places = [
        finding.first.as_ref().unwrap().place.to_string(),
        finding.second.place.to_string(),
    ];
    places.sort();
    assert_eq!(places, ["total.metal:18", "total.metal:21"]);
}

#[test]
fn what_a_pipeline_needs_is_said_when_it_is_made() {
    let library = Library::from_source(SOURCE, &Options::default()).unwrap();
    let error = Pipeline::new(&library, "total", &Constants::default(), RACES)
        .err()
        .unwrap();
    assert!(
        matches!(&error, Error::MissingConstant { name, index: 0, .. } if name == "doubled"),
        "{error}"
    );
    let pipeline = Pipeline::new(&library, "total", &doubled(false), RACES).unwrap();
    assert_eq!(pipeline.static_threadgroup_memory_length(), 128);
    assert_eq!(pipeline.max_total_threads_per_threadgroup(), 1024);
    assert_eq!(pipeline.arguments().len(), 8);
}

/// A file of Candle's kernels, from where cargo keeps sources.
fn candle(file: &str) -> String {
    let home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let home =
        home.unwrap_or_else(|| PathBuf::from(std::env::var_os("HOME").unwrap()).join(".cargo"));
    let registries = fs::read_dir(home.join("registry/src")).unwrap();
    let path = registries
        .map(|entry| {
            entry
                .unwrap()
                .path()
                .join("candle-metal-kernels-0.11.1/src/metal_src")
                .join(file)
        })
        .find(|path| path.exists())
        .expect("cargo fetch brings candle-metal-kernels 0.11.1");
    fs::read_to_string(path).unwrap()
}

#[test]
fn candles_softmax_is_right_and_silent() {
    let options = Options {
        name: "reduce.metal".into(),
        ..Options::default()
    };
    let library = Library::from_source(&candle("reduce.metal"), &options).unwrap();
    let (rows, columns) = (3, 300);
    let mut input: Vec<f32> = (0..rows * columns)
        .map(|i| (i * 37 % 101) as f32 * 0.05 - 2.0)
        .collect();
    let expected: Vec<f64> = input
        .chunks(columns)
        .flat_map(|row| {
            let sum: f64 = row.iter().map(|&x| f64::from(x).exp()).sum();
            row.iter().map(move |&x| f64::from(x).exp() / sum)
        })
        .collect();
    for checks in [Checks::default(), RACES] {
        let pipeline =
            Pipeline::new(&library, "softmax_f32", &Constants::default(), checks).unwrap();
        for schedule in [
            Schedule::Fifo,
            Schedule::Reverse,
            Schedule::Lifo,
            Schedule::Random(7),
        ] {
            let mut out = vec![0.0_f32; rows * columns];
            let (mut count, mut width) = ([(rows * columns) as u32], [columns as u32]);
            let buffers = [
                words(&mut count, ""),
                words(&mut width, ""),
                words(&mut input, "in"),
                words(&mut out, "out"),
            ];
            let dispatch = Dispatch {
                grid: groups(rows as u32, 256),
                buffers: &buffers,
                threadgroup_memory: &[],
                schedule,
                threads: 1,
            };
            let outcome = pipeline.dispatch(&dispatch).unwrap();
            assert!(outcome.findings.is_empty(), "{}", outcome.findings[0]);
            let worst = out
                .iter()
                .zip(&expected)
                .map(|(&a, &b)| (f64::from(a) - b).abs())
                .fold(0.0, f64::max);
            assert!(worst < 1e-7, "{schedule:?}: {worst}");
        }
    }
}
