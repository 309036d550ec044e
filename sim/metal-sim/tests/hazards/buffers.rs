//! Litmus tests between command buffers and queues, with MPS, and with the CPU.

use crate::candle::product;
use crate::gpu::{COUNT, Commands, Gpu, TRACKED, UNTRACKED, blit_fill, finish, floats, two};
use objc2::Message;
use objc2::runtime::ProtocolObject;
use objc2_metal::{
    MTLBuffer, MTLCommandBuffer, MTLCommandBufferStatus, MTLCommandEncoder, MTLCommandQueue,
    MTLComputeCommandEncoder, MTLDevice, MTLHazardTrackingMode, MTLHeap, MTLHeapDescriptor,
    MTLResource, MTLResourceOptions, MTLSharedEvent, MTLStages, MTLStorageMode,
};

pub fn event_between_buffers(gpu: &Gpu, sound: bool) {
    let (data, event) = (gpu.untracked("data"), gpu.event());
    let first = |commands: &Commands| {
        gpu.pass(commands, "A", |encoder| gpu.fill(encoder, &data));
        commands.encodeSignalEvent_value(&event, 1);
    };
    let second = |commands: &Commands| {
        if sound {
            commands.encodeWaitForEvent_value(&event, 1);
        }
        gpu.pass(commands, "B", |encoder| gpu.twice(encoder, &data));
    };
    two(gpu, first, second);
}

pub fn event_between_queues(gpu: &Gpu, sound: bool) {
    let (data, event) = (gpu.untracked("data"), gpu.event());
    let (first, second) = (gpu.commands(), gpu.other.commandBuffer().unwrap());
    if sound {
        second.encodeWaitForEvent_value(&event, 1);
    }
    gpu.pass(&second, "B", |encoder| gpu.twice(encoder, &data));
    gpu.pass(&first, "A", |encoder| gpu.fill(encoder, &data));
    first.encodeSignalEvent_value(&event, 1);
    // The wait may be committed first.
    second.commit();
    finish(&first);
    second.waitUntilCompleted();
    assert!(!sound || floats(&data)[3] == 8.0);
}

pub fn event_in_another_buffer(gpu: &Gpu, sound: bool) {
    let (data, event) = (gpu.untracked("data"), gpu.event());
    let buffers = [gpu.commands(), gpu.commands(), gpu.commands()];
    gpu.pass(&buffers[0], "A", |encoder| gpu.fill(encoder, &data));
    buffers[0].encodeSignalEvent_value(&event, 1);
    buffers[if sound { 2 } else { 1 }].encodeWaitForEvent_value(&event, 1);
    gpu.pass(&buffers[2], "B", |encoder| gpu.twice(encoder, &data));
    buffers.iter().for_each(|buffer| buffer.commit());
    buffers[2].waitUntilCompleted();
}

pub fn event_too_early(gpu: &Gpu, sound: bool) {
    let (data, event) = (gpu.untracked("data"), gpu.event());
    let first = |commands: &Commands| {
        if !sound {
            commands.encodeSignalEvent_value(&event, 1);
        }
        gpu.pass(commands, "A", |encoder| gpu.fill(encoder, &data));
        if sound {
            commands.encodeSignalEvent_value(&event, 1);
        }
    };
    let second = |commands: &Commands| {
        commands.encodeWaitForEvent_value(&event, 1);
        gpu.pass(commands, "B", |encoder| gpu.twice(encoder, &data));
    };
    two(gpu, first, second);
}

pub fn event_pair(gpu: &Gpu, sound: bool) {
    let (data, event, commands) = (gpu.untracked("data"), gpu.event(), gpu.commands());
    gpu.pass(&commands, "A", |encoder| gpu.fill(encoder, &data));
    commands.encodeSignalEvent_value(&event, 1);
    if sound {
        commands.encodeWaitForEvent_value(&event, 1);
    }
    gpu.pass(&commands, "B", |encoder| gpu.twice(encoder, &data));
    finish(&commands);
}

