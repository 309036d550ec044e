//! What a kernel refuses instead of ending the process, by variant and with the words that help.
#![cfg(feature = "metal")]

mod support;

use half::bf16;
use safe_mps::{
    CommandBuffer, DataType, Device, Error, LogSoftMaxGradient, Matrix, MatrixDescriptor,
    MatrixMultiplication, SoftMax, SoftMaxGradient,
};
use support::fresh;

struct Bench {
    device: Device,
    commands: CommandBuffer,
}

impl Bench {
    fn new() -> Self {
        let device = Device::system_default().unwrap();
        let commands = device.new_queue().unwrap().command_buffer().unwrap();
        Self { device, commands }
    }

    fn zeros(&self, rows: usize, columns: usize, data_type: DataType) -> Matrix {
        Matrix::zeros(&self.device, rows, columns, data_type).unwrap()
    }

    fn floats(&self, rows: usize, columns: usize) -> Matrix {
        self.zeros(rows, columns, DataType::F32)
    }

    /// What the product of m × k by k × n says about these operands.
    fn product(&self, [m, n, k]: [usize; 3], a: &Matrix, b: &Matrix, c: &mut Matrix) -> Error {
        let kernel = MatrixMultiplication::new(m, n, k)
            .build(&self.device)
            .unwrap();
        let error = kernel.encode(&self.commands, a, b, c).unwrap_err();
        assert_eq!(self.commands.operations(), 0);
        error
    }
}

#[test]
fn test_mps_matmul_dimension_mismatch() {
    let bench = Bench::new();
    let sizes = [2, 4, 3];
    let cases = [
        ((3, 3), (3, 4), (2, 4), "left", "rows", 2, 3),
        ((2, 5), (3, 4), (2, 4), "left", "columns", 3, 5),
        ((2, 3), (4, 4), (2, 4), "right", "rows", 3, 4),
        ((2, 3), (3, 3), (2, 4), "right", "columns", 4, 3),
        ((2, 3), (3, 4), (4, 4), "result", "rows", 2, 4),
        ((2, 3), (3, 4), (2, 2), "result", "columns", 4, 2),
    ];
    for (a, b, c, operand, dimension, expected, got) in cases {
        let [a, b, mut c] = [a, b, c].map(|(rows, columns)| bench.floats(rows, columns));
        let error = bench.product(sizes, &a, &b, &mut c);
        let op = "matrix multiplication";
        assert_eq!(
            error,
            Error::Dimension {
                op,
                operand,
                dimension,
                expected,
                got
            }
        );
        assert!(error.to_string().contains("sub_matrix"), "{error}");
    }
}

#[test]
fn types_that_mps_refuses() {
    let bench = Bench::new();
    let brain = Matrix::from_slice(&bench.device, 2, 2, &[bf16::ONE; 4]).unwrap();
    let error = bench.product([2, 2, 2], &brain, &brain, &mut bench.floats(2, 2));
    assert!(
        error
            .to_string()
            .contains("left bf16, right bf16 -> result f32"),
        "{error}"
    );
    assert!(
        error.to_string().contains("convert to f16 or f32"),
        "{error}"
    );

    let half = bench.zeros(2, 2, DataType::F16);
    let error = bench.product(
        [2, 2, 2],
        &half,
        &bench.floats(2, 2),
        &mut bench.floats(2, 2),
    );
    assert!(
        error
            .to_string()
            .contains("only the right matrix may be f16"),
        "{error}"
    );
    let byte = bench.zeros(2, 2, DataType::U8);
    let error = bench.product([2, 2, 2], &byte, &byte, &mut bench.floats(2, 2));
    assert!(
        error.to_string().contains("must be f32, f16, i8 or i16"),
        "{error}"
    );

    let softmax = SoftMax::new(&bench.device).unwrap();
    let error = softmax
        .encode(&bench.commands, &brain, &mut brain.clone())
        .unwrap_err();
    assert!(
        error
            .to_string()
            .contains("convert the operands to f32 or f16"),
        "{error}"
    );
    let error = softmax
        .encode(&bench.commands, &half, &mut bench.floats(2, 2))
        .unwrap_err();
    assert!(
        error.to_string().contains("input f16 -> result f32"),
        "{error}"
    );
}

#[test]
fn batches_of_different_sizes() {
    let bench = Bench::new();
    let batch = |count| {
        let descriptor = MatrixDescriptor::new(2, 2, DataType::F32)
            .and_then(|d| d.with_tight_matrices(count))
            .unwrap();
        Matrix::allocate(&bench.device, descriptor).unwrap()
    };
    let error = bench.product([2, 2, 2], &batch(3), &batch(1), &mut batch(3));
    let op = "matrix multiplication";
    assert_eq!(
        error,
        Error::Batch {
            op,
            operand: "right",
            expected: 3,
            got: 1
        }
    );
    assert!(error.to_string().contains("Matrix::matrix(i)"), "{error}");
}

