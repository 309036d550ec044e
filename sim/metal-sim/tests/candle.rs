//! Candle's Metal backend and our ops on the simulated GPU, watched from its side: what is
//! alive, what memory is held, and how much work was given to the GPU.

use candle_core::{DType, Device, Tensor, Var};
use candle_mps::FusedOps;
use metal_sim::{Census, Work};
use objc2::rc::autoreleasepool;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The census and the accounts are of the process, so tests that read them take turns.
fn alone() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Bytes of this process in memory.
fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: usize = statm.split_whitespace().nth(1).unwrap().parse().unwrap();
    pages * 4096
}

#[test]
fn a_tensor_comes_back_as_it_went() {
    let _alone = alone();
    let device = Device::new_metal(0).unwrap();
    let values: Vec<f32> = (0..1000).map(|n| n as f32 * 0.5).collect();
    let tensor = Tensor::from_slice(&values, (10, 100), &device).unwrap();
    assert_eq!(
        tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap(),
        values
    );
    let zeros = Tensor::zeros((3, 5), DType::F32, &device).unwrap();
    assert_eq!(zeros.to_vec2::<f32>().unwrap(), vec![vec![0.0; 5]; 3]);
}

#[test]
fn kernels_compute_what_the_cpu_does() {
    let _alone = alone();
    let device = Device::new_metal(0).unwrap();
    let values: Vec<f32> = (0..60).map(|at| (at as f32 * 0.7).sin()).collect();
    let on = |device: &Device| {
        let x = Tensor::from_slice(&values, (3, 4, 5), device).unwrap();
        // Strided views, a copy of one, a product by Candle's own kernels, a sum.
        let y = x
            .transpose(1, 2)
            .unwrap()
            .exp()
            .unwrap()
            .contiguous()
            .unwrap();
        let z = y.matmul(&x).unwrap().sum(0).unwrap();
        z.to_vec2::<f32>().unwrap()
    };
    for (ours, cpu) in on(&device)
        .iter()
        .flatten()
        .zip(on(&Device::Cpu).iter().flatten())
    {
        assert!(
            (ours - cpu).abs() <= 1e-5 * cpu.abs().max(1.),
            "{ours} {cpu}"
        );
    }
}

#[test]
fn a_whole_backward_pass_runs() {
    let _alone = alone();
    let device = Device::new_metal(0).unwrap();
    let gradient = |device: &Device| {
        let values: Vec<f32> = (0..12).map(|at| at as f32 * 0.1).collect();
        let x = Var::from_slice(&values, (3, 4), device).unwrap();
        let y = x.matmul(&x.t().unwrap().contiguous().unwrap()).unwrap();
        let loss = y.sqr().unwrap().mean_all().unwrap();
        let grads = loss.backward().unwrap();
        grads.get(&x).unwrap().to_vec2::<f32>().unwrap()
    };
    for (ours, cpu) in gradient(&device)
        .iter()
        .flatten()
        .zip(gradient(&Device::Cpu).iter().flatten())
    {
        assert!(
            (ours - cpu).abs() <= 1e-5 * cpu.abs().max(1.),
            "{ours} {cpu}"
        );
    }
}

#[test]
fn a_thousand_products_leave_nothing_behind() {
    let _alone = alone();
    let device = Device::new_metal(0).unwrap();
    let left = Tensor::from_slice(&vec![0.5f32; 64 * 32], (64, 32), &device).unwrap();
    let right = Tensor::from_slice(&vec![0.25f32; 32 * 48], (32, 48), &device).unwrap();
    let once = || {
        autoreleasepool(|_| {
            let product = left.matmul_mps(&right).unwrap();
            let softmax = product.softmax_mps().unwrap();
            let rows = softmax.to_vec2::<f32>().unwrap();
            let sum: f64 = rows.iter().flatten().map(|value| f64::from(*value)).sum();
            assert!((sum - 64.0).abs() < 1e-5, "{sum}");
        });
    };
    // Candle 0.11 remembers a fence for each buffer that a read-back wrote until somebody waits
    // for the whole device, so that is part of the stretch.
    let rounds = |count| {
        for _ in 0..count {
            once();
        }
        autoreleasepool(|_| device.synchronize().unwrap());
    };
    // The first rounds fill Candle's pool and our caches, and settle the allocator.
    rounds(50);
    let (census, memory) = (Census::take(), resident());
    rounds(1000);
    let grown = Census::take().since(&census);
    assert!(grown.is_empty(), "objects left behind: {grown:?}");
    let growth = resident().saturating_sub(memory);
    assert!(
        growth < 4 << 20,
        "memory grew by {growth} bytes in 1000 rounds"
    );
}

#[test]
fn several_threads_leave_nothing_behind() {
    let _alone = alone();
    let device = Device::new_metal(0).unwrap();
    let tensor = Tensor::from_slice(&vec![1f32; 16 * 16], (16, 16), &device).unwrap();
    let round = || {
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..50 {
                        autoreleasepool(|_| {
                            let product = tensor.matmul_mps(&tensor).unwrap();
                            assert_eq!(product.to_vec2::<f32>().unwrap(), vec![vec![16.0; 16]; 16]);
                        });
                    }
                });
            }
        });
        // Candle keeps what its pool may hand out again; asking for it lets that go.
        autoreleasepool(|_| device.synchronize().unwrap());
    };
    round();
    let census = Census::take();
    round();
    let grown = Census::take().since(&census);
    assert!(
        grown.0.values().all(|more| *more <= 0),
        "objects left behind: {grown:?}"
    );
}

#[test]
fn a_dropped_device_takes_everything_with_it() {
    let _alone = alone();
    // What lives as long as the process: the device, and our queue on it.
    let product = || {
        let device = Device::new_metal(0).unwrap();
        let ones = Tensor::from_slice(&[1f32; 4], (2, 2), &device).unwrap();
        ones.matmul_mps(&ones).unwrap().to_vec2::<f32>().unwrap();
    };
    autoreleasepool(|_| product());
    let census = Census::take();
    for _ in 0..5 {
        autoreleasepool(|_| product());
    }
    let grown = Census::take().since(&census);
    assert!(grown.is_empty(), "objects left behind: {grown:?}");
}

#[test]
fn the_work_of_a_product_is_accounted_for() {
    let _alone = alone();
    let device = Device::new_metal(0).unwrap();
    let left = Tensor::from_slice(&[1f32; 6], (2, 3), &device).unwrap();
    let right = Tensor::from_slice(&[1f32; 12], (3, 4), &device).unwrap();
    let (work, product) = Work::of(|| left.matmul_mps(&right).unwrap());
    // The blocking route: Candle's command buffer and ours with one MPS kernel. Candle does not
    // wait for a buffer that has completed by the time it looks.
    assert_eq!((work.command_buffers, work.dispatches), (2, 1));
    assert!((1..=2).contains(&work.cpu_waits), "{work:?}");
    assert_eq!((work.bytes_read, work.bytes_written), ((6 + 12) * 4, 8 * 4));
    drop(product);
}
