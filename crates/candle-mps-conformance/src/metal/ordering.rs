//! What orders work on memory that nobody tracks, and tracked memory by itself: the sound programs. Each is a chain of
//! steps of which every one reads what the step before has written, and overwrites what that one has read, so that a
//! step too early or too late shows in the result. What the simulator finds in the same programs without their ordering
//! is for its own tests.

use super::cases;
use super::kernels::{Encoder, Pipeline, pipeline, size};
use crate::Expect::Holds;
use crate::machine::{Buffer, Commands, Queue, contents};
use crate::{Machine, NotHere};
use objc2::rc::Retained;
use objc2::runtime::{NSObjectProtocol, ProtocolObject};
use objc2::sel;
use objc2_foundation::{NSRange, NSString};
use objc2_metal::{
    MTLBarrierScope, MTLBlitCommandEncoder, MTLBuffer, MTLCommandBuffer, MTLCommandBufferStatus,
    MTLCommandEncoder, MTLCommandQueue, MTLComputeCommandEncoder, MTLDevice, MTLDispatchType,
    MTLEvent, MTLFence, MTLHazardTrackingMode, MTLHeap, MTLHeapDescriptor, MTLLibrary, MTLResource,
    MTLResourceOptions, MTLSharedEvent, MTLStages, MTLStorageMode,
};
use std::ptr::NonNull;
use std::time::{Duration, Instant};

cases! {
    "ordering: a serial encoder, on untracked memory": Holds => serial_encoder,
    "ordering: a blit encoder, on untracked memory": Holds => blit_encoder,
    "ordering: a barrier by scope": Holds => barrier_by_scope,
    "ordering: a barrier by resource": Holds => barrier_by_resource,
    "ordering: a fence across encoders": Holds => fence_across_encoders,
    "ordering: a fence across command buffers": Holds => fence_across_buffers,
    "ordering: a chain of fences": Holds => chain_of_fences,
    "ordering: an event in one command buffer": Holds => event_in_one_buffer,
    "ordering: an event across command buffers": Holds => event_across_buffers,
    "ordering: an event across queues": Holds => event_across_queues,
    "ordering: an event of several signals": Holds => event_of_several_signals,
    "ordering: an event that counts command buffers": Holds => event_that_counts,
    "ordering: a wait in the reader's own command buffer": Holds => wait_of_its_own,
    "ordering: a wait holds the work of no other queue": Holds => wait_elsewhere,
    "ordering: tracked memory across encoders": Holds => tracked_across_encoders,
    "ordering: tracked memory across command buffers": Holds => tracked_across_buffers,
    "ordering: tracked memory across queues": Holds => tracked_across_queues,
    "ordering: a tracked heap is one resource": Holds => tracked_heap,
    "ordering: a queue barrier": Holds => queue_barrier,
    "ordering: a wait of the CPU between two queues": Holds => cpu_between,
    "ordering: the CPU sees what it has waited for": Holds => cpu_sees,
    "ordering: the CPU sees what is before what it has waited for": Holds => cpu_sees_earlier,
    "ordering: the GPU sees what the CPU wrote before the commit": Holds => gpu_sees,
}

const SOURCE: &str = "
#include <metal_stdlib>
using namespace metal;

// Reads from the other end, so that no threadgroup has what it needs from itself.
kernel void next(device uint* to [[buffer(0)]], device const uint* from [[buffer(1)]],
                 uint i [[thread_position_in_grid]], uint all [[threads_per_grid]]) {
    to[i] = 3 * from[all - 1 - i] + i;
}
";

/// Numbers in a buffer, and steps of a chain.
const COUNT: usize = 2048;
const STEPS: usize = 12;
const BRIEFLY: Duration = Duration::from_millis(1);
const SOON: Duration = Duration::from_secs(10);

/// A step, on the GPU and on the CPU.
fn next(from: &[u32]) -> Vec<u32> {
    let other = |i: usize| 3u32.wrapping_mul(from[from.len() - 1 - i]);
    let step = |i: usize| other(i).wrapping_add(i as u32);
    (0..from.len()).map(step).collect()
}

