//! The GPU: one thread per device that runs committed command buffers. In order, those of a queue run one after the
//! other, and what waits for a fence or an event lets other queues go first. In the other modes whatever the rules allow
//! may be next, and work is held back until somebody waits for it, so that there is something to choose from. Completion
//! is reported in the order of the queue, on this thread, with no lock held.

use crate::check::{Finding, is_on, report};
use crate::lock;
use crate::model::command_buffer::{CommandBufferCore, Failure};
use crate::model::items::Ready;
use crate::order::Ids;
use crate::pass::{Item, Passes};
use crate::rules::rules;
use crate::schedule::{Chooser, Mode};
use std::any::Any;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

/// How long a thread looks again before it sleeps. Work comes and goes within microseconds,
/// and waking a thread costs more than that.
const PATIENCE: Duration = Duration::from_micros(40);

/// How long work is held back that nobody waits for.
const HOLD: Duration = Duration::from_millis(5);

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
    /// How many commits there were, which decides what starts early.
    commits: AtomicU64,
    /// How many threads wait for work to end.
    waiting: AtomicUsize,
    /// Whether something runs that is in no lane any more.
    busy: AtomicBool,
}

/// The command buffers of one queue, oldest first.
#[derive(Default)]
struct Lane {
    queue: usize,
    buffers: VecDeque<Arc<CommandBufferCore>>,
    /// How many of them were submitted: those that are committed, up to the first that is not.
    submitted: usize,
    /// Since when the first buffer waits for an event.
    blocked_since: Option<Instant>,
    /// All passes of this queue.
    passes: Passes,
    /// All that had ended when the last buffer completed: completion is in order.
    over: Ids,
    /// When the last buffer was submitted.
    last: Option<Instant>,
    /// The queue is gone; so is this, with its last buffer.
    forgotten: bool,
}

/// What the thread does next.
enum Next {
    Run(Arc<CommandBufferCore>, Item, Ids),
    Complete(Arc<CommandBufferCore>),
    TimeOut(Arc<CommandBufferCore>, String),
}

