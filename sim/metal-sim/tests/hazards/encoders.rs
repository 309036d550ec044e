//! Litmus tests within an encoder, and of fences between encoders.

use crate::gpu::{COUNT, Commands, Gpu, TRACKED, blit_fill, concurrent, finish, floats, two};
use crate::support::size;
use objc2::runtime::ProtocolObject;
use objc2_metal::{
    MTLBarrierScope, MTLBuffer, MTLCommandBuffer, MTLCommandEncoder, MTLCommandQueue,
    MTLComputeCommandEncoder,
};
use std::ptr::NonNull;

pub fn barrier_by_scope(gpu: &Gpu, sound: bool) {
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

pub fn barrier_by_resource(gpu: &Gpu, sound: bool) {
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

/// A step that reads is not held by a barrier before the one that writes, which reads as well.
pub fn barrier_before_a_reader(gpu: &Gpu, sound: bool) {
    let (data, result) = (gpu.untracked("data"), gpu.untracked("result"));
    let commands = gpu.commands();
    let encoder = concurrent(&commands);
    gpu.fill(&encoder, &data);
    encoder.memoryBarrierWithScope(MTLBarrierScope::Buffers);
    gpu.twice(&encoder, &data);
    if sound {
        encoder.memoryBarrierWithScope(MTLBarrierScope::Buffers);
    }
    gpu.copy(&encoder, &result, &data);
    encoder.endEncoding();
    finish(&commands);
    assert!(!sound || floats(&result)[3] == 8.0);
}

pub fn barrier_for_textures(gpu: &Gpu, sound: bool) {
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

pub fn barrier_too_early(gpu: &Gpu, sound: bool) {
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

pub fn serial_encoder(gpu: &Gpu, sound: bool) {
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

pub fn tracked_in_one_encoder(gpu: &Gpu, sound: bool) {
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
pub fn overlap(gpu: &Gpu, sound: bool) {
    let (data, commands) = (gpu.untracked("data"), gpu.commands());
    let encoder = concurrent(&commands);
    gpu.dispatch(&encoder, &gpu.fill, &[&data], COUNT / 2);
    let first = if sound { COUNT / 2 } else { COUNT / 2 - 1 };
    encoder.setComputePipelineState(&gpu.fill);
    // SAFETY: inside the buffer.
    unsafe { encoder.setBuffer_offset_atIndex(Some(&data), first * 4, 0) };
    encoder.dispatchThreadgroups_threadsPerThreadgroup(size(1), size(COUNT / 2));
    encoder.endEncoding();
    finish(&commands);
}

/// Functions of two dispatches that meet are atomic; a plain access that meets them is not.
pub fn atomic_functions(gpu: &Gpu, sound: bool) {
    let (data, result, commands) = (gpu.untracked("data"), gpu.untracked("r"), gpu.commands());
    blit_fill(&commands, &data, None);
    commands.commit();
    commands.waitUntilCompleted();
    let commands = gpu.commands();
    let encoder = concurrent(&commands);
    gpu.count(&encoder, &data);
    gpu.count(&encoder, &data);
    if sound {
        encoder.memoryBarrierWithScope(MTLBarrierScope::Buffers);
    }
    gpu.copy(&encoder, &result, &data);
    encoder.endEncoding();
    finish(&commands);
    assert!(!sound || floats(&result)[7].to_bits() == 16);
}

pub fn fence(gpu: &Gpu, sound: bool) {
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

pub fn write_after_read(gpu: &Gpu, sound: bool) {
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

pub fn fence_in_empty_encoder(gpu: &Gpu, sound: bool) {
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
pub fn fence_updated_later(gpu: &Gpu, sound: bool) {
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

/// An update is for what was encoded before it.
pub fn fence_updated_too_early(gpu: &Gpu, sound: bool) {
    let (data, commands, fence) = (gpu.untracked("data"), gpu.commands(), gpu.fence());
    gpu.pass(&commands, "A", |encoder| {
        if !sound {
            encoder.updateFence(&fence);
        }
        gpu.fill(encoder, &data);
        if sound {
            encoder.updateFence(&fence);
        }
    });
    gpu.pass(&commands, "B", |encoder| {
        encoder.waitForFence(&fence);
        gpu.twice(encoder, &data);
    });
    finish(&commands);
}

/// A wait is for what is encoded after it.
pub fn fence_waited_too_late(gpu: &Gpu, sound: bool) {
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
        if !sound {
            encoder.waitForFence(&fence);
        }
    });
    finish(&commands);
}

pub fn fence_between_buffers(gpu: &Gpu, sound: bool) {
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
    two(gpu, first, second);
}

/// What is before a pass is before whoever waits for it.
pub fn fence_chain(gpu: &Gpu, sound: bool) {
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

pub fn fence_across_queues(gpu: &Gpu, sound: bool) {
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
