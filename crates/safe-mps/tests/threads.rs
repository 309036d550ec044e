//! Several threads on one device: each gets its own results, and memory that two want is refused
//! to one of them instead of being shared.
#![cfg(feature = "metal")]

use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering};

use safe_mps::{DataType, Device, Error, Matrix, MatrixMultiplication};

#[test]
fn one_queue_for_many_threads() {
    let device = Device::system_default().unwrap();
    let queue = device.new_queue().unwrap();
    std::thread::scope(|scope| {
        for thread in 1..=4 {
            let (device, queue) = (&device, &queue);
            scope.spawn(move || {
                let scale = thread as f32;
                let a = Matrix::from_slice(device, 2, 2, &[scale, 0.0, 0.0, scale]).unwrap();
                let b = Matrix::from_slice(device, 2, 2, &[1.0f32, 2.0, 3.0, 4.0]).unwrap();
                let kernel = MatrixMultiplication::new(2, 2, 2).build(device).unwrap();
                for _ in 0..25 {
                    let mut c = Matrix::zeros(device, 2, 2, DataType::F32).unwrap();
                    let commands = queue.command_buffer().unwrap();
                    kernel.encode(&commands, &a, &b, &mut c).unwrap();
                    commands.commit().wait().unwrap();
                    let expected = [1.0, 2.0, 3.0, 4.0].map(|v: f32| v * scale);
                    assert_eq!(c.to_vec::<f32>().unwrap(), expected);
                }
            });
        }
    });
}

#[test]
fn one_of_two_threads_gets_the_memory() {
    let device = Device::system_default().unwrap();
    let queue = device.new_queue().unwrap();
    let shared = Matrix::from_slice(&device, 1, 1, &[3.0f32]).unwrap();
    let (won, both) = (AtomicUsize::new(0), Barrier::new(2));
    std::thread::scope(|scope| {
        for _ in 0..2 {
            let mut result = Matrix::zeros(&device, 1, 1, DataType::F32).unwrap();
            let kernel = MatrixMultiplication::new(1, 1, 1).build(&device).unwrap();
            let commands = queue.command_buffer().unwrap();
            let (shared, won, both) = (&shared, &won, &both);
            // Kernel and command buffer move here; neither can be in two threads.
            scope.spawn(move || {
                both.wait();
                let encoded = kernel.encode(&commands, shared, shared, &mut result);
                both.wait();
                match encoded {
                    Ok(()) => {
                        won.fetch_add(1, Ordering::Relaxed);
                        commands.commit().wait().unwrap();
                        assert_eq!(result.to_vec::<f32>().unwrap(), [9.0]);
                    }
                    Err(error) => assert!(matches!(
                        error,
                        Error::Busy {
                            operand: "left",
                            ..
                        }
                    )),
                }
            });
        }
    });
    assert_eq!(won.into_inner(), 1);
}
