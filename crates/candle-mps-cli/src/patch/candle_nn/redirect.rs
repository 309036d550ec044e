//! Written by `candle-mps patch`, which `candle-mps patch --undo` takes back.
//!
//! From this crate to candle-mps-ops. A function here answers `None` for what candle-nn does itself:
//! tensors that are no floats or do not go together, which it refuses or computes in its own way, and
//! those of a GPU, unless they want gradients that candle-nn has not.

use candle::{DType, Result, Tensor};
use candle_mps_ops::ops::{self, AdamWOptions, AttentionOptions};

use crate::attention::AttnMask;
use crate::optim::ParamsAdamW;

/// Whether the tensors are floats of one type on one device.
fn agree(tensors: &[&Tensor]) -> bool {
    let Some((first, rest)) = tensors.split_first() else {
        return false;
    };
    matches!(
        first.dtype(),
        DType::F16 | DType::BF16 | DType::F32 | DType::F64
    ) && rest
        .iter()
        .all(|it| it.dtype() == first.dtype() && it.device().same_device(first.device()))
}

/// Where candle-nn has a backward, too.
fn on_cpu(tensors: &[&Tensor]) -> bool {
    agree(tensors) && tensors[0].device().is_cpu()
}

/// Where candle-nn has none.
fn on_cpu_or_trained(tensors: &[&Tensor]) -> bool {
    agree(tensors) && (tensors[0].device().is_cpu() || tensors.iter().any(|it| it.track_op()))
}

fn done(result: candle_mps_ops::Result<Tensor>) -> Result<Tensor> {
    Ok(result?)
}

fn last_dim(tensor: &Tensor) -> Option<usize> {
    tensor.dims().last().copied()
}

/// `tensors` and the one that may be there.
fn with<'a>(tensors: &[&'a Tensor], more: Option<&'a Tensor>) -> Vec<&'a Tensor> {
    tensors.iter().copied().chain(more).collect()
}

pub(crate) fn linear(
    x: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
) -> Option<Result<Tensor>> {
    let &[outputs, inputs] = weight.dims() else {
        return None;
    };
    let fits = x.rank() > 1
        && last_dim(x) == Some(inputs)
        && bias.is_none_or(|bias| bias.dims() == [outputs])
        && on_cpu(&with(&[x, weight], bias));
    fits.then(|| done(ops::linear(x, weight, bias)))
}

pub(crate) fn norm(
    x: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    remove_mean: bool,
    eps: f64,
) -> Option<Result<Tensor>> {
    let size = [last_dim(x)?];
    let fits = weight.dims() == size
        && bias.is_none_or(|bias| bias.dims() == size)
        && on_cpu_or_trained(&with(&[x, weight], bias));
    match bias {
        _ if !fits => None,
        _ if remove_mean => Some(done(ops::layer_norm(x, weight, bias, eps))),
        None => Some(done(ops::rms_norm(x, weight, eps))),
        Some(_) => None,
    }
}

pub(crate) fn softmax(xs: &Tensor, dim: usize) -> Option<Result<Tensor>> {
    on_cpu(&[xs]).then(|| done(ops::softmax(xs, dim)))
}

pub(crate) fn log_softmax(xs: &Tensor, dim: usize) -> Option<Result<Tensor>> {
    on_cpu(&[xs]).then(|| done(ops::log_softmax(xs, dim)))
}

pub(crate) fn softmax_last_dim(xs: &Tensor) -> Option<Result<Tensor>> {
    on_cpu_or_trained(&[xs]).then(|| done(ops::softmax_last_dim(xs)))
}

pub(crate) fn swiglu(halves: &[Tensor]) -> Option<Result<Tensor>> {
    let [gate, up] = halves else {
        return None;
    };
    let fits = gate.dims() == up.dims() && on_cpu(&[gate, up]);
    fits.then(|| done(ops::swiglu(gate, up)))
}

pub(crate) fn rms_norm(xs: &Tensor, alpha: &Tensor, eps: f32) -> Option<Result<Tensor>> {
    on_cpu_or_trained(&[xs, alpha]).then(|| done(ops::rms_norm(xs, alpha, f64::from(eps))))
}

pub(crate) fn layer_norm(
    xs: &Tensor,
    alpha: &Tensor,
    beta: &Tensor,
    eps: f32,
) -> Option<Result<Tensor>> {
    on_cpu_or_trained(&[xs, alpha, beta])
        .then(|| done(ops::layer_norm(xs, alpha, Some(beta), f64::from(eps))))
}

/// candle-nn reads both tables as it should only if they have the same rank.
fn rotates(xs: &Tensor, cos: &Tensor, sin: &Tensor) -> bool {
    cos.rank() == sin.rank() && on_cpu_or_trained(&[xs, cos, sin])
}

