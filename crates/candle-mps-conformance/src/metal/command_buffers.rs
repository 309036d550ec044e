//! Command buffers: their stages, their order, their handlers, and what cannot be undone.

use super::cases;
use crate::Expect::{Ends, Holds, Undefined};
use crate::machine::{Commands, contents};
use crate::{Machine, NotHere};
use block2::RcBlock;
use objc2::runtime::ProtocolObject;
use objc2_foundation::{NSRange, NSString};
use objc2_metal::{
    MTLBlitCommandEncoder, MTLCommandBuffer, MTLCommandBufferStatus, MTLCommandEncoder,
    MTLCommandQueue,
};
use std::ptr::NonNull;
use std::sync::mpsc::{Sender, channel};
use std::thread::ThreadId;
use std::time::Duration;

cases! {
    "command buffer: its status only goes forward": Holds => statuses,
    "command buffer: work is visible after the wait": Holds => work_is_visible,
    "command buffer: nothing runs before the commit": Holds => nothing_before_commit,
    "command buffer: enqueue is idempotent and settles the order": Holds => enqueue_settles_order,
    "command buffer: completion is in the order of commits": Holds => completion_order,
    "command buffer: handlers run once, on another thread": Holds => handlers,
    "command buffer: GPU times are in order": Holds => gpu_times,
    "command buffer: a label is kept": Holds => label,
    "command buffer: one that is dropped without a commit never runs": Holds => dropped,
    "command buffer: the 65th uncompleted one has to wait": Holds => sixty_five,
    "command buffer: commit twice": Ends("commit twice") => commit_twice,
    "command buffer: commit with an open encoder": Ends("commit with an open encoder") => commit_open,
    "command buffer: an encoder after the commit": Ends("encode after commit") => encoder_after_commit,
    "command buffer: a completed handler after the commit": Ends("handler after commit") => handler_after_commit,
    "command buffer: a scheduled handler after the commit": Ends("handler after commit") => scheduled_handler_after_commit,
    "command buffer: a wait before the commit": Undefined("waitUntilCompleted") => wait_before_commit,
    "command buffer: a wait for its scheduling before the commit": Undefined("waitUntilScheduled") => scheduled_before_commit,
    "command buffer: a panic in a completed handler": Ends("panic in a handler") => panic_in_handler,
    "command buffer: a queue for none": Undefined("newCommandQueueWithMaxCommandBufferCount") => queue_for_none,
}

const SOON: Duration = Duration::from_secs(5);

fn finish(commands: &Commands) {
    commands.commit();
    commands.waitUntilCompleted();
}

/// Encodes a fill of the whole buffer.
fn fill(commands: &Commands, buffer: &crate::machine::Buffer, value: u8) {
    use objc2_metal::MTLBuffer;
    let blit = commands.blitCommandEncoder().expect("an encoder");
    blit.fillBuffer_range_value(
        buffer,
        NSRange {
            location: 0,
            length: buffer.length(),
        },
        value,
    );
    blit.endEncoding();
}

type Handler = RcBlock<dyn Fn(NonNull<ProtocolObject<dyn MTLCommandBuffer>>)>;

/// A handler that sends what `told` gives.
fn sending<T: Send + 'static>(
    sender: &Sender<T>,
    told: impl Fn(&ProtocolObject<dyn MTLCommandBuffer>) -> T + Send + 'static,
) -> Handler {
    let sender = sender.clone();
    RcBlock::new(
        move |commands: NonNull<ProtocolObject<dyn MTLCommandBuffer>>| {
            // SAFETY: the handler gets the command buffer, alive for the call.
            let _ = sender.send(told(unsafe { commands.as_ref() }));
        },
    )
}

