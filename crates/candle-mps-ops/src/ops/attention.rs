//! [`attention`]: softmax(cap(scale · Q·Kᵀ) + mask) · V, without the matrix of scores.
//! [Attention](https://arxiv.org/abs/1706.03762), in blocks as in
//! [FlashAttention-2](https://arxiv.org/abs/2307.08691).
//!
//! The forward pass keeps one number for each query, the logarithm of its sum of exponentials, and the
//! backward pass computes the weights again from it, block by block. A mask that is trained (a learned
//! bias of positions) needs the gradient of every score: then the scores are computed as a matrix,
//! by ops that have a backward.

use candle_core::{D, DType, Layout, Shape, Tensor};
use candle_mps_cpu::attention as cpu;
use candle_mps_cpu::memory::vector;

use super::fused::{self, Kept, Op, Pass, Route, apply, bad_shape, route};
use super::operand::{Float, Operand, view};
use super::{matmul, softmax_last_dim};
use crate::error::Result;

const OP: &str = "attention";

/// What happens to the scores of [`attention`].
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct AttentionOptions {
    /// Scores are multiplied by this. None: 1/√size, which keeps their spread.
    pub scale: Option<f64>,
    /// The last query sees all keys, the one before all but the last, and so on: with fewer queries
    /// than keys, a continued text whose earlier keys are in a cache.
    pub causal: bool,
    /// c of cap(x) = c · tanh(x/c), which bounds scores softly: Gemma 2.
    pub soft_cap: Option<f64>,
}

/// Scaled dot-product attention: softmax(cap(scale · q·kᵀ) + mask) · v.
///
/// `q` is [batch, heads, queries, size], `k` [batch, kv heads, keys, size] and `v` [batch, kv heads,
/// keys, width]; `heads` is a multiple of `kv heads`, whose neighbours share one (GQA). `mask` is added
/// to the scores (0 to show, −∞ to hide) and is broadcast to [batch, heads, queries, keys]. The result
/// is [batch, heads, queries, width]; a query that sees nothing gets 0. Any strides; f32, f64, f16 or
/// bf16, one for all, summed in f32 (f64 for f64). Differentiable in all four.
///
/// ```
/// use candle_core::{Device, Tensor};
/// use candle_mps_ops::ops::{self, AttentionOptions};
///
/// // One head, two positions: the first sees itself only, the second both, equally.
/// let q = Tensor::zeros((1, 1, 2, 4), candle_core::DType::F32, &Device::Cpu)?;
/// let v = Tensor::new(&[[[[2f32], [4.]]]], &Device::Cpu)?;
/// let options = AttentionOptions { causal: true, ..Default::default() };
/// let y = ops::attention(&q, &q, &v, None, &options)?;
/// assert_eq!(y.flatten_all()?.to_vec1::<f32>()?, [2., 3.]);
/// # Ok::<(), candle_mps_ops::Error>(())
/// ```
pub fn attention(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    mask: Option<&Tensor>,
    options: &AttentionOptions,
) -> Result<Tensor> {
    let operands: Vec<_> = [("q", q), ("k", k), ("v", v)]
        .into_iter()
        .chain(mask.map(|mask| ("mask", mask)))
        .collect();
    fused::check(OP, &operands)?;
    let shape = result_shape(q, k, v)?;
    check_options(options)?;
    let (batch, heads, queries, size) = q.dims4()?;
    let scores = [batch, heads, queries, k.dims()[2]];
    if let Some(mask) = mask
        && mask.layout().broadcast_as(&scores[..]).is_err()
    {
        let needed = format!(
            "which does not broadcast to [batch, heads, queries, keys] = {scores:?}: unsqueeze or \
             transpose it"
        );
        return Err(bad_shape(OP, "mask", mask, needed));
    }
    let scale = options.scale.unwrap_or(1. / (size.max(1) as f64).sqrt());
    let op = Attention {
        scale,
        options: *options,
    };
    let trained = mask.is_some_and(Tensor::track_op);
    if route(&op, &operands, false)? != Route::Ours || trained {
        return composed(q, k, v, mask, scale, options);
    }
    apply(op, shape, &operands)
}

