//! Matmul, LoRA and attention beside Candle's own, each called as a Candle user calls it: tensor in,
//! tensor out.
//!
//!     cargo bench -p candle-mps-cpu --bench products [-- <part of a row's name>...]
//!     cargo bench -p candle-mps-cpu --bench products --features gemm-x86-v4
//!
//! Without the feature, Candle's matmul is as it comes; with it, it has AVX-512: two binaries, because
//! cargo unifies features. Both sides of a row take turns in one process, a call finishes inside the
//! timed region, and the ratio is that of the medians. Candle runs configured: unless
//! `RAYON_NUM_THREADS` is set, this starts itself again with it set to the number of cores (with
//! `--as-installed`: not). Spread is half of the middle half, in per cent of the median, of the worse
//! side. The limit is a loop of multiply-adds on registers, on all threads. CPU is the CPU time of our
//! side in units of its wall time. PyTorch joins in when `CANDLE_MPS_PYTORCH` names a Python that has
//! it.

mod peer;

use std::{cell::RefCell, hint::black_box, time::Instant};

use candle_core::{
    CpuStorage, CustomOp2, CustomOp3, DType, Device, Layout as CandleLayout, Result, Shape, Tensor,
    WithDType,
};
use candle_mps_cpu::{
    Layout, V,
    attention::{self, Operands},
    lora,
    matmul::{Factor, Options, matmul},
    memory, simd,
    simd::{Simd, Vector, WithSimd},
    threads,
};

fn main() {
    let arguments: Vec<String> = std::env::args()
        .skip(1)
        .filter(|a| a != "--bench")
        .collect();
    let installed = arguments
        .iter()
        .any(|argument| argument == "--as-installed");
    if std::env::var_os("RAYON_NUM_THREADS").is_none() && !installed {
        let cores = std::thread::available_parallelism()
            .map_or(1, usize::from)
            .to_string();
        let status = std::process::Command::new(std::env::current_exe().expect("a path"))
            .args(&arguments)
            .env("RAYON_NUM_THREADS", cores)
            .status();
        std::process::exit(status.ok().and_then(|status| status.code()).unwrap_or(1));
    }
    let only = arguments
        .into_iter()
        .filter(|a| !a.starts_with("--"))
        .collect();
    if let Err(error) = all(&Bench {
        only,
        limit: limit(),
        pytorch: peer::for_rows(threads::count()),
    }) {
        eprintln!("{error}");
        std::process::exit(1);
    }
}

fn all(bench: &Bench) -> Result<()> {
    println!(
        "candle 0.11.1 ({}, {}), ours on {} with {} threads; limit {:.0} GFLOP/s in f32",
        if std::env::var_os("RAYON_NUM_THREADS").is_some() {
            "configured"
        } else {
            "installed"
        },
        if cfg!(feature = "gemm-x86-v4") {
            "gemm/x86-v4"
        } else {
            "stock"
        },
        simd::isa().map_err(candle_core::Error::wrap)?.name(),
        threads::count(),
        bench.limit,
    );
    println!(
        "{:<32} {:>11} {:>11} {:>6} {:>7} {:>8} {:>6} {:>5} {:>11} {:>6}",
        "", "candle", "ours", "ratio", "spread", "GFLOP/s", "limit", "CPU", "pytorch", "ratio"
    );
    for width in [512, 1024, 2048] {
        adapter(bench, 1, width, 8)?;
    }
    for (rows, width, rank) in [(1, 512, 8), (1, 2048, 8), (128, 2048, 16)] {
        layer(bench, rows, width, rank)?;
    }
    for size in [64, 128, 256, 512, 1024, 2048] {
        product(
            bench,
            &format!("matmul {size}"),
            &[size, size],
            &[size, size],
        )?;
    }
    for rows in [1, 4, 16] {
        product(
            bench,
            &format!("matmul {rows}x2048x2048"),
            &[rows, 2048],
            &[2048, 2048],
        )?;
    }
    let (x, w) = (random(&[16, 2048])?, random(&[2048, 2048])?);
    let name = "matmul 16x2048x2048, W as [out, in]";
    bench.row(
        name,
        2. * 16. * 2048. * 2048.,
        || x.matmul(&w.t()?),
        || x.apply_op2_no_bwd(&w.t()?, &Matmul),
    )?;
    product(bench, "matmul 32x64x64x64", &[32, 64, 64], &[32, 64, 64])?;
    for size in [1024, 2048] {
        // Candle has no bf16 product; its column is our own f32.
        let (a, b) = (random(&[size, size])?, random(&[size, size])?);
        let narrow = |x: &Tensor, dtype| x.to_dtype(dtype);
        let (x, y) = (narrow(&a, DType::BF16)?, narrow(&b, DType::BF16)?);
        let flops = 2. * (size * size * size) as f64;
        let name = format!("bf16 matmul {size} / our f32");
        bench.row(
            &name,
            flops,
            || a.apply_op2_no_bwd(&b, &Matmul),
            || x.apply_op2_no_bwd(&y, &Matmul),
        )?;
        let (x, y) = (narrow(&a, DType::F16)?, narrow(&b, DType::F16)?);
        let name = format!("f16 matmul {size}");
        bench.row(
            &name,
            flops,
            || x.matmul(&y),
            || x.apply_op2_no_bwd(&y, &Matmul),
        )?;
    }
    heads(bench, false)?;
    heads(bench, true)
}

