//! Questions about order: what events and fences do for memory that nobody tracks, and how command buffers complete.

use super::{Answer, Probe, early};
use crate::machine::{Buffer, Commands, contents};
use crate::{Machine, NotHere};
use block2::RcBlock;
use objc2::rc::autoreleasepool;
use objc2::runtime::ProtocolObject;
use objc2_foundation::NSRange;
use objc2_metal::{
    MTLBlitCommandEncoder, MTLBuffer, MTLCommandBuffer, MTLCommandBufferStatus, MTLCommandEncoder,
    MTLCommandQueue, MTLDevice, MTLEvent, MTLFence, MTLResourceOptions, MTLSharedEvent,
};
use std::ptr::NonNull;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

pub(super) const PROBES: &[Probe] = &[
    Probe {
        id: "f",
        question: "do a signal and a wait order untracked memory, and what do they cost?",
        body: event_pairs,
        if_it_ends: None,
    },
    Probe {
        id: "g",
        question: "does a driver keep an encoder that holds nothing but fences?",
        body: encoder_of_fences,
        if_it_ends: None,
    },
    Probe {
        id: "h",
        question: "may a completed handler be added while an encoder is open?",
        body: handler_with_open_encoder,
        if_it_ends: Some("METAL_SIM_HANDLER_WITH_OPEN_ENCODER=fault"),
    },
    Probe {
        id: "j",
        question: "do command buffers of a queue complete in the order of their commits?",
        body: completion,
        if_it_ends: None,
    },
    Probe {
        id: "k",
        question: "is the handler of a command buffer called that is dropped uncommitted?",
        body: dropped_handler,
        if_it_ends: None,
    },
    Probe {
        id: "o",
        question: "does a fence order passes of two queues?",
        body: fence_across_queues,
        if_it_ends: None,
    },
];

/// Fills that are read back, and bytes of a fill: long enough to be overtaken.
const ROUNDS: usize = 100;
const BYTES: usize = 4 << 20;
/// In this time the GPU does what nothing holds.
const BRIEFLY: Duration = Duration::from_millis(200);

type Event = ProtocolObject<dyn MTLEvent>;
type Fence = ProtocolObject<dyn MTLFence>;
type Blit = ProtocolObject<dyn MTLBlitCommandEncoder>;

fn untracked(machine: &Machine, bytes: usize, storage: MTLResourceOptions) -> Buffer {
    machine.buffer(
        bytes,
        storage | MTLResourceOptions::HazardTrackingModeUntracked,
    )
}

fn blit(commands: &Commands, encode: impl FnOnce(&Blit)) {
    let encoder = commands.blitCommandEncoder().expect("an encoder");
    encode(&encoder);
    encoder.endEncoding();
}

fn fill(encoder: &Blit, buffer: &Buffer, value: u8) {
    let range = NSRange {
        location: 0,
        length: buffer.length(),
    };
    encoder.fillBuffer_range_value(buffer, range, value);
}

/// Takes the last bytes of a buffer, which a fill writes last.
fn take(encoder: &Blit, from: &Buffer, into: &Buffer, round: usize) {
    // SAFETY: inside both buffers.
    unsafe {
        encoder.copyFromBuffer_sourceOffset_toBuffer_destinationOffset_size(
            from,
            BYTES - 4,
            into,
            round * 4,
            4,
        );
    }
}

/// In rounds, a fill in one encoder and a copy in another, with `order` between them, each in its own command buffer.
/// How many copies came before their fill.
fn too_early(
    machine: &Machine,
    order: impl Fn(&Commands, u64, &mut dyn FnMut(Option<&Fence>), &mut dyn FnMut(Option<&Fence>)),
) -> usize {
    let data = untracked(machine, BYTES, MTLResourceOptions::StorageModePrivate);
    let seen = untracked(machine, ROUNDS * 4, MTLResourceOptions::StorageModeShared);
    let value = |round: usize| (round % 250 + 1) as u8;
    for round in 0..ROUNDS {
        autoreleasepool(|_| {
            let commands = machine.commands();
            let write = &mut |fence: Option<&Fence>| {
                blit(&commands, |encoder| {
                    fill(encoder, &data, value(round));
                    if let Some(fence) = fence {
                        encoder.updateFence(fence);
                    }
                });
            };
            let read = &mut |fence: Option<&Fence>| {
                blit(&commands, |encoder| {
                    if let Some(fence) = fence {
                        encoder.waitForFence(fence);
                    }
                    take(encoder, &data, &seen, round);
                });
            };
            order(&commands, round as u64 + 1, write, read);
            commands.commit();
            // The next fill must not overtake this copy.
            commands.waitUntilCompleted();
        });
    }
    let seen = contents::<u8>(&seen);
    (0..ROUNDS)
        .filter(|round| seen[round * 4] != value(*round))
        .count()
}

/// The same with nothing between them: whether this GPU overtakes at all.
fn control(machine: &Machine) -> String {
    let count = too_early(machine, |_, _, write, read| {
        write(None);
        read(None);
    });
    format!("with nothing between them: {}", early(count, ROUNDS))
}

