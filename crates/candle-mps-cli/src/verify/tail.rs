//! What happens to a result before it is weighed and summed up: it decides in which layout the gradient
//! arrives at the op.

use candle_core::{Result, Tensor};

use super::random::Random;

/// From a result to what is weighed.
pub enum Tail {
    /// The gradient is contiguous.
    #[cfg(feature = "metal")]
    None,
    /// The gradient has strides.
    Permuted(Vec<usize>),
    /// The gradient repeats elements along a dimension.
    Summed(usize),
}

impl Tail {
    /// A tail for a result of so many dimensions.
    pub fn draw(random: &mut Random, rank: usize) -> Self {
        if rank > 0 && random.below(3) == 0 {
            return Self::Summed(random.below(rank));
        }
        let mut order: Vec<usize> = (0..rank).collect();
        for at in 1..rank {
            order.swap(at, random.below(at + 1));
        }
        Self::Permuted(order)
    }

    /// The shape of what is weighed.
    pub fn shape(&self, result: &[usize]) -> Vec<usize> {
        match self {
            #[cfg(feature = "metal")]
            Self::None => result.to_vec(),
            Self::Permuted(order) => order.iter().map(|&axis| result[axis]).collect(),
            Self::Summed(dim) => {
                let mut shape = result.to_vec();
                shape[*dim] = 1;
                shape
            }
        }
    }

    pub fn of(&self, result: &Tensor) -> Result<Tensor> {
        match self {
            #[cfg(feature = "metal")]
            Self::None => Ok(result.clone()),
            Self::Permuted(order) => result.permute(&order[..]),
            Self::Summed(dim) => result.sum_keepdim(*dim),
        }
    }
}