fn product(bench: &Bench, name: &str, a: &[usize], b: &[usize]) -> Result<()> {
    let flops = 2. * (a.iter().product::<usize>() * b[b.len() - 1]) as f64;
    let (a, b) = (random(a)?, random(b)?);
    bench.row(
        name,
        flops,
        || a.matmul(&b),
        || a.apply_op2_no_bwd(&b, &Matmul),
    )
}

fn adapter(bench: &Bench, rows: usize, width: usize, rank: usize) -> Result<()> {
    let (x, a, b) = (
        random(&[rows, width])?,
        random(&[width, rank])?,
        random(&[rank, width])?,
    );
    bench.row(
        &format!("LoRA delta {rows}x{width} r{rank}"),
        4. * (rows * width * rank) as f64,
        || x.matmul(&a)?.matmul(&b)? * 2.,
        || x.apply_op3_no_bwd(&a, &b, &Lora { base: None }),
    )
}

fn layer(bench: &Bench, rows: usize, width: usize, rank: usize) -> Result<()> {
    let (x, a, b) = (
        random(&[rows, width])?,
        random(&[width, rank])?,
        random(&[rank, width])?,
    );
    let w = random(&[width, width])?;
    bench.row(
        &format!("LoRA full {rows}x{width} r{rank}"),
        2. * (rows * width * (width + 2 * rank)) as f64,
        || x.matmul(&w)? + (x.matmul(&a)?.matmul(&b)? * 2.)?,
        || {
            x.apply_op3_no_bwd(
                &a,
                &b,
                &Lora {
                    base: Some(w.clone()),
                },
            )
        },
    )
}

fn heads(bench: &Bench, causal: bool) -> Result<()> {
    let (heads, length, size) = (8, 512, 64);
    let [q, k, v] = [(); 3].map(|()| random(&[1, heads, length, size]));
    let (q, k, v) = (q?, k?, v?);
    let hidden = (0..length * length).map(|at| match at % length > at / length {
        true => f32::NEG_INFINITY,
        false => 0.,
    });
    let mask = Tensor::from_iter(hidden, &Device::Cpu)?.reshape((1, 1, length, length))?;
    let scale = 1. / (size as f64).sqrt();
    let seen = if causal { 0.5 } else { 1. };
    bench.row(
        if causal {
            "attention 1x8x512x64 causal"
        } else {
            "attention 1x8x512x64"
        },
        4. * seen * (heads * length * length * size) as f64,
        || {
            let mut scores = (q.matmul(&k.t()?)? * scale)?;
            if causal {
                scores = scores.broadcast_add(&mask)?;
            }
            candle_nn::ops::softmax_last_dim(&scores)?.matmul(&v)
        },
        || q.apply_op3_no_bwd(&k, &v, &Attention { causal, scale }),
    )
}

