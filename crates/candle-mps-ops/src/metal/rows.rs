//! Kernels that work on each row by itself, such as softmax and its gradient: inputs and result
//! have one shape, and the last dimension is the row.

use candle_core::backend::BackendStorage;
use candle_core::{Layout, MetalStorage};
use safe_mps::{CommandBuffer, Device, Matrix};

use super::operand::{Bound, Operand, data_type, steps, strides_error};
use super::stream;
use crate::error::Result;

/// The rows of a tensor: all of them as one matrix, or else the last two dimensions as a batch.
pub(crate) fn describe(layout: &Layout) -> Option<Operand> {
    Operand::rows(layout).or_else(|| Operand::matrices(layout, false))
}

/// An input of such a kernel: its name, its elements and where they lie.
pub(crate) type Input<'a> = (&'static str, &'a MetalStorage, &'a Layout);

/// Runs the kernel that `build` makes over all rows; `encode` encodes it for some of them.
pub(crate) fn run<K, const N: usize>(
    op: &'static str,
    inputs: [Input<'_>; N],
    build: impl FnOnce(&Device) -> safe_mps::Result<K>,
    encode: impl Fn(
        &K,
        &CommandBuffer,
        [safe_mps::Result<Matrix>; N],
        &mut Matrix,
    ) -> safe_mps::Result<()>,
) -> Result<MetalStorage> {
    let (_, first, layout) = inputs[0];
    let (device, shape) = (first.device(), layout.shape());
    let result = stream::output(device, shape.elem_count(), first.dtype())?;
    if shape.elem_count() == 0 {
        return Ok(result);
    }
    let result_layout = Layout::contiguous(shape);
    let output = ("result", &result, &result_layout);
    // Either all operands are single matrices of rows, or all are batches of the same matrices.
    let collapse = inputs
        .iter()
        .chain([&output])
        .all(|(_, _, layout)| Operand::rows(layout).is_some());
    let bind = |(operand, storage, layout): Input<'_>| {
        let described = if collapse {
            Operand::rows(layout)
        } else {
            Operand::matrices(layout, false)
        };
        let described = described.ok_or_else(|| strides_error(op, operand, layout))?;
        Ok(Bound::new(
            described,
            storage,
            data_type(op, operand, storage.dtype())?,
        ))
    };
    let inputs = inputs.into_iter().map(bind).collect::<Result<Vec<_>>>()?;
    let output = bind(output)?;

    let steps = steps(&inputs.iter().chain([&output]).collect::<Vec<_>>());
    stream::blocking(op, device, |gpu, commands| {
        let kernel = build(gpu)?;
        for &step in &steps {
            let matrices = std::array::from_fn(|input| inputs[input].at(step));
            encode(&kernel, commands, matrices, &mut output.at(step)?)?;
        }
        Ok(())
    })?;
    Ok(result)
}
