//! A small transformer that learns to repeat what it saw, once through candle_nn's fused ops and once
//! through ours.
//!
//!     cargo run --release -p candle-mps --example train_through_fused_ops
//!
//! Both models are the same code with another set of functions. candle_nn's drop the gradient of
//! everything behind them, so its embedding, attention and norms stay as they were made.

use candle_core::{DType, Device, IndexOp, Module, Result, Tensor};
use candle_mps::{check, nn};
use candle_nn::{Embedding, Optimizer, VarBuilder, VarMap};

const WORDS: usize = 12;
const LENGTH: usize = 8;
const WIDTH: usize = 32;
const HEADS: usize = 4;
const STEPS: usize = 150;

/// The functions that exist twice.
#[derive(Clone, Copy)]
struct Functions {
    name: &'static str,
    rms_norm: fn(&Tensor, &Tensor, f32) -> Result<Tensor>,
    softmax: fn(&Tensor) -> Result<Tensor>,
    rope: fn(&Tensor, &Tensor, &Tensor) -> Result<Tensor>,
}

const CANDLE: Functions = Functions {
    name: "candle_nn's fused ops",
    rms_norm: candle_nn::ops::rms_norm,
    softmax: candle_nn::ops::softmax_last_dim,
    rope: candle_nn::rotary_emb::rope,
};

const OURS: Functions = Functions {
    name: "candle_mps's",
    rms_norm: nn::ops::rms_norm,
    softmax: nn::ops::softmax_last_dim,
    rope: nn::rotary_emb::rope,
};

struct Model {
    functions: Functions,
    embedding: Embedding,
    norms: [Tensor; 2],
    qkv: candle_nn::Linear,
    out: candle_nn::Linear,
    head: candle_nn::Linear,
    cos: Tensor,
    sin: Tensor,
    hidden: Tensor,
}

impl Model {
    fn new(functions: Functions, vb: VarBuilder) -> Result<Self> {
        let angle = |at: usize| {
            let (position, pair) = (at / (WIDTH / HEADS / 2), at % (WIDTH / HEADS / 2));
            position as f32 / 10f32.powi(pair as i32)
        };
        let count = LENGTH * WIDTH / HEADS / 2;
        let angles = Tensor::from_iter((0..count).map(angle), &Device::Cpu)?;
        let angles = angles.reshape((LENGTH, WIDTH / HEADS / 2))?;
        let later = |at: usize| match at % LENGTH > at / LENGTH {
            true => f32::NEG_INFINITY,
            false => 0.,
        };
        let hidden = Tensor::from_iter((0..LENGTH * LENGTH).map(later), &Device::Cpu)?;
        let ones = candle_nn::Init::Const(1.);
        Ok(Self {
            functions,
            embedding: candle_nn::embedding(WORDS, WIDTH, vb.pp("embedding"))?,
            norms: [
                vb.get_with_hints(WIDTH, "attention_norm.weight", ones)?,
                vb.get_with_hints(WIDTH, "last_norm.weight", ones)?,
            ],
            qkv: candle_nn::linear_no_bias(WIDTH, 3 * WIDTH, vb.pp("qkv"))?,
            out: candle_nn::linear_no_bias(WIDTH, WIDTH, vb.pp("out"))?,
            head: candle_nn::linear_no_bias(WIDTH, WORDS, vb.pp("head"))?,
            cos: angles.cos()?,
            sin: angles.sin()?,
            hidden: hidden.reshape((LENGTH, LENGTH))?,
        })
    }

    /// [batch, length] words to [batch, length, words] logits.
    fn forward(&self, words: &Tensor) -> Result<Tensor> {
        let Functions {
            rms_norm,
            softmax,
            rope,
            ..
        } = self.functions;
        let x = self.embedding.forward(words)?;
        let normed = rms_norm(&x, &self.norms[0], 1e-5)?;
        let qkv = self.qkv.forward(&normed)?;
        let heads = |which: usize| {
            let part = qkv.narrow(2, which * WIDTH, WIDTH)?;
            let parted = part.reshape(((), LENGTH, HEADS, WIDTH / HEADS))?;
            parted.transpose(1, 2)?.contiguous()
        };
        let q = rope(&heads(0)?, &self.cos, &self.sin)?;
        let k = rope(&heads(1)?, &self.cos, &self.sin)?;
        let scores = (q.matmul(&k.t()?)? / ((WIDTH / HEADS) as f64).sqrt())?;
        let weights = softmax(&scores.broadcast_add(&self.hidden)?)?;
        let seen = weights.matmul(&heads(2)?)?.transpose(1, 2)?;
        let x = (x + self.out.forward(&seen.reshape(((), LENGTH, WIDTH))?)?)?;
        self.head.forward(&rms_norm(&x, &self.norms[1], 1e-5)?)
    }
}

/// Words to see and the words that follow: the second half repeats the first.
fn sample(state: &mut u64) -> Result<(Tensor, Tensor)> {
    let mut rows = Vec::new();
    for _ in 0..16 {
        let half: Vec<u32> = (0..LENGTH.div_ceil(2))
            .map(|_| {
                *state = state
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1);
                (*state >> 33) as u32 % WORDS as u32
            })
            .collect();
        rows.extend(half.iter().chain(&half).chain(&half[..1]).copied());
    }
    let all = Tensor::from_vec(rows, (16, LENGTH + 1), &Device::Cpu)?;
    Ok((all.i((.., ..LENGTH))?, all.i((.., 1..))?))
}

fn train(functions: Functions) -> Result<f32> {
    let varmap = VarMap::new();
    let vb = VarBuilder::from_varmap(&varmap, DType::F32, &Device::Cpu);
    let model = Model::new(functions, vb)?;
    let mut adamw = nn::AdamW::new_lr(varmap.all_vars(), 1e-2)?;
    let mut state = 7;
    let mut last = f32::NAN;
    println!("with {}:", functions.name);
    for step in 0..STEPS {
        let (words, next) = sample(&mut state)?;
        // What can be known: the words of the second half.
        let half = LENGTH / 2;
        let logits = model.forward(&words)?.i((.., half - 1..))?.flatten_to(1)?;
        let next = next.i((.., half - 1..))?.flatten_all()?;
        let loss = nn::loss::cross_entropy(&logits, &next)?;
        let grads = loss.backward()?;
        if step == 0 {
            match check::grads(&varmap, &grads) {
                Ok(()) => println!("  every variable gets a gradient"),
                Err(missing) => println!("  {}", missing.to_string().replace('\n', "\n  ")),
            }
        }
        adamw.step(&grads)?;
        last = loss.to_scalar()?;
        if step % 50 == 0 {
            println!("  step {step:>3}: loss {last:.3}");
        }
    }
    println!("  step {STEPS}: loss {last:.3}");
    Ok(last)
}

fn main() -> Result<()> {
    let (candle, ours) = (train(CANDLE)?, train(OURS)?);
    println!("loss after {STEPS} steps: {candle:.3} through candle_nn's, {ours:.3} through ours");
    Ok(())
}
