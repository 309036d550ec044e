//! `MPSMatrixMultiplication`.

use super::{assert_near, cases, encode, floats, matrix, numbers};
use crate::Expect::{Ends, Holds, Undefined};
use crate::machine::{Commands, contents};
use crate::{Machine, NotHere};
use half::f16;
use objc2::AnyThread;
use objc2::rc::Retained;
use objc2_metal::{MTLCommandBuffer, MTLCommandEncoder, MTLDevice, MTLOrigin};
use objc2_metal_performance_shaders::{
    MPSDataType, MPSMatrix, MPSMatrixDescriptor, MPSMatrixMultiplication,
};

cases! {
    "MPSMatrixMultiplication: a product": Holds => product,
    "MPSMatrixMultiplication: either side transposed": Holds => transposed,
    "MPSMatrixMultiplication: alpha and beta": Holds => alpha_and_beta,
    "MPSMatrixMultiplication: regions by their origins": Holds => origins,
    "MPSMatrixMultiplication: a batch of matrices": Holds => batch,
    "MPSMatrixMultiplication: half precision and integers": Holds => types,
    "MPSMatrixMultiplication: a kernel's state is taken at encode": Holds => snapshot,
    "MPSMatrixMultiplication: beta = 0 does not read the result": Holds => beta_zero,
    "MPSMatrixMultiplication: an encoder is open": Ends("encoder already open") => open_encoder,
    "MPSMatrixMultiplication: encoding after the commit": Ends("encode after commit") => after_commit,
    "MPSMatrixMultiplication: the left matrix has too few rows": Ends("leftMatrix has") => left_rows,
    "MPSMatrixMultiplication: the right matrix has too few columns": Ends("rightMatrix has") => right_columns,
    "MPSMatrixMultiplication: the result has too few rows": Ends("resultMatrix has") => result_rows,
    "MPSMatrixMultiplication: bf16": Ends("data types") => bf16,
    "MPSMatrixMultiplication: an integer result": Ends("data types") => integer_result,
    "MPSMatrixMultiplication: a device that is not the buffer's": Ends("another device") => other_device,
    "MPSMatrixMultiplication: an empty dimension": Undefined("empty dimension") => empty,
    "MPSMatrixMultiplication: the result over an input": Undefined("shares memory") => aliasing,
}

/// What a kernel is made of.
#[derive(Clone, Copy)]
struct Gemm {
    transposes: (bool, bool),
    size: (usize, usize, usize),
    alpha: f64,
    beta: f64,
}

impl Gemm {
    fn new(m: usize, n: usize, k: usize) -> Self {
        Self {
            transposes: (false, false),
            size: (m, n, k),
            alpha: 1.0,
            beta: 0.0,
        }
    }

    fn kernel(self, machine: &Machine) -> Retained<MPSMatrixMultiplication> {
        let ((left, right), (m, n, k)) = (self.transposes, self.size);
        // SAFETY: plain values; some bodies break a rule with them.
        unsafe {
            MPSMatrixMultiplication::initWithDevice_transposeLeft_transposeRight_resultRows_resultColumns_interiorColumns_alpha_beta(
                MPSMatrixMultiplication::alloc(), machine.device(), left, right, m, n, k, self.alpha, self.beta,
            )
        }
    }
}

fn multiply(
    kernel: &MPSMatrixMultiplication,
    commands: &Commands,
    a: &MPSMatrix,
    b: &MPSMatrix,
    c: &MPSMatrix,
) {
    // SAFETY: the matrices are the body's business: some break a rule to see it caught.
    unsafe { kernel.encodeToCommandBuffer_leftMatrix_rightMatrix_resultMatrix(commands, a, b, c) };
}

/// The product and its scale, in f64, of row-major matrices.
fn expected(
    a: impl Fn(usize, usize) -> f32,
    b: impl Fn(usize, usize) -> f32,
    i: usize,
    j: usize,
    k: usize,
) -> (f64, f64) {
    let terms = (0..k).map(|at| f64::from(a(i, at)) * f64::from(b(at, j)));
    terms.fold((0.0, 0.0), |(sum, scale), term| {
        (sum + term, scale + term.abs())
    })
}

