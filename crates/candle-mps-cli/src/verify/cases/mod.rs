//! What is verified: one list of ops, each with its variants, and for each variant how to draw a case:
//! shapes, our function, and the same computed by Candle's basic ops, which all have a backward.

mod attention;
mod gated;
mod loss;
mod norms;
mod products;
mod rope;
mod softmax;

pub use products::product;

use candle_core::{Result, Tensor};

use super::random::Random;

/// From operands to a result.
pub type Function = Box<dyn Fn(&[Tensor]) -> Result<Tensor>>;

/// An op of ours.
pub struct Op {
    /// As the function is named.
    pub name: &'static str,
    /// Each seed runs all of them.
    pub variants: &'static [Variant],
}

/// A way to call an op.
pub struct Variant {
    /// What is special about it; nothing for an op that is called in one way.
    pub name: &'static str,
    pub draw: fn(&mut Random) -> Case,
}

/// A call of an op with shapes; the numbers are drawn later, for each type.
pub struct Case {
    pub operands: Vec<Operand>,
    pub ours: Function,
    pub oracle: Function,
    pub scale: Scale,
}

/// An operand of a float type.
pub struct Operand {
    pub name: &'static str,
    pub shape: Vec<usize>,
    /// Whether it wants a gradient.
    pub trained: bool,
}

/// What an error is a part of.
pub enum Scale {
    /// The largest expected element of the tensor, or 1.
    Largest,
    /// For sums of products: the function on absolute values, element by element. Its gradients are the
    /// scales of the gradients, where they are sums of products as well.
    Magnitude { of: Function, backward: bool },
}

impl Case {
    /// A case whose operands are all trained and whose scale is the usual one.
    pub fn new(
        operands: Vec<(&'static str, Vec<usize>)>,
        ours: impl Fn(&[Tensor]) -> Result<Tensor> + 'static,
        oracle: impl Fn(&[Tensor]) -> Result<Tensor> + 'static,
    ) -> Self {
        let trained = |(name, shape)| Operand {
            name,
            shape,
            trained: true,
        };
        Self {
            operands: operands.into_iter().map(trained).collect(),
            ours: Box::new(ours),
            oracle: Box::new(oracle),
            scale: Scale::Largest,
        }
    }

    /// The operands from this one on are constants.
    fn frozen_from(mut self, first: usize) -> Self {
        for operand in &mut self.operands[first..] {
            operand.trained = false;
        }
        self
    }

    /// A sum of products: errors are measured by `magnitude` of the absolute values.
    pub fn measured_by(
        mut self,
        magnitude: impl Fn(&[Tensor]) -> Result<Tensor> + 'static,
        backward: bool,
    ) -> Self {
        self.scale = Scale::Magnitude {
            of: Box::new(magnitude),
            backward,
        };
        self
    }
}

/// Every function of `candle_mps::ops` that is not of MPS; AdamW, which has no graph, is in `adamw.rs`.
pub static OPS: &[Op] = &[
    softmax::SOFTMAX,
    softmax::SOFTMAX_LAST_DIM,
    softmax::LOG_SOFTMAX,
    norms::RMS_NORM,
    norms::RMS_NORM_NO_WEIGHT,
    norms::LAYER_NORM,
    rope::ROPE,
    rope::ROPE_I,
    rope::ROPE_THD,
    attention::ATTENTION,
    attention::FLASH_ATTENTION,
    gated::SWIGLU,
    gated::GEGLU,
    gated::GEGLU_ERF,
    products::MATMUL,
    products::LINEAR,
    products::LINEAR_WITH,
    products::LINEAR_ADD,
    products::LORA,
    products::LORA_DELTA,
    loss::CROSS_ENTROPY,
    loss::CROSS_ENTROPY_WITH,
];

/// A way to call an op, in the lists of the files beside this one.
const fn variant(name: &'static str, draw: fn(&mut Random) -> Case) -> Variant {
    Variant { name, draw }
}

/// Dimensions of any number in front of the last.
fn rows(random: &mut Random, width: usize) -> Vec<usize> {
    let mut shape = random.front();
    shape.push(width);
    shape
}
