//! Matrices in buffers: where views lie, and what does not fit.
#![cfg(feature = "metal")]

use safe_mps::{DataType, Device, Error, Matrix, MatrixDescriptor, Storage};

fn device() -> Device {
    Device::system_default().unwrap()
}

#[test]
fn views_select_rows_columns_and_matrices() {
    let descriptor = MatrixDescriptor::new(2, 3, DataType::I16)
        .and_then(|d| d.with_row_bytes(8))
        .and_then(|d| d.with_matrices(2, 24))
        .unwrap();
    let mut matrix = Matrix::allocate(&device(), descriptor).unwrap();
    let elements: Vec<i16> = (0..12).collect();
    matrix.copy_from_slice(&elements).unwrap();
    assert_eq!(matrix.to_vec::<i16>().unwrap(), elements);
    let second = matrix.matrix(1).unwrap();
    assert_eq!(second.to_vec::<i16>().unwrap(), [6, 7, 8, 9, 10, 11]);
    let columns = matrix.sub_matrix(0..2, 1..3).unwrap();
    assert_eq!(columns.to_vec::<i16>().unwrap(), [1, 2, 4, 5, 7, 8, 10, 11]);
    let corner = second.sub_matrix(1..2, 2..3).unwrap();
    assert_eq!(corner.to_vec::<i16>().unwrap(), [11]);
    assert_eq!(corner.offset(), 24 + 8 + 4);
}

#[test]
fn views_stay_inside() {
    let matrix = Matrix::zeros(&device(), 2, 3, DataType::F32).unwrap();
    let out = |dimension, start, end, available| {
        Some(Error::ViewOutOfRange {
            dimension,
            start,
            end,
            available,
        })
    };
    assert_eq!(matrix.sub_matrix(0..3, 0..1).err(), out("rows", 0, 3, 2));
    assert_eq!(matrix.sub_matrix(0..1, 3..4).err(), out("columns", 3, 4, 3));
    #[expect(clippy::reversed_empty_ranges, reason = "what a caller may get wrong")]
    let reversed = matrix.sub_matrix(2..1, 0..1).err();
    assert_eq!(reversed, out("rows", 2, 1, 2));
    assert_eq!(matrix.matrix(1).err(), out("matrices", 1, 2, 1));
    assert_eq!(
        matrix.matrix(usize::MAX).err(),
        out("matrices", usize::MAX, usize::MAX, 1)
    );
    let empty = Some(Error::ZeroSize {
        op: "view",
        dimension: "columns",
    });
    assert_eq!(matrix.sub_matrix(0..2, 1..1).err(), empty);
}

#[test]
fn a_matrix_must_fit_its_buffer() {
    let buffer = device().new_buffer(40, Storage::Shared).unwrap();
    let place = |offset, rows| {
        let descriptor = MatrixDescriptor::new(rows, 3, DataType::F32).unwrap();
        Matrix::from_buffer(&buffer, offset, descriptor).err()
    };
    assert_eq!(place(0, 3), None);
    assert_eq!(place(4, 3), None);
    let out = |offset, bytes| {
        Some(Error::OutOfBounds {
            what: "a matrix",
            offset,
            bytes,
            length: 40,
        })
    };
    assert_eq!(place(8, 3), out(8, 36));
    assert_eq!(place(0, 4), out(0, 48));
    assert_eq!(place(usize::MAX - 3, 1), out(usize::MAX - 3, 12));
    assert_eq!(
        place(2, 1),
        Some(Error::Misaligned {
            offset: 2,
            element: 4
        })
    );
}

#[test]
fn slices_must_match() {
    let device = device();
    let length = Matrix::from_slice(&device, 2, 2, &[1.0f32]).err();
    assert_eq!(
        length,
        Some(Error::Length {
            expected: 4,
            got: 1
        })
    );
    let matrix = Matrix::zeros(&device, 2, 2, DataType::F16).unwrap();
    let host_type = Error::HostType {
        matrix: DataType::F16,
        host: DataType::F32,
    };
    assert_eq!(matrix.to_vec::<f32>().err(), Some(host_type));
    let descriptor = MatrixDescriptor::new(1, 4, DataType::U8).unwrap();
    let read_only = matrix.buffer().clone().read_only();
    let mut matrix = Matrix::from_buffer(&read_only, 0, descriptor).unwrap();
    let refused = Error::ReadOnly {
        op: "copy_from_slice",
        operand: "matrix",
    };
    assert_eq!(matrix.copy_from_slice(&[1u8, 2, 3, 4]), Err(refused));
    assert_eq!(matrix.to_vec::<u8>().unwrap(), [0, 0, 0, 0]);
}
