//! From a Candle layout to MPS matrices, without copying.
//!
//! Candle gives every dimension its own stride. An `MPSMatrix` has rows of adjacent elements, one
//! stride between rows and one between matrices. So the last two dimensions must have one of
//! stride 1: the last (rows as they are), or the one before (the matrix is stored transposed,
//! which a product can be told). The dimensions in front become a batch if one stride describes
//! them, and one encode each if not. What remains, such as rows that a broadcast repeats, has to
//! be copied with `Tensor::contiguous`.

use candle_core::{DType, Layout, MetalStorage, Tensor};
use safe_mps::{Buffer, DataType, Matrix, MatrixDescriptor};

use super::stream;
use crate::error::{Error, Result};

/// A tensor as a batch of matrices. Counts and strides are in elements.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Operand {
    /// Rows and columns as stored: swapped if `transposed`.
    rows: usize,
    columns: usize,
    row_stride: usize,
    pub(crate) transposed: bool,
    start: usize,
    batch_dims: Vec<usize>,
    batch_strides: Vec<usize>,
}

impl Operand {
    /// The last two dimensions as matrices. `None` if MPS cannot address them, or if the rank is
    /// below 2 or a size 0. Transposed storage counts as addressable only if `may_transpose`.
    pub(crate) fn matrices(layout: &Layout, may_transpose: bool) -> Option<Self> {
        let (dims, strides) = (layout.dims(), layout.stride());
        let at = dims.len().checked_sub(2)?;
        if layout.shape().elem_count() == 0 {
            return None;
        }
        let (rows, columns) = (dims[at], dims[at + 1]);
        let (down, across) = (strides[at], strides[at + 1]);
        let batch = |rows, columns, row_stride, transposed| Self {
            rows,
            columns,
            row_stride,
            transposed,
            start: layout.start_offset(),
            batch_dims: dims[..at].to_vec(),
            batch_strides: strides[..at].to_vec(),
        };
        if let Some(row_stride) = row_stride(rows, columns, down, across) {
            return Some(batch(rows, columns, row_stride, false));
        }
        let row_stride = row_stride(columns, rows, across, down).filter(|_| may_transpose)?;
        Some(batch(columns, rows, row_stride, true))
    }

    /// The last dimension as rows and everything in front of it as their number, if one stride
    /// leads from each row to the next.
    pub(crate) fn rows(layout: &Layout) -> Option<Self> {
        let (dims, strides) = (layout.dims(), layout.stride());
        let at = dims.len().checked_sub(1)?;
        if layout.shape().elem_count() == 0 {
            return None;
        }
        let rows = dims[..at].iter().product();
        let down = common_stride(&dims[..at], &strides[..at])?;
        Some(Self {
            rows,
            columns: dims[at],
            row_stride: row_stride(rows, dims[at], down, strides[at])?,
            transposed: false,
            start: layout.start_offset(),
            batch_dims: vec![],
            batch_strides: vec![],
        })
    }

    /// How many matrices there are.
    pub(crate) fn count(&self) -> usize {
        self.batch_dims.iter().product()
    }

    /// Whether one MPS matrix can stand for the whole batch.
    pub(crate) fn is_regular(&self) -> bool {
        self.count() == 1 || self.batch_strides().is_some()
    }

    /// The strides between rows and between matrices, if MPS accepts the latter: a multiple of
    /// the former, and no overlap. A single row may claim any stride, so it takes that one.
    fn batch_strides(&self) -> Option<(usize, usize)> {
        let stride = common_stride(&self.batch_dims, &self.batch_strides)?;
        if self.rows == 1 {
            return (stride >= self.columns).then_some((stride, stride));
        }
        let fits = stride >= self.rows.checked_mul(self.row_stride)?
            && stride.is_multiple_of(self.row_stride);
        fits.then_some((self.row_stride, stride))
    }

