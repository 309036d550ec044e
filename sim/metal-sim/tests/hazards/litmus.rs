//! The litmus tests: each is a small program that lacks an ordering, and the same with it.

use crate::gpu::{
    Buffer, COUNT, Commands, Gpu, TRACKED, UNTRACKED, blit_fill, concurrent, finish, floats,
};
use crate::{Asked, Score};
use metal_sim::Order;
use objc2::rc::autoreleasepool;
use objc2::runtime::ProtocolObject;
use objc2::{AnyThread, Message};
use objc2_metal::{
    MTLBarrierScope, MTLBuffer, MTLCommandBuffer, MTLCommandBufferStatus, MTLCommandEncoder,
    MTLCommandQueue, MTLComputeCommandEncoder, MTLDevice, MTLHeap, MTLHeapDescriptor, MTLResource,
    MTLSharedEvent, MTLStages, MTLStorageMode,
};
use objc2_metal_performance_shaders::{
    MPSDataType, MPSMatrix, MPSMatrixDescriptor, MPSMatrixMultiplication,
};
use std::ptr::NonNull;

/// With `true` the ordering is there.
type Program = fn(&Gpu, bool);

/// Name, program, and what is found in it without the ordering.
const ALL: &[(&str, &str, Program)] = &[
    ("barrier/scope", "no barrier is between", barrier_by_scope),
    (
        "barrier/resource",
        "no barrier is between",
        barrier_by_resource,
    ),
    (
        "barrier/textures-only",
        "no barrier is between",
        barrier_for_textures,
    ),
    (
        "barrier/between-other-steps",
        "no barrier is between",
        barrier_too_early,
    ),
    ("encoder/serial", "no barrier is between", serial_encoder),
    (
        "encoder/tracked-is-no-barrier",
        "no barrier is between",
        tracked_in_one_encoder,
    ),
    ("bytes/overlap", "no barrier is between", overlap),
    ("fence/two-encoders", "no fence, event or barrier", fence),
    (
        "fence/write-after-read",
        "write after read on buffer “data”",
        write_after_read,
    ),
    (
        "fence/in-an-empty-encoder",
        "no fence, event or barrier",
        fence_in_empty_encoder,
    ),
    (
        "fence/updated-later",
        "no fence, event or barrier",
        fence_updated_later,
    ),
    (
        "fence/two-buffers",
        "no fence, event or barrier",
        fence_between_buffers,
    ),
    ("fence/chain", "no fence, event or barrier", fence_chain),
    (
        "fence/across-queues",
        "no fence, event or barrier",
        fence_across_queues,
    ),
    (
        "event/two-buffers",
        "no fence, event or barrier",
        event_between_buffers,
    ),
    (
        "event/two-queues",
        "no fence, event or barrier",
        event_between_queues,
    ),
    (
        "event/wait-in-another-buffer",
        "no fence, event or barrier",
        event_in_another_buffer,
    ),
    (
        "event/signal-too-early",
        "no fence, event or barrier",
        event_too_early,
    ),
    (
        "event/pair-in-one-buffer",
        "no fence, event or barrier",
        event_pair,
    ),
    ("tracked/two-buffers", "no fence, event or barrier", tracked),
    (
        "tracked/two-queues",
        "no fence, event or barrier",
        tracked_across_queues,
    ),
    ("queue-barrier", "no fence, event or barrier", queue_barrier),
    (
        "queue-barrier/other-queue",
        "no fence, event or barrier",
        queue_barrier_elsewhere,
    ),
    (
        "blit/after-compute",
        "no fence, event or barrier",
        blit_after_compute,
    ),
    (
        "mps/after-compute",
        "no fence, event or barrier",
        mps_after_compute,
    ),
    (
        "mps/fence-before-it",
        "no fence, event or barrier",
        mps_behind_fence,
    ),
    ("cpu/contents", "the CPU uses buffer “data”", contents),
    (
        "cpu/contents-after-another-queue",
        "the CPU uses buffer “data”",
        contents_after_queue,
    ),
    (
        "cpu/contents-after-status",
        "the CPU uses buffer “data”",
        contents_after_status,
    ),
    (
        "cpu/contents-after-shared-event",
        "the CPU uses buffer “data”",
        contents_after_event,
    ),
    (
        "cpu/wait-between",
        "no fence, event or barrier",
        wait_between,
    ),
    (
        "heap/aliased-too-early",
        "no fence, event or barrier",
        aliased,
    ),
];

