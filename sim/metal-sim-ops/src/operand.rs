//! What an op is called with.

use candle_core::{DType, Device, Result, Tensor, Var};

/// How large the operands are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scale {
    /// As the table of GPU work has them: enough that a byte too many is not lost in what is constant.
    Bench,
    /// As small as calls are that are made thousands of times.
    Small,
    /// Sizes that divide nothing, from few rows to rows that several simdgroups share; [`Scale::RAGGED`] of them.
    Ragged(usize),
    /// As small, and longer by so many: for calls of which none has the shape of another.
    Longer(usize),
}

impl Scale {
    /// How many ragged scales there are.
    pub const RAGGED: usize = 4;

    /// All ragged scales.
    pub fn ragged() -> impl Iterator<Item = Self> {
        (0..Self::RAGGED).map(Self::Ragged)
    }

    /// Dimensions: for the bench, for many calls, the ragged ones, and which of them are longer in [`Scale::Longer`].
    pub fn dims<const N: usize>(
        self,
        bench: [usize; N],
        small: [usize; N],
        ragged: [[usize; N]; Self::RAGGED],
        longer: &[usize],
    ) -> [usize; N] {
        match self {
            Self::Bench => bench,
            Self::Small => small,
            Self::Ragged(at) => ragged[at],
            Self::Longer(by) => {
                std::array::from_fn(|at| small[at] + if longer.contains(&at) { by } else { 0 })
            }
        }
    }
}

/// One argument.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operand {
    /// Numbers that want a gradient in training.
    Trained(Vec<usize>),
    /// Numbers that do not.
    Given(Vec<usize>),
    /// Indices below `classes`.
    Classes {
        /// How many indices.
        count: usize,
        /// Below what.
        classes: usize,
    },
    /// 1 where a query does not see a key, of so many: only Candle's side needs it.
    Hidden(usize),
}

impl Operand {
    /// Bytes that an op has to read.
    pub fn bytes(&self, dtype: DType) -> u64 {
        let bytes = match self {
            Self::Trained(dims) | Self::Given(dims) => {
                dims.iter().product::<usize>() * dtype.size_in_bytes()
            }
            Self::Classes { count, .. } => count * DType::U32.size_in_bytes(),
            Self::Hidden(_) => 0,
        };
        bytes as u64
    }

    /// As in `64x256`.
    pub fn shape(&self) -> String {
        let dims = match self {
            Self::Trained(dims) | Self::Given(dims) => dims.clone(),
            Self::Classes { count, .. } => vec![*count],
            Self::Hidden(count) => vec![*count, *count],
        };
        let dims: Vec<_> = dims.iter().map(usize::to_string).collect();
        dims.join("x")
    }

    fn tensor(&self, seed: usize, dtype: DType, device: &Device, train: bool) -> Result<Tensor> {
        match self {
            Self::Trained(dims) | Self::Given(dims) => {
                let count = dims.iter().product();
                let tensor = Tensor::from_vec(numbers(seed, count), dims.as_slice(), &Device::Cpu)?;
                let tensor = tensor.to_dtype(dtype)?.to_device(device)?;
                match (self, train) {
                    (Self::Trained(_), true) => Ok(Var::from_tensor(&tensor)?.into_inner()),
                    _ => Ok(tensor),
                }
            }
            Self::Classes { count, classes } => {
                let indices: Vec<u32> = (0..*count).map(|at| (at * 7 % classes) as u32).collect();
                Tensor::from_vec(indices, *count, device)
            }
            Self::Hidden(count) => {
                let all = (0..count * count).map(|at| u8::from(at % count > at / count));
                Tensor::from_vec(all.collect::<Vec<_>>(), (*count, *count), device)
            }
        }
    }
}

/// The operands as tensors, always the same. Those that are trained are variables if `train`.
pub fn tensors(
    operands: &[Operand],
    dtype: DType,
    device: &Device,
    train: bool,
) -> Result<Vec<Tensor>> {
    let numbered = operands.iter().enumerate();
    numbered
        .map(|(seed, operand)| operand.tensor(seed, dtype, device, train))
        .collect()
}

/// Between -1 and 1.
fn numbers(seed: usize, count: usize) -> Vec<f32> {
    let number = |at: usize| ((at * 37 + seed * 11) as f32 * 0.618).sin();
    (0..count).map(number).collect()
}
