//! Recorded GPU work: what an encoder leaves behind when it ends, and what a command buffer
//! is made of. Each operation declares the bytes it reads and writes. Of kernels these are whole buffers; how much of
//! them is touched, the detector can tell.

use crate::account::Work;
use crate::hazards::{self, Site};
use crate::memory::Memory;
use crate::model::event::EventCore;
use crate::model::fence::{FenceCore, Update};
use crate::order::{self, Group, Ids, Node, Part, Reach, Steps};
use crate::rules::rules;
use crate::schedule::{Chooser, Mode};
use metal_sim_objc::origin::Place;
use objc2_metal::MTLStages;
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

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

    /// Its bytes by address.
    pub fn addresses(&self) -> Range<usize> {
        let base = self.memory.base().addr();
        base + self.range.start..base + self.range.end
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

/// How bytes are touched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deed {
    /// Whether they are written.
    pub writes: bool,
    /// Whether by atomic functions alone.
    pub atomic: bool,
}

impl Deed {
    /// A plain read or write.
    pub fn plain(writes: bool) -> Self {
        let atomic = false;
        Self { writes, atomic }
    }

    /// An access by atomic functions.
    pub fn atomic(writes: bool) -> Self {
        let atomic = true;
        Self { writes, atomic }
    }
}

/// What an operation turned out to touch, by address, and how; `None` for what it declared.
pub type Touched = Option<Vec<(Range<usize>, Deed)>>;

/// One operation: a dispatch, a blit command, an MPS kernel.
pub struct Op {
    /// What it is, for reports.
    pub label: String,
    /// What it touches.
    pub accesses: Vec<Access>,
    /// What it does.
    pub run: Box<dyn FnOnce() -> Touched + Send>,
}

/// What a memory barrier is about.
pub enum Scope {
    /// All buffers.
    Buffers,
    /// These.
    Resources(Vec<Arc<Memory>>),
}

/// A step of a pass.
pub enum Step {
    /// Work.
    Run(Op),
    /// Later steps of a concurrent pass wait for earlier ones.
    Barrier(Scope),
    /// Later steps wait for what the queue was given before this pass, of these stages.
    QueueBarrier(MTLStages),
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

/// The passes that a queue was given so far, by what a queue barrier can tell apart.
#[derive(Default)]
pub struct Passes {
    dispatch: Group,
    blit: Group,
}

impl Kind {
    fn stage(self) -> MTLStages {
        match self {
            Self::Blit => MTLStages::Blit,
            Self::SerialCompute | Self::ConcurrentCompute | Self::Mps => MTLStages::Dispatch,
        }
    }
}

impl Passes {
    fn add(&mut self, kind: Kind, node: &Arc<Node>) {
        let group = match kind {
            Kind::Blit => &mut self.blit,
            _ => &mut self.dispatch,
        };
        group.add(node, Part::Whole);
    }

    /// Adds those of some stages to a group.
    fn join(&self, stages: MTLStages, to: &mut Group) {
        let all = [
            (MTLStages::Dispatch, &self.dispatch),
            (MTLStages::Blit, &self.blit),
        ];
        for (_, group) in all.iter().filter(|(stage, _)| stages.contains(*stage)) {
            to.join(group);
        }
    }
}

/// Everything between an encoder's creation and its end.
pub struct Pass {
    /// Which encoder made it.
    pub kind: Kind,
    /// The encoder's label.
    pub label: String,
    /// Fences that it waits for, each with how many operations were encoded before. Metal may wait earlier.
    waits: Vec<(usize, Arc<FenceCore>)>,
    /// Fences that it updates, in the same way. Metal may update later.
    updates: Vec<(usize, Arc<FenceCore>)>,
    /// The work.
    pub steps: Vec<Step>,
    /// How many of the steps are operations.
    count: usize,
    /// It takes longer than it has to.
    pub slow: Option<Duration>,
    /// For each operation where it was encoded, if hazards are looked for.
    places: Vec<Arc<Place>>,
    /// The pass in the graph.
    pub node: Arc<Node>,
    /// What must have ended before its operations run, by a rule, each from an operation on.
    after: BTreeMap<usize, Group>,
    /// What it waits for although no rule says so.
    held: Group,
    /// The tracked memories that it uses, and whether it writes to them.
    tracked: Vec<(Arc<Memory>, bool)>,
    /// What the CPU knew to be over when it was submitted.
    seen: Ids,
    /// For each operation what reports say of it.
    sites: Vec<Arc<Site>>,
}

impl Pass {
    /// An empty pass.
    pub fn new(kind: Kind) -> Self {
        Self {
            kind,
            label: String::new(),
            waits: Vec::new(),
            updates: Vec::new(),
            steps: Vec::new(),
            count: 0,
            slow: None,
            places: Vec::new(),
            node: Arc::default(),
            after: BTreeMap::new(),
            held: Group::default(),
            tracked: Vec::new(),
            seen: Ids::default(),
            sites: Vec::new(),
        }
    }