pub fn run(asked: &Asked, gpu: &Gpu) -> Score {
    let mut score = Score::default();
    for (name, text, program) in ALL {
        let run = |sound| autoreleasepool(|_| program(gpu, sound));
        score.case(asked, name, || {
            asked.check().expect_in_each(text).run(|| run(false));
            asked.check().run(|| run(true));
        });
    }
    score.case(asked, "values", || values(gpu));
    score.case(asked, "report", || report(gpu));
    score
}

fn barrier_by_scope(gpu: &Gpu, sound: bool) {
    let (data, commands) = (gpu.untracked("data"), gpu.commands());
    let encoder = concurrent(&commands);
    gpu.fill(&encoder, &data);
    if sound {
        encoder.memoryBarrierWithScope(MTLBarrierScope::Buffers);
    }
    gpu.twice(&encoder, &data);
    encoder.endEncoding();
    finish(&commands);
    assert!(!sound || floats(&data)[3] == 8.0);
}

fn barrier_by_resource(gpu: &Gpu, sound: bool) {
    let (data, other) = (gpu.untracked("data"), gpu.untracked("other"));
    let commands = gpu.commands();
    let encoder = concurrent(&commands);
    gpu.fill(&encoder, &data);
    gpu.fill(&encoder, &other);
    let named = if sound { &data } else { &other };
    let mut resources = [NonNull::from(named.as_ref() as &ProtocolObject<dyn MTLBuffer>).cast()];
    // SAFETY: one resource.
    unsafe {
        encoder.memoryBarrierWithResources_count(NonNull::from(&mut resources[0]), 1);
    }
    gpu.twice(&encoder, &data);
    encoder.endEncoding();
    finish(&commands);
}

fn barrier_for_textures(gpu: &Gpu, sound: bool) {
    let (data, commands) = (gpu.untracked("data"), gpu.commands());
    let encoder = concurrent(&commands);
    gpu.fill(&encoder, &data);
    let buffers = if sound {
        MTLBarrierScope::Buffers
    } else {
        MTLBarrierScope(0)
    };
    encoder.memoryBarrierWithScope(buffers | MTLBarrierScope::Textures);
    gpu.twice(&encoder, &data);
    encoder.endEncoding();
    finish(&commands);
}

fn barrier_too_early(gpu: &Gpu, sound: bool) {
    let (data, commands) = (gpu.untracked("data"), gpu.commands());
    let other = gpu.untracked("other");
    let encoder = concurrent(&commands);
    gpu.fill(&encoder, &other);
    if !sound {
        encoder.memoryBarrierWithScope(MTLBarrierScope::Buffers);
    }
    gpu.fill(&encoder, &data);
    if sound {
        encoder.memoryBarrierWithScope(MTLBarrierScope::Buffers);
    }
    gpu.twice(&encoder, &data);
    encoder.endEncoding();
    finish(&commands);
}

fn serial_encoder(gpu: &Gpu, sound: bool) {
    let (data, commands) = (gpu.untracked("data"), gpu.commands());
    let encoder = match sound {
        true => commands.computeCommandEncoder().unwrap(),
        false => concurrent(&commands),
    };
    gpu.fill(&encoder, &data);
    gpu.twice(&encoder, &data);
    encoder.endEncoding();
    finish(&commands);
}

fn tracked_in_one_encoder(gpu: &Gpu, sound: bool) {
    let (data, commands) = (gpu.buffer("data", TRACKED), gpu.commands());
    let encoder = concurrent(&commands);
    gpu.fill(&encoder, &data);
    if sound {
        encoder.memoryBarrierWithScope(MTLBarrierScope::Buffers);
    }
    gpu.twice(&encoder, &data);
    encoder.endEncoding();
    finish(&commands);
}