/// Two buffers, of which each step reads one and writes the other.
struct Chain {
    kernel: Pipeline,
    buffers: [Buffer; 2],
}

impl Chain {
    fn untracked(machine: &Machine) -> Self {
        Self::new(machine, MTLResourceOptions::HazardTrackingModeUntracked)
    }

    fn tracked(machine: &Machine) -> Self {
        Self::new(machine, MTLResourceOptions::HazardTrackingModeTracked)
    }

    fn new(machine: &Machine, tracking: MTLResourceOptions) -> Self {
        let source = NSString::from_str(SOURCE);
        let library = machine
            .device()
            .newLibraryWithSource_options_error(&source, None)
            .unwrap_or_else(|error| panic!("{error}"));
        let function = library.newFunctionWithName(&NSString::from_str("next"));
        let kernel = machine
            .device()
            .newComputePipelineStateWithFunction_error(&function.expect("the function is there"))
            .unwrap_or_else(|error| panic!("{error}"));
        let options = MTLResourceOptions::StorageModeShared | tracking;
        let buffers = [(); 2].map(|()| machine.buffer(COUNT * 4, options));
        write(&buffers[0], &Self::first());
        Self { kernel, buffers }
    }

    /// What the first step reads.
    fn first() -> Vec<u32> {
        (0..COUNT as u32).collect()
    }

    /// The step of this number, from 0.
    fn step(&self, encoder: &Encoder, number: usize) {
        encoder.setComputePipelineState(&self.kernel);
        let (from, to) = (&self.buffers[number % 2], &self.buffers[(number + 1) % 2]);
        // SAFETY: both buffers hold as many numbers as there are threads.
        unsafe {
            encoder.setBuffer_offset_atIndex(Some(to), 0, 0);
            encoder.setBuffer_offset_atIndex(Some(from), 0, 1);
        }
        encoder.dispatchThreads_threadsPerThreadgroup(size(COUNT), size(64));
    }

    /// The step in an encoder of its own.
    fn pass(&self, commands: &Commands, number: usize) {
        pass(commands, |encoder| self.step(encoder, number));
    }

    /// The step in an encoder of its own that waits for a fence and updates it.
    fn fenced(&self, commands: &Commands, number: usize, fence: &Fence) {
        pass(commands, |encoder| {
            encoder.waitForFence(fence);
            self.step(encoder, number);
            encoder.updateFence(fence);
        });
    }

    /// Looks at what so many steps have made.
    fn assert(&self, steps: usize) {
        let expected = (0..steps).fold(Self::first(), |from, _| next(&from));
        assert_eq!(contents::<u32>(&self.buffers[steps % 2]), expected);
    }
}

type Fence = ProtocolObject<dyn MTLFence>;

fn pass(commands: &Commands, encode: impl FnOnce(&Encoder)) {
    let encoder = commands.computeCommandEncoder().expect("an encoder");
    encode(&encoder);
    encoder.endEncoding();
}

fn fence(machine: &Machine) -> Retained<Fence> {
    machine.device().newFence().expect("a fence")
}

fn event(machine: &Machine) -> Retained<ProtocolObject<dyn MTLEvent>> {
    machine.device().newEvent().expect("an event")
}

fn on(queue: &Queue) -> Commands {
    queue.commandBuffer().expect("a command buffer")
}

/// Writes to a shared buffer that no GPU uses.
fn write(buffer: &Buffer, values: &[u32]) {
    assert_eq!(buffer.length(), size_of_val(values));
    // SAFETY: shared, at rest, as long as the values.
    unsafe {
        let contents = buffer.contents().as_ptr().cast::<u32>();
        std::ptr::copy_nonoverlapping(values.as_ptr(), contents, values.len());
    }
}

/// Commits and waits.
fn finish(commands: &Commands) {
    commands.commit();
    commands.waitUntilCompleted();
    assert_eq!(commands.status(), MTLCommandBufferStatus::Completed);
}

/// Commits all of them, then waits for all.
fn finish_all(all: &[Commands]) {
    all.iter().for_each(|commands| commands.commit());
    all.iter()
        .for_each(|commands| commands.waitUntilCompleted());
}

