//! Several threads at once, on one Candle device and with one set of weights.
#![cfg(feature = "metal")]

mod support;

use candle_core::Tensor;
use candle_mps::FusedOps;
use support::metal;

#[test]
fn threads_share_weights() {
    let device = metal();
    let weights = Tensor::from_slice(&[1f32, 2., 3., 4.], (2, 2), &device).unwrap();
    std::thread::scope(|scope| {
        for thread in 1..=4 {
            let (device, weights) = (&device, &weights);
            scope.spawn(move || {
                let scale = thread as f32;
                for _ in 0..15 {
                    let x = Tensor::from_slice(&[scale, 0., 0., scale], (2, 2), device).unwrap();
                    let y = x.matmul_mps(weights).unwrap().matmul_mps(&x).unwrap();
                    let expected =
                        [[1., 2.], [3., 4.]].map(|row: [f32; 2]| row.map(|v| v * scale * scale));
                    assert_eq!(y.to_vec2::<f32>().unwrap(), expected);
                    let z = x.narrow(1, thread % 2, 1).unwrap().softmax_mps().unwrap();
                    assert_eq!(z.to_vec2::<f32>().unwrap(), [[1.], [1.]]);
                }
            });
        }
    });
}

#[test]
fn a_device_each() {
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                let device = metal();
                let x = Tensor::from_slice(&[1f32, 2., 3., 4.], (2, 2), &device).unwrap();
                for _ in 0..10 {
                    let y = x.matmul_mps(&x).unwrap();
                    assert_eq!(y.to_vec2::<f32>().unwrap(), [[7., 10.], [15., 22.]]);
                }
            });
        }
    });
}
