//! Whole models beside Candle's: a training step, and the words per second of a small llama.
//!
//!     cargo bench -p candle-mps --bench models [-- <part of a row's name>...]
//!     cargo bench -p candle-mps --bench models --features gemm-x86-v4
//!     cargo bench -p candle-mps --bench models -- --memory
//!
//! Candle trains through its ops that have a backward and infers through its fused ones, as its users
//! must. `--memory` measures something else: the peak memory of a step, each side in a process of its
//! own. The rest is as in `products`.

mod harness;
mod llama;

use candle_core::{Device, Result, Tensor, Var};
use candle_mps::nn;
use candle_nn::Optimizer;

use harness::{Bench, Work, random};
use llama::{Config, Llama, Side};

/// 4 layers of 512: 16.8 million parameters.
const SMALL: Config = Config {
    layers: 4,
    width: 512,
    heads: 8,
    kv_heads: 8,
    hidden: 2048,
    vocabulary: 0,
};

/// The shape of SmolLM2-135M.
const SMOL: Config = Config {
    layers: 30,
    width: 576,
    heads: 9,
    kv_heads: 3,
    hidden: 1536,
    vocabulary: 49_152,
};

/// Tells the process that measures memory which side it is.
const MEMORY_OF: &str = "CANDLE_MPS_BENCH_MEMORY_OF";

fn main() {
    if let Ok(side) = std::env::var(MEMORY_OF) {
        return peak(&side);
    }
    if std::env::args().any(|argument| argument == "--memory") {
        return memory();
    }
    harness::main(|bench| {
        training(bench, 256)?;
        words(bench)
    });
}

/// Two operations for each parameter and position forward, and the scores.
fn flops(config: Config, length: usize) -> f64 {
    let Config {
        layers,
        width,
        heads,
        kv_heads,
        hidden,
        vocabulary,
    } = config;
    let kv = width / heads * kv_heads;
    let layer = 2 * width * width + 2 * width * kv + 3 * width * hidden + length * width;
    2. * (length * layers * layer + width * vocabulary) as f64
}

fn training(bench: &Bench, length: usize) -> Result<()> {
    let x = random(&[1, length, SMALL.width])?;
    let frozen = Llama::new(SMALL, length, false)?;
    let forward = flops(SMALL, length);
    bench.row(
        "llama 4x512x256 forward",
        Work::Flops(forward),
        || frozen.forward(Side::CandleFused, &x),
        || frozen.forward(Side::Ours, &x),
    )?;
    let (theirs, ours) = (
        Llama::new(SMALL, length, true)?,
        Llama::new(SMALL, length, true)?,
    );
    let loss = |model: &Llama, side| model.forward(side, &x)?.sqr()?.mean_all();
    bench.row(
        "llama 4x512x256 forward, to train",
        Work::Flops(forward),
        || loss(&theirs, Side::CandleTrained),
        || loss(&ours, Side::Ours),
    )?;
    let graphs = (
        loss(&theirs, Side::CandleTrained)?,
        loss(&ours, Side::Ours)?,
    );
    bench.row(
        "llama 4x512x256 backward",
        Work::Flops(2. * forward),
        || graphs.0.backward(),
        || graphs.1.backward(),
    )?;
    let (theirs_left, ours_left) = (&theirs, &ours);
    let mut candle = candle_nn::AdamW::new_lr(theirs.vars.clone(), 1e-4)?;
    let mut adamw = nn::AdamW::new_lr(ours.vars.clone(), 1e-4)?;
    let grads = (graphs.0.backward()?, graphs.1.backward()?);
    bench.row(
        "llama 4x512x256 AdamW",
        Work::Bytes(28 * ours.parameters()),
        || candle.step(&grads.0),
        || adamw.step(&grads.1),
    )?;
    bench.row(
        "llama 4x512x256 step",
        Work::Flops(3. * forward),
        || candle.step(&loss(theirs_left, Side::CandleTrained)?.backward()?),
        || adamw.step(&loss(ours_left, Side::Ours)?.backward()?),
    )
}

/// A prompt of 128 words, and 16 words after it.
fn words(bench: &Bench) -> Result<()> {
    const PROMPT: usize = 128;
    const MORE: usize = 16;
    let (prefill, decode) = ("SmolLM2-135M prefill 128", "SmolLM2-135M decode 16");
    if !bench.wants(prefill) && !bench.wants(decode) {
        return Ok(());
    }
    let model = Llama::new(SMOL, PROMPT + MORE, false)?;
    let prompt = Tensor::from_iter(
        (0..PROMPT as u32).map(|word| word * 37 % 49_152),
        &Device::Cpu,
    )?;
    bench.row(
        prefill,
        Work::Flops(flops(SMOL, PROMPT)),
        || model.next(Side::CandleFused, &prompt, &mut Vec::new()),
        || model.next(Side::Ours, &prompt, &mut Vec::new()),
    )?;
    let read = |side| {
        let mut cache = Vec::new();
        model.next(side, &prompt, &mut cache)?;
        Ok::<_, candle_core::Error>(cache)
    };
    let (theirs, ours) = (read(Side::CandleFused)?, read(Side::Ours)?);
    let write = |side, cache: &llama::Cache| {
        let mut cache = cache.clone();
        let mut word = 1;
        for _ in 0..MORE {
            let words = Tensor::new(&[word], &Device::Cpu)?;
            let logits = model.next(side, &words, &mut cache)?;
            word = logits.argmax(1)?.to_vec1::<u32>()?[0];
        }
        Ok(word)
    };
    bench.row(
        decode,
        Work::Flops(MORE as f64 * flops(SMOL, 1)),
        || write(Side::CandleFused, &theirs),
        || write(Side::Ours, &ours),
    )
}

/// Peak memory of one training step at a length of 1024, each side in its own process.
fn memory() {
    let program = std::env::current_exe().expect("a path");
    let of = |side: &str| {
        let output = std::process::Command::new(&program)
            .env(MEMORY_OF, side)
            .output()
            .expect("this program starts");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        text.trim().parse::<f64>().unwrap_or(f64::NAN)
    };
    let (candle, ours) = (of("candle"), of("ours"));
    println!(
        "peak memory of a training step, llama 4x512 at length 1024: Candle {candle:.0} MiB, ours \
         {ours:.0} MiB: {:.2}",
        ours / candle
    );
}

/// Takes a step and prints the peak memory of this process in MiB, as Linux counts it.
fn peak(side: &str) {
    let step = || -> Result<()> {
        let x = random(&[1, 1024, SMALL.width])?;
        let model = Llama::new(SMALL, 1024, true)?;
        let vars: Vec<Var> = model.vars.clone();
        if side == "ours" {
            let loss = model.forward(Side::Ours, &x)?.sqr()?.mean_all()?;
            nn::AdamW::new_lr(vars, 1e-4)?.step(&loss.backward()?)
        } else {
            let loss = model.forward(Side::CandleTrained, &x)?.sqr()?.mean_all()?;
            candle_nn::AdamW::new_lr(vars, 1e-4)?.step(&loss.backward()?)
        }
    };
    step().expect("a step");
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = peak.and_then(|rest| rest.trim().strip_suffix(" kB")?.trim().parse::<f64>().ok());
    println!("{}", kib.unwrap_or(f64::NAN) / 1024.);
}
