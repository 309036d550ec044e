//! The ops, one per file, and the checks that they share.
//!
//! Each op is a function that checks everything before it computes. On the CPU the fused ops call
//! kernels that read every layout as it is, forward and backward; on Metal they encode kernels of their
//! own; on other devices they are compositions of Candle's ops. How they get into Candle's graph is in
//! `fused.rs`. The ops that end in
//! `_mps` run on Metal only; their structs are public for those who build ops of their own.

mod adamw;
pub(crate) mod attention;
pub(crate) mod calls;
pub(crate) mod cross_entropy;
pub(crate) mod fused;
pub(crate) mod geglu;
pub(crate) mod layer_norm;
pub(crate) mod linear;
mod log_softmax_mps;
pub(crate) mod lora;
pub(crate) mod matmul;
mod matmul_mps;
mod operand;
mod pack;
pub(crate) mod rms_norm;
pub(crate) mod rope;
pub(crate) mod softmax;
mod softmax_mps;
pub(crate) mod swiglu;

pub use adamw::{AdamWMoments, AdamWOptions};
pub use attention::{AttentionOptions, attention, flash_attention};
#[doc(hidden)]
pub use calls::calls;
pub use cross_entropy::{cross_entropy, cross_entropy_with};
pub use geglu::{geglu, geglu_erf};
pub use layer_norm::layer_norm;
pub use linear::{Activation, linear, linear_add, linear_with};
pub use log_softmax_mps::{LogSoftmaxMps, log_softmax_mps};
pub use lora::{lora, lora_delta};
pub use matmul::matmul;
pub use matmul_mps::{MatmulMps, matmul_mps};
pub use rms_norm::{rms_norm, rms_norm_no_weight};
pub use rope::{rope, rope_i, rope_thd};
pub use softmax::{log_softmax, softmax, softmax_last_dim};
pub use softmax_mps::{SoftmaxMps, softmax_mps};
pub use swiglu::swiglu;

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

/// Refuses a vector that has not one element for each of the last dimension of `x`.
fn check_last(op: &'static str, x: &Tensor, operand: &'static str, vector: &Tensor) -> Result<()> {
    let width = x.dims().last().copied().unwrap_or_default();
    if vector.dims() != [width] {
        let needed = format!(
            "[{width}] is needed, the last dimension of x, whose shape is {:?}: flatten it, or \
             transpose x",
            x.shape()
        );
        return Err(fused::bad_shape(op, operand, vector, needed));
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

#[cfg(test)]
mod tests {
    use super::*;

    fn cpu() -> Tensor {
        Tensor::zeros((2, 2), DType::F32, &Device::Cpu).unwrap()
    }

    #[test]
    fn a_tensor_of_the_cpu_is_an_error_that_says_what_to_do() {
        let x = cpu();
        let results =
            [matmul_mps(&x, &x), softmax_mps(&x), log_softmax_mps(&x)].map(Result::unwrap_err);
        for error in results {
            assert!(matches!(
                error,
                Error::NotOnMetal {
                    device: DeviceLocation::Cpu,
                    ..
                }
            ));
            assert!(
                error.to_string().contains("or use Candle's own op"),
                "{error}"
            );
        }
    }

    #[test]
    fn so_is_applying_the_op_itself() {
        let x = cpu();
        let results = [
            x.apply_op2(&x, MatmulMps),
            x.apply_op1(SoftmaxMps),
            x.apply_op1(LogSoftmaxMps),
        ];
        for error in results.map(candle_core::Result::unwrap_err) {
            assert!(
                error
                    .to_string()
                    .contains("MPS works on Metal tensors only"),
                "{error}"
            );
        }
    }

    #[test]
    fn types_and_ranks() {
        assert!(check_float("op", "x", DType::F16).is_ok());
        let brain = check_float("op", "x", DType::BF16).unwrap_err().to_string();
        assert!(brain.contains("MPS has no bf16 kernels"), "{brain}");
        let double = check_float("op", "x", DType::F64).unwrap_err().to_string();
        assert!(double.contains("convert it to f32 or f16"), "{double}");
        let flat = check_rank("op", "x", &Shape::from(3), 2)
            .unwrap_err()
            .to_string();
        assert!(flat.contains("[3]") && flat.contains("unsqueeze"), "{flat}");
    }
}
