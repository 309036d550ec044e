//! The row ops beside Candle's own, each called as a Candle user calls it: tensor in, tensor out.
//!
//!     cargo bench -p candle-mps-cpu --bench rows [-- <part of a row's name>...]
//!
//! Both sides of a row take turns in one process, a call finishes inside the timed region, and the
//! ratio is that of the medians. Candle runs configured: unless `RAYON_NUM_THREADS` is set, this starts
//! itself again with it set to the number of cores (with `--as-installed`: not). `--threads` measures
//! something else: from which size on two threads beat one, which is where the ops' constants come from. GB/s counts what an op
//! must read and write once; the copy beside it moves as many bytes to fresh memory, which is what an
//! op that only moved data could reach. CPU is the CPU time of our side in units of its wall time.

use std::{
    hint::black_box,
    sync::Mutex,
    time::{Duration, Instant},
};

use candle_core::{
    CpuStorage, CustomOp1, CustomOp2, CustomOp3, Device, InplaceOp2, Layout as CandleLayout,
    Result, Shape, Tensor, Var,
};
use candle_mps_cpu::{
    Layout, adamw, cross_entropy, layer_norm, memory, rms_norm, rope, simd, softmax, swiglu,
    threads,
};
use candle_nn::Optimizer;

fn main() {
    let arguments: Vec<String> = std::env::args()
        .skip(1)
        .filter(|a| a != "--bench")
        .collect();
    let installed = arguments
        .iter()
        .any(|argument| argument == "--as-installed");
    let threads_only = arguments.iter().any(|argument| argument == "--threads");
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
    let only: Vec<String> = arguments
        .into_iter()
        .filter(|a| !a.starts_with("--"))
        .collect();
    let result = if threads_only {
        break_even()
    } else {
        all(&Bench { only })
    };
    if let Err(error) = result {
        eprintln!("{error}");
        std::process::exit(1);
    }
}

fn all(bench: &Bench) -> Result<()> {
    let isa = simd::isa().map_err(candle_core::Error::wrap)?.name();
    let peer = if std::env::var_os("RAYON_NUM_THREADS").is_some() {
        "configured"
    } else {
        "installed"
    };
    println!(
        "candle 0.11.1 ({peer}), ours on {isa} with {} threads, f32",
        threads::count()
    );
    println!(
        "{:<34} {:>11} {:>11} {:>6} {:>7} {:>7} {:>7} {:>5}",
        "", "candle", "ours", "ratio", "spread", "GB/s", "copy", "CPU"
    );
    for (rows, width) in [(1, 1024), (128, 1024), (4096, 4096)] {
        let name = |op: &str| format!("{op} {rows}x{width}");
        let (x, w, b) = (
            random(&[rows, width])?,
            random(&[width])?,
            random(&[width])?,
        );
        let bytes = 8 * rows * width;
        bench.row(
            &name("softmax"),
            bytes,
            || candle_nn::ops::softmax_last_dim(&x),
            || x.apply_op1_no_bwd(&Softmax),
        )?;
        bench.row(
            &name("RMS norm"),
            bytes,
            || candle_nn::ops::rms_norm(&x, &w, 1e-5),
            || x.apply_op2_no_bwd(&w, &RmsNorm),
        )?;
        bench.row(
            &name("layer norm"),
            bytes,
            || candle_nn::ops::layer_norm(&x, &w, &b, 1e-5),
            || x.apply_op3_no_bwd(&w, &b, &LayerNorm),
        )?;
    }
    let x = random(&[128, 1024])?;
    let both = random(&[128, 2048])?;
    bench.row(
        "swiglu 128x1024",
        12 * 128 * 1024,
        || candle_nn::ops::swiglu(&both),
        || both.apply_op1_no_bwd(&Swiglu),
    )?;
    let targets = Tensor::from_iter((0..128u32).map(|i| i * 7), &Device::Cpu)?;
    bench.row(
        "cross-entropy 128x1024",
        4 * 128 * 1024,
        || candle_nn::loss::cross_entropy(&x, &targets),
        || x.apply_op2_no_bwd(&targets, &CrossEntropy::default()),
    )?;
    gradients(bench)?;
    optimizer(bench, 4096)?;
    optimizer(bench, 128)
}