/// The kernels touch what they touch, and not what they could.
fn overlap(gpu: &Gpu, sound: bool) {
    let (data, commands) = (gpu.untracked("data"), gpu.commands());
    let encoder = concurrent(&commands);
    gpu.dispatch(&encoder, &gpu.fill, &[&data], COUNT / 2);
    let first = if sound { COUNT / 2 } else { COUNT / 2 - 1 };
    encoder.setComputePipelineState(&gpu.fill);
    // SAFETY: inside the buffer.
    unsafe { encoder.setBuffer_offset_atIndex(Some(&data), first * 4, 0) };
    let [groups, threads] = [1, COUNT / 2].map(|width| objc2_metal::MTLSize {
        width,
        height: 1,
        depth: 1,
    });
    encoder.dispatchThreadgroups_threadsPerThreadgroup(groups, threads);
    encoder.endEncoding();
    finish(&commands);
}

fn fence(gpu: &Gpu, sound: bool) {
    let (data, commands, fence) = (gpu.untracked("data"), gpu.commands(), gpu.fence());
    gpu.pass(&commands, "A", |encoder| {
        gpu.fill(encoder, &data);
        encoder.updateFence(&fence);
    });
    gpu.pass(&commands, "B", |encoder| {
        if sound {
            encoder.waitForFence(&fence);
        }
        gpu.twice(encoder, &data);
    });
    finish(&commands);
    assert!(!sound || floats(&data)[3] == 8.0);
}

fn write_after_read(gpu: &Gpu, sound: bool) {
    let (data, result) = (gpu.untracked("data"), gpu.untracked("result"));
    let (commands, fence) = (gpu.commands(), gpu.fence());
    gpu.pass(&commands, "A", |encoder| {
        gpu.copy(encoder, &result, &data);
        encoder.updateFence(&fence);
    });
    gpu.pass(&commands, "B", |encoder| {
        if sound {
            encoder.waitForFence(&fence);
        }
        gpu.fill(encoder, &data);
    });
    finish(&commands);
}

fn fence_in_empty_encoder(gpu: &Gpu, sound: bool) {
    let (data, commands, fence) = (gpu.untracked("data"), gpu.commands(), gpu.fence());
    gpu.pass(&commands, "A", |encoder| {
        gpu.fill(encoder, &data);
        encoder.updateFence(&fence);
    });
    gpu.pass(&commands, "empty", |encoder| encoder.waitForFence(&fence));
    gpu.pass(&commands, "B", |encoder| {
        if sound {
            encoder.waitForFence(&fence);
        }
        gpu.twice(encoder, &data);
    });
    finish(&commands);
}

/// A wait is for an update that was submitted before it.
fn fence_updated_later(gpu: &Gpu, sound: bool) {
    let (data, fence) = (gpu.untracked("data"), gpu.fence());
    let (updates, waits) = (gpu.commands(), gpu.commands());
    gpu.pass(&updates, "updates", |encoder| {
        gpu.fill(encoder, &data);
        encoder.updateFence(&fence);
    });
    gpu.pass(&waits, "waits", |encoder| {
        encoder.waitForFence(&fence);
        gpu.twice(encoder, &data);
    });
    let order = if sound {
        [&updates, &waits]
    } else {
        [&waits, &updates]
    };
    order[0].commit();
    finish(order[1]);
}

/// Two buffers of the queue that use the same memory, each with one pass.
fn two(
    gpu: &Gpu,
    data: &Buffer,
    first: impl FnOnce(&Commands),
    second: impl FnOnce(&Commands),
) -> [Commands; 2] {
    let both = [gpu.commands(), gpu.commands()];
    first(&both[0]);
    both[0].commit();
    second(&both[1]);
    finish(&both[1]);
    let _ = data;
    both
}

fn fence_between_buffers(gpu: &Gpu, sound: bool) {
    let (data, fence) = (gpu.untracked("data"), gpu.fence());
    let first = |commands: &Commands| {
        gpu.pass(commands, "A", |encoder| {
            gpu.fill(encoder, &data);
            encoder.updateFence(&fence);
        });
    };
    let second = |commands: &Commands| {
        gpu.pass(commands, "B", |encoder| {
            if sound {
                encoder.waitForFence(&fence);
            }
            gpu.twice(encoder, &data);
        });
    };
    two(gpu, &data, first, second);
}