    /// All matrices as one batch; for operands that are regular.
    pub(crate) fn batch(&self, buffer: &Buffer, data_type: DataType) -> safe_mps::Result<Matrix> {
        let Some((row_stride, stride)) = self.batch_strides().filter(|_| self.count() > 1) else {
            return self.single(buffer, data_type, 0);
        };
        let size = data_type.size_in_bytes();
        let descriptor = MatrixDescriptor::new(self.rows, self.columns, data_type)?
            .with_row_bytes(row_stride.saturating_mul(size))?
            .with_matrices(self.count(), stride.saturating_mul(size))?;
        Matrix::from_buffer(buffer, self.start.saturating_mul(size), descriptor)
    }

    /// One matrix, counted in the order of the batch dimensions.
    pub(crate) fn single(
        &self,
        buffer: &Buffer,
        data_type: DataType,
        index: usize,
    ) -> safe_mps::Result<Matrix> {
        let mut rest = index;
        let mut start = self.start;
        for (dim, stride) in self.batch_dims.iter().zip(&self.batch_strides).rev() {
            start += rest % dim * stride;
            rest /= dim;
        }
        let size = data_type.size_in_bytes();
        let descriptor = MatrixDescriptor::new(self.rows, self.columns, data_type)?
            .with_row_bytes(self.row_stride.saturating_mul(size))?;
        Matrix::from_buffer(buffer, start.saturating_mul(size), descriptor)
    }
}

/// The distance between rows of `columns` adjacent elements, if that is what the strides describe.
fn row_stride(rows: usize, columns: usize, down: usize, across: usize) -> Option<usize> {
    let adjacent = across == 1 || columns == 1;
    match (adjacent, rows) {
        (true, 1) => Some(columns),
        (true, _) if down >= columns => Some(down),
        _ => None,
    }
}

/// The one stride that walks through all of `dims` in order, if there is one.
fn common_stride(dims: &[usize], strides: &[usize]) -> Option<usize> {
    let mut long = dims.iter().zip(strides).filter(|&(&dim, _)| dim > 1).rev();
    let Some((&dim, &innermost)) = long.next() else {
        // A single element: no step is ever taken, and this one fits any shape of it.
        return Some(1);
    };
    let mut next = innermost.checked_mul(dim)?;
    for (&dim, &stride) in long {
        if stride != next {
            return None;
        }
        next = next.checked_mul(dim)?;
    }
    Some(innermost)
}

/// What `safe-mps` calls a Candle element type.
pub(crate) fn data_type(op: &'static str, operand: &'static str, dtype: DType) -> Result<DataType> {
    Ok(match dtype {
        DType::F32 => DataType::F32,
        DType::F16 => DataType::F16,
        DType::BF16 => DataType::BF16,
        DType::U8 => DataType::U8,
        DType::U32 => DataType::U32,
        DType::I16 => DataType::I16,
        DType::I32 => DataType::I32,
        _ => {
            let remedy = "convert it to f32 or f16 with Tensor::to_dtype";
            return Err(Error::UnsupportedDType {
                op,
                operand,
                dtype,
                remedy,
            });
        }
    })
}

/// The tensor itself if `describe` can describe its layout, otherwise a contiguous copy of it.
pub(crate) fn addressable(
    tensor: &Tensor,
    describe: impl Fn(&Layout) -> Option<Operand>,
) -> Result<Tensor> {
    let empty = tensor.elem_count() == 0;
    if empty || describe(tensor.layout()).is_some() {
        Ok(tensor.clone())
    } else {
        Ok(tensor.contiguous()?)
    }
}

/// The error for a layout that cannot be described.
pub(crate) fn strides_error(op: &'static str, operand: &'static str, layout: &Layout) -> Error {
    let (shape, strides) = (layout.shape().clone(), layout.stride().to_vec());
    Error::Strides {
        op,
        operand,
        shape,
        strides,
    }
}

/// What an op on `storage` needs of one operand.
pub(crate) struct Bound {
    pub(crate) operand: Operand,
    pub(crate) buffer: Buffer,
    pub(crate) data_type: DataType,
}

