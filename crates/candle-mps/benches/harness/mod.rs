//! What the benchmarks share: arguments, turns, medians, the table.
//!
//! All sides of a row take turns in one process (PyTorch in a worker of its own), every call finishes
//! inside the timed region, and ratios are those of the medians. Spread is half of the middle half, in
//! per cent of the median, of the worse of Candle's side and ours. CPU is the CPU time of our side in
//! units of its wall time.

mod pytorch;

use std::{
    cell::RefCell,
    hint::black_box,
    time::{Duration, Instant},
};

use candle_core::{Device, Result, Tensor};
use candle_mps_cpu::{
    V, memory, simd,
    simd::{Simd, Vector, WithSimd},
    threads,
};

/// Samples of one side: each is the mean of a few calls.
const MOST: usize = 2000;
const LEAST: usize = 15;

/// How long a row goes on taking samples.
const TIME: Duration = Duration::from_secs(2);

/// What glibc is told so that it gives no memory back: 1 GiB at the end of its own, and the largest size that
/// it takes from there.
const KEEP_MEMORY: [(&str, &str); 2] = [
    ("MALLOC_TRIM_THRESHOLD_", "1073741824"),
    ("MALLOC_MMAP_THRESHOLD_", "33554432"),
];

/// What a row's work is counted in, and so what its limit is.
#[allow(dead_code, reason = "not every benchmark counts both")]
#[derive(Clone, Copy)]
pub enum Work {
    /// Multiplications and additions; the limit is a loop of multiply-adds on registers.
    Flops(f64),
    /// Bytes that must be read and written once; the limit is a copy of as many to fresh memory.
    Bytes(usize),
}

/// A benchmark that runs.
pub struct Bench {
    /// Parts of the names of the rows to run; all when empty.
    only: Vec<String>,
    /// GFLOP/s of multiply-adds on registers, all threads.
    limit: f64,
    pytorch: RefCell<Option<pytorch::PyTorch>>,
}

/// Reads the arguments, runs `rows`, and ends the process with an error's message if there is one.
///
/// Candle is configured: unless `RAYON_NUM_THREADS` is set, the process starts itself again with it
/// set to the number of cores, but with `--as-installed`. So is the C library, for all sides: it keeps
/// the memory that it has, because how long fresh pages take is the system's business, and on virtual
/// machines a lottery.
pub fn main(rows: impl Fn(&Bench) -> Result<()>) {
    let arguments: Vec<String> = std::env::args()
        .skip(1)
        .filter(|argument| argument != "--bench")
        .collect();
    let installed = arguments.iter().any(|it| it == "--as-installed");
    if std::env::var_os("RAYON_NUM_THREADS").is_none() && !installed {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let status = std::env::current_exe().and_then(|program| {
            std::process::Command::new(program)
                .args(&arguments)
                .env("RAYON_NUM_THREADS", cores.to_string())
                .envs(KEEP_MEMORY)
                .status()
        });
        std::process::exit(status.ok().and_then(|status| status.code()).unwrap_or(1));
    }
    let bench = Bench {
        only: arguments
            .into_iter()
            .filter(|it| !it.starts_with("--"))
            .collect(),
        limit: limit(),
        pytorch: pytorch::for_rows(threads::count()),
    };
    bench.heading();
    if let Err(error) = rows(&bench) {
        eprintln!("{error}");
        std::process::exit(1);
    }
}

impl Bench {
    fn heading(&self) {
        let configured = match std::env::var_os("RAYON_NUM_THREADS") {
            Some(_) => "configured",
            None => "as installed",
        };
        let gemm = match cfg!(feature = "gemm-x86-v4") {
            true => "gemm/x86-v4",
            false => "stock gemm",
        };
        let isa = simd::isa().map_or("no instruction set", simd::Isa::name);
        println!(
            "candle 0.11.1 ({configured}, {gemm}), ours on {isa} with {} threads; multiply-adds \
             reach {:.0} GFLOP/s in f32",
            threads::count(),
            self.limit
        );
        println!(
            "{:<34} {:>11} {:>11} {:>6} {:>7} {:>13} {:>6} {:>5} {:>11} {:>6}",
            "", "candle", "ours", "ratio", "spread", "rate", "limit", "CPU", "pytorch", "ratio"
        );
    }

    /// Whether a row of this name is wanted.
    pub fn wants(&self, name: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|part| name.contains(part.as_str()))
    }

    /// Measures the sides in turn and prints a line.
    pub fn row<A, B>(
        &self,
        name: &str,
        work: Work,
        mut candle: impl FnMut() -> Result<A>,
        mut ours: impl FnMut() -> Result<B>,
    ) -> Result<()> {
        if !self.wants(name) {
            return Ok(());
        }
        let mut copy = Copy::of(work);
        let calls = [calls(&mut candle)?, calls(&mut ours)?];
        let mut pytorch = pytorch::Side::new(&self.pytorch, name);
        let (mut theirs, mut mine, mut copied) = (Vec::new(), Vec::new(), Vec::new());
        let start = Instant::now();
        while theirs.len() < LEAST || (theirs.len() < MOST && start.elapsed() < TIME) {
            theirs.push(time(calls[0], &mut candle)?);
            mine.push(time(calls[1], &mut ours)?);
            copied.push(time(1, || Ok(copy.run()))?);
            pytorch.sample(calls[1]);
        }
        let cpu = busy(&mut ours)?;
        let [(candle, one), (ours, other), (copy, _)] = [theirs, mine, copied].map(median);
        let (rate, limit) = match work {
            Work::Flops(flops) => (
                format!("{:.0} GFLOP/s", flops / ours / 1e9),
                flops / ours / 1e9 / self.limit,
            ),
            Work::Bytes(bytes) => (
                format!("{:.1} GB/s", bytes as f64 / ours / 1e9),
                copy / ours,
            ),
        };
        println!(
            "{name:<34} {:>8.1} us {:>8.1} us {:>6.2} {:>6.1}% {rate:>13} {:>5.0}% {cpu:>5} {}",
            candle * 1e6,
            ours * 1e6,
            candle / ours,
            100. * one.max(other),
            100. * limit,
            pytorch.columns(ours),
        );
        Ok(())
    }
}

