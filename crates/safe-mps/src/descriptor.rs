//! [`MatrixDescriptor`]: how the elements of a matrix, or of a batch of them, lie in memory.
//!
//! Element (b, i, j) is at `offset + b * matrix_bytes + i * row_bytes + j * size`. A descriptor is
//! checked when it is made, so holding one means that its strides are usable and that the bytes it
//! spans can be counted without overflow. Whether they are inside a buffer is `Matrix`'s question.

use crate::data_type::DataType;
use crate::error::{Error, Result};

/// Sizes, strides and element type of a row-major matrix or of a batch of equal ones.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct MatrixDescriptor {
    rows: usize,
    columns: usize,
    row_bytes: usize,
    matrices: usize,
    matrix_bytes: usize,
    data_type: DataType,
}

impl MatrixDescriptor {
    /// One matrix with tight rows.
    pub fn new(rows: usize, columns: usize, data_type: DataType) -> Result<Self> {
        let row_bytes = columns
            .checked_mul(data_type.size_in_bytes())
            .ok_or(Error::SizeOverflow { what: "a row" })?;
        Self::checked(rows, columns, row_bytes, 1, None, data_type)
    }

    /// The same matrix with `row_bytes` from one row to the next: a multiple of the element size,
    /// and at least one row. A batch becomes tight again: call this before
    /// [`with_matrices`](Self::with_matrices).
    pub fn with_row_bytes(self, row_bytes: usize) -> Result<Self> {
        Self::checked(
            self.rows,
            self.columns,
            row_bytes,
            self.matrices,
            None,
            self.data_type,
        )
    }

    /// A batch of `matrices`, each starting `matrix_bytes` after the one before: a multiple of
    /// `row_bytes`, and at least one matrix with its padding.
    pub fn with_matrices(self, matrices: usize, matrix_bytes: usize) -> Result<Self> {
        let Self {
            rows,
            columns,
            row_bytes,
            data_type,
            ..
        } = self;
        Self::checked(
            rows,
            columns,
            row_bytes,
            matrices,
            Some(matrix_bytes),
            data_type,
        )
    }

    /// A batch of `matrices` without a gap between them.
    pub fn with_tight_matrices(self, matrices: usize) -> Result<Self> {
        let Self {
            rows,
            columns,
            row_bytes,
            data_type,
            ..
        } = self;
        Self::checked(rows, columns, row_bytes, matrices, None, data_type)
    }

