//! Events: order between queues, and between the GPU and the CPU.

use super::cases;
use crate::Expect::{Ends, Holds};
use crate::machine::{Buffer, Commands, contents};
use crate::{Machine, NotHere};
use block2::RcBlock;
use objc2::AnyThread;
use objc2::runtime::ProtocolObject;
use objc2_foundation::NSRange;
use objc2_metal::{
    MTLBlitCommandEncoder, MTLBuffer, MTLCommandBuffer, MTLCommandBufferStatus, MTLCommandEncoder,
    MTLCommandQueue, MTLDevice, MTLEvent, MTLSharedEvent, MTLSharedEventListener,
};
use std::ptr::NonNull;
use std::sync::mpsc::channel;
use std::time::Duration;

cases! {
    "event: a wait holds later passes until the signal of another queue": Holds => across_queues,
    "event: signal then wait in one command buffer goes on": Holds => signal_then_wait,
    "event: a wait does not hold earlier passes": Holds => wait_holds_later_passes,
    "shared event: the CPU signals the GPU": Holds => cpu_signals,
    "shared event: the GPU signals the CPU": Holds => gpu_signals,
    "shared event: a wait of the CPU can time out": Holds => cpu_wait_times_out,
    "shared event: a listener is told once the value is reached": Holds => listener,
    "shared event: a panic in a listener": Ends("panic in a listener") => panic_in_listener,
    "event: a wait with an open encoder": Ends("encoder already open") => wait_in_encoder,
    "event: a signal with an open encoder": Ends("encoder already open") => signal_in_encoder,
    "event: a signal after the commit": Ends("encode after commit") => signal_after_commit,
    "event: of another device": Ends("another device") => other_device,
}

const SOON: Duration = Duration::from_secs(5);
const BRIEFLY: Duration = Duration::from_millis(50);

