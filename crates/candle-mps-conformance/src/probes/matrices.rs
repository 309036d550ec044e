//! Questions about `MPSMatrix` kernels.

use super::{Answer, Probe};
use crate::machine::{Buffer, contents};
use crate::mps::{encode, floats, matrix};
use crate::{Machine, NotHere};
use half::f16;
use objc2::AnyThread;
use objc2::rc::Retained;
use objc2_metal_performance_shaders::{
    MPSDataType, MPSMatrix, MPSMatrixDescriptor, MPSMatrixMultiplication, MPSMatrixSoftMax,
};

pub(super) const PROBES: &[Probe] = &[
    Probe {
        id: "a",
        question: "are batchStart and batchSize of a product honoured?",
        body: batch,
        if_it_ends: None,
    },
    Probe {
        id: "b",
        question: "is the result read when beta is 0?",
        body: beta_zero,
        if_it_ends: None,
    },
    Probe {
        id: "c",
        question: "how wide is the accumulator of an f16 product?",
        body: accumulator,
        if_it_ends: None,
    },
    Probe {
        id: "d1",
        question: "what is softmax of a row of -inf, and of one with a NaN?",
        body: softmax,
        if_it_ends: None,
    },
];

fn kernel(machine: &Machine, m: usize, n: usize, k: usize) -> Retained<MPSMatrixMultiplication> {
    // SAFETY: plain values.
    unsafe {
        MPSMatrixMultiplication::initWithDevice_transposeLeft_transposeRight_resultRows_resultColumns_interiorColumns_alpha_beta(
            MPSMatrixMultiplication::alloc(), machine.device(), false, false, m, n, k, 1.0, 0.0,
        )
    }
}

fn multiply(machine: &Machine, kernel: &MPSMatrixMultiplication, [a, b, c]: [&MPSMatrix; 3]) {
    // SAFETY: matrices of the kernel's sizes.
    encode(machine, |commands| unsafe {
        kernel.encodeToCommandBuffer_leftMatrix_rightMatrix_resultMatrix(commands, a, b, c);
    });
}

/// Three matrices of one element each.
fn three(machine: &Machine, value: f32) -> (Buffer, Retained<MPSMatrix>) {
    // Strides of 16 bytes, which every system takes.
    let buffer = machine.filled(&[value; 12]);
    // SAFETY: three matrices lie in the buffer.
    let matrix = unsafe {
        let descriptor = MPSMatrixDescriptor::matrixDescriptorWithRows_columns_matrices_rowBytes_matrixBytes_dataType(
            1, 1, 3, 16, 16, MPSDataType::Float32,
        );
        MPSMatrix::initWithBuffer_descriptor(MPSMatrix::alloc(), &buffer, &descriptor)
    };
    (buffer, matrix)
}

fn batch(machine: &Machine) -> Result<Answer, NotHere> {
    let written = |start: usize, size: usize| -> Vec<usize> {
        let ((_, a), (_, b), (result, c)) = (
            three(machine, 1.0),
            three(machine, 1.0),
            three(machine, 0.0),
        );
        let kernel = kernel(machine, 1, 1, 1);
        // SAFETY: plain numbers, within the batch.
        unsafe {
            kernel.setBatchStart(start);
            kernel.setBatchSize(size);
        }
        multiply(machine, &kernel, [&a, &b, &c]);
        let values = contents::<f32>(&result);
        (0..3).filter(|at| values[at * 4] != 0.0).collect()
    };
    let (second, none) = (written(1, 1), written(0, 0));
    let text = format!(
        "batchStart 1, batchSize 1 writes matrices {second:?}; batchSize 0 writes {none:?}"
    );
    let switch = match second.as_slice() {
        [1] => "METAL_SIM_IGNORE_BATCH_START=0",
        _ => "METAL_SIM_IGNORE_BATCH_START=1",
    };
    Ok(Answer::new(text).switch(switch))
}

fn beta_zero(machine: &Machine) -> Result<Answer, NotHere> {
    let (_, a) = floats(machine, 4, 4, &[1.0; 16]);
    let (_, b) = floats(machine, 4, 4, &[1.0; 16]);
    let (result, c) = floats(machine, 4, 4, &[f32::NAN; 16]);
    multiply(machine, &kernel(machine, 4, 4, 4), [&a, &b, &c]);
    let read = contents::<f32>(&result).iter().any(|it| it.is_nan());
    Ok(match read {
        true => Answer::new("it is read").switch("METAL_SIM_READ_C=1"),
        false => Answer::new("it is not read").switch("METAL_SIM_READ_C=0"),
    })
}

/// Sums that a narrower accumulator gets wrong: 4096 ones, of which f16 counts 2048, and 1 + 2⁻²⁰ in an f32 result.
fn accumulator(machine: &Machine) -> Result<Answer, NotHere> {
    const ONES: usize = 4096;
    let half = MPSDataType::Float16;
    let ones = machine.filled(&[f16::ONE; ONES]);
    let (a, b) = (
        matrix(&ones, 1, ONES, ONES * 2, half),
        matrix(&ones, ONES, 1, 2, half),
    );
    let result = machine.filled(&[f16::ZERO; 8]);
    let c = matrix(&result, 1, 1, 16, half);
    multiply(machine, &kernel(machine, 1, 1, ONES), [&a, &b, &c]);
    let counted = contents::<f16>(&result)[0].to_f32();

    let small = f16::from_f32(2f32.powi(-10));
    let pair = machine.filled(&[f16::ONE, small, f16::ZERO, f16::ZERO]);
    let (a, b) = (matrix(&pair, 1, 2, 8, half), matrix(&pair, 2, 1, 2, half));
    let (sum, c) = floats(machine, 1, 1, &[0.0]);
    multiply(machine, &kernel(machine, 1, 1, 2), [&a, &b, &c]);
    let exact = contents::<f32>(&sum)[0] == 1.0 + 2f32.powi(-20);

    let into_half = match counted == ONES as f32 {
        true => "wider than f16",
        false => "f16",
    };
    let into_single = if exact { "f32" } else { "narrower than f32" };
    let text = format!("{into_half} for an f16 result, {into_single} for an f32 result");
    Ok(Answer::new(text).detail(format!("{ONES} ones are {counted}")))
}

/// `0`, `NaN` or another number.
pub(super) fn kind(value: f32) -> String {
    match value {
        it if it.is_nan() => "NaN".to_owned(),
        it => it.to_string(),
    }
}

fn kinds(values: &[f32]) -> String {
    let mut kinds: Vec<_> = values.iter().map(|it| kind(*it)).collect();
    kinds.dedup();
    kinds.join(", ")
}

fn softmax(machine: &Machine) -> Result<Answer, NotHere> {
    const COLUMNS: usize = 4;
    let row = |values: [f32; COLUMNS]| {
        let (_, x) = floats(machine, 1, COLUMNS, &values);
        let (result, y) = floats(machine, 1, COLUMNS, &[0.0; COLUMNS]);
        // SAFETY: a device, and matrices of one size.
        unsafe {
            let kernel =
                MPSMatrixSoftMax::initWithDevice(MPSMatrixSoftMax::alloc(), machine.device());
            encode(machine, |commands| {
                kernel.encodeToCommandBuffer_inputMatrix_resultMatrix(commands, &x, &y);
            });
        }
        kinds(&contents::<f32>(&result))
    };
    Ok(Answer::new(format!(
        "-inf everywhere gives {}; a NaN among zeros gives {}",
        row([f32::NEG_INFINITY; COLUMNS]),
        row([0.0, f32::NAN, 0.0, 0.0])
    )))
}
