//! What the simulator does beyond Metal's promises: failures that are reported to whoever
//! waits, memory that is poisoned, and an account of the work.

// These tests use the raw bindings, as a Metal program would.
#![allow(unsafe_code)]

use metal_sim::{Census, Work};
use objc2::AnyThread;
use objc2::rc::{Retained, autoreleasepool};
use objc2::runtime::ProtocolObject;
use objc2_foundation::NSRange;
use objc2_metal::{
    MTLBlitCommandEncoder, MTLBuffer, MTLCommandBuffer, MTLCommandBufferStatus, MTLCommandEncoder,
    MTLCommandQueue, MTLCreateSystemDefaultDevice, MTLDevice, MTLResourceOptions, MTLSharedEvent,
};
use objc2_metal_performance_shaders::{
    MPSDataType, MPSMatrix, MPSMatrixDescriptor, MPSMatrixMultiplication,
};
use std::ffi::c_void;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, MutexGuard, PoisonError};

type Device = Retained<ProtocolObject<dyn MTLDevice>>;
type Buffer = Retained<ProtocolObject<dyn MTLBuffer>>;
type Queue = Retained<ProtocolObject<dyn MTLCommandQueue>>;

/// A test's turn, with a pool of its own: what is left to the pool of a thread goes when that ends, in the next turn.
struct Turn {
    pool: *mut c_void,
    _turn: MutexGuard<'static, ()>,
}

/// The accounts are of the process, so the tests take turns.
fn alone() -> Turn {
    static TURN: Mutex<()> = Mutex::new(());
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    // SAFETY: popped at the end of the turn, on this thread, as a `Turn` cannot leave it.
    let pool = unsafe { objc2::ffi::objc_autoreleasePoolPush() };
    Turn { pool, _turn }
}

impl Drop for Turn {
    fn drop(&mut self) {
        // SAFETY: pushed when the turn began; pools of shorter life have gone.
        unsafe { objc2::ffi::objc_autoreleasePoolPop(self.pool) };
    }
}

fn device_and_queue() -> (Device, Queue) {
    let device = MTLCreateSystemDefaultDevice().unwrap();
    let queue = device.newCommandQueue().unwrap();
    (device, queue)
}

fn buffer(device: &Device, bytes: usize, options: MTLResourceOptions) -> Buffer {
    device.newBufferWithLength_options(bytes, options).unwrap()
}

fn whole(buffer: &Buffer) -> NSRange {
    NSRange {
        location: 0,
        length: buffer.length(),
    }
}

/// A shared buffer's bytes.
fn bytes(buffer: &Buffer) -> Vec<u8> {
    let start = buffer.contents().as_ptr().cast::<u8>();
    // SAFETY: shared, at rest, and as long as it says.
    (0..buffer.length())
        .map(|at| unsafe { start.add(at).read() })
        .collect()
}

#[test]
fn private_memory_is_poisoned() {
    let _alone = alone();
    let (device, queue) = device_and_queue();
    let private = buffer(&device, 64, MTLResourceOptions::StorageModePrivate);
    let shared = buffer(&device, 64, MTLResourceOptions::StorageModeShared);
    let commands = queue.commandBuffer().unwrap();
    let blit = commands.blitCommandEncoder().unwrap();
    // SAFETY: the ranges are inside both buffers.
    unsafe {
        blit.copyFromBuffer_sourceOffset_toBuffer_destinationOffset_size(
            &private, 0, &shared, 0, 64,
        );
    }
    blit.endEncoding();
    commands.commit();
    commands.waitUntilCompleted();
    assert!(
        bytes(&shared)
            .iter()
            .all(|byte| *byte == metal_sim::memory::POISON)
    );
}

/// Commits a fill of a buffer that is released while the fill has to wait.
fn released_too_early(retained: bool) -> (MTLCommandBufferStatus, Option<isize>) {
    let (device, queue) = device_and_queue();
    let gate = device.newSharedEvent().unwrap();
    let commands = if retained {
        queue.commandBuffer().unwrap()
    } else {
        queue.commandBufferWithUnretainedReferences().unwrap()
    };
    autoreleasepool(|_| {
        let target = buffer(&device, 64, MTLResourceOptions::StorageModeShared);
        commands.encodeWaitForEvent_value(ProtocolObject::from_ref(&*gate), 1);
        let blit = commands.blitCommandEncoder().unwrap();
        blit.fillBuffer_range_value(&target, whole(&target), 1);
        blit.endEncoding();
    });
    commands.commit();
    gate.setSignaledValue(1);
    commands.waitUntilCompleted();
    (
        commands.status(),
        commands.error().map(|error| error.code()),
    )
}

