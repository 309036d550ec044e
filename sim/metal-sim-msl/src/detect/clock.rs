//! What happened before what: the clocks of a threadgroup's threads.
//!
//! Threadgroups run one after the other, and so do their times: a time says which threadgroup it is of. A thread's grows at whatever can order its accesses before another's. At a barrier all take the same new time,
//! so everything earlier is ordered by one comparison. Between barriers, a thread knows of the lanes of its simdgroup up
//! to which time it met them. What acquire and release add, in rare kernels, is a [`Knowledge`] of its own.

use crate::abi;
use crate::detect::knowledge::{Knowledge, Known};
use crate::detect::stamp::{FIRST, Stamp};
use crate::runtime::simdgroup::{Simdgroup, lanes};
use std::sync::Arc;

/// Kinds of memory that strict mode tells apart; otherwise all is [`DEVICE`].
pub const DEVICE: usize = 0;
pub const THREADGROUP: usize = 1;

/// The clocks of the running threadgroup.
pub struct Clock {
    /// When it began.
    pub start: u32,
    /// Which it is, and which ran before, by when they began.
    groups: Vec<(u32, u32)>,
    /// A barrier orders only the memory its flags name.
    pub strict: bool,
    /// By lane.
    pub times: Vec<u32>,
    /// Accesses before this time are ordered before everything now, by kind of memory.
    pub barrier: [u32; 2],
    /// By kind and lane: up to which time the lanes of its simdgroup are ordered before it.
    seen: [Vec<[u32; 32]>; 2],
    /// The least of these: a quick answer for many lanes.
    all_seen: [Vec<u32>; 2],
    knowledge: Vec<Option<Arc<Knowledge>>>,
    /// Whether any lane has some.
    pub any_knowledge: bool,
}

impl Clock {
    pub fn new(strict: bool) -> Self {
        Self {
            start: FIRST,
            groups: Vec::new(),
            strict,
            times: Vec::new(),
            barrier: [FIRST; 2],
            seen: [Vec::new(), Vec::new()],
            all_seen: [Vec::new(), Vec::new()],
            knowledge: Vec::new(),
            any_knowledge: false,
        }
    }

    pub fn begin(&mut self, group: u32, lanes: usize) {
        fn reset<T: Clone>(values: &mut Vec<T>, count: usize, value: T) {
            values.clear();
            values.resize(count, value);
        }
        self.start = self.times.iter().max().map_or(FIRST, |last| last + 1);
        self.groups.push((self.start, group));
        self.barrier = [self.start; 2];
        reset(&mut self.times, lanes, self.start);
        for kind in 0..=usize::from(self.strict) {
            reset(&mut self.seen[kind], lanes, [0; 32]);
            reset(&mut self.all_seen[kind], lanes, 0);
        }
        reset(&mut self.knowledge, lanes, None);
        self.any_knowledge = false;
    }

    /// Whether times come to their end. Then all is to be forgotten, and [`Clock::restart`] called.
    pub fn is_late(&self) -> bool {
        self.start > u32::MAX / 2
    }

    pub fn restart(&mut self) {
        self.times.clear();
        self.groups.clear();
    }

    /// The threadgroup of an access.
    pub fn group(&self, access: Stamp) -> u32 {
        let after = self
            .groups
            .partition_point(|(start, _)| *start <= access.time);
        self.groups[after.max(1) - 1].1
    }

    /// Whether an access is of the running threadgroup.
    #[inline]
    pub fn is_present(&self, access: Stamp) -> bool {
        access.time >= self.start
    }

    /// The accesses of a lane's simdgroup up to this time are ordered before it.
    #[inline]
    pub fn all_seen(&self, kind: usize, lane: u32) -> u32 {
        self.all_seen[kind][lane as usize]
    }

    /// The index of a kind of memory.
    #[inline]
    pub fn kind(&self, kind: usize) -> usize {
        if self.strict { kind } else { DEVICE }
    }

    /// Whether `earlier` is ordered before what `lane` does now.
    #[inline]
    pub fn ordered(&self, earlier: Stamp, kind: usize, lane: u32) -> bool {
        if self.is_present(earlier) {
            let its = earlier.lane();
            if its == lane || earlier.time < self.barrier[kind] {
                return true;
            }
            let same = its / 32 == lane / 32;
            if same && self.seen[kind][lane as usize][(its % 32) as usize] >= earlier.time {
                return true;
            }
        }
        self.any_knowledge && self.knows(earlier, kind, lane)
    }

