//! [`geglu`] and [`geglu_erf`]: gelu(gate) · up with gelu(x) = x · Φ(x), Φ the normal distribution.
//! <https://arxiv.org/abs/2002.05202>
//!
//! There are two, because models are trained with one gelu and do not take the other's results: the
//! names follow `Tensor::gelu` and `Tensor::gelu_erf`. Backward: d gate = g · up · gelu′(gate) and
//! d up = g · gelu(gate), in one pass over both.

use candle_core::Tensor;
use candle_mps_cpu::geglu::{self as cpu, Gelu};

use super::fused::{Kept, Op, Pass, Route, apply, route};
use super::operand::{Float, Operand};
use super::swiglu::check;
use crate::error::Result;

const OP: &str = "geglu";

/// The gated unit gelu(gate) · up with gelu(x) = x/2 · (1 + tanh(√(2/π)·(x + 0.044715·x³))), Gemma's.
///
/// `gate` and `up` have one shape, any but a scalar's, and any strides. f32, f64, f16 or bf16, one for
/// both, computed in f32 (f64 for f64). Differentiable in both.
///
/// ```
/// use candle_core::{Device, Tensor};
/// use candle_mps_ops::ops;
///
/// let gate = Tensor::new(&[0f32, 1., -20.], &Device::Cpu)?;
/// let up = Tensor::new(&[5f32, 1., 1.], &Device::Cpu)?;
/// let y = ops::geglu(&gate, &up)?.to_vec1::<f32>()?;
/// assert_eq!((y[0], y[2]), (0., 0.));
/// assert!((y[1] - 0.84119).abs() < 1e-5);
/// # Ok::<(), candle_mps_ops::Error>(())
/// ```
pub fn geglu(gate: &Tensor, up: &Tensor) -> Result<Tensor> {
    run(gate, up, Gelu::Tanh)
}

/// [`geglu`] with gelu(x) = x · Φ(x), PyTorch's default.
///
/// ```
/// use candle_core::{Device, Tensor};
/// use candle_mps_ops::ops;
///
/// let gate = Tensor::new(&[1f32], &Device::Cpu)?;
/// let up = Tensor::new(&[2f32], &Device::Cpu)?;
/// let y = ops::geglu_erf(&gate, &up)?.to_vec1::<f32>()?;
/// assert!((y[0] - 2. * 0.841345).abs() < 1e-5);
/// # Ok::<(), candle_mps_ops::Error>(())
/// ```
pub fn geglu_erf(gate: &Tensor, up: &Tensor) -> Result<Tensor> {
    run(gate, up, Gelu::Exact)
}

fn run(gate: &Tensor, up: &Tensor, gelu: Gelu) -> Result<Tensor> {
    check(OP, gate, up)?;
    let (op, operands) = (GeGlu(gelu), [("gate", gate), ("up", up)]);
    if route(&op, &operands, false)? != Route::Ours {
        return Ok(composed(gate, up, gelu)?);
    }
    apply(op, gate.shape().clone(), &operands)
}

/// The same by ops of Candle, each with a backward.
fn composed(gate: &Tensor, up: &Tensor, gelu: Gelu) -> candle_core::Result<Tensor> {
    match gelu {
        Gelu::Tanh => gate.gelu()? * up,
        Gelu::Exact => gate.gelu_erf()? * up,
    }
}

pub(crate) struct GeGlu(pub(crate) Gelu);

impl Op for GeGlu {
    const NAME: &'static str = OP;

    fn forward<T: Float>(
        &self,
        arguments: &[Operand<T>],
        _: bool,
        out: &mut [T],
    ) -> Result<Option<Kept>> {
        if let [gate, up] = arguments {
            let (gate, up) = (gate.pair()?, up.pair()?);
            cpu::geglu((gate.0, &gate.1), (up.0, &up.1), self.0, out)?;
        }
        Ok(None)
    }

    fn backward<T: Float>(&self, pass: &Pass<T>) -> Result<Vec<Option<Vec<T>>>> {
        let [gate, up] = pass.arguments else {
            return Ok(vec![]);
        };
        let (mut to_gate, mut to_up) = (pass.fresh(0), pass.fresh(1));
        let (gate, up, g) = (gate.pair()?, up.pair()?, pass.gradient.pair()?);
        let out = (&mut to_gate[..], &mut to_up[..]);
        cpu::geglu_backward((gate.0, &gate.1), (up.0, &up.1), (g.0, &g.1), self.0, out)?;
        Ok(vec![Some(to_gate), Some(to_up)])
    }
}