/// What is before a pass is before whoever waits for it.
fn fence_chain(gpu: &Gpu, sound: bool) {
    let (data, commands) = (gpu.untracked("data"), gpu.commands());
    let fences = [gpu.fence(), gpu.fence()];
    gpu.pass(&commands, "A", |encoder| {
        gpu.fill(encoder, &data);
        encoder.updateFence(&fences[0]);
    });
    gpu.pass(&commands, "between", |encoder| {
        if sound {
            encoder.waitForFence(&fences[0]);
        }
        encoder.updateFence(&fences[1]);
    });
    gpu.pass(&commands, "B", |encoder| {
        encoder.waitForFence(&fences[1]);
        gpu.twice(encoder, &data);
    });
    finish(&commands);
}

fn fence_across_queues(gpu: &Gpu, sound: bool) {
    let (data, fence) = (gpu.untracked("data"), gpu.fence());
    let first = gpu.commands();
    let second = match sound {
        true => gpu.commands(),
        false => gpu.other.commandBuffer().unwrap(),
    };
    gpu.pass(&first, "A", |encoder| {
        gpu.fill(encoder, &data);
        encoder.updateFence(&fence);
    });
    first.commit();
    gpu.pass(&second, "B", |encoder| {
        encoder.waitForFence(&fence);
        gpu.twice(encoder, &data);
    });
    finish(&second);
    first.waitUntilCompleted();
}

fn event_between_buffers(gpu: &Gpu, sound: bool) {
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
    two(gpu, &data, first, second);
}

