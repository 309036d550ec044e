//! [`LayerNorm`] and [`RmsNorm`], fused in both directions and for any strides.

use candle_core::{Module, Result, Tensor};
use candle_nn::{Init, VarBuilder};

pub use candle_nn::LayerNormConfig;

/// Layer normalisation over the last dimension, or without its mean: RMS normalisation.
#[derive(Clone, Debug)]
pub struct LayerNorm {
    weight: Tensor,
    bias: Option<Tensor>,
    remove_mean: bool,
    eps: f64,
}

impl LayerNorm {
    /// (x − mean) / √(variance + ε) · weight + bias.
    pub fn new(weight: Tensor, bias: Tensor, eps: f64) -> Self {
        Self {
            weight,
            bias: Some(bias),
            remove_mean: true,
            eps,
        }
    }

    /// Without a bias.
    pub fn new_no_bias(weight: Tensor, eps: f64) -> Self {
        Self {
            weight,
            bias: None,
            remove_mean: true,
            eps,
        }
    }

    /// x / √(mean of squares + ε) · weight.
    pub fn rms_norm(weight: Tensor, eps: f64) -> Self {
        Self {
            weight,
            bias: None,
            remove_mean: false,
            eps,
        }
    }

    /// The weight.
    pub fn weight(&self) -> &Tensor {
        &self.weight
    }

    /// The bias.
    pub fn bias(&self) -> Option<&Tensor> {
        self.bias.as_ref()
    }

    /// ε.
    pub fn eps(&self) -> f64 {
        self.eps
    }

    /// Whether the mean is removed.
    pub fn remove_mean(&self) -> bool {
        self.remove_mean
    }
}

impl Module for LayerNorm {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let bias = self.bias.as_ref();
        if self.remove_mean {
            return Ok(crate::ops::layer_norm(x, &self.weight, bias, self.eps)?);
        }
        let y = crate::ops::rms_norm(x, &self.weight, self.eps)?;
        match bias {
            None => Ok(y),
            Some(bias) => y.broadcast_add(bias),
        }
    }
}

/// A layer whose `weight` (or `gamma`) and `bias` (or `beta`) come from `vb`.
pub fn layer_norm<C: Into<LayerNormConfig>>(
    size: usize,
    config: C,
    vb: VarBuilder,
) -> Result<LayerNorm> {
    let config = config.into();
    // Older checkpoints have other names; where there is neither, the usual one is made.
    let get = |names: [&str; 2], init| {
        let there = names.into_iter().find(|name| vb.contains_tensor(name));
        vb.get_with_hints(size, there.unwrap_or(names[0]), Init::Const(init))
    };
    Ok(LayerNorm {
        weight: get(["weight", "gamma"], 1.)?,
        bias: match config.affine {
            true => Some(get(["bias", "beta"], 0.)?),
            false => None,
        },
        remove_mean: config.remove_mean,
        eps: config.eps,
    })
}

/// A layer without a bias.
pub fn layer_norm_no_bias(size: usize, eps: f64, vb: VarBuilder) -> Result<LayerNorm> {
    let config = LayerNormConfig {
        eps,
        remove_mean: true,
        affine: false,
    };
    layer_norm(size, config, vb)
}

/// RMS normalisation over the last dimension.
#[derive(Clone, Debug)]
pub struct RmsNorm(LayerNorm);

impl RmsNorm {
    /// x / √(mean of squares + ε) · weight.
    pub fn new(weight: Tensor, eps: f64) -> Self {
        Self(LayerNorm::rms_norm(weight, eps))
    }

    /// The layer as a [`LayerNorm`] that removes no mean.
    pub fn into_inner(self) -> LayerNorm {
        self.0
    }

    /// The weight.
    pub fn weight(&self) -> &Tensor {
        self.0.weight()
    }

    /// ε.
    pub fn eps(&self) -> f64 {
        self.0.eps()
    }

    /// The same as `forward`, which trains as well here.
    pub fn forward_diff(&self, x: &Tensor) -> Result<Tensor> {
        self.0.forward(x)
    }
}

impl Module for RmsNorm {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.0.forward(x)
    }
}

/// RMS normalisation whose `weight` comes from `vb`.
pub fn rms_norm(size: usize, eps: f64, vb: VarBuilder) -> Result<RmsNorm> {
    let config = LayerNormConfig {
        eps,
        remove_mean: false,
        affine: false,
    };
    Ok(RmsNorm(layer_norm(size, config, vb)?))
}
