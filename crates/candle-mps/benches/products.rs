//! Matmul, LoRA and attention beside Candle's, forward and backward.
//!
//!     cargo bench -p candle-mps --bench products [-- <part of a row's name>...]
//!     cargo bench -p candle-mps --bench products --features gemm-x86-v4
//!
//! Without the feature, Candle's matmul is as it comes; with it, it has AVX-512: two binaries, because
//! cargo unifies features. `--as-installed` leaves Candle's threads as they come. PyTorch joins in when
//! `CANDLE_MPS_PYTORCH` names a Python that has it. How rows are measured: `harness`.

mod harness;

use candle_core::{DType, Device, Result, Tensor, Var};
use candle_mps::ops::{self, AttentionOptions};

use harness::{Bench, Work, random};

fn main() {
    harness::main(|bench| {
        for width in [512, 1024, 2048] {
            adapter(bench, 1, width, 8)?;
        }
        for (rows, width, rank) in [(1, 512, 8), (1, 1024, 8), (1, 2048, 8), (128, 2048, 16)] {
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
            let name = format!("matmul {rows}x2048x2048");
            product(bench, &name, &[rows, 2048], &[2048, 2048])?;
        }
        product(bench, "matmul 32x64x64x64", &[32, 64, 64], &[32, 64, 64])?;
        linear(bench)?;
        for size in [1024, 2048] {
            narrow(bench, size)?;
        }
        heads(bench, false)?;
        heads(bench, true)?;
        backward(bench)
    });
}

fn product(bench: &Bench, name: &str, a: &[usize], b: &[usize]) -> Result<()> {
    let flops = 2. * (a.iter().product::<usize>() * b[b.len() - 1]) as f64;
    let (a, b) = (random(a)?, random(b)?);
    let work = Work::Flops(flops);
    bench.row(name, work, || a.matmul(&b), || Ok(ops::matmul(&a, &b)?))
}

/// What candle_nn's Linear does: the weight is [out, in].
fn linear(bench: &Bench) -> Result<()> {
    for rows in [1, 16, 128] {
        let (x, w) = (random(&[rows, 2048])?, random(&[2048, 2048])?);
        bench.row(
            &format!("linear {rows}x2048x2048"),
            Work::Flops(2. * (rows * 2048 * 2048) as f64),
            || x.matmul(&w.t()?),
            || Ok(ops::linear(&x, &w, None)?),
        )?;
    }
    Ok(())
}

/// s·(x·A)·B.
fn adapter(bench: &Bench, rows: usize, width: usize, rank: usize) -> Result<()> {
    let x = random(&[rows, width])?;
    let (a, b) = (random(&[width, rank])?, random(&[rank, width])?);
    bench.row(
        &format!("LoRA delta {rows}x{width} r{rank}"),
        Work::Flops(4. * (rows * width * rank) as f64),
        || x.matmul(&a)?.matmul(&b)? * 2.,
        || Ok(ops::lora_delta(&x, &a, &b, 2.)?),
    )
}

/// x·W + s·(x·A)·B, with W in both orders: as [in, out] it is multiplied as it lies, and as [out, in] it
/// is the weight of a candle_nn Linear.
fn layer(bench: &Bench, rows: usize, width: usize, rank: usize) -> Result<()> {
    let x = random(&[rows, width])?;
    let (a, b) = (random(&[width, rank])?, random(&[rank, width])?);
    let w = random(&[width, width])?;
    let work = Work::Flops(2. * (rows * width * (width + 2 * rank)) as f64);
    let name = format!("LoRA full {rows}x{width} r{rank}");
    let delta = || x.matmul(&a)?.matmul(&b)? * 2.;
    bench.row(
        &name,
        work,
        || x.matmul(&w)? + delta()?,
        || Ok(ops::lora(&x, &w.t()?, None, &a, &b, 2.)?),
    )?;
    bench.row(
        &format!("{name}, W [out, in]"),
        work,
        || x.matmul(&w.t()?)? + delta()?,
        || Ok(ops::lora(&x, &w, None, &a, &b, 2.)?),
    )
}

