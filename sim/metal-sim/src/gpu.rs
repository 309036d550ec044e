//! The GPU: one thread per device that runs committed command buffers. Buffers of a queue
//! run in the order they were enqueued, each after the one before; what waits for a fence or
//! an event lets other queues go first. Completion is reported in that order, on this
//! thread, with no lock held.

use crate::lock;
use crate::model::command_buffer::{CommandBufferCore, Failure};
use crate::pass::Item;
use crate::rules::rules;
use std::any::Any;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

/// How long a thread looks again before it sleeps. Work comes and goes within microseconds,
/// and waking a thread costs more than that.
const PATIENCE: Duration = Duration::from_micros(40);

/// Looks until `met`, for a short while; the processor goes to others in between.
pub(crate) fn look_for(met: impl Fn() -> bool) -> bool {
    let start = Instant::now();
    loop {
        if met() {
            return true;
        }
        if start.elapsed() > PATIENCE {
            return false;
        }
        std::thread::yield_now();
    }
}

/// A device's executor.
#[derive(Default)]
pub struct Gpu {
    lanes: Mutex<Vec<Lane>>,
    changed: Condvar,
    /// Counts the changes, for the thread that looks before it sleeps.
    changes: AtomicU64,
    started: OnceLock<()>,
}

/// The command buffers of one queue, oldest first.
struct Lane {
    queue: usize,
    buffers: VecDeque<Arc<CommandBufferCore>>,
    /// Since when the first buffer waits for an event.
    blocked_since: Option<Instant>,
}

/// What the thread does next.
enum Next {
    Run(Arc<CommandBufferCore>, Box<Item>),
    Complete(Arc<CommandBufferCore>),
    TimeOut(Arc<CommandBufferCore>),
}

impl Gpu {
    /// Puts a buffer into its queue's order.
    pub(crate) fn enqueue(self: &Arc<Self>, queue: usize, buffer: Arc<CommandBufferCore>) {
        let gpu = Arc::clone(self);
        self.started.get_or_init(|| {
            std::thread::Builder::new()
                .name("metal-sim gpu".to_owned())
                .spawn(move || gpu.work())
                .expect("the GPU thread starts");
        });
        let mut lanes = lock(&self.lanes);
        match lanes.iter_mut().find(|lane| lane.queue == queue) {
            Some(lane) => lane.buffers.push_back(buffer),
            None => lanes.push(Lane {
                queue,
                buffers: [buffer].into(),
                blocked_since: None,
            }),
        }
        self.notify(lanes);
    }

    /// Counts a change, which takes the lock, so that the thread cannot miss it between its
    /// last look and its sleep.
    fn notify(&self, lanes: MutexGuard<'_, Vec<Lane>>) {
        self.changes.fetch_add(1, Ordering::Release);
        drop(lanes);
        self.changed.notify_all();
    }

    /// Something that may let work go on has changed: a commit, or an event's value.
    pub(crate) fn wake(&self) {
        self.notify(lock(&self.lanes));
    }

    fn work(&self) {
        loop {
            match self.next() {
                Next::Run(buffer, item) => run(&buffer, *item),
                Next::Complete(buffer) => buffer.complete(),
                Next::TimeOut(buffer) => {
                    buffer.fail(Failure::timeout());
                    buffer.complete();
                }
            }
        }
    }

    fn next(&self) -> Next {
        let mut lanes = lock(&self.lanes);
        loop {
            // Asked each time: it may be chosen while the thread waits for work.
            let watchdog = Duration::from_millis(rules().watchdog_ms);
            lanes.retain(|lane| !lane.buffers.is_empty());
            let mut earliest: Option<Instant> = None;
            for lane in lanes.iter_mut() {
                let buffer = &lane.buffers[0];
                if !buffer.is_committed() {
                    continue;
                }
                match buffer.next_item() {
                    Progress::Ready(item) => {
                        lane.blocked_since = None;
                        return Next::Run(buffer.clone(), item);
                    }
                    Progress::Empty => {
                        lane.blocked_since = None;
                        let buffer = lane.buffers.pop_front().expect("looked at above");
                        return Next::Complete(buffer);
                    }
                    Progress::Blocked => {
                        let since = *lane.blocked_since.get_or_insert_with(Instant::now);
                        let deadline = since + watchdog;
                        if deadline <= Instant::now() {
                            lane.blocked_since = None;
                            let buffer = lane.buffers.pop_front().expect("looked at above");
                            return Next::TimeOut(buffer);
                        }
                        earliest = Some(earliest.map_or(deadline, |other| other.min(deadline)));
                    }
                }
            }
            let seen = self.changes.load(Ordering::Acquire);
            drop(lanes);
            let changed = look_for(|| self.changes.load(Ordering::Acquire) != seen);
            lanes = lock(&self.lanes);
            if changed || self.changes.load(Ordering::Acquire) != seen {
                continue;
            }
            lanes = match earliest {
                Some(deadline) => {
                    let rest = deadline.saturating_duration_since(Instant::now());
                    let waited = self.changed.wait_timeout(lanes, rest);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
                None => self
                    .changed
                    .wait(lanes)
                    .unwrap_or_else(PoisonError::into_inner),
            };
        }
    }
}

/// What a command buffer can do now.
pub(crate) enum Progress {
    Ready(Box<Item>),
    Blocked,
    Empty,
}

fn run(buffer: &CommandBufferCore, item: Item) {
    buffer.schedule();
    match item {
        Item::Pass(pass) => {
            let done = pass.done.clone();
            if !buffer.retains()
                && let Some(label) = pass.dangling()
            {
                buffer.fail(Failure::invalid_resource(label));
                done.set();
                return;
            }
            let outcome = catch_unwind(AssertUnwindSafe(|| pass.run()));
            if let Err(panic) = outcome {
                buffer.fail(Failure::panicked(panic));
                done.set();
            }
        }
        Item::Signal(event, value) => event.signal(value),
        // A wait is taken off the buffer once its value is there: nothing is left to do.
        Item::Wait(..) => {}
    }
}

/// The text of a panic.
pub(crate) fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("a panic without a message")
        .to_owned()
}
