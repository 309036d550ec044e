//! What kernels of the CPU see of a tensor: its storage as a slice, and its layout as it is.

use std::borrow::Cow;

use candle_core::{CpuStorage, Layout, Storage, Tensor, WithDType};
use candle_mps_cpu::matmul::Factor;

use crate::error::{Error, Result};

/// The element types that the ops compute with: f32, f64, f16 and bf16.
pub(super) trait Float: WithDType + Factor {}

impl<T: WithDType + Factor> Float for T {}

/// Calls a generic function with the element type that `dtype` stands for.
macro_rules! with_float {
    ($op:expr, $operand:expr, $dtype:expr, $function:ident($($argument:expr),* $(,)?)) => {
        match $dtype {
            candle_core::DType::F32 => $function::<f32>($($argument),*),
            candle_core::DType::F64 => $function::<f64>($($argument),*),
            candle_core::DType::F16 => $function::<half::f16>($($argument),*),
            candle_core::DType::BF16 => $function::<half::bf16>($($argument),*),
            dtype => Err($crate::error::Error::NotFloat {
                op: $op,
                operand: $operand,
                dtype,
            }),
        }
    };
}
pub(super) use with_float;

/// A tensor's whole storage, and where its elements lie in it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Operand<'a, T> {
    pub data: &'a [T],
    pub layout: &'a Layout,
}

impl<'a, T: Float> Operand<'a, T> {
    pub fn new(storage: &'a CpuStorage, layout: &'a Layout) -> Result<Self> {
        let data = T::cpu_storage_as_slice(storage)?;
        Ok(Self { data, layout })
    }

    pub fn dims(&self) -> &'a [usize] {
        self.layout.dims()
    }

    /// The layout in the form that kernels take.
    pub fn view(&self) -> Result<candle_mps_cpu::Layout<'a>> {
        view(self.layout)
    }

    /// The slice and its layout, as kernels take them.
    pub fn pair(&self) -> Result<(&'a [T], candle_mps_cpu::Layout<'a>)> {
        Ok((self.data, self.view()?))
    }

    /// The elements in row-major order, copied only if they do not lie so. For weights and biases,
    /// which are one row, and where no strides express what is needed.
    pub fn elements(&self) -> Result<Cow<'a, [T]>> {
        elements(self.data, self.layout)
    }
}

/// The layout in the form that kernels take.
pub(super) fn view(layout: &Layout) -> Result<candle_mps_cpu::Layout<'_>> {
    Ok(candle_mps_cpu::Layout::new(
        layout.dims(),
        layout.stride(),
        layout.start_offset(),
    )?)
}

/// The elements of a view in row-major order, copied only if they do not lie so.
pub(super) fn elements<'a, T: Float>(data: &'a [T], layout: &Layout) -> Result<Cow<'a, [T]>> {
    let its = view(layout)?;
    its.check("elements", "operand", data.len())?;
    Ok(match its.as_slice(data) {
        Some(elements) => Cow::Borrowed(elements),
        None => Cow::Owned(gathered(data, layout)),
    })
}

/// The elements of a view that has some and no rank of 0, line by line.
fn gathered<T: Copy>(data: &[T], layout: &Layout) -> Vec<T> {
    let (dims, strides) = (layout.dims(), layout.stride());
    let (Some((&width, dims)), Some((&step, strides))) = (dims.split_last(), strides.split_last())
    else {
        return Vec::new();
    };
    let mut all = Vec::with_capacity(layout.shape().elem_count());
    let (mut place, mut start) = (vec![0; dims.len()], layout.start_offset());
    loop {
        all.extend((0..width).map(|at| data[start + at * step]));
        // The next line: the last dimension that has more counts on, those after it start again.
        let Some(axis) = (0..dims.len()).rfind(|&axis| place[axis] + 1 < dims[axis]) else {
            return all;
        };
        for after in axis + 1..dims.len() {
            start -= place[after] * strides[after];
            place[after] = 0;
        }
        place[axis] += 1;
        start += strides[axis];
    }
}

/// A view as a matrix: its last dimension is the columns, all others together the rows. Copied only
/// if no two strides express it.
pub(super) fn rows<'a, T: Float>(data: &'a [T], layout: &Layout) -> Result<(Cow<'a, [T]>, Layout)> {
    let ((front, columns), (strides, step)) =
        match (layout.dims().split_last(), layout.stride().split_last()) {
            (Some((&columns, front)), Some((&step, strides))) => {
                ((front, columns), (strides, step))
            }
            _ => (([].as_slice(), 1), ([].as_slice(), 1)),
        };
    let shape = (front.iter().product::<usize>(), columns);
    Ok(match merged(front, strides) {
        Some(stride) => {
            let folded = Layout::new(shape.into(), vec![stride, step], layout.start_offset());
            (Cow::Borrowed(data), folded)
        }
        None => (elements(data, layout)?, Layout::contiguous(shape)),
    })
}

/// The one stride of dimensions that follow each other at it.
pub(super) fn merged(dims: &[usize], strides: &[usize]) -> Option<usize> {
    let mut one = None;
    for (&dim, &stride) in dims.iter().zip(strides).rev().filter(|(dim, _)| **dim != 1) {
        let next = stride.checked_mul(dim)?;
        match one {
            None => one = Some((stride, next)),
            Some((first, expected)) if expected == stride => one = Some((first, next)),
            Some(_) => return None,
        }
    }
    Some(one.map_or(0, |(first, _)| first))
}

/// The storage of a tensor of the CPU.
pub(super) fn cpu_storage<'a>(
    op: &'static str,
    tensor: &Tensor,
    storage: &'a Storage,
) -> Result<&'a CpuStorage> {
    match storage {
        Storage::Cpu(storage) => Ok(storage),
        _ => Err(Error::DeviceMismatch {
            op,
            left: candle_core::DeviceLocation::Cpu,
            right: tensor.device().location(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dimensions_that_follow_each_other_merge() {
        assert_eq!(merged(&[2, 3], &[12, 4]), Some(4));
        assert_eq!(merged(&[3, 2], &[4, 12]), None);
        assert_eq!(merged(&[2, 1, 3], &[6, 99, 2]), Some(2));
        assert_eq!(merged(&[2, 3], &[0, 0]), Some(0));
        assert_eq!(merged(&[2, 3], &[0, 1]), None);
        assert_eq!(merged(&[1, 1], &[5, 7]), Some(0));
        assert_eq!(merged(&[], &[]), Some(0));
        assert_eq!(merged(&[2, 3], &[1, usize::MAX]), None);
    }

    #[test]
    fn rows_are_the_same_elements() {
        let data: Vec<f32> = (0..24).map(|value| value as f32).collect();
        let plain = Layout::contiguous((2, 3, 4));
        for layout in [
            plain.clone(),
            plain.narrow(2, 1, 2).unwrap(),
            plain.transpose(0, 1).unwrap(),
            plain.transpose(1, 2).unwrap(),
            plain.narrow(0, 1, 1).unwrap(),
        ] {
            let (elements_of_rows, folded) = rows(&data, &layout).unwrap();
            assert_eq!(folded.dims().len(), 2);
            assert_eq!(
                elements(&elements_of_rows, &folded).unwrap(),
                elements(&data, &layout).unwrap()
            );
        }
    }
}