    /// What is encoded from now on, if it is of the later stages, waits for the earlier stages of what the queue was
    /// given before.
    pub fn queue_barrier(&mut self, earlier: MTLStages, later: MTLStages) {
        if later.contains(self.kind.stage()) {
            self.steps.push(Step::QueueBarrier(earlier));
        }
    }

    /// Records an operation and accounts for it.
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
        if rules().hazards {
            self.places.push(Arc::new(Place::here()));
        }
        self.steps.push(Step::Run(op));
        self.count += 1;
    }

    /// What is encoded from now on waits for a fence.
    pub fn wait(&mut self, fence: &Arc<FenceCore>) {
        self.waits.push((self.count, fence.clone()));
    }

    /// Who waits for the fence waits for what was encoded so far.
    pub fn update(&mut self, fence: &Arc<FenceCore>) {
        self.updates.push((self.count, fence.clone()));
    }

    /// Whether it updates a fence.
    pub fn updates(&self, fence: &Arc<FenceCore>) -> bool {
        self.updates
            .iter()
            .any(|(_, held)| Arc::ptr_eq(held, fence))
    }

    fn ops(&self) -> impl Iterator<Item = &Op> {
        self.steps.iter().filter_map(|step| match step {
            Step::Run(op) => Some(op),
            _ => None,
        })
    }

    /// What orders its operations, by their numbers.
    fn order(&self) -> Steps {
        if self.kind != Kind::ConcurrentCompute {
            return Steps::Serial;
        }
        let (mut before, mut barriers) = (0, Vec::new());
        for step in &self.steps {
            match step {
                Step::Run(_) => before += 1,
                Step::Barrier(Scope::Buffers) => barriers.push((before, Reach::All)),
                // It is about what came before this encoder.
                Step::QueueBarrier(_) => {}
                Step::Barrier(Scope::Resources(all)) => {
                    let all = all.iter().map(|memory| memory.addresses());
                    barriers.push((before, Reach::Only(all.collect())));
                }
            }
        }
        Steps::Concurrent(barriers)
    }

    /// Settles what comes before it, as submission does. A wait for a fence is for the update submitted last; a fence
    /// that no submitted pass updates is no wait at all. `queue` has the passes of its queue so far.
    pub(crate) fn submit(&mut self, on: usize, queue: &mut Passes) {
        let mut cuts: Vec<usize> = self.updates.iter().map(|(step, _)| *step).collect();
        cuts.dedup();
        self.node.submit(cuts.clone());
        self.seen = order::seen();
        for (step, fence) in &self.waits {
            let Some(update) = fence.last_update() else {
                continue;
            };
            if update.queue == on || rules().fences_across_queues {
                let after = self.after.entry(*step).or_default();
                after.add(&update.pass, update.part);
            } else if rules().order == Mode::InOrder {
                // Metal may or may not wait, and a program cannot rely on it.
                self.held.add(&update.pass, update.part);
            }
        }
        for (step, fence) in &self.updates {
            fence.set_last_update(Update {
                pass: self.node.clone(),
                part: Part::UpTo(cuts.partition_point(|cut| cut < step)),
                queue: on,
            });
        }
        let mut before = 0;
        for step in &self.steps {
            match step {
                Step::Run(_) => before += 1,
                Step::QueueBarrier(stages) => {
                    queue.join(*stages, self.after.entry(before).or_default());
                }
                Step::Barrier(_) => {}
            }
        }
        queue.add(self.kind, &self.node);
        self.tracked = self.find_tracked();
        for (memory, writes) in &self.tracked {
            memory.submit(on, &self.node, *writes, self.after.entry(0).or_default());
        }
        if rules().hazards {
            // What was recorded while hazards were not looked for has no place.
            self.places.resize_with(self.count, Arc::default);
            self.sites = self.describe();
            for (site, op) in self.sites.iter().zip(self.ops()) {
                hazards::submitted(site, &op.accesses);
            }
        }
    }

