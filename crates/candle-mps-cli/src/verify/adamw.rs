//! Steps of `nn::AdamW` against its formula in f64. It changes variables in place and has no gradient.

use candle_core::{DType, Device, Result, Tensor, Var};
use candle_mps::nn::{AdamW, Optimizer, ParamsAdamW};

use super::check::{Passed, compare};
use super::compare::{Scales, bound, values};
use super::exact::Expected;
use super::panics::answer;
use super::random::Random;
use crate::results::Pass;

pub const NAME: &str = "AdamW";

const STEPS: i32 = 3;

/// Three steps on a variable, with gradients in one of two layouts.
pub fn check(dtype: DType, random: &mut Random) -> (Vec<usize>, Passed) {
    let shape = vec![random.between(1, 9), random.width()];
    let passed = Passed::of(answer(|| steps(&shape, dtype, random)));
    (shape, passed)
}

fn steps(shape: &[usize], dtype: DType, random: &mut Random) -> Result<Passed> {
    let params = ParamsAdamW {
        lr: 0.01,
        weight_decay: if random.chance() { 0.1 } else { 0. },
        ..ParamsAdamW::default()
    };
    let start = random.tensor(shape, dtype)?;
    let var = Var::from_tensor(&start.to_dtype(dtype)?)?;
    let mut optimizer = AdamW::new(vec![var.clone()], params.clone())?;
    let mut exact = Exact::new(values(&start)?, params);
    for step in 1..=STEPS {
        // Squares of small gradients would vanish in f16, in which their mean is kept.
        let slopes: Vec<f64> = (0..start.elem_count())
            .map(|_| random.away_from_zero())
            .collect();
        let slopes = Tensor::from_vec(slopes, shape, &Device::Cpu)?.to_dtype(dtype)?;
        exact.step(&values(&slopes)?, step);
        // The gradient of a linear layer's weight often comes transposed.
        let loss = if random.chance() {
            (var.t()? * slopes.t()?)?
        } else {
            (var.as_tensor() * slopes)?
        };
        optimizer.step(&loss.sum_all()?.backward()?)?;
    }
    let expected = Expected {
        shape: shape.to_vec(),
        scales: Scales::largest(&exact.parameter),
        values: exact.parameter,
    };
    let bound = bound(dtype, Pass::Step);
    compare("the variable", &var, dtype, &expected, bound)
}

/// The optimizer in f64.
struct Exact {
    parameter: Vec<f64>,
    first: Vec<f64>,
    second: Vec<f64>,
    params: ParamsAdamW,
}

impl Exact {
    fn new(parameter: Vec<f64>, params: ParamsAdamW) -> Self {
        let zeros = vec![0.; parameter.len()];
        Self {
            first: zeros.clone(),
            second: zeros,
            parameter,
            params,
        }
    }

    fn step(&mut self, slopes: &[f64], step: i32) {
        let ParamsAdamW {
            lr,
            beta1,
            beta2,
            eps,
            weight_decay,
        } = self.params;
        for (at, slope) in slopes.iter().enumerate() {
            let (first, second) = (&mut self.first[at], &mut self.second[at]);
            *first = beta1 * *first + (1. - beta1) * slope;
            *second = beta2 * *second + (1. - beta2) * slope * slope;
            let mean = *first / (1. - beta1.powi(step));
            let spread = (*second / (1. - beta2.powi(step))).sqrt();
            let parameter = &mut self.parameter[at];
            *parameter = *parameter * (1. - lr * weight_decay) - lr * mean / (spread + eps);
        }
    }
}
