//! `MPSMatrixSoftMax`, `MPSMatrixLogSoftMax` and their gradients.

use super::{cases, encode, floats, matrix, numbers};
use crate::Expect::{Ends, Holds, Undefined};
use crate::machine::{Commands, contents};
use crate::{Machine, NotHere};
use objc2::rc::Retained;
use objc2::{AnyThread, ClassType};
use objc2_metal::{MTLCommandBuffer, MTLCommandEncoder};
use objc2_metal_performance_shaders::{
    MPSDataType, MPSMatrix, MPSMatrixLogSoftMax, MPSMatrixLogSoftMaxGradient, MPSMatrixSoftMax,
    MPSMatrixSoftMaxGradient,
};

cases! {
    "MPSMatrixSoftMax: each row sums to one": Holds => rows_sum_to_one,
    "MPSMatrixSoftMax: large inputs do not overflow": Holds => large_inputs,
    "MPSMatrixSoftMax: a part of the source": Holds => part,
    "MPSMatrixLogSoftMax: the logarithm of softmax": Holds => logarithm,
    "MPSMatrixSoftMaxGradient: y (g - sum(g y))": Holds => gradient,
    "MPSMatrixLogSoftMaxGradient: g - exp(y) sum(g)": Holds => log_gradient,
    "MPSMatrixSoftMax: an encoder is open": Ends("encoder already open") => open_encoder,
    "MPSMatrixSoftMax: integers": Ends("data types") => integers,
    "MPSMatrixSoftMax: source and result of two types": Ends("data types") => two_types,
    "MPSMatrixSoftMax: a result that is too small": Undefined("resultMatrix has") => small_result,
}

const ROWS: usize = 7;
const COLUMNS: usize = 13;

fn softmax(machine: &Machine) -> Retained<MPSMatrixSoftMax> {
    // SAFETY: a device.
    unsafe { MPSMatrixSoftMax::initWithDevice(MPSMatrixSoftMax::alloc(), machine.device()) }
}

fn log_softmax(machine: &Machine) -> Retained<MPSMatrixLogSoftMax> {
    // SAFETY: a device.
    unsafe { MPSMatrixLogSoftMax::initWithDevice(MPSMatrixLogSoftMax::alloc(), machine.device()) }
}

fn apply(kernel: &MPSMatrixSoftMax, commands: &Commands, input: &MPSMatrix, result: &MPSMatrix) {
    // SAFETY: the matrices are the body's business: some break a rule to see it caught.
    unsafe { kernel.encodeToCommandBuffer_inputMatrix_resultMatrix(commands, input, result) };
}

/// What a kernel makes of a matrix of rows.
fn forward(machine: &Machine, kernel: &MPSMatrixSoftMax, values: &[f32]) -> Vec<f32> {
    let (_, x) = floats(machine, ROWS, COLUMNS, values);
    let (result, y) = floats(machine, ROWS, COLUMNS, &[0.0; ROWS * COLUMNS]);
    encode(machine, |commands| apply(kernel, commands, &x, &y));
    contents(&result)
}

/// The logarithm of softmax, in f64.
fn log_of_row(row: &[f32]) -> Vec<f64> {
    let largest = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let shifted: Vec<f64> = row
        .iter()
        .map(|x| f64::from(*x) - f64::from(largest))
        .collect();
    let sum: f64 = shifted.iter().map(|x| x.exp()).sum();
    shifted.into_iter().map(|x| x - sum.ln()).collect()
}

#[track_caller]
fn assert_close(results: &[f32], expected: impl IntoIterator<Item = f64>) {
    for (result, expected) in results.iter().zip(expected) {
        let error = (f64::from(*result) - expected).abs();
        assert!(
            error <= 1e-5 * expected.abs().max(1.0),
            "{result} for {expected}"
        );
    }
}

fn rows_sum_to_one(machine: &Machine) -> Result<(), NotHere> {
    let values = numbers(ROWS * COLUMNS, 7);
    let results = forward(machine, &softmax(machine), &values);
    for (row, result) in values.chunks(COLUMNS).zip(results.chunks(COLUMNS)) {
        assert_close(result, log_of_row(row).into_iter().map(f64::exp));
        let sum: f64 = result.iter().map(|y| f64::from(*y)).sum();
        assert!((sum - 1.0).abs() < 1e-5, "{sum}");
    }
    Ok(())
}

fn large_inputs(machine: &Machine) -> Result<(), NotHere> {
    let values: Vec<f32> = numbers(ROWS * COLUMNS, 8).iter().map(|x| x * 1e4).collect();
    let results = forward(machine, &softmax(machine), &values);
    for (row, result) in values.chunks(COLUMNS).zip(results.chunks(COLUMNS)) {
        assert_close(result, log_of_row(row).into_iter().map(f64::exp));
    }
    Ok(())
}

