//! [`Matrix`]: a place in a buffer together with the description of what lies there.
//!
//! A matrix owns no elements; it and its views are handles of a buffer. That is why kernels check
//! at run time whether their result shares memory with an input: `&mut` on the handle alone could
//! not tell.

#![allow(unsafe_code)] // MPSMatrix's initialisers are bound as unsafe

use std::ops::Range;

use objc2::AllocAnyThread;
use objc2::rc::Retained;
use objc2_metal_performance_shaders::{MPSMatrix, MPSMatrixDescriptor};

use crate::buffer::{Buffer, Storage};
use crate::command_buffer::Use;
use crate::data_type::{DataType, Element};
use crate::descriptor::MatrixDescriptor;
use crate::device::Device;
use crate::error::{Error, Result};

/// A row-major matrix, or a batch of equal ones, in a [`Buffer`].
#[derive(Debug, Clone)]
pub struct Matrix {
    buffer: Buffer,
    offset: usize,
    descriptor: MatrixDescriptor,
}

impl Matrix {
    /// A tight matrix in a new shared buffer, with the elements of `data` row by row.
    pub fn from_slice<T: Element>(
        device: &Device,
        rows: usize,
        columns: usize,
        data: &[T],
    ) -> Result<Self> {
        let descriptor = MatrixDescriptor::new(rows, columns, T::DATA_TYPE)?;
        let mut matrix = Self::allocate(device, descriptor)?;
        matrix.copy_from_slice(data)?;
        Ok(matrix)
    }

    /// A tight matrix of zeros in a new shared buffer.
    pub fn zeros(
        device: &Device,
        rows: usize,
        columns: usize,
        data_type: DataType,
    ) -> Result<Self> {
        Self::allocate(device, MatrixDescriptor::new(rows, columns, data_type)?)
    }

    /// The described matrix, zeroed, in a new shared buffer.
    pub fn allocate(device: &Device, descriptor: MatrixDescriptor) -> Result<Self> {
        let buffer = device.new_buffer(descriptor.bytes(), Storage::Shared)?;
        Self::from_buffer(&buffer, 0, descriptor)
    }

    /// The described matrix, `offset` bytes into `buffer`, with whatever is there.
    pub fn from_buffer(
        buffer: &Buffer,
        offset: usize,
        descriptor: MatrixDescriptor,
    ) -> Result<Self> {
        let element = descriptor.data_type().size_in_bytes();
        if !offset.is_multiple_of(element) {
            return Err(Error::Misaligned { offset, element });
        }
        let (bytes, length) = (descriptor.bytes(), buffer.length());
        if offset.checked_add(bytes).is_none_or(|end| end > length) {
            return Err(Error::OutOfBounds {
                what: "a matrix",
                offset,
                bytes,
                length,
            });
        }
        Ok(Self {
            buffer: buffer.clone(),
            offset,
            descriptor,
        })
    }

    /// The memory that this matrix is in.
    pub fn buffer(&self) -> &Buffer {
        &self.buffer
    }

    /// Where it starts, in bytes.
    pub fn offset(&self) -> usize {
        self.offset
    }

    /// Its sizes, strides and element type.
    pub fn descriptor(&self) -> &MatrixDescriptor {
        &self.descriptor
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.descriptor.rows()
    }

    /// Number of columns.
    pub fn columns(&self) -> usize {
        self.descriptor.columns()
    }

    /// Number of matrices; 1 unless this is a batch.
    pub fn matrices(&self) -> usize {
        self.descriptor.matrices()
    }

    /// Type of the elements.
    pub fn data_type(&self) -> DataType {
        self.descriptor.data_type()
    }

    /// A view of some rows and columns, of every matrix of the batch.
    pub fn sub_matrix(&self, rows: Range<usize>, columns: Range<usize>) -> Result<Self> {
        let row_count = length_within("rows", &rows, self.rows())?;
        let column_count = length_within("columns", &columns, self.columns())?;
        let d = &self.descriptor;
        let skipped = d.row_offset(0, rows.start) + columns.start * d.data_type().size_in_bytes();
        let window = d.window(d.matrices(), row_count, column_count);
        Self::from_buffer(&self.buffer, self.offset + skipped, window)
    }

    /// A view of some matrices of the batch.
    pub fn sub_batch(&self, matrices: Range<usize>) -> Result<Self> {
        let count = length_within("matrices", &matrices, self.matrices())?;
        let window = self.descriptor.window(count, self.rows(), self.columns());
        let skipped = self.descriptor.row_offset(matrices.start, 0);
        Self::from_buffer(&self.buffer, self.offset + skipped, window)
    }

    /// A view of one matrix of the batch.
    pub fn matrix(&self, index: usize) -> Result<Self> {
        self.sub_batch(index..index.saturating_add(1))
    }

    /// The elements, row by row and matrix by matrix, without padding. Needs a buffer that the
    /// host can see, and no kernel in flight on it.
    pub fn to_vec<T: Element>(&self) -> Result<Vec<T>> {
        self.check_host_type::<T>()?;
        let view = self.buffer.read::<T>()?;
        let mut elements = Vec::with_capacity(self.descriptor.element_count());
        for start in self.row_starts::<T>() {
            elements.extend_from_slice(&view[start..start + self.columns()]);
        }
        Ok(elements)
    }

    /// Overwrites the elements, row by row and matrix by matrix; padding is left alone.
    pub fn copy_from_slice<T: Element>(&mut self, data: &[T]) -> Result<()> {
        self.check_host_type::<T>()?;
        let expected = self.descriptor.element_count();
        if data.len() != expected {
            return Err(Error::Length {
                expected,
                got: data.len(),
            });
        }
        if self.buffer.is_read_only() {
            return Err(Error::ReadOnly {
                op: "copy_from_slice",
                operand: "matrix",
            });
        }
        let mut view = self.buffer.write::<T>()?;
        for (start, row) in self
            .row_starts::<T>()
            .zip(data.chunks_exact(self.columns()))
        {
            view[start..start + row.len()].copy_from_slice(row);
        }
        Ok(())
    }