fn event_pairs(machine: &Machine) -> Result<Answer, NotHere> {
    let event = machine.device().newEvent().expect("an event");
    let event: &Event = ProtocolObject::from_ref(&*event);
    let pair = |commands: &Commands, value: u64| {
        commands.encodeSignalEvent_value(event, value);
        commands.encodeWaitForEvent_value(event, value);
    };
    let count = too_early(machine, |commands, value, write, read| {
        write(None);
        pair(commands, value);
        read(None);
    });
    let small = machine.private(64);
    let timed = |first: Option<u64>| {
        let commands = machine.commands();
        for at in 0..ROUNDS as u64 {
            blit(&commands, |encoder| fill(encoder, &small, 1));
            if let Some(first) = first {
                pair(&commands, first + at);
            }
        }
        let start = Instant::now();
        commands.commit();
        commands.waitUntilCompleted();
        start.elapsed()
    };
    let plain = timed(None);
    let pairs = timed(Some(ROUNDS as u64 + 1));
    let each = pairs.saturating_sub(plain) / ROUNDS as u32;
    let detail = format!("{each:?} a pair; {}", control(machine));
    Ok(Answer::new(early(count, ROUNDS)).detail(detail))
}

fn encoder_of_fences(machine: &Machine) -> Result<Answer, NotHere> {
    let fences = || machine.device().newFence().expect("a fence");
    let (first, second) = (fences(), fences());
    let count = too_early(machine, |commands, _, write, read| {
        write(Some(&first));
        blit(commands, |encoder| {
            encoder.waitForFence(&first);
            encoder.updateFence(&second);
        });
        read(Some(&second));
    });
    Ok(Answer::new(early(count, ROUNDS)).detail(control(machine)))
}

type Handler = RcBlock<dyn Fn(NonNull<ProtocolObject<dyn MTLCommandBuffer>>)>;

fn handler_with_open_encoder(machine: &Machine) -> Result<Answer, NotHere> {
    let commands = machine.commands();
    let encoder = commands.blitCommandEncoder().expect("an encoder");
    let handler: Handler = RcBlock::new(|_| ());
    // SAFETY: the block is valid.
    unsafe { commands.addCompletedHandler(RcBlock::as_ptr(&handler)) };
    encoder.endEncoding();
    commands.commit();
    commands.waitUntilCompleted();
    Ok(Answer::new("it may").switch("METAL_SIM_HANDLER_WITH_OPEN_ENCODER=accept"))
}

fn completion(machine: &Machine) -> Result<Answer, NotHere> {
    let event = machine.device().newSharedEvent().expect("an event");
    let data = machine.shared(64);
    let (first, second) = (machine.commands(), machine.commands());
    first.encodeWaitForEvent_value(ProtocolObject::from_ref(&*event), 1);
    first.commit();
    blit(&second, |encoder| fill(encoder, &data, 1));
    second.commit();
    std::thread::sleep(BRIEFLY);
    let overtaken = second.status() == MTLCommandBufferStatus::Completed;
    let ran = contents::<u8>(&data)[0] == 1;
    event.setSignaledValue(1);
    first.waitUntilCompleted();
    second.waitUntilCompleted();
    let text = match overtaken {
        true => "they do not",
        false => "they do",
    };
    let work = if ran { "had" } else { "had not" };
    Ok(Answer::new(text).detail(format!(
        "the work of the second {work} run while the first waited"
    )))
}

fn dropped_handler(machine: &Machine) -> Result<Answer, NotHere> {
    let (sender, receiver) = channel();
    autoreleasepool(|_| {
        let commands = machine.commands();
        let handler: Handler = RcBlock::new(move |_| {
            let _ = sender.send(());
        });
        // SAFETY: the block is valid.
        unsafe { commands.addCompletedHandler(RcBlock::as_ptr(&handler)) };
    });
    let called = receiver.recv_timeout(BRIEFLY).is_ok();
    Ok(Answer::new(match called {
        true => "it is called",
        false => "it is not called",
    }))
}

/// The pass that updates the fence is submitted first, and cannot run yet. Whether the one that waits does so meanwhile.
fn fence_across_queues(machine: &Machine) -> Result<Answer, NotHere> {
    let event = machine.device().newSharedEvent().expect("an event");
    let fence = machine.device().newFence().expect("a fence");
    let shared = MTLResourceOptions::StorageModeShared;
    let [data, other] = [(); 2].map(|()| untracked(machine, 64, shared));
    let [first, second] = [(); 2].map(|()| {
        let queue = machine.new_queue();
        queue.commandBuffer().expect("a command buffer")
    });
    first.encodeWaitForEvent_value(ProtocolObject::from_ref(&*event), 1);
    blit(&first, |encoder| {
        fill(encoder, &data, 1);
        encoder.updateFence(&fence);
    });
    blit(&second, |encoder| {
        encoder.waitForFence(&fence);
        fill(encoder, &other, 1);
    });
    first.commit();
    second.commit();
    std::thread::sleep(BRIEFLY);
    let ran = second.status() == MTLCommandBufferStatus::Completed;
    event.setSignaledValue(1);
    first.waitUntilCompleted();
    second.waitUntilCompleted();
    let text = match ran {
        true => "it does not",
        false => "it does",
    };
    let value = if ran { "off" } else { "on" };
    Ok(Answer::new(text).switch(format!("METAL_SIM_FENCES_ACROSS_QUEUES={value}")))
}
