//! The ops of MPS on a Metal device, forward and backward, against f64 on the processor. The device gets
//! tensors, seen through views, and gives tensors; nothing else of Candle's runs on it, so that an error
//! is one of MPS or of ours.

use candle_core::{CustomOp1, CustomOp2, D, DType, Device, Result, Tensor};
use candle_mps::ops::{self, LogSoftmaxMps, MatmulMps, SoftmaxMps};

use super::cases::{Case, product};
use super::check::{Passed, compare};
use super::compare;
use super::exact::{Drawn, Expected, exact};
use super::panics::answer;
use super::random::Random;
use super::tail::Tail;
use crate::results::Pass;

/// What MPS computes with.
pub const DTYPES: [DType; 2] = [DType::F32, DType::F16];

/// The deepest product that is drawn.
const DEPTH: usize = 24;

/// From operands, result and its gradient to the gradients of the operands.
type Backward = fn(&[Tensor], &Tensor, &Tensor) -> Result<Vec<Option<Tensor>>>;

/// An op of MPS.
pub struct MpsOp {
    /// As the function is named.
    pub name: &'static str,
    pub draw: fn(&mut Random) -> Case,
    /// Whether columns may lie behind each other instead of rows.
    transposed: bool,
    backward: Backward,
    /// What f16 results may be off: how MPS sums and exponentiates in f16, Apple does not say.
    half: f64,
}

pub static OPS: [MpsOp; 3] = [
    MpsOp {
        name: "matmul_mps",
        draw: |random| {
            let batch = batch(random);
            let [m, k, n] = [0; 3].map(|_| random.between(1, DEPTH));
            let shape = |rows, columns| [&batch[..], &[rows, columns]].concat();
            Case::new(
                vec![("left", shape(m, k)), ("right", shape(k, n))],
                |x| Ok(ops::matmul_mps(&x[0], &x[1])?),
                |x| product(&x[0], &x[1]),
            )
            .measured_by(|x| product(&x[0], &x[1]), true)
        },
        transposed: true,
        backward: |x, y, gradient| {
            let (left, right) = MatmulMps.bwd(&x[0], &x[1], y, gradient)?;
            Ok(vec![left, right])
        },
        // Each of the sums, the products and the last store may round to f16.
        half: (DEPTH + 2) as f64 / 2048.,
    },
    MpsOp {
        name: "softmax_mps",
        draw: |random| {
            Case::new(
                vec![("x", rows(random))],
                |x| Ok(ops::softmax_mps(&x[0])?),
                |x| candle_nn::ops::softmax(&x[0], D::Minus1),
            )
        },
        transposed: false,
        backward: |x, y, gradient| Ok(vec![SoftmaxMps.bwd(&x[0], y, gradient)?]),
        half: 4e-3,
    },
    MpsOp {
        name: "log_softmax_mps",
        draw: |random| {
            Case::new(
                vec![("x", rows(random))],
                |x| Ok(ops::log_softmax_mps(&x[0])?),
                |x| candle_nn::ops::log_softmax(&x[0], D::Minus1),
            )
        },
        transposed: false,
        backward: |x, y, gradient| Ok(vec![LogSoftmaxMps.bwd(&x[0], y, gradient)?]),
        half: 4e-3,
    },
];

/// Dimensions in front of the matrices: none, one or two.
fn batch(random: &mut Random) -> Vec<usize> {
    (0..random.below(3)).map(|_| random.between(1, 3)).collect()
}

fn rows(random: &mut Random) -> Vec<usize> {
    let mut shape = batch(random);
    shape.extend([random.between(1, 9), random.between(1, 40)]);
    shape
}

impl MpsOp {
    /// How far a result may be from the exact one, as a part of its scale.
    pub fn bound(&self, dtype: DType, pass: Pass) -> f64 {
        let usual = compare::bound(dtype, pass);
        match (dtype, pass) {
            (DType::F16, Pass::Backward) => usual.max(8. * self.half),
            (DType::F16, _) => usual.max(self.half),
            _ => usual,
        }
    }

