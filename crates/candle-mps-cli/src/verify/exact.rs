//! What an op ought to give: its composition of Candle's basic ops in f64, and what Candle's backward
//! makes of that, with the scales of both.

use candle_core::{DType, Result, Tensor, Var};

use super::cases::{Case, Function, Scale};
use super::compare::{Scales, values};
use super::random::View;
use super::tail::Tail;

/// A case's operand with its numbers.
pub struct Drawn {
    /// The numbers in f64, as the type has them.
    pub base: Tensor,
    /// How the op sees them.
    pub view: Option<View>,
    pub trained: bool,
}

impl Drawn {
    /// What the op is called with, given the tensor underneath.
    pub fn of(&self, base: &Tensor) -> Result<Tensor> {
        match &self.view {
            Some(view) => view.of(base),
            None => Ok(base.clone()),
        }
    }
}

/// What is expected of one tensor.
pub struct Expected {
    pub shape: Vec<usize>,
    pub values: Vec<f64>,
    pub scales: Scales,
}

/// The shape of a case's result.
pub fn shape(case: &Case, operands: &[Drawn]) -> Result<Vec<usize>> {
    let arguments: Result<Vec<_>> = operands.iter().map(|it| it.of(&it.base)).collect();
    Ok((case.oracle)(&arguments?)?.dims().to_vec())
}

/// The result, and the gradients of Σ weights · tail(result) with respect to the trained bases.
pub fn exact(
    case: &Case,
    operands: &[Drawn],
    (tail, weights): (&Tail, &Tensor),
    dtype: DType,
) -> Result<(Expected, Vec<Expected>)> {
    let (result, gradients) = derive(&case.oracle, operands, tail, weights, false)?;
    let usual = |tensor: &Tensor| -> Result<Expected> {
        let values = values(tensor)?;
        Ok(Expected {
            shape: tensor.dims().to_vec(),
            scales: Scales::largest(&values),
            values,
        })
    };
    let mut expected = usual(&result)?;
    let mut of_gradients = gradients.iter().map(usual).collect::<Result<Vec<_>>>()?;
    if let Scale::Magnitude { of, backward } = &case.scale {
        let (result, gradients) = derive(of, operands, tail, weights, true)?;
        expected.scales = Scales::each(values(&result)?, dtype);
        if *backward {
            for (expected, gradient) in of_gradients.iter_mut().zip(&gradients) {
                expected.scales = Scales::each(values(gradient)?, dtype);
            }
        }
    }
    Ok((expected, of_gradients))
}

fn derive(
    function: &Function,
    operands: &[Drawn],
    tail: &Tail,
    weights: &Tensor,
    absolute: bool,
) -> Result<(Tensor, Vec<Tensor>)> {
    let seen = |tensor: &Tensor| {
        if absolute {
            tensor.abs()
        } else {
            Ok(tensor.clone())
        }
    };
    let vars = operands
        .iter()
        .map(|operand| Var::from_tensor(&seen(&operand.base)?))
        .collect::<Result<Vec<_>>>()?;
    let arguments = operands
        .iter()
        .zip(&vars)
        .map(|(operand, var)| operand.of(var))
        .collect::<Result<Vec<_>>>()?;
    let result = function(&arguments)?;
    // Candle's ops refuse some gradients with strides; those of a reshape have none.
    let loss = (tail.of(&result.reshape(result.shape())?)? * seen(weights)?)?;
    let gradients = loss.sum_all()?.backward()?;
    let trained = operands.iter().zip(&vars).filter(|(it, _)| it.trained);
    let gradients = trained.map(|(_, var)| match gradients.get(var) {
        Some(gradient) => Ok(gradient.clone()),
        // Nothing of it is in the result.
        None => var.zeros_like(),
    });
    let gradients = gradients.collect::<Result<_>>()?;
    Ok((result, gradients))
}