/// [`attention`], by the name under which many look for it.
///
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use candle_mps_ops::ops::{self, AttentionOptions};
///
/// let x = Tensor::ones((1, 2, 3, 4), DType::F32, &Device::Cpu)?;
/// let y = ops::flash_attention(&x, &x, &x, None, &AttentionOptions::default())?;
/// assert_eq!(y.dims(), [1, 2, 3, 4]);
/// # Ok::<(), candle_mps_ops::Error>(())
/// ```
pub fn flash_attention(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    mask: Option<&Tensor>,
    options: &AttentionOptions,
) -> Result<Tensor> {
    attention(q, k, v, mask, options)
}

/// The shape of the result, if q, k and v go together.
fn result_shape(q: &Tensor, k: &Tensor, v: &Tensor) -> Result<Shape> {
    let &[batch, heads, queries, size] = q.dims() else {
        let needed =
            "[batch, heads, queries, size] is needed: reshape it, or unsqueeze a dimension";
        return Err(bad_shape(OP, "q", q, needed));
    };
    let (kv_heads, keys) = match *k.dims() {
        [its, kv_heads, keys, last] if (its, last) == (batch, size) => (kv_heads, keys),
        _ => {
            let needed = format!(
                "[{batch}, kv heads, keys, {size}] is needed for q of shape {:?}: reshape it, or \
                 transpose heads and positions",
                q.shape()
            );
            return Err(bad_shape(OP, "k", k, needed));
        }
    };
    if heads > 0 && (kv_heads == 0 || heads % kv_heads != 0) {
        let needed = format!(
            "and q {heads} heads: the heads of q must be a multiple of those of k; transpose heads \
             and positions if they are the wrong way round"
        );
        return Err(bad_shape(OP, "k", k, needed));
    }
    match *v.dims() {
        [a, b, c, width] if [a, b, c] == [batch, kv_heads, keys] => {
            Ok(Shape::from((batch, heads, queries, width)))
        }
        _ => {
            let needed = format!(
                "[{batch}, {kv_heads}, {keys}, width] is needed for k of shape {:?}: reshape it, or \
                 transpose heads and positions",
                k.shape()
            );
            Err(bad_shape(OP, "v", v, needed))
        }
    }
}

/// Refuses a cap that bounds nothing and a scale that is no number.
fn check_options(options: &AttentionOptions) -> Result<()> {
    let refuse = |argument, got, remedy| {
        let op = OP;
        Err(candle_mps_cpu::Error::Option {
            op,
            argument,
            got,
            remedy,
        }
        .into())
    };
    match (options.soft_cap, options.scale) {
        (Some(cap), _) if !(cap > 0. && cap.is_finite()) => refuse(
            "soft_cap",
            cap,
            "pass a positive number, or None for no cap",
        ),
        (_, Some(scale)) if !scale.is_finite() => {
            refuse("scale", scale, "pass a finite number, or None for 1/√size")
        }
        _ => Ok(()),
    }
}

/// The same with a matrix of scores, by ops that have a backward each: those of Candle, but that on
/// the CPU products and softmax are ours.
fn composed(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    mask: Option<&Tensor>,
    scale: f64,
    options: &AttentionOptions,
) -> Result<Tensor> {
    let (batch, heads, queries, size) = q.dims4()?;
    let (_, kv_heads, keys, width) = v.dims4()?;
    if batch * heads * queries * keys * size * width == 0 {
        return Ok(Tensor::zeros(
            (batch, heads, queries, width),
            q.dtype(),
            q.device(),
        )?);
    }
    // Scores that are rounded to a narrow type lose more than a result may.
    if matches!(q.dtype(), DType::F16 | DType::BF16) {
        let wide = |x: &Tensor| x.to_dtype(DType::F32);
        let mask = mask.map(wide).transpose()?;
        let y = composed(
            &wide(q)?,
            &wide(k)?,
            &wide(v)?,
            mask.as_ref(),
            scale,
            options,
        )?;
        return Ok(y.to_dtype(q.dtype())?);
    }
    // The queries of all heads that share k and v are the rows of one product.
    let rows = heads / kv_heads * queries;
    let scores = matmul(&q.reshape((batch, kv_heads, rows, size))?, &k.t()?)?;
    let mut scores = (scores.reshape((batch, heads, queries, keys))? * scale)?;
    if let Some(cap) = options.soft_cap {
        scores = ((scores / cap)?.tanh()? * cap)?;
    }
    if let Some(mask) = mask {
        scores = scores.broadcast_add(mask)?;
    }
    if options.causal {
        scores = scores.broadcast_add(&causal_mask(queries, keys, &scores)?)?;
    }
    // A row of −∞ only would be NaN. It gets finite scores, and its weights are multiplied by 0.
    let seen = scores
        .detach()
        .max_keepdim(D::Minus1)?
        .ne(f64::NEG_INFINITY)?;
    let all = seen.broadcast_as(scores.shape())?.contiguous()?;
    let scores = all.where_cond(&scores, &scores.zeros_like()?)?;
    let weights = softmax_last_dim(&scores)?.broadcast_mul(&seen.to_dtype(scores.dtype())?)?;
    let weights = weights.reshape((batch, kv_heads, rows, keys))?;
    Ok(matmul(&weights, v)?.reshape((batch, heads, queries, width))?)
}