#[test]
fn unretained_references_are_the_programs_to_keep() {
    let _alone = alone();
    const INVALID_RESOURCE: isize = 9;
    assert_eq!(
        released_too_early(false),
        (MTLCommandBufferStatus::Error, Some(INVALID_RESOURCE))
    );
    assert_eq!(
        released_too_early(true),
        (MTLCommandBufferStatus::Completed, None)
    );
}

#[test]
fn a_failed_buffer_does_not_stop_the_next() {
    let _alone = alone();
    let (device, queue) = device_and_queue();
    assert_eq!(released_too_early(false).0, MTLCommandBufferStatus::Error);
    let target = buffer(&device, 16, MTLResourceOptions::StorageModeShared);
    let commands = queue.commandBuffer().unwrap();
    let blit = commands.blitCommandEncoder().unwrap();
    blit.fillBuffer_range_value(&target, whole(&target), 3);
    blit.endEncoding();
    commands.commit();
    commands.waitUntilCompleted();
    assert_eq!(commands.status(), MTLCommandBufferStatus::Completed);
    assert_eq!(bytes(&target), [3; 16]);
}

/// A fence that a failed buffer was to update holds nobody.
#[test]
fn a_failed_buffer_does_not_hold_its_fences() {
    let _alone = alone();
    let (device, queue) = device_and_queue();
    let (fence, gate) = (device.newFence().unwrap(), device.newSharedEvent().unwrap());
    let failing = queue.commandBufferWithUnretainedReferences().unwrap();
    autoreleasepool(|_| {
        let target = buffer(&device, 64, MTLResourceOptions::StorageModeShared);
        failing.encodeWaitForEvent_value(ProtocolObject::from_ref(&*gate), 1);
        let blit = failing.blitCommandEncoder().unwrap();
        blit.fillBuffer_range_value(&target, whole(&target), 1);
        blit.endEncoding();
    });
    let last = failing.blitCommandEncoder().unwrap();
    last.updateFence(&fence);
    last.endEncoding();
    failing.commit();
    let next = device.newCommandQueue().unwrap().commandBuffer().unwrap();
    let blit = next.blitCommandEncoder().unwrap();
    blit.waitForFence(&fence);
    blit.endEncoding();
    next.commit();
    gate.setSignaledValue(1);
    failing.waitUntilCompleted();
    next.waitUntilCompleted();
    assert_eq!(failing.status(), MTLCommandBufferStatus::Error);
    assert_eq!(next.status(), MTLCommandBufferStatus::Completed);
}

#[test]
fn the_work_is_accounted_for() {
    let _alone = alone();
    let (device, queue) = device_and_queue();
    let (first, second) = (
        buffer(&device, 100, MTLResourceOptions::StorageModeShared),
        buffer(&device, 100, MTLResourceOptions::StorageModeShared),
    );
    let fence = device.newFence().unwrap();
    let (work, ()) = Work::of(|| {
        let commands = queue.commandBuffer().unwrap();
        let blit = commands.blitCommandEncoder().unwrap();
        blit.waitForFence(&fence);
        blit.fillBuffer_range_value(&first, whole(&first), 1);
        // SAFETY: the ranges are inside both buffers.
        unsafe {
            blit.copyFromBuffer_sourceOffset_toBuffer_destinationOffset_size(
                &first, 0, &second, 20, 80,
            );
        }
        blit.updateFence(&fence);
        blit.endEncoding();
        commands.commit();
        commands.waitUntilCompleted();
    });
    let expected = Work {
        command_buffers: 1,
        encoders: 1,
        dispatches: 2,
        fences: 2,
        cpu_waits: 1,
        bytes_read: 80,
        bytes_written: 180,
        ..Work::default()
    };
    assert_eq!(work, expected);
}

#[test]
fn a_round_leaves_nothing_behind() {
    let _alone = alone();
    let (device, queue) = device_and_queue();
    let round = || {
        autoreleasepool(|_| {
            let commands = queue.commandBuffer().unwrap();
            let target = buffer(&device, 4096, MTLResourceOptions::StorageModePrivate);
            let event = device.newEvent().unwrap();
            let blit = commands.blitCommandEncoder().unwrap();
            blit.updateFence(&device.newFence().unwrap());
            blit.fillBuffer_range_value(&target, whole(&target), 1);
            blit.endEncoding();
            commands.encodeSignalEvent_value(ProtocolObject::from_ref(&*event), 1);
            commands.commit();
            commands.waitUntilCompleted();
        });
    };
    round();
    let (census, allocated) = (Census::take(), device.currentAllocatedSize());
    for _ in 0..1000 {
        round();
    }
    assert_eq!(Census::take().since(&census), Census::default());
    assert_eq!(device.currentAllocatedSize(), allocated);
}