    /// The same for the lanes of a mask of one simdgroup, which made their accesses at the same time: the first that is
    /// not ordered.
    #[inline]
    pub fn unordered(&self, earlier: Stamp, mask: u32, kind: usize, lane: u32) -> Option<Stamp> {
        if self.is_present(earlier) {
            if earlier.time < self.barrier[kind] {
                return None;
            }
            let same = earlier.simdgroup() == lane / 32;
            if same
                && (mask == 1 << (lane % 32) || earlier.time <= self.all_seen[kind][lane as usize])
            {
                return None;
            }
        }
        let first = earlier.lane() / 32 * 32;
        lanes(mask)
            .map(|bit| earlier.with_lane(first + bit))
            .find(|&one| !self.ordered(one, kind, lane))
    }

    #[cold]
    fn knows(&self, earlier: Stamp, kind: usize, lane: u32) -> bool {
        self.knowledge[lane as usize]
            .as_ref()
            .is_some_and(|known| known.has(self.group(earlier), earlier, kind))
    }

    /// The kinds of memory that a barrier with these flags orders; None: values were exchanged.
    fn ordered_kinds(&self, flags: Option<u32>) -> impl Iterator<Item = usize> + use<> {
        let (device, threadgroup) = match (self.strict, flags) {
            (false, _) => (true, false),
            (true, None) => (false, false),
            (true, Some(flags)) => (
                flags & abi::MEM_DEVICE != 0,
                flags & abi::MEM_THREADGROUP != 0,
            ),
        };
        [device, threadgroup]
            .into_iter()
            .enumerate()
            .filter_map(|(kind, orders)| orders.then_some(kind))
    }

    /// Lanes of a simdgroup met.
    pub fn meet(&mut self, simdgroup: &Simdgroup, met: u32, flags: Option<u32>) {
        let first = simdgroup.first as usize;
        let members = || lanes(met).map(move |lane| first + lane as usize);
        let latest = members().map(|lane| self.times[lane]).max().unwrap_or(0);
        let earliest = members().map(|lane| self.times[lane]).min().unwrap_or(0);
        for kind in self.ordered_kinds(flags) {
            let mut joined = [0; 32];
            for lane in members() {
                for (joined, seen) in joined.iter_mut().zip(&self.seen[kind][lane]) {
                    *joined = (*joined).max(*seen);
                }
            }
            for lane in members() {
                joined[lane - first] = self.times[lane];
            }
            for lane in members() {
                self.seen[kind][lane] = joined;
                if met == simdgroup.all {
                    self.all_seen[kind][lane] = earliest;
                }
            }
        }
        for lane in members() {
            self.times[lane] = latest + 1;
        }
        if self.any_knowledge {
            self.share(members().collect::<Vec<_>>());
        }
    }

    /// All live lanes passed a barrier.
    pub fn pass_barrier(&mut self, flags: u32) {
        let now = self.times.iter().max().map_or(1, |latest| latest + 1);
        for kind in self.ordered_kinds(Some(flags)) {
            self.barrier[kind] = now;
        }
        self.times.fill(now);
        if self.any_knowledge {
            self.share((0..self.times.len()).collect());
        }
    }

    fn share(&mut self, members: Vec<usize>) {
        let all = members
            .iter()
            .filter_map(|&lane| self.knowledge[lane].clone())
            .reduce(Knowledge::join);
        for lane in members {
            self.knowledge[lane].clone_from(&all);
        }
    }

    /// What another thread learns that acquires what `lane` releases now.
    pub fn release(&mut self, lane: u32) -> Arc<Knowledge> {
        let index = lane as usize;
        let mut known = Known {
            before: [self.barrier[DEVICE], self.barrier[self.kind(THREADGROUP)]],
            ..Known::default()
        };
        // In strict mode, what is ordered for both kinds.
        let kinds = 1 + usize::from(self.strict);
        for other in 0..32 {
            let time = (0..kinds)
                .map(|kind| self.seen[kind][index][other as usize])
                .min()
                .unwrap_or(0);
            known.lanes.insert(lane / 32 * 32 + other, time);
        }
        known.lanes.insert(lane, self.times[index]);
        self.times[index] += 1;
        let own = Knowledge::of(self.groups[self.groups.len() - 1].1, known);
        match &self.knowledge[index] {
            Some(more) => Knowledge::join(own, Arc::clone(more)),
            None => own,
        }
    }