fn event_between_queues(gpu: &Gpu, sound: bool) {
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

fn event_in_another_buffer(gpu: &Gpu, sound: bool) {
    let (data, event) = (gpu.untracked("data"), gpu.event());
    let buffers = [gpu.commands(), gpu.commands(), gpu.commands()];
    gpu.pass(&buffers[0], "A", |encoder| gpu.fill(encoder, &data));
    buffers[0].encodeSignalEvent_value(&event, 1);
    buffers[if sound { 2 } else { 1 }].encodeWaitForEvent_value(&event, 1);
    gpu.pass(&buffers[2], "B", |encoder| gpu.twice(encoder, &data));
    buffers.iter().for_each(|buffer| buffer.commit());
    buffers[2].waitUntilCompleted();
}

fn event_too_early(gpu: &Gpu, sound: bool) {
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
    two(gpu, &data, first, second);
}

fn event_pair(gpu: &Gpu, sound: bool) {
    let (data, event, commands) = (gpu.untracked("data"), gpu.event(), gpu.commands());
    gpu.pass(&commands, "A", |encoder| gpu.fill(encoder, &data));
    commands.encodeSignalEvent_value(&event, 1);
    if sound {
        commands.encodeWaitForEvent_value(&event, 1);
    }
    gpu.pass(&commands, "B", |encoder| gpu.twice(encoder, &data));
    finish(&commands);
}

fn tracked(gpu: &Gpu, sound: bool) {
    let data = gpu.buffer("data", if sound { TRACKED } else { UNTRACKED });
    let write = |commands: &Commands| gpu.pass(commands, "A", |it| gpu.fill(it, &data));
    let read = |commands: &Commands| gpu.pass(commands, "B", |it| gpu.twice(it, &data));
    two(gpu, &data, write, read);
    assert!(!sound || floats(&data)[3] == 8.0);
}

fn tracked_across_queues(gpu: &Gpu, sound: bool) {
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

fn queue_barrier(gpu: &Gpu, sound: bool) {
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
    two(gpu, &data, write, read);
}

fn queue_barrier_elsewhere(gpu: &Gpu, sound: bool) {
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

fn blit_after_compute(gpu: &Gpu, sound: bool) {
    let (data, commands, fence) = (gpu.untracked("data"), gpu.commands(), gpu.fence());
    gpu.pass(&commands, "A", |encoder| {
        gpu.fill(encoder, &data);
        encoder.updateFence(&fence);
    });
    blit_fill(&commands, &data, sound.then_some(&fence));
    finish(&commands);
}

/// A product of matrices that an encoder before has written.
fn product(gpu: &Gpu, commands: &Commands, left: &Buffer, result: &Buffer) {
    // SAFETY: 8 rows of 8 floats, as long as the buffers.
    unsafe {
        let shape = MPSMatrixDescriptor::matrixDescriptorWithRows_columns_rowBytes_dataType(
            8,
            8,
            32,
            MPSDataType::Float32,
        );
        let matrix = |buffer: &Buffer| {
            MPSMatrix::initWithBuffer_descriptor(MPSMatrix::alloc(), buffer, &shape)
        };
        let kernel =
            MPSMatrixMultiplication::initWithDevice_resultRows_resultColumns_interiorColumns(
                MPSMatrixMultiplication::alloc(),
                &gpu.device,
                8,
                8,
                8,
            );
        kernel.encodeToCommandBuffer_leftMatrix_rightMatrix_resultMatrix(
            commands,
            &matrix(left),
            &matrix(left),
            &matrix(result),
        );
    }
}

fn mps_after_compute(gpu: &Gpu, sound: bool) {
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
fn mps_behind_fence(gpu: &Gpu, sound: bool) {
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

fn contents(gpu: &Gpu, sound: bool) {
    let (data, commands) = (gpu.untracked("data"), gpu.commands());
    gpu.pass(&commands, "A", |encoder| gpu.fill(encoder, &data));
    commands.commit();
    if sound {
        commands.waitUntilCompleted();
    }
    let _ = data.contents();
    commands.waitUntilCompleted();
}

/// Buffers of a queue complete in order, those of two do not.
fn contents_after_queue(gpu: &Gpu, sound: bool) {
    let data = gpu.untracked("data");
    let queue = if sound { &gpu.queue } else { &gpu.other };
    let (first, second) = (gpu.commands(), queue.commandBuffer().unwrap());
    gpu.pass(&first, "A", |encoder| gpu.fill(encoder, &data));
    first.commit();
    finish(&second);
    let _ = data.contents();
    first.waitUntilCompleted();
}

fn contents_after_status(gpu: &Gpu, sound: bool) {
    let (data, commands) = (gpu.untracked("data"), gpu.commands());
    gpu.pass(&commands, "A", |encoder| gpu.fill(encoder, &data));
    commands.commit();
    while sound && commands.status() != MTLCommandBufferStatus::Completed {
        std::thread::yield_now();
    }
    let _ = data.contents();
    commands.waitUntilCompleted();
}

fn contents_after_event(gpu: &Gpu, sound: bool) {
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

fn wait_between(gpu: &Gpu, sound: bool) {
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
fn aliased(gpu: &Gpu, sound: bool) {
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

/// In order a missing fence does not show; as on Apple's GPUs it does.
fn values(gpu: &Gpu) {
    let mut results = Vec::new();
    let orders = [Order::InOrder, Order::Apple];
    let check = metal_sim::Check::new().orders(orders);
    check.expect_in_each("no fence, event or barrier").run(|| {
        let (data, result) = (gpu.untracked("data"), gpu.untracked("result"));
        let write = |commands: &Commands| gpu.pass(commands, "A", |it| gpu.fill(it, &data));
        let read = |commands: &Commands| gpu.pass(commands, "B", |it| gpu.copy(it, &result, &data));
        two(gpu, &data, write, read);
        results.push(floats(&result)[3]);
    });
    assert_eq!(results, [4.0, 0.0]);
}

/// A finding says what, who, where, what is missing, and how to see it again.
fn report(gpu: &Gpu) {
    let check = metal_sim::Check::new().orders([Order::Seed(7)]);
    let report = check.expect("hazard").run(|| fence(gpu, false));
    assert_eq!((report.runs, report.found.len()), (1, 1));
    let text = report.found[0].to_string();
    let lines: Vec<&str> = text.lines().collect();
    println!("{text}");
    assert_eq!(lines.len(), 5);
    assert!(lines[0].contains(" on buffer “data” of 256 bytes (bytes 0..256)"));
    for (line, first, kernel) in [(lines[1], "first", "`"), (lines[2], "second", "`")] {
        assert!(line.contains(first) && line.contains(kernel), "{line}");
        assert!(
            line.contains("encoded at") && line.contains("hazards/gpu.rs:"),
            "{line}"
        );
    }
    assert!(lines[3].contains("no fence, event or barrier orders encoder “"));
    assert!(lines[4].ends_with("METAL_SIM_HAZARDS=on METAL_SIM_ORDER=7"));
}
