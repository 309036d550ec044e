//! Whole models: layers of a small llama and its training step, and the words per second of one in the shape of
//! SmolLM2-135M, which Candle's side computes as candle_transformers does.

use candle_core::{Device, Result, Tensor};
use candle_mps::nn;
use candle_nn::Optimizer;

use super::llama::{Cache, Config, Functions, Llama};
use super::{Call, Kind, Op, Outcome, Side, Work, random};
use crate::results::Pass;

pub const OPS: &[Op] = &[
    Op {
        name: "llama",
        sizes: &["LAYERSxWIDTHxLENGTH"],
        passes: &[Pass::Forward, Pass::Backward, Pass::Step],
        chains: false,
        work: |sizes| small(sizes).work(sizes[2]),
        kind: Kind::Made(llama),
    },
    Op {
        // A prompt is read.
        name: "smollm2_prefill",
        sizes: &["WORDS"],
        passes: &[Pass::Forward],
        chains: false,
        work: |sizes| SMOL.work(sizes[0]),
        kind: Kind::Made(prefill),
    },
    Op {
        // Words are written, one after the other, after a prompt of 128.
        name: "smollm2_decode",
        sizes: &["WORDS"],
        passes: &[Pass::Forward],
        chains: false,
        work: |sizes| {
            let word = SMOL.work(1);
            Work {
                elements: word.elements * sizes[0] as f64,
                flops: word.flops * sizes[0] as f64,
            }
        },
        kind: Kind::Made(decode),
    },
];

/// Words of the prompt before the words that [`decode`] writes.
const PROMPT: usize = 128;

/// Layers of any width, without words: heads of 64, hidden layers four times as wide.
fn small(sizes: &[usize]) -> Config {
    let heads = (sizes[1] / 64).max(1);
    Config {
        layers: sizes[0],
        width: heads * 64,
        heads,
        kv_heads: heads,
        hidden: 4 * heads * 64,
        vocabulary: 0,
    }
}

/// The shape of SmolLM2-135M.
const SMOL: Config = Config {
    layers: 30,
    width: 576,
    heads: 9,
    kv_heads: 3,
    hidden: 1536,
    vocabulary: 49_152,
};

impl Config {
    /// Two operations for each parameter and position, and the scores; each parameter is read once.
    fn work(self, length: usize) -> Work {
        let Self {
            layers,
            width,
            heads,
            kv_heads,
            hidden,
            vocabulary,
        } = self;
        let kv = width / heads * kv_heads;
        let layer = 2 * width * width + 2 * width * kv + 3 * width * hidden;
        let scores = length * width;
        Work {
            elements: (layers * layer + width * vocabulary) as f64,
            flops: 2. * (length * layers * (layer + scores) + width * vocabulary) as f64,
        }
    }
}

fn llama(side: Side, pass: Pass, sizes: &[usize], device: &Device) -> Result<Call> {
    if !sizes[1].is_multiple_of(64) {
        candle_core::bail!("llama: the width must be a multiple of 64, the width of a head")
    }
    let config = small(sizes);
    let x = random(&[1, sizes[2], config.width])?.to_device(device)?;
    let model = Llama::new(config, sizes[2], pass != Pass::Forward, device)?;
    let functions = Functions::of(side, pass);
    if pass == Pass::Forward {
        return Ok(Call::once(move || Ok(model.forward(functions, &x)?.into())));
    }
    let vars = model.vars.clone();
    let loss = move || model.forward(functions, &x)?.sqr()?.mean_all();
    if pass == Pass::Backward {
        let loss = loss()?;
        return Ok(Call::once(move || Ok(Outcome::Grads(loss.backward()?))));
    }
    Ok(match side {
        Side::Ours => {
            let mut adamw = nn::AdamW::new_lr(vars, 1e-4)?;
            Call::once(move || adamw.step(&loss()?.backward()?).map(|()| Outcome::Nothing))
        }
        Side::Candle => {
            let mut adamw = candle_nn::AdamW::new_lr(vars, 1e-4)?;
            Call::once(move || adamw.step(&loss()?.backward()?).map(|()| Outcome::Nothing))
        }
    })
}

fn prompt(length: usize, device: &Device) -> Result<Tensor> {
    let words = (0..length).map(|word| (word * 37 % SMOL.vocabulary) as u32);
    Tensor::from_iter(words, device)
}

fn prefill(side: Side, _: Pass, sizes: &[usize], device: &Device) -> Result<Call> {
    let model = Llama::new(SMOL, sizes[0], false, device)?;
    let (functions, prompt) = (Functions::of_model(side), prompt(sizes[0], device)?);
    Ok(Call::once(move || {
        Ok(model.next(functions, &prompt, &mut Cache::new())?.into())
    }))
}

fn decode(side: Side, _: Pass, sizes: &[usize], device: &Device) -> Result<Call> {
    let words = sizes[0];
    let model = Llama::new(SMOL, PROMPT + words, false, device)?;
    let functions = Functions::of_model(side);
    let device = device.clone();
    let mut read = Cache::new();
    model.next(functions, &prompt(PROMPT, &device)?, &mut read)?;
    Ok(Call::once(move || {
        let mut cache = read.clone();
        let mut next = Tensor::new(&[1u32], &device)?;
        for _ in 0..words {
            next = model.next(functions, &next, &mut cache)?.argmax(1)?;
        }
        Ok(next.into())
    }))
}