fn serial_encoder(machine: &Machine) -> Result<(), NotHere> {
    let (chain, commands) = (Chain::untracked(machine), machine.commands());
    pass(&commands, |encoder| {
        (0..STEPS).for_each(|number| chain.step(encoder, number));
    });
    finish(&commands);
    chain.assert(STEPS);
    Ok(())
}

fn blit_encoder(machine: &Machine) -> Result<(), NotHere> {
    let untracked =
        MTLResourceOptions::StorageModeShared | MTLResourceOptions::HazardTrackingModeUntracked;
    let buffers = [(); 2].map(|()| machine.buffer(COUNT * 4, untracked));
    let commands = machine.commands();
    let blit = commands.blitCommandEncoder().expect("an encoder");
    for value in 1..=STEPS as u8 {
        let whole = NSRange {
            location: 0,
            length: COUNT * 4,
        };
        blit.fillBuffer_range_value(&buffers[0], whole, value);
        // SAFETY: inside both buffers, a part that no other step copies to.
        unsafe {
            blit.copyFromBuffer_sourceOffset_toBuffer_destinationOffset_size(
                &buffers[0],
                COUNT * 4 - 16,
                &buffers[1],
                usize::from(value) * 16,
                16,
            );
        }
    }
    blit.endEncoding();
    finish(&commands);
    let copied = contents::<u8>(&buffers[1]);
    for value in 1..=STEPS {
        let part = &copied[value * 16..][..16];
        assert!(part.iter().all(|byte| usize::from(*byte) == value));
    }
    Ok(())
}

/// A chain in a concurrent encoder, with something between its steps.
fn concurrent(machine: &Machine, between: impl Fn(&Encoder, &Chain)) -> Result<(), NotHere> {
    let (chain, commands) = (Chain::untracked(machine), machine.commands());
    let encoder = commands.computeCommandEncoderWithDispatchType(MTLDispatchType::Concurrent);
    let encoder = encoder.expect("an encoder");
    for number in 0..STEPS {
        chain.step(&encoder, number);
        between(&encoder, &chain);
    }
    encoder.endEncoding();
    finish(&commands);
    chain.assert(STEPS);
    Ok(())
}

fn barrier_by_scope(machine: &Machine) -> Result<(), NotHere> {
    concurrent(machine, |encoder, _| {
        encoder.memoryBarrierWithScope(MTLBarrierScope::Buffers);
    })
}

fn barrier_by_resource(machine: &Machine) -> Result<(), NotHere> {
    concurrent(machine, |encoder, chain| {
        let resource = |buffer: &Buffer| {
            let buffer: &ProtocolObject<dyn MTLBuffer> = buffer;
            NonNull::from(buffer).cast()
        };
        let mut both = [resource(&chain.buffers[0]), resource(&chain.buffers[1])];
        // SAFETY: two resources.
        unsafe { encoder.memoryBarrierWithResources_count(NonNull::from(&mut both[0]), 2) };
    })
}

fn fence_across_encoders(machine: &Machine) -> Result<(), NotHere> {
    let (chain, fence) = (Chain::untracked(machine), fence(machine));
    let commands = machine.commands();
    (0..STEPS).for_each(|number| chain.fenced(&commands, number, &fence));
    finish(&commands);
    chain.assert(STEPS);
    Ok(())
}

fn fence_across_buffers(machine: &Machine) -> Result<(), NotHere> {
    let (chain, fence) = (Chain::untracked(machine), fence(machine));
    let step = |number| {
        let commands = machine.commands();
        chain.fenced(&commands, number, &fence);
        commands
    };
    finish_all(&(0..STEPS).map(step).collect::<Vec<_>>());
    chain.assert(STEPS);
    Ok(())
}

