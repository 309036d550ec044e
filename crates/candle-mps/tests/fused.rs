//! The fused ops as methods, on the CPU.

use candle_core::{D, DType, Device, Tensor, Var};
use candle_mps::compat::CustomMetalOps;
use candle_mps::ops::{self, Activation, AttentionOptions};
use candle_mps::{FusedOps, Result};

fn tensor(shape: &[usize]) -> Tensor {
    let count: usize = shape.iter().product();
    let data: Vec<f32> = (0..count).map(|at| (at as f32 * 0.7).sin()).collect();
    Tensor::from_vec(data, shape, &Device::Cpu).unwrap()
}

/// A method that `Tensor` had itself would win over the trait's: its result would have another error
/// type, and this would not compile.
fn same(method: Result<Tensor>, function: Result<Tensor>) {
    let flat = |tensor: Result<Tensor>| {
        let tensor = tensor.unwrap().flatten_all().unwrap();
        tensor.to_vec1::<f32>().unwrap()
    };
    assert_eq!(flat(method), flat(function));
}

#[test]
fn methods_are_the_functions() {
    let (x, row, square) = (tensor(&[2, 4]), tensor(&[4]), tensor(&[4, 4]));
    same(x.softmax(0), ops::softmax(&x, 0));
    same(x.softmax_last_dim(), ops::softmax(&x, 1));
    same(x.log_softmax(D::Minus1), ops::log_softmax(&x, 1));
    same(x.rms_norm(&row, 1e-5), ops::rms_norm(&x, &row, 1e-5));
    same(
        x.layer_norm(&row, Some(&row), 1e-5),
        ops::layer_norm(&x, &row, Some(&row), 1e-5),
    );
    same(x.matmul_fused(&square), ops::matmul(&x, &square));
    same(
        x.linear(&square, Some(&row)),
        ops::linear(&x, &square, Some(&row)),
    );
    same(
        x.linear_with(&square, None, Activation::Silu),
        ops::linear_with(&x, &square, None, Activation::Silu),
    );
    same(
        x.linear_add(&square, None, &x),
        ops::linear_add(&x, &square, None, &x),
    );
    same(x.swiglu(&x), ops::swiglu(&x, &x));
    same(x.geglu(&x), ops::geglu(&x, &x));
    same(x.geglu_erf(&x), ops::geglu_erf(&x, &x));
    same(
        x.lora(&square, Some(&row), &square, &square, 0.5),
        ops::lora(&x, &square, Some(&row), &square, &square, 0.5),
    );
    same(
        x.lora_delta(&square, &square, 0.5),
        ops::lora_delta(&x, &square, &square, 0.5),
    );
    let targets = Tensor::new(&[1u32, 3], &Device::Cpu).unwrap();
    same(x.cross_entropy(&targets), ops::cross_entropy(&x, &targets));

    let (x, cos, sin) = (tensor(&[1, 2, 3, 4]), tensor(&[3, 2]), tensor(&[3, 2]));
    same(x.rope(&cos, &sin), ops::rope(&x, &cos, &sin));
    same(x.rope_i(&cos, &sin), ops::rope_i(&x, &cos, &sin));
    same(x.rope_thd(&cos, &sin), ops::rope_thd(&x, &cos, &sin));
    let options = AttentionOptions {
        causal: true,
        ..Default::default()
    };
    same(
        x.attention(&x, &x, None, &options),
        ops::attention(&x, &x, &x, None, &options),
    );
    same(
        x.flash_attention(&x, &x, None, &options),
        ops::attention(&x, &x, &x, None, &options),
    );
}

#[test]
fn names_of_the_first_attempt() {
    let (x, a, b) = (tensor(&[2, 4]), tensor(&[4, 3]), tensor(&[3, 5]));
    same(x.softmax_fused(), ops::softmax_last_dim(&x));
    same(x.rms_norm_fused(1.), ops::rms_norm_no_weight(&x, 1.));
    same(
        x.lora_forward_fused(&a, &b, 0.5),
        ops::lora_delta(&x, &a, &b, 0.5),
    );
    let ones = Tensor::ones(4, DType::F32, &Device::Cpu).unwrap();
    same(x.rms_norm_fused(1.), ops::rms_norm(&x, &ones, 1.));
    let x = Var::from_tensor(&x).unwrap();
    let y = x.rms_norm_fused(0.5).unwrap().softmax_fused().unwrap();
    let y = y.lora_forward_fused(&a, &b, 2.).unwrap();
    let gradients = y.sum_all().unwrap().backward().unwrap();
    assert_eq!(gradients.get(&x).unwrap().dims(), [2, 4]);
}
