//! A thousand rounds leave nothing behind, with `wait` and without. Alone in its program, since it
//! watches the memory of the whole process.
#![cfg(feature = "metal")]

use safe_mps::{DataType, Device, Matrix, MatrixMultiplication, Queue, SoftMax};

fn round(device: &Device, queue: &Queue, wait: bool) {
    let a = Matrix::from_slice(device, 16, 16, &[0.5f32; 256]).unwrap();
    let mut b = Matrix::zeros(device, 16, 16, DataType::F32).unwrap();
    let mut c = Matrix::zeros(device, 16, 16, DataType::F32).unwrap();
    let commands = queue.command_buffer().unwrap();
    let softmax = SoftMax::new(device).unwrap();
    softmax.encode(&commands, &a, &mut b).unwrap();
    let product = MatrixMultiplication::new(16, 16, 16).build(device).unwrap();
    product.encode(&commands, &a, &b, &mut c).unwrap();
    let pending = commands.commit();
    if wait {
        pending.wait().unwrap();
        assert!((c.to_vec::<f32>().unwrap()[0] - 0.5).abs() < 1e-6);
    }
}

#[test]
fn a_thousand_rounds_leave_nothing_behind() {
    let device = Device::system_default().unwrap();
    let queue = device.new_queue().unwrap();
    round(&device, &queue, true);
    let before = device.allocated_bytes();
    for i in 0..1000 {
        round(&device, &queue, i % 2 == 0);
    }
    // Whatever is still in flight comes before this, and is let go of when this is waited for.
    round(&device, &queue, true);
    // A kernel may keep a heap of its own; the rounds together used three times this much.
    let grown = device.allocated_bytes().saturating_sub(before);
    assert!(grown < 1 << 20, "{grown} bytes more than before");
}