/// What is before a pass is before whoever waits for that pass, which uses other memory.
fn chain_of_fences(machine: &Machine) -> Result<(), NotHere> {
    let (chain, other) = (Chain::untracked(machine), Chain::untracked(machine));
    let commands = machine.commands();
    let mut last: Option<Retained<Fence>> = None;
    for number in 0..STEPS {
        let (here, between) = (fence(machine), fence(machine));
        pass(&commands, |encoder| {
            if let Some(last) = &last {
                encoder.waitForFence(last);
            }
            chain.step(encoder, number);
            encoder.updateFence(&here);
        });
        pass(&commands, |encoder| {
            encoder.waitForFence(&here);
            other.step(encoder, number);
            encoder.updateFence(&between);
        });
        last = Some(between);
    }
    finish(&commands);
    chain.assert(STEPS);
    other.assert(STEPS);
    Ok(())
}

fn event_in_one_buffer(machine: &Machine) -> Result<(), NotHere> {
    let (chain, event) = (Chain::untracked(machine), event(machine));
    let commands = machine.commands();
    for number in 0..STEPS {
        chain.pass(&commands, number);
        commands.encodeSignalEvent_value(&event, number as u64 + 1);
        commands.encodeWaitForEvent_value(&event, number as u64 + 1);
    }
    finish(&commands);
    chain.assert(STEPS);
    Ok(())
}

/// Each step in a command buffer of one of these queues in turn, behind a wait for the one before.
fn by_events(machine: &Machine, queues: &[Queue]) -> Result<(), NotHere> {
    let (chain, event) = (Chain::untracked(machine), event(machine));
    let step = |number: usize| {
        let commands = on(&queues[number % queues.len()]);
        if number > 0 {
            commands.encodeWaitForEvent_value(&event, number as u64);
        }
        chain.pass(&commands, number);
        commands.encodeSignalEvent_value(&event, number as u64 + 1);
        commands
    };
    finish_all(&(0..STEPS).map(step).collect::<Vec<_>>());
    chain.assert(STEPS);
    Ok(())
}

fn event_across_buffers(machine: &Machine) -> Result<(), NotHere> {
    by_events(machine, &[machine.new_queue()])
}

fn event_across_queues(machine: &Machine) -> Result<(), NotHere> {
    by_events(machine, &[machine.new_queue(), machine.new_queue()])
}

/// The later one is for all that is before it.
fn event_of_several_signals(machine: &Machine) -> Result<(), NotHere> {
    let (chain, other) = (Chain::untracked(machine), Chain::untracked(machine));
    let event = event(machine);
    let (first, second) = (machine.commands(), on(&machine.new_queue()));
    other.pass(&first, 0);
    first.encodeSignalEvent_value(&event, 1);
    chain.pass(&first, 0);
    first.encodeSignalEvent_value(&event, 2);
    second.encodeWaitForEvent_value(&event, 2);
    chain.pass(&second, 1);
    other.pass(&second, 1);
    finish_all(&[first, second]);
    chain.assert(2);
    other.assert(2);
    Ok(())
}

/// Each command buffer of a queue signals its number, so that who waits for one has what that one did.
fn event_that_counts(machine: &Machine) -> Result<(), NotHere> {
    let chains = [(); 4].map(|()| Chain::untracked(machine));
    let event = event(machine);
    let mut all = Vec::new();
    for (chain, value) in chains.iter().zip(1..) {
        let commands = machine.commands();
        chain.pass(&commands, 0);
        commands.encodeSignalEvent_value(&event, value);
        all.push(commands);
    }
    let queue = machine.new_queue();
    for (chain, value) in chains.iter().zip(1..) {
        let commands = on(&queue);
        commands.encodeWaitForEvent_value(&event, value);
        chain.pass(&commands, 1);
        all.push(commands);
    }
    finish_all(&all);
    chains.iter().for_each(|chain| chain.assert(2));
    Ok(())
}

/// A command buffer that uses neither lies between the signal and the wait.
fn wait_of_its_own(machine: &Machine) -> Result<(), NotHere> {
    let (chain, other) = (Chain::untracked(machine), Chain::untracked(machine));
    let event = event(machine);
    let buffers = [(); 3].map(|()| machine.commands());
    chain.pass(&buffers[0], 0);
    buffers[0].encodeSignalEvent_value(&event, 1);
    other.pass(&buffers[1], 0);
    buffers[2].encodeWaitForEvent_value(&event, 1);
    chain.pass(&buffers[2], 1);
    finish_all(&buffers);
    chain.assert(2);
    other.assert(1);
    Ok(())
}

