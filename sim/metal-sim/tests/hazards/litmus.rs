//! The litmus tests: each is a small program that lacks an ordering, and the same with it.

use crate::gpu::{Commands, Gpu, floats, two};
use crate::{Asked, Score, buffers, encoders};
use metal_sim::{Order, rules};
use objc2::rc::autoreleasepool;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

/// With `true` the ordering is there.
type Program = fn(&Gpu, bool);

/// Name, program, and what is found in it without the ordering.
const ALL: &[(&str, &str, Program)] = &[
    (
        "barrier/scope",
        "no barrier is between",
        encoders::barrier_by_scope,
    ),
    (
        "barrier/resource",
        "no barrier is between",
        encoders::barrier_by_resource,
    ),
    (
        "barrier/before-a-reader",
        "no barrier is between",
        encoders::barrier_before_a_reader,
    ),
    (
        "barrier/textures-only",
        "no barrier is between",
        encoders::barrier_for_textures,
    ),
    (
        "barrier/between-other-steps",
        "no barrier is between",
        encoders::barrier_too_early,
    ),
    (
        "encoder/serial",
        "no barrier is between",
        encoders::serial_encoder,
    ),
    (
        "encoder/tracked-is-no-barrier",
        "no barrier is between",
        encoders::tracked_in_one_encoder,
    ),
    ("bytes/overlap", "no barrier is between", encoders::overlap),
    (
        "bytes/atomic-functions",
        "atomic access on buffer “data”",
        encoders::atomic_functions,
    ),
    (
        "fence/two-encoders",
        "no fence, event or barrier",
        encoders::fence,
    ),
    (
        "fence/write-after-read",
        "write after read on buffer “data”",
        encoders::write_after_read,
    ),
    (
        "fence/in-an-empty-encoder",
        "no fence, event or barrier",
        encoders::fence_in_empty_encoder,
    ),
    (
        "fence/updated-later",
        "no fence, event or barrier",
        encoders::fence_updated_later,
    ),
    (
        "fence/updated-too-early",
        "no fence, event or barrier",
        encoders::fence_updated_too_early,
    ),
    (
        "fence/waited-too-late",
        "no fence, event or barrier",
        encoders::fence_waited_too_late,
    ),
    (
        "event/two-signals",
        "no fence, event or barrier",
        buffers::event_of_two_signals,
    ),
    (
        "event/timeline",
        "no fence, event or barrier",
        buffers::event_as_a_timeline,
    ),
    (
        "event/the-same-value-again",
        "no fence, event or barrier",
        buffers::event_value_again,
    ),
    (
        "queue-barrier/other-stage",
        "no fence, event or barrier",
        buffers::queue_barrier_of_another_stage,
    ),
    (
        "heap/tracked-is-one",
        "no fence, event or barrier",
        buffers::tracked_heap,
    ),
    (
        "fence/two-buffers",
        "no fence, event or barrier",
        encoders::fence_between_buffers,
    ),
    (
        "fence/chain",
        "no fence, event or barrier",
        encoders::fence_chain,
    ),
    (
        "fence/across-queues",
        "no fence, event or barrier",
        encoders::fence_across_queues,
    ),
    (
        "event/two-buffers",
        "no fence, event or barrier",
        buffers::event_between_buffers,
    ),
    (
        "event/two-queues",
        "no fence, event or barrier",
        buffers::event_between_queues,
    ),
    (
        "event/wait-in-another-buffer",
        "no fence, event or barrier",
        buffers::event_in_another_buffer,
    ),
    (
        "event/signal-too-early",
        "no fence, event or barrier",
        buffers::event_too_early,
    ),
    (
        "event/pair-in-one-buffer",
        "no fence, event or barrier",
        buffers::event_pair,
    ),
    (
        "tracked/two-buffers",
        "no fence, event or barrier",
        buffers::tracked,
    ),
    (
        "tracked/two-queues",
        "no fence, event or barrier",
        buffers::tracked_across_queues,
    ),
    (
        "queue-barrier",
        "no fence, event or barrier",
        buffers::queue_barrier,
    ),
    (
        "queue-barrier/other-queue",
        "no fence, event or barrier",
        buffers::queue_barrier_elsewhere,
    ),
    (
        "blit/after-compute",
        "no fence, event or barrier",
        buffers::blit_after_compute,
    ),
    (
        "mps/after-compute",
        "no fence, event or barrier",
        buffers::mps_after_compute,
    ),
    (
        "mps/fence-before-it",
        "no fence, event or barrier",
        buffers::mps_behind_fence,
    ),
    (
        "cpu/contents",
        "the CPU uses buffer “data”",
        buffers::contents,
    ),
    (
        "cpu/contents-after-another-queue",
        "the CPU uses buffer “data”",
        buffers::contents_after_queue,
    ),
    (
        "cpu/contents-after-status",
        "the CPU uses buffer “data”",
        buffers::contents_after_status,
    ),
    (
        "cpu/contents-after-shared-event",
        "the CPU uses buffer “data”",
        buffers::contents_after_event,
    ),
    (
        "cpu/contents-of-private-memory",
        "private memory has no address for the CPU",
        buffers::contents_of_private,
    ),
    (
        "cpu/wait-between",
        "no fence, event or barrier",
        buffers::wait_between,
    ),
    (
        "heap/aliased-too-early",
        "no fence, event or barrier",
        buffers::aliased,
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
    score.case(asked, "fence/across-queues-by-the-switch", || {
        rules::choose(|rules| rules.fences_across_queues = true);
        let run = || autoreleasepool(|_| encoders::fence_across_queues(gpu, false));
        let outcome = catch_unwind(AssertUnwindSafe(|| asked.check().run(run)));
        rules::choose(|rules| rules.fences_across_queues = false);
        outcome.unwrap_or_else(|panic| resume_unwind(panic));
    });
    score.case(asked, "report", || report(gpu));
    score.case(asked, "verdict", || verdict(gpu));
    score
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
        two(gpu, write, read);
        results.push(floats(&result)[3]);
    });
    assert_eq!(results, [4.0, 0.0]);
}

/// A finding says what, who, where, what is missing, and how to see it again.
fn report(gpu: &Gpu) {
    let check = metal_sim::Check::new().orders([Order::Seed(7)]);
    let report = check.expect("hazard").run(|| encoders::fence(gpu, false));
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

/// A check fails with the finding, or with what it was to find.
fn verdict(gpu: &Gpu) {
    let of = |check: metal_sim::Check, sound| {
        let run = || {
            check
                .orders([Order::Apple])
                .run(|| encoders::fence(gpu, sound))
        };
        let outcome = catch_unwind(AssertUnwindSafe(run));
        outcome.map_err(|panic| *panic.downcast::<String>().expect("a text"))
    };
    let check = metal_sim::Check::new;
    assert!(of(check(), true).is_ok_and(|report| report.runs == 1 && report.found.is_empty()));
    assert!(of(check(), false).is_err_and(|why| why.starts_with("hazard: ")));
    assert!(of(check().expect("hazard"), false).is_ok_and(|report| report.found.len() == 1));
    assert!(of(check().expect("hazard"), true).is_err_and(|why| why.contains("nothing was")));
    assert!(
        of(check().expect("deadlock"), false).is_err_and(|why| why.contains("but this:\nhazard"))
    );
}
