//! candle_nn's `optim`, with [`AdamW`] in one pass over each variable.

use candle_core::{Result, Var, backprop::GradStore};

use crate::ops::{AdamWMoments, AdamWOptions};

pub use candle_nn::optim::*;

/// candle_nn's AdamW: the same parameters and, but for rounding, the same steps.
#[derive(Debug)]
pub struct AdamW {
    vars: Vec<(Var, AdamWMoments)>,
    step: usize,
    params: ParamsAdamW,
}

impl AdamW {
    /// An optimiser with candle_nn's defaults but for the learning rate.
    pub fn new_lr(vars: Vec<Var>, learning_rate: f64) -> Result<Self> {
        let params = ParamsAdamW {
            lr: learning_rate,
            ..ParamsAdamW::default()
        };
        Self::new(vars, params)
    }

    /// The parameters.
    pub fn params(&self) -> &ParamsAdamW {
        &self.params
    }

    /// Other parameters, from the next step on.
    pub fn set_params(&mut self, params: ParamsAdamW) {
        self.params = params;
    }
}

impl Optimizer for AdamW {
    type Config = ParamsAdamW;

    fn new(vars: Vec<Var>, params: ParamsAdamW) -> Result<Self> {
        let floats = vars.into_iter().filter(|var| var.dtype().is_float());
        let vars = floats.map(|var| Ok((var.clone(), AdamWMoments::new(&var)?)));
        Ok(Self {
            vars: vars.collect::<Result<_>>()?,
            step: 0,
            params,
        })
    }

    fn learning_rate(&self) -> f64 {
        self.params.lr
    }

    fn set_learning_rate(&mut self, lr: f64) {
        self.params.lr = lr;
    }

    /// Changes each variable that has a gradient.
    fn step(&mut self, grads: &GradStore) -> Result<()> {
        self.step += 1;
        let &ParamsAdamW {
            lr,
            beta1,
            beta2,
            eps,
            weight_decay,
        } = &self.params;
        let options = AdamWOptions {
            lr,
            beta1,
            beta2,
            eps,
            weight_decay,
        };
        for (var, moments) in &mut self.vars {
            if let Some(grad) = grads.get(var) {
                moments.step(var, grad, &options, self.step)?;
            }
        }
        Ok(())
    }
}
