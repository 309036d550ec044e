//! [`LoraLinear`]: a frozen linear layer with a trained low-rank part, y = x·Wᵀ + b + (α/r)·(x·Aᵀ)·Bᵀ.
//! <https://arxiv.org/abs/2106.09685>

use candle_core::{Module, ModuleT, Result, Tensor};
use candle_nn::{Dropout, Init, VarBuilder, init};

use super::Linear;
use crate::ops;

/// The size of a low-rank part, with the names of PEFT.
#[derive(Clone, Debug, PartialEq)]
pub struct LoraConfig {
    /// r: the columns of the bottleneck.
    pub rank: usize,
    /// α: the part is multiplied by α/r.
    pub alpha: f64,
    /// The share of x that training hides from the part; 0 hides nothing.
    pub dropout: f32,
}

impl Default for LoraConfig {
    fn default() -> Self {
        Self {
            rank: 8,
            alpha: 16.,
            dropout: 0.,
        }
    }
}

/// A linear layer that learns through two small matrices. Its weight and bias get no gradient.
///
/// `lora_A.weight`, `[rank, in]`, and `lora_B.weight`, `[out, rank]`, are in the `VarBuilder`: PEFT's names
/// and shapes, so that its checkpoints load. B starts as zeros, so the layer starts as what it was.
///
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use candle_mps::nn::{Linear, LoraConfig, LoraLinear, VarBuilder, VarMap};
///
/// # fn main() -> candle_core::Result<()> {
/// let base = Linear::new(Tensor::randn(0f32, 1., (6, 4), &Device::Cpu)?, None);
/// let adapters = VarMap::new();
/// let vb = VarBuilder::from_varmap(&adapters, DType::F32, &Device::Cpu);
/// let mut layer = LoraLinear::new(base, &LoraConfig::default(), vb.pp("q_proj"))?;
///
/// let x = Tensor::randn(0f32, 1., (2, 3, 4), &Device::Cpu)?;
/// let grads = layer.forward(&x)?.sqr()?.sum_all()?.backward()?;
/// candle_mps::check::grads(&adapters, &grads)?;
///
/// layer.merge()?; // as fast as the plain layer, and no longer trained
/// layer.unmerge();
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct LoraLinear {
    base: Linear,
    a: Tensor,
    b: Tensor,
    scaling: f64,
    dropout: Option<Dropout>,
    merged: Option<Linear>,
}

impl LoraLinear {
    /// A low-rank part beside `base`, which is frozen.
    ///
    /// # Errors
    /// When the rank is 0 or the dropout not in 0..1, and when `vb` has other shapes.
    pub fn new(base: Linear, config: &LoraConfig, vb: VarBuilder) -> Result<Self> {
        let LoraConfig {
            rank,
            alpha,
            dropout,
        } = *config;
        if rank == 0 {
            candle_core::bail!("LoraLinear: the rank is 0: choose one from 1 to 256");
        }
        if !(0. ..1.).contains(&dropout) {
            candle_core::bail!("LoraLinear: the dropout is {dropout}: choose one in 0..1");
        }
        let (outer, inner) = base.weight().dims2()?;
        let vb_of = |name: &str| vb.pp(name);
        let kaiming = init::DEFAULT_KAIMING_UNIFORM;
        let a = vb_of("lora_A").get_with_hints((rank, inner), "weight", kaiming)?;
        let b = vb_of("lora_B").get_with_hints((outer, rank), "weight", Init::Const(0.))?;
        let frozen = Linear::new(base.weight().detach(), base.bias().map(Tensor::detach));
        Ok(Self {
            base: frozen,
            a,
            b,
            scaling: alpha / rank as f64,
            dropout: (dropout > 0.).then(|| Dropout::new(dropout)),
            merged: None,
        })
    }

    /// The frozen layer.
    pub fn base(&self) -> &Linear {
        &self.base
    }

    /// A, `[rank, in]`, and B, `[out, rank]`.
    pub fn adapter(&self) -> (&Tensor, &Tensor) {
        (&self.a, &self.b)
    }

    /// α/r.
    pub fn scaling(&self) -> f64 {
        self.scaling
    }

    /// Whether [`merge`](Self::merge) holds.
    pub fn is_merged(&self) -> bool {
        self.merged.is_some()
    }

    /// Adds the part, as it is now, to a copy of the weight: inference then costs what the plain layer
    /// costs. Merged again, it takes the part anew.
    ///
    /// # Errors
    /// When Candle cannot multiply the two.
    pub fn merge(&mut self) -> Result<()> {
        let part = (self.b.detach().matmul(&self.a.detach())? * self.scaling)?;
        let weight = (self.base.weight() + part)?;
        self.merged = Some(Linear::new(weight, self.base.bias().cloned()));
        Ok(())
    }

    /// Takes that back, exactly: the weight was kept.
    pub fn unmerge(&mut self) {
        self.merged = None;
    }

    /// The merged layer, to save or to use without this type.
    ///
    /// # Errors
    /// As [`merge`](Self::merge).
    pub fn into_merged(mut self) -> Result<Linear> {
        self.merge()?;
        Ok(self.merged.unwrap_or(self.base))
    }

    /// The layer outside of training: nothing is hidden.
    ///
    /// # Errors
    /// When x does not fit.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        if let Some(merged) = &self.merged {
            return merged.forward(x);
        }
        let (w, bias) = (self.base.weight(), self.base.bias());
        Ok(ops::lora(
            x,
            w,
            bias,
            &self.a.t()?,
            &self.b.t()?,
            self.scaling,
        )?)
    }
}

/// A layer that may hide something in training is no `Module`, as candle_nn's batch norm is none.
impl ModuleT for LoraLinear {
    /// With `train`, the part sees x through the dropout. A merged layer cannot be trained.
    fn forward_t(&self, x: &Tensor, train: bool) -> Result<Tensor> {
        match (&self.dropout, train) {
            (_, true) if self.is_merged() => {
                candle_core::bail!("LoraLinear: merged layers are not trained: call unmerge first")
            }
            (Some(dropout), true) => {
                let seen = dropout.forward(x, true)?;
                let part = ops::lora_delta(&seen, &self.a.t()?, &self.b.t()?, self.scaling)?;
                self.base.forward(x)? + part
            }
            _ => self.forward(x),
        }
    }
}