fn statuses(machine: &Machine) -> Result<(), NotHere> {
    let commands = machine.commands();
    assert_eq!(commands.status(), MTLCommandBufferStatus::NotEnqueued);
    commands.enqueue();
    assert_eq!(commands.status(), MTLCommandBufferStatus::Enqueued);
    commands.commit();
    assert!(commands.status() >= MTLCommandBufferStatus::Committed);
    commands.waitUntilScheduled();
    assert!(commands.status() >= MTLCommandBufferStatus::Scheduled);
    commands.waitUntilCompleted();
    assert_eq!(commands.status(), MTLCommandBufferStatus::Completed);
    assert!(commands.error().is_none());
    // Waiting again is fine.
    commands.waitUntilCompleted();
    Ok(())
}

fn work_is_visible(machine: &Machine) -> Result<(), NotHere> {
    let (buffer, commands) = (machine.shared(1000), machine.commands());
    fill(&commands, &buffer, 0x5a);
    finish(&commands);
    assert!(contents::<u8>(&buffer).iter().all(|byte| *byte == 0x5a));
    Ok(())
}

fn nothing_before_commit(machine: &Machine) -> Result<(), NotHere> {
    let (buffer, commands) = (machine.shared(64), machine.commands());
    fill(&commands, &buffer, 1);
    commands.enqueue();
    std::thread::sleep(Duration::from_millis(20));
    assert!(contents::<u8>(&buffer).iter().all(|byte| *byte == 0));
    finish(&commands);
    assert!(contents::<u8>(&buffer).iter().all(|byte| *byte == 1));
    Ok(())
}

fn enqueue_settles_order(machine: &Machine) -> Result<(), NotHere> {
    let (sender, receiver) = channel();
    let (first, second) = (machine.commands(), machine.commands());
    for (commands, number) in [(&first, 1), (&second, 2)] {
        // SAFETY: the block is valid.
        unsafe {
            commands.addCompletedHandler(RcBlock::as_ptr(&sending(&sender, move |_| number)))
        };
    }
    first.enqueue();
    first.enqueue();
    second.enqueue();
    second.commit();
    assert!(
        receiver.recv_timeout(Duration::from_millis(50)).is_err(),
        "the first is not committed"
    );
    first.commit();
    assert_eq!(receiver.recv_timeout(SOON), Ok(1));
    assert_eq!(receiver.recv_timeout(SOON), Ok(2));
    Ok(())
}

fn completion_order(machine: &Machine) -> Result<(), NotHere> {
    let (sender, receiver) = channel();
    let buffer = machine.private(1 << 20);
    for number in 0..20 {
        let commands = machine.commands();
        // Long and short work in turn.
        for _ in 0..(number % 3) * 10 {
            fill(&commands, &buffer, 1);
        }
        // SAFETY: the block is valid.
        unsafe {
            commands.addCompletedHandler(RcBlock::as_ptr(&sending(&sender, move |_| number)))
        };
        commands.commit();
    }
    for number in 0..20 {
        assert_eq!(receiver.recv_timeout(SOON), Ok(number));
    }
    Ok(())
}

fn handlers(machine: &Machine) -> Result<(), NotHere> {
    let (sender, receiver) = channel::<(ThreadId, MTLCommandBufferStatus)>();
    let commands = machine.commands();
    let note = sending(&sender, |commands| {
        (std::thread::current().id(), commands.status())
    });
    // SAFETY: the block is valid.
    unsafe {
        commands.addScheduledHandler(RcBlock::as_ptr(&note));
        commands.addCompletedHandler(RcBlock::as_ptr(&note));
    }
    drop((note, sender));
    finish(&commands);
    let (thread, status) = receiver.recv_timeout(SOON).expect("the scheduled handler");
    assert!(thread != std::thread::current().id());
    assert!(status >= MTLCommandBufferStatus::Scheduled);
    let (thread, status) = receiver.recv_timeout(SOON).expect("the completed handler");
    assert!(thread != std::thread::current().id());
    assert_eq!(status, MTLCommandBufferStatus::Completed);
    assert!(
        receiver.recv_timeout(SOON).is_err(),
        "each handler runs once, and is let go"
    );
    Ok(())
}