/// Candle has no bf16 product: its column is our own f32.
fn narrow(bench: &Bench, size: usize) -> Result<()> {
    let work = Work::Flops(2. * (size * size * size) as f64);
    let (a, b) = (random(&[size, size])?, random(&[size, size])?);
    let (x, y) = (a.to_dtype(DType::BF16)?, b.to_dtype(DType::BF16)?);
    bench.row(
        &format!("bf16 matmul {size} / our f32"),
        work,
        || Ok(ops::matmul(&a, &b)?),
        || Ok(ops::matmul(&x, &y)?),
    )?;
    let (x, y) = (a.to_dtype(DType::F16)?, b.to_dtype(DType::F16)?);
    bench.row(
        &format!("f16 matmul {size}"),
        work,
        || x.matmul(&y),
        || Ok(ops::matmul(&x, &y)?),
    )
}

const HEADS: usize = 8;
const LENGTH: usize = 512;
const SIZE: usize = 64;

/// Queries, keys and values, and Candle's mask of what is later.
struct Heads {
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Tensor,
}

impl Heads {
    /// With `train`, all three are variables.
    fn new(train: bool) -> Result<Self> {
        let operand = || -> Result<Tensor> {
            let operand = random(&[1, HEADS, LENGTH, SIZE])?;
            Ok(match train {
                true => Var::from_tensor(&operand)?.into_inner(),
                false => operand,
            })
        };
        let hidden = (0..LENGTH * LENGTH).map(|at| match at % LENGTH > at / LENGTH {
            true => f32::NEG_INFINITY,
            false => 0.,
        });
        Ok(Self {
            q: operand()?,
            k: operand()?,
            v: operand()?,
            mask: Tensor::from_iter(hidden, &Device::Cpu)?.reshape((1, 1, LENGTH, LENGTH))?,
        })
    }

    fn candle(&self, causal: bool, fused: bool) -> Result<Tensor> {
        let mut scores = (self.q.matmul(&self.k.t()?)? / (SIZE as f64).sqrt())?;
        if causal {
            scores = scores.broadcast_add(&self.mask)?;
        }
        let weights = match fused {
            true => candle_nn::ops::softmax_last_dim(&scores)?,
            false => candle_nn::ops::softmax(&scores, 3)?,
        };
        weights.matmul(&self.v)
    }

    fn ours(&self, causal: bool) -> Result<Tensor> {
        let options = AttentionOptions {
            causal,
            ..AttentionOptions::default()
        };
        Ok(ops::attention(&self.q, &self.k, &self.v, None, &options)?)
    }
}

/// Forward of what wants no gradient.
fn heads(bench: &Bench, causal: bool) -> Result<()> {
    let name = match causal {
        true => "attention 1x8x512x64 causal",
        false => "attention 1x8x512x64",
    };
    let seen = if causal { 0.5 } else { 1. };
    let work = Work::Flops(4. * seen * (HEADS * LENGTH * LENGTH * SIZE) as f64);
    let heads = Heads::new(false)?;
    bench.row(
        name,
        work,
        || heads.candle(causal, true),
        || heads.ours(causal),
    )
}

/// Backward of the op alone, from ones, the graph standing.
fn backward(bench: &Bench) -> Result<()> {
    let row = |name: &str, flops: usize, candle: Tensor, ours: Tensor| {
        let work = Work::Flops(flops as f64);
        bench.row(name, work, || candle.backward(), || ours.backward())
    };
    let var = |dims: &[usize]| Var::from_tensor(&random(dims)?);
    for size in [128, 512, 1024] {
        let (a, b) = (var(&[size, size])?, var(&[size, size])?);
        let (candle, ours) = (a.matmul(&b)?, ops::matmul(&a, &b)?);
        row(
            &format!("matmul backward {size}"),
            4 * size * size * size,
            candle,
            ours,
        )?;
    }
    let (rows, width, rank) = (128, 1024, 16);
    let (x, w) = (var(&[rows, width])?, random(&[width, width])?);
    let (a, b) = (var(&[width, rank])?, var(&[rank, width])?);
    row(
        "LoRA full backward 128x1024 r16",
        2 * rows * width * (width + 6 * rank),
        (x.matmul(&w.t()?)? + (x.matmul(&a)?.matmul(&b)? * 2.)?)?,
        ops::lora(&x, &w, None, &a, &b, 2.)?,
    )?;
    for causal in [false, true] {
        let heads = Heads::new(true)?;
        let seen = if causal { 2 } else { 1 };
        row(
            match causal {
                true => "attention backward 1x8x512x64 causal",
                false => "attention backward 1x8x512x64",
            },
            10 * HEADS * LENGTH * LENGTH * SIZE / seen,
            heads.candle(causal, false)?,
            heads.ours(causal)?,
        )?;
    }
    Ok(())
}