fn product(machine: &Machine) -> Result<(), NotHere> {
    for (m, n, k) in [(1, 1, 1), (2, 2, 3), (17, 9, 33), (64, 48, 32)] {
        let (left, right) = (numbers(m * k, 1), numbers(k * n, 2));
        let ((_, a), (_, b)) = (floats(machine, m, k, &left), floats(machine, k, n, &right));
        let (result, c) = floats(machine, m, n, &vec![0.0; m * n]);
        encode(machine, |commands| {
            multiply(&Gemm::new(m, n, k).kernel(machine), commands, &a, &b, &c);
        });
        for (at, value) in contents::<f32>(&result).into_iter().enumerate() {
            let (sum, scale) = expected(
                |i, p| left[i * k + p],
                |p, j| right[p * n + j],
                at / n,
                at % n,
                k,
            );
            assert_near(value, sum, scale);
        }
    }
    Ok(())
}

fn transposed(machine: &Machine) -> Result<(), NotHere> {
    let (m, n, k) = (5, 7, 11);
    let (left, right) = (numbers(m * k, 3), numbers(k * n, 4));
    for transposes in [(true, false), (false, true), (true, true)] {
        // Stored as the transpose of what the product takes.
        let (rows, columns) = if transposes.0 { (k, m) } else { (m, k) };
        let (_, a) = floats(machine, rows, columns, &left);
        let a_at = |i: usize, p: usize| {
            if transposes.0 {
                left[p * m + i]
            } else {
                left[i * k + p]
            }
        };
        let (rows, columns) = if transposes.1 { (n, k) } else { (k, n) };
        let (_, b) = floats(machine, rows, columns, &right);
        let b_at = |p: usize, j: usize| {
            if transposes.1 {
                right[j * k + p]
            } else {
                right[p * n + j]
            }
        };
        let (result, c) = floats(machine, m, n, &vec![0.0; m * n]);
        let gemm = Gemm {
            transposes,
            ..Gemm::new(m, n, k)
        };
        encode(machine, |commands| {
            multiply(&gemm.kernel(machine), commands, &a, &b, &c)
        });
        for (at, value) in contents::<f32>(&result).into_iter().enumerate() {
            let (sum, scale) = expected(a_at, b_at, at / n, at % n, k);
            assert_near(value, sum, scale);
        }
    }
    Ok(())
}

fn alpha_and_beta(machine: &Machine) -> Result<(), NotHere> {
    let (_, a) = floats(machine, 2, 2, &[1.0, 2.0, 3.0, 4.0]);
    let (_, b) = floats(machine, 2, 2, &[1.0, 0.0, 0.0, 1.0]);
    let (result, c) = floats(machine, 2, 2, &[10.0, 20.0, 30.0, 40.0]);
    let gemm = Gemm {
        alpha: 2.0,
        beta: 0.5,
        ..Gemm::new(2, 2, 2)
    };
    encode(machine, |commands| {
        multiply(&gemm.kernel(machine), commands, &a, &b, &c)
    });
    assert_eq!(contents::<f32>(&result), [7.0, 14.0, 21.0, 28.0]);
    Ok(())
}

fn origins(machine: &Machine) -> Result<(), NotHere> {
    let values: Vec<f32> = (0..25u8).map(f32::from).collect();
    let ((_, a), (_, b)) = (
        floats(machine, 5, 5, &values),
        floats(machine, 5, 5, &values),
    );
    let (result, c) = floats(machine, 4, 4, &[0.0; 16]);
    let kernel = Gemm::new(2, 2, 1).kernel(machine);
    // x is the row, y the column.
    let origin = |x, y| MTLOrigin { x, y, z: 0 };
    // SAFETY: the regions lie inside their matrices.
    unsafe {
        kernel.setLeftMatrixOrigin(origin(1, 2));
        kernel.setRightMatrixOrigin(origin(3, 1));
        kernel.setResultMatrixOrigin(origin(2, 1));
    }
    encode(machine, |commands| multiply(&kernel, commands, &a, &b, &c));
    let mut wanted = [0.0; 16];
    // Left column (7, 12), right row (16, 17).
    (wanted[9], wanted[10], wanted[13], wanted[14]) = (112.0, 119.0, 192.0, 204.0);
    assert_eq!(contents::<f32>(&result), wanted);
    Ok(())
}

