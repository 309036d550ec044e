//! Bad input is an error that names the op, the operand, what it got, and the remedy; empty tensors
//! are no bad input.

mod support;

use candle_core::{D, DType, Device, Tensor, Var};
use candle_mps_ops::ops::{self, AttentionOptions};
use candle_mps_ops::{Error, Result};

const CPU: Device = Device::Cpu;

/// On Metal if that is built.
fn zeros(shape: &[usize]) -> Tensor {
    Tensor::zeros(shape, DType::F32, &support::device()).unwrap()
}

/// Where targets are checked, and where Candle has tensors without elements.
fn zeros_on_cpu(shape: &[usize]) -> Tensor {
    Tensor::zeros(shape, DType::F32, &CPU).unwrap()
}

fn refused(result: Result<Tensor>, parts: &[&str]) {
    let error = result.unwrap_err();
    let text = error.to_string();
    for part in parts {
        assert!(text.contains(part), "{part:?} is not in: {text}");
    }
    // The way through Candle's error keeps the text.
    let candle = candle_core::Error::from(error);
    assert_eq!(candle.to_string(), text);
    assert_eq!(Error::from(candle).to_string(), text);
}

#[test]
fn types() {
    let (x, int) = (zeros(&[2, 3]), zeros(&[2, 3]).to_dtype(DType::U32).unwrap());
    let half = x.to_dtype(DType::BF16).unwrap();
    let row = zeros(&[3]);
    let remedy = "convert it with Tensor::to_dtype";
    refused(ops::softmax(&int, 0), &["softmax: x is U32", remedy]);
    refused(
        ops::log_softmax(&int, 0),
        &["log_softmax: x is U32", remedy],
    );
    refused(
        ops::rms_norm(&int, &row, 0.),
        &["rms_norm: x is U32", remedy],
    );
    refused(
        ops::linear(&x, &int, None),
        &["linear: weight is U32", remedy],
    );
    refused(ops::matmul(&int, &int), &["matmul: a is U32", remedy]);
    refused(
        ops::swiglu(&x, &half),
        &["swiglu: up is BF16 and gate is F32", "convert one"],
    );
    refused(
        ops::rms_norm(&half, &row, 0.),
        &["weight is F32 and x is BF16", "convert one"],
    );
    refused(
        ops::cross_entropy(&x, &row),
        &["cross_entropy: targets has shape [3]", "[2] is needed"],
    );
    refused(
        ops::cross_entropy(&x, &zeros(&[2])),
        &["targets is F32", "u8, u32 or i64", "to_dtype"],
    );
    let four = zeros(&[1, 1, 2, 2]);
    let mask = zeros(&[2, 2]).to_dtype(DType::U8).unwrap();
    refused(
        ops::attention(
            &four,
            &four,
            &four,
            Some(&mask),
            &AttentionOptions::default(),
        ),
        &["attention: mask is U8", remedy],
    );
}

#[test]
fn dims_and_ranks() {
    let (x, scalar) = (zeros(&[2, 3]), zeros(&[]));
    refused(
        ops::softmax(&x, 2),
        &["softmax: x has shape [2, 3]", "D::Minus1"],
    );
    refused(
        ops::log_softmax(&x, D::Minus(3)),
        &["log_softmax", "[2, 3]", "count from 0"],
    );
    refused(
        ops::softmax_last_dim(&scalar),
        &["softmax", "[]", "count from 0"],
    );
    refused(
        ops::rms_norm(&scalar, &x, 0.),
        &["rms_norm: x has shape []", "unsqueeze"],
    );
    refused(
        ops::layer_norm(&scalar, &x, None, 0.),
        &["layer_norm: x has shape []", "unsqueeze"],
    );
    refused(
        ops::linear(&scalar, &x, None),
        &["linear: x has shape []", "unsqueeze"],
    );
    refused(
        ops::matmul(&x, &zeros(&[3])),
        &["matmul: b has shape [3]", "unsqueeze"],
    );
    refused(
        ops::swiglu(&scalar, &scalar),
        &["swiglu: gate has shape []", "unsqueeze"],
    );
    refused(
        ops::rope(&x, &x, &x),
        &["rope: x", "[batch, heads, positions, size]"],
    );
    refused(
        ops::rope_thd(&x, &x, &x),
        &["rope_thd: x", "[batch, positions, heads, size]"],
    );
    refused(
        ops::attention(&x, &x, &x, None, &AttentionOptions::default()),
        &[
            "attention: q has shape [2, 3]",
            "[batch, heads, queries, size]",
        ],
    );
    refused(
        ops::cross_entropy(&scalar, &scalar),
        &["cross_entropy: logits has shape []"],
    );
}

