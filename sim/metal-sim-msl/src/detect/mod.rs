//! The race detector: exact for the accesses a dispatch made, whatever the schedule was. Two accesses to a byte, at least
//! one of them a write and not both atomic, are a race unless one is ordered before the other (see `clock`).
//!
//! Not seen: accesses of private memory, and a step out of one buffer that lands within another.

mod atomics;
mod bounds;
mod cell;
mod clock;
mod knowledge;
mod lines;
mod meetings;
mod report;
mod shadow;
mod stamp;
mod tell;

use crate::abi::{self, Thread};
use crate::finding::Finding;
use crate::runtime::fault::NEAR_NULL;
use crate::runtime::memory::{ARENA, Memory};
use crate::runtime::shape::Shape;
use crate::runtime::stack::Stacks;
use atomics::Atomics;
pub use bounds::{Bounds, Region, loaded};
use cell::{Conflict, Now, Quick, Spills};
use clock::Clock;
pub use lines::Lines;
use report::{Raw, RawAccess, Report};
use shadow::{Deed, PAGE, Page, Seen};
use stamp::Stamp;
use std::collections::HashMap;
use std::ops::Range;

/// Recently accessed pages, by a hash of their number.
const RECENT: usize = 256;

/// A page, or a part of one, that belongs to one buffer; or to nobody's business, if it has no cells.
#[derive(Clone, Copy)]
struct Recent {
    number: usize,
    start: usize,
    end: usize,
    page: Option<u32>,
}

const NO_PAGE: Recent = Recent {
    number: usize::MAX,
    start: 0,
    end: 0,
    page: None,
};

/// The detector of one dispatch.
pub struct Detector {
    clock: Clock,
    atomics: Atomics,
    report: Report,
    bounds: Bounds,
    /// Where the library's offsets begin.
    base: usize,
    recent: Box<[Recent; RECENT]>,
    pages: Vec<Page>,
    by_number: HashMap<usize, u32>,
    spills: Spills,
    /// Threadgroup memory has cells of its own, forgotten with every threadgroup.
    arena: Vec<Page>,
    arena_touched: u64,
    arena_spills: Spills,
    threads: Range<usize>,
}

impl Detector {
    pub fn new(
        kernel: &str,
        lines: Lines,
        shape: Shape,
        bounds: Bounds,
        base: usize,
        strict: bool,
    ) -> Box<Self> {
        Box::new(Self {
            clock: Clock::new(strict),
            atomics: Atomics::default(),
            report: Report::new(kernel, lines, shape),
            bounds,
            base,
            recent: Box::new([NO_PAGE; RECENT]),
            pages: Vec::new(),
            by_number: HashMap::new(),
            spills: Spills::default(),
            arena: (0..ARENA / PAGE).map(|_| Page::new()).collect(),
            arena_touched: 0,
            arena_spills: Spills::default(),
            threads: 0..0,
        })
    }

    pub fn into_findings(self) -> Vec<Finding> {
        self.report.into_findings()
    }

    /// The threadgroup with these threads begins; `number` is its number in the dispatch.
    pub fn begin_threadgroup(&mut self, threads: &[Thread], number: u64, arena: usize) {
        self.clock.begin(number as u32 + 1, threads.len());
        self.atomics.begin_threadgroup();
        self.atomics.forget(arena..arena + ARENA);
        for (index, page) in self.arena.iter_mut().enumerate() {
            if self.arena_touched >> index & 1 != 0 {
                page.clear();
            }
        }
        self.arena_touched = 0;
        self.arena_spills.clear();
        let range = threads.as_ptr_range();
        let threads = range.start.addr()..range.end.addr();
        if self.threads != threads {
            self.recent.fill(NO_PAGE);
            self.threads = threads;
        }
    }

    /// A plain access. False: it must not be made.
    #[inline]
    pub fn access(&mut self, place: Access, memory: &Memory, stacks: &Stacks) -> bool {
        let deed = Deed {
            reads: place.kind != abi::WRITE,
            writes: place.kind != abi::READ,
            atomic: false,
        };
        self.check(place, deed, memory, stacks)
    }

    /// An access by an atomic function. False: it must not be made.
    pub fn atomic(&mut self, place: Access, order: u32, memory: &Memory, stacks: &Stacks) -> bool {
        let deed = Deed {
            reads: place.kind != abi::WRITE,
            writes: place.kind != abi::READ,
            atomic: true,
        };
        if !self.check(place, deed, memory, stacks) {
            return false;
        }
        self.atomics
            .access(&mut self.clock, place.at, place.lane, deed, order);
        true
    }

    pub fn fence(&mut self, order: u32, lane: u32) {
        self.atomics.fence(&mut self.clock, lane, order);
    }

