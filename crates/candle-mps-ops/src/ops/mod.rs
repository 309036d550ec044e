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