#[test]
fn shapes_that_do_not_go_together() {
    refused(
        ops::linear_add(&zeros(&[2, 3]), &zeros(&[4, 3]), None, &zeros(&[2, 3])),
        &["linear: residual has shape [2, 3]", "[2, 4] is needed"],
    );
    let x = zeros(&[2, 3]);
    refused(
        ops::rms_norm(&x, &zeros(&[2]), 0.),
        &["weight has shape [2]", "[3] is needed"],
    );
    refused(
        ops::layer_norm(&x, &zeros(&[3]), Some(&zeros(&[1, 3])), 0.),
        &[
            "layer_norm: bias has shape [1, 3]",
            "[3] is needed",
            "flatten",
        ],
    );
    refused(
        ops::linear(&x, &zeros(&[3, 2]), None),
        &["linear: weight has shape [3, 2]", "[out, 3]", "transpose"],
    );
    refused(
        ops::linear(&x, &zeros(&[4, 3]), Some(&zeros(&[3]))),
        &["bias has shape [3]", "[4] is needed"],
    );
    refused(
        ops::matmul(&x, &x),
        &["matmul: b has shape [2, 3]", "must be 3", "transpose"],
    );
    refused(
        ops::matmul(&zeros(&[2, 2, 3]), &zeros(&[3, 3, 2])),
        &["[2, 2, 3] and [3, 3, 2]", "equal, 1 or missing"],
    );
    refused(
        ops::geglu(&x, &zeros(&[3])),
        &["geglu: [2, 3] and [3]", "broadcast_as"],
    );
    refused(
        ops::lora_delta(&x, &zeros(&[2, 3]), &x, 1.),
        &["lora_delta: a has shape [2, 3]", "[3, rank]", "transpose"],
    );
    refused(
        ops::lora_delta(&x, &zeros(&[3, 0]), &x, 1.),
        &["lora_delta: a has shape [3, 0]", "rank of 1 or more"],
    );
    refused(
        ops::lora(
            &x,
            &zeros(&[4, 3]),
            None,
            &zeros(&[3, 2]),
            &zeros(&[2, 5]),
            1.,
        ),
        &["lora: b has shape [2, 5]", "[rank, 4]"],
    );
    let (x, angles) = (zeros(&[1, 2, 4, 6]), zeros(&[4, 3]));
    refused(
        ops::rope(&x, &zeros(&[3, 3]), &angles),
        &[
            "rope: cos has shape [3, 3]",
            "[4 or more, 3]",
            "one row for each position",
        ],
    );
    refused(
        ops::rope_i(&x, &angles, &zeros(&[2, 4, 3])),
        &["rope_i: sin has shape [2, 4, 3]"],
    );
    refused(
        ops::rope(&zeros(&[1, 2, 4, 5]), &zeros(&[4, 2]), &zeros(&[4, 2])),
        &["cos", "2.5"],
    );
}

#[test]
fn attention_that_does_not_go_together() {
    let options = AttentionOptions::default();
    let (q, k) = (zeros(&[2, 4, 3, 8]), zeros(&[2, 2, 5, 8]));
    let run = |q: &Tensor, k: &Tensor, v: &Tensor| ops::attention(q, k, v, None, &options);
    refused(
        run(&q, &zeros(&[1, 2, 5, 8]), &k),
        &["attention: k", "[2, kv heads, keys, 8]"],
    );
    refused(
        run(&q, &zeros(&[2, 3, 5, 8]), &k),
        &["q 4 heads", "must be a multiple"],
    );
    refused(
        run(&q, &zeros(&[2, 0, 5, 8]), &k),
        &["q 4 heads", "must be a multiple"],
    );
    refused(
        run(&q, &k, &zeros(&[2, 2, 4, 8])),
        &["attention: v", "[2, 2, 5, width]"],
    );
    refused(
        ops::attention(&q, &k, &k, Some(&zeros(&[3, 4])), &options),
        &[
            "mask has shape [3, 4]",
            "does not broadcast",
            "[2, 4, 3, 5]",
        ],
    );
    for cap in [0., -1., f64::NAN, f64::INFINITY] {
        let options = AttentionOptions {
            soft_cap: Some(cap),
            ..options
        };
        refused(
            ops::attention(&q, &k, &k, None, &options),
            &["soft_cap", "positive"],
        );
    }
    let options = AttentionOptions {
        scale: Some(f64::NAN),
        ..options
    };
    refused(
        ops::attention(&q, &k, &k, None, &options),
        &["scale", "finite"],
    );
}

