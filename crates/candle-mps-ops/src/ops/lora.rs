//! [`lora`]: y = x · Wᵀ + bias + s · (x · A) · B, a linear layer with a low-rank correction, and
//! [`lora_delta`], the correction alone. [LoRA](https://arxiv.org/abs/2106.09685)
//!
//! t = s · (x · A) is computed once, and t · B is summed together with x · Wᵀ: one pass over y, no
//! temporary of its size. Backward, with u = s · (g · Bᵀ): dx = g · W + u · Aᵀ in one pass, dA = xᵀ · u,
//! dB = tᵀ · g, dW = gᵀ · x, dbias = Σ g. A frozen W is the rule, and then costs nothing but its part
//! of dx.

use candle_core::{Shape, Tensor};
use candle_mps_cpu::{lora as cpu, matmul};

use super::fused::{self, Kept, Op, Pass, Route, apply, bad_shape, route};
use super::linear::{self, column_sums};
use super::operand::{Float, Operand, rows, view};
use super::{Activation, check_rank};
use crate::error::Result;

/// The correction alone: s · (x · a) · b.
///
/// `x` is [.., in], `a` [in, rank], `b` [rank, out]; the result is [.., out]. Factors kept the other
/// way round, as PyTorch's peft keeps them, are passed as `.t()`, which copies nothing. Any strides;
/// f32, f64, f16 or bf16, one for all; x · a is never rounded. Differentiable in `x`, `a` and `b`.
///
/// ```
/// use candle_core::{Device, Tensor};
/// use candle_mps_ops::ops;
///
/// let x = Tensor::new(&[[1f32, 2.]], &Device::Cpu)?;
/// let a = Tensor::new(&[[1f32], [1.]], &Device::Cpu)?;
/// let b = Tensor::new(&[[1f32, 0., -1.]], &Device::Cpu)?;
/// assert_eq!(ops::lora_delta(&x, &a, &b, 2.)?.to_vec2::<f32>()?, [[6., 0., -6.]]);
/// # Ok::<(), candle_mps_ops::Error>(())
/// ```
pub fn lora_delta(x: &Tensor, a: &Tensor, b: &Tensor, scaling: f64) -> Result<Tensor> {
    const OP: &str = Lora::<false>::NAME;
    let operands = [("x", x), ("a", a), ("b", b)];
    fused::check(OP, &operands)?;
    check_rank(OP, "x", x.shape(), 1)?;
    let out = check_factors(OP, x, a, b)?;
    let op = Lora::<false> { scaling };
    if route(&op, &operands, false)? != Route::Ours {
        return Ok(composed(x, None, a, b, scaling)?);
    }
    let shape = Shape::from([&x.dims()[..x.rank() - 1], &[out]].concat());
    apply(op, shape, &operands)
}

/// A linear layer with a low-rank correction: x · wᵀ + bias + scaling · (x · a) · b.
///
/// `x` is [.., in], `w` `[out, in]` and `bias` `[out]` as in `candle_nn::Linear`, `a` [in, rank], `b`
/// [rank, out]; the result is [.., out]. Any strides; f32, f64, f16 or bf16, one for all, rounded
/// once. Differentiable in all five; what is frozen costs no gradient.
///
/// ```
/// use candle_core::{Device, Tensor};
/// use candle_mps_ops::ops;
///
/// let x = Tensor::new(&[[1f32, 2.]], &Device::Cpu)?;
/// let w = Tensor::new(&[[1f32, 0.], [0., 1.]], &Device::Cpu)?;
/// let bias = Tensor::new(&[10f32, 10.], &Device::Cpu)?;
/// let a = Tensor::new(&[[1f32], [1.]], &Device::Cpu)?;
/// let b = Tensor::new(&[[1f32, -1.]], &Device::Cpu)?;
/// let y = ops::lora(&x, &w, Some(&bias), &a, &b, 2.)?;
/// assert_eq!(y.to_vec2::<f32>()?, [[17., 6.]]);
/// # Ok::<(), candle_mps_ops::Error>(())
/// ```
pub fn lora(
    x: &Tensor,
    w: &Tensor,
    bias: Option<&Tensor>,
    a: &Tensor,
    b: &Tensor,
    scaling: f64,
) -> Result<Tensor> {
    const OP: &str = Lora::<true>::NAME;
    let operands: Vec<_> = [("x", x), ("a", a), ("b", b), ("w", w)]
        .into_iter()
        .chain(bias.map(|bias| ("bias", bias)))
        .collect();
    fused::check(OP, &operands)?;
    check_rank(OP, "x", x.shape(), 1)?;
    let shape = linear::result_shape(OP, x, w, bias)?;
    let out = check_factors(OP, x, a, b)?;
    if out != w.dims()[0] {
        let needed = format!(
            "[rank, {}] is needed for w of shape {:?}: transpose it if it is [out, rank]",
            w.dims()[0],
            w.shape()
        );
        return Err(bad_shape(OP, "b", b, needed));
    }
    let op = Lora::<true> { scaling };
    if route(&op, &operands, false)? != Route::Ours {
        return Ok(composed(x, Some((w, bias)), a, b, scaling)?);
    }
    apply(op, shape, &operands)
}

