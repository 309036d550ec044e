//! Calls of each op, forward and backward, from several threads, leave nothing behind: no object, no memory. Nor do
//! calls of which none has the shape of another.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;

use candle_core::{DType, Device, Tensor};
use metal_sim::Census;
use metal_sim_ops::operand::{self, Scale};
use metal_sim_ops::{Op, measure, ops};
use objc2::rc::autoreleasepool;

const THREADS: usize = 4;
/// Calls of an op, by all threads together. Compositions of Candle's ops, many times slower than a kernel, are looked
/// at as well, and fewer do.
const CALLS: usize = 1000;
const CALLS_COMPOSED: usize = 20;
/// How many calls a thread gives before it waits, as programs do that look at a loss now and then.
const AHEAD: usize = 10;
/// Less than this says nothing; 4 KiB lost at each call is as much.
const NOISE: usize = 4 << 20;

/// The census and the memory are of the process, so tests take turns.
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

fn wait(device: &Device) {
    autoreleasepool(|_| device.synchronize().unwrap());
}

/// What was left behind by `stretch`: objects, and bytes. What lives on in Candle's pool is let go by a wait.
fn left_behind(device: &Device, stretch: impl FnOnce()) -> (Census, usize) {
    wait(device);
    let (census, memory) = (Census::take(), resident());
    stretch();
    wait(device);
    let grown = Census::take().since(&census);
    (grown, resident().saturating_sub(memory))
}

/// No object is left behind, and no memory. The allocator grows when it needs more at once than ever before, and then
/// no more; what is lost at each call is lost again.
fn nothing_left(name: &str, device: &Device, stretch: impl Fn()) {
    let mut lost = [0; 3];
    for lost in &mut lost {
        let (grown, bytes) = left_behind(device, &stretch);
        let more: Vec<_> = grown.0.iter().filter(|(_, more)| **more > 0).collect();
        assert!(more.is_empty(), "{name}: objects left behind: {more:?}");
        if bytes < NOISE {
            return;
        }
        *lost = bytes;
    }
    panic!("{name}: memory grew each time, by {lost:?} bytes");
}

/// So many passes on one shape, by all threads.
fn calls(op: &Op, count: usize, device: &Device) {
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                autoreleasepool(|_| {
                    let operands = (op.operands)(Scale::Small);
                    let x = operand::tensors(&operands, DType::F32, device, true).unwrap();
                    for at in 0..count / THREADS {
                        measure::pass(op.ours, &x, true).unwrap();
                        if at % AHEAD == 0 {
                            wait(device);
                        }
                    }
                });
            });
        }
    });
}

#[test]
fn a_thousand_calls_of_each_op_leave_nothing_behind() {
    let _alone = alone();
    let device = Device::new_metal(0).unwrap();
    for op in ops() {
        let count = match op.has_kernels() {
            true => CALLS,
            false => CALLS_COMPOSED,
        };
        // Compiles.
        calls(&op, CALLS_COMPOSED, &device);
        nothing_left(op.name, &device, || calls(&op, count, &device));
    }
}

#[test]
fn what_is_forgotten_is_seen() {
    let _alone = alone();
    let device = Device::new_metal(0).unwrap();
    // More than another test's device may let go of at the same time.
    let forget = || {
        for _ in 0..1000 {
            std::mem::forget(Tensor::zeros(10, DType::F32, &device).unwrap());
        }
    };
    let (grown, _) = left_behind(&device, || autoreleasepool(|_| forget()));
    assert!(grown.0.values().any(|more| *more > 0), "{grown:?}");
    let (_, bytes) = left_behind(&device, || std::mem::forget(vec![1u8; 2 * NOISE]));
    assert!(bytes > NOISE, "{bytes}");
}

#[test]
fn ever_other_shapes_leave_nothing_behind() {
    let _alone = alone();
    let device = Device::new_metal(0).unwrap();
    // Every variant of the kernels that these shapes need is compiled by the first of them.
    let shapes = |op: &Op, from: usize| {
        for longer in from..from + 50 {
            autoreleasepool(|_| {
                let operands = (op.operands)(Scale::Longer(longer));
                let x = operand::tensors(&operands, DType::F32, &device, true).unwrap();
                measure::pass(op.ours, &x, true).unwrap();
            });
            wait(&device);
        }
    };
    for op in ops().iter().filter(|op| op.has_kernels()) {
        shapes(op, 0);
        nothing_left(op.name, &device, || shapes(op, 50));
    }
}
