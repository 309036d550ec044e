//! Simdgroups, quads and barriers: who waits for whom, and when they have met.
//!
//! Lanes that wait at a simd operation go on when every live lane of their simdgroup (of their quad, for a quad
//! operation) waits somewhere. If they wait at different places, the innermost call goes first, and in it the lowest
//! address: the branch before what follows it, the loop before its end. That is how lanes that went apart come together
//! again. Lanes at a threadgroup barrier are last: they need everyone.

use crate::abi::{QUAD, SIMD};
use crate::runtime::threadgroup::{Lane, Threadgroup};
use std::cmp::Reverse;
use std::ptr;

/// Lanes as bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Simdgroup {
    /// The threadgroup's index of lane 0.
    pub first: u32,
    /// Those it began with.
    pub all: u32,
    /// Those that did not end.
    pub live: u32,
    /// At an operation of the simdgroup, at one of their quad, at a barrier of the threadgroup.
    simd: u32,
    quad: u32,
    barrier: u32,
}

impl Simdgroup {
    pub fn new(index: u32, threads: u32) -> Self {
        let first = index * SIMD;
        let all = u32::MAX >> (SIMD - (threads - first).min(SIMD));
        Self {
            first,
            all,
            live: all,
            ..Self::default()
        }
    }

    pub(super) fn leave(&mut self, lane: u32) {
        self.live &= !(1 << lane);
    }

    fn waiting(&self) -> u32 {
        self.simd | self.quad | self.barrier
    }
}

/// The lanes whose bits are set.
pub fn lanes(mask: u32) -> impl DoubleEndedIterator<Item = u32> + Clone {
    (0..SIMD).filter(move |lane| mask >> lane & 1 != 0)
}

impl Threadgroup {
    /// The running lane gives `size` bytes and waits for the others' in `all`.
    pub(super) fn arrive_simd(&mut self, lane: impl FnOnce(&mut Lane), width: u32) {
        let running = self.running;
        lane(&mut self.lanes[running as usize]);
        let simdgroup = &mut self.simdgroups[(running / SIMD) as usize];
        let bit = 1 << (running % SIMD);
        if width == QUAD {
            simdgroup.quad |= bit;
        } else {
            simdgroup.simd |= bit;
        }
        self.settle((running / SIMD) as usize);
    }

    pub(super) fn arrive_barrier(&mut self) {
        let running = self.running;
        self.at_barrier += 1;
        self.simdgroups[(running / SIMD) as usize].barrier |= 1 << (running % SIMD);
        self.settle((running / SIMD) as usize);
    }

    /// A lane of this simdgroup began to wait or ended: whoever has now met goes on.
    pub(super) fn settle(&mut self, index: usize) {
        let simdgroup = self.simdgroups[index];
        if simdgroup.quad != 0 {
            for quad in 0..SIMD / QUAD {
                let members = simdgroup.live & (0xf << (quad * QUAD));
                let waits = members & simdgroup.quad != 0 && members & !simdgroup.waiting() == 0;
                if waits {
                    let met = self.earliest(&simdgroup, members);
                    if met & simdgroup.quad != 0 {
                        self.meet(index, met, members, QUAD);
                    }
                }
            }
        }
        let simdgroup = self.simdgroups[index];
        if simdgroup.simd != 0 && simdgroup.live == simdgroup.waiting() {
            let met = self.earliest(&simdgroup, simdgroup.live);
            if met & simdgroup.simd != 0 {
                self.meet(index, met, simdgroup.live, SIMD);
            }
        }
        if self.at_barrier != 0 && self.at_barrier == self.live {
            self.pass_barrier();
        }
    }

    /// Of `members` that wait for lanes of their own simdgroup, those at the place that comes first.
    fn earliest(&self, simdgroup: &Simdgroup, members: u32) -> u32 {
        let members = members & (simdgroup.simd | simdgroup.quad);
        let place = |lane: u32| {
            let waiting = &self.lanes[(simdgroup.first + lane) as usize];
            (
                Reverse(waiting.depth),
                waiting.site,
                simdgroup.simd >> lane & 1,
            )
        };
        let Some(first) = lanes(members).map(place).min() else {
            return 0;
        };
        lanes(members)
            .filter(|&lane| place(lane) == first)
            .fold(0, |met, lane| met | 1 << lane)
    }

    /// `met` exchange their values and go on; the rest of `members` waits elsewhere.
    fn meet(&mut self, index: usize, met: u32, members: u32, width: u32) {
        let simdgroup = &mut self.simdgroups[index];
        simdgroup.simd &= !met;
        simdgroup.quad &= !met;
        let first = simdgroup.first;
        // A quad has its values at lanes 0 to 3 of what it receives.
        let base = if width == QUAD {
            met.trailing_zeros() / QUAD * QUAD
        } else {
            0
        };
        // Those who met are at the same place, so the size is the same.
        let size = self.lanes[(first + met.trailing_zeros()) as usize].size;
        self.values.clear();
        self.values.resize(width as usize * size, 0);
        for lane in lanes(met) {
            let waiting = &mut self.lanes[(first + lane) as usize];
            waiting.met = met >> base;
            let value = &mut self.values[(lane - base) as usize * size..][..size];
            // SAFETY: the lane waits in `exchange`, whose caller gave `size` bytes there, or none.
            unsafe { ptr::copy_nonoverlapping(waiting.value, value.as_mut_ptr(), size) };
        }
        for lane in lanes(met) {
            let all = self.lanes[(first + lane) as usize].all;
            // SAFETY: as above; `all` has room for `width` values.
            unsafe { ptr::copy_nonoverlapping(self.values.as_ptr(), all, self.values.len()) };
        }
        if let Some(detector) = &mut self.detector {
            detector.meet(&self.lanes, &self.simdgroups[index], met, members, width);
        }
        self.ready.release(lanes(met).map(|lane| first + lane));
    }

    /// Every live lane waits at a barrier.
    fn pass_barrier(&mut self) {
        if let Some(detector) = &mut self.detector {
            detector.pass_barrier(&self.lanes, &self.simdgroups);
        }
        self.at_barrier = 0;
        let Self {
            simdgroups, ready, ..
        } = self;
        let waiting = simdgroups.iter().flat_map(|simdgroup| {
            let first = simdgroup.first;
            lanes(simdgroup.barrier).map(move |lane| first + lane)
        });
        ready.release(waiting);
        for simdgroup in &mut self.simdgroups {
            simdgroup.barrier = 0;
        }
    }
}
