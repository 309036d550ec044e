//! What Candle's own path is, where it is more than a call: for inference as candle-transformers does it, for training
//! without the fused functions, which have no gradient.

use candle_core::{D, Module, Result, Tensor};

/// x · wᵀ + b.
pub fn linear(x: &Tensor, w: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    candle_nn::Linear::new(w.clone(), bias.cloned()).forward(x)
}

/// softmax(q·kᵀ / √size) · v, by candle-transformers' Llama: the keys' heads repeated, the scores as a matrix.
/// `hidden` has 1 where a score does not count, `mask` is added.
pub fn attention(
    [q, k, v]: [&Tensor; 3],
    hidden: Option<&Tensor>,
    mask: Option<&Tensor>,
    softmax: fn(&Tensor) -> Result<Tensor>,
) -> Result<Tensor> {
    let repeats = q.dim(1)? / k.dim(1)?;
    let (k, v) = (repeat_kv(k, repeats)?, repeat_kv(v, repeats)?);
    let scores = (q.matmul(&k.t()?)? / (q.dim(D::Minus1)? as f64).sqrt())?;
    let scores = match hidden {
        Some(hidden) => {
            let least = Tensor::new(f32::NEG_INFINITY, q.device())?.to_dtype(q.dtype())?;
            let least = least.broadcast_as(scores.shape())?;
            hidden
                .broadcast_as(scores.shape())?
                .where_cond(&least, &scores)?
        }
        None => scores,
    };
    let scores = match mask {
        Some(mask) => scores.broadcast_add(mask)?,
        None => scores,
    };
    softmax(&scores)?.matmul(&v.contiguous()?)
}

/// By its function for Metal, which is for inference only.
pub fn sdpa([q, k, v]: [&Tensor; 3], causal: bool) -> Result<Tensor> {
    let scale = 1. / (q.dim(D::Minus1)? as f32).sqrt();
    candle_nn::ops::sdpa(q, k, v, None, causal, scale, 1.)
}

fn repeat_kv(x: &Tensor, repeats: usize) -> Result<Tensor> {
    if repeats == 1 {
        return Ok(x.clone());
    }
    let (batch, heads, count, size) = x.dims4()?;
    Tensor::cat(&vec![x; repeats], 2)?.reshape((batch, heads * repeats, count, size))
}

/// Along the last dimension, with a gradient.
pub fn softmax(x: &Tensor) -> Result<Tensor> {
    candle_nn::ops::softmax(x, D::Minus1)
}

/// RMS norm without a weight.
pub fn rms_norm_no_weight(x: &Tensor, eps: f64) -> Result<Tensor> {
    let mean = (x.sqr()?.sum_keepdim(D::Minus1)? / x.dim(D::Minus1)? as f64)?;
    x.broadcast_div(&(mean + eps)?.sqrt()?)
}

/// Heads after positions, for which Candle has no unfused function.
pub fn rope_thd_slow(x: &Tensor, cos: &Tensor, sin: &Tensor) -> Result<Tensor> {
    let turned = candle_nn::rotary_emb::rope_slow(&x.transpose(1, 2)?.contiguous()?, cos, sin)?;
    turned.transpose(1, 2)?.contiguous()
}

/// scaling · (x·a)·b.
pub fn lora_delta(x: &Tensor, a: &Tensor, b: &Tensor, scaling: f64) -> Result<Tensor> {
    x.matmul(a)?.matmul(b)? * scaling
}