/// A batch of matrices over one buffer, `matrix_bytes` apart.
fn batched(
    buffer: &crate::machine::Buffer,
    rows: usize,
    columns: usize,
    matrices: usize,
    matrix_bytes: usize,
) -> Retained<MPSMatrix> {
    // SAFETY: the buffer holds them all.
    unsafe {
        let descriptor = MPSMatrixDescriptor::matrixDescriptorWithRows_columns_matrices_rowBytes_matrixBytes_dataType(
            rows, columns, matrices, columns * 4, matrix_bytes, MPSDataType::Float32,
        );
        MPSMatrix::initWithBuffer_descriptor(MPSMatrix::alloc(), buffer, &descriptor)
    }
}

fn batch(machine: &Machine) -> Result<(), NotHere> {
    let (m, n, k, count) = (3, 4, 5, 6);
    let (left, right) = (numbers(count * m * k, 5), numbers(count * k * n, 6));
    let (a, b) = (machine.filled(&left), machine.filled(&right));
    // Results with a gap behind each matrix, which stays as it was.
    let gap = m * n + n;
    let result = machine.filled(&vec![-1.0f32; count * gap]);
    encode(machine, |commands| {
        multiply(
            &Gemm::new(m, n, k).kernel(machine),
            commands,
            &batched(&a, m, k, count, m * k * 4),
            &batched(&b, k, n, count, k * n * 4),
            &batched(&result, m, n, count, gap * 4),
        );
    });
    for (at, value) in contents::<f32>(&result).into_iter().enumerate() {
        let (matrix, inside) = (at / gap, at % gap);
        if inside >= m * n {
            assert_eq!(value, -1.0, "the gap behind matrix {matrix}");
            continue;
        }
        let (sum, scale) = expected(
            |i, p| left[matrix * m * k + i * k + p],
            |p, j| right[matrix * k * n + p * n + j],
            inside / n,
            inside % n,
            k,
        );
        assert_near(value, sum, scale);
    }
    Ok(())
}

fn types(machine: &Machine) -> Result<(), NotHere> {
    const F32: MPSDataType = MPSDataType::Float32;
    let kernel = Gemm::new(2, 2, 2).kernel(machine);
    let run = |a: &MPSMatrix, b: &MPSMatrix, c: &MPSMatrix| {
        encode(machine, |commands| multiply(&kernel, commands, a, b, c));
    };
    let halves = machine.filled(&[1.5, -2.0, 0.25, 4.0].map(f16::from_f32));
    let half = matrix(&halves, 2, 2, 4, MPSDataType::Float16);
    let squares = [1.75, -11.0, 1.375, 15.5];
    let result = machine.shared(16);
    run(&half, &half, &matrix(&result, 2, 2, 8, F32));
    assert_eq!(contents::<f32>(&result), squares);
    let result = machine.shared(8);
    run(
        &half,
        &half,
        &matrix(&result, 2, 2, 4, MPSDataType::Float16),
    );
    assert_eq!(contents::<f16>(&result), squares.map(f16::from_f32));
    let bytes = matrix(
        &machine.filled(&[100i8, -100, 3, 7]),
        2,
        2,
        2,
        MPSDataType::Int8,
    );
    let result = machine.shared(16);
    run(&bytes, &bytes, &matrix(&result, 2, 2, 8, F32));
    assert_eq!(contents::<f32>(&result), [9700.0, -10700.0, 321.0, -251.0]);
    let shorts = matrix(
        &machine.filled(&[300i16, -2, 5, 1]),
        2,
        2,
        4,
        MPSDataType::Int16,
    );
    let result = machine.shared(16);
    run(&shorts, &shorts, &matrix(&result, 2, 2, 8, F32));
    assert_eq!(contents::<f32>(&result), [89990.0, -602.0, 1505.0, -9.0]);
    Ok(())
}

fn snapshot(machine: &Machine) -> Result<(), NotHere> {
    let (_, a) = floats(machine, 2, 1, &[2.0, 3.0]);
    let (_, b) = floats(machine, 1, 1, &[5.0]);
    let (result, c) = floats(machine, 2, 1, &[0.0; 2]);
    let kernel = Gemm::new(1, 1, 1).kernel(machine);
    encode(machine, |commands| {
        for row in 0..2 {
            let origin = MTLOrigin { x: row, y: 0, z: 0 };
            // SAFETY: the regions lie inside their matrices.
            unsafe {
                kernel.setLeftMatrixOrigin(origin);
                kernel.setResultMatrixOrigin(origin);
            }
            multiply(&kernel, commands, &a, &b, &c);
        }
    });
    assert_eq!(contents::<f32>(&result), [10.0, 15.0]);
    Ok(())
}