pub fn tracked(gpu: &Gpu, sound: bool) {
    let data = gpu.buffer("data", if sound { TRACKED } else { UNTRACKED });
    let write = |commands: &Commands| gpu.pass(commands, "A", |it| gpu.fill(it, &data));
    let read = |commands: &Commands| gpu.pass(commands, "B", |it| gpu.twice(it, &data));
    two(gpu, write, read);
    assert!(!sound || floats(&data)[3] == 8.0);
}

pub fn tracked_across_queues(gpu: &Gpu, sound: bool) {
    let data = gpu.buffer("data", if sound { TRACKED } else { UNTRACKED });
    let (first, second) = (gpu.commands(), gpu.other.commandBuffer().unwrap());
    gpu.pass(&first, "A", |encoder| gpu.fill(encoder, &data));
    gpu.pass(&second, "B", |encoder| gpu.twice(encoder, &data));
    first.commit();
    finish(&second);
    first.waitUntilCompleted();
    // Which queue is first is open, but one is.
    assert!(!sound || [4.0, 8.0].contains(&floats(&data)[3]));
}

pub fn queue_barrier(gpu: &Gpu, sound: bool) {
    let data = gpu.untracked("data");
    let write = |commands: &Commands| gpu.pass(commands, "A", |it| gpu.fill(it, &data));
    let read = |commands: &Commands| {
        gpu.pass(commands, "B", |encoder| {
            if sound {
                encoder
                    .barrierAfterQueueStages_beforeStages(MTLStages::Dispatch, MTLStages::Dispatch);
            }
            gpu.twice(encoder, &data);
        });
    };
    two(gpu, write, read);
}

pub fn queue_barrier_elsewhere(gpu: &Gpu, sound: bool) {
    let data = gpu.untracked("data");
    let queue = if sound { &gpu.queue } else { &gpu.other };
    let (first, second) = (gpu.commands(), queue.commandBuffer().unwrap());
    gpu.pass(&first, "A", |encoder| gpu.fill(encoder, &data));
    first.commit();
    gpu.pass(&second, "B", |encoder| {
        let stages = MTLStages::Dispatch;
        encoder.barrierAfterQueueStages_beforeStages(stages, stages);
        gpu.twice(encoder, &data);
    });
    finish(&second);
    first.waitUntilCompleted();
}

/// A barrier is for the stages that it names.
pub fn queue_barrier_of_another_stage(gpu: &Gpu, sound: bool) {
    let data = gpu.untracked("data");
    let write = |commands: &Commands| gpu.pass(commands, "A", |it| gpu.fill(it, &data));
    let read = |commands: &Commands| {
        gpu.pass(commands, "B", |encoder| {
            let earlier = if sound {
                MTLStages::Dispatch
            } else {
                MTLStages::Blit
            };
            encoder.barrierAfterQueueStages_beforeStages(earlier, MTLStages::Dispatch);
            gpu.twice(encoder, &data);
        });
    };
    two(gpu, write, read);
}

/// Signals of one command buffer come one after the other, and each is for what is before it.
pub fn event_of_two_signals(gpu: &Gpu, sound: bool) {
    let (data, event) = (gpu.untracked("data"), gpu.event());
    let other = gpu.untracked("other");
    let first = |commands: &Commands| {
        gpu.pass(commands, "A", |encoder| gpu.fill(encoder, &other));
        commands.encodeSignalEvent_value(&event, 1);
        gpu.pass(commands, "B", |encoder| gpu.fill(encoder, &data));
        commands.encodeSignalEvent_value(&event, 2);
    };
    let second = |commands: &Commands| {
        commands.encodeWaitForEvent_value(&event, if sound { 2 } else { 1 });
        gpu.pass(commands, "C", |encoder| gpu.twice(encoder, &data));
    };
    two(gpu, first, second);
}