/// Moves as many bytes as a row must, to fresh memory, on as many threads as pay.
struct Copy {
    from: Vec<f32>,
}

impl Copy {
    fn of(work: Work) -> Self {
        let len = match work {
            Work::Bytes(bytes) => bytes / 8,
            Work::Flops(_) => 0,
        };
        Self {
            from: vec![1.; len],
        }
    }

    fn run(&mut self) -> Vec<f32> {
        let mut to = memory::vector::<f32>(self.from.len());
        let parts = threads::parts(self.from.len(), 64 << 10);
        threads::rows(&mut to, 1, parts, |range, to| {
            to.copy_from_slice(&self.from[range]);
        });
        to
    }
}

/// How many calls make a sample of about 100 µs; warms up.
fn calls<R>(f: &mut impl FnMut() -> Result<R>) -> Result<usize> {
    let start = Instant::now();
    let mut done = 0;
    while done < 3 || (start.elapsed() < Duration::from_millis(20) && done < 5000) {
        black_box(f()?);
        done += 1;
    }
    let each = start.elapsed().as_secs_f64() / done as f64;
    Ok(((100e-6 / each) as usize).clamp(1, 50))
}

/// Seconds of one of so many calls.
fn time<R>(calls: usize, mut f: impl FnMut() -> Result<R>) -> Result<f64> {
    let start = Instant::now();
    for _ in 0..calls {
        black_box(f()?);
    }
    Ok(start.elapsed().as_secs_f64() / calls as f64)
}

/// The median, and half of the distance between the quartiles relative to it.
fn median(mut samples: Vec<f64>) -> (f64, f64) {
    samples.sort_by(f64::total_cmp);
    let at = |quarter: usize| samples[(samples.len() - 1) * quarter / 4];
    (at(2), (at(3) - at(1)) / 2. / at(2))
}

/// CPU seconds per second of `f`, where Linux tells them.
fn busy<R>(f: &mut impl FnMut() -> Result<R>) -> Result<String> {
    // The system books CPU time in steps of milliseconds, so not between the turns.
    let (before, start) = (cpu_seconds(), Instant::now());
    while start.elapsed() < Duration::from_millis(100) {
        black_box(f()?);
    }
    let wall = start.elapsed().as_secs_f64();
    let spent = cpu_seconds().zip(before);
    Ok(spent.map_or("?".to_owned(), |(after, before)| {
        format!("{:.2}", (after - before) / wall)
    }))
}

/// The CPU time of all threads of this process.
fn cpu_seconds() -> Option<f64> {
    let tasks = std::fs::read_dir("/proc/self/task").ok()?;
    let of = |task: std::io::Result<std::fs::DirEntry>| {
        let text = std::fs::read_to_string(task.ok()?.path().join("schedstat")).ok()?;
        text.split_whitespace().next()?.parse::<f64>().ok()
    };
    Some(tasks.map(of).sum::<Option<f64>>()? / 1e9)
}

/// Multiply-adds on registers, as many as there are chains to keep the units busy.
struct Fma {
    rounds: usize,
    factor: f32,
}

impl WithSimd for Fma {
    type Output = f32;
    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> f32 {
        let factor = V::<f32, S>::splat(s, self.factor);
        let mut sums = [factor; 12];
        for _ in 0..self.rounds {
            for sum in &mut sums {
                *sum = sum.mul_add(factor, factor);
            }
        }
        sums.into_iter()
            .reduce(|a, b| a + b)
            .map_or(0., V::<f32, S>::reduce_add)
    }
}

/// The lanes of an instruction set.
struct Lanes;

impl WithSimd for Lanes {
    type Output = usize;
    #[inline(always)]
    fn run<S: Simd>(self, _: S) -> usize {
        V::<f32, S>::LANES
    }
}

/// GFLOP/s of [`Fma`] on all threads: the best of a few.
fn limit() -> f64 {
    let Ok(isa) = simd::isa() else {
        return f64::NAN;
    };
    let rounds = 2_000_000;
    let flops = (threads::count() * rounds * 12 * 2 * isa.run(Lanes)) as f64;
    let best = (0..9).map(|_| {
        let start = Instant::now();
        threads::run(threads::count(), |_| {
            black_box(isa.run(Fma {
                rounds,
                factor: black_box(0.5),
            }));
        });
        flops / start.elapsed().as_secs_f64() / 1e9
    });
    best.fold(0., f64::max)
}

/// The same numbers at every run, between -1 and 1.
pub fn random(dims: &[usize]) -> Result<Tensor> {
    let mut state = 1u32;
    let values = (0..dims.iter().product()).map(|_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 23) as f32 - 1.
    });
    Tensor::from_iter(values, &Device::Cpu)?.reshape(dims)
}