/// Somebody waits for work to end, until this is dropped.
pub(crate) struct Waiting<'a>(&'a Gpu);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Gpu {
    /// Puts a buffer into its queue's order.
    pub(crate) fn enqueue(self: &Arc<Self>, queue: usize, buffer: Arc<CommandBufferCore>) {
        let gpu = Arc::clone(self);
        self.started.get_or_init(|| {
            lock(&ALL).push(Arc::clone(self));
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
                ..Lane::default()
            }),
        }
        self.notify(lanes);
    }

    /// Buffers were committed: those of the queue that are next in its order are submitted, which settles what their
    /// passes come after.
    pub(crate) fn submit(&self, queue: usize) {
        let mut lanes = lock(&self.lanes);
        self.commits.fetch_add(1, Ordering::Relaxed);
        if let Some(lane) = lanes.iter_mut().find(|lane| lane.queue == queue) {
            lane.last = Some(Instant::now());
            while let Some(buffer) = lane.buffers.get(lane.submitted)
                && buffer.is_committed()
            {
                buffer.submit(queue, &mut lane.passes);
                lane.submitted += 1;
            }
        }
        self.notify(lanes);
    }

    /// A queue is gone.
    pub(crate) fn forget(&self, queue: usize) {
        let mut lanes = lock(&self.lanes);
        if let Some(lane) = lanes.iter_mut().find(|lane| lane.queue == queue) {
            lane.forgotten = true;
        }
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

    /// The committed buffer can not be submitted, as this one of its queue, which comes first, is not committed.
    pub(crate) fn behind_uncommitted(&self, buffer: &CommandBufferCore) -> Option<String> {
        let lanes = lock(&self.lanes);
        let is_it = |other: &Arc<CommandBufferCore>| std::ptr::eq(&**other, buffer);
        let lane = lanes.iter().find(|lane| lane.buffers.iter().any(is_it))?;
        let at = lane.buffers.iter().position(is_it)?;
        let first = lane.buffers.get(lane.submitted)?;
        (lane.submitted < at).then(|| first.title())
    }

    /// Whether there is nothing that was committed and has not ended.
    pub(crate) fn is_idle(&self) -> bool {
        let lanes = lock(&self.lanes);
        !self.busy.load(Ordering::Acquire) && lanes.iter().all(|lane| lane.submitted == 0)
    }

    /// The program looks at what is not there yet: what was committed is held back no longer.
    pub(crate) fn look(&self) {
        if holds() {
            let mut lanes = lock(&self.lanes);
            lanes.iter_mut().for_each(|lane| lane.last = None);
            self.notify(lanes);
        }
    }

    /// The caller is about to wait for work to end: nothing is held back meanwhile.
    pub(crate) fn hurry(&self) -> Waiting<'_> {
        self.waiting.fetch_add(1, Ordering::AcqRel);
        if holds() {
            self.wake();
        }
        Waiting(self)
    }

    /// Waits until everything that was committed has ended.
    fn settle(&self) {
        let _waiting = self.hurry();
        while !self.is_idle() {
            std::thread::sleep(Duration::from_micros(100));
        }
        // What starts early is counted from here.
        self.commits.store(0, Ordering::Relaxed);
    }

    fn work(&self) {
        let mut chooser = Chooser::new(rules());
        loop {
            match self.next(&mut chooser) {
                Next::Run(buffer, item, before) => run(&buffer, item, before, &mut chooser),
                Next::Complete(buffer) => buffer.complete(),
                Next::TimeOut(buffer, why) => {
                    if is_on() {
                        report(Finding::new(format!("deadlock: {why}")));
                    }
                    // What is left of it ends, in its turn and without having run.
                    buffer.fail(Failure::timeout(&why));
                }
            }
        }
    }

    fn next(&self, chooser: &mut Chooser) -> Next {
        let mut lanes = lock(&self.lanes);
        loop {
            let watchdog = Duration::from_millis(rules().watchdog_ms);
            // Switches may have changed while this thread slept.
            chooser.follow(rules());
            self.busy.store(false, Ordering::Release);
            lanes.retain(|lane| !(lane.forgotten && lane.buffers.is_empty()));
            let mut earliest = self.held_until(&lanes, chooser);
            if earliest.is_none() {
                match choose(&mut lanes, chooser, watchdog) {
                    Ok(next) => {
                        self.busy.store(true, Ordering::Release);
                        return next;
                    }
                    Err(deadline) => earliest = deadline,
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

    /// Until when work is held back, so that more may come to choose from.
    fn held_until(&self, lanes: &[Lane], chooser: &Chooser) -> Option<Instant> {
        if !holds() || self.waiting.load(Ordering::Acquire) > 0 {
            return None;
        }
        let last = lanes.iter().filter_map(|lane| lane.last).max()?;
        let until = last + HOLD;
        let early = chooser.starts_early(self.commits.load(Ordering::Relaxed));
        (until > Instant::now() && !early).then_some(until)
    }
}

/// Whether work is held back for a while: where others may come that could run before it, and where hazards are looked
/// for, as what happens to complete before the next commit is before it by luck.
fn holds() -> bool {
    rules().order != Mode::InOrder || rules().hazards
}

/// Every GPU that has had work.
static ALL: Mutex<Vec<Arc<Gpu>>> = Mutex::new(Vec::new());

/// Waits until everything that was committed on any device has ended.
pub(crate) fn settle_all() {
    let all = lock(&ALL).clone();
    all.iter().for_each(|gpu| gpu.settle());
}

/// What is next, or until when there may be something.
fn choose(
    lanes: &mut [Lane],
    chooser: &mut Chooser,
    watchdog: Duration,
) -> Result<Next, Option<Instant>> {
    let in_order = rules().order == Mode::InOrder;
    let mut all: Vec<(Arc<CommandBufferCore>, Ready)> = Vec::new();
    for lane in lanes.iter_mut() {
        let mut signals = false;
        for at in 0..lane.submitted {
            let looked = lane.buffers[at].ready(in_order);
            if at == 0 && looked.empty {
                let buffer = lane.pop();
                return Ok(Next::Complete(buffer));
            }
            // Signals of a queue come in its order: programs count with them.
            let may = |ready: &Ready| !(ready.signal && signals);
            let ready = looked.ready.into_iter().filter(may);
            all.extend(ready.map(|ready| (lane.buffers[at].clone(), ready)));
            signals |= looked.signals;
            if in_order {
                break;
            }
        }
    }
    if !in_order {
        all.sort_by_key(|(_, ready)| ready.order);
    }
    if !all.is_empty() {
        lanes.iter_mut().for_each(|lane| lane.blocked_since = None);
        let (buffer, ready) = all.swap_remove(chooser.pick(all.len()));
        let (item, before) = buffer.take(ready.at);
        return Ok(Next::Run(buffer, item, before));
    }
    // Nothing can run: whoever waits for an event has waited since now, or since before.
    let mut earliest: Option<Instant> = None;
    for at in 0..lanes.len() {
        let lane = &mut lanes[at];
        let mut blocked = lane.buffers.range(..lane.submitted);
        let Some(buffer) = blocked.find(|it| it.awaited().is_some()).cloned() else {
            continue;
        };
        let deadline = *lane.blocked_since.get_or_insert_with(Instant::now) + watchdog;
        if deadline <= Instant::now() {
            lane.blocked_since = None;
            return Ok(Next::TimeOut(buffer, stuck(lanes)));
        }
        earliest = Some(earliest.map_or(deadline, |other| other.min(deadline)));
    }
    Err(earliest)
}

/// Who waits for what, when nothing goes on.
fn stuck(lanes: &[Lane]) -> String {
    let buffers = || {
        lanes
            .iter()
            .flat_map(|lane| lane.buffers.range(..lane.submitted))
    };
    let signals = |buffer: &Arc<CommandBufferCore>| {
        let by = buffer.clone();
        let with = move |(event, value)| (event, value, by.clone());
        buffer.signals().into_iter().map(with)
    };
    let signals: Vec<_> = buffers().flat_map(signals).collect();
    let waits = buffers().filter_map(|buffer| {
        let (event, value) = buffer.awaited()?;
        let signal = signals
            .iter()
            .find(|(other, given, _)| Arc::ptr_eq(other, &event) && *given >= value);
        let by = match signal {
            Some((_, given, by)) if Arc::ptr_eq(by, buffer) => {
                format!("it would itself signal {given}, but only afterwards")
            }
            Some((_, given, by)) => format!("{} would signal {given}, but waits, too", by.title()),
            None => "nothing that was committed signals it".to_owned(),
        };
        Some(format!(
            "{} waits for {} to reach {value}; it is at {}, and {by}",
            buffer.title(),
            event.title(),
            event.value()
        ))
    });
    waits.collect::<Vec<_>>().join("; ")
}

impl Lane {
    /// The first buffer has ended.
    fn pop(&mut self) -> Arc<CommandBufferCore> {
        let buffer = self.buffers.pop_front().expect("one was submitted");
        self.submitted -= 1;
        self.over.join(&buffer.past());
        buffer.set_over(self.over.clone());
        buffer
    }
}

fn run(buffer: &CommandBufferCore, item: Item, before: Ids, chooser: &mut Chooser) {
    buffer.schedule();
    match item {
        Item::Pass(pass) => {
            let node = pass.node.clone();
            pass.start(before);
            if buffer.has_failed() {
                // It ends without having run, and whoever waits for it goes on.
            } else if !buffer.retains()
                && let Some(label) = pass.dangling()
            {
                buffer.fail(Failure::invalid_resource(label));
            } else if let Err(panic) = catch_unwind(AssertUnwindSafe(|| pass.run(chooser))) {
                buffer.fail(Failure::panicked(panic));
            }
            node.end();
        }
        Item::Signal(..) if buffer.has_failed() => {}
        Item::Signal(event, value) => event.signal(value, before),
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