fn fill(commands: &Commands, buffer: &Buffer, value: u8) {
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

fn across_queues(machine: &Machine) -> Result<(), NotHere> {
    let (buffer, event) = (
        machine.shared(64),
        machine.device().newEvent().expect("an event"),
    );
    let event = ProtocolObject::from_ref(&*event);
    let (first, second) = (machine.new_queue(), machine.new_queue());
    let later = second.commandBuffer().expect("a command buffer");
    later.encodeWaitForEvent_value(event, 1);
    fill(&later, &buffer, 2);
    later.commit();
    std::thread::sleep(BRIEFLY);
    assert!(
        contents::<u8>(&buffer).iter().all(|byte| *byte == 0),
        "it waits for the signal"
    );
    let earlier = first.commandBuffer().expect("a command buffer");
    fill(&earlier, &buffer, 1);
    earlier.encodeSignalEvent_value(event, 1);
    earlier.commit();
    later.waitUntilCompleted();
    assert!(contents::<u8>(&buffer).iter().all(|byte| *byte == 2));
    Ok(())
}

fn signal_then_wait(machine: &Machine) -> Result<(), NotHere> {
    let (buffer, event) = (
        machine.shared(64),
        machine.device().newEvent().expect("an event"),
    );
    let event = ProtocolObject::from_ref(&*event);
    let commands = machine.commands();
    for value in 1..=5u8 {
        fill(&commands, &buffer, value);
        commands.encodeSignalEvent_value(event, value.into());
        commands.encodeWaitForEvent_value(event, value.into());
    }
    commands.commit();
    commands.waitUntilCompleted();
    assert!(contents::<u8>(&buffer).iter().all(|byte| *byte == 5));
    Ok(())
}

fn wait_holds_later_passes(machine: &Machine) -> Result<(), NotHere> {
    let (before, after) = (machine.shared(64), machine.shared(64));
    let event = machine.device().newSharedEvent().expect("an event");
    let ready = machine.device().newSharedEvent().expect("an event");
    let commands = machine.commands();
    fill(&commands, &before, 1);
    commands.encodeSignalEvent_value(ProtocolObject::from_ref(&*ready), 1);
    commands.encodeWaitForEvent_value(ProtocolObject::from_ref(&*event), 1);
    fill(&commands, &after, 1);
    commands.commit();
    assert!(ready.waitUntilSignaledValue_timeoutMS(1, 5000));
    assert!(contents::<u8>(&before).iter().all(|byte| *byte == 1));
    assert!(contents::<u8>(&after).iter().all(|byte| *byte == 0));
    event.setSignaledValue(1);
    commands.waitUntilCompleted();
    assert!(contents::<u8>(&after).iter().all(|byte| *byte == 1));
    Ok(())
}

fn cpu_signals(machine: &Machine) -> Result<(), NotHere> {
    let event = machine.device().newSharedEvent().expect("an event");
    let commands = machine.commands();
    commands.encodeWaitForEvent_value(ProtocolObject::from_ref(&*event), 3);
    commands.commit();
    event.setSignaledValue(2);
    std::thread::sleep(BRIEFLY);
    assert!(
        commands.status() < MTLCommandBufferStatus::Completed,
        "2 is below 3"
    );
    event.setSignaledValue(7);
    commands.waitUntilCompleted();
    assert_eq!(commands.status(), MTLCommandBufferStatus::Completed);
    Ok(())
}

fn gpu_signals(machine: &Machine) -> Result<(), NotHere> {
    let event = machine.device().newSharedEvent().expect("an event");
    assert_eq!(event.signaledValue(), 0);
    let commands = machine.commands();
    commands.encodeSignalEvent_value(ProtocolObject::from_ref(&*event), 9);
    commands.commit();
    assert!(event.waitUntilSignaledValue_timeoutMS(9, 5000));
    assert_eq!(event.signaledValue(), 9);
    commands.waitUntilCompleted();
    Ok(())
}

fn cpu_wait_times_out(machine: &Machine) -> Result<(), NotHere> {
    let event = machine.device().newSharedEvent().expect("an event");
    assert!(!event.waitUntilSignaledValue_timeoutMS(1, 10));
    event.setSignaledValue(1);
    assert!(event.waitUntilSignaledValue_timeoutMS(1, 10));
    Ok(())
}

fn listener(machine: &Machine) -> Result<(), NotHere> {
    let event = machine.device().newSharedEvent().expect("an event");
    let listener = MTLSharedEventListener::init(MTLSharedEventListener::alloc());
    let (sender, receiver) = channel();
    let note = RcBlock::new(
        move |event: NonNull<ProtocolObject<dyn MTLSharedEvent>>, value: u64| {
            // SAFETY: the block gets the event, alive for the call.
            let _ = sender.send((value, unsafe { event.as_ref() }.signaledValue()));
        },
    );
    // SAFETY: the block is valid.
    unsafe { event.notifyListener_atValue_block(&listener, 4, RcBlock::as_ptr(&note)) };
    drop(note);
    event.setSignaledValue(3);
    assert!(receiver.recv_timeout(BRIEFLY).is_err(), "3 is below 4");
    let commands = machine.commands();
    commands.encodeSignalEvent_value(ProtocolObject::from_ref(&*event), 5);
    commands.commit();
    let (_, value) = receiver.recv_timeout(SOON).expect("the listener is told");
    assert!(value >= 4);
    event.setSignaledValue(6);
    assert!(receiver.recv_timeout(BRIEFLY).is_err(), "once");
    commands.waitUntilCompleted();
    Ok(())
}

fn panic_in_listener(machine: &Machine) -> Result<(), NotHere> {
    let event = machine.device().newSharedEvent().expect("an event");
    let listener = MTLSharedEventListener::init(MTLSharedEventListener::alloc());
    let note = RcBlock::new(|_: NonNull<ProtocolObject<dyn MTLSharedEvent>>, _: u64| {
        panic!("nobody catches this")
    });
    // SAFETY: the block is valid.
    unsafe { event.notifyListener_atValue_block(&listener, 1, RcBlock::as_ptr(&note)) };
    event.setSignaledValue(1);
    std::thread::sleep(SOON);
    Ok(())
}

fn wait_in_encoder(machine: &Machine) -> Result<(), NotHere> {
    let event = machine.device().newEvent().expect("an event");
    let commands = machine.commands();
    let _encoder = commands.blitCommandEncoder();
    commands.encodeWaitForEvent_value(ProtocolObject::from_ref(&*event), 1);
    Ok(())
}

fn signal_in_encoder(machine: &Machine) -> Result<(), NotHere> {
    let event = machine.device().newEvent().expect("an event");
    let commands = machine.commands();
    let _encoder = commands.blitCommandEncoder();
    commands.encodeSignalEvent_value(ProtocolObject::from_ref(&*event), 1);
    Ok(())
}

fn signal_after_commit(machine: &Machine) -> Result<(), NotHere> {
    let event = machine.device().newEvent().expect("an event");
    let commands = machine.commands();
    commands.commit();
    commands.encodeSignalEvent_value(ProtocolObject::from_ref(&*event), 1);
    Ok(())
}

fn other_device(machine: &Machine) -> Result<(), NotHere> {
    let event = machine.other_device()?.newEvent().expect("an event");
    let event: &ProtocolObject<dyn MTLEvent> = ProtocolObject::from_ref(&*event);
    machine.commands().encodeSignalEvent_value(event, 1);
    Ok(())
}