/// Signals of consecutive command buffers count up, whatever order their work takes.
pub fn event_as_a_timeline(gpu: &Gpu, sound: bool) {
    let (data, event) = (gpu.untracked("data"), gpu.event());
    let other = gpu.other.commandBuffer().unwrap();
    for value in 1..4 {
        let commands = gpu.commands();
        if value == 2 {
            gpu.pass(&commands, "A", |encoder| gpu.fill(encoder, &data));
        }
        commands.encodeSignalEvent_value(&event, value);
        commands.commit();
    }
    other.encodeWaitForEvent_value(&event, if sound { 2 } else { 1 });
    gpu.pass(&other, "B", |encoder| gpu.twice(encoder, &data));
    finish(&other);
}

/// A signal of a value that is there already is none, so that the wait for it waits for nothing.
pub fn event_value_again(gpu: &Gpu, sound: bool) {
    let (data, event) = (gpu.untracked("data"), gpu.event());
    let first = |commands: &Commands| commands.encodeSignalEvent_value(&event, 1);
    let second = |commands: &Commands| {
        let value = if sound { 2 } else { 1 };
        gpu.pass(commands, "A", |encoder| gpu.fill(encoder, &data));
        commands.encodeSignalEvent_value(&event, value);
        commands.encodeWaitForEvent_value(&event, value);
        gpu.pass(commands, "B", |encoder| gpu.twice(encoder, &data));
    };
    two(gpu, first, second);
}

pub fn blit_after_compute(gpu: &Gpu, sound: bool) {
    let (data, commands, fence) = (gpu.untracked("data"), gpu.commands(), gpu.fence());
    gpu.pass(&commands, "A", |encoder| {
        gpu.fill(encoder, &data);
        encoder.updateFence(&fence);
    });
    blit_fill(&commands, &data, sound.then_some(&fence));
    finish(&commands);
}

pub fn mps_after_compute(gpu: &Gpu, sound: bool) {
    let (data, result) = (gpu.untracked("data"), gpu.untracked("result"));
    let (commands, event) = (gpu.commands(), gpu.event());
    gpu.pass(&commands, "A", |encoder| gpu.fill(encoder, &data));
    if sound {
        commands.encodeSignalEvent_value(&event, 1);
        commands.encodeWaitForEvent_value(&event, 1);
    }
    product(gpu, &commands, &data, &result);
    finish(&commands);
}

/// MPS's own encoder waits for no fence, whoever else does.
pub fn mps_behind_fence(gpu: &Gpu, sound: bool) {
    let (data, result) = (gpu.untracked("data"), gpu.untracked("result"));
    let (commands, fence, event) = (gpu.commands(), gpu.fence(), gpu.event());
    gpu.pass(&commands, "A", |encoder| {
        gpu.fill(encoder, &data);
        encoder.updateFence(&fence);
    });
    gpu.pass(&commands, "waits", |encoder| encoder.waitForFence(&fence));
    if sound {
        commands.encodeSignalEvent_value(&event, 1);
        commands.encodeWaitForEvent_value(&event, 1);
    }
    product(gpu, &commands, &data, &result);
    finish(&commands);
}

pub fn contents(gpu: &Gpu, sound: bool) {
    let (data, commands) = (gpu.untracked("data"), gpu.commands());
    gpu.pass(&commands, "A", |encoder| gpu.fill(encoder, &data));
    commands.commit();
    if sound {
        commands.waitUntilCompleted();
    }
    let _ = data.contents();
    commands.waitUntilCompleted();
}

/// What the GPU alone has is read by a copy.
pub fn contents_of_private(gpu: &Gpu, sound: bool) {
    let private =
        MTLResourceOptions::StorageModePrivate | MTLResourceOptions::HazardTrackingModeUntracked;
    let (data, copy) = (gpu.buffer("data", private), gpu.untracked("copy"));
    let commands = gpu.commands();
    gpu.pass(&commands, "A", |encoder| {
        gpu.fill(encoder, &data);
        gpu.copy(encoder, &copy, &data);
    });
    finish(&commands);
    let read = if sound { &copy } else { &data };
    // SAFETY: the method's signature. The binding says that it never gives NULL.
    let contents: *mut std::ffi::c_void = unsafe { objc2::msg_send![&**read, contents] };
    assert_eq!(contents.is_null(), !sound);
}

