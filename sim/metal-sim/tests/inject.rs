//! Faults on demand: what Metal says of each, that nothing else is hit, and what Candle makes of them.

// These tests use the raw bindings, as a Metal program would.
#![allow(unsafe_code)]

use candle_core::{DType, Device, Tensor};
use candle_mps::FusedOps;
use metal_sim::rules;
use objc2::rc::{Retained, autoreleasepool};
use objc2::runtime::ProtocolObject;
use objc2_foundation::NSRange;
use objc2_metal::{
    MTLBlitCommandEncoder, MTLBuffer, MTLCommandBuffer, MTLCommandBufferStatus, MTLCommandEncoder,
    MTLCommandQueue, MTLCreateSystemDefaultDevice, MTLDevice, MTLHeapDescriptor,
    MTLResourceOptions, MTLSharedEvent,
};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

const BYTES: usize = 64;

/// The switches are of the process, so the tests take turns.
struct Turn {
    _turn: MutexGuard<'static, ()>,
}

fn alone() -> Turn {
    static TURN: Mutex<()> = Mutex::new(());
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    Turn { _turn }
}

impl Drop for Turn {
    fn drop(&mut self) {
        inject("");
        rules::choose(|rules| rules.watchdog_ms = 10_000);
    }
}

/// Positions count from here.
fn inject(list: &str) {
    let list = list.parse().unwrap();
    rules::choose(|rules| rules.inject = list);
}

struct Gpu {
    device: Retained<ProtocolObject<dyn MTLDevice>>,
    queue: Retained<ProtocolObject<dyn MTLCommandQueue>>,
}

type Commands = Retained<ProtocolObject<dyn MTLCommandBuffer>>;

impl Gpu {
    fn new() -> Self {
        let device = MTLCreateSystemDefaultDevice().unwrap();
        let queue = device.newCommandQueue().unwrap();
        Self { device, queue }
    }

    fn buffer(&self, bytes: usize) -> Option<Retained<ProtocolObject<dyn MTLBuffer>>> {
        let shared = MTLResourceOptions::StorageModeShared;
        self.device.newBufferWithLength_options(bytes, shared)
    }

    /// Commits a fill.
    fn fill(&self, buffer: &ProtocolObject<dyn MTLBuffer>) -> Commands {
        let commands = self.queue.commandBuffer().unwrap();
        self.encode(&commands, buffer);
        commands.commit();
        commands
    }

    fn encode(&self, commands: &Commands, buffer: &ProtocolObject<dyn MTLBuffer>) {
        let blit = commands.blitCommandEncoder().unwrap();
        let range = NSRange {
            location: 0,
            length: BYTES,
        };
        blit.fillBuffer_range_value(buffer, range, 1);
        blit.endEncoding();
    }
}

/// How a command buffer ended: Metal's code, 0 for well, and what it says.
fn ending(commands: &Commands) -> (isize, String) {
    commands.waitUntilCompleted();
    match commands.error() {
        Some(error) => {
            assert_eq!(commands.status(), MTLCommandBufferStatus::Error);
            assert_eq!(error.domain().to_string(), "MTLCommandBufferErrorDomain");
            (error.code(), error.localizedDescription().to_string())
        }
        None => {
            assert_eq!(commands.status(), MTLCommandBufferStatus::Completed);
            (0, String::new())
        }
    }
}

fn first_byte(buffer: &ProtocolObject<dyn MTLBuffer>) -> u8 {
    // SAFETY: shared, at rest, not empty.
    unsafe { buffer.contents().cast::<u8>().read() }
}

#[test]
fn a_command_buffer_fails_by_its_code_and_the_others_do_not() {
    let _alone = alone();
    let gpu = Gpu::new();
    for (name, code, says) in [
        ("internal", 1, "Internal"),
        ("timeout", 2, "Timeout"),
        ("page-fault", 3, "PageFault"),
        ("access-revoked", 4, "Ignored"),
        ("not-permitted", 7, "Permission"),
        ("out-of-memory", 8, "Insufficient Memory"),
        ("invalid-resource", 9, "Invalid Resource"),
        ("memoryless", 10, "Memoryless"),
        ("stack-overflow", 12, "Stack Overflow"),
    ] {
        inject(&format!("{name}@2"));
        let buffers: Vec<_> = (0..3).map(|_| gpu.buffer(BYTES).unwrap()).collect();
        let commands: Vec<_> = buffers.iter().map(|buffer| gpu.fill(buffer)).collect();
        let endings: Vec<_> = commands.iter().map(ending).collect();
        assert_eq!(
            endings.iter().map(|(code, _)| *code).collect::<Vec<_>>(),
            [0, code, 0]
        );
        let text = &endings[1].1;
        assert!(
            text.contains(says) && text.ends_with("injected at command buffer 2"),
            "{text}"
        );
        // None of its work was done.
        let filled: Vec<_> = buffers.iter().map(|buffer| first_byte(buffer)).collect();
        assert_eq!(filled, [1, 0, 1]);
    }
}