    /// The tracked memories that it uses, and whether it writes to them.
    fn find_tracked(&self) -> Vec<(Arc<Memory>, bool)> {
        let mut used: Vec<(Arc<Memory>, bool)> = Vec::new();
        for access in self.ops().flat_map(|op| &op.accesses) {
            if !access.memory.is_tracked() {
                continue;
            }
            let is_it =
                |(memory, _): &&mut (Arc<Memory>, bool)| memory.is_tracked_with(&access.memory);
            match used.iter_mut().rev().find(is_it) {
                Some((_, writes)) => *writes |= access.write,
                None => used.push((access.memory.clone(), access.write)),
            }
        }
        used
    }

    /// What reports say of its operations.
    fn describe(&self) -> Vec<Arc<Site>> {
        let order = Arc::new(self.order());
        let encoder = match self.label.as_str() {
            "" => format!("{:?} encoder {}", self.kind, self.node.number()),
            label => format!("encoder “{label}”"),
        };
        let encoder: Arc<str> = encoder.into();
        let site = |(step, (op, place)): (usize, (&Op, &Arc<Place>))| {
            Arc::new(Site {
                pass: self.node.clone(),
                order: order.clone(),
                step,
                epoch: order.epoch(step),
                what: op.label.clone(),
                encoder: encoder.clone(),
                place: place.clone(),
            })
        };
        self.ops().zip(&self.places).enumerate().map(site).collect()
    }

    /// Whether everything that it waits for has ended.
    pub(crate) fn is_ready(&self) -> bool {
        self.after.values().all(Group::is_done) && self.held.is_done()
    }

    /// The operation, if there is one, that uses memory whose buffer object is gone.
    pub(crate) fn dangling(&self) -> Option<&str> {
        let mut gone = self
            .ops()
            .filter(|op| op.accesses.iter().any(|it| it.memory.is_abandoned()));
        gone.next().map(|op| op.label.as_str())
    }

    /// Tells the graph what comes before it: by the rules of its submission, and by the events that its command buffer
    /// has waited for.
    pub(crate) fn start(&self, events: Ids) {
        let mut first = events;
        first.join(&self.seen);
        for (memory, writes) in &self.tracked {
            first.join(&memory.start(&self.node, *writes));
        }
        let after = self.after.iter().map(|(step, after)| (*step, after.past()));
        self.node
            .start(std::iter::once((0, first)).chain(after).collect());
    }

    /// Runs the operations, in an order that its barriers allow.
    pub(crate) fn run(self, chooser: &mut Chooser) {
        if let Some(longer) = self.slow {
            std::thread::sleep(longer);
        }
        let order = self.order();
        let mut ops: Vec<Option<Op>> = self
            .steps
            .into_iter()
            .filter_map(into_op)
            .map(Some)
            .collect();
        let touches = |ops: &[Option<Op>]| {
            let accesses = |op: &Option<Op>| {
                let all = op.iter().flat_map(|op| &op.accesses);
                all.map(Access::addresses).collect()
            };
            ops.iter().map(accesses).collect()
        };
        for step in chooser.steps(&order, ops.len(), || touches(&ops)) {
            let Some(op) = ops[step].take() else {
                continue;
            };
            let touched = (op.run)();
            op.accesses.iter().for_each(Access::note);
            if let Some(site) = self.sites.get(step) {
                hazards::ran(site, &op.accesses, touched);
            }
        }
        self.node.end();
    }
}

fn into_op(step: Step) -> Option<Op> {
    match step {
        Step::Run(op) => Some(op),
        _ => None,
    }
}

/// What a command buffer holds, in order.
pub enum Item {
    /// An encoder's work.
    Pass(Box<Pass>),
    /// Later passes of this buffer wait until the event has this value.
    Wait(Arc<EventCore>, u64),
    /// The event gets this value when earlier passes of this buffer have ended.
    Signal(Arc<EventCore>, u64),
}