/// Backward of the op alone, from ones, the graph standing.
fn gradients(bench: &Bench) -> Result<()> {
    let x = Var::from_tensor(&random(&[128, 1024])?)?;
    let (w, b) = (
        Var::from_tensor(&random(&[1024])?)?,
        Var::from_tensor(&random(&[1024])?)?,
    );
    let bytes = 12 * 128 * 1024;
    let row = |name: &str, candle: Tensor, ours: Tensor| {
        bench.row(name, bytes, || candle.backward(), || ours.backward())
    };
    row(
        "softmax backward 128x1024",
        candle_nn::ops::softmax(&x, 1)?,
        x.apply_op1(Softmax)?,
    )?;
    row(
        "RMS norm backward 128x1024",
        candle_nn::ops::rms_norm_slow(&x, &w, 1e-5)?,
        x.apply_op2(&w, RmsNorm)?,
    )?;
    row(
        "layer norm backward 128x1024",
        candle_nn::ops::layer_norm_slow(&x, &w, &b, 1e-5)?,
        x.apply_op3(&w, &b, LayerNorm)?,
    )?;
    let targets = Tensor::from_iter((0..128u32).map(|i| i * 7), &Device::Cpu)?;
    row(
        "cross-entropy backward 128x1024",
        candle_nn::loss::cross_entropy(&x, &targets)?,
        x.apply_op2(&targets, CrossEntropy::default())?,
    )?;
    let both = Var::from_tensor(&random(&[128, 2048])?)?;
    row(
        "swiglu backward 128x1024",
        candle_nn::ops::swiglu(&both)?,
        both.apply_op1(Swiglu)?,
    )
}

/// One step of AdamW on a square matrix.
fn optimizer(bench: &Bench, width: usize) -> Result<()> {
    let parameters = [(); 2].map(|()| Var::from_tensor(&random(&[width, width])?));
    let [theirs, ours] = parameters;
    let (theirs, ours) = (theirs?, ours?);
    let g = random(&[width, width])?;
    let grads = (&*theirs * &g)?.sum_all()?.backward()?;
    let mut candle = candle_nn::AdamW::new_lr(vec![theirs], 1e-3)?;
    let count = width * width;
    let step = AdamWStep(Mutex::new((vec![0.; count], vec![0.; count], 0)));
    // Four read, three written.
    bench.row(
        &format!("AdamW {width}x{width}"),
        28 * count,
        || candle.step(&grads),
        || ours.inplace_op2(&g, &step),
    )
}