    fn check_host_type<T: Element>(&self) -> Result<()> {
        let (matrix, host) = (self.data_type(), T::DATA_TYPE);
        if matrix == host {
            Ok(())
        } else {
            Err(Error::HostType { matrix, host })
        }
    }

    /// Index of the first element of each row, in a view of the whole buffer. Offsets and strides
    /// are multiples of the element size, by construction.
    fn row_starts<T: Element>(&self) -> impl Iterator<Item = usize> + use<T> {
        let (descriptor, offset) = (self.descriptor.clone(), self.offset);
        (0..descriptor.matrices() * descriptor.rows()).map(move |row| {
            let (matrix, row) = (row / descriptor.rows(), row % descriptor.rows());
            (offset + descriptor.row_offset(matrix, row)) / size_of::<T>()
        })
    }

    /// Whether an element of `self` and one of `other` share a byte. Exact for views of one
    /// matrix, whose rows have the same distance; otherwise a byte between two rows counts too.
    pub(crate) fn overlaps(&self, other: &Matrix) -> bool {
        let (a, b) = (self.range(), other.range());
        if !self.buffer.is_same(&other.buffer) || a.end <= b.start || b.end <= a.start {
            return false;
        }
        let stride = self.descriptor.row_bytes();
        if stride != other.descriptor.row_bytes() {
            return true;
        }
        // Every row of either starts at the same place modulo the stride, so they are disjoint if
        // these two windows are. `distance` leads from the window of `self` up to that of `other`.
        let distance = (other.offset % stride + stride - self.offset % stride) % stride;
        distance < self.descriptor.row_length() || stride - distance < other.descriptor.row_length()
    }

    /// The bytes from the first element to the end of the last.
    fn range(&self) -> Range<usize> {
        self.offset..self.offset + self.descriptor.bytes()
    }

    /// This matrix as an operand that a kernel reads.
    pub(crate) fn input(&self, operand: &'static str) -> Use<'_> {
        Use {
            operand,
            buffer: &self.buffer,
            range: self.range(),
            writes: false,
        }
    }

    /// This matrix as an operand that a kernel writes.
    pub(crate) fn output(&self, operand: &'static str) -> Use<'_> {
        Use {
            operand,
            buffer: &self.buffer,
            range: self.range(),
            writes: true,
        }
    }

    /// The MPS object, made for one encode: it holds no more than what this matrix says, and
    /// sharing one between threads is known to go wrong.
    pub(crate) fn to_mps(&self) -> Retained<MPSMatrix> {
        let d = &self.descriptor;
        let data_type = d.data_type().to_mps();
        // SAFETY: the descriptor's invariants are what MPS asks of these numbers.
        let descriptor = unsafe {
            if d.matrices() == 1 {
                MPSMatrixDescriptor::matrixDescriptorWithRows_columns_rowBytes_dataType(
                    d.rows(),
                    d.columns(),
                    d.row_bytes(),
                    data_type,
                )
            } else {
                MPSMatrixDescriptor::matrixDescriptorWithRows_columns_matrices_rowBytes_matrixBytes_dataType(
                    d.rows(),
                    d.columns(),
                    d.matrices(),
                    d.row_bytes(),
                    d.matrix_bytes(),
                    data_type,
                )
            }
        };
        // SAFETY: `from_buffer` has checked that the matrix lies inside the buffer and starts at
        // a whole element.
        unsafe {
            MPSMatrix::initWithBuffer_offset_descriptor(
                MPSMatrix::alloc(),
                self.buffer.metal(),
                self.offset,
                &descriptor,
            )
        }
    }
}

fn length_within(dimension: &'static str, range: &Range<usize>, available: usize) -> Result<usize> {
    let Range { start, end } = *range;
    if start > end || end > available {
        return Err(Error::ViewOutOfRange {
            dimension,
            start,
            end,
            available,
        });
    }
    if start == end {
        return Err(Error::ZeroSize {
            op: "view",
            dimension,
        });
    }
    Ok(end - start)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device() -> Device {
        Device::system_default().unwrap()
    }

    /// Every placement of small matrices with one row stride, against a list of their bytes.
    #[test]
    fn overlap_is_exact_for_views_of_one_matrix() {
        let buffer = device().new_buffer(64, Storage::Shared).unwrap();
        let bytes = |m: &Matrix| -> std::collections::BTreeSet<usize> {
            m.row_starts::<u8>()
                .flat_map(|start| start..start + m.columns())
                .collect()
        };
        let mut all = vec![];
        for rows in 1..=3 {
            for columns in 1..=5 {
                for offset in 0..=20 {
                    let descriptor = MatrixDescriptor::new(rows, columns, DataType::U8)
                        .and_then(|d| d.with_row_bytes(5))
                        .unwrap();
                    all.push(Matrix::from_buffer(&buffer, offset, descriptor).unwrap());
                }
            }
        }
        for a in &all {
            for b in &all {
                let expected = !bytes(a).is_disjoint(&bytes(b));
                assert_eq!(a.overlaps(b), expected, "{a:?} {b:?}");
            }
        }
    }

    #[test]
    fn different_buffers_never_overlap() {
        let device = device();
        let [a, b] = [0, 1].map(|_| Matrix::zeros(&device, 2, 2, DataType::F32).unwrap());
        assert!(!a.overlaps(&b) && a.overlaps(&a.clone()));
    }
}