fn part(machine: &Machine) -> Result<(), NotHere> {
    let kernel = softmax(machine);
    // SAFETY: plain values.
    unsafe {
        kernel.setSourceRows(2);
        kernel.setSourceColumns(3);
    }
    let values = numbers(ROWS * COLUMNS, 9);
    let results = forward(machine, &kernel, &values);
    for (number, result) in results.chunks(COLUMNS).enumerate() {
        let row = &values[number * COLUMNS..][..3];
        let inside = if number < 2 { 3 } else { 0 };
        assert_close(&result[..inside], log_of_row(row).into_iter().map(f64::exp));
        assert!(
            result[inside..].iter().all(|y| *y == 0.0),
            "outside it stays as it was"
        );
    }
    Ok(())
}

fn logarithm(machine: &Machine) -> Result<(), NotHere> {
    let values = numbers(ROWS * COLUMNS, 10);
    let results = forward(machine, log_softmax(machine).as_super(), &values);
    for (row, result) in values.chunks(COLUMNS).zip(results.chunks(COLUMNS)) {
        assert_close(result, log_of_row(row));
    }
    Ok(())
}

/// What a gradient kernel makes of a gradient and a forward output.
fn backward(
    machine: &Machine,
    kernel: &MPSMatrixSoftMaxGradient,
    gradient: &[f32],
    output: &[f32],
) -> Vec<f32> {
    let (_, dy) = floats(machine, ROWS, COLUMNS, gradient);
    let (_, y) = floats(machine, ROWS, COLUMNS, output);
    let (result, dx) = floats(machine, ROWS, COLUMNS, &[0.0; ROWS * COLUMNS]);
    // SAFETY: the matrices are of one size and type.
    encode(machine, |commands| unsafe {
        kernel.encodeToCommandBuffer_gradientMatrix_forwardOutputMatrix_resultMatrix(
            commands, &dy, &y, &dx,
        );
    });
    contents(&result)
}

fn gradient(machine: &Machine) -> Result<(), NotHere> {
    let values = numbers(ROWS * COLUMNS, 11);
    let output = forward(machine, &softmax(machine), &values);
    let gradient = numbers(ROWS * COLUMNS, 12);
    // SAFETY: a device.
    let kernel = unsafe {
        MPSMatrixSoftMaxGradient::initWithDevice(
            MPSMatrixSoftMaxGradient::alloc(),
            machine.device(),
        )
    };
    let results = backward(machine, &kernel, &gradient, &output);
    for ((row, g), result) in values
        .chunks(COLUMNS)
        .zip(gradient.chunks(COLUMNS))
        .zip(results.chunks(COLUMNS))
    {
        let y: Vec<f64> = log_of_row(row).into_iter().map(f64::exp).collect();
        let total: f64 = y.iter().zip(g).map(|(y, g)| y * f64::from(*g)).sum();
        assert_close(
            result,
            y.iter().zip(g).map(|(y, g)| y * (f64::from(*g) - total)),
        );
    }
    Ok(())
}

fn log_gradient(machine: &Machine) -> Result<(), NotHere> {
    let values = numbers(ROWS * COLUMNS, 13);
    let output = forward(machine, log_softmax(machine).as_super(), &values);
    let gradient = numbers(ROWS * COLUMNS, 14);
    // SAFETY: a device.
    let kernel = unsafe {
        MPSMatrixLogSoftMaxGradient::initWithDevice(
            MPSMatrixLogSoftMaxGradient::alloc(),
            machine.device(),
        )
    };
    let results = backward(machine, kernel.as_super(), &gradient, &output);
    for ((row, g), result) in values
        .chunks(COLUMNS)
        .zip(gradient.chunks(COLUMNS))
        .zip(results.chunks(COLUMNS))
    {
        let total: f64 = g.iter().map(|g| f64::from(*g)).sum();
        let expected = log_of_row(row);
        assert_close(
            result,
            expected
                .iter()
                .zip(g)
                .map(|(y, g)| f64::from(*g) - y.exp() * total),
        );
    }
    Ok(())
}

fn open_encoder(machine: &Machine) -> Result<(), NotHere> {
    let ((_, x), (_, y)) = (
        floats(machine, 1, 2, &[0.0; 2]),
        floats(machine, 1, 2, &[0.0; 2]),
    );
    let commands = machine.commands();
    let encoder = commands.blitCommandEncoder().expect("an encoder");
    apply(&softmax(machine), &commands, &x, &y);
    encoder.endEncoding();
    Ok(())
}

/// One row of a softmax between these types.
fn between(machine: &Machine, from: MPSDataType, into: MPSDataType) {
    let x = matrix(&machine.shared(16), 1, 4, 16, from);
    let y = matrix(&machine.shared(16), 1, 4, 16, into);
    encode(machine, |commands| {
        apply(&softmax(machine), commands, &x, &y)
    });
}

fn integers(machine: &Machine) -> Result<(), NotHere> {
    between(machine, MPSDataType::Int32, MPSDataType::Int32);
    Ok(())
}

fn two_types(machine: &Machine) -> Result<(), NotHere> {
    between(machine, MPSDataType::Float32, MPSDataType::Float16);
    Ok(())
}

fn small_result(machine: &Machine) -> Result<(), NotHere> {
    let ((_, x), (_, y)) = (
        floats(machine, 2, 3, &[0.0; 6]),
        floats(machine, 2, 2, &[0.0; 4]),
    );
    encode(machine, |commands| {
        apply(&softmax(machine), commands, &x, &y)
    });
    Ok(())
}