    /// `lane` acquires what was released.
    pub fn acquire(&mut self, lane: u32, released: Arc<Knowledge>) {
        let mine = &mut self.knowledge[lane as usize];
        *mine = Some(match mine.take() {
            Some(known) => Knowledge::join(known, released),
            None => released,
        });
        self.any_knowledge = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamp(clock: &Clock, lane: u32) -> Stamp {
        Stamp::new(clock.times[lane as usize], 0, lane, 4)
    }

    #[test]
    fn lanes_that_met_are_ordered_and_others_are_not() {
        let mut clock = Clock::new(false);
        clock.begin(1, 64);
        let simdgroup = Simdgroup::new(0, 64);
        let before: Vec<Stamp> = (0..64).map(|lane| stamp(&clock, lane)).collect();
        clock.meet(&simdgroup, 0x0000_ffff, None);
        let after = stamp(&clock, 3);
        assert!(clock.ordered(before[15], DEVICE, 0));
        assert!(!clock.ordered(before[16], DEVICE, 0) && !clock.ordered(before[15], DEVICE, 16));
        assert!(!clock.ordered(after, DEVICE, 4));
        // Through lane 15, lane 31 learns of lane 0.
        clock.meet(&simdgroup, 0x8000_8000, None);
        assert!(clock.ordered(before[0], DEVICE, 31) && !clock.ordered(after, DEVICE, 31));
        assert!(!clock.ordered(before[40], DEVICE, 31));
        clock.pass_barrier(0);
        assert!(clock.ordered(before[40], DEVICE, 31) && clock.ordered(after, DEVICE, 63));
    }

    #[test]
    fn strict_barriers_order_what_they_name() {
        let mut clock = Clock::new(true);
        clock.begin(1, 64);
        let before = stamp(&clock, 0);
        clock.meet(&Simdgroup::new(0, 64), u32::MAX, None);
        assert!(!clock.ordered(before, DEVICE, 1));
        clock.meet(&Simdgroup::new(0, 64), u32::MAX, Some(abi::MEM_THREADGROUP));
        assert!(clock.ordered(before, THREADGROUP, 1) && !clock.ordered(before, DEVICE, 1));
        clock.pass_barrier(abi::MEM_DEVICE);
        assert!(clock.ordered(before, DEVICE, 40) && !clock.ordered(before, THREADGROUP, 40));
    }

    #[test]
    fn a_time_tells_the_threadgroup_and_times_can_begin_anew() {
        let mut clock = Clock::new(false);
        clock.begin(7, 32);
        let early = stamp(&clock, 0);
        clock.begin(3, 32);
        let now = stamp(&clock, 0);
        assert_eq!((clock.group(early), clock.group(now)), (7, 3));
        assert!(!clock.is_present(early) && clock.is_present(now));
        clock.times[0] = u32::MAX / 2;
        clock.begin(4, 32);
        assert!(clock.is_late());
        clock.restart();
        clock.begin(5, 32);
        assert!(!clock.is_late());
        assert_eq!(clock.group(stamp(&clock, 0)), 5);
    }

    #[test]
    fn acquire_orders_across_threadgroups_and_passes_on() {
        let mut clock = Clock::new(false);
        clock.begin(1, 32);
        let before = stamp(&clock, 5);
        let released = clock.release(5);
        let after = stamp(&clock, 5);
        clock.begin(2, 64);
        clock.acquire(40, released);
        assert!(clock.ordered(before, DEVICE, 40) && !clock.ordered(after, DEVICE, 40));
        assert!(!clock.ordered(before, DEVICE, 41));
        clock.meet(&Simdgroup::new(1, 64), u32::MAX, None);
        assert!(clock.ordered(before, DEVICE, 41) && !clock.ordered(before, DEVICE, 0));
        clock.pass_barrier(0);
        assert!(clock.ordered(before, DEVICE, 0));
    }
}
