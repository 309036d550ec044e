//! `MPSMatrixDescriptor` and `MPSMatrix`.

use super::{cases, matrix};
use crate::Expect::{Ends, Holds};
use crate::{Machine, NotHere};
use objc2::AnyThread;
use objc2_metal::{MTLBuffer, MTLDevice};
use objc2_metal_performance_shaders::{MPSDataType, MPSMatrix, MPSMatrixDescriptor};

cases! {
    "MPSMatrix: a descriptor keeps what it was given": Holds => descriptor,
    "MPSMatrix: matrixBytes is settled at creation": Holds => matrix_bytes_are_frozen,
    "MPSMatrix: a suggested row stride holds the row": Holds => row_bytes,
    "MPSMatrix: the last row need not be padded": Holds => unpadded_last_row,
    "MPSMatrix: it keeps its buffer alive": Holds => keeps_its_buffer,
    "MPSMatrix: it makes a buffer when asked for one": Holds => lazy_buffer,
    "MPSMatrix: a buffer that is too short": Ends("MPSMatrix buffer length") => short_buffer,
    "MPSMatrix: an offset past the end": Ends("MPSMatrix buffer length") => offset_outside,
    "MPSMatrix: rowBytes below a row": Ends("MPSMatrix rowBytes") => small_row_bytes,
    "MPSMatrix: rowBytes between elements": Ends("MPSMatrix rowBytes") => odd_row_bytes,
    "MPSMatrix: matrixBytes below a matrix": Ends("MPSMatrix matrixBytes") => small_matrix_bytes,
    "MPSMatrix: no rows": Ends("MPSMatrix size") => no_rows,
}

const F32: MPSDataType = MPSDataType::Float32;

fn descriptor(_: &Machine) -> Result<(), NotHere> {
    // SAFETY: plain values.
    unsafe {
        let descriptor = MPSMatrixDescriptor::matrixDescriptorWithRows_columns_matrices_rowBytes_matrixBytes_dataType(
            3, 5, 2, 32, 96, MPSDataType::Float16,
        );
        assert_eq!(
            (
                descriptor.rows(),
                descriptor.columns(),
                descriptor.matrices()
            ),
            (3, 5, 2)
        );
        assert_eq!((descriptor.rowBytes(), descriptor.matrixBytes()), (32, 96));
        assert_eq!(descriptor.dataType(), MPSDataType::Float16);
    }
    Ok(())
}

fn matrix_bytes_are_frozen(_: &Machine) -> Result<(), NotHere> {
    // SAFETY: plain values.
    unsafe {
        let descriptor =
            MPSMatrixDescriptor::matrixDescriptorWithRows_columns_rowBytes_dataType(3, 4, 16, F32);
        assert_eq!((descriptor.matrices(), descriptor.matrixBytes()), (1, 48));
        descriptor.setRows(10);
        assert_eq!((descriptor.rows(), descriptor.matrixBytes()), (10, 48));
    }
    Ok(())
}

fn row_bytes(_: &Machine) -> Result<(), NotHere> {
    for kind in [
        F32,
        MPSDataType::Float16,
        MPSDataType::Int8,
        MPSDataType::Int16,
    ] {
        let size = (kind.0 & 0xff) as usize / 8;
        for columns in 1..40 {
            // SAFETY: plain values.
            let bytes = unsafe { MPSMatrixDescriptor::rowBytesForColumns_dataType(columns, kind) };
            assert!(
                bytes >= columns * size && bytes.is_multiple_of(size),
                "{columns}: {bytes}"
            );
        }
    }
    Ok(())
}

fn unpadded_last_row(machine: &Machine) -> Result<(), NotHere> {
    let buffer = machine.shared(2 * 32 + 5 * 4);
    let made = matrix(&buffer, 3, 5, 32, F32);
    // SAFETY: plain values.
    unsafe { assert_eq!((made.rows(), made.columns(), made.rowBytes()), (3, 5, 32)) };
    Ok(())
}

fn keeps_its_buffer(machine: &Machine) -> Result<(), NotHere> {
    let made = objc2::rc::autoreleasepool(|_| matrix(&machine.shared(64), 4, 4, 16, F32));
    // SAFETY: plain values.
    unsafe {
        assert_eq!(made.data().length(), 64);
        assert_eq!(made.device().registryID(), machine.device().registryID());
    }
    Ok(())
}

fn lazy_buffer(machine: &Machine) -> Result<(), NotHere> {
    // SAFETY: plain values.
    unsafe {
        let descriptor =
            MPSMatrixDescriptor::matrixDescriptorWithRows_columns_rowBytes_dataType(8, 8, 32, F32);
        let made =
            MPSMatrix::initWithDevice_descriptor(MPSMatrix::alloc(), machine.device(), &descriptor);
        assert!(made.resourceSize() >= 256);
        assert!(made.data().length() >= 256);
    }
    Ok(())
}

fn short_buffer(machine: &Machine) -> Result<(), NotHere> {
    matrix(&machine.shared(63), 4, 4, 16, F32);
    Ok(())
}

fn offset_outside(machine: &Machine) -> Result<(), NotHere> {
    let buffer = machine.shared(64);
    // SAFETY: plain values; that they do not fit is the test.
    unsafe {
        let descriptor =
            MPSMatrixDescriptor::matrixDescriptorWithRows_columns_rowBytes_dataType(4, 4, 16, F32);
        MPSMatrix::initWithBuffer_offset_descriptor(MPSMatrix::alloc(), &buffer, 4, &descriptor);
    }
    Ok(())
}

fn small_row_bytes(machine: &Machine) -> Result<(), NotHere> {
    matrix(&machine.shared(64), 4, 4, 12, F32);
    Ok(())
}

fn odd_row_bytes(machine: &Machine) -> Result<(), NotHere> {
    matrix(&machine.shared(128), 4, 4, 18, F32);
    Ok(())
}

fn small_matrix_bytes(machine: &Machine) -> Result<(), NotHere> {
    let buffer = machine.shared(256);
    // SAFETY: plain values; that they do not fit is the test.
    unsafe {
        let descriptor = MPSMatrixDescriptor::matrixDescriptorWithRows_columns_matrices_rowBytes_matrixBytes_dataType(
            4, 4, 2, 16, 48, F32,
        );
        MPSMatrix::initWithBuffer_descriptor(MPSMatrix::alloc(), &buffer, &descriptor);
    }
    Ok(())
}

fn no_rows(machine: &Machine) -> Result<(), NotHere> {
    matrix(&machine.shared(64), 0, 4, 16, F32);
    Ok(())
}
