//! What the tests share: a seeded generator, tensors seen through random views, and f64 oracles.

// Each test file compiles this for itself and uses its part.
#![allow(dead_code)]

use candle_core::{DType, Device, Result, Tensor};
pub use candle_mps_seeds::Random;
use half::f16;

/// Runs `body` with a generator, and prints how to repeat the run if it fails.
pub fn seeded(test: &str, body: impl FnOnce(&mut Random)) {
    candle_mps_seeds::seeded("cargo xtask test sim", test, body);
}

/// Batches out of a generator.
pub trait Batches {
    /// Dimensions in front of the matrices: none, one or two.
    fn batch(&mut self) -> Vec<usize>;
}

impl Batches for Random {
    fn batch(&mut self) -> Vec<usize> {
        (0..self.below(3)).map(|_| self.between(1, 3)).collect()
    }
}

/// A tensor on Metal, with its elements in f64 in the order of its own indices.
pub struct Sample {
    pub tensor: Tensor,
    pub values: Vec<f64>,
}

/// Tensors of a shape that are views of something else: a part of larger rows and columns, behind
/// an offset, with batch dimensions permuted or repeated, and transposed if that is allowed.
pub struct Views<'a> {
    pub device: &'a Device,
    pub random: &'a mut Random,
    pub transposed: bool,
}

impl Views<'_> {
    /// A view of random elements between -scale and scale, rounded to the type.
    pub fn sample(&mut self, shape: &[usize], dtype: DType, scale: f64) -> Sample {
        let rank = shape.len();
        let mut base = shape.to_vec();
        let swap_inner = self.transposed && rank >= 2 && self.random.chance();
        let swap_batch = rank >= 4 && self.random.chance();
        let repeat = rank >= 3 && !swap_batch && self.random.below(4) == 0;
        if swap_inner {
            base.swap(rank - 1, rank - 2);
        }
        if swap_batch {
            base.swap(0, 1);
        }
        if repeat {
            base[0] = 1;
        }
        let margins: Vec<(usize, usize)> = base
            .iter()
            .map(|_| (self.random.below(3), self.random.below(2)))
            .collect();
        let margins = if self.random.chance() {
            margins
        } else {
            vec![(0, 0); rank]
        };
        let whole: Vec<usize> = base
            .iter()
            .zip(&margins)
            .map(|(n, (before, after))| before + n + after)
            .collect();
        let count: usize = whole.iter().product();
        let data: Vec<f32> = (0..count)
            .map(|_| (self.random.unit() * scale) as f32)
            .collect();

        let view = |tensor: Tensor| -> Result<Tensor> {
            let mut tensor = tensor;
            for (dim, (size, (before, _))) in base.iter().zip(&margins).enumerate() {
                tensor = tensor.narrow(dim, *before, *size)?;
            }
            if repeat {
                let mut repeated = base.clone();
                repeated[0] = shape[0];
                tensor = tensor.broadcast_as(repeated)?;
            }
            if swap_batch {
                tensor = tensor.transpose(0, 1)?;
            }
            if swap_inner {
                tensor = tensor.transpose(rank - 1, rank - 2)?;
            }
            Ok(tensor)
        };
        let on_cpu = Tensor::from_vec(data, whole, &Device::Cpu)
            .unwrap()
            .to_dtype(dtype)
            .unwrap();
        let on_metal = on_cpu.to_device(self.device).unwrap();
        let sample = Sample {
            tensor: view(on_metal).unwrap(),
            values: values(&view(on_cpu).unwrap()),
        };
        assert_eq!(sample.tensor.dims(), shape);
        sample
    }
}

/// The elements in f64, in the order of the tensor's indices.
pub fn values(tensor: &Tensor) -> Vec<f64> {
    let tensor = tensor.to_device(&Device::Cpu).unwrap();
    match tensor.dtype() {
        DType::F32 => {
            let flat = tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
            flat.into_iter().map(f64::from).collect()
        }
        DType::F16 => {
            let flat = tensor.flatten_all().unwrap().to_vec1::<f16>().unwrap();
            flat.into_iter().map(f16::to_f64).collect()
        }
        other => panic!("no test uses {other:?}"),
    }
}

/// The device that the tests run on.
pub fn metal() -> Device {
    candle_mps::metal::device(0).unwrap()
}

/// Fails on the first element that is further from the expected one than it may be.
pub fn compare(what: &str, got: &[f64], expected: &[f64], bound: impl Fn(usize) -> f64) {
    assert_eq!(got.len(), expected.len(), "{what}");
    for (index, (&got, &expected)) in got.iter().zip(expected).enumerate() {
        let error = (got - expected).abs();
        let bound = bound(index);
        // A NaN is on no side of the bound.
        assert!(
            error <= bound,
            "{what}: element {index} is {got}, expected {expected} within {bound:e}"
        );
    }
}

/// The product in f64 of `count` pairs of matrices, and the same of the absolute values.
pub fn product(a: &[f64], b: &[f64], count: usize, [m, n, k]: [usize; 3]) -> (Vec<f64>, Vec<f64>) {
    let (mut sums, mut magnitudes) = (vec![], vec![]);
    for batch in 0..count {
        for i in 0..m {
            for j in 0..n {
                let terms = (0..k).map(|l| a[(batch * m + i) * k + l] * b[(batch * k + l) * n + j]);
                sums.push(terms.clone().sum());
                magnitudes.push(terms.map(f64::abs).sum());
            }
        }
    }
    (sums, magnitudes)
}

/// Softmax of one row in f64.
pub fn softmax(x: &[f64]) -> Vec<f64> {
    let max = x.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let exp: Vec<f64> = x.iter().map(|v| (v - max).exp()).collect();
    let sum: f64 = exp.iter().sum();
    exp.iter().map(|v| v / sum).collect()
}

/// Log softmax of one row in f64.
pub fn log_softmax(x: &[f64]) -> Vec<f64> {
    let max = x.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let log = x.iter().map(|v| (v - max).exp()).sum::<f64>().ln();
    x.iter().map(|v| v - max - log).collect()
}

/// The gradient of Σ g · f(x) by central differences.
pub fn numeric_gradient(x: &[f64], g: &[f64], f: impl Fn(&[f64]) -> Vec<f64>) -> Vec<f64> {
    let step = 1e-5;
    let value = |x: &[f64]| -> f64 { f(x).iter().zip(g).map(|(y, g)| y * g).sum() };
    (0..x.len())
        .map(|i| {
            let (mut up, mut down) = (x.to_vec(), x.to_vec());
            up[i] += step;
            down[i] -= step;
            (value(&up) - value(&down)) / (2.0 * step)
        })
        .collect()
}
