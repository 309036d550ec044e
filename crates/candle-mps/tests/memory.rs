//! A thousand rounds on tensors do not grow. Alone in its program, since it watches the memory of
//! the whole process.
#![cfg(feature = "metal")]

mod support;

use candle_core::Tensor;
use candle_mps::FusedOps;
use candle_mps::safe_mps;
use support::metal;

#[test]
fn a_thousand_rounds_do_not_grow() {
    let device = metal();
    let gpu = safe_mps::Device::system_default().unwrap();
    let w = Tensor::from_slice(&[0.25f32; 256], (16, 16), &device).unwrap();
    let mut x = Tensor::from_slice(&[1f32; 256], (16, 16), &device).unwrap();
    let mut held = vec![];
    for i in 0..1000 {
        x = x
            .matmul_mps(&w.t().unwrap())
            .unwrap()
            .softmax_mps()
            .unwrap();
        if i % 100 == 99 {
            held.push(gpu.allocated_bytes());
        }
    }
    let sum: f32 = x.to_vec2::<f32>().unwrap()[0].iter().sum();
    assert!((sum - 1.).abs() < 1e-4, "{sum}");
    // Candle's pool has what it needs after the first rounds; two thousand results are 2 MiB.
    assert!(held[9].saturating_sub(held[0]) < 1 << 20, "{held:?}");
}
