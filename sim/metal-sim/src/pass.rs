//! Recorded GPU work: what an encoder leaves behind when it ends, and what a command buffer
//! is made of. Each operation declares the bytes it reads and writes. Of kernels these are whole buffers; how much of
//! them is touched, the detector can tell.

use crate::account::Work;
use crate::memory::Memory;
use crate::model::event::EventCore;
use crate::model::fence::FenceCore;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Bytes that an operation reads or writes.
#[derive(Clone)]
pub struct Access {
    /// Whose bytes.
    pub memory: Arc<Memory>,
    /// Which bytes.
    pub range: Range<usize>,
    /// Whether they are written.
    pub write: bool,
    /// The detector notes what of it is written; otherwise it counts as written whole.
    pub traced: bool,
    /// The detector counts its bytes when it is made; otherwise all are counted when it is recorded.
    pub counted_later: bool,
}

impl Access {
    /// A read.
    pub fn read(memory: &Arc<Memory>, range: Range<usize>) -> Self {
        Self {
            memory: memory.clone(),
            range,
            write: false,
            traced: false,
            counted_later: false,
        }
    }

    /// A write.
    pub fn write(memory: &Arc<Memory>, range: Range<usize>) -> Self {
        Self {
            memory: memory.clone(),
            range,
            write: true,
            traced: false,
            counted_later: false,
        }
    }

    /// What a kernel under the detector may write.
    pub fn traced(memory: &Arc<Memory>, range: Range<usize>) -> Self {
        Self {
            traced: true,
            ..Self::write(memory, range)
        }
    }

    /// Notes that it was made.
    fn note(&self) {
        if let Some(written) = self.memory.written()
            && self.write
            && !self.traced
        {
            written.mark(self.range.clone());
        }
    }
}

/// One operation: a dispatch, a blit command, an MPS kernel.
pub struct Op {
    /// What it is, for reports.
    pub label: String,
    /// What it touches.
    pub accesses: Vec<Access>,
    /// What it does.
    pub run: Box<dyn FnOnce() + Send>,
}

/// A step of a pass.
pub enum Step {
    /// Work.
    Run(Op),
    /// Later steps of a concurrent pass wait for earlier ones.
    Barrier,
    /// Later steps wait for everything that the queue was given before this pass.
    QueueBarrier,
}

/// Which encoder made a pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A compute encoder whose dispatches run one after the other.
    SerialCompute,
    /// A compute encoder whose dispatches may overlap.
    ConcurrentCompute,
    /// A blit encoder.
    Blit,
    /// The encoder that an MPS kernel opened and closed itself.
    Mps,
}

/// Everything between an encoder's creation and its end.
pub struct Pass {
    /// Which encoder made it.
    pub kind: Kind,
    /// The encoder's label.
    pub label: String,
    /// Fences that its start waits for.
    pub waits: Vec<Arc<FenceCore>>,
    /// Fences that its end updates.
    pub updates: Vec<Arc<FenceCore>>,
    /// The work.
    pub steps: Vec<Step>,
    /// Passes that must have ended: the fences' updates, as they stood at submission.
    pub after: Vec<Done>,
    /// Set when the pass has ended.
    pub done: Done,
}

/// Whether a pass has ended.
#[derive(Clone, Default)]
pub struct Done(Arc<AtomicBool>);

impl Done {
    /// Whether it has.
    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }

    pub(crate) fn set(&self) {
        self.0.store(true, Ordering::Release);
    }
}

impl Pass {
    /// A pass without work.
    pub fn new(kind: Kind) -> Self {
        Self {
            kind,
            label: String::new(),
            waits: Vec::new(),
            updates: Vec::new(),
            steps: Vec::new(),
            after: Vec::new(),
            done: Done::default(),
        }
    }

    /// Adds an operation and accounts for it.
    pub fn push(&mut self, op: Op) {
        let mut work = Work {
            dispatches: 1,
            ..Work::default()
        };
        for access in op.accesses.iter().filter(|it| !it.counted_later) {
            let bytes = access.range.len() as u64;
            if access.write {
                work.bytes_written += bytes;
            } else {
                work.bytes_read += bytes;
            }
        }
        work.add();
        self.steps.push(Step::Run(op));
    }

    /// Resolves fences as submission does: a wait is for the update submitted last; a fence
    /// that no submitted pass updates is no wait at all.
    pub(crate) fn submit(&mut self) {
        self.after
            .extend(self.waits.iter().filter_map(|fence| fence.last_update()));
        for fence in &self.updates {
            fence.set_last_update(self.done.clone());
        }
    }

    /// The operation, if there is one, that uses memory whose buffer object is gone.
    pub(crate) fn dangling(&self) -> Option<&str> {
        self.steps.iter().find_map(|step| match step {
            Step::Run(op) if op.accesses.iter().any(|it| it.memory.is_abandoned()) => {
                Some(op.label.as_str())
            }
            _ => None,
        })
    }

    /// Runs the steps in order.
    pub(crate) fn run(self) {
        for step in self.steps {
            if let Step::Run(op) = step {
                (op.run)();
                op.accesses.iter().for_each(Access::note);
            }
        }
        self.done.set();
    }
}

/// What a command buffer holds, in order.
pub enum Item {
    /// An encoder's work.
    Pass(Pass),
    /// Later passes of this buffer wait until the event has this value.
    Wait(Arc<EventCore>, u64),
    /// The event gets this value when earlier passes of this buffer have ended.
    Signal(Arc<EventCore>, u64),
}