    fn checked(
        rows: usize,
        columns: usize,
        row_bytes: usize,
        matrices: usize,
        matrix_bytes: Option<usize>,
        data_type: DataType,
    ) -> Result<Self> {
        for (dimension, size) in [("rows", rows), ("columns", columns), ("matrices", matrices)] {
            if size == 0 {
                return Err(Error::ZeroSize {
                    op: "matrix descriptor",
                    dimension,
                });
            }
        }
        let element = data_type.size_in_bytes();
        let needed = columns
            .checked_mul(element)
            .ok_or(Error::SizeOverflow { what: "a row" })?;
        if row_bytes < needed || !row_bytes.is_multiple_of(element) {
            return Err(Error::RowBytes {
                row_bytes,
                columns,
                data_type,
                needed,
            });
        }
        let tight = rows
            .checked_mul(row_bytes)
            .ok_or(Error::SizeOverflow { what: "a matrix" })?;
        let matrix_bytes = matrix_bytes.unwrap_or(tight);
        if matrices > 1 && (matrix_bytes < tight || !matrix_bytes.is_multiple_of(row_bytes)) {
            return Err(Error::MatrixBytes {
                matrix_bytes,
                matrices,
                row_bytes,
                needed: tight,
            });
        }
        // For one matrix the distance to the next means nothing; a normal form makes equal
        // descriptors compare equal.
        let matrix_bytes = if matrices == 1 { tight } else { matrix_bytes };
        matrices
            .checked_mul(matrix_bytes)
            .filter(|&bytes| isize::try_from(bytes).is_ok())
            .ok_or(Error::SizeOverflow {
                what: "a batch of matrices",
            })?;
        Ok(Self {
            rows,
            columns,
            row_bytes,
            matrices,
            matrix_bytes,
            data_type,
        })
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Number of columns.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// Bytes from one row to the next.
    pub fn row_bytes(&self) -> usize {
        self.row_bytes
    }

    /// Number of matrices; 1 unless this describes a batch.
    pub fn matrices(&self) -> usize {
        self.matrices
    }

    /// Bytes from one matrix of the batch to the next.
    pub fn matrix_bytes(&self) -> usize {
        self.matrix_bytes
    }

    /// Type of the elements.
    pub fn data_type(&self) -> DataType {
        self.data_type
    }

    /// Number of elements, padding not counted.
    pub fn element_count(&self) -> usize {
        self.matrices * self.rows * self.columns
    }

    /// Bytes from the first element to the end of the last; the last row needs no padding.
    pub fn bytes(&self) -> usize {
        (self.matrices - 1) * self.matrix_bytes
            + (self.rows - 1) * self.row_bytes
            + self.row_length()
    }

    /// Bytes of the elements of one row.
    pub(crate) fn row_length(&self) -> usize {
        self.columns * self.data_type.size_in_bytes()
    }

    /// Byte offset of row `row` of matrix `matrix`, counted from the first element.
    pub(crate) fn row_offset(&self, matrix: usize, row: usize) -> usize {
        matrix * self.matrix_bytes + row * self.row_bytes
    }

    /// A smaller matrix with the same strides. The caller has checked that it lies inside.
    pub(crate) fn window(&self, matrices: usize, rows: usize, columns: usize) -> Self {
        let matrix_bytes = if matrices == 1 {
            rows * self.row_bytes
        } else {
            self.matrix_bytes
        };
        Self {
            rows,
            columns,
            matrices,
            matrix_bytes,
            ..self.clone()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tight_by_default() {
        let d = MatrixDescriptor::new(3, 5, DataType::F16).unwrap();
        assert_eq!(
            (d.row_bytes(), d.matrix_bytes(), d.matrices(), d.bytes()),
            (10, 30, 1, 30)
        );
    }

    #[test]
    fn last_row_needs_no_padding() {
        let d = MatrixDescriptor::new(3, 5, DataType::F32)
            .unwrap()
            .with_row_bytes(64)
            .unwrap();
        assert_eq!(d.bytes(), 2 * 64 + 20);
        let d = d.with_matrices(2, 256).unwrap();
        assert_eq!(d.bytes(), 256 + 2 * 64 + 20);
        assert_eq!(d.element_count(), 30);
    }

    #[test]
    fn zero_sizes() {
        let zero = |dimension| {
            Err(Error::ZeroSize {
                op: "matrix descriptor",
                dimension,
            })
        };
        assert_eq!(MatrixDescriptor::new(0, 5, DataType::F32), zero("rows"));
        assert_eq!(MatrixDescriptor::new(5, 0, DataType::F32), zero("columns"));
        let d = MatrixDescriptor::new(5, 5, DataType::F32).unwrap();
        assert_eq!(d.with_matrices(0, 100), zero("matrices"));
    }

    #[test]
    fn strides_below_the_row_or_between_elements() {
        let d = MatrixDescriptor::new(2, 5, DataType::F32).unwrap();
        for row_bytes in [0, 16, 22] {
            assert_eq!(
                d.clone().with_row_bytes(row_bytes),
                Err(Error::RowBytes {
                    row_bytes,
                    columns: 5,
                    data_type: DataType::F32,
                    needed: 20
                })
            );
        }
        for matrix_bytes in [0, 20, 50] {
            assert_eq!(
                d.clone().with_matrices(3, matrix_bytes),
                Err(Error::MatrixBytes {
                    matrix_bytes,
                    matrices: 3,
                    row_bytes: 20,
                    needed: 40
                })
            );
        }
    }

    #[test]
    fn huge_sizes_are_errors() {
        let overflow = |what| Err(Error::SizeOverflow { what });
        let max = usize::MAX;
        assert_eq!(
            MatrixDescriptor::new(1, max, DataType::F32),
            overflow("a row")
        );
        assert_eq!(
            MatrixDescriptor::new(max, 2, DataType::I8),
            overflow("a matrix")
        );
        let d = MatrixDescriptor::new(1 << 20, 1 << 20, DataType::F32).unwrap();
        assert_eq!(
            d.with_tight_matrices(1 << 40),
            overflow("a batch of matrices")
        );
    }
}
