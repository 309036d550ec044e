//! The ops, one per file, and the checks that they share.
//!
//! Each op is a function that checks everything and applies the op's struct, and the struct, which
//! implements Candle's `CustomOp`. The structs are public for those who build ops of their own.

mod log_softmax_mps;
mod matmul_mps;
mod softmax_mps;

pub use log_softmax_mps::{LogSoftmaxMps, log_softmax_mps};
pub use matmul_mps::{MatmulMps, matmul_mps};
pub use softmax_mps::{SoftmaxMps, softmax_mps};

use candle_core::{DType, Device, DeviceLocation, Shape, Tensor};

use crate::error::{Error, Result};

/// Refuses tensors that are not on Metal.
fn check_on_metal(op: &'static str, operand: &'static str, tensor: &Tensor) -> Result<()> {
    match tensor.device() {
        Device::Metal(_) => Ok(()),
        other => Err(Error::NotOnMetal {
            op,
            operand,
            device: other.location(),
        }),
    }
}

/// Refuses element types that MPS does not compute with.
fn check_float(op: &'static str, operand: &'static str, dtype: DType) -> Result<()> {
    let remedy = match dtype {
        DType::F32 | DType::F16 => return Ok(()),
        DType::BF16 => {
            "MPS has no bf16 kernels: convert it to f16 or f32 with Tensor::to_dtype, or use \
             Candle's own op"
        }
        _ => "convert it to f32 or f16 with Tensor::to_dtype",
    };
    Err(Error::UnsupportedDType {
        op,
        operand,
        dtype,
        remedy,
    })
}

fn check_rank(op: &'static str, operand: &'static str, shape: &Shape, needed: usize) -> Result<()> {
    if shape.rank() < needed {
        return Err(Error::Rank {
            op,
            operand,
            shape: shape.clone(),
            needed,
        });
    }
    Ok(())
}

/// The answer of an op that was applied to a tensor of the CPU without asking its function.
fn not_on_cpu<T>(op: &'static str, operand: &'static str) -> candle_core::Result<T> {
    Err(Error::NotOnMetal {
        op,
        operand,
        device: DeviceLocation::Cpu,
    }
    .into())
}
