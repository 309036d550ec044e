//! A product at the size where Apple's kernel goes wrong, with that defect simulated: bare MPS
//! shows it, `safe-mps` cuts the product and comes out right.

// The bare product needs the raw bindings.
#![allow(unsafe_code)]

use half::f16;
use metal_sim as _;
use objc2::AnyThread;
use objc2_metal::{MTLCommandBuffer, MTLCommandQueue, MTLDevice};
use objc2_metal_performance_shaders::{
    MPSDataType, MPSMatrix, MPSMatrixDescriptor, MPSMatrixMultiplication,
};
use safe_mps::{DataType, Device, Matrix, MatrixDescriptor, MatrixMultiplication};

/// The switch of the simulator that injects the defect, and where it begins on a Mac.
const DEFECT: (&str, u64) = ("METAL_SIM_LARGE_PRODUCT_DEFECT", 1 << 31);

/// One row, eight columns, and so deep that `(1 + 2 K) * 8 * 4` passes 2³¹.
const COLUMNS: usize = 8;
const DEPTH: usize = (1 << 25) + 64;

#[test]
fn the_defect_and_the_guard() {
    let program = std::env::current_exe().unwrap();
    let output = std::process::Command::new(program)
        .args(["--exact", "with_the_defect", "--ignored", "--nocapture"])
        .env(DEFECT.0, DEFECT.1.to_string())
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// Values that are few and exact: ones at both ends of the depth, zeros between.
fn ends(matrix: &Matrix, per_row: usize) {
    let mut values = matrix.buffer().write::<f16>().unwrap();
    let last = values.len() - per_row;
    values[..per_row].fill(f16::ONE);
    values[last..].fill(f16::ONE);
}

#[test]
#[ignore = "started by the_defect_and_the_guard, with the defect switched on"]
fn with_the_defect() {
    let device = Device::system_default().unwrap();
    let zeros = |rows, columns, data_type| {
        Matrix::allocate(
            &device,
            MatrixDescriptor::new(rows, columns, data_type).unwrap(),
        )
        .unwrap()
    };
    let left = zeros(1, DEPTH, DataType::F16);
    let right = zeros(DEPTH, COLUMNS, DataType::F16);
    ends(&left, 1);
    ends(&right, COLUMNS);
    let mut result = zeros(1, COLUMNS, DataType::F32);

    let product = MatrixMultiplication::new(1, COLUMNS, DEPTH)
        .build(&device)
        .unwrap();
    let commands = device.new_queue().unwrap().command_buffer().unwrap();
    product
        .encode(&commands, &left, &right, &mut result)
        .unwrap();
    commands.commit().wait().unwrap();
    assert_eq!(result.to_vec::<f32>().unwrap(), [2.0; COLUMNS]);

    assert!(
        bare(device.metal())[0].is_nan(),
        "without the guard the defect shows"
    );
}

/// The same shape by bare MPS, on zeros.
fn bare(device: &objc2::runtime::ProtocolObject<dyn MTLDevice>) -> Vec<f32> {
    let matrix = |rows: usize, columns: usize, size: usize, data_type| {
        // SAFETY: the matrix makes its own buffer.
        unsafe {
            let descriptor =
                MPSMatrixDescriptor::matrixDescriptorWithRows_columns_rowBytes_dataType(
                    rows,
                    columns,
                    columns * size,
                    data_type,
                );
            MPSMatrix::initWithDevice_descriptor(MPSMatrix::alloc(), device, &descriptor)
        }
    };
    let left = matrix(1, DEPTH, 2, MPSDataType::Float16);
    let right = matrix(DEPTH, COLUMNS, 2, MPSDataType::Float16);
    let result = matrix(1, COLUMNS, 4, MPSDataType::Float32);
    let commands = device.newCommandQueue().unwrap().commandBuffer().unwrap();
    // SAFETY: the matrices have the sizes of the product.
    unsafe {
        let kernel =
            MPSMatrixMultiplication::initWithDevice_resultRows_resultColumns_interiorColumns(
                MPSMatrixMultiplication::alloc(),
                device,
                1,
                COLUMNS,
                DEPTH,
            );
        kernel.encodeToCommandBuffer_leftMatrix_rightMatrix_resultMatrix(
            &commands, &left, &right, &result,
        );
        commands.commit();
        commands.waitUntilCompleted();
        let start = objc2_metal::MTLBuffer::contents(&*result.data()).cast::<f32>();
        std::slice::from_raw_parts(start.as_ptr(), COLUMNS).to_vec()
    }
}
