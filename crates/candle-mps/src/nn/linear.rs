//! [`Linear`]: y = x·Wᵀ + b in one pass, for x of any rank and any strides.

use candle_core::{Module, Result, Tensor};
use candle_nn::{Init, VarBuilder, init};

/// A linear layer, with candle_nn's names: `weight` is `[out, in]`, `bias` `[out]`.
#[derive(Clone, Debug)]
pub struct Linear {
    weight: Tensor,
    bias: Option<Tensor>,
}

impl Linear {
    /// A layer of these tensors.
    pub fn new(weight: Tensor, bias: Option<Tensor>) -> Self {
        Self { weight, bias }
    }

    /// The weight, `[out, in]`.
    pub fn weight(&self) -> &Tensor {
        &self.weight
    }

    /// The bias, `[out]`.
    pub fn bias(&self) -> Option<&Tensor> {
        self.bias.as_ref()
    }
}

impl Module for Linear {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        Ok(crate::ops::linear(x, &self.weight, self.bias.as_ref())?)
    }
}

/// A layer whose `weight` and `bias` come from `vb`, which may initialise them as candle_nn's does.
pub fn linear(in_dim: usize, out_dim: usize, vb: VarBuilder) -> Result<Linear> {
    let weight = weight(in_dim, out_dim, &vb)?;
    let bound = 1. / (in_dim as f64).sqrt();
    let bias = Init::Uniform {
        lo: -bound,
        up: bound,
    };
    let bias = vb.get_with_hints(out_dim, "bias", bias)?;
    Ok(Linear::new(weight, Some(bias)))
}

/// A layer without a bias, whose `weight` comes from `vb`.
pub fn linear_no_bias(in_dim: usize, out_dim: usize, vb: VarBuilder) -> Result<Linear> {
    Ok(Linear::new(weight(in_dim, out_dim, &vb)?, None))
}

/// [`linear`] or [`linear_no_bias`].
pub fn linear_b(in_dim: usize, out_dim: usize, bias: bool, vb: VarBuilder) -> Result<Linear> {
    if bias {
        linear(in_dim, out_dim, vb)
    } else {
        linear_no_bias(in_dim, out_dim, vb)
    }
}

fn weight(in_dim: usize, out_dim: usize, vb: &VarBuilder) -> Result<Tensor> {
    vb.get_with_hints((out_dim, in_dim), "weight", init::DEFAULT_KAIMING_NORMAL)
}