/// One thread against two, for rows of 1024. Lower quartiles: what else runs on the machine delays two
/// threads more often than one.
fn break_even() -> Result<()> {
    println!(
        "{:<14} {:>9} {:>10} {:>10} {:>6}",
        "", "elements", "1 thread", "2 threads", "ratio"
    );
    let all = random(&[512, 1024])?.flatten_all()?.to_vec1::<f32>()?;
    let mut state = [(); 3].map(|()| all.iter().map(|x| x.abs()).collect::<Vec<f32>>());
    for rows in [16, 32, 48, 64, 96, 128, 192, 256, 512] {
        let dims = [rows, 1024];
        let layout = Layout::contiguous(&dims).map_err(candle_core::Error::wrap)?;
        let x = &all[..layout.count()];
        let w = &all[..1024];
        let mut out = vec![0f32; x.len()];
        let mut out_2 = out.clone();
        let options = softmax::Options::default();
        two("softmax", x.len(), || {
            softmax::softmax(x, &layout, 1, &options, &mut out)
        })?;
        two("RMS norm", x.len(), || {
            rms_norm::rms_norm(x, &layout, Some(w), 1e-5, &mut out)
        })?;
        two("layer norm", x.len(), || {
            layer_norm::layer_norm(x, &layout, Some(w), Some(w), 1e-5, &mut out)
        })?;
        two("rope", x.len(), || {
            let half = [rows, 512];
            let angles = Layout::new(&half, &[0, 1], 0)?;
            let angles = (w, &angles);
            rope::rope((x, &layout), angles, angles, rope::Pairs::Halves, &mut out)
        })?;
        two("swiglu", x.len(), || {
            swiglu::swiglu((x, &layout), (x, &layout), &mut out)
        })?;
        let targets = vec![5u32; rows];
        two("cross-entropy", x.len(), || {
            cross_entropy::cross_entropy(x, &layout, &targets, None).map(drop)
        })?;
        two("RMS norm bwd", x.len(), || {
            let out = rms_norm::RmsNormGrads {
                x: &mut out,
                weight: Some(&mut out_2[..1024]),
            };
            rms_norm::rms_norm_backward((x, &layout), Some(w), (x, &layout), 1e-5, out)
        })?;
        two("AdamW", x.len(), || {
            let [parameter, first, second] = state.each_mut().map(|all| &mut all[..x.len()]);
            let state = adamw::Moments {
                parameter,
                first,
                second,
            };
            adamw::adamw(state, (x, &layout), 3, &adamw::AdamW::default())
        })?;
    }
    Ok(())
}

fn two(
    name: &str,
    elements: usize,
    mut op: impl FnMut() -> candle_mps_cpu::Result<()>,
) -> Result<()> {
    let mut samples = [Vec::new(), Vec::new()];
    for _ in 0..400 {
        for (threads, samples) in samples.iter_mut().enumerate() {
            let start = Instant::now();
            threads::with_count(threads + 1, || (0..4).try_for_each(|_| op()))
                .map_err(candle_core::Error::wrap)?;
            samples.push(start.elapsed().as_secs_f64() / 4e-6);
        }
    }
    let [one, both] = samples.map(|mut samples| {
        samples.sort_by(f64::total_cmp);
        samples[samples.len() / 4]
    });
    println!(
        "{name:<14} {elements:>9} {one:>7.1} us {both:>7.1} us {:>6.2}",
        one / both
    );
    Ok(())
}

// How the ops become Candle's: as short as it goes. What needs care is the ops crate's business.

fn dims_of<'a>(layout: &'a CandleLayout) -> Result<Layout<'a>> {
    Layout::new(layout.dims(), layout.stride(), layout.start_offset())
        .map_err(candle_core::Error::wrap)
}

/// A result in fresh memory.
fn filled(
    layout: &CandleLayout,
    f: impl FnOnce(&mut [f32]) -> candle_mps_cpu::Result<()>,
) -> Result<(CpuStorage, Shape)> {
    let mut out = memory::vector(layout.shape().elem_count());
    f(&mut out).map_err(candle_core::Error::wrap)?;
    Ok((CpuStorage::F32(out), layout.shape().clone()))
}

/// The elements of a tensor that lies in row-major order.
fn vector<'a>(storage: &'a CpuStorage, layout: &CandleLayout) -> Result<&'a [f32]> {
    let (from, to) = layout.contiguous_offsets().expect("contiguous");
    Ok(&storage.as_slice::<f32>()?[from..to])
}

/// Runs `f` on the elements of CPU tensors.
macro_rules! with_slices {
    ($($tensor:ident => $slice:ident, $layout:ident);+; $body:block) => {{
        $(
            let (storage, layout) = $tensor.storage_and_layout();
            let $slice = match &*storage {
                candle_core::Storage::Cpu(storage) => storage.as_slice::<f32>()?,
                _ => candle_core::bail!("not on the CPU"),
            };
            let $layout = dims_of(layout)?;
        )+
        $body
    }};
}

fn tensor(data: Vec<f32>, like: &Tensor) -> Result<Tensor> {
    Tensor::from_vec(data, like.shape(), &Device::Cpu)
}

