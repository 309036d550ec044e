//! What the tests share: a seeded generator, matrices in awkward places, and f64 oracles.

// Each test file compiles this for itself and uses its part.
#![allow(dead_code)]

pub use candle_mps_seeds::Random;
use half::f16;
use safe_mps::{Buffer, DataType, Device, Element, Matrix, MatrixDescriptor, Storage};

/// Runs `body` with a generator, and prints how to repeat the run if it fails.
pub fn seeded(test: &str, body: impl FnOnce(&mut Random)) {
    candle_mps_seeds::seeded("cargo xtask test sim", test, body);
}

/// A matrix with its elements as the GPU sees them, row by row, in f64.
pub struct Sample {
    pub matrix: Matrix,
    pub values: Vec<f64>,
}

/// Places matrices at random offsets, with random padding behind rows and matrices.
pub struct Field<'a> {
    pub device: &'a Device,
    pub random: &'a mut Random,
}

impl Field<'_> {
    /// A matrix of values between -scale and scale, rounded to the type.
    pub fn sample(
        &mut self,
        data_type: DataType,
        matrices: usize,
        rows: usize,
        columns: usize,
        scale: f64,
    ) -> Sample {
        let size = data_type.size_in_bytes();
        let row_bytes = size * (columns + self.random.below(4));
        let matrix_bytes = row_bytes * (rows + self.random.below(3));
        let descriptor = MatrixDescriptor::new(rows, columns, data_type)
            .and_then(|d| d.with_row_bytes(row_bytes))
            .and_then(|d| d.with_matrices(matrices, matrix_bytes))
            .unwrap();
        let offset = size * self.random.below(9);
        let bytes = offset + descriptor.bytes() + self.random.below(5);
        let buffer = self.device.new_buffer(bytes, Storage::Shared).unwrap();
        // Padding that is read by mistake turns results into NaN, or far off for integers.
        buffer.write::<u8>().unwrap().fill(0x7f);
        let mut matrix = Matrix::from_buffer(&buffer, offset, descriptor).unwrap();
        let values: Vec<f64> = (0..matrices * rows * columns)
            .map(|_| self.random.unit() * scale)
            .collect();
        let values = store(&mut matrix, &values);
        Sample { matrix, values }
    }
}

/// Writes the values, rounded to the matrix's type, and returns what they became.
pub fn store(matrix: &mut Matrix, values: &[f64]) -> Vec<f64> {
    fn put<T: Element>(matrix: &mut Matrix, values: &[f64], to: impl Fn(f64) -> T) {
        let values: Vec<T> = values.iter().map(|&v| to(v)).collect();
        matrix.copy_from_slice(&values).unwrap();
    }
    match matrix.data_type() {
        DataType::F32 => put(matrix, values, |v| v as f32),
        DataType::F16 => put(matrix, values, f16::from_f64),
        DataType::I8 => put(matrix, values, |v| v.round() as i8),
        DataType::I16 => put(matrix, values, |v| v.round() as i16),
        other => panic!("no test stores {other}"),
    }
    load(matrix)
}

/// The elements in f64.
pub fn load(matrix: &Matrix) -> Vec<f64> {
    fn get<T: Element>(matrix: &Matrix, from: impl Fn(T) -> f64) -> Vec<f64> {
        matrix
            .to_vec::<T>()
            .unwrap()
            .into_iter()
            .map(from)
            .collect()
    }
    match matrix.data_type() {
        DataType::F32 => get(matrix, |v: f32| v.into()),
        DataType::F16 => get(matrix, f16::to_f64),
        DataType::I8 => get(matrix, |v: i8| v.into()),
        DataType::I16 => get(matrix, |v: i16| v.into()),
        other => panic!("no test loads {other}"),
    }
}

/// The bytes of the buffer that belong to no element of the matrix.
pub fn padding(matrix: &Matrix) -> Vec<u8> {
    let d = matrix.descriptor();
    let mut outside = vec![true; matrix.buffer().length()];
    for b in 0..d.matrices() {
        for i in 0..d.rows() {
            let start = matrix.offset() + b * d.matrix_bytes() + i * d.row_bytes();
            outside[start..start + d.columns() * d.data_type().size_in_bytes()].fill(false);
        }
    }
    let bytes = matrix.buffer().read::<u8>().unwrap();
    bytes
        .iter()
        .zip(outside)
        .filter(|(_, outside)| *outside)
        .map(|(byte, _)| *byte)
        .collect()
}

/// Fails on the first element that is further from the expected one than it may be.
pub fn compare(what: &str, got: &[f64], expected: &[f64], bound: impl Fn(usize) -> f64) {
    assert_eq!(got.len(), expected.len(), "{what}");
    for (index, (&got, &expected)) in got.iter().zip(expected).enumerate() {
        let error = (got - expected).abs();
        let bound = bound(index);
        // A NaN is on no side of the bound.
        assert!(
            error <= bound,
            "{what}: element {index} is {got}, expected {expected} within {bound:e}"
        );
    }
}

/// A handle that nothing else shares.
pub fn fresh(device: &Device, bytes: usize) -> Buffer {
    device.new_buffer(bytes, Storage::Shared).unwrap()
}