/// 0 where a query sees a key, −∞ elsewhere; the last query sees all keys.
fn causal_mask(queries: usize, keys: usize, like: &Tensor) -> candle_core::Result<Tensor> {
    let hidden = |at: usize| at % keys + queries > at / keys + keys;
    let mask: Vec<f32> = (0..queries * keys)
        .map(|at| if hidden(at) { f32::NEG_INFINITY } else { 0. })
        .collect();
    Tensor::from_vec(mask, (queries, keys), like.device())?.to_dtype(like.dtype())
}

pub(crate) struct Attention {
    pub(crate) scale: f64,
    pub(crate) options: AttentionOptions,
}

impl Attention {
    fn kernel_options<'a, T>(
        &self,
        mask: Option<(&'a [T], candle_mps_cpu::Layout<'a>)>,
    ) -> cpu::Options<'a, T> {
        cpu::Options {
            scale: self.scale,
            soft_cap: self.options.soft_cap,
            mask,
            causal: self.options.causal,
        }
    }
}

/// The mask's layout repeated to that of the scores.
fn repeated<T: Float>(arguments: &[Operand<T>]) -> Result<Option<Layout>> {
    let [q, k, _, mask] = arguments else {
        return Ok(None);
    };
    let dims = [&q.dims()[..3], &k.dims()[2..3]].concat();
    Ok(Some(mask.layout.broadcast_as(dims)?))
}

/// q, k and v for the kernel.
fn operands<'a, T: Float>(arguments: &[Operand<'a, T>]) -> Result<Option<cpu::Operands<'a, T>>> {
    let [q, k, v, ..] = arguments else {
        return Ok(None);
    };
    let (q, k, v) = (q.pair()?, k.pair()?, v.pair()?);
    Ok(Some(cpu::Operands { q, k, v }))
}

impl Op for Attention {
    const NAME: &'static str = OP;

    fn forward<T: Float>(
        &self,
        arguments: &[Operand<T>],
        keep: bool,
        out: &mut [T],
    ) -> Result<Option<Kept>> {
        let Some(operands) = operands(arguments)? else {
            return Ok(None);
        };
        let layout = repeated(arguments)?;
        let mask = match (&layout, arguments.last()) {
            (Some(layout), Some(mask)) => Some((mask.data, view(layout)?)),
            _ => None,
        };
        let rows = operands.q.1.dims()[..3].iter().product();
        let mut lse: Option<Vec<T::Acc>> = keep.then(|| vector(rows));
        cpu::forward(
            &operands,
            &self.kernel_options(mask),
            out,
            lse.as_deref_mut(),
        )?;
        Ok(lse.map(|lse| Box::new(lse) as Kept))
    }

    fn backward<T: Float>(&self, pass: &Pass<T>) -> Result<Vec<Option<Vec<T>>>> {
        let Some(operands) = operands(pass.arguments)? else {
            return Ok(vec![]);
        };
        let layout = repeated(pass.arguments)?;
        let mask = match (&layout, pass.arguments.last()) {
            (Some(layout), Some(mask)) => Some((mask.data, view(layout)?)),
            _ => None,
        };
        let lse: &Vec<T::Acc> = pass.kept(OP)?;
        let (mut q, mut k, mut v) = (pass.fresh(0), pass.fresh(1), pass.fresh(2));
        cpu::backward(
            &operands,
            &self.kernel_options(mask),
            (&pass.result.elements()?, lse),
            pass.gradient.pair()?,
            cpu::Gradients {
                q: &mut q,
                k: &mut k,
                v: &mut v,
            },
        )?;
        Ok(vec![Some(q), Some(k), Some(v)])
    }
}
