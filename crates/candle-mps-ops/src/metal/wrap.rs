//! A Candle tensor as an MPS matrix, for those who encode kernels themselves.
//!
//! Nothing is copied, so a tensor whose strides MPS cannot address is refused.

use candle_core::{Storage, Tensor};
use safe_mps::{DataType, Matrix};

use super::operand::{Operand, data_type, strides_error};
use super::stream;
use crate::error::{Error, Result};

/// Says whether [`matrix`] can wrap the tensor, and if not, what to do.
pub fn check(op: &'static str, tensor: &Tensor) -> Result<()> {
    describe(op, tensor).map(drop)
}

/// The tensor's last two dimensions as an MPS matrix, the dimensions in front as its batch, on the
/// tensor's own memory. The matrix keeps that memory alive; kernels may read it, not write it.
///
/// Waits for Candle's work so far, so that the elements are there.
pub fn matrix(op: &'static str, tensor: &Tensor) -> Result<Matrix> {
    let (operand, data_type) = describe(op, tensor)?;
    let (storage, _) = tensor.storage_and_layout();
    let Storage::Metal(storage) = &*storage else {
        return Err(not_on_metal(op, tensor));
    };
    stream::settle(storage)?;
    operand
        .batch(&stream::buffer(storage).read_only(), data_type)
        .map_err(Error::mps(op))
}

fn describe(op: &'static str, tensor: &Tensor) -> Result<(Operand, DataType)> {
    let operand = "the tensor";
    if !tensor.device().is_metal() {
        return Err(not_on_metal(op, tensor));
    }
    let data_type = data_type(op, operand, tensor.dtype())?;
    let shape = tensor.shape().clone();
    if tensor.rank() < 2 {
        return Err(Error::Rank {
            op,
            operand,
            shape,
            needed: 2,
        });
    }
    if tensor.elem_count() == 0 {
        return Err(Error::Empty { op, operand, shape });
    }
    Operand::matrices(tensor.layout(), false)
        .filter(Operand::is_regular)
        .map(|described| (described, data_type))
        .ok_or_else(|| strides_error(op, operand, tensor.layout()))
}

fn not_on_metal(op: &'static str, tensor: &Tensor) -> Error {
    Error::NotOnMetal {
        op,
        operand: "the tensor",
        device: tensor.device().location(),
    }
}
