//! Waits that never end: reported with the waiters' names, and never a hang.

use crate::gpu::{Commands, Gpu, finish};
use crate::{Asked, Score};
use objc2::rc::autoreleasepool;
use objc2::runtime::ProtocolObject;
use objc2_foundation::NSString;
use objc2_metal::{MTLCommandBuffer, MTLCommandQueue, MTLEvent, MTLSharedEvent};

type Program = fn(&Gpu, bool);

const ALL: &[(&str, &str, Program)] = &[
    (
        "deadlock/nobody-signals",
        "command buffer “waits” waits for event “gate” to reach 2; it is at 1, and nothing that was committed signals it",
        nobody_signals,
    ),
    (
        "deadlock/each-other",
        "waits for event “one” to reach 1; it is at 0, and command buffer “left” would signal 1, but waits, too",
        each_other,
    ),
    (
        "deadlock/itself",
        "it would itself signal 1, but only afterwards",
        itself,
    ),
    (
        "deadlock/behind-one-that-is-not-committed",
        "command buffer “waits” is behind command buffer “first” in its queue, which was enqueued and not committed",
        behind_uncommitted,
    ),
    (
        "deadlock/the-cpu",
        "the CPU waits for event “gate” to reach 1; it is at 0, and nothing that was committed signals it",
        cpu_waits,
    ),
    (
        "event/goes-back",
        "event “gate” goes back from 2 to 1",
        goes_back,
    ),
];

pub fn run(asked: &Asked, gpu: &Gpu) -> Score {
    let mut score = Score::default();
    for (name, text, program) in ALL {
        let run = |sound| autoreleasepool(|_| program(gpu, sound));
        score.case(asked, name, || {
            // As long as it takes to be sure, in each order.
            let wrong = asked.check().seeds(0..4).watchdog_ms(100);
            wrong.expect_in_each(text).run(|| run(false));
            asked.check().run(|| run(true));
        });
    }
    score
}

fn named(text: &str) -> objc2::rc::Retained<NSString> {
    NSString::from_str(text)
}

fn nobody_signals(gpu: &Gpu, sound: bool) {
    let event = gpu.event();
    event.setLabel(Some(&named("gate")));
    let (signals, waits) = (gpu.other.commandBuffer().unwrap(), gpu.commands());
    waits.setLabel(Some(&named("waits")));
    waits.encodeWaitForEvent_value(&event, 2);
    waits.commit();
    signals.encodeSignalEvent_value(&event, if sound { 2 } else { 1 });
    finish(&signals);
    waits.waitUntilCompleted();
}

fn each_other(gpu: &Gpu, sound: bool) {
    let events = [gpu.event(), gpu.event()];
    let (left, right) = (gpu.commands(), gpu.other.commandBuffer().unwrap());
    for (event, name) in events.iter().zip(["one", "two"]) {
        event.setLabel(Some(&named(name)));
    }
    left.setLabel(Some(&named("left")));
    right.setLabel(Some(&named("right")));
    if sound {
        left.encodeSignalEvent_value(&events[0], 1);
        left.encodeWaitForEvent_value(&events[1], 1);
    } else {
        left.encodeWaitForEvent_value(&events[1], 1);
        left.encodeSignalEvent_value(&events[0], 1);
    }
    right.encodeWaitForEvent_value(&events[0], 1);
    right.encodeSignalEvent_value(&events[1], 1);
    left.commit();
    finish(&right);
    left.waitUntilCompleted();
}

fn itself(gpu: &Gpu, sound: bool) {
    let (event, commands) = (gpu.event(), gpu.commands());
    if sound {
        commands.encodeSignalEvent_value(&event, 1);
    }
    commands.encodeWaitForEvent_value(&event, 1);
    if !sound {
        commands.encodeSignalEvent_value(&event, 1);
    }
    finish(&commands);
}

fn behind_uncommitted(gpu: &Gpu, sound: bool) {
    let (first, waits) = (gpu.commands(), gpu.commands());
    first.setLabel(Some(&named("first")));
    waits.setLabel(Some(&named("waits")));
    first.enqueue();
    waits.commit();
    // A queue that is stuck would be stuck for the other tests.
    let late = Commit(&first);
    if sound {
        drop(late);
    }
    waits.waitUntilCompleted();
}

/// Commits at the end, however that comes.
struct Commit<'a>(&'a Commands);

impl Drop for Commit<'_> {
    fn drop(&mut self) {
        self.0.commit();
    }
}

fn cpu_waits(gpu: &Gpu, sound: bool) {
    let event = gpu.shared_event();
    event.setLabel(Some(&named("gate")));
    let commands = gpu.commands();
    if sound {
        commands.encodeSignalEvent_value(ProtocolObject::from_ref(&*event), 1);
    }
    commands.commit();
    assert!(event.waitUntilSignaledValue_timeoutMS(1, u64::MAX));
}

fn goes_back(gpu: &Gpu, sound: bool) {
    let event = gpu.shared_event();
    event.setLabel(Some(&named("gate")));
    let commands = gpu.commands();
    commands.encodeSignalEvent_value(ProtocolObject::from_ref(&*event), 2);
    finish(&commands);
    event.setSignaledValue(if sound { 3 } else { 1 });
}
