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

    /// Whether all of another set are in it.
    pub fn has_all(&self, other: &Self) -> bool {
        other.0.iter().all(|range| {
            let at = self.0.partition_point(|own| own.end < range.end);
            self.0.get(at).is_some_and(|own| own.start <= range.start)
        })
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

/// The number of the next pass, or part of one.
static NEXT: AtomicU64 = AtomicU64::new(0);

/// A pass in the graph. An update of a fence covers what was encoded before it and no more, so a pass has a number for
/// each of the parts that its updates cut it into.
#[derive(Debug, Default)]
pub struct Node {
    numbers: OnceLock<Numbers>,
    done: AtomicBool,
    /// What comes before its steps, each from a step on: a wait for a fence is for what was encoded after it.
    before: OnceLock<Vec<(usize, Ids)>>,
}

#[derive(Debug)]
struct Numbers {
    first: u64,
    /// The steps before which it is cut.
    cuts: Vec<usize>,
}

/// How much of a pass: up to the cut with this index, or everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The steps before a cut.
    UpTo(usize),
    /// All steps.
    Whole,
}

impl Node {
    /// Gives it its numbers: it is submitted. `cuts` are in order.
    pub fn submit(&self, cuts: Vec<usize>) {
        self.numbers.get_or_init(|| {
            let parts = cuts.len() as u64 + 1;
            let first = NEXT.fetch_add(parts, Ordering::Relaxed);
            Numbers { first, cuts }
        });
    }

    fn numbers(&self) -> &Numbers {
        self.numbers.get().expect("it was submitted")
    }

    /// The first of its numbers, which are in order of submission.
    pub fn number(&self) -> u64 {
        self.numbers().first
    }

    /// The number of the part that a step is in.
    pub fn id(&self, step: usize) -> u64 {
        let Numbers { first, cuts } = self.numbers();
        first + cuts.partition_point(|cut| *cut <= step) as u64
    }

    /// Whether the pass has ended.
    pub fn is_done(&self) -> bool {
        self.done.load(Ordering::Acquire)
    }

    /// The pass has ended.
    pub fn end(&self) {
        self.done.store(true, Ordering::Release);
    }

    /// The pass starts: all that comes before its steps is known.
    pub fn start(&self, before: Vec<(usize, Ids)>) {
        let _ = self.before.set(before);
    }

    fn before(&self) -> &[(usize, Ids)] {
        self.before.get().map_or(&[], Vec::as_slice)
    }

    /// Whether another pass, or part of one, comes before this step of it.
    pub fn is_after(&self, other: u64, step: usize) -> bool {
        let mut before = self.before().iter();
        before.any(|(from, ids)| *from <= step && ids.contains(other))
    }

    /// Whether whatever is before or after one step is so for the other.
    pub fn are_alike(&self, one: usize, other: usize) -> bool {
        let waits = |step: usize| {
            self.before()
                .iter()
                .filter(|(from, _)| *from <= step)
                .count()
        };
        self.id(one) == self.id(other) && waits(one) == waits(other)
    }

    /// What comes before whatever waits for this much of it: that, and all before it.
    pub fn past(&self, part: Part) -> Ids {
        let Numbers { first, cuts } = self.numbers();
        let (last, step) = match part {
            Part::UpTo(cut) => (cut, cuts[cut]),
            Part::Whole => (cuts.len(), usize::MAX),
        };
        let mut past = Ids::default();
        for (_, ids) in self.before().iter().filter(|(from, _)| *from <= step) {
            past.join(ids);
        }
        past.add(*first..first + last as u64 + 1);
        past
    }
}

/// Passes that another is to come after; those that have ended take little room.
#[derive(Clone, Debug, Default)]
pub struct Group {
    running: Vec<(Arc<Node>, Part)>,
    ended: Ids,
}

impl Group {
    /// So many may be listed before those that have ended become a set.
    const MANY: usize = 16;

    /// Adds a pass.
    pub fn add(&mut self, node: &Arc<Node>, part: Part) {
        if self.running.len() >= Self::MANY {
            let ended = &mut self.ended;
            self.running.retain(|(node, part)| {
                if node.is_done() {
                    ended.join(&node.past(*part));
                }
                !node.is_done()
            });
        }
        self.running.push((node.clone(), part));
    }

    /// Adds all passes of another.
    pub fn join(&mut self, other: &Self) {
        self.ended.join(&other.ended);
        for (node, part) in &other.running {
            self.add(node, *part);
        }
    }

