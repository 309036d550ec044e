//! [`AdamWMoments`]: a step of AdamW on one variable, on the CPU in one pass over parameter, gradient
//! and both moments. <https://arxiv.org/abs/1711.05101>
//!
//! m ← β₁·m + (1 − β₁)·g, v ← β₂·v + (1 − β₂)·g²,
//! θ ← θ·(1 − η·λ) − η · (m / (1 − β₁ᵗ)) / (√(v / (1 − β₂ᵗ)) + ε): what candle_nn's `AdamW` computes
//! with a dozen passes over fresh memory. Other devices take those passes.

use std::cell::RefCell;

use candle_core::{CpuStorage, Device, InplaceOp2, Layout, Shape, Tensor, Var};
use candle_mps_cpu::{Element, adamw};

use super::calls;
use crate::error::{Error, Result};

const OP: &str = "adamw";

/// The optimiser's settings, with candle_nn's names.
pub use candle_mps_cpu::adamw::AdamW as AdamWOptions;

/// The mean of a variable's gradients and of their squares: zeros before the first step.
#[derive(Debug)]
pub struct AdamWMoments(Kind);

#[derive(Debug)]
enum Kind {
    /// Beside the variable's own elements, in their order.
    Cpu {
        first: CpuStorage,
        second: CpuStorage,
        shape: Shape,
    },
    Composed {
        first: Var,
        second: Var,
    },
}

impl AdamWMoments {
    /// Moments for a variable of a float type.
    ///
    /// # Errors
    /// When the variable is of another type, or Candle cannot make the moments.
    pub fn new(var: &Var) -> Result<Self> {
        let zeros = || var.zeros_like();
        let kind = match var.device() {
            Device::Cpu if var.is_contiguous() && var.dtype().is_float() => Kind::Cpu {
                first: on_cpu(&zeros()?)?,
                second: on_cpu(&zeros()?)?,
                shape: var.shape().clone(),
            },
            _ => Kind::Composed {
                first: Var::from_tensor(&zeros()?)?,
                second: Var::from_tensor(&zeros()?)?,
            },
        };
        Ok(Self(kind))
    }

    /// Takes the step of this number, counted from 1.
    ///
    /// # Errors
    /// When `grad` has not the variable's shape, type or device, `step` is 0, or a β is not in 0..1.
    pub fn step(
        &mut self,
        var: &Var,
        grad: &Tensor,
        with: &AdamWOptions,
        step: usize,
    ) -> Result<()> {
        let shapes = |right: &Shape, why| Error::Shapes {
            op: OP,
            left: var.shape().clone(),
            right: right.clone(),
            why,
        };
        if grad.shape() != var.shape() {
            return Err(shapes(grad.shape(), "a gradient has its variable's shape"));
        }
        match &mut self.0 {
            Kind::Cpu {
                first,
                second,
                shape,
            } => {
                if shape != var.shape() {
                    let why = "these are the moments of another variable";
                    return Err(shapes(shape, why));
                }
                let moments = RefCell::new((first, second));
                let step = Step {
                    moments,
                    with,
                    step,
                };
                Ok(var.inplace_op2(grad, &step)?)
            }
            Kind::Composed { first, second } => Ok(composed(var, grad, first, second, with, step)?),
        }
    }
}

fn on_cpu(tensor: &Tensor) -> Result<CpuStorage> {
    let (storage, _) = tensor.storage_and_layout();
    match &*storage {
        candle_core::Storage::Cpu(storage) => Ok(storage.clone()),
        _ => unreachable!("made on the CPU"),
    }
}

/// One step, in place.
struct Step<'a> {
    moments: RefCell<(&'a mut CpuStorage, &'a mut CpuStorage)>,
    with: &'a AdamWOptions,
    step: usize,
}

impl Step<'_> {
    fn run<T: Element>(
        &self,
        (parameter, first, second): (&mut [T], &mut [T], &mut [T]),
        layout: &Layout,
        (grad, its): (&[T], &Layout),
    ) -> candle_core::Result<()> {
        let (from, to) = layout
            .contiguous_offsets()
            .ok_or(candle_core::Error::RequiresContiguous { op: OP })?;
        let state = adamw::Moments {
            parameter: &mut parameter[from..to],
            first,
            second,
        };
        let its = candle_mps_cpu::Layout::new(its.dims(), its.stride(), its.start_offset());
        its.and_then(|its| adamw::adamw(state, (grad, &its), self.step, self.with))
            .map_err(candle_core::Error::wrap)
    }
}

impl InplaceOp2 for Step<'_> {
    fn name(&self) -> &'static str {
        OP
    }

    fn cpu_fwd(
        &self,
        parameter: &mut CpuStorage,
        layout: &Layout,
        grad: &CpuStorage,
        its: &Layout,
    ) -> candle_core::Result<()> {
        calls::count(const { calls::place(OP) });
        let mut moments = self.moments.borrow_mut();
        let (first, second) = &mut *moments;
        macro_rules! of {
            ($($variant:ident)*) => {
                match (parameter, &mut **first, &mut **second, grad) {
                    $((
                        CpuStorage::$variant(parameter),
                        CpuStorage::$variant(first),
                        CpuStorage::$variant(second),
                        CpuStorage::$variant(grad),
                    ) => self.run((parameter, first, second), layout, (grad, its)),)*
                    (parameter, _, _, grad) => {
                        use candle_core::backend::BackendStorage;
                        Err(Error::DTypeMismatch {
                            op: OP,
                            left: parameter.dtype(),
                            right: grad.dtype(),
                        }
                        .into())
                    }
                }
            };
        }
        of!(F32 F64 F16 BF16)
    }
}