#[test]
fn numbers_out_of_range() {
    let x = zeros_on_cpu(&[2, 3]);
    for eps in [-1., f64::NAN] {
        refused(
            ops::rms_norm(&x, &zeros_on_cpu(&[3]), eps),
            &["rms_norm", "eps"],
        );
        refused(
            ops::layer_norm(&x, &zeros_on_cpu(&[3]), None, eps),
            &["layer_norm", "eps"],
        );
    }
    let targets = |targets: &[i64]| Tensor::new(targets, &CPU).unwrap();
    for (bad, at) in [(3, 0), (-100, 1), (i64::MAX, 1), (i64::from(u32::MAX), 1)] {
        let mut all = [0, 0];
        all[at] = bad;
        refused(
            ops::cross_entropy(&x, &targets(&all)),
            &[
                &format!("targets[{at}] is {bad}"),
                "3 classes",
                "cross_entropy_with",
            ],
        );
    }
    // To ignore one value does not allow another.
    let result = ops::cross_entropy_with(&x, &targets(&[-100, -1]), Some(-100));
    refused(result, &["targets[1] is -1"]);
}

/// Each op with dimensions of 0, with a graph and without: a result of the right shape, and gradients
/// of 0 where something is left to have one.
#[test]
fn nothing_in_nothing_out() {
    type Run = fn(&[Tensor]) -> Result<Tensor>;
    let attention: Run =
        |x| ops::attention(&x[0], &x[1], &x[2], None, &AttentionOptions::default());
    // The op, the shapes of its arguments, that of its result.
    type Case<'a> = (Run, &'a [&'a [usize]], &'a [usize]);
    let cases: &[Case] = &[
        (|x| ops::softmax(&x[0], 0), &[&[0, 3]], &[0, 3]),
        (|x| ops::softmax(&x[0], 1), &[&[2, 0]], &[2, 0]),
        (|x| ops::log_softmax(&x[0], 0), &[&[0]], &[0]),
        (
            |x| ops::rms_norm(&x[0], &x[1], 0.),
            &[&[0, 3], &[3]],
            &[0, 3],
        ),
        (
            |x| ops::rms_norm(&x[0], &x[1], 0.),
            &[&[3, 0], &[0]],
            &[3, 0],
        ),
        (
            |x| ops::layer_norm(&x[0], &x[1], Some(&x[2]), 0.),
            &[&[0, 3], &[3], &[3]],
            &[0, 3],
        ),
        (
            |x| ops::layer_norm(&x[0], &x[1], None, 0.),
            &[&[3, 0], &[0]],
            &[3, 0],
        ),
        (
            |x| ops::rope(&x[0], &x[1], &x[1]),
            &[&[1, 0, 2, 4], &[2, 2]],
            &[1, 0, 2, 4],
        ),
        (
            |x| ops::rope(&x[0], &x[1].detach(), &x[1].detach()),
            &[&[1, 2, 0, 4], &[0, 2]],
            &[1, 2, 0, 4],
        ),
        (
            |x| ops::rope_i(&x[0], &x[1].detach(), &x[1].detach()),
            &[&[1, 2, 3, 0], &[3, 0]],
            &[1, 2, 3, 0],
        ),
        (|x| ops::matmul(&x[0], &x[1]), &[&[0, 3], &[3, 2]], &[0, 2]),
        (|x| ops::matmul(&x[0], &x[1]), &[&[2, 0], &[0, 3]], &[2, 3]),
        (
            |x| ops::matmul(&x[0], &x[1]),
            &[&[0, 2, 3], &[3, 2]],
            &[0, 2, 2],
        ),
        (
            |x| ops::linear(&x[0], &x[1], Some(&x[2])),
            &[&[0, 3], &[2, 3], &[2]],
            &[0, 2],
        ),
        (
            |x| ops::linear(&x[0], &x[1], None),
            &[&[2, 0], &[3, 0]],
            &[2, 3],
        ),
        (
            |x| ops::linear(&x[0], &x[1], None),
            &[&[2, 3], &[0, 3]],
            &[2, 0],
        ),
        (|x| ops::swiglu(&x[0], &x[1]), &[&[0, 3], &[0, 3]], &[0, 3]),
        (|x| ops::geglu(&x[0], &x[1]), &[&[2, 0], &[2, 0]], &[2, 0]),
        (
            |x| ops::lora_delta(&x[0], &x[1], &x[2], 1.),
            &[&[0, 3], &[3, 2], &[2, 4]],
            &[0, 4],
        ),
        (
            |x| ops::lora_delta(&x[0], &x[1], &x[2], 1.),
            &[&[2, 0], &[0, 2], &[2, 4]],
            &[2, 4],
        ),
        (
            |x| ops::lora(&x[0], &x[3], None, &x[1], &x[2], 1.),
            &[&[2, 3], &[3, 2], &[2, 0], &[0, 3]],
            &[2, 0],
        ),
        (
            attention,
            &[&[0, 2, 3, 4], &[0, 2, 3, 4], &[0, 2, 3, 4]],
            &[0, 2, 3, 4],
        ),
        (
            attention,
            &[&[1, 2, 0, 4], &[1, 2, 3, 4], &[1, 2, 3, 4]],
            &[1, 2, 0, 4],
        ),
        (
            attention,
            &[&[1, 2, 3, 4], &[1, 2, 0, 4], &[1, 2, 0, 4]],
            &[1, 2, 3, 4],
        ),
        (
            attention,
            &[&[1, 2, 3, 0], &[1, 2, 3, 0], &[1, 2, 3, 4]],
            &[1, 2, 3, 4],
        ),
        (
            attention,
            &[&[1, 2, 3, 4], &[1, 2, 3, 4], &[1, 2, 3, 0]],
            &[1, 2, 3, 0],
        ),
        (
            attention,
            &[&[1, 0, 3, 4], &[1, 0, 3, 4], &[1, 0, 3, 4]],
            &[1, 0, 3, 4],
        ),
    ];
    for (index, (run, shapes, expected)) in cases.iter().enumerate() {
        let constants: Vec<Tensor> = shapes
            .iter()
            .map(|shape| Tensor::ones(*shape, DType::F32, &CPU).unwrap())
            .collect();
        let vars: Vec<Var> = constants
            .iter()
            .map(|x| Var::from_tensor(x).unwrap())
            .collect();
        let tensors: Vec<Tensor> = vars.iter().map(|var| var.as_tensor().clone()).collect();
        for arguments in [&constants, &tensors] {
            let y = run(arguments).unwrap_or_else(|error| panic!("case {index}: {error}"));
            assert_eq!(y.dims(), *expected, "case {index}");
            let sum = y.sum_all().unwrap();
            if y.elem_count() == 0 {
                assert_eq!(sum.to_scalar::<f32>().unwrap(), 0.);
            }
            let gradients = sum.backward().unwrap();
            for (var, shape) in vars.iter().zip(*shapes) {
                if let Some(gradient) = gradients.get(var) {
                    assert_eq!(gradient.dims(), *shape, "case {index}");
                    let total = gradient
                        .abs()
                        .unwrap()
                        .sum_all()
                        .unwrap()
                        .to_scalar::<f32>()
                        .unwrap();
                    assert!(total.is_finite(), "case {index}: {total}");
                    if y.elem_count() == 0 {
                        assert_eq!(total, 0., "case {index}");
                    }
                }
            }
        }
    }
    let loss = ops::cross_entropy(
        &zeros_on_cpu(&[0, 3]),
        &Tensor::zeros(0, DType::U32, &CPU).unwrap(),
    );
    assert_eq!(loss.unwrap().to_scalar::<f32>().unwrap(), 0.);
}