fn beta_zero(machine: &Machine) -> Result<(), NotHere> {
    let ((_, a), (_, b)) = (floats(machine, 1, 1, &[2.0]), floats(machine, 1, 1, &[3.0]));
    let (result, c) = floats(machine, 1, 1, &[f32::NAN]);
    encode(machine, |commands| {
        multiply(&Gemm::new(1, 1, 1).kernel(machine), commands, &a, &b, &c)
    });
    assert_eq!(contents::<f32>(&result), [6.0]);
    Ok(())
}

/// Square matrices of ones.
fn ones(machine: &Machine, size: usize) -> Retained<MPSMatrix> {
    floats(machine, size, size, &vec![1.0; size * size]).1
}

fn open_encoder(machine: &Machine) -> Result<(), NotHere> {
    let (a, c) = (ones(machine, 2), ones(machine, 2));
    let commands = machine.commands();
    let encoder = commands.blitCommandEncoder().expect("an encoder");
    multiply(&Gemm::new(2, 2, 2).kernel(machine), &commands, &a, &a, &c);
    encoder.endEncoding();
    Ok(())
}

fn after_commit(machine: &Machine) -> Result<(), NotHere> {
    let (a, c) = (ones(machine, 2), ones(machine, 2));
    let commands = machine.commands();
    commands.commit();
    multiply(&Gemm::new(2, 2, 2).kernel(machine), &commands, &a, &a, &c);
    Ok(())
}

/// A product whose operands are squares of these sizes.
fn of_squares(machine: &Machine, gemm: Gemm, left: usize, right: usize, result: usize) {
    let (a, b, c) = (
        ones(machine, left),
        ones(machine, right),
        ones(machine, result),
    );
    encode(machine, |commands| {
        multiply(&gemm.kernel(machine), commands, &a, &b, &c)
    });
}

fn left_rows(machine: &Machine) -> Result<(), NotHere> {
    of_squares(machine, Gemm::new(3, 2, 2), 2, 3, 3);
    Ok(())
}

fn right_columns(machine: &Machine) -> Result<(), NotHere> {
    of_squares(machine, Gemm::new(2, 3, 2), 3, 2, 3);
    Ok(())
}

fn result_rows(machine: &Machine) -> Result<(), NotHere> {
    of_squares(machine, Gemm::new(3, 2, 2), 3, 3, 2);
    Ok(())
}

fn bf16(machine: &Machine) -> Result<(), NotHere> {
    let a = matrix(&machine.shared(8), 2, 2, 4, MPSDataType::BFloat16);
    let c = ones(machine, 2);
    encode(machine, |commands| {
        multiply(&Gemm::new(2, 2, 2).kernel(machine), commands, &a, &a, &c)
    });
    Ok(())
}

fn integer_result(machine: &Machine) -> Result<(), NotHere> {
    let a = matrix(&machine.shared(4), 2, 2, 2, MPSDataType::Int8);
    let c = matrix(&machine.shared(16), 2, 2, 8, MPSDataType::Int32);
    encode(machine, |commands| {
        multiply(&Gemm::new(2, 2, 2).kernel(machine), commands, &a, &a, &c)
    });
    Ok(())
}

fn other_device(machine: &Machine) -> Result<(), NotHere> {
    let other = machine.other_device()?;
    let (a, c) = (ones(machine, 2), ones(machine, 2));
    // SAFETY: plain values.
    let kernel = unsafe {
        MPSMatrixMultiplication::initWithDevice_resultRows_resultColumns_interiorColumns(
            MPSMatrixMultiplication::alloc(),
            &other,
            2,
            2,
            2,
        )
    };
    assert_ne!(other.registryID(), machine.device().registryID());
    encode(machine, |commands| multiply(&kernel, commands, &a, &a, &c));
    Ok(())
}

fn empty(machine: &Machine) -> Result<(), NotHere> {
    Gemm::new(2, 2, 0).kernel(machine);
    Ok(())
}

fn aliasing(machine: &Machine) -> Result<(), NotHere> {
    let (a, b) = (ones(machine, 2), ones(machine, 2));
    encode(machine, |commands| {
        multiply(&Gemm::new(2, 2, 2).kernel(machine), commands, &a, &b, &a)
    });
    Ok(())
}
