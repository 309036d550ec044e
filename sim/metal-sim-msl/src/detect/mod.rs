//! The race detector: exact for the accesses a dispatch made, whatever the schedule was. Two accesses to a byte, at least
//! one of them a write and not both atomic, are a race unless one is ordered before the other (see `clock`).
//!
//! Compiled kernels decide most accesses themselves, in what [`Detector::watch`] shares with them; what comes here is
//! the rest, and the first access to a page.
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
mod touched;

use crate::abi::{self, Thread};
use crate::dispatch::Outcome;
use crate::runtime::fault::NEAR_NULL;
use crate::runtime::memory::{ARENA, Memory};
use crate::runtime::shape::Shape;
use crate::runtime::stack::Stacks;
use atomics::Atomics;
pub use bounds::{Bounds, Region, loaded};
pub use cell::Cell;
use cell::{Conflict, Now, Spills};
use clock::Clock;
pub use lines::Lines;
use report::{Raw, RawAccess, Report};
use shadow::{Deed, PAGE, Page, Seen};
use stamp::Stamp;
use std::collections::HashMap;
use std::ops::Range;
use touched::Touched;

const NO_PAGE: abi::Page = abi::Page {
    tag: u64::MAX,
    cells: 0,
    from: 0,
    to: 0,
    kind: 0,
    unused: 0,
};

