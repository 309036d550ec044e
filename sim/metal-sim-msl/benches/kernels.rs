//! What a kernel of Candle's costs: compiled for the first time, compiled before, and run on one OS thread without the
//! detector and with it. Figures are medians; runs with and without the detector alternate. Of runs, it is the time
//! that the processor spent on them, so that a busy machine does not count.
//!
//!     cargo bench -p metal-sim-msl --bench kernels

#[path = "../tests/support/candle.rs"]
mod candle;

use std::path::PathBuf;
use std::time::{Duration, Instant};
use std::{env, fs, process};

use cpu_time::ProcessTime;
use metal_sim_msl::{
    Binding, Checks, Constants, Dispatch, Grid, Library, Options, Pipeline, Schedule,
};

/// How often something is compiled for the first time, and how often a kernel runs.
const COLD: usize = 5;
const RUNS: usize = 21;

/// The most that these should take, in milliseconds, and how much more with the detector.
const COLD_GOAL: f64 = 1000.;
const CACHED_GOAL: f64 = 1.;
const SOFTMAX_GOAL: f64 = 8.;
const GEMM_GOAL: f64 = 2.;
const DETECTOR_GOAL: f64 = 10.;

/// A kernel, and what it is given.
struct Case {
    file: &'static str,
    kernel: &'static str,
    constants: &'static [(u32, bool)],
    buffers: Vec<(usize, Vec<u8>)>,
    groups: [u32; 3],
    threads: [u32; 3],
}

fn main() {
    // SAFETY: no other thread runs yet.
    #[allow(unsafe_code)]
    unsafe {
        env::set_var("METAL_SIM_CACHE", folder())
    };
    let softmax = softmax();
    let gemm = gemm();
    compile("softmax", &softmax);
    compile("GEMM", &gemm);
    run("softmax 64x1024", softmax, SOFTMAX_GOAL);
    run("GEMM 64x64x64", gemm, GEMM_GOAL);
    let _ = fs::remove_dir_all(folder());
}

/// A cache of its own, which is empty when it should be and removed at the end.
fn folder() -> PathBuf {
    env::temp_dir().join(format!("metal-sim-bench-{}", process::id()))
}

fn floats(count: usize) -> Vec<u8> {
    (0..count)
        .flat_map(|at| ((at * 37 % 101) as f32 / 101.).to_le_bytes())
        .collect()
}

fn u32s(values: &[u32]) -> Vec<u8> {
    values.iter().flat_map(|it| it.to_le_bytes()).collect()
}

fn softmax() -> Case {
    let (rows, columns) = (64, 1024);
    let count = rows * columns;
    let buffers = vec![
        (0, u32s(&[count])),
        (1, u32s(&[columns])),
        (2, floats(count as usize)),
        (3, vec![0; 4 * count as usize]),
    ];
    Case {
        file: "reduce.metal",
        kernel: "softmax_f32",
        constants: &[],
        buffers,
        groups: [rows, 1, 1],
        // As Candle chooses for rows of this length.
        threads: [512, 1, 1],
    }
}

/// With the tiles that Candle chooses for it.
fn gemm() -> Case {
    let size = 64;
    let count = (size * size) as usize;
    let mut params = u32s(&[size, size, size, size, size, size, size / 32, size / 64]);
    params.extend([count as i64; 3].iter().flat_map(|it| it.to_le_bytes()));
    params.extend(u32s(&[0, size / 32, 1, 0]));
    let buffers = vec![
        (0, floats(count)),
        (1, floats(count)),
        (3, vec![0; 4 * count]),
        (4, params),
    ];
    Case {
        file: "mlx_gemm.metal",
        kernel: "gemm_nn_f32_f32_64_32_32_2_2",
        constants: &[
            (10, false),
            (100, false),
            (110, false),
            (200, true),
            (201, true),
            (202, true),
            (300, false),
        ],
        buffers,
        groups: [size / 32, size / 64, 1],
        threads: [32, 2, 2],
    }
}