struct Softmax;

impl CustomOp1 for Softmax {
    fn name(&self) -> &'static str {
        "softmax"
    }
    fn cpu_fwd(&self, x: &CpuStorage, layout: &CandleLayout) -> Result<(CpuStorage, Shape)> {
        let (x, its) = (x.as_slice::<f32>()?, dims_of(layout)?);
        filled(layout, |out| {
            softmax::softmax(x, &its, 1, &softmax::Options::default(), out)
        })
    }
    fn bwd(&self, _: &Tensor, y: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let mut out = memory::vector(y.elem_count());
        with_slices!(y => data, layout; grad => gradient, its; {
            softmax::softmax_backward((data, &layout), (gradient, &its), 1, 1., &mut out)
                .map_err(candle_core::Error::wrap)?;
        });
        Ok(Some(tensor(out, y)?))
    }
}

struct RmsNorm;

impl CustomOp2 for RmsNorm {
    fn name(&self) -> &'static str {
        "rms-norm"
    }
    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        layout: &CandleLayout,
        w: &CpuStorage,
        its: &CandleLayout,
    ) -> Result<(CpuStorage, Shape)> {
        let (x, shape, w) = (x.as_slice::<f32>()?, dims_of(layout)?, vector(w, its)?);
        filled(layout, |out| {
            rms_norm::rms_norm(x, &shape, Some(w), 1e-5, out)
        })
    }
    fn bwd(
        &self,
        x: &Tensor,
        w: &Tensor,
        _: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let (mut dx, mut dw) = (
            memory::vector(x.elem_count()),
            memory::vector(w.elem_count()),
        );
        with_slices!(x => data, layout; w => weight, _its; grad => gradient, g; {
            let out = rms_norm::RmsNormGrads { x: &mut dx, weight: Some(&mut dw) };
            rms_norm::rms_norm_backward((data, &layout), Some(weight), (gradient, &g), 1e-5, out)
                .map_err(candle_core::Error::wrap)?;
        });
        Ok((Some(tensor(dx, x)?), Some(tensor(dw, w)?)))
    }
}

struct LayerNorm;

impl CustomOp3 for LayerNorm {
    fn name(&self) -> &'static str {
        "layer-norm"
    }
    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        layout: &CandleLayout,
        w: &CpuStorage,
        ws: &CandleLayout,
        b: &CpuStorage,
        bs: &CandleLayout,
    ) -> Result<(CpuStorage, Shape)> {
        let (x, shape) = (x.as_slice::<f32>()?, dims_of(layout)?);
        let (w, b) = (vector(w, ws)?, vector(b, bs)?);
        filled(layout, |out| {
            layer_norm::layer_norm(x, &shape, Some(w), Some(b), 1e-5, out)
        })
    }
    fn bwd(
        &self,
        x: &Tensor,
        w: &Tensor,
        b: &Tensor,
        _: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let (mut dx, mut dw) = (
            memory::vector(x.elem_count()),
            memory::vector(w.elem_count()),
        );
        let mut db = memory::vector(b.elem_count());
        with_slices!(x => data, layout; w => weight, _its; grad => gradient, g; {
            let out =
                layer_norm::LayerNormGrads { x: &mut dx, weight: Some(&mut dw), bias: Some(&mut db) };
            layer_norm::layer_norm_backward((data, &layout), Some(weight), (gradient, &g), 1e-5, out)
                .map_err(candle_core::Error::wrap)?;
        });
        Ok((
            Some(tensor(dx, x)?),
            Some(tensor(dw, w)?),
            Some(tensor(db, b)?),
        ))
    }
}

/// Gate and up in one tensor, as Candle's takes them.
struct Swiglu;

