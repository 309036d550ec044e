//! What runs before what, by a rule and never by chance. Passes have numbers, in order of submission; what a pass is
//! known to come after is a set of them. Commit order on a queue is no rule. Inside a pass its kind and its barriers
//! decide. Nothing here knows Metal's objects or the schedule.

use crate::lock;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

/// A set of passes. Most of them follow each other, so that this is a few ranges.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ids(Vec<Range<u64>>);

impl Ids {
    /// Whether a pass is in it.
    pub fn contains(&self, id: u64) -> bool {
        let at = self.0.partition_point(|range| range.end <= id);
        self.0.get(at).is_some_and(|range| range.start <= id)
    }

    /// Adds a pass.
    pub fn insert(&mut self, id: u64) {
        self.add(id..id + 1);
    }

    /// Adds all of another set.
    pub fn join(&mut self, other: &Self) {
        if self.0.is_empty() {
            self.0.clone_from(&other.0);
            return;
        }
        for range in &other.0 {
            self.add(range.clone());
        }
    }

    fn add(&mut self, new: Range<u64>) {
        // The ranges that touch it, to become one with it.
        let first = self.0.partition_point(|range| range.end < new.start);
        let last = self.0.partition_point(|range| range.start <= new.end);
        if first == last {
            self.0.insert(first, new);
            return;
        }
        let start = self.0[first].start.min(new.start);
        let end = self.0[last - 1].end.max(new.end);
        self.0[first] = start..end;
        self.0.drain(first + 1..last);
    }
}

/// What a barrier is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reach {
    /// Everything.
    All,
    /// These addresses.
    Only(Vec<Range<usize>>),
}

impl Reach {
    /// Whether a byte is among them.
    pub fn covers(&self, address: usize) -> bool {
        match self {
            Self::All => true,
            Self::Only(ranges) => ranges.iter().any(|range| range.contains(&address)),
        }
    }
}

/// What orders the steps of one pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Steps {
    /// One after the other.
    Serial,
    /// By barriers alone: each before the step with this number.
    Concurrent(Vec<(usize, Reach)>),
}

impl Steps {
    /// Whether a step of the pass comes before a later one, as far as this byte goes.
    pub fn ordered(&self, one: usize, other: usize, address: usize) -> bool {
        let (first, second) = (one.min(other), one.max(other));
        match self {
            Self::Serial => true,
            Self::Concurrent(barriers) => {
                let from = barriers.partition_point(|(before, _)| *before <= first);
                let between = barriers[from..].iter();
                between
                    .take_while(|(before, _)| *before <= second)
                    .any(|(_, reach)| reach.covers(address))
            }
        }
    }

    /// How many barriers come before a step: steps between the same barriers are ordered with the same others.
    pub fn epoch(&self, step: usize) -> usize {
        match self {
            Self::Serial => step,
            Self::Concurrent(barriers) => barriers.partition_point(|(before, _)| *before <= step),
        }
    }
}

/// The number of the next pass.
static NEXT: AtomicU64 = AtomicU64::new(0);

/// A pass in the graph.
#[derive(Debug, Default)]
pub struct Node {
    id: OnceLock<u64>,
    done: AtomicBool,
    before: OnceLock<Ids>,
    /// From this step on, these come before it too: a queue barrier.
    behind: OnceLock<(usize, Ids)>,
}

impl Node {
    /// The number, given at the first call, which is at submission.
    pub fn id(&self) -> u64 {
        *self.id.get_or_init(|| NEXT.fetch_add(1, Ordering::Relaxed))
    }

    /// Whether the pass has ended.
    pub fn is_done(&self) -> bool {
        self.done.load(Ordering::Acquire)
    }

    /// The pass has ended.
    pub fn end(&self) {
        self.done.store(true, Ordering::Release);
    }

    /// The pass starts: all that comes before it is known.
    pub fn start(&self, before: Ids) {
        let _ = self.before.set(before);
    }

    /// From a step on, more comes before it.
    pub fn start_behind(&self, step: usize, before: Ids) {
        let _ = self.behind.set((step, before));
    }

