//! [`swiglu`]: silu(gate) · up with silu(x) = x / (1 + e⁻ˣ), the unit of Llama's feed-forward layers.
//! <https://arxiv.org/abs/2002.05202>
//!
//! Backward, with s the sigmoid of the gate: d gate = g · up · s · (1 + gate · (1 − s)) and
//! d up = g · silu(gate), in one pass over both.

use candle_core::Tensor;
use candle_mps_cpu::swiglu as cpu;

use super::fused::{self, Kept, Op, Pass, Route, apply, route};
use super::operand::{Float, Operand};
use crate::error::{Error, Result};

const OP: &str = "swiglu";

/// The gated unit silu(gate) · up.
///
/// `gate` and `up` have one shape, any but a scalar's, and any strides: the halves of one product
/// (`Tensor::chunk`) need no copy. f32, f64, f16 or bf16, one for both, computed in f32 (f64 for f64).
/// Differentiable in both.
///
/// ```
/// use candle_core::{D, Device, Tensor};
/// use candle_mps_ops::ops;
///
/// let both = Tensor::new(&[[0f32, 20., 5., 2.]], &Device::Cpu)?;
/// let halves = both.chunk(2, D::Minus1)?;
/// let y = ops::swiglu(&halves[0], &halves[1])?.to_vec2::<f32>()?;
/// assert_eq!(y[0][0], 0.);
/// assert!((y[0][1] - 40.).abs() < 1e-4);
/// # Ok::<(), candle_mps_ops::Error>(())
/// ```
pub fn swiglu(gate: &Tensor, up: &Tensor) -> Result<Tensor> {
    check(OP, gate, up)?;
    let operands = [("gate", gate), ("up", up)];
    if route(&SwiGlu, &operands, false)? != Route::Ours {
        return Ok(composed(gate, up)?);
    }
    apply(SwiGlu, gate.shape().clone(), &operands)
}

/// Refuses a gate and an operand that do not go together.
pub(super) fn check(op: &'static str, gate: &Tensor, up: &Tensor) -> Result<()> {
    fused::check(op, &[("gate", gate), ("up", up)])?;
    super::check_rank(op, "gate", gate.shape(), 1)?;
    if gate.dims() != up.dims() {
        return Err(Error::Shapes {
            op,
            left: gate.shape().clone(),
            right: up.shape().clone(),
            why: "gate and up must have one shape: repeat one with Tensor::broadcast_as, which \
                  copies nothing",
        });
    }
    Ok(())
}

/// The same by ops of Candle, each with a backward.
fn composed(gate: &Tensor, up: &Tensor) -> candle_core::Result<Tensor> {
    gate.silu()? * up
}

pub(crate) struct SwiGlu;

impl Op for SwiGlu {
    const NAME: &'static str = OP;

    fn forward<T: Float>(
        &self,
        arguments: &[Operand<T>],
        _: bool,
        out: &mut [T],
    ) -> Result<Option<Kept>> {
        if let [gate, up] = arguments {
            let (gate, up) = (gate.pair()?, up.pair()?);
            cpu::swiglu((gate.0, &gate.1), (up.0, &up.1), out)?;
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
        cpu::swiglu_backward((gate.0, &gate.1), (up.0, &up.1), (g.0, &g.1), out)?;
        Ok(vec![Some(to_gate), Some(to_up)])
    }
}
