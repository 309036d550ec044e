//! Promises of Metal Performance Shaders, by class.

mod matrix;
mod multiplication;
mod softmax;

use crate::Case;
use crate::machine::{Buffer, Machine};
use crate::metal::cases;
use objc2::AnyThread;
use objc2::rc::Retained;
use objc2_metal::MTLCommandBuffer;
use objc2_metal_performance_shaders::{MPSDataType, MPSMatrix, MPSMatrixDescriptor};

pub(crate) const CASES: &[&[Case]] = &[matrix::CASES, multiplication::CASES, softmax::CASES];

/// A matrix over a buffer: rows, columns, bytes from row to row, element type.
pub(crate) fn matrix(
    buffer: &Buffer,
    rows: usize,
    columns: usize,
    row_bytes: usize,
    kind: MPSDataType,
) -> Retained<MPSMatrix> {
    // SAFETY: the shape is the body's business: some break a rule to see it caught.
    unsafe {
        let descriptor = MPSMatrixDescriptor::matrixDescriptorWithRows_columns_rowBytes_dataType(
            rows, columns, row_bytes, kind,
        );
        MPSMatrix::initWithBuffer_descriptor(MPSMatrix::alloc(), buffer, &descriptor)
    }
}

/// A tight f32 matrix with contents.
pub(crate) fn floats(
    machine: &Machine,
    rows: usize,
    columns: usize,
    values: &[f32],
) -> (Buffer, Retained<MPSMatrix>) {
    assert_eq!(values.len(), rows * columns);
    let buffer = machine.filled(values);
    let matrix = matrix(&buffer, rows, columns, columns * 4, MPSDataType::Float32);
    (buffer, matrix)
}

/// Encodes with a command buffer of its own and waits for it.
pub(crate) fn encode(machine: &Machine, encode: impl FnOnce(&crate::machine::Commands)) {
    let commands = machine.commands();
    encode(&commands);
    commands.commit();
    commands.waitUntilCompleted();
}

/// Numbers between -1 and 1 that look random and are the same every time.
fn numbers(count: usize, seed: u32) -> Vec<f32> {
    let mut state = seed.wrapping_mul(2_654_435_761).max(1);
    (0..count)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            f32::from(u16::try_from(state >> 16).expect("16 bits")) / 32768.0 - 1.0
        })
        .collect()
}

/// Whether a result is near: 1e-5 of the sum of the absolute products behind it.
#[track_caller]
fn assert_near(result: f32, expected: f64, scale: f64) {
    let error = (f64::from(result) - expected).abs();
    assert!(
        error <= 1e-5 * scale,
        "{result} is {error:e} from {expected} (scale {scale})"
    );
}