#[test]
fn results_over_an_input() {
    let bench = Bench::new();
    let all = bench.floats(4, 2);
    let rows = |from| all.sub_matrix(from..from + 2, 0..2).unwrap();
    let other = bench.floats(2, 2);
    let op = "matrix multiplication";
    let error = bench.product([2, 2, 2], &rows(0), &other, &mut rows(1));
    assert_eq!(
        error,
        Error::Overlap {
            op,
            operand: "left"
        }
    );
    let error = bench.product([2, 2, 2], &other, &rows(2), &mut rows(2));
    assert_eq!(
        error,
        Error::Overlap {
            op,
            operand: "right"
        }
    );

    let softmax = SoftMax::new(&bench.device).unwrap();
    let error = softmax.encode(&bench.commands, &rows(0), &mut rows(0));
    assert_eq!(
        error,
        Err(Error::Overlap {
            op: "softmax",
            operand: "input"
        })
    );
    let gradient = SoftMaxGradient::new(&bench.device).unwrap();
    let error = gradient.encode(&bench.commands, &other, &rows(0), &mut rows(1));
    let op = "softmax gradient";
    assert_eq!(
        error,
        Err(Error::Overlap {
            op,
            operand: "forward result"
        })
    );
}

#[test]
fn row_kernels_check_sizes() {
    let bench = Bench::new();
    let softmax = SoftMax::new(&bench.device).unwrap();
    let error = softmax.encode(
        &bench.commands,
        &bench.floats(3, 4),
        &mut bench.floats(3, 5),
    );
    let (op, operand, dimension) = ("softmax", "input", "columns");
    assert_eq!(
        error,
        Err(Error::Dimension {
            op,
            operand,
            dimension,
            expected: 5,
            got: 4
        })
    );
    let gradient = LogSoftMaxGradient::new(&bench.device).unwrap();
    let g = bench.floats(3, 4);
    let error = gradient.encode(
        &bench.commands,
        &g,
        &bench.floats(2, 4),
        &mut bench.floats(3, 4),
    );
    let (op, operand, dimension) = ("log softmax gradient", "forward result", "rows");
    assert_eq!(
        error,
        Err(Error::Dimension {
            op,
            operand,
            dimension,
            expected: 3,
            got: 2
        })
    );
}

#[test]
fn read_only_results() {
    let bench = Bench::new();
    let x = bench.floats(2, 2);
    let read_only = fresh(&bench.device, 16).read_only();
    let mut y = Matrix::from_buffer(&read_only, 0, x.descriptor().clone()).unwrap();
    let softmax = SoftMax::new(&bench.device).unwrap();
    let error = softmax.encode(&bench.commands, &x, &mut y);
    assert_eq!(
        error,
        Err(Error::ReadOnly {
            op: "softmax",
            operand: "result"
        })
    );
    // Reading it is fine.
    softmax
        .encode(&bench.commands, &y, &mut bench.floats(2, 2))
        .unwrap();
}

#[test]
fn copies_check_their_ranges() {
    let bench = Bench::new();
    let [a, b] = [fresh(&bench.device, 16), fresh(&bench.device, 8)];
    let copy = |from, to, bytes| bench.commands.copy(&a, from, &b, to, bytes).unwrap_err();
    assert_eq!(
        copy(0, 0, 0),
        Error::ZeroSize {
            op: "copy",
            dimension: "bytes"
        }
    );
    assert_eq!(
        copy(2, 0, 4),
        Error::CopyAlignment {
            what: "source offset",
            value: 2
        }
    );
    assert_eq!(
        copy(0, 0, 5),
        Error::CopyAlignment {
            what: "length",
            value: 5
        }
    );
    let out = |what, offset, bytes, length| Error::OutOfBounds {
        what,
        offset,
        bytes,
        length,
    };
    assert_eq!(copy(12, 0, 8), out("the source of a copy", 12, 8, 16));
    assert_eq!(copy(0, 4, 8), out("the destination of a copy", 4, 8, 8));
    let far = usize::MAX - 3;
    assert_eq!(copy(far, 0, 8), out("the source of a copy", far, 8, 16));
    let onto_itself = bench.commands.copy(&a, 0, &a, 4, 8);
    assert_eq!(
        onto_itself,
        Err(Error::Overlap {
            op: "copy",
            operand: "source"
        })
    );
    bench.commands.copy(&a, 0, &a, 8, 8).unwrap();
}