impl Case {
    fn library(&self, source: &str) -> Library {
        let options = Options {
            name: self.file.to_owned(),
            ..Options::default()
        };
        Library::from_source(source, &options).expect("Candle's sources are understood")
    }

    fn pipeline(&self, library: &Library, races: bool) -> Pipeline {
        let mut constants = Constants::default();
        for (index, value) in self.constants {
            constants.set_index(*index, "bool", &[u8::from(*value)]);
        }
        let checks = Checks {
            races,
            strict_flags: false,
        };
        Pipeline::new(library, self.kernel, &constants, checks).expect("Candle's kernels compile")
    }

    fn source(&self) -> String {
        fs::read_to_string(candle::kernels().join(self.file)).expect("Candle's kernels")
    }
}

/// From the source to a pipeline: with nothing in the cache, and with all of it.
fn compile(name: &str, case: &Case) {
    let source = case.source();
    let make = |source: &str| {
        let start = Instant::now();
        case.pipeline(&case.library(source), false);
        start.elapsed()
    };
    let cold = (0..COLD).map(|_| {
        let _ = fs::remove_dir_all(folder());
        make(&source)
    });
    report(&format!("{name}, compiled"), cold.collect(), COLD_GOAL);
    make(&source);
    let cached = (0..RUNS).map(|_| make(&source)).collect();
    report(
        &format!("{name}, source and kernel cached"),
        cached,
        CACHED_GOAL,
    );
    let library = case.library(&source);
    let kernel = (0..RUNS).map(|_| {
        let start = Instant::now();
        case.pipeline(&library, false);
        start.elapsed()
    });
    report(
        &format!("{name}, kernel cached"),
        kernel.collect(),
        CACHED_GOAL,
    );
}

/// One dispatch, without the detector and with it.
fn run(name: &str, mut case: Case, goal: f64) {
    let library = case.library(&case.source());
    let both = [false, true].map(|races| case.pipeline(&library, races));
    let mut bindings = vec![None; 31];
    for (index, bytes) in &mut case.buffers {
        bindings[*index] = Some(Binding {
            address: bytes.as_mut_ptr(),
            length: bytes.len(),
            label: String::new(),
            written: None,
        });
    }
    let dispatch = Dispatch {
        grid: Grid::Threadgroups {
            groups: case.groups,
            threads: case.threads,
        },
        buffers: &bindings,
        threadgroup_memory: &[],
        schedule: Schedule::Fifo,
        threads: 1,
    };
    // That it looks: the result is too small for it.
    let mut short = bindings.clone();
    if let Some(result) = &mut short[3] {
        result.length -= 4;
    }
    let finds = both.each_ref().map(|pipeline| {
        let buffers = &short;
        let outcome = pipeline.dispatch(&Dispatch {
            buffers,
            ..dispatch.clone()
        });
        outcome.expect("it runs").findings.len()
    });
    assert_eq!(finds, [0, 1], "what the detector finds");
    let mut times = [Vec::new(), Vec::new()];
    for _ in 0..RUNS {
        for (pipeline, times) in both.iter().zip(&mut times) {
            let start = ProcessTime::now();
            let outcome = pipeline.dispatch(&dispatch).expect("it runs");
            times.push(start.elapsed());
            assert!(outcome.findings.is_empty(), "{}", outcome.findings[0]);
        }
    }
    let [plain, checked] = times;
    let plain = report(name, plain, goal);
    let checked = report(&format!("{name}, detector"), checked, plain * DETECTOR_GOAL);
    println!("{:<40} {:8.1} x", "  with the detector", checked / plain);
}

/// Prints the median in milliseconds, and the range of the middle half.
fn report(what: &str, mut times: Vec<Duration>, goal: f64) -> f64 {
    times.sort_unstable();
    let at = |part: f64| times[((times.len() - 1) as f64 * part) as usize].as_secs_f64() * 1000.;
    println!(
        "{what:<40} {:8.2} ms  ({:.2} to {:.2}), goal {goal:.2}: {}",
        at(0.5),
        at(0.25),
        at(0.75),
        if at(0.5) <= goal { "met" } else { "missed" }
    );
    at(0.5)
}
