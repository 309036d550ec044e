//! A model file written against candle_nn, with its one import changed.
//!
//!     cargo run -p candle-mps --example swap_one_import
//!
//! The line was `use candle_nn::{...};`. With candle_nn's own the norm's input gets no gradient: its
//! fused kernel has no backward.

use candle_core::{DType, Device, Module, Result, Tensor};
use candle_mps::nn::{self as candle_nn, Linear, RmsNorm, VarBuilder, VarMap};

/// The feed-forward part of a llama layer.
struct FeedForward {
    norm: RmsNorm,
    gate: Linear,
    up: Linear,
    down: Linear,
}

impl FeedForward {
    fn new(width: usize, vb: VarBuilder) -> Result<Self> {
        Ok(Self {
            norm: candle_nn::rms_norm(width, 1e-5, vb.pp("norm"))?,
            gate: candle_nn::linear_no_bias(width, 2 * width, vb.pp("gate"))?,
            up: candle_nn::linear_no_bias(width, 2 * width, vb.pp("up"))?,
            down: candle_nn::linear_no_bias(2 * width, width, vb.pp("down"))?,
        })
    }
}

impl Module for FeedForward {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let normed = self.norm.forward(x)?;
        let gated = (self.gate.forward(&normed)?.silu()? * self.up.forward(&normed)?)?;
        x + self.down.forward(&gated)?
    }
}

fn main() -> Result<()> {
    let varmap = VarMap::new();
    let vb = VarBuilder::from_varmap(&varmap, DType::F32, &Device::Cpu);
    let embedding = candle_nn::embedding(10, 16, vb.pp("embedding"))?;
    let layers = (0..2).map(|layer| FeedForward::new(16, vb.pp(format!("layers.{layer}"))));
    let layers = layers.collect::<Result<Vec<_>>>()?;

    let tokens = Tensor::new(&[[1u32, 2, 3], [4, 5, 6]], &Device::Cpu)?;
    let mut x = embedding.forward(&tokens)?;
    for layer in &layers {
        x = layer.forward(&x)?;
    }
    let grads = x.sqr()?.mean_all()?.backward()?;
    candle_mps::check::grads(&varmap, &grads)?;
    println!("all {} variables have a gradient", varmap.all_vars().len());
    Ok(())
}