#[test]
fn a_removed_device_does_not_come_back() {
    let _alone = alone();
    let gpu = Gpu::new();
    let buffer = gpu.buffer(BYTES).unwrap();
    inject("device-removed@2");
    let codes: Vec<_> = (0..4).map(|_| ending(&gpu.fill(&buffer)).0).collect();
    assert_eq!(codes, [0, 11, 11, 11]);
}

#[test]
fn a_seed_hits_the_same_command_buffers_again() {
    let _alone = alone();
    let gpu = Gpu::new();
    let buffer = gpu.buffer(BYTES).unwrap();
    let hits = |seed: u64| -> Vec<isize> {
        inject(&format!("page-fault~{seed}/4"));
        (0..40).map(|_| ending(&gpu.fill(&buffer)).0).collect()
    };
    let (first, again, other) = (hits(5), hits(5), hits(6));
    assert_eq!(first, again);
    assert_ne!(first, other);
    assert!(first.contains(&3) && first.contains(&0));
}

#[test]
fn an_allocation_that_fails_is_nil() {
    let _alone = alone();
    let gpu = Gpu::new();
    inject("nil@2");
    let there = [(); 3].map(|()| gpu.buffer(BYTES).is_some());
    assert_eq!(there, [true, false, true]);
    inject("nil>1000");
    let there = [1000, 1001, 1000].map(|bytes| gpu.buffer(bytes).is_some());
    assert_eq!(there, [true, false, true]);
    let descriptor = MTLHeapDescriptor::new();
    descriptor.setSize(4096);
    assert!(gpu.device.newHeapWithDescriptor(&descriptor).is_none());
    inject("");
    assert!(gpu.device.newHeapWithDescriptor(&descriptor).is_some());
}

#[test]
fn a_slow_gpu_takes_longer_for_each_pass() {
    let _alone = alone();
    let gpu = Gpu::new();
    let buffer = gpu.buffer(BYTES).unwrap();
    inject("slow=30");
    let event = gpu.device.newSharedEvent().unwrap();
    let commands = gpu.queue.commandBuffer().unwrap();
    commands.encodeWaitForEvent_value(ProtocolObject::from_ref(&*event), 1);
    gpu.encode(&commands, &buffer);
    // A commit that waited for the pass would not come back: nothing has begun it yet.
    commands.commit();
    assert!(commands.status() < MTLCommandBufferStatus::Completed);
    let start = Instant::now();
    event.setSignaledValue(1);
    assert_eq!(ending(&commands).0, 0);
    assert!(start.elapsed() >= Duration::from_millis(30));
    assert!(commands.GPUEndTime() - commands.GPUStartTime() >= 0.03);
    assert_eq!(first_byte(&buffer), 1);
}

#[test]
fn the_watchdog_ends_a_wait_that_nothing_ends() {
    let _alone = alone();
    let gpu = Gpu::new();
    rules::choose(|rules| rules.watchdog_ms = 50);
    let event = gpu.device.newSharedEvent().unwrap();
    let stuck = gpu.queue.commandBuffer().unwrap();
    stuck.encodeWaitForEvent_value(ProtocolObject::from_ref(&*event), 1);
    stuck.commit();
    let buffer = gpu.buffer(BYTES).unwrap();
    let later = gpu.fill(&buffer);
    let (code, text) = ending(&stuck);
    assert_eq!(code, 2, "{text}");
    assert!(text.contains("Timeout"), "{text}");
    assert_eq!(ending(&later).0, 0);
}

/// A device of Candle's and an operand on it, made while nothing is injected.
fn candle() -> (Device, Tensor) {
    let device = Device::new_metal(0).unwrap();
    let values: Vec<f32> = (0..256).map(|at| at as f32 * 0.01).collect();
    let x = Tensor::from_vec(values, (4, 64), &device).unwrap();
    device.synchronize().unwrap();
    (device, x)
}