impl CustomOp1 for Swiglu {
    fn name(&self) -> &'static str {
        "swiglu"
    }
    fn cpu_fwd(&self, x: &CpuStorage, layout: &CandleLayout) -> Result<(CpuStorage, Shape)> {
        let (rows, half) = (layout.dims()[0], layout.dims()[1] / 2);
        let x = vector(x, layout)?;
        let (dims, strides) = ([rows, half], [2 * half, 1]);
        let mut out = memory::vector(rows * half);
        let done = Layout::new(&dims, &strides, 0).and_then(|gate| {
            let up = Layout::new(&dims, &strides, half)?;
            swiglu::swiglu((x, &gate), (x, &up), &mut out)
        });
        done.map_err(candle_core::Error::wrap)?;
        Ok((CpuStorage::F32(out), Shape::from_dims(&dims)))
    }
    fn bwd(&self, x: &Tensor, _: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let dims = grad.dims();
        let (mut gate, mut up) = (
            memory::vector(grad.elem_count()),
            memory::vector(grad.elem_count()),
        );
        let strides = [2 * dims[1], 1];
        with_slices!(x => data, _layout; grad => gradient, its; {
            let done = Layout::new(dims, &strides, 0).and_then(|first| {
                let second = Layout::new(dims, &strides, dims[1])?;
                let out = (&mut gate[..], &mut up[..]);
                swiglu::swiglu_backward((data, &first), (data, &second), (gradient, &its), out)
            });
            done.map_err(candle_core::Error::wrap)?;
        });
        Ok(Some(Tensor::cat(
            &[tensor(gate, grad)?, tensor(up, grad)?],
            1,
        )?))
    }
}

#[derive(Default)]
struct CrossEntropy(Mutex<Option<cross_entropy::CrossEntropy<f32>>>);

impl CustomOp2 for CrossEntropy {
    fn name(&self) -> &'static str {
        "cross-entropy"
    }
    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        layout: &CandleLayout,
        targets: &CpuStorage,
        _: &CandleLayout,
    ) -> Result<(CpuStorage, Shape)> {
        let (x, shape) = (x.as_slice::<f32>()?, dims_of(layout)?);
        let forward = cross_entropy::cross_entropy(x, &shape, targets.as_slice::<u32>()?, None)
            .map_err(candle_core::Error::wrap)?;
        let loss = forward.loss;
        *self.0.lock().expect("not poisoned") = Some(forward);
        Ok((CpuStorage::F32(vec![loss]), Shape::from_dims(&[])))
    }
    fn bwd(
        &self,
        x: &Tensor,
        targets: &Tensor,
        _: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let (grad, targets) = (
            f64::from(grad.to_scalar::<f32>()?),
            targets.to_vec1::<u32>()?,
        );
        let forward = self.0.lock().expect("not poisoned");
        let forward = forward.as_ref().expect("forward ran");
        let mut out = memory::vector(x.elem_count());
        with_slices!(x => data, layout; {
            let x = (data, &layout);
            cross_entropy::cross_entropy_backward(x, &targets, None, forward, grad, &mut out)
                .map_err(candle_core::Error::wrap)?;
        });
        Ok((Some(tensor(out, x)?), None))
    }
}

/// Both moments and the number of steps.
struct AdamWStep(Mutex<(Vec<f32>, Vec<f32>, usize)>);

impl InplaceOp2 for AdamWStep {
    fn name(&self) -> &'static str {
        "adamw"
    }
    fn cpu_fwd(
        &self,
        parameter: &mut CpuStorage,
        _: &CandleLayout,
        grad: &CpuStorage,
        layout: &CandleLayout,
    ) -> Result<()> {
        let CpuStorage::F32(parameter) = parameter else {
            candle_core::bail!("not f32")
        };
        let (grad, its) = (grad.as_slice::<f32>()?, dims_of(layout)?);
        let mut state = self.0.lock().expect("not poisoned");
        let (first, second, t) = &mut *state;
        *t += 1;
        let state = adamw::Moments {
            parameter,
            first,
            second,
        };
        adamw::adamw(state, (grad, &its), *t, &adamw::AdamW::default())
            .map_err(candle_core::Error::wrap)
    }
}