impl Bound {
    pub(crate) fn new(operand: Operand, storage: &MetalStorage, data_type: DataType) -> Self {
        Self {
            operand,
            buffer: stream::buffer(storage),
            data_type,
        }
    }

    /// The whole batch if `step` is `None`, one matrix of it otherwise.
    pub(crate) fn at(&self, step: Option<usize>) -> safe_mps::Result<Matrix> {
        match step {
            None => self.operand.batch(&self.buffer, self.data_type),
            Some(index) => self.operand.single(&self.buffer, self.data_type, index),
        }
    }
}

/// The encodes that a set of operands takes: one for all if every one of them is regular.
pub(crate) fn steps(operands: &[&Bound]) -> Vec<Option<usize>> {
    if operands.iter().all(|bound| bound.operand.is_regular()) {
        vec![None]
    } else {
        (0..operands
            .iter()
            .map(|bound| bound.operand.count())
            .min()
            .unwrap_or(0))
            .map(Some)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Shape;

    use super::*;

    fn layout(dims: &[usize], strides: &[usize], start: usize) -> Layout {
        Layout::new(Shape::from(dims), strides.to_vec(), start)
    }

    /// Rows, columns, row stride and whether they are stored transposed.
    fn stored(dims: &[usize], strides: &[usize]) -> Option<(usize, usize, usize, bool)> {
        Operand::matrices(&layout(dims, strides, 0), true)
            .map(|o| (o.rows, o.columns, o.row_stride, o.transposed))
    }

    #[test]
    fn rows_columns_and_their_transposes() {
        assert_eq!(stored(&[2, 3], &[3, 1]), Some((2, 3, 3, false)));
        assert_eq!(stored(&[2, 3], &[8, 1]), Some((2, 3, 8, false)));
        assert_eq!(stored(&[2, 3], &[1, 2]), Some((3, 2, 2, true)));
        assert_eq!(stored(&[2, 3], &[1, 9]), Some((3, 2, 9, true)));
        let transposed = Operand::matrices(&layout(&[2, 3], &[1, 2], 0), false);
        assert_eq!(transposed, None);
    }

    #[test]
    fn a_single_row_or_column_has_any_stride() {
        assert_eq!(stored(&[1, 3], &[77, 1]), Some((1, 3, 3, false)));
        assert_eq!(stored(&[3, 1], &[4, 77]), Some((3, 1, 4, false)));
        // A row whose elements are apart is a column that is stored as such.
        assert_eq!(stored(&[1, 3], &[77, 5]), Some((3, 1, 5, true)));
        assert_eq!(stored(&[1, 1], &[0, 0]), Some((1, 1, 1, false)));
    }

    #[test]
    fn what_needs_a_copy() {
        // Repeated rows, overlapping rows, gaps between elements in both directions.
        assert_eq!(stored(&[2, 3], &[0, 1]), None);
        assert_eq!(stored(&[2, 3], &[2, 1]), None);
        assert_eq!(stored(&[2, 3], &[6, 2]), None);
        assert_eq!(stored(&[3], &[1]), None);
        assert_eq!(stored(&[0, 3], &[3, 1]), None);
    }

    #[test]
    fn regular_batches() {
        let regular = |dims: &[usize], strides: &[usize]| {
            let operand = Operand::matrices(&layout(dims, strides, 0), true).unwrap();
            (operand.count(), operand.is_regular())
        };
        assert_eq!(regular(&[2, 3], &[3, 1]), (1, true));
        assert_eq!(regular(&[5, 2, 3], &[6, 3, 1]), (5, true));
        assert_eq!(regular(&[4, 5, 2, 3], &[30, 6, 3, 1]), (20, true));
        // A dimension of 1 is no step; its stride says nothing.
        assert_eq!(regular(&[4, 1, 2, 3], &[6, 99, 3, 1]), (4, true));
        // Permuted, broadcast, and no whole number of rows apart.
        assert_eq!(regular(&[5, 4, 2, 3], &[6, 30, 3, 1]), (20, false));
        assert_eq!(regular(&[5, 2, 3], &[0, 3, 1]), (5, false));
        assert_eq!(regular(&[5, 2, 3], &[10, 4, 1]), (5, false));
        // One row each may be any distance apart.
        assert_eq!(regular(&[5, 1, 3], &[7, 3, 1]), (5, true));
        assert_eq!(regular(&[5, 1, 3], &[2, 3, 1]), (5, false));
    }

    #[test]
    fn rows_of_any_rank() {
        let rows = |dims: &[usize], strides: &[usize]| {
            Operand::rows(&layout(dims, strides, 3)).map(|o| (o.rows, o.columns, o.row_stride))
        };
        assert_eq!(rows(&[7], &[1]), Some((1, 7, 7)));
        assert_eq!(rows(&[2, 3, 7], &[21, 7, 1]), Some((6, 7, 7)));
        assert_eq!(rows(&[2, 3, 7], &[30, 10, 1]), Some((6, 7, 10)));
        assert_eq!(rows(&[3, 2, 7], &[7, 21, 1]), None);
        assert_eq!(rows(&[3, 7], &[1, 3]), None);
        assert_eq!(rows(&[3, 7], &[0, 1]), None);
        assert_eq!(rows(&[], &[]), None);
    }

    /// The matrices of a layout hold what walking the layout index by index finds.
    #[test]
    fn matrices_hold_what_the_layout_says() {
        let device = safe_mps::Device::system_default().unwrap();
        let buffer = device
            .new_buffer(4 * 400, safe_mps::Storage::Shared)
            .unwrap();
        let numbers: Vec<u32> = (0..400).collect();
        buffer.write::<u32>().unwrap().copy_from_slice(&numbers);
        for (dims, strides) in [
            (vec![3, 2, 4], vec![8, 4, 1]),
            (vec![2, 3, 2, 4], vec![72, 24, 12, 1]),
            (vec![3, 2, 2, 4], vec![8, 24, 4, 1]),
            (vec![3, 2, 4], vec![0, 5, 1]),
            (vec![3, 2, 4], vec![8, 1, 2]),
        ] {
            let layout = layout(&dims, &strides, 5);
            let operand = Operand::matrices(&layout, true).unwrap();
            let read = |matrix: Matrix| {
                let (rows, columns) = (matrix.rows(), matrix.columns());
                let elements = matrix.to_vec::<u32>().unwrap();
                if !operand.transposed {
                    return elements;
                }
                // Back to the order of the layout, matrix by matrix.
                let transpose = |one: &[u32]| -> Vec<u32> {
                    (0..columns)
                        .flat_map(|j| (0..rows).map(move |i| one[i * columns + j]))
                        .collect()
                };
                elements
                    .chunks(rows * columns)
                    .flat_map(transpose)
                    .collect()
            };
            let single = |index| read(operand.single(&buffer, DataType::U32, index).unwrap());
            let found: Vec<u32> = (0..operand.count()).flat_map(single).collect();
            let expected: Vec<u32> = positions(&layout);
            assert_eq!(found, expected, "{dims:?} {strides:?}");
            if operand.is_regular() {
                assert_eq!(
                    read(operand.batch(&buffer, DataType::U32).unwrap()),
                    expected
                );
            }
        }
    }

    /// Where each element lies, in the order of the indices, last one fastest.
    fn positions(layout: &Layout) -> Vec<u32> {
        let steps = |dim, stride| (0..dim).map(move |i| i * stride);
        layout
            .dims()
            .iter()
            .zip(layout.stride())
            .fold(vec![layout.start_offset()], |starts, (&dim, &stride)| {
                let inner = |start| steps(dim, stride).map(move |step| start + step);
                starts.into_iter().flat_map(inner).collect()
            })
            .into_iter()
            .map(|position| position as u32)
            .collect()
    }
}
