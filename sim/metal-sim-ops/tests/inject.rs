//! Our ops when there is no memory and when command buffers fail, at each place where that can happen: an error that
//! says so, from the op or from the next wait; never a panic, never a wrong number, and the next call is as good as any.

use std::panic::{AssertUnwindSafe, catch_unwind};

use candle_core::{DType, Device, Result, Tensor};
use metal_sim::rules;
use metal_sim_ops::operand::{self, Scale};
use metal_sim_ops::{Op, ops};
use objc2::rc::autoreleasepool;

/// Positions count from here.
fn inject(list: &str) {
    let list = list.parse().unwrap();
    rules::choose(|rules| rules.inject = list);
}

/// The result and the gradients of its sum, when the GPU is done.
fn pass(op: &Op, x: &[Tensor], device: &Device) -> Result<Vec<Vec<f32>>> {
    autoreleasepool(|_| {
        let y = (op.ours)(x)?;
        let gradients = y.backward()?;
        device.synchronize()?;
        let gradients = x.iter().filter_map(|x| gradients.get(x));
        [&y].into_iter()
            .chain(gradients)
            .map(|it| it.flatten_all()?.to_vec1::<f32>())
            .collect()
    })
}

/// Hits a pass of each op once at every place: `what` is the fault, `count` says how many places there are.
fn hit(what: &str, count: impl Fn() -> u64) {
    let device = Device::new_metal(0).unwrap();
    let mut reported = 0;
    for op in ops() {
        let operands = (op.operands)(Scale::Small);
        let x = operand::tensors(&operands, DType::F32, &device, true).unwrap();
        // Compiles.
        pass(&op, &x, &device).unwrap();
        // A wait empties Candle's pool, so that a pass allocates as often each time. Nothing is the 0th.
        inject(&format!("{what}@0"));
        let exact = pass(&op, &x, &device).unwrap();
        let places = count();
        assert!(places > 0, "{}", op.name);
        for place in 1..=places {
            inject(&format!("{what}@{place}"));
            let outcome = catch_unwind(AssertUnwindSafe(|| pass(&op, &x, &device)));
            let name = format!("{}, {what}@{place} of {places}", op.name);
            match outcome {
                Err(_) => panic!("{name}: a panic"),
                Ok(Err(error)) => {
                    let error = error.to_string();
                    assert!(!error.contains("panic"), "{name}: {error}");
                    reported += 1;
                }
                Ok(Ok(_)) => panic!("{name}: nobody told"),
            }
            inject("");
            // What failed may be told again by the next wait, and no more.
            let _ = autoreleasepool(|_| device.synchronize());
            assert_eq!(pass(&op, &x, &device).unwrap(), exact, "after {name}");
        }
    }
    println!("{what}: {reported} reported");
}

/// One test, as the switches are of the process.
#[test]
fn faults_are_errors_of_the_op_or_of_the_wait() {
    hit("nil", || rules::rules().inject.so_far().1);
    hit("page-fault", || rules::rules().inject.so_far().0);
}