    /// Whether another pass comes before this step of it.
    pub fn is_after(&self, other: u64, step: usize) -> bool {
        let of = |ids: Option<&Ids>| ids.is_some_and(|ids| ids.contains(other));
        let behind = self.behind.get().filter(|(from, _)| step >= *from);
        of(self.before.get()) || of(behind.map(|(_, ids)| ids))
    }

    /// What comes before whatever waits for its end: all before it, and itself.
    pub fn past(&self) -> Ids {
        let mut past = self.before.get().cloned().unwrap_or_default();
        if let Some((_, behind)) = self.behind.get() {
            past.join(behind);
        }
        past.insert(self.id());
        past
    }
}

/// Passes that another is to come after; those that have ended take little room.
#[derive(Clone, Debug, Default)]
pub struct Group {
    running: Vec<Arc<Node>>,
    ended: Ids,
}

impl Group {
    /// So many may be listed before those that have ended become a set.
    const MANY: usize = 16;

    /// Adds a pass.
    pub fn add(&mut self, node: &Arc<Node>) {
        if self.running.len() >= Self::MANY {
            let ended = &mut self.ended;
            self.running.retain(|node| {
                if node.is_done() {
                    ended.join(&node.past());
                }
                !node.is_done()
            });
        }
        self.running.push(node.clone());
    }

    /// Adds all passes of another.
    pub fn join(&mut self, other: &Self) {
        self.ended.join(&other.ended);
        other.running.iter().for_each(|node| self.add(node));
    }

    /// Whether all have ended.
    pub fn is_done(&self) -> bool {
        self.running.iter().all(|node| node.is_done())
    }

    /// All of them, and what is before them; of those that have ended.
    pub fn past(&self) -> Ids {
        let mut past = self.ended.clone();
        for node in &self.running {
            past.join(&node.past());
        }
        past
    }
}

/// The last writer of a resource, and who read it since.
#[derive(Debug, Default)]
struct Chain {
    writer: Group,
    readers: Group,
}

impl Chain {
    /// The next pass that uses the resource comes after those that it conflicts with.
    fn add(&mut self, node: &Arc<Node>, writes: bool, after: &mut Group) {
        after.join(&self.writer);
        if writes {
            after.join(&self.readers);
            self.readers = Group::default();
            self.writer = Group::default();
            self.writer.add(node);
        } else {
            self.readers.add(node);
        }
    }
}

/// The passes that use a tracked resource. Those of one queue follow each other as they were submitted. Between queues
/// Metal keeps them apart, but which is first is settled when they start: one may have to wait for an event that the
/// other signals.
#[derive(Debug, Default)]
pub struct Users {
    submitted: Vec<(usize, Chain)>,
    started: Chain,
}

impl Users {
    /// A pass was submitted to a queue; says what it has to wait for.
    pub fn submit(&mut self, queue: usize, node: &Arc<Node>, writes: bool, after: &mut Group) {
        let chain = match self.submitted.iter().position(|(held, _)| *held == queue) {
            Some(at) => &mut self.submitted[at].1,
            None => {
                self.submitted.push((queue, Chain::default()));
                &mut self.submitted.last_mut().expect("pushed above").1
            }
        };
        chain.add(node, writes, after);
    }

    /// A pass starts, which no other is using the resource with; says what it comes after.
    pub fn start(&mut self, node: &Arc<Node>, writes: bool) -> Ids {
        let mut after = Group::default();
        self.started.add(node, writes, &mut after);
        after.past()
    }
}

/// What the CPU knows to be over.
static SEEN: Mutex<Ids> = Mutex::new(Ids(Vec::new()));

/// What the CPU knows to be over: it comes before all that is submitted from now on.
pub fn seen() -> Ids {
    lock(&SEEN).clone()
}

/// Whether the CPU knows that a pass is over.
pub fn has_seen(id: u64) -> bool {
    lock(&SEEN).contains(id)
}

/// The CPU was shown that these are over: by a wait, a status, a handler, a shared event.
pub fn see(ids: &Ids) {
    lock(&SEEN).join(ids);
}