pub(crate) fn rope(xs: &Tensor, cos: &Tensor, sin: &Tensor) -> Option<Result<Tensor>> {
    rotates(xs, cos, sin).then(|| done(ops::rope(xs, cos, sin)))
}

pub(crate) fn rope_i(xs: &Tensor, cos: &Tensor, sin: &Tensor) -> Option<Result<Tensor>> {
    rotates(xs, cos, sin).then(|| done(ops::rope_i(xs, cos, sin)))
}

pub(crate) fn rope_thd(xs: &Tensor, cos: &Tensor, sin: &Tensor) -> Option<Result<Tensor>> {
    rotates(xs, cos, sin).then(|| done(ops::rope_thd(xs, cos, sin)))
}

/// Whether queries, keys and values of (batch, heads, sequence, size) go together.
fn attends(q: &Tensor, k: &Tensor, v: &Tensor) -> bool {
    let (&[batch, heads, _, size], &[_, kv_heads, kv_length, k_size]) = (q.dims(), k.dims()) else {
        return false;
    };
    let fits = matches!(*v.dims(), [b, h, l, _] if [b, h, l] == [batch, kv_heads, kv_length]);
    fits && k.dims()[0] == batch
        && size == k_size
        && kv_heads > 0
        && heads % kv_heads == 0
        && on_cpu_or_trained(&[q, k, v])
}

pub(crate) fn sdpa(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    mask: Option<&Tensor>,
    causal: bool,
    scale: f32,
    cap: f32,
) -> Option<Result<Tensor>> {
    let fits = attends(q, k, v)
        && mask.is_none_or(|mask| {
            agree(&[q, mask]) && mask.dims() == [q.dims()[0], q.dims()[1], q.dims()[2], k.dims()[2]]
        });
    let options = AttentionOptions {
        scale: Some(f64::from(scale)),
        causal,
        soft_cap: (cap != 1.).then_some(f64::from(cap)),
        ..AttentionOptions::default()
    };
    fits.then(|| done(ops::attention(q, k, v, mask, &options)))
}

/// Queries, keys and values are (batch, sequence, heads, size) here, and the result is (batch, heads,
/// sequence, size).
pub(crate) fn flash_attn(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    scale: f32,
    mask: &AttnMask,
    max_bias: Option<f32>,
    cap: Option<f32>,
) -> Option<Result<Tensor>> {
    if max_bias.is_some_and(|it| it != 0.) || cap.is_some_and(|it| it == 0.) {
        return None;
    }
    let turned = |tensor: &Tensor| tensor.transpose(1, 2).ok();
    let (q, k, v) = (turned(q)?, turned(k)?, turned(v)?);
    if !attends(&q, &k, &v) || !q.device().is_cpu() {
        return None;
    }
    let (length, kv_length) = (q.dims()[2], k.dims()[2]);
    let (causal, mask) = match mask {
        AttnMask::None => (false, None),
        // The last query sees the last key, as ours do.
        AttnMask::Causal { kv_offset } if kv_offset + length == kv_length => (true, None),
        AttnMask::Mask(mask) if agree(&[&q, mask]) && mask.elem_count() == length * kv_length => {
            (false, mask.reshape((length, kv_length)).ok())
        }
        _ => return None,
    };
    let options = AttentionOptions {
        scale: Some(f64::from(scale)),
        causal,
        soft_cap: cap.map(f64::from),
        ..AttentionOptions::default()
    };
    Some(done(ops::attention(&q, &k, &v, mask.as_ref(), &options)))
}

pub(crate) fn cross_entropy(inp: &Tensor, target: &Tensor) -> Option<Result<Tensor>> {
    let fits = inp.rank() == 2 && target.dims() == &inp.dims()[..1] && on_cpu(&[inp]);
    fits.then(|| done(ops::cross_entropy(inp, target)))
}

pub(crate) fn adamw(params: &ParamsAdamW) -> AdamWOptions {
    AdamWOptions {
        lr: params.lr,
        beta1: params.beta1,
        beta2: params.beta2,
        eps: params.eps,
        weight_decay: params.weight_decay,
    }
}

/// What a cache answers to the keys and values that it gets first: these, with their gradients, which
/// candle-nn drops. What it remembers of them is without, as ever.
pub(crate) fn first_keys(
    seen: usize,
    k: &Tensor,
    v: &Tensor,
    remember: impl FnOnce(&Tensor, &Tensor) -> Result<(Tensor, Tensor)>,
) -> Option<Result<(Tensor, Tensor)>> {
    let trained = seen == 0 && (k.track_op() || v.track_op());
    trained.then(|| {
        remember(&k.detach(), &v.detach())?;
        Ok((k.contiguous()?, v.contiguous()?))
    })
}
