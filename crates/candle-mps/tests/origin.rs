//! The tests of the first attempt at MPS for Candle, by name.
#![cfg(feature = "metal")]

mod support;

use candle_core::{DType, Device, Tensor};
use candle_mps::Error;
use candle_mps::compat::{mps_matmul, tensor_to_mps_matrix, validate_tensor_for_mps};
use candle_mps::safe_mps::{self, DataType, Matrix, MatrixDescriptor, MatrixMultiplication};
use support::{compare, metal, values};

#[test]
fn test_mps_matmul_basic() {
    let device = metal();
    let a = Tensor::from_slice(&[1f32, 2., 3., 4.], (2, 2), &device).unwrap();
    let b = Tensor::from_slice(&[5f32, 6., 7., 8.], (2, 2), &device).unwrap();
    let c = mps_matmul(&a, &b).unwrap();
    assert_eq!(c.dims(), [2, 2]);
    assert_eq!(c.dtype(), DType::F32);
    assert_eq!(c.to_vec2::<f32>().unwrap(), [[19., 22.], [43., 50.]]);
}

#[test]
fn test_mps_matmul_creation() {
    let device = safe_mps::Device::system_default().unwrap();
    assert!(device.supports_mps());
    for (m, n, k) in [(2, 2, 2), (1, 1, 1), (512, 16, 1024)] {
        let kernel = MatrixMultiplication::new(m, n, k)
            .alpha(2.0)
            .beta(1.0)
            .build(&device);
        assert_eq!(kernel.unwrap().device(), &device);
    }
}

#[test]
fn test_mps_matmul_dimension_mismatch() {
    let device = metal();
    let a = Tensor::zeros((2, 3), DType::F32, &device).unwrap();
    let b = Tensor::zeros((4, 5), DType::F32, &device).unwrap();
    let error = mps_matmul(&a, &b).unwrap_err();
    assert!(matches!(&error, Error::Shapes { left, right, .. }
        if left.dims() == [2, 3] && right.dims() == [4, 5]));
    assert!(error.to_string().contains("transpose one"), "{error}");
}

#[test]
fn test_mps_matmul_correctness() {
    let device = metal();
    for (m, n, k) in [
        (4, 4, 4),
        (16, 8, 32),
        (33, 17, 65),
        (1, 64, 128),
        (64, 1, 7),
    ] {
        let element = |i: usize| ((i * 37 + 11) % 101) as f32 / 101. - 0.5;
        let a: Vec<f32> = (0..m * k).map(element).collect();
        let b: Vec<f32> = (0..k * n).map(|i| element(i * 3 + 1)).collect();
        let a = Tensor::from_vec(a, (m, k), &Device::Cpu).unwrap();
        let b = Tensor::from_vec(b, (k, n), &Device::Cpu).unwrap();
        let on_cpu = values(&a.matmul(&b).unwrap());
        let (a, b) = (a.to_device(&device).unwrap(), b.to_device(&device).unwrap());
        let on_mps = values(&mps_matmul(&a, &b).unwrap());
        compare(&format!("{m}x{n}x{k}"), &on_mps, &on_cpu, |_| 1e-5);
    }
}

#[test]
fn test_mps_data_type_size() {
    let sizes = [
        (DataType::F32, 4, 0x1000_0020),
        (DataType::F16, 2, 0x1000_0010),
        (DataType::BF16, 2, 0x9000_0010),
        (DataType::I8, 1, 0x2000_0008),
        (DataType::I16, 2, 0x2000_0010),
        (DataType::U32, 4, 0x0000_0020),
    ];
    for (data_type, size, mps) in sizes {
        assert_eq!(data_type.size_in_bytes(), size);
        assert_eq!(data_type.to_mps().0, mps);
    }
}

#[test]
fn test_mps_descriptor_creation() {
    let descriptor = MatrixDescriptor::new(3, 4, DataType::F32).unwrap();
    assert_eq!((descriptor.rows(), descriptor.columns()), (3, 4));
    assert_eq!(
        (descriptor.row_bytes(), descriptor.matrix_bytes()),
        (16, 48)
    );
    assert_eq!(
        (descriptor.matrices(), descriptor.data_type()),
        (1, DataType::F32)
    );
    assert!(MatrixDescriptor::new(3, 0, DataType::F32).is_err());
    assert!(descriptor.with_row_bytes(15).is_err());
}