/// Buffers of a queue complete in order, those of two do not.
pub fn contents_after_queue(gpu: &Gpu, sound: bool) {
    let data = gpu.untracked("data");
    let queue = if sound { &gpu.queue } else { &gpu.other };
    let (first, second) = (gpu.commands(), queue.commandBuffer().unwrap());
    gpu.pass(&first, "A", |encoder| gpu.fill(encoder, &data));
    first.commit();
    finish(&second);
    let _ = data.contents();
    first.waitUntilCompleted();
}

pub fn contents_after_status(gpu: &Gpu, sound: bool) {
    let (data, commands) = (gpu.untracked("data"), gpu.commands());
    gpu.pass(&commands, "A", |encoder| gpu.fill(encoder, &data));
    commands.commit();
    while sound && commands.status() != MTLCommandBufferStatus::Completed {
        std::thread::yield_now();
    }
    let _ = data.contents();
    commands.waitUntilCompleted();
}

pub fn contents_after_event(gpu: &Gpu, sound: bool) {
    let (data, commands, event) = (gpu.untracked("data"), gpu.commands(), gpu.shared_event());
    gpu.pass(&commands, "A", |encoder| gpu.fill(encoder, &data));
    commands.encodeSignalEvent_value(ProtocolObject::from_ref(&*event), 1);
    commands.commit();
    if sound {
        assert!(event.waitUntilSignaledValue_timeoutMS(1, 10_000));
    }
    let _ = data.contents();
    commands.waitUntilCompleted();
}

pub fn wait_between(gpu: &Gpu, sound: bool) {
    let (data, first, second) = (gpu.untracked("data"), gpu.commands(), gpu.commands());
    gpu.pass(&first, "A", |encoder| gpu.fill(encoder, &data));
    first.commit();
    gpu.pass(&second, "B", |encoder| gpu.twice(encoder, &data));
    if sound {
        first.waitUntilCompleted();
    }
    finish(&second);
}

/// Memory of a heap goes to another buffer before its last use has ended.
/// A tracked heap is one resource: users of one part follow those of another.
pub fn tracked_heap(gpu: &Gpu, sound: bool) {
    let descriptor = MTLHeapDescriptor::new();
    descriptor.setSize(COUNT * 4);
    descriptor.setStorageMode(MTLStorageMode::Private);
    if sound {
        descriptor.setHazardTrackingMode(MTLHazardTrackingMode::Tracked);
    }
    let heap = gpu.device.newHeapWithDescriptor(&descriptor).unwrap();
    let options = MTLResourceOptions::StorageModePrivate;
    let cut = || heap.newBufferWithLength_options(COUNT * 4, options);
    let one = cut().unwrap();
    // SAFETY: who uses it afterwards is the GPU alone, which is what this is about.
    unsafe { one.makeAliasable() };
    let other = cut().unwrap();
    let first = |commands: &Commands| gpu.pass(commands, "A", |it| gpu.fill(it, &one));
    let second = |commands: &Commands| gpu.pass(commands, "B", |it| gpu.fill(it, &other));
    two(gpu, first, second);
}

pub fn aliased(gpu: &Gpu, sound: bool) {
    let descriptor = MTLHeapDescriptor::new();
    descriptor.setSize(COUNT * 4);
    descriptor.setStorageMode(MTLStorageMode::Private);
    let heap = gpu.device.newHeapWithDescriptor(&descriptor).unwrap();
    let options = objc2_metal::MTLResourceOptions::StorageModePrivate;
    let cut = || {
        heap.newBufferWithLength_options(COUNT * 4, options)
            .unwrap()
    };
    let (first, second) = (gpu.commands(), gpu.commands());
    let one = cut();
    gpu.pass(&first, "A", |encoder| gpu.fill(encoder, &one));
    first.commit();
    if sound {
        first.waitUntilCompleted();
    }
    // SAFETY: nobody uses it afterwards, but for the GPU, which is what this is about.
    unsafe { one.makeAliasable() };
    let other = cut();
    gpu.pass(&second, "B", |encoder| gpu.fill(encoder, &other));
    finish(&second);
    let _ = (one.retain(), first.status());
}