    /// One case, forward and backward.
    pub fn check(
        &self,
        case: &Case,
        dtype: DType,
        device: &Device,
        random: &mut Random,
    ) -> [Passed; 2] {
        let whole = match answer(|| self.whole(case, dtype, random)) {
            Ok(whole) => whole,
            Err(why) => {
                let why = Passed::Failed(format!("Candle's own composition in f64 failed: {why}"));
                return [why.clone(), why];
            }
        };
        let computed = answer(|| {
            let arguments = whole.operands.iter().map(|it| upload(it, dtype, device));
            let arguments = arguments.collect::<Result<Vec<_>>>()?;
            let result = (case.ours)(&arguments)?;
            Ok::<_, candle_core::Error>((arguments, result))
        });
        let (arguments, result) = match computed {
            Ok(computed) => computed,
            Err(why) => return [Passed::Failed(why.clone()), Passed::Failed(why)],
        };
        let forward = answer(|| {
            let bound = self.bound(dtype, Pass::Forward);
            compare("the result", &result, dtype, &whole.result, bound)
        });
        let backward = answer(|| {
            let gradient = upload(&whole.weights, dtype, device)?;
            let gradients = (self.backward)(&arguments, &result, &gradient)?;
            self.backward(case, dtype, &gradients, &whole.gradients)
        });
        [Passed::of(forward), Passed::of(backward)]
    }

    fn whole(&self, case: &Case, dtype: DType, random: &mut Random) -> Result<Whole> {
        let draw = |shape: &[usize], random: &mut Random| -> Result<Drawn> {
            let view = random.matrices(shape, self.transposed);
            Ok(Drawn {
                base: random.tensor(&view.base(), dtype)?,
                view: Some(view),
                trained: true,
            })
        };
        let operands = case.operands.iter().map(|it| draw(&it.shape, random));
        let operands = operands.collect::<Result<Vec<_>>>()?;
        // MPS gives the gradients of what it saw, not of the tensors underneath.
        let seen = operands.iter().map(|operand| {
            Ok(Drawn {
                base: operand.of(&operand.base)?.contiguous()?,
                view: None,
                trained: true,
            })
        });
        let seen = seen.collect::<Result<Vec<_>>>()?;
        let weights = draw(&super::exact::shape(case, &seen)?, random)?;
        let gradient = weights.of(&weights.base)?;
        let (result, gradients) = exact(case, &seen, (&Tail::None, &gradient), dtype)?;
        Ok(Whole {
            operands,
            weights,
            result,
            gradients,
        })
    }

    fn backward(
        &self,
        case: &Case,
        dtype: DType,
        gradients: &[Option<Tensor>],
        expected: &[Expected],
    ) -> Result<Passed> {
        let mut largest = 0f64;
        for ((operand, gradient), expected) in case.operands.iter().zip(gradients).zip(expected) {
            let Some(gradient) = gradient else {
                let why = format!("no gradient arrives at {}", operand.name);
                return Ok(Passed::Failed(why));
            };
            let what = format!("the gradient of {}", operand.name);
            let bound = self.bound(dtype, Pass::Backward);
            match compare(&what, gradient, dtype, expected, bound)? {
                Passed::Within(error) => largest = largest.max(error),
                beyond => return Ok(beyond),
            }
        }
        Ok(Passed::Within(largest))
    }
}

/// A case with its numbers and what is to come of them.
struct Whole {
    operands: Vec<Drawn>,
    weights: Drawn,
    result: Expected,
    gradients: Vec<Expected>,
}

/// The operand on the device, through the view that it is seen by.
fn upload(operand: &Drawn, dtype: DType, device: &Device) -> Result<Tensor> {
    operand.of(&operand.base.to_dtype(dtype)?.to_device(device)?)
}