/// Refuses factors that do not go together. The number of columns of the result.
fn check_factors(op: &'static str, x: &Tensor, a: &Tensor, b: &Tensor) -> Result<usize> {
    let inner = x.dims().last().copied().unwrap_or_default();
    let rank = match *a.dims() {
        [its, rank] if its == inner && rank > 0 => rank,
        _ => {
            let needed = format!(
                "[{inner}, rank] with a rank of 1 or more is needed for x of shape {:?}: transpose \
                 it if it is [rank, in]",
                x.shape()
            );
            return Err(bad_shape(op, "a", a, needed));
        }
    };
    match *b.dims() {
        [its, out] if its == rank => Ok(out),
        _ => {
            let needed = format!(
                "[{rank}, out] is needed for a of shape {:?}: transpose it if it is [out, rank]",
                a.shape()
            );
            Err(bad_shape(op, "b", b, needed))
        }
    }
}

/// The same by ops of Candle, each with a backward.
fn composed(
    x: &Tensor,
    base: Option<(&Tensor, Option<&Tensor>)>,
    a: &Tensor,
    b: &Tensor,
    scaling: f64,
) -> candle_core::Result<Tensor> {
    let low = linear::composed(x, &a.t()?, None, Activation::None)?;
    let delta = (linear::composed(&low, &b.t()?, None, Activation::None)? * scaling)?;
    match base {
        Some((w, bias)) => linear::composed(x, w, bias, Activation::None)? + delta,
        None => Ok(delta),
    }
}

/// With the linear layer, or the correction alone. Arguments: x, a, b, then w and bias if there are.
pub(crate) struct Lora<const FULL: bool> {
    pub(crate) scaling: f64,
}

impl<const FULL: bool> Op for Lora<FULL> {
    const NAME: &'static str = if FULL { "lora" } else { "lora_delta" };

    fn forward<T: Float>(
        &self,
        arguments: &[Operand<T>],
        _: bool,
        out: &mut [T],
    ) -> Result<Option<Kept>> {
        let [x, a, b, base @ ..] = arguments else {
            return Ok(None);
        };
        let (x, x_layout) = rows(x.data, x.layout)?;
        let x = (&*x, &view(&x_layout)?);
        let adapter = cpu::Adapter {
            a: a.pair()?,
            b: b.pair()?,
            scale: self.scaling,
        };
        let [w, bias @ ..] = base else {
            cpu::delta(x, &adapter, out)?;
            return Ok(None);
        };
        let turned = w.layout.transpose(0, 1)?;
        let bias = bias.first().map(Operand::elements).transpose()?;
        let base = cpu::Base {
            w: (w.data, view(&turned)?),
            bias: bias.as_deref(),
        };
        cpu::forward(x, &base, &adapter, out)?;
        Ok(None)
    }

    fn backward<T: Float>(&self, pass: &Pass<T>) -> Result<Vec<Option<Vec<T>>>> {
        let [x, a, b, base @ ..] = pass.arguments else {
            return Ok(vec![]);
        };
        let gradient = |at: usize| pass.wants(at).then(|| pass.fresh(at));
        let (mut dx, mut da, mut db, mut dw) = (gradient(0), gradient(1), gradient(2), gradient(3));
        let (x, x_layout) = rows(x.data, x.layout)?;
        let (g, g_layout) = rows(pass.gradient.data, pass.gradient.layout)?;
        let turned = base.first().map(|w| w.layout.transpose(0, 1)).transpose()?;
        let w = match (base.first(), &turned) {
            (Some(w), Some(turned)) => Some((w.data, view(turned)?)),
            _ => None,
        };
        let adapter = cpu::Adapter {
            a: a.pair()?,
            b: b.pair()?,
            scale: self.scaling,
        };
        let gradients = cpu::Gradients {
            x: dx.as_deref_mut(),
            a: da.as_deref_mut(),
            b: db.as_deref_mut(),
            w: None,
            bias: None,
        };
        cpu::backward(
            (&x, &view(&x_layout)?),
            w.as_ref().map(|(w, layout)| (*w, layout)),
            &adapter,
            (&g, &view(&g_layout)?),
            gradients,
        )?;
        if let Some(dw) = &mut dw {
            // The kernel would make [in, out].
            let turned = g_layout.transpose(0, 1)?;
            let (g, x) = ((&*g, &view(&turned)?), (&*x, &view(&x_layout)?));
            matmul::matmul(g, x, &matmul::Options::default(), dw)?;
        }
        let dbias = pass.wants(4).then(|| column_sums(&g, &g_layout));
        Ok(vec![dx, da, db, dw, dbias.transpose()?])
    }
}