    #[inline(always)]
    fn check(&mut self, place: Access, deed: Deed, memory: &Memory, stacks: &Stacks) -> bool {
        let Access { at, size, .. } = place;
        if size == 0 {
            return true;
        }
        if at.wrapping_sub(memory.address()) < ARENA {
            return self.check_threadgroup(place, deed, memory);
        }
        let number = at / PAGE;
        let recent = self.recent[(number ^ number >> 8) % RECENT];
        if recent.number == number && recent.start <= at && at + size <= recent.end {
            if let Some(page) = recent.page {
                let quick = self.quick(place, clock::DEVICE);
                if deed.atomic || !self.pages[page as usize].quick(at % PAGE, size, deed, quick) {
                    self.check_page(place, deed, page);
                }
            }
            return true;
        }
        self.check_slowly(place, deed, stacks)
    }

    #[inline]
    fn now(&self, place: Access, kind: usize) -> (Stamp, usize) {
        let time = self.clock.times[place.lane as usize];
        let pc = place.pc.wrapping_sub(self.base) as u32;
        (
            Stamp::new(self.clock.group, time, pc, place.lane, place.size),
            self.clock.kind(kind),
        )
    }

    #[inline(always)]
    fn quick(&self, place: Access, kind: usize) -> Quick {
        let (stamp, index) = self.now(place, kind);
        Quick {
            stamp,
            barrier: self.clock.barrier[index],
            foreign: !self.clock.any_knowledge,
            fresh: kind == clock::THREADGROUP,
        }
    }

    #[inline(never)]
    fn check_page(&mut self, place: Access, deed: Deed, page: u32) {
        let (stamp, kind) = self.now(place, clock::DEVICE);
        let now = Now {
            stamp,
            kind,
            clock: &self.clock,
            fresh: false,
        };
        let seen = self.pages[page as usize].access(
            &mut self.spills,
            &now,
            place.at % PAGE,
            place.size,
            deed,
        );
        if seen != Seen::default() {
            self.tell_device(place, stamp, seen);
        }
    }

    /// The first access to a page of late, one that spans two, or one that is out of bounds.
    #[cold]
    fn check_slowly(&mut self, place: Access, deed: Deed, stacks: &Stacks) -> bool {
        let mut at = place.at;
        let end = place.at.saturating_add(place.size);
        while at < end {
            let number = at / PAGE;
            let page = number * PAGE..(number + 1) * PAGE;
            let (range, cells) = match self.bounds.owner(at) {
                bounds::Owner::Buffer(index) => {
                    let buffer = &self.bounds.buffers[index];
                    (buffer.start..buffer.start + buffer.length, true)
                }
                bounds::Owner::Quiet(range) => (range, false),
                bounds::Owner::Nobody if self.threads.contains(&at) => {
                    (self.threads.clone(), false)
                }
                bounds::Owner::Nobody if stacks.place(at).is_some() => (page.clone(), false),
                bounds::Owner::Nobody if self.bounds.unbound && at < NEAR_NULL => return true,
                bounds::Owner::Nobody => return self.out_of_bounds(place, deed),
            };
            let (start, stop) = (range.start.max(page.start), range.end.min(page.end));
            let index = cells.then(|| self.page(number));
            let recent = Recent {
                number,
                start,
                end: stop,
                page: index,
            };
            self.recent[(number ^ number >> 8) % RECENT] = recent;
            if let Some(index) = index {
                self.check_page(
                    Access {
                        at,
                        size: stop.min(end) - at,
                        ..place
                    },
                    deed,
                    index,
                );
            }
            at = stop;
        }
        true
    }

    fn page(&mut self, number: usize) -> u32 {
        *self.by_number.entry(number).or_insert_with(|| {
            self.pages.push(Page::new());
            self.pages.len() as u32 - 1
        })
    }

    fn check_threadgroup(&mut self, place: Access, deed: Deed, memory: &Memory) -> bool {
        let offset = place.at - memory.address();
        let end = offset + place.size;
        let Some(owner) = memory
            .owner(offset)
            .filter(|owner| end <= owner.start + owner.size)
        else {
            return self.out_of_threadgroup_bounds(place, deed, memory);
        };
        let quick = self.quick(place, clock::THREADGROUP);
        let inside = offset % PAGE + place.size <= PAGE;
        self.arena_touched |= 1 << (offset / PAGE) | 1 << ((end - 1) / PAGE);
        if inside
            && !deed.atomic
            && self.arena[offset / PAGE].quick(offset % PAGE, place.size, deed, quick)
        {
            return true;
        }
        let (stamp, kind) = self.now(place, clock::THREADGROUP);
        let mut at = offset;
        while at < end {
            let page = at / PAGE;
            let stop = end.min((page + 1) * PAGE);
            let now = Now {
                stamp,
                kind,
                clock: &self.clock,
                fresh: true,
            };
            let seen =
                self.arena[page].access(&mut self.arena_spills, &now, at % PAGE, stop - at, deed);
            if seen != Seen::default() {
                self.tell_threadgroup(place, stamp, seen, memory, owner, page * PAGE);
            }
            at = stop;
        }
        true
    }
}

/// An access as a kernel reports it.
#[derive(Clone, Copy, Debug)]
pub struct Access {
    pub at: usize,
    pub size: usize,
    /// READ, WRITE or both.
    pub kind: u32,
    pub pc: usize,
    pub lane: u32,
}