/// Tensors of two devices are refused by every op, whichever comes first.
#[cfg(feature = "metal")]
#[test]
fn tensors_of_two_devices() {
    let options = AttentionOptions::default();
    type Make = fn(&[usize]) -> Tensor;
    let (there, here): (Make, Make) = (zeros, zeros_on_cpu);
    for (a, b) in [(there, here), (here, there)] {
        let four = [1, 1, 2, 2];
        for result in [
            ops::rms_norm(&a(&[2, 3]), &b(&[3]), 0.),
            ops::layer_norm(&a(&[2, 3]), &a(&[3]), Some(&b(&[3])), 0.),
            ops::rope(&a(&four), &b(&[2, 1]), &a(&[2, 1])),
            ops::attention(&a(&four), &a(&four), &b(&four), None, &options),
            ops::attention(&a(&four), &a(&four), &a(&four), Some(&b(&[2, 2])), &options),
            ops::matmul(&a(&[2, 3]), &b(&[3, 2])),
            ops::linear(&a(&[2, 3]), &a(&[4, 3]), Some(&b(&[4]))),
            ops::linear_add(&a(&[2, 3]), &a(&[4, 3]), None, &b(&[2, 4])),
            ops::lora_delta(&a(&[2, 3]), &b(&[3, 1]), &a(&[1, 4]), 1.),
            ops::lora(&a(&[2, 3]), &b(&[4, 3]), None, &a(&[3, 1]), &a(&[1, 4]), 1.),
            ops::swiglu(&a(&[2, 3]), &b(&[2, 3])),
            ops::geglu(&a(&[2, 3]), &b(&[2, 3])),
            ops::cross_entropy(&a(&[2, 3]), &b(&[2]).to_dtype(DType::U32).unwrap()),
        ] {
            refused(result, &["different devices", "Tensor::to_device"]);
        }
    }
}
