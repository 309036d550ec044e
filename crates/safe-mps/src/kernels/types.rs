//! Which element types go together. Anything that is not in these tables is an assertion in MPS.

use crate::data_type::DataType;
use crate::error::{Error, Result};
use crate::matrix::Matrix;

/// The types that MPS multiplies.
pub(super) fn check_product(
    op: &'static str,
    left: DataType,
    right: DataType,
    result: DataType,
) -> Result<()> {
    use DataType::{BF16, F16, F32, I8, I16};
    let remedy = match (left, right, result) {
        (F32, F32 | F16, F32) | (F16, F16, F16 | F32) | (I8, I8, F16 | F32) | (I16, I16, F32) => {
            return Ok(());
        }
        (BF16, _, _) | (_, BF16, _) | (_, _, BF16) => {
            "MPS has no bf16 product: convert to f16 or f32"
        }
        (F32, F32 | F16, _) => "a product of f32 needs an f32 result",
        (I16, I16, _) => "a product of i16 needs an f32 result",
        (F16, F16, _) | (I8, I8, _) => "the result must be f16 or f32",
        (F16, F32, _) => {
            "only the right matrix may be f16 when the other is f32: convert one of them"
        }
        (F32 | F16 | I8 | I16, F32 | F16 | I8 | I16, _) => {
            "left and right must have the same type: convert one of them"
        }
        _ => "inputs must be f32, f16, i8 or i16: convert them",
    };
    let operands = format!("left {left}, right {right} -> result {result}");
    Err(Error::DataTypes {
        op,
        operands,
        remedy,
    })
}

/// The types of kernels that work row by row: all operands have that of the result, and it is f32
/// or f16.
pub(super) fn check_rows(
    op: &'static str,
    inputs: &[(&'static str, &Matrix)],
    result: &Matrix,
) -> Result<()> {
    let type_of_result = result.data_type();
    let remedy = if !matches!(type_of_result, DataType::F32 | DataType::F16) {
        "convert the operands to f32 or f16"
    } else if inputs
        .iter()
        .any(|(_, input)| input.data_type() != type_of_result)
    {
        "all operands must have the same type: convert them to that of the result"
    } else {
        return Ok(());
    };
    let inputs: Vec<_> = inputs
        .iter()
        .map(|(name, input)| format!("{name} {}", input.data_type()))
        .collect();
    let operands = format!("{} -> result {type_of_result}", inputs.join(", "));
    Err(Error::DataTypes {
        op,
        operands,
        remedy,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_that_mps_multiplies() {
        use DataType::*;
        let works = [
            (F32, F32, F32),
            (F16, F16, F16),
            (F16, F16, F32),
            (F32, F16, F32),
            (I8, I8, F16),
            (I8, I8, F32),
            (I16, I16, F32),
        ];
        for left in DataType::ALL {
            for right in DataType::ALL {
                for result in DataType::ALL {
                    let expected = works.contains(&(left, right, result));
                    let got = check_product("product", left, right, result);
                    assert_eq!(got.is_ok(), expected, "{left} {right} {result}");
                    if left == BF16 {
                        assert!(
                            got.unwrap_err()
                                .to_string()
                                .contains("convert to f16 or f32")
                        );
                    }
                }
            }
        }
    }
}
