//! The threads of a threadgroup that can go on, and who of them does: the schedule.

use crate::dispatch::Schedule;
use std::collections::VecDeque;

/// A small generator (SplitMix64): schedules must not change with a version of a crate.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A number below `end`.
    pub fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        ((u128::from(mixed) * end as u128) >> 64) as usize
    }
}

/// Lanes by their index in the threadgroup, in the order in which they became ready.
pub struct Ready {
    lanes: VecDeque<u32>,
    schedule: Schedule,
    random: Random,
}

impl Ready {
    pub fn new() -> Self {
        Self {
            lanes: VecDeque::new(),
            schedule: Schedule::Fifo,
            random: Random::new(0),
        }
    }

    /// Begins a threadgroup. A threadgroup's order depends on the seed and on which one it is, not on who runs it.
    pub fn begin(&mut self, schedule: Schedule, threadgroup: u64) {
        self.lanes.clear();
        self.schedule = schedule;
        if let Schedule::Random(seed) = schedule {
            self.random = Random::new(seed ^ threadgroup.wrapping_mul(0xd1b5_4a32_d192_ed03));
        }
    }

    /// Several lanes became ready at once; they come in their order.
    pub fn release(&mut self, lanes: impl DoubleEndedIterator<Item = u32>) {
        match self.schedule {
            Schedule::Reverse => self.lanes.extend(lanes.rev()),
            Schedule::Fifo | Schedule::Lifo | Schedule::Random(_) => self.lanes.extend(lanes),
        }
    }

    /// Who goes on.
    pub fn next(&mut self) -> Option<u32> {
        match self.schedule {
            Schedule::Fifo | Schedule::Reverse => self.lanes.pop_front(),
            Schedule::Lifo => self.lanes.pop_back(),
            Schedule::Random(_) if self.lanes.is_empty() => None,
            Schedule::Random(_) => {
                let index = self.random.below(self.lanes.len());
                self.lanes.swap_remove_front(index)
            }
        }
    }

    /// A lane steps back behind all that are ready. False: it is alone.
    pub fn step_back(&mut self, lane: u32) -> bool {
        if self.lanes.is_empty() {
            return false;
        }
        match self.schedule {
            Schedule::Lifo => self.lanes.push_front(lane),
            _ => self.lanes.push_back(lane),
        }
        true
    }
}

/// The order in which the threadgroups of a dispatch begin.
#[derive(Clone, Copy, Debug)]
pub struct Order {
    start: u64,
    step: u64,
    count: u64,
}

impl Order {
    pub fn new(schedule: Schedule, count: u64) -> Self {
        let count = count.max(1);
        let (start, step) = match schedule {
            Schedule::Fifo | Schedule::Lifo => (0, 1),
            Schedule::Reverse => (count - 1, count - 1),
            Schedule::Random(seed) => {
                let mut random = Random::new(seed);
                let mut step = random.below(count as usize) as u64 | 1;
                // A step without common factors visits each once.
                while common_factor(step, count) != 1 {
                    step += 2;
                }
                (random.below(count as usize) as u64, step)
            }
        };
        Self { start, step, count }
    }

    /// The threadgroup that begins after `index` others.
    pub fn at(&self, index: u64) -> u64 {
        let product = u128::from(index) * u128::from(self.step) + u128::from(self.start);
        (product % u128::from(self.count)) as u64
    }
}

fn common_factor(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { common_factor(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(schedule: Schedule) -> Vec<u32> {
        let mut ready = Ready::new();
        ready.begin(schedule, 3);
        ready.release(0..4);
        let first = ready.next().unwrap();
        ready.release(8..10);
        [first]
            .into_iter()
            .chain(std::iter::from_fn(|| ready.next()))
            .collect()
    }

    #[test]
    fn schedules_differ_as_they_say() {
        assert_eq!(order(Schedule::Fifo), [0, 1, 2, 3, 8, 9]);
        assert_eq!(order(Schedule::Reverse), [3, 2, 1, 0, 9, 8]);
        assert_eq!(order(Schedule::Lifo), [3, 9, 8, 2, 1, 0]);
        let (one, again, other) = (
            order(Schedule::Random(1)),
            order(Schedule::Random(1)),
            order(Schedule::Random(2)),
        );
        assert_eq!(one, again);
        assert_ne!(one, other);
    }

    #[test]
    fn every_threadgroup_runs_once() {
        for schedule in [
            Schedule::Fifo,
            Schedule::Reverse,
            Schedule::Lifo,
            Schedule::Random(5),
            Schedule::Random(6),
        ] {
            for count in [1, 2, 3, 30, 1155] {
                let order = Order::new(schedule, count);
                let mut seen: Vec<u64> = (0..count).map(|index| order.at(index)).collect();
                seen.sort_unstable();
                assert!(seen.into_iter().eq(0..count), "{schedule:?} {count}");
            }
        }
    }
}