/// While a command buffer waits, those of another queue complete.
fn wait_elsewhere(machine: &Machine) -> Result<(), NotHere> {
    let (held, free) = (Chain::untracked(machine), Chain::untracked(machine));
    let (waits, goes_on) = (machine.commands(), on(&machine.new_queue()));
    let event = machine.device().newSharedEvent().expect("an event");
    waits.encodeWaitForEvent_value(ProtocolObject::from_ref(&*event), 1);
    held.pass(&waits, 0);
    waits.commit();
    free.pass(&goes_on, 0);
    finish(&goes_on);
    free.assert(1);
    assert!(waits.status() < MTLCommandBufferStatus::Completed);
    event.setSignaledValue(1);
    waits.waitUntilCompleted();
    held.assert(1);
    Ok(())
}

fn tracked_across_encoders(machine: &Machine) -> Result<(), NotHere> {
    let (chain, commands) = (Chain::tracked(machine), machine.commands());
    (0..STEPS).for_each(|number| chain.pass(&commands, number));
    finish(&commands);
    chain.assert(STEPS);
    Ok(())
}

fn tracked_across_buffers(machine: &Machine) -> Result<(), NotHere> {
    let chain = Chain::tracked(machine);
    let step = |number| {
        let commands = machine.commands();
        chain.pass(&commands, number);
        commands
    };
    finish_all(&(0..STEPS).map(step).collect::<Vec<_>>());
    chain.assert(STEPS);
    Ok(())
}

/// Which queue is first is open, but not half of it: every addition is there in the end.
fn tracked_across_queues(machine: &Machine) -> Result<(), NotHere> {
    let kernel = pipeline(machine, "small");
    let tracked =
        MTLResourceOptions::StorageModeShared | MTLResourceOptions::HazardTrackingModeTracked;
    let sums = machine.buffer(COUNT * 4, tracked);
    write(&sums, &[0; COUNT]);
    let queues = [machine.new_queue(), machine.new_queue()];
    let add = |number: usize| {
        let commands = on(&queues[number % 2]);
        pass(&commands, |encoder| {
            encoder.setComputePipelineState(&kernel);
            // SAFETY: as many numbers as there are threads.
            unsafe { encoder.setBuffer_offset_atIndex(Some(&sums), 0, 0) };
            encoder.dispatchThreads_threadsPerThreadgroup(size(COUNT), size(64));
        });
        commands
    };
    finish_all(&(0..STEPS).map(add).collect::<Vec<_>>());
    assert_eq!(contents::<u32>(&sums), [STEPS as u32; COUNT]);
    Ok(())
}

/// Two buffers of it that may lie at the same place are used one after the other.
fn tracked_heap(machine: &Machine) -> Result<(), NotHere> {
    let tracked =
        MTLResourceOptions::StorageModePrivate | MTLResourceOptions::HazardTrackingModeTracked;
    let room = machine
        .device()
        .heapBufferSizeAndAlignWithLength_options(COUNT * 4, tracked);
    let descriptor = MTLHeapDescriptor::new();
    descriptor.setSize(room.size);
    descriptor.setStorageMode(MTLStorageMode::Private);
    descriptor.setHazardTrackingMode(MTLHazardTrackingMode::Tracked);
    let heap = machine.device().newHeapWithDescriptor(&descriptor);
    let heap = heap.expect("a heap");
    let cut = || {
        let part = heap.newBufferWithLength_options(COUNT * 4, tracked);
        part.expect("a part")
    };
    let one = cut();
    // SAFETY: who uses it afterwards is the GPU alone, which is what this is about.
    unsafe { one.makeAliasable() };
    let parts = [one, cut()];
    let kept = [(); 2].map(|()| machine.shared(COUNT * 4));
    let commands = machine.commands();
    for (at, (part, kept)) in parts.iter().zip(&kept).enumerate() {
        let blit = commands.blitCommandEncoder().expect("an encoder");
        let whole = NSRange {
            location: 0,
            length: COUNT * 4,
        };
        blit.fillBuffer_range_value(part, whole, at as u8 + 1);
        // SAFETY: both are as long as this.
        unsafe {
            blit.copyFromBuffer_sourceOffset_toBuffer_destinationOffset_size(
                part,
                0,
                kept,
                0,
                COUNT * 4,
            );
        }
        blit.endEncoding();
    }
    finish(&commands);
    for (kept, value) in kept.iter().zip(1..) {
        assert!(contents::<u8>(kept).iter().all(|byte| *byte == value));
    }
    Ok(())
}