#[test]
fn candle_reports_a_failed_command_buffer() {
    let _alone = alone();
    let (device, x) = candle();
    for name in ["timeout", "page-fault", "out-of-memory"] {
        autoreleasepool(|_| {
            inject(&format!("{name}@1"));
            let y = (&x + 1.0).unwrap();
            let error = device.synchronize().unwrap_err().to_string();
            assert!(error.contains("injected"), "{error}");
            // The device is as usable as before.
            inject("");
            drop(y);
            let sums = x.softmax_mps().unwrap().sum(1).unwrap();
            for sum in sums.to_vec1::<f32>().unwrap() {
                assert!((sum - 1.).abs() < 1e-5, "{sum}");
            }
        });
    }
}

#[test]
fn a_result_of_a_failed_command_buffer_cannot_be_read() {
    let _alone = alone();
    let (_device, x) = candle();
    inject("page-fault@1");
    let y = (&x + 1.0).unwrap();
    assert!(y.to_vec2::<f32>().is_err());
}

/// Candle 0.11 looks at the command buffer of a read-back alone, and not at those before it: numbers come back that
/// nobody computed, and only a wait for the device says so. To be reported to Candle; this test tells when it changes.
#[test]
fn candle_reads_past_an_earlier_failure_and_a_wait_tells() {
    let _alone = alone();
    let (device, x) = candle();
    inject("page-fault@1");
    // More calls than a command buffer of Candle's takes, so that the read-back is in another one than the first.
    let mut y = x.clone();
    for _ in 0..60 {
        y = (&y + 1.0).unwrap();
    }
    assert!(y.to_vec2::<f32>().is_ok(), "Candle has mended it");
    assert!(device.synchronize().is_err());
}

/// An op that MPS computes.
type ByMps = fn(&Tensor) -> Result<Tensor, String>;

fn said<E: std::fmt::Display>(error: E) -> String {
    error.to_string()
}

/// Each waits for Candle's work and for its own, and allocates its result: every fault is told, and no number is wrong.
#[test]
fn ops_by_mps_report_what_fails() {
    let _alone = alone();
    let (device, x) = candle();
    let ops: [(&str, ByMps); 3] = [
        ("matmul_mps", |x| {
            x.matmul_mps(&x.t().map_err(said)?).map_err(said)
        }),
        ("softmax_mps", |x| x.softmax_mps().map_err(said)),
        ("log_softmax_mps", |x| x.log_softmax_mps().map_err(said)),
    ];
    let run = |op: ByMps| -> Result<Vec<Vec<f32>>, String> {
        autoreleasepool(|_| {
            // Work of Candle's that the op has to wait for, in memory that is allocated again each time.
            device.synchronize().map_err(said)?;
            let result = op(&(&x + 1.0).map_err(said)?)?;
            device.synchronize().map_err(said)?;
            result.to_vec2().map_err(said)
        })
    };
    for (name, op) in ops {
        inject("nil@0");
        let exact = run(op).unwrap();
        let (commits, allocations) = rules::rules().inject.so_far();
        assert!(commits > 1 && allocations > 1, "{name}");
        let commits = (1..=commits).map(|at| format!("timeout@{at}"));
        for fault in commits.chain((1..=allocations).map(|at| format!("nil@{at}"))) {
            inject(&fault);
            match catch_unwind(AssertUnwindSafe(|| run(op))) {
                Ok(Ok(_)) => panic!("{name}, {fault}: nobody told"),
                Ok(Err(_)) => {}
                Err(_) => panic!("{name}, {fault}: a panic"),
            }
            inject("");
            let _ = device.synchronize();
            assert_eq!(run(op).unwrap(), exact, "{name}, after {fault}");
        }
    }
}

#[test]
fn candle_reports_an_allocation_that_fails() {
    let _alone = alone();
    let (device, x) = candle();
    // More than the pool has.
    let wide = Tensor::zeros((1000, 1000), DType::F32, &device).unwrap();
    device.synchronize().unwrap();
    inject("nil@1+");
    let made = catch_unwind(AssertUnwindSafe(|| (&wide + 1.0).map(drop)));
    assert!(
        matches!(made, Ok(Err(_))),
        "an error and no panic: {made:?}"
    );
    let made = catch_unwind(AssertUnwindSafe(|| {
        Tensor::zeros((3, 1000, 1000), DType::F32, &device).map(drop)
    }));
    assert!(
        matches!(made, Ok(Err(_))),
        "an error and no panic: {made:?}"
    );
    inject("");
    assert_eq!((&x + 1.0).unwrap().dims(), [4, 64]);
}