fn gpu_times(machine: &Machine) -> Result<(), NotHere> {
    let (buffer, commands) = (machine.private(1 << 16), machine.commands());
    fill(&commands, &buffer, 1);
    finish(&commands);
    assert!(commands.GPUStartTime() > 0.0);
    assert!(commands.GPUEndTime() >= commands.GPUStartTime());
    Ok(())
}

fn label(machine: &Machine) -> Result<(), NotHere> {
    let commands = machine.commands();
    assert!(commands.label().is_none());
    commands.setLabel(Some(&NSString::from_str("forward pass")));
    assert_eq!(
        commands.label().map(|label| label.to_string()).as_deref(),
        Some("forward pass")
    );
    finish(&commands);
    Ok(())
}

fn dropped(machine: &Machine) -> Result<(), NotHere> {
    let buffer = machine.shared(64);
    objc2::rc::autoreleasepool(|_| fill(&machine.commands(), &buffer, 1));
    finish(&machine.commands());
    assert!(contents::<u8>(&buffer).iter().all(|byte| *byte == 0));
    Ok(())
}

fn sixty_five(machine: &Machine) -> Result<(), NotHere> {
    let queue = machine.new_queue();
    let held: Vec<Commands> = (0..64)
        .map(|_| queue.commandBuffer().expect("one of 64"))
        .collect();
    let (sender, receiver) = channel();
    std::thread::scope(|scope| {
        let queue = &queue;
        scope.spawn(move || {
            let commands = objc2::rc::autoreleasepool(|_| queue.commandBuffer().expect("the 65th"));
            finish(&commands);
            let _ = sender.send(());
        });
        assert!(
            receiver.recv_timeout(Duration::from_millis(100)).is_err(),
            "it has to wait"
        );
        for commands in &held {
            commands.commit();
        }
        assert_eq!(receiver.recv_timeout(SOON), Ok(()));
    });
    Ok(())
}

fn commit_twice(machine: &Machine) -> Result<(), NotHere> {
    let commands = machine.commands();
    commands.commit();
    commands.commit();
    Ok(())
}

fn commit_open(machine: &Machine) -> Result<(), NotHere> {
    let commands = machine.commands();
    let _encoder = commands.blitCommandEncoder();
    commands.commit();
    Ok(())
}

fn encoder_after_commit(machine: &Machine) -> Result<(), NotHere> {
    let commands = machine.commands();
    commands.commit();
    commands.blitCommandEncoder();
    Ok(())
}

fn handler_after_commit(machine: &Machine) -> Result<(), NotHere> {
    let commands = machine.commands();
    commands.commit();
    let (sender, _receiver) = channel();
    // SAFETY: the block is valid; that it comes too late is the test.
    unsafe { commands.addCompletedHandler(RcBlock::as_ptr(&sending(&sender, |_| ()))) };
    Ok(())
}

fn scheduled_handler_after_commit(machine: &Machine) -> Result<(), NotHere> {
    let commands = machine.commands();
    commands.commit();
    let (sender, _receiver) = channel();
    // SAFETY: the block is valid; that it comes too late is the test.
    unsafe { commands.addScheduledHandler(RcBlock::as_ptr(&sending(&sender, |_| ()))) };
    Ok(())
}

fn wait_before_commit(machine: &Machine) -> Result<(), NotHere> {
    machine.commands().waitUntilCompleted();
    Ok(())
}

fn scheduled_before_commit(machine: &Machine) -> Result<(), NotHere> {
    machine.commands().waitUntilScheduled();
    Ok(())
}

fn panic_in_handler(machine: &Machine) -> Result<(), NotHere> {
    let commands = machine.commands();
    let handler: Handler = RcBlock::new(|_| panic!("nobody catches this"));
    // SAFETY: the block is valid.
    unsafe { commands.addCompletedHandler(RcBlock::as_ptr(&handler)) };
    finish(&commands);
    // The handlers may run behind the wait.
    std::thread::sleep(SOON);
    Ok(())
}

fn queue_for_none(machine: &Machine) -> Result<(), NotHere> {
    use objc2_metal::MTLDevice;
    machine.device().newCommandQueueWithMaxCommandBufferCount(0);
    Ok(())
}
