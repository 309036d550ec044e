//! f16 and bf16: our results are closer to f64 than those of Candle's own ops, on average.

mod support;

use candle_core::{D, DType, Device, Result, Tensor};
use candle_mps_ops::ops::{self, AttentionOptions};
use support::{Operands, device, seeded, values};

/// The ops on one set of arguments: x and y of [2, 2, 24, 32], a weight and a bias of 32 and a matrix.
struct Arguments {
    x: Tensor,
    y: Tensor,
    w: Tensor,
    b: Tensor,
    matrix: Tensor,
    cos: Tensor,
    sin: Tensor,
    targets: Tensor,
}

impl Arguments {
    fn to(&self, dtype: DType, device: &Device) -> Self {
        let there = |tensor: &Tensor| tensor.to_device(device).unwrap();
        let to = |tensor: &Tensor| there(&tensor.to_dtype(dtype).unwrap());
        Self {
            x: to(&self.x),
            y: to(&self.y),
            w: to(&self.w),
            b: to(&self.b),
            matrix: to(&self.matrix),
            cos: to(&self.cos),
            sin: to(&self.sin),
            targets: there(&self.targets),
        }
    }
}

type Run = fn(&Arguments) -> Result<Tensor>;

/// Ours, and Candle's.
const OPS: [(&str, Run, Run); 9] = [
    (
        "softmax",
        |a| Ok(ops::softmax(&a.x, D::Minus1)?),
        |a| candle_nn::ops::softmax(&a.x, D::Minus1),
    ),
    (
        "log_softmax",
        |a| Ok(ops::log_softmax(&a.x, D::Minus1)?),
        |a| candle_nn::ops::log_softmax(&a.x, D::Minus1),
    ),
    (
        "rms_norm",
        |a| Ok(ops::rms_norm(&a.x, &a.w, 1e-5)?),
        |a| candle_nn::ops::rms_norm_slow(&a.x, &a.w, 1e-5),
    ),
    (
        "layer_norm",
        |a| Ok(ops::layer_norm(&a.x, &a.w, Some(&a.b), 1e-5)?),
        |a| candle_nn::ops::layer_norm_slow(&a.x, &a.w, &a.b, 1e-5),
    ),
    (
        "rope",
        |a| Ok(ops::rope(&a.x, &a.cos, &a.sin)?),
        |a| candle_nn::rotary_emb::rope_slow(&a.x, &a.cos, &a.sin),
    ),
    (
        "linear",
        |a| Ok(ops::linear(&a.x, &a.matrix, Some(&a.b))?),
        |a| {
            let x = a.x.reshape(((), 32))?;
            let y = x.matmul(&a.matrix.t()?)?.broadcast_add(&a.b)?;
            y.reshape(a.x.shape())
        },
    ),
    (
        "swiglu",
        |a| Ok(ops::swiglu(&a.x, &a.y)?),
        |a| a.x.silu()? * &a.y,
    ),
    (
        "cross_entropy",
        |a| Ok(ops::cross_entropy(&a.x.flatten_to(2)?, &a.targets)?),
        |a| candle_nn::loss::cross_entropy(&a.x.flatten_to(2)?, &a.targets),
    ),
    (
        "attention",
        |a| {
            Ok(ops::attention(
                &a.x,
                &a.y,
                &a.y,
                None,
                &AttentionOptions::default(),
            )?)
        },
        |a| {
            let scores = (a.x.matmul(&a.y.t()?)? / 32f64.sqrt())?;
            candle_nn::ops::softmax(&scores, D::Minus1)?.matmul(&a.y)
        },
    ),
];

#[test]
fn closer_to_f64_than_candle() {
    seeded("closer_to_f64_than_candle", |random| {
        for dtype in [DType::F16, DType::BF16] {
            let all: Vec<Arguments> = (0..8)
                .map(|_| {
                    let mut tensor = |shape: &[usize]| random.tensor(shape, dtype);
                    let shape = [2, 2, 24, 32];
                    Arguments {
                        x: tensor(&shape),
                        y: tensor(&shape),
                        w: tensor(&[32]),
                        b: tensor(&[32]),
                        matrix: tensor(&[32, 32]),
                        cos: tensor(&[24, 16]),
                        sin: tensor(&[24, 16]),
                        targets: Tensor::arange(0u32, 96, &Device::Cpu)
                            .unwrap()
                            .affine(1. / 3., 0.)
                            .unwrap(),
                    }
                })
                .collect();
            println!("{dtype:?}: mean error    ours     Candle's");
            for (name, our, candle) in OPS {
                let error = |run: Run| -> f64 {
                    let errors = all.iter().map(|exact| {
                        // The oracle is Candle's, on the same numbers in f64.
                        let expected =
                            values(&candle(&exact.to(DType::F64, &Device::Cpu)).unwrap());
                        let got = values(&run(&exact.to(dtype, &device())).unwrap());
                        let count = got.len() as f64;
                        let errors = got
                            .iter()
                            .zip(&expected)
                            .map(|(got, expected)| (got - expected).abs());
                        errors.sum::<f64>() / count
                    });
                    errors.sum::<f64>() / all.len() as f64
                };
                let (ours, candles) = (error(our), error(candle));
                println!("{name:20} {ours:10.2e} {candles:10.2e}");
                assert!(
                    ours < candles,
                    "{name} in {dtype:?}: {ours:e}, Candle's {candles:e}"
                );
            }
        }
    });
}