// The harness.

struct Bench {
    only: Vec<String>,
}

impl Bench {
    /// Measures both sides in turn and prints a line.
    fn row<A, B>(
        &self,
        name: &str,
        bytes: usize,
        mut candle: impl FnMut() -> Result<A>,
        mut ours: impl FnMut() -> Result<B>,
    ) -> Result<()> {
        if !self.only.is_empty() && !self.only.iter().any(|part| name.contains(part)) {
            return Ok(());
        }
        let from: Vec<f32> = vec![1.; bytes / 8];
        let mut copy = || {
            let mut to = memory::vector::<f32>(from.len());
            threads::rows(
                &mut to,
                1,
                threads::parts(bytes / 8, 64 << 10),
                |range, to| {
                    to.copy_from_slice(&from[range]);
                },
            );
            Ok(to)
        };
        let rounds = [calls(&mut candle)?, calls(&mut ours)?, calls(&mut copy)?];
        let [mut a, mut b, mut c] = [Vec::new(), Vec::new(), Vec::new()];
        let started = Instant::now();
        while a.len() < 15 || (a.len() < 201 && started.elapsed() < Duration::from_secs(3)) {
            a.push(time(rounds[0], &mut candle)?);
            b.push(time(rounds[1], &mut ours)?);
            c.push(time(rounds[2], &mut copy)?);
        }
        // The system books CPU time in steps of milliseconds, so not between the turns.
        let (before, start) = (cpu_seconds(), Instant::now());
        while start.elapsed() < Duration::from_millis(100) {
            black_box(ours()?);
        }
        let (cpu, wall) = (cpu_seconds() - before, start.elapsed().as_secs_f64());
        let [(a, _), (b, spread), (c, _)] = [a, b, c].map(median);
        println!(
            "{name:<34} {:>8.1} us {:>8.1} us {:>6.2} {:>6.0}% {:>7.1} {:>7.1} {:>5.2}",
            a * 1e6,
            b * 1e6,
            a / b,
            spread * 100.,
            bytes as f64 / b / 1e9,
            bytes as f64 / c / 1e9,
            cpu / wall,
        );
        Ok(())
    }
}

/// How many calls make a sample of about 2 ms; warms up.
fn calls<R>(f: &mut impl FnMut() -> Result<R>) -> Result<usize> {
    let start = Instant::now();
    let mut done = 0;
    while done < 3 || (start.elapsed() < Duration::from_millis(20) && done < 5000) {
        black_box(f()?);
        done += 1;
    }
    let each = start.elapsed().as_secs_f64() / done as f64;
    Ok(((2e-3 / each) as usize).max(1))
}

fn time<R>(calls: usize, f: &mut impl FnMut() -> Result<R>) -> Result<f64> {
    let start = Instant::now();
    for _ in 0..calls {
        black_box(f()?);
    }
    Ok(start.elapsed().as_secs_f64() / calls as f64)
}

/// The median, and the distance between the quartiles relative to it.
fn median(mut samples: Vec<f64>) -> (f64, f64) {
    samples.sort_by(f64::total_cmp);
    let at = |quarter: usize| samples[(samples.len() - 1) * quarter / 4];
    (at(2), (at(3) - at(1)) / at(2))
}

/// The CPU time of all threads of this process; 0 where the system does not tell.
fn cpu_seconds() -> f64 {
    let Ok(tasks) = std::fs::read_dir("/proc/self/task") else {
        return 0.;
    };
    let nanoseconds = |task: std::io::Result<std::fs::DirEntry>| -> Option<f64> {
        let text = std::fs::read_to_string(task.ok()?.path().join("schedstat")).ok()?;
        text.split(' ').next()?.parse().ok()
    };
    tasks.filter_map(nanoseconds).sum::<f64>() / 1e9
}

fn random(dims: &[usize]) -> Result<Tensor> {
    Tensor::randn(0f32, 1., dims, &Device::Cpu)
}
