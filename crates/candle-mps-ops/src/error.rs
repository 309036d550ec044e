//! What the ops refuse, and what Candle and MPS report beneath them.

use candle_core::{DType, DeviceLocation, Shape};

/// The result of a fallible call in this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What to do about a tensor that is not on Metal.
const TO_METAL: &str = if cfg!(feature = "metal") {
    "move it with Tensor::to_device to a device of candle_mps::metal::device(0), or use Candle's \
     own op"
} else {
    "build with the feature `metal` on a Mac and move it to a Metal device, or use Candle's own op"
};

/// Everything that can go wrong in an op.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An op of MPS was called with a tensor of the CPU or of CUDA.
    #[error("{op}: {operand} is on {device:?}, MPS works on Metal tensors only: {TO_METAL}")]
    NotOnMetal {
        /// The op.
        op: &'static str,
        /// Which tensor.
        operand: &'static str,
        /// Where it is.
        device: DeviceLocation,
    },

    /// The tensors belong to different Candle devices. Two of them may be the same GPU.
    #[error(
        "{op}: the tensors are on different devices ({left:?} and {right:?}): create both with \
         clones of one Device, or move one with Tensor::to_device"
    )]
    DeviceMismatch {
        /// The op.
        op: &'static str,
        /// Device of the first tensor.
        left: DeviceLocation,
        /// Device of the second tensor.
        right: DeviceLocation,
    },

    /// MPS does not compute with this element type.
    #[error("{op}: {operand} is {dtype:?}, which MPS does not support: {remedy}")]
    UnsupportedDType {
        /// The op.
        op: &'static str,
        /// Which tensor.
        operand: &'static str,
        /// Its element type.
        dtype: DType,
        /// What to do about it.
        remedy: &'static str,
    },

    /// The tensors have different element types.
    #[error("{op}: left is {left:?}, right is {right:?}: convert one with Tensor::to_dtype")]
    DTypeMismatch {
        /// The op.
        op: &'static str,
        /// Element type of the first tensor.
        left: DType,
        /// Element type of the second tensor.
        right: DType,
    },

    /// A tensor has too few dimensions.
    #[error(
        "{op}: {operand} has shape {shape:?}, at least {needed} dimension(s) are needed: add one \
         with Tensor::unsqueeze"
    )]
    Rank {
        /// The op.
        op: &'static str,
        /// Which tensor.
        operand: &'static str,
        /// Its shape.
        shape: Shape,
        /// The smallest rank that works.
        needed: usize,
    },

    /// The shapes of two tensors do not go together.
    #[error("{op}: {left:?} and {right:?} do not go together: {why}")]
    Shapes {
        /// The op.
        op: &'static str,
        /// Shape of the first tensor.
        left: Shape,
        /// Shape of the second tensor.
        right: Shape,
        /// Which dimensions, and what to do.
        why: &'static str,
    },

    /// A tensor without elements, where a matrix is asked for.
    #[error("{op}: {operand} has shape {shape:?} and so no elements: there is nothing to wrap")]
    Empty {
        /// The op.
        op: &'static str,
        /// Which tensor.
        operand: &'static str,
        /// Its shape.
        shape: Shape,
    },

    /// MPS cannot address a tensor with these strides, and the call may not copy it. The functions
    /// of [`ops`](crate::ops) copy such a tensor themselves.
    #[error(
        "{op}: {operand} of shape {shape:?} has strides {strides:?}, which MPS cannot address: \
         call Tensor::contiguous first"
    )]
    Strides {
        /// The op.
        op: &'static str,
        /// Which tensor.
        operand: &'static str,
        /// Its shape.
        shape: Shape,
        /// Its strides, in elements.
        strides: Vec<usize>,
    },

    /// An op that computes with floats got something else.
    #[error(
        "{op}: {operand} is {dtype:?}, which is not one of f32, f64, f16 and bf16: convert it with \
         Tensor::to_dtype"
    )]
    NotFloat {
        /// The op.
        op: &'static str,
        /// Which tensor.
        operand: &'static str,
        /// Its element type.
        dtype: DType,
    },

    /// The operands of an op have different element types.
    #[error(
        "{op}: {operand} is {dtype:?} and {first} is {expected:?}: convert one with \
         Tensor::to_dtype"
    )]
    OperandDType {
        /// The op.
        op: &'static str,
        /// Which tensor.
        operand: &'static str,
        /// Its element type.
        dtype: DType,
        /// The tensor that it has to agree with.
        first: &'static str,
        /// The element type of that one.
        expected: DType,
    },

    /// Indices are not integers of a type that can be read.
    #[error(
        "{op}: {operand} is {dtype:?}, indices are u8, u32 or i64: convert it with Tensor::to_dtype"
    )]
    NotIndex {
        /// The op.
        op: &'static str,
        /// Which tensor.
        operand: &'static str,
        /// Its element type.
        dtype: DType,
    },

    /// A target is not a class.
    #[error(
        "{op}: targets[{at}] is {target}, the logits have {classes} classes: count from 0, or pass \
         the value to cross_entropy_with as the one to ignore"
    )]
    NoSuchClass {
        /// The op.
        op: &'static str,
        /// The target's place, in row-major order.
        at: usize,
        /// The target.
        target: i64,
        /// The number of classes.
        classes: usize,
    },

    /// An operand has a shape that the op or the other operands do not allow.
    #[error("{op}: {operand} has shape {shape:?}, {needed}")]
    OperandShape {
        /// The op.
        op: &'static str,
        /// Which tensor.
        operand: &'static str,
        /// Its shape.
        shape: Shape,
        /// What it should be, and what to do.
        needed: String,
    },

    /// A dimension was asked for that the tensor does not have.
    #[error(
        "{op}: x has shape {shape:?} and no such dimension ({source}): count from 0, or from the \
         end with D::Minus1"
    )]
    Dim {
        /// The op.
        op: &'static str,
        /// The tensor's shape.
        shape: Shape,
        /// What Candle says about the dimension.
        source: Box<candle_core::Error>,
    },

    /// There is no GPU of that number.
    #[error("there is no Metal device {ordinal}, this system has {available}: count from 0")]
    NoSuchDevice {
        /// The number that was asked for.
        ordinal: usize,
        /// How many there are.
        available: usize,
    },

    /// The environment variable that chooses routes on Metal names none of ours, mps and candle.
    #[error(
        "{variable}: no route is called `{route}`: use ours, mps or candle, for all ops or as \
         OP=ROUTE with commas between"
    )]
    Route {
        /// The variable.
        variable: &'static str,
        /// What stands there.
        route: String,
    },

    /// The environment variable that chooses routes on Metal names an op that there is not.
    #[error(
        "{variable}: no op with routes is called `{op}`: use one of {known}, or a route alone for all"
    )]
    RouteOf {
        /// The variable.
        variable: &'static str,
        /// What stands there.
        op: String,
        /// What could.
        known: String,
    },

    /// A tensor on Metal has more rows or columns than 32 bits count.
    #[error("a tensor of shape {shape:?} is too long for a kernel: work on parts of it")]
    TooLong {
        /// Its shape.
        shape: Shape,
    },

    /// The system allows a kernel fewer threads than it is called with.
    #[error(
        "Metal kernel {kernel}: {threads} threads in a threadgroup, and this GPU allows it {most}: please \
         report it, and set CANDLE_MPS_ROUTE=candle"
    )]
    Threads {
        /// Its name.
        kernel: &'static str,
        /// How many it takes.
        threads: usize,
        /// How many it may.
        most: usize,
    },

    /// A kernel of ours did not compile, or the system refused to make a pipeline of it.
    #[error("Metal kernel {kernel}: {what}: please report it, and set CANDLE_MPS_ROUTE=candle")]
    Kernel {
        /// Its name.
        kernel: String,
        /// What Metal says.
        what: String,
    },

    /// Candle failed underneath an op.
    #[error(transparent)]
    Candle(#[from] candle_core::Error),

    /// A kernel of the CPU refused an argument.
    #[error(transparent)]
    Cpu(#[from] candle_mps_cpu::Error),

    /// MPS refused or failed underneath an op.
    #[cfg(feature = "metal")]
    #[error("{op}: {source}")]
    Mps {
        /// The op.
        op: &'static str,
        /// What happened.
        source: safe_mps::Error,
    },
}

impl Error {
    /// For `map_err` on calls into `safe-mps`.
    #[cfg(feature = "metal")]
    pub(crate) fn mps(op: &'static str) -> impl Fn(safe_mps::Error) -> Self + Copy {
        move |source| Self::Mps { op, source }
    }
}

/// So that `?` works in functions that return Candle's result. The text stays the same.
impl From<Error> for candle_core::Error {
    fn from(error: Error) -> Self {
        match error {
            Error::Candle(error) => error,
            error => Self::Wrapped(Box::new(error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn to_candle_and_back_keeps_the_text() {
        let error = || Error::DTypeMismatch {
            op: "op",
            left: DType::F32,
            right: DType::F16,
        };
        let text = error().to_string();
        let candle = candle_core::Error::from(error());
        assert_eq!(candle.to_string(), text);
        assert_eq!(Error::from(candle).to_string(), text);
    }

    #[test]
    fn an_error_of_the_cpu_keeps_its_source() {
        let cpu = candle_mps_cpu::Error::Axis {
            op: "softmax",
            axis: 2,
            rank: 1,
        };
        let error = Error::from(cpu.clone());
        assert_eq!(error.to_string(), cpu.to_string());
        assert!(matches!(&error, Error::Cpu(inside) if *inside == cpu));
        assert_eq!(candle_core::Error::from(error).to_string(), cpu.to_string());
    }

    #[test]
    fn an_error_of_candle_passes_through() {
        let candle = || candle_core::Error::EmptyTensor { op: "op" };
        let there_and_back = candle_core::Error::from(Error::from(candle()));
        assert!(matches!(
            there_and_back,
            candle_core::Error::EmptyTensor { op: "op" }
        ));
    }
}
