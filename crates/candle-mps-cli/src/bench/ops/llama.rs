//! A llama of any size, over functions that exist twice: Candle's, as its users call them, and ours.

use candle_core::{Device, IndexOp, Module, Result, Tensor, Var};
use candle_mps::ops;

use super::{Side, attention, random};
use crate::results::Pass;

/// The sizes of a model.
#[derive(Clone, Copy)]
pub struct Config {
    pub layers: usize,
    pub width: usize,
    pub heads: usize,
    pub kv_heads: usize,
    pub hidden: usize,
    /// Words of the embedding and of the head; without them, the model maps vectors to vectors.
    pub vocabulary: usize,
}

/// Whose functions a model calls.
#[derive(Clone, Copy, PartialEq)]
pub enum Functions {
    /// The best of Candle's for inference, which have no backward.
    CandleBest,
    /// The same but for attention, which candle_transformers' Llama composes on every device.
    CandleTransformers,
    /// Candle's that have a backward: for training.
    CandleTrained,
    Ours,
}

impl Functions {
    /// For layers of one's own.
    pub fn of(side: Side, pass: Pass) -> Self {
        match (side, pass) {
            (Side::Ours, _) => Self::Ours,
            (Side::Candle, Pass::Forward) => Self::CandleBest,
            (Side::Candle, _) => Self::CandleTrained,
        }
    }

    /// For a model as it comes with candle_transformers.
    pub fn of_model(side: Side) -> Self {
        match side {
            Side::Ours => Self::Ours,
            Side::Candle => Self::CandleTransformers,
        }
    }

    fn norm(self, x: &Tensor, weight: &Tensor) -> Result<Tensor> {
        match self {
            Self::CandleTrained => candle_nn::ops::rms_norm_slow(x, weight, 1e-5),
            Self::Ours => Ok(ops::rms_norm(x, weight, 1e-5)?),
            _ => candle_nn::ops::rms_norm(x, weight, 1e-5),
        }
    }

    fn linear(self, x: &Tensor, weight: &Tensor) -> Result<Tensor> {
        match self {
            Self::Ours => Ok(ops::linear(x, weight, None)?),
            _ => candle_nn::Linear::new(weight.clone(), None).forward(x),
        }
    }

    /// Of x as the projection leaves it, [batch, heads, length, size], transposed in memory.
    fn rope(self, x: &Tensor, cos: &Tensor, sin: &Tensor) -> Result<Tensor> {
        match self {
            Self::CandleTrained => candle_nn::rotary_emb::rope_slow(&x.contiguous()?, cos, sin),
            Self::Ours => Ok(ops::rope(x, cos, sin)?),
            _ => candle_nn::rotary_emb::rope(&x.contiguous()?, cos, sin),
        }
    }

    /// `mask` hides from each word those that follow it.
    fn attention(self, qkv: [&Tensor; 3], mask: &Tensor) -> Result<Tensor> {
        let length = qkv[0].dim(2)?;
        let causal = length > 1;
        if self == Self::Ours {
            return attention::ours(qkv, causal);
        }
        let mask = mask.narrow(0, 0, length)?.narrow(1, 0, length)?;
        let hidden = causal.then_some(&mask);
        match self {
            Self::CandleBest => attention::best(qkv, hidden),
            Self::CandleTrained => attention::composed(qkv, hidden, attention::slow),
            _ => attention::composed(qkv, hidden, candle_nn::ops::softmax_last_dim),
        }
    }

    fn gated(self, gate: &Tensor, up: &Tensor) -> Result<Tensor> {
        match self {
            Self::Ours => Ok(ops::swiglu(gate, up)?),
            _ => gate.silu()? * up,
        }
    }
}

struct Layer {
    norms: [Tensor; 2],
    q: Tensor,
    k: Tensor,
    v: Tensor,
    out: Tensor,
    gate: Tensor,
    up: Tensor,
    down: Tensor,
}

/// A model of variables.
pub struct Llama {
    config: Config,
    layers: Vec<Layer>,
    norm: Tensor,
    embedding: Option<Tensor>,
    cos: Tensor,
    sin: Tensor,
    /// Kept, as candle_transformers does.
    mask: Tensor,
    /// Its parameters, if it is to be trained.
    pub vars: Vec<Var>,
}

/// The keys and values of each layer so far.
pub type Cache = Vec<Option<(Tensor, Tensor)>>;