    /// Whether all have ended.
    pub fn is_done(&self) -> bool {
        self.running.iter().all(|(node, _)| node.is_done())
    }

    /// All of them, and what is before them; of those that have ended.
    pub fn past(&self) -> Ids {
        let mut past = self.ended.clone();
        for (node, part) in &self.running {
            past.join(&node.past(*part));
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
            self.writer.add(node, Part::Whole);
        } else {
            self.readers.add(node, Part::Whole);
        }
    }

    /// Whether the CPU knows that all of them are over: nothing is to be learnt here any more.
    fn is_seen(&self) -> bool {
        let seen = |group: &Group| group.is_done() && lock(&SEEN).has_all(&group.past());
        seen(&self.writer) && seen(&self.readers)
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
                // A queue may be gone.
                self.submitted.retain(|(_, chain)| !chain.is_seen());
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
        all.iter().for_each(|id| ids.add(*id..*id + 1));
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
                let all = one & other == other;
                assert_eq!(set(one).has_all(&set(other)), all, "{one:b} {other:b}");
            }
        }
        assert_eq!(ids(&[3, 5, 4]).0, vec![3..6]);
    }

    /// A pass that was submitted, with updates of fences before these steps.
    fn submitted(cuts: &[usize]) -> Arc<Node> {
        let node = Arc::<Node>::default();
        node.submit(cuts.to_vec());
        node
    }

    #[test]
    fn a_fence_carries_all_that_was_before_it() {
        let [a, b, c] = [(); 3].map(|()| submitted(&[]));
        a.start(Vec::new());
        b.start(vec![(0, a.past(Part::Whole))]);
        c.start(vec![(0, b.past(Part::Whole))]);
        assert!(c.is_after(a.id(0), 0) && c.is_after(b.id(7), 0));
        assert!(!b.is_after(c.id(0), 0) && !a.is_after(b.id(0), 0));
    }

    #[test]
    fn an_update_covers_what_is_before_it_and_a_wait_what_is_behind_it() {
        let [a, b] = [submitted(&[1, 3]), submitted(&[])];
        a.start(Vec::new());
        b.start(vec![(2, a.past(Part::UpTo(0))), (4, a.past(Part::UpTo(1)))]);
        let after = |step| [0, 1, 2, 3].map(|of_a| b.is_after(a.id(of_a), step));
        assert_eq!(after(1), [false; 4]);
        assert_eq!(after(2), [true, false, false, false]);
        assert_eq!(after(4), [true, true, true, false]);
        assert!(b.are_alike(2, 3) && !b.are_alike(1, 2) && !a.are_alike(0, 1) && a.are_alike(1, 2));
        assert!(b.past(Part::Whole).contains(a.id(2)));
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
            let node = submitted(&[]);
            let mut after = Group::default();
            users.submit(1, &node, writes, &mut after);
            node.start(vec![(0, after.past())]);
            (node, after)
        };
        let (write, _) = submit(true);
        let readers: Vec<_> = (0..40).map(|_| submit(false).0).collect();
        assert!(readers.iter().all(|read| read.is_after(write.id(0), 0)));
        assert!(
            !readers[1].is_after(readers[0].id(0), 0),
            "reads may overlap"
        );
        readers[..30].iter().for_each(|read| read.end());
        let (last, after) = submit(true);
        assert!(readers.iter().all(|read| last.is_after(read.id(0), 0)));
        assert!(last.is_after(write.id(0), 0));
        assert!(!after.is_done());
        readers.iter().chain([&write]).for_each(|node| node.end());
        assert!(after.is_done());
    }

    #[test]
    fn between_queues_whoever_starts_is_first() {
        let mut users = Users::default();
        let [one, other] = [(); 2].map(|()| submitted(&[]));
        for (queue, node) in [(1, &one), (2, &other)] {
            let mut after = Group::default();
            users.submit(queue, node, true, &mut after);
            assert!(after.is_done(), "neither waits for the other");
        }
        for node in [&other, &one] {
            let before = users.start(node, true);
            node.start(vec![(0, before)]);
            node.end();
        }
        assert!(one.is_after(other.id(0), 0) && !other.is_after(one.id(0), 0));
    }

    #[test]
    fn a_group_stays_small_when_its_passes_end() {
        let mut group = Group::default();
        for _ in 0..1000 {
            let node = submitted(&[]);
            node.start(Vec::new());
            node.end();
            group.add(&node, Part::Whole);
        }
        assert!(group.running.len() <= Group::MANY);
        assert!(group.is_done());
    }
}