/// The defect of very large products can be had on request, so that a guard against it can
/// be tested; nothing else in this process sees it.
#[test]
fn apples_defect_can_be_injected() {
    let _alone = alone();
    let program = std::env::current_exe().unwrap();
    let output = std::process::Command::new(program)
        .args(["--exact", "a_product_of_ones", "--nocapture"])
        .env("METAL_SIM_LARGE_PRODUCT_DEFECT", "4096")
        .output()
        .unwrap();
    assert!(!output.status.success());
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(told.contains("row 56 is NaN"), "{told}");
}

#[test]
fn a_product_of_ones() {
    let _alone = alone();
    let (device, queue) = device_and_queue();
    let (m, n, k) = (64usize, 16usize, 4usize);
    let matrix = |rows: usize, columns: usize| {
        let data = buffer(
            &device,
            rows * columns * 4,
            MTLResourceOptions::StorageModeShared,
        );
        let start = data.contents().as_ptr().cast::<f32>();
        // SAFETY: the buffer is new and as long as its matrix.
        unsafe {
            (0..rows * columns).for_each(|at| start.add(at).write(1.0));
            let descriptor =
                MPSMatrixDescriptor::matrixDescriptorWithRows_columns_rowBytes_dataType(
                    rows,
                    columns,
                    columns * 4,
                    MPSDataType::Float32,
                );
            (
                MPSMatrix::initWithBuffer_descriptor(MPSMatrix::alloc(), &data, &descriptor),
                data,
            )
        }
    };
    let ((a, _), (b, _), (c, result)) = (matrix(m, k), matrix(k, n), matrix(m, n));
    let commands = queue.commandBuffer().unwrap();
    // SAFETY: the matrices have the sizes of the product.
    unsafe {
        let kernel =
            MPSMatrixMultiplication::initWithDevice_resultRows_resultColumns_interiorColumns(
                MPSMatrixMultiplication::alloc(),
                &device,
                m,
                n,
                k,
            );
        kernel.encodeToCommandBuffer_leftMatrix_rightMatrix_resultMatrix(&commands, &a, &b, &c);
    }
    commands.commit();
    commands.waitUntilCompleted();
    let values = bytes(&result);
    for (at, value) in values.chunks_exact(4).enumerate() {
        let value = f32::from_le_bytes(value.try_into().unwrap());
        assert!(!value.is_nan(), "row {} is NaN", at / n);
        assert_eq!(value, 4.0);
    }
}

#[test]
fn a_caught_fault_leaves_the_rest_working() {
    let _alone = alone();
    let (_, queue) = device_and_queue();
    let commands = queue.commandBuffer().unwrap();
    commands.commit();
    let late = catch_unwind(AssertUnwindSafe(|| drop(commands.blitCommandEncoder())));
    let panic = late.expect_err("an encoder after the commit");
    let text = panic.downcast_ref::<String>().unwrap();
    assert!(text.contains("encode after commit"), "{text}");
    commands.waitUntilCompleted();
    assert_eq!(commands.status(), MTLCommandBufferStatus::Completed);
}

#[test]
fn a_wait_that_nothing_ends_times_out() {
    let _alone = alone();
    let program = std::env::current_exe().unwrap();
    let status = std::process::Command::new(program)
        .args(["--exact", "stuck_on_an_event", "--ignored"])
        .env("METAL_SIM_WATCHDOG_MS", "50")
        .status()
        .unwrap();
    assert!(status.success());
}

/// Run by the test above with a short watchdog; by itself it would take ten seconds.
#[test]
#[ignore = "started by a_wait_that_nothing_ends_times_out with a short watchdog"]
fn stuck_on_an_event() {
    const TIMEOUT: isize = 2;
    let (device, queue) = device_and_queue();
    let event = device.newSharedEvent().unwrap();
    let (stuck, next) = (
        queue.commandBuffer().unwrap(),
        queue.commandBuffer().unwrap(),
    );
    stuck.encodeWaitForEvent_value(ProtocolObject::from_ref(&*event), 1);
    stuck.commit();
    next.commit();
    stuck.waitUntilCompleted();
    assert_eq!(stuck.status(), MTLCommandBufferStatus::Error);
    assert_eq!(stuck.error().map(|error| error.code()), Some(TIMEOUT));
    next.waitUntilCompleted();
    assert_eq!(next.status(), MTLCommandBufferStatus::Completed);
}

#[test]
fn the_readme_shows_the_whole_program_of_check() {
    let program = include_str!("check.rs");
    assert!(include_str!("../../README.md").contains(program));
}