impl Llama {
    /// Small random weights for up to `longest` words. Without `train`, they are no variables.
    pub fn new(config: Config, longest: usize, train: bool, device: &Device) -> Result<Self> {
        let mut vars = Vec::new();
        let mut weight = |dims: &[usize]| {
            let scale = 1. / (dims[dims.len() - 1] as f64).sqrt();
            let values = (random(dims)? * scale)?.to_device(device)?;
            if !train {
                return Ok(values);
            }
            let var = Var::from_tensor(&values)?;
            vars.push(var.clone());
            Ok::<_, candle_core::Error>(var.into_inner())
        };
        let Config {
            width,
            heads,
            kv_heads,
            hidden,
            vocabulary,
            ..
        } = config;
        let size = width / heads;
        let mut layers = Vec::new();
        for _ in 0..config.layers {
            layers.push(Layer {
                norms: [weight(&[width])?, weight(&[width])?],
                q: weight(&[heads * size, width])?,
                k: weight(&[kv_heads * size, width])?,
                v: weight(&[kv_heads * size, width])?,
                out: weight(&[width, heads * size])?,
                gate: weight(&[hidden, width])?,
                up: weight(&[hidden, width])?,
                down: weight(&[width, hidden])?,
            });
        }
        let norm = weight(&[width])?;
        let embedding = match vocabulary {
            0 => None,
            words => Some(weight(&[words, width])?),
        };
        let angle = |at: usize| {
            let (position, pair) = (at / (size / 2), at % (size / 2));
            position as f32 / 10_000f32.powf(2. * pair as f32 / size as f32)
        };
        let angles = (0..longest * size / 2).map(angle);
        let angles = Tensor::from_iter(angles, &Device::Cpu)?.reshape((longest, size / 2))?;
        Ok(Self {
            config,
            layers,
            norm,
            embedding,
            cos: angles.cos()?.to_device(device)?,
            sin: angles.sin()?.to_device(device)?,
            mask: attention::hidden(longest)?.to_device(device)?,
            vars,
        })
    }

    /// Vectors to vectors, [1, length, width].
    pub fn forward(&self, functions: Functions, x: &Tensor) -> Result<Tensor> {
        let mut cache = vec![None; self.layers.len()];
        self.layers(functions, x, 0, &mut cache, false)
    }

    /// The logits of the next word after `words`, which follow those in the cache.
    pub fn next(&self, functions: Functions, words: &Tensor, cache: &mut Cache) -> Result<Tensor> {
        let Some(embedding) = &self.embedding else {
            candle_core::bail!("a model without words")
        };
        cache.resize(self.layers.len(), None);
        let before = cache[0].as_ref().map_or(Ok(0), |(k, _)| k.dim(2))?;
        let x = embedding.index_select(words, 0)?.unsqueeze(0)?;
        let x = self.layers(functions, &x, before, cache, true)?;
        let last = x.i((.., x.dim(1)? - 1, ..))?.contiguous()?;
        functions.linear(&last, embedding)
    }

    fn layers(
        &self,
        functions: Functions,
        x: &Tensor,
        before: usize,
        cache: &mut Cache,
        keep: bool,
    ) -> Result<Tensor> {
        let Config {
            width,
            heads,
            kv_heads,
            ..
        } = self.config;
        let (batch, length, _) = x.dims3()?;
        let cos = self.cos.narrow(0, before, length)?;
        let sin = self.sin.narrow(0, before, length)?;
        let mut x = x.clone();
        for (layer, cached) in self.layers.iter().zip(cache) {
            let normed = functions.norm(&x, &layer.norms[0])?;
            let heads_of = |weight: &Tensor, heads: usize| {
                let y = functions.linear(&normed, weight)?;
                y.reshape((batch, length, heads, width / self.config.heads))?
                    .transpose(1, 2)
            };
            let q = functions.rope(&heads_of(&layer.q, heads)?, &cos, &sin)?;
            let mut k = functions.rope(&heads_of(&layer.k, kv_heads)?, &cos, &sin)?;
            let mut v = heads_of(&layer.v, kv_heads)?;
            if keep {
                if let Some((old_k, old_v)) = cached.take() {
                    k = Tensor::cat(&[&old_k, &k], 2)?;
                    v = Tensor::cat(&[&old_v, &v], 2)?;
                }
                *cached = Some((k.clone(), v.clone()));
            }
            let seen = functions
                .attention([&q, &k, &v], &self.mask)?
                .transpose(1, 2)?;
            let seen = seen.reshape((batch, length, width))?;
            x = (x + functions.linear(&seen, &layer.out)?)?;
            let normed = functions.norm(&x, &layer.norms[1])?;
            let (gate, up) = (
                functions.linear(&normed, &layer.gate)?,
                functions.linear(&normed, &layer.up)?,
            );
            x = (x + functions.linear(&functions.gated(&gate, &up)?, &layer.down)?)?;
        }
        functions.norm(&x, &self.norm)
    }
}