// How the ops become Candle's: as short as it goes. What needs care is the ops crate's business.

fn dims_of<'a>(layout: &'a CandleLayout) -> Result<Layout<'a>> {
    Layout::new(layout.dims(), layout.stride(), layout.start_offset())
        .map_err(candle_core::Error::wrap)
}

struct Matmul;

impl CustomOp2 for Matmul {
    fn name(&self) -> &'static str {
        "matmul"
    }
    fn cpu_fwd(
        &self,
        a: &CpuStorage,
        a_layout: &CandleLayout,
        b: &CpuStorage,
        b_layout: &CandleLayout,
    ) -> Result<(CpuStorage, Shape)> {
        fn run<T: Factor + WithDType>(
            (a, b): (&CpuStorage, &CpuStorage),
            (a_layout, b_layout): (&CandleLayout, &CandleLayout),
        ) -> Result<(CpuStorage, Shape)> {
            let mut dims = a_layout.dims().to_vec();
            let rank = dims.len();
            dims[rank - 1] = b_layout.dims()[rank - 1];
            let mut out = memory::vector(dims.iter().product());
            matmul(
                (a.as_slice::<T>()?, &dims_of(a_layout)?),
                (b.as_slice::<T>()?, &dims_of(b_layout)?),
                &Options::default(),
                &mut out,
            )
            .map_err(candle_core::Error::wrap)?;
            Ok((T::to_cpu_storage_owned(out), Shape::from(dims)))
        }
        let (operands, layouts) = ((a, b), (a_layout, b_layout));
        match a {
            CpuStorage::F32(_) => run::<f32>(operands, layouts),
            CpuStorage::BF16(_) => run::<half::bf16>(operands, layouts),
            _ => run::<half::f16>(operands, layouts),
        }
    }
}

struct Lora {
    base: Option<Tensor>,
}

impl CustomOp3 for Lora {
    fn name(&self) -> &'static str {
        "lora"
    }
    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &CandleLayout,
        a: &CpuStorage,
        a_layout: &CandleLayout,
        b: &CpuStorage,
        b_layout: &CandleLayout,
    ) -> Result<(CpuStorage, Shape)> {
        let x = (x.as_slice::<f32>()?, &dims_of(x_layout)?);
        let a = (a.as_slice::<f32>()?, dims_of(a_layout)?);
        let b = (b.as_slice::<f32>()?, dims_of(b_layout)?);
        let adapter = lora::Adapter { a, b, scale: 2. };
        let dims = [x_layout.dims()[0], b_layout.dims()[1]];
        let mut out = memory::vector(dims[0] * dims[1]);
        match &self.base {
            None => lora::delta(x, &adapter, &mut out).map_err(candle_core::Error::wrap)?,
            Some(w) => {
                let (storage, layout) = w.storage_and_layout();
                let candle_core::Storage::Cpu(w) = &*storage else {
                    candle_core::bail!("not on the CPU")
                };
                let base = lora::Base {
                    w: (w.as_slice::<f32>()?, dims_of(layout)?),
                    bias: None,
                };
                lora::forward(x, &base, &adapter, &mut out).map_err(candle_core::Error::wrap)?;
            }
        }
        Ok((CpuStorage::F32(out), Shape::from_dims(&dims)))
    }
}

struct Attention {
    causal: bool,
    scale: f64,
}