fn queue_barrier(machine: &Machine) -> Result<(), NotHere> {
    let chain = Chain::untracked(machine);
    let queue = machine.new_queue();
    let mut buffers = Vec::new();
    for number in 0..STEPS {
        let commands = on(&queue);
        let encoder = commands.computeCommandEncoder().expect("an encoder");
        let is_here = encoder.respondsToSelector(sel!(barrierAfterQueueStages:beforeStages:));
        if is_here {
            let stages = MTLStages::Dispatch;
            encoder.barrierAfterQueueStages_beforeStages(stages, stages);
            chain.step(&encoder, number);
        }
        encoder.endEncoding();
        if !is_here {
            return Err(NotHere("this system has no queue barriers"));
        }
        buffers.push(commands);
    }
    finish_all(&buffers);
    chain.assert(STEPS);
    Ok(())
}

fn cpu_between(machine: &Machine) -> Result<(), NotHere> {
    let chain = Chain::untracked(machine);
    let queues = [machine.new_queue(), machine.new_queue()];
    for number in 0..STEPS {
        let commands = on(&queues[number % 2]);
        chain.pass(&commands, number);
        finish(&commands);
    }
    chain.assert(STEPS);
    Ok(())
}

/// By a wait, by the status, and by a shared event.
fn cpu_sees(machine: &Machine) -> Result<(), NotHere> {
    let event = machine.device().newSharedEvent().expect("an event");
    let by_wait = |commands: &Commands| commands.waitUntilCompleted();
    let by_status = |commands: &Commands| {
        let start = Instant::now();
        while commands.status() != MTLCommandBufferStatus::Completed {
            assert!(start.elapsed() < SOON, "it does not complete");
            std::thread::sleep(BRIEFLY);
        }
    };
    let by_event = |_: &Commands| {
        let milliseconds = SOON.as_millis() as u64;
        assert!(event.waitUntilSignaledValue_timeoutMS(1, milliseconds));
    };
    let ways: [&dyn Fn(&Commands); 3] = [&by_wait, &by_status, &by_event];
    for (at, see) in ways.into_iter().enumerate() {
        let (chain, commands) = (Chain::untracked(machine), machine.commands());
        chain.pass(&commands, 0);
        // The last way alone, so that its value is new there.
        if at == 2 {
            commands.encodeSignalEvent_value(ProtocolObject::from_ref(&*event), 1);
        }
        commands.commit();
        see(&commands);
        chain.assert(1);
        commands.waitUntilCompleted();
    }
    Ok(())
}

/// Command buffers of a queue complete in order.
fn cpu_sees_earlier(machine: &Machine) -> Result<(), NotHere> {
    let (chain, other) = (Chain::untracked(machine), Chain::untracked(machine));
    let (first, second) = (machine.commands(), machine.commands());
    chain.pass(&first, 0);
    other.pass(&second, 0);
    first.commit();
    finish(&second);
    chain.assert(1);
    other.assert(1);
    Ok(())
}

fn gpu_sees(machine: &Machine) -> Result<(), NotHere> {
    let (chain, commands) = (Chain::untracked(machine), machine.commands());
    // Encoded before, committed after.
    chain.pass(&commands, 0);
    let given: Vec<u32> = (0..COUNT as u32).map(|at| at * 7).collect();
    write(&chain.buffers[0], &given);
    finish(&commands);
    assert_eq!(contents::<u32>(&chain.buffers[1]), next(&given));
    Ok(())
}
