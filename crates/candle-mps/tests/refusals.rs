//! Bad input on tensors: an error with the remedy, never an abort, never a panic.
#![cfg(feature = "metal")]

mod support;

use candle_core::{DType, Device, Tensor};
use candle_mps::{Error, FusedOps};
use half::bf16;
use support::metal;

fn zeros(dims: &[usize], dtype: DType, device: &Device) -> Tensor {
    Tensor::zeros(dims, dtype, device).unwrap()
}

fn says(error: &Error, remedy: &str) {
    assert!(error.to_string().contains(remedy), "{error}");
}

#[test]
fn ordinals_without_a_device() {
    let available = candle_mps::safe_mps::Device::all().len();
    for ordinal in [available, usize::MAX] {
        let error = candle_mps::metal::device(ordinal).unwrap_err();
        assert!(
            matches!(error, Error::NoSuchDevice { ordinal: o, available: a }
            if o == ordinal && a == available)
        );
        says(&error, "count from 0");
    }
}

#[test]
fn fused_ops_on_two_devices() {
    let cpu = zeros(&[1, 1, 2, 2], DType::F32, &Device::Cpu);
    let gpu = zeros(&[1, 1, 2, 2], DType::F32, &metal());
    let row = |x: &Tensor| x.flatten_all().unwrap().narrow(0, 0, 2).unwrap();
    let targets = zeros(&[1, 1, 2], DType::U32, &metal());
    let options = Default::default();
    let errors = [
        cpu.matmul_fused(&gpu),
        gpu.rms_norm(&row(&cpu), 1e-5),
        cpu.layer_norm(&row(&cpu), Some(&row(&gpu)), 1e-5),
        gpu.rope(&cpu, &gpu),
        cpu.attention(&cpu, &gpu, None, &options),
        cpu.attention(&cpu, &cpu, Some(&gpu), &options),
        cpu.swiglu(&gpu),
        cpu.cross_entropy(&targets),
    ];
    for error in errors.map(candle_mps::Result::unwrap_err) {
        assert!(matches!(error, Error::DeviceMismatch { .. }), "{error}");
        says(&error, "Tensor::to_device");
    }
}

#[test]
fn tensors_of_the_cpu() {
    let (cpu, gpu) = (
        zeros(&[2, 2], DType::F32, &Device::Cpu),
        zeros(&[2, 2], DType::F32, &metal()),
    );
    let left = cpu.matmul_mps(&gpu).unwrap_err();
    assert!(matches!(
        left,
        Error::NotOnMetal {
            operand: "left",
            ..
        }
    ));
    let right = gpu.matmul_mps(&cpu).unwrap_err();
    assert!(matches!(
        right,
        Error::NotOnMetal {
            operand: "right",
            ..
        }
    ));
    for error in [
        left,
        right,
        cpu.softmax_mps().unwrap_err(),
        cpu.log_softmax_mps().unwrap_err(),
    ] {
        says(&error, "Tensor::to_device");
    }
}

/// Two Candle devices on one GPU have a stream each, so mixing them is a race.
#[test]
fn tensors_of_two_devices() {
    let (a, b) = (
        zeros(&[2, 2], DType::F32, &metal()),
        zeros(&[2, 2], DType::F32, &metal()),
    );
    let error = a.matmul_mps(&b).unwrap_err();
    assert!(matches!(error, Error::DeviceMismatch { .. }));
    says(&error, "clones of one Device");
}

#[test]
fn types_without_a_kernel() {
    let device = metal();
    let brain = Tensor::from_slice(&[bf16::ONE; 4], (2, 2), &device).unwrap();
    for error in [
        brain.matmul_mps(&brain).unwrap_err(),
        brain.softmax_mps().unwrap_err(),
        brain.log_softmax_mps().unwrap_err(),
    ] {
        assert!(matches!(
            error,
            Error::UnsupportedDType {
                dtype: DType::BF16,
                ..
            }
        ));
        says(&error, "convert it to f16 or f32");
    }
    let whole = zeros(&[2, 2], DType::U32, &device);
    says(
        &whole.matmul_mps(&whole).unwrap_err(),
        "convert it to f32 or f16",
    );
    let (single, half) = (
        zeros(&[2, 2], DType::F32, &device),
        zeros(&[2, 2], DType::F16, &device),
    );
    let error = single.matmul_mps(&half).unwrap_err();
    assert!(matches!(
        error,
        Error::DTypeMismatch {
            left: DType::F32,
            right: DType::F16,
            ..
        }
    ));
    says(&error, "Tensor::to_dtype");
}

#[test]
fn ranks_and_batches() {
    let device = metal();
    let zeros = |dims: &[usize]| zeros(dims, DType::F32, &device);
    let flat = zeros(&[3]).matmul_mps(&zeros(&[3, 2])).unwrap_err();
    assert!(matches!(
        flat,
        Error::Rank {
            operand: "left",
            needed: 2,
            ..
        }
    ));
    says(&flat, "Tensor::unsqueeze");
    let scalar = zeros(&[]).softmax_mps().unwrap_err();
    assert!(matches!(scalar, Error::Rank { needed: 1, .. }));
    for (a, b) in [
        (&[4, 2, 3][..], &[5, 3, 2][..]),
        (&[4, 2, 3], &[3, 2]),
        (&[1, 2, 3], &[4, 3, 2]),
    ] {
        let error = zeros(a).matmul_mps(&zeros(b)).unwrap_err();
        assert!(matches!(error, Error::Shapes { .. }));
        says(&error, "Tensor::broadcast_as");
    }
}

#[test]
fn errors_survive_candle() {
    fn through_candle(x: &Tensor) -> candle_core::Result<Tensor> {
        Ok(x.softmax_mps()?)
    }
    let x = zeros(&[2, 2], DType::U8, &metal());
    let ours = x.softmax_mps().unwrap_err().to_string();
    assert_eq!(through_candle(&x).unwrap_err().to_string(), ours);
}

/// Memory that the caller's own command buffer uses is refused to an op until that is over.
#[test]
fn a_tensor_in_flight_elsewhere() {
    use candle_mps::safe_mps::{self, DataType, Holder, Matrix, SoftMax};

    let x = zeros(&[2, 2], DType::F32, &metal());
    let gpu = safe_mps::Device::system_default().unwrap();
    let matrix = candle_mps::compat::tensor_to_mps_matrix(&x).unwrap();
    let mut y = Matrix::zeros(&gpu, 2, 2, DataType::F32).unwrap();
    let commands = gpu.new_queue().unwrap().command_buffer().unwrap();
    let softmax = SoftMax::new(&gpu).unwrap();
    softmax.encode(&commands, &matrix, &mut y).unwrap();
    let error = x.softmax_mps().unwrap_err();
    says(&error, "softmax_mps: softmax: input is in use");
    let by = Holder::OpenCommandBuffer;
    says(&error, &by.to_string());
    commands.commit().wait().unwrap();
    assert_eq!(
        x.softmax_mps().unwrap().to_vec2::<f32>().unwrap(),
        [[0.5; 2]; 2]
    );
}