impl CustomOp3 for Attention {
    fn name(&self) -> &'static str {
        "attention"
    }
    fn cpu_fwd(
        &self,
        q: &CpuStorage,
        q_layout: &CandleLayout,
        k: &CpuStorage,
        k_layout: &CandleLayout,
        v: &CpuStorage,
        v_layout: &CandleLayout,
    ) -> Result<(CpuStorage, Shape)> {
        let operands = Operands {
            q: (q.as_slice::<f32>()?, dims_of(q_layout)?),
            k: (k.as_slice::<f32>()?, dims_of(k_layout)?),
            v: (v.as_slice::<f32>()?, dims_of(v_layout)?),
        };
        let options = attention::Options {
            causal: self.causal,
            scale: self.scale,
            ..attention::Options::default()
        };
        let mut out = memory::vector(q_layout.shape().elem_count());
        attention::forward(&operands, &options, &mut out, None)
            .map_err(candle_core::Error::wrap)?;
        Ok((CpuStorage::F32(out), q_layout.shape().clone()))
    }
}

fn random(dims: &[usize]) -> Result<Tensor> {
    let mut state = 1u32;
    let values = (0..dims.iter().product()).map(|_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 23) as f32 - 1.
    });
    Tensor::from_iter(values, &Device::Cpu)?.reshape(dims)
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

struct Bench {
    /// Parts of the names of the rows to run; all when empty.
    only: Vec<String>,
    limit: f64,
    pytorch: RefCell<Option<peer::PyTorch>>,
}

/// CPU time of this process, where Linux tells it.
fn cpu_seconds() -> Option<f64> {
    let tasks = std::fs::read_dir("/proc/self/task").ok()?;
    let of = |task: std::io::Result<std::fs::DirEntry>| {
        let text = std::fs::read_to_string(task.ok()?.path().join("schedstat")).ok()?;
        text.split_whitespace().next()?.parse::<f64>().ok()
    };
    Some(tasks.map(of).sum::<Option<f64>>()? / 1e9)
}

impl Bench {
    /// Times both sides in turns, and prints a line.
    fn row<A, B>(
        &self,
        name: &str,
        flops: f64,
        candle: impl Fn() -> Result<A>,
        ours: impl Fn() -> Result<B>,
    ) -> Result<()> {
        if !self.only.is_empty() && !self.only.iter().any(|part| name.contains(part.as_str())) {
            return Ok(());
        }
        let start = Instant::now();
        black_box(candle()?);
        black_box(ours()?);
        // Short calls in groups, so that the clock does not count.
        let group = (20e-6 / start.elapsed().as_secs_f64()).clamp(1., 20.) as usize;
        let time = |f: &dyn Fn() -> Result<()>| -> Result<f64> {
            f()?;
            let start = Instant::now();
            for _ in 0..group {
                f()?;
            }
            Ok(start.elapsed().as_secs_f64() / group as f64)
        };
        let (mut theirs, mut mine) = (Vec::new(), Vec::new());
        let mut pytorch = peer::Side::new(&self.pytorch, name);
        let start = Instant::now();
        while theirs.len() < 9 || (start.elapsed().as_secs_f64() < 2. && theirs.len() < 2000) {
            theirs.push(time(&|| candle().map(|x| drop(black_box(x))))?);
            mine.push(time(&|| ours().map(|x| drop(black_box(x))))?);
            pytorch.sample(group);
        }
        let (before, start) = (cpu_seconds(), Instant::now());
        while start.elapsed().as_secs_f64() < 0.1 {
            black_box(ours()?);
        }
        let wall = start.elapsed().as_secs_f64();
        let cpu = cpu_seconds()
            .zip(before)
            .map(|(after, before)| after - before);
        let [(candle, one), (ours, other)] = [&mut theirs, &mut mine].map(|all| {
            all.sort_by(f64::total_cmp);
            let median = all[all.len() / 2];
            (
                median,
                (all[all.len() * 3 / 4] - all[all.len() / 4]) / 2. / median,
            )
        });
        println!(
            "{name:<32} {:>8.1} us {:>8.1} us {:>6.2} {:>6.1}% {:>8.0} {:>5.0}% {:>5} {}",
            candle * 1e6,
            ours * 1e6,
            candle / ours,
            100. * one.max(other),
            flops / ours / 1e9,
            100. * flops / ours / 1e9 / self.limit,
            cpu.map_or("?".to_owned(), |cpu| format!("{:.2}", cpu / wall)),
            pytorch.columns(ours),
        );
        Ok(())
    }
}