/// The detector of one dispatch.
pub struct Detector {
    clock: Clock,
    atomics: Atomics,
    report: Report,
    bounds: Bounds,
    /// Where the library's offsets begin.
    base: usize,
    watch: Box<abi::Watch>,
    /// With their numbers.
    pages: Vec<(usize, Page)>,
    by_number: HashMap<usize, u32>,
    spills: Spills,
    /// Threadgroup memory has cells of its own, forgotten with every threadgroup.
    arena: Vec<Page>,
    arena_touched: u64,
    arena_spills: Spills,
    threads: Range<usize>,
    /// If somebody asked.
    touched: Option<Touched>,
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
            watch: Box::new(abi::Watch {
                base: base as u64,
                now: 0,
                lane: 0,
                start: 0,
                foreign: 0,
                barrier: [0; 2],
                seen: [0; 2],
                pages: [NO_PAGE; abi::PAGES],
            }),
            pages: Vec::new(),
            by_number: HashMap::new(),
            spills: Spills::default(),
            arena: (0..ARENA / PAGE).map(|_| Page::new()).collect(),
            arena_touched: 0,
            arena_spills: Spills::default(),
            threads: 0..0,
            touched: None,
        })
    }

    /// Notes which bytes of the buffers that count are read and written.
    pub fn count_traffic(&mut self) {
        self.touched = Some(Touched::default());
    }

    /// What the library looks at while the dispatch runs.
    pub fn watch(&mut self) -> *mut abi::Watch {
        &raw mut *self.watch
    }

    /// The end of the dispatch: what it wrote to private buffers is kept with them.
    pub fn into_outcome(mut self) -> Outcome {
        self.keep_written();
        self.keep_touched();
        shadow::give_back(self.pages.into_iter().map(|(_, page)| page));
        let touched = self.touched.unwrap_or_default();
        Outcome {
            findings: self.report.into_findings(),
            traffic: touched.traffic(),
            touched: touched.ranges(),
        }
    }

    fn keep_touched(&mut self) {
        if let Some(touched) = &mut self.touched {
            for (number, page) in &self.pages {
                touched.add(number * PAGE, page, &self.spills, &self.bounds.buffers);
            }
        }
    }

    fn keep_written(&self) {
        for region in &self.bounds.buffers {
            let Some(written) = &region.written else {
                continue;
            };
            let range = region.start..region.start + region.length;
            for (number, page) in &self.pages {
                let first = number * PAGE;
                if range.start < first + PAGE && first < range.end {
                    for bytes in page.written(&self.spills) {
                        let (start, end) = (first + bytes.start, first + bytes.end);
                        written.mark_addresses(start.max(range.start)..end.min(range.end));
                    }
                }
            }
        }
    }

    /// The threadgroup with these threads begins; `number` is its number in the dispatch.
    pub fn begin_threadgroup(&mut self, threads: &[Thread], number: u64, arena: usize) {
        if self.clock.is_late() {
            self.keep_written();
            self.keep_touched();
            self.clock.restart();
            self.pages.clear();
            self.by_number.clear();
            self.spills.clear();
            self.watch.pages.fill(NO_PAGE);
        }
        self.clock.begin(number as u32, threads.len());
        self.watch.start = self.clock.start;
        self.atomics.begin_threadgroup();
        self.atomics.forget(arena..arena + ARENA);
        for index in (0..ARENA / PAGE).filter(|index| self.arena_touched >> index & 1 != 0) {
            self.watch.pages[(arena / PAGE + index) % abi::PAGES] = NO_PAGE;
        }
        self.arena_touched = 0;
        self.arena_spills.clear();
        let range = threads.as_ptr_range();
        let threads = range.start.addr()..range.end.addr();
        if self.threads != threads {
            self.watch.pages.fill(NO_PAGE);
            self.threads = threads;
        }
    }

    /// A lane goes on, or its clock changed.
    pub fn enter(&mut self, lane: u32) {
        let Self { watch, clock, .. } = self;
        watch.lane = lane;
        watch.now = clock.times[lane as usize];
        watch.foreign = if clock.any_knowledge { 0 } else { clock.start };
        for kind in [clock::DEVICE, clock::THREADGROUP] {
            let index = clock.kind(kind);
            watch.barrier[kind] = clock.barrier[index];
            watch.seen[kind] = clock.all_seen(index, lane);
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
        self.enter(place.lane);
        true
    }

    pub fn fence(&mut self, order: u32, lane: u32) {
        self.atomics.fence(&mut self.clock, lane, order);
        self.enter(lane);
    }

    fn check(&mut self, place: Access, deed: Deed, memory: &Memory, stacks: &Stacks) -> bool {
        if place.size == 0 {
            true
        } else if place.at.wrapping_sub(memory.address()) < ARENA {
            self.check_threadgroup(place, deed, memory)
        } else {
            self.check_device(place, deed, stacks)
        }
    }

    fn now(&self, place: Access, kind: usize) -> (Stamp, usize) {
        let time = self.clock.times[place.lane as usize];
        let pc = place.pc.wrapping_sub(self.base) as u32;
        (
            Stamp::new(time, pc, place.lane, place.size),
            self.clock.kind(kind),
        )
    }

    fn check_device(&mut self, place: Access, deed: Deed, stacks: &Stacks) -> bool {
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
            if cells {
                let size = stop.min(end) - at;
                self.check_page(Access { at, size, ..place }, deed);
            } else {
                self.watch.pages[number % abi::PAGES] = abi::Page {
                    tag: tag(number, abi::QUIET),
                    from: (start - page.start) as u16,
                    to: (stop - page.start) as u16,
                    ..NO_PAGE
                };
            }
            at = stop;
        }
        true
    }

    /// An access within a page of buffers.
    fn check_page(&mut self, place: Access, deed: Deed) {
        let number = place.at / PAGE;
        let (stamp, kind) = self.now(place, clock::DEVICE);
        let index = self.page(number, place.size);
        let now = Now {
            stamp,
            kind,
            clock: &self.clock,
        };
        let page = &mut self.pages[index as usize].1;
        let offset = place.at % PAGE;
        let seen = page.access(&mut self.spills, &now, offset, place.size, deed);
        self.watch.pages[number % abi::PAGES] = shared(number, page, kind);
        if seen != Seen::default() {
            self.tell_device(place, stamp, seen);
        }
    }

    fn page(&mut self, number: usize, size: usize) -> u32 {
        if let Some(&index) = self.by_number.get(&number) {
            return index;
        }
        let first = number * PAGE;
        let mut parts = Vec::new();
        for region in &self.bounds.buffers {
            let start = region.start.max(first);
            let end = (region.start + region.length).min(first + PAGE);
            if start >= end {
                continue;
            }
            let within = |range: Range<usize>| range.start - first..range.end - first;
            match &region.written {
                None => parts.push((within(start..end), Cell::default())),
                Some(written) => {
                    parts.extend(written.parts(start..end).into_iter().map(|(part, is)| {
                        let cell = if is { Cell::default() } else { Cell::UNWRITTEN };
                        (within(part), cell)
                    }));
                }
            }
        }
        let mut page = Page::new();
        page.begin(&parts, size);
        self.pages.push((number, page));
        let index = self.pages.len() as u32 - 1;
        self.by_number.insert(number, index);
        index
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
        let (stamp, kind) = self.now(place, clock::THREADGROUP);
        let mut at = offset;
        while at < end {
            let index = at / PAGE;
            let stop = end.min((index + 1) * PAGE);
            let page = &mut self.arena[index];
            if self.arena_touched >> index & 1 == 0 {
                self.arena_touched |= 1 << index;
                let first = index * PAGE;
                let parts = memory.placed().iter().filter_map(|placed| {
                    let start = placed.start.max(first);
                    let end = (placed.start + placed.size).min(first + PAGE);
                    (start < end).then(|| (start - first..end - first, Cell::UNWRITTEN))
                });
                page.begin(&parts.collect::<Vec<_>>(), place.size);
            }
            let now = Now {
                stamp,
                kind,
                clock: &self.clock,
            };
            let seen = page.access(&mut self.arena_spills, &now, at % PAGE, stop - at, deed);
            let number = memory.address() / PAGE + index;
            self.watch.pages[number % abi::PAGES] = shared(number, page, kind);
            if seen != Seen::default() {
                self.tell_threadgroup(place, stamp, seen, memory, owner, index * PAGE);
            }
            at = stop;
        }
        true
    }
}

/// A page as compiled accesses find it.
fn shared(number: usize, page: &mut Page, kind: usize) -> abi::Page {
    let (cells, shift) = page.shared();
    abi::Page {
        tag: tag(number, shift.into()),
        cells: cells.wrapping_sub(((number * PAGE) >> shift) * size_of::<Cell>()) as u64,
        kind: kind as u32,
        ..NO_PAGE
    }
}

fn tag(number: usize, shift: u64) -> u64 {
    (number * PAGE) as u64 | shift << abi::TAG_SHIFT
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