/// The same with Candle's own ops.
fn composed(
    var: &Var,
    grad: &Tensor,
    first: &Var,
    second: &Var,
    with: &AdamWOptions,
    step: usize,
) -> candle_core::Result<()> {
    let mean =
        |old: &Var, new: &Tensor, beta: f64| (old.as_tensor() * beta)? + (new * (1. - beta))?;
    let unbiased = |mean: &Tensor, beta: f64| mean / (1. - beta.powf(step as f64));
    let m = mean(first, grad, with.beta1)?;
    let v = mean(second, &grad.sqr()?, with.beta2)?;
    let by = (unbiased(&m, with.beta1)? / (unbiased(&v, with.beta2)?.sqrt()? + with.eps)?)?;
    let kept = (var.as_tensor() * (1. - with.lr * with.weight_decay))?;
    var.set(&(kept - (by * with.lr)?)?)?;
    first.set(&m)?;
    second.set(&v)
}

#[cfg(test)]
mod tests {
    use candle_core::DType;

    use super::*;

    /// The formula in f64, element by element.
    fn exact(
        [theta, m, v]: [&mut f64; 3],
        g: f64,
        AdamWOptions {
            lr,
            beta1,
            beta2,
            eps,
            weight_decay,
        }: AdamWOptions,
        t: i32,
    ) {
        *m = beta1 * *m + (1. - beta1) * g;
        *v = beta2 * *v + (1. - beta2) * g * g;
        let by = (*m / (1. - beta1.powi(t))) / ((*v / (1. - beta2.powi(t))).sqrt() + eps);
        *theta = *theta * (1. - lr * weight_decay) - lr * by;
    }

    const WITH: AdamWOptions = AdamWOptions {
        lr: 0.1,
        beta1: 0.8,
        beta2: 0.95,
        eps: 1e-6,
        weight_decay: 0.2,
    };

    /// Steps with transposed gradients, fused or composed, beside the formula.
    fn against_f64(dtype: DType, bound: f64, fused: bool) {
        let values = |scale: f64| (0..15).map(move |at| scale * f64::from(at * 7 % 11 - 5));
        let start: Vec<f64> = values(0.3).collect();
        let on = |values: &[f64], dims: (usize, usize)| {
            let all = Tensor::from_slice(values, dims, &Device::Cpu);
            all.unwrap().to_dtype(dtype).unwrap()
        };
        let var = Var::from_tensor(&on(&start, (5, 3))).unwrap();
        let mut moments = AdamWMoments::new(&var).unwrap();
        if !fused {
            let zeros = || Var::from_tensor(&var.zeros_like().unwrap()).unwrap();
            moments = AdamWMoments(Kind::Composed {
                first: zeros(),
                second: zeros(),
            });
        }
        let mut state: Vec<_> = start.into_iter().map(|theta| (theta, 0., 0.)).collect();
        for t in 1..=4 {
            let turned: Vec<f64> = values(0.1 * t as f64).collect();
            let grad = on(&turned, (3, 5)).t().unwrap();
            moments.step(&var, &grad, &WITH, t).unwrap();
            for (at, (theta, m, v)) in state.iter_mut().enumerate() {
                exact([theta, m, v], turned[at % 3 * 5 + at / 3], WITH, t as i32);
            }
        }
        let got = var.to_dtype(DType::F64).unwrap().flatten_all().unwrap();
        for (got, (exact, ..)) in got.to_vec1::<f64>().unwrap().iter().zip(state) {
            assert!(
                (got - exact).abs() <= bound,
                "{dtype:?}: {got}, not {exact}"
            );
        }
    }

    #[test]
    fn steps_are_those_of_the_formula() {
        for (dtype, bound) in [
            (DType::F64, 1e-12),
            (DType::F32, 1e-5),
            (DType::F16, 2e-2),
            (DType::BF16, 1e-1),
        ] {
            against_f64(dtype, bound, true);
            against_f64(dtype, bound, false);
        }
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let var = Var::zeros((2, 3), DType::F32, &Device::Cpu).unwrap();
        let zeros = |dims: &[usize], dtype| Tensor::zeros(dims, dtype, &Device::Cpu).unwrap();
        let mut moments = AdamWMoments::new(&var).unwrap();
        let mut step = |grad: Tensor, step| {
            let result = moments.step(&var, &grad, &WITH, step);
            result.map_err(|error| error.to_string())
        };
        step(zeros(&[2, 3], DType::F32), 1).unwrap();
        let part = |result: std::result::Result<(), String>, part: &str| {
            let message = result.unwrap_err();
            assert!(message.contains(part), "{message}");
        };
        part(step(zeros(&[3, 2], DType::F32), 1), "[3, 2]");
        part(step(zeros(&[2, 3], DType::F16), 1), "F16");
        part(step(zeros(&[2, 3], DType::F32), 0), "count steps from 1");
        let other = Var::zeros(6, DType::F32, &Device::Cpu).unwrap();
        let wrong = moments.step(&other, &zeros(&[6], DType::F32), &WITH, 1);
        part(wrong.map_err(|error| error.to_string()), "another variable");
    }
}