/// All that was submitted so far is over, and the CPU knows.
pub(crate) fn see_all() {
    let all = 0..NEXT.load(Ordering::Relaxed);
    if !all.is_empty() {
        lock(&SEEN).add(all);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(all: &[u64]) -> Ids {
        let mut ids = Ids::default();
        all.iter().for_each(|id| ids.insert(*id));
        ids
    }

    /// Every set of numbers below eight, and every pair of them.
    #[test]
    fn sets_are_what_bits_say() {
        let members = |bits: u32| (0..8).filter(move |id| bits >> id & 1 != 0);
        let set = |bits: u32| ids(&members(bits).collect::<Vec<_>>());
        for one in 0..256 {
            assert!((0..8).all(|id| set(one).contains(id) == (one >> id & 1 != 0)));
            for other in 0..256 {
                let mut joined = set(one);
                joined.join(&set(other));
                assert_eq!(joined, set(one | other), "{one:b} {other:b}");
            }
        }
        assert_eq!(ids(&[3, 5, 4]).0, vec![3..6]);
    }

    #[test]
    fn a_fence_carries_all_that_was_before_it() {
        let [a, b, c] = [(); 3].map(|()| Arc::<Node>::default());
        let all = [&a, &b, &c].map(|node| node.id());
        a.start(Ids::default());
        b.start(a.past());
        c.start(b.past());
        assert!(c.is_after(all[0], 0) && c.is_after(all[1], 0));
        assert!(!b.is_after(all[2], 0) && !a.is_after(all[0], 0));
    }

    #[test]
    fn a_queue_barrier_is_for_the_steps_behind_it() {
        let [earlier, pass] = [(); 2].map(|()| Arc::<Node>::default());
        earlier.start(Ids::default());
        pass.start(Ids::default());
        pass.start_behind(2, earlier.past());
        let after = |step| pass.is_after(earlier.id(), step);
        assert_eq!([0, 1, 2, 3].map(after), [false, false, true, true]);
        assert!(pass.past().contains(earlier.id()));
    }

    #[test]
    fn barriers_order_what_they_reach() {
        let only = Reach::Only(std::iter::once(100..200).collect());
        let steps = Steps::Concurrent(vec![(1, only), (3, Reach::All)]);
        assert!(steps.ordered(0, 1, 150) && !steps.ordered(0, 1, 200));
        assert!(!steps.ordered(1, 2, 150));
        assert!(steps.ordered(1, 3, 200) && steps.ordered(3, 0, 7));
        assert_eq!([0, 1, 2, 3].map(|step| steps.epoch(step)), [0, 1, 1, 2]);
        assert!(Steps::Serial.ordered(4, 5, 0));
    }

    #[test]
    fn users_of_a_tracked_resource_follow_each_other() {
        let mut users = Users::default();
        let mut submit = |writes| {
            let node = Arc::<Node>::default();
            node.id();
            let mut after = Group::default();
            users.submit(1, &node, writes, &mut after);
            node.start(after.past());
            (node, after)
        };
        let (write, _) = submit(true);
        let readers: Vec<_> = (0..40).map(|_| submit(false).0).collect();
        assert!(readers.iter().all(|read| read.is_after(write.id(), 0)));
        assert!(
            !readers[1].is_after(readers[0].id(), 0),
            "reads may overlap"
        );
        readers[..30].iter().for_each(|read| read.end());
        let (last, after) = submit(true);
        assert!(readers.iter().all(|read| last.is_after(read.id(), 0)));
        assert!(last.is_after(write.id(), 0));
        assert!(!after.is_done());
        readers.iter().chain([&write]).for_each(|node| node.end());
        assert!(after.is_done());
    }

    #[test]
    fn between_queues_whoever_starts_is_first() {
        let mut users = Users::default();
        let [one, other] = [(); 2].map(|()| Arc::<Node>::default());
        for (queue, node) in [(1, &one), (2, &other)] {
            let mut after = Group::default();
            node.id();
            users.submit(queue, node, true, &mut after);
            assert!(after.is_done(), "neither waits for the other");
        }
        for node in [&other, &one] {
            let before = users.start(node, true);
            node.start(before);
            node.end();
        }
        assert!(one.is_after(other.id(), 0) && !other.is_after(one.id(), 0));
    }

    #[test]
    fn a_group_stays_small_when_its_passes_end() {
        let mut group = Group::default();
        for _ in 0..1000 {
            let node = Arc::<Node>::default();
            node.start(Ids::default());
            node.end();
            group.add(&node);
        }
        assert!(group.running.len() <= Group::MANY);
        assert!(group.is_done());
    }
}