#[test]
fn test_mps_descriptor_clone() {
    let descriptor = MatrixDescriptor::new(3, 4, DataType::F16).unwrap();
    let copy = descriptor.clone();
    let wider = descriptor.clone().with_row_bytes(32).unwrap();
    assert_eq!(copy, descriptor);
    assert_ne!(wider, descriptor);
}

#[test]
fn test_validate_tensor_cpu_fails() {
    let tensor = Tensor::zeros((2, 3), DType::F32, &Device::Cpu).unwrap();
    let error = validate_tensor_for_mps(&tensor).unwrap_err();
    assert!(matches!(error, Error::NotOnMetal { .. }));
    assert!(error.to_string().contains("Tensor::to_device"), "{error}");
}

#[test]
fn test_validate_tensor_metal_passes() {
    let device = metal();
    let tensor = Tensor::zeros((4, 6), DType::F32, &device).unwrap();
    validate_tensor_for_mps(&tensor).unwrap();
    validate_tensor_for_mps(&tensor.narrow(1, 2, 3).unwrap()).unwrap();
    validate_tensor_for_mps(&tensor.reshape((2, 2, 6)).unwrap()).unwrap();

    let refused = |tensor: Tensor| validate_tensor_for_mps(&tensor).unwrap_err();
    let transposed = refused(tensor.t().unwrap());
    assert!(matches!(&transposed, Error::Strides { strides, .. } if strides == &[1, 6]));
    assert!(
        transposed.to_string().contains("Tensor::contiguous"),
        "{transposed}"
    );
    let flat = refused(tensor.reshape(24).unwrap());
    assert!(matches!(flat, Error::Rank { needed: 2, .. }));
    let long = refused(Tensor::zeros((2, 2), DType::I64, &device).unwrap());
    assert!(matches!(
        long,
        Error::UnsupportedDType {
            dtype: DType::I64,
            ..
        }
    ));
    let empty = refused(Tensor::zeros((0, 2), DType::F32, &device).unwrap());
    assert!(matches!(empty, Error::Empty { .. }));
}

#[test]
fn test_tensor_to_mps_matrix() {
    let device = metal();
    let tensor = Tensor::from_slice(&[1f32, 2., 3., 4., 5., 6.], (2, 3), &device).unwrap();
    let part = tensor.narrow(1, 1, 2).unwrap();
    let matrix = tensor_to_mps_matrix(&part).unwrap();
    assert_eq!((matrix.rows(), matrix.columns()), (2, 2));
    assert_eq!((matrix.offset(), matrix.descriptor().row_bytes()), (4, 12));
    assert_eq!(matrix.data_type(), DataType::F32);
    // The same memory, so no copy was made.
    let whole = tensor_to_mps_matrix(&tensor).unwrap();
    assert!(matrix.buffer().is_same(whole.buffer()));
    // The memory lives on, and is not given to the next tensor of this size.
    drop((tensor, part));
    let _other = Tensor::from_slice(&[0f32; 6], (2, 3), &device).unwrap();

    let gpu = safe_mps::Device::system_default().unwrap();
    let one = Matrix::from_slice(&gpu, 2, 2, &[1f32, 0., 0., 1.]).unwrap();
    let mut copy = Matrix::zeros(&gpu, 2, 2, DataType::F32).unwrap();
    let product = MatrixMultiplication::new(2, 2, 2).build(&gpu).unwrap();
    let commands = gpu.new_queue().unwrap().command_buffer().unwrap();
    product.encode(&commands, &matrix, &one, &mut copy).unwrap();
    commands.commit().wait().unwrap();
    assert_eq!(copy.to_vec::<f32>().unwrap(), [2., 3., 5., 6.]);

    // Tensors are values: nobody writes to one, and the host reads it through Candle.
    let commands = gpu.new_queue().unwrap().command_buffer().unwrap();
    let written = product.encode(&commands, &one, &copy, &mut matrix.clone());
    assert!(matches!(
        written,
        Err(safe_mps::Error::ReadOnly {
            operand: "result",
            ..
        })
    ));
    let seen = matrix.to_vec::<f32>();
    assert!(matches!(seen, Err(safe_mps::Error::NotHostVisible { .. })));
}
