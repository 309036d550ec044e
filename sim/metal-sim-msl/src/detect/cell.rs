//! What is remembered of a few bytes that were always accessed together: the last plain write, and the accesses since
//! that a later write must be ordered after. Compiled accesses decide the usual cases on the same cells, by the same
//! rules (`prelude/detect.h`); this is for everything.
//!
//! Most memory is read by nobody, by one lane, or by lanes of one simdgroup at the same time. Readers that add nothing
//! are not kept: threadgroups run one after the other under the detector, so whoever writes later is in another
//! threadgroup than a reader from an earlier one, and one such reader stands for all; within a threadgroup, two from
//! different simdgroups stand for all until the next barrier. Everything else is in a [`Spill`]. (Where acquire orders
//! some of them before the write and not others, one that was not kept may be missed.)

use crate::detect::clock::Clock;
use crate::detect::shadow::Deed;
use crate::detect::stamp::Stamp;
use crate::finding::AccessKind;
use crate::runtime::simdgroup::lanes;

/// The twin of `msl_cell`.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Cell {
    write: Stamp,
    /// One of the readers, the earlier of two. If there is none here, it is never.
    read: Stamp,
    /// Not nobody, also, if there were reads that the cell has forgotten.
    other: Stamp,
    /// Lanes of the reader's simdgroup, or the index of a spill.
    readers: u32,
    kept: Kept,
}

/// Where the accesses since the write are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u32)]
enum Kept {
    #[default]
    Nowhere,
    /// In the cell: lanes of one simdgroup.
    Here,
    /// `read` and `other`: they stand for all as long as they are unordered with the present, as no barrier came since.
    Enough,
    Spilled,
    /// The memory is not the kernel's, as far as was known.
    Outside,
}

/// Accesses since the last write that do not fit into a cell.
#[derive(Clone, Debug, Default)]
pub struct Spill([Vec<Stamp>; 3]);

const READS: usize = 0;
const ATOMIC_READS: usize = 1;
const ATOMIC_WRITES: usize = 2;

/// The spills of some cells.
#[derive(Debug, Default)]
pub struct Spills {
    all: Vec<Spill>,
    free: Vec<u32>,
}

impl Spills {
    pub fn clear(&mut self) {
        self.free.clear();
        self.all
            .iter_mut()
            .flat_map(|spill| &mut spill.0)
            .for_each(Vec::clear);
        self.free.extend(0..self.all.len() as u32);
    }

    fn take(&mut self) -> u32 {
        self.free.pop().unwrap_or_else(|| {
            self.all.push(Spill::default());
            self.all.len() as u32 - 1
        })
    }

    fn give_back(&mut self, index: u32) {
        self.all[index as usize].0.iter_mut().for_each(Vec::clear);
        self.free.push(index);
    }
}

/// An earlier access that is not ordered before the present one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conflict {
    pub first: Stamp,
    pub kind: AccessKind,
}

/// An access, as a cell sees it: who and when, to which kind of memory, and the clocks.
#[derive(Clone, Copy)]
pub struct Now<'a> {
    pub stamp: Stamp,
    pub kind: usize,
    pub clock: &'a Clock,
}

impl Now<'_> {
    #[inline]
    fn after(&self, earlier: Stamp) -> bool {
        self.clock.ordered(earlier, self.kind, self.stamp.lane())
    }

    #[inline]
    fn first_unordered(&self, of: &[Stamp]) -> Option<Stamp> {
        of.iter().copied().find(|&earlier| !self.after(earlier))
    }
}

impl Default for Cell {
    fn default() -> Self {
        Self::of(Stamp::NOBODY, Kept::Nowhere)
    }
}

impl Cell {
    /// Nobody wrote it, and a read of that is a finding.
    pub const UNWRITTEN: Self = Self::of(Stamp::UNWRITTEN, Kept::Nowhere);
    /// Every access is left to the detector.
    pub const OUTSIDE: Self = Self::of(Stamp::UNWRITTEN, Kept::Outside);

    const fn of(write: Stamp, kept: Kept) -> Self {
        Self {
            write,
            read: Stamp::NEVER,
            other: Stamp::NOBODY,
            readers: 0,
            kept,
        }
    }

    pub fn is_outside(&self) -> bool {
        self.kept == Kept::Outside
    }

    /// The spill's copy belongs to the copied cell.
    pub fn duplicate(&self, spills: &mut Spills) -> Self {
        let mut copy = *self;
        if self.kept == Kept::Spilled {
            copy.readers = spills.take();
            spills.all[copy.readers as usize] = spills.all[self.readers as usize].clone();
        }
        copy
    }

    /// Whether anyone wrote: plainly or by an atomic function.
    pub fn written(&self, spills: &Spills) -> bool {
        self.write.is_time()
            || self.kept == Kept::Spilled
                && !spills.all[self.readers as usize].0[ATOMIC_WRITES].is_empty()
    }

    /// Whether anyone read: plainly or by an atomic function.
    pub fn was_read(&self, spills: &Spills) -> bool {
        let kept = match self.kept {
            Kept::Nowhere | Kept::Outside => false,
            Kept::Here | Kept::Enough => true,
            Kept::Spilled => {
                let lists = &spills.all[self.readers as usize].0;
                !lists[READS].is_empty() || !lists[ATOMIC_READS].is_empty()
            }
        };
        kept || self.other != Stamp::NOBODY
    }

    /// Whether anyone accessed it otherwise than by an atomic function.
    pub fn plainly(&self, spills: &Spills) -> bool {
        match self.kept {
            Kept::Spilled => {
                self.write.is_time() || !spills.all[self.readers as usize].0[READS].is_empty()
            }
            _ => self.was_read(spills) || self.written(spills),
        }
    }

    /// Whether a read now is of what nobody wrote.
    #[inline]
    pub fn unwritten(&self, spills: &Spills) -> bool {
        self.write == Stamp::UNWRITTEN && !self.written(spills)
    }

    #[inline]
    fn write_conflict(&self, now: &Now) -> Option<Conflict> {
        let conflict = self.write.is_time() && !now.after(self.write);
        conflict.then_some(Conflict {
            first: self.write,
            kind: AccessKind::Write,
        })
    }

    /// A plain read.
    pub fn read(&mut self, spills: &mut Spills, now: &Now) -> Option<Conflict> {
        let conflict = self.write_conflict(now);
        let (me, clock) = (now.stamp, now.clock);
        match self.kept {
            Kept::Nowhere | Kept::Outside => self.keep_here(me),
            Kept::Here if clock.is_present(self.read) => {
                let apart = self.read.simdgroup() != me.simdgroup();
                if self.read.time == me.time && !apart {
                    self.readers |= 1 << (me.lane() % 32);
                    self.read = me;
                } else if clock
                    .unordered(self.read, self.readers, now.kind, me.lane())
                    .is_none()
                {
                    self.keep_here(me);
                } else if apart {
                    (self.other, self.kept) = (me, Kept::Enough);
                } else {
                    self.spill(spills);
                    self.keep(spills, READS, now);
                }
            }
            // A reader from another threadgroup stands for all, unless this one comes after it by an atomic.
            Kept::Here | Kept::Enough => {
                let both = [self.read, self.other];
                let count = 1 + usize::from(self.kept == Kept::Enough);
                if now.first_unordered(&both[..count]).is_none() {
                    self.keep_here(me);
                }
            }
            Kept::Spilled => {
                let writes = &spills.all[self.readers as usize].0[ATOMIC_WRITES];
                let atomic = now.first_unordered(writes).map(|first| Conflict {
                    first,
                    kind: AccessKind::Atomic,
                });
                self.keep(spills, READS, now);
                return conflict.or(atomic);
            }
        }
        conflict
    }

    /// A plain write.
    pub fn write(&mut self, spills: &mut Spills, now: &Now) -> Option<Conflict> {
        let mut conflict = self.write_conflict(now);
        let was_read = self.was_read(spills);
        let reader = match self.kept {
            Kept::Nowhere | Kept::Outside => None,
            Kept::Here => now
                .clock
                .unordered(self.read, self.readers, now.kind, now.stamp.lane()),
            Kept::Enough => now.first_unordered(&[self.read, self.other]),
            Kept::Spilled => {
                let spill = &spills.all[self.readers as usize];
                let kinds = [AccessKind::Read, AccessKind::Atomic, AccessKind::Atomic];
                let mut found = spill.0.iter().zip(kinds).filter_map(|(list, kind)| {
                    now.first_unordered(list)
                        .map(|first| Conflict { first, kind })
                });
                conflict = conflict.or_else(|| found.next());
                spills.give_back(self.readers);
                None
            }
        };
        self.write = now.stamp;
        (self.read, self.kept) = (Stamp::NEVER, Kept::Nowhere);
        if was_read {
            self.other = Stamp::NEVER;
        }
        conflict.or(reader.map(|first| Conflict {
            first,
            kind: AccessKind::Read,
        }))
    }

    /// An access by an atomic function.
    pub fn atomic(&mut self, spills: &mut Spills, now: &Now, deed: Deed) -> Option<Conflict> {
        let writes = deed.writes;
        let mut conflict = self.write_conflict(now);
        if self.kept != Kept::Spilled {
            self.spill(spills);
        }
        self.kept = Kept::Spilled;
        if deed.reads {
            self.other = Stamp::NEVER;
        }
        if writes {
            let reader = now.first_unordered(&spills.all[self.readers as usize].0[READS]);
            conflict = conflict.or(reader.map(|first| Conflict {
                first,
                kind: AccessKind::Read,
            }));
        }
        self.keep(
            spills,
            if writes { ATOMIC_WRITES } else { ATOMIC_READS },
            now,
        );
        conflict
    }

    #[inline]
    fn keep_here(&mut self, me: Stamp) {
        (self.kept, self.read, self.readers) = (Kept::Here, me, 1 << (me.lane() % 32));
    }

    /// Moves what is in the cell to a spill.
    #[cold]
    fn spill(&mut self, spills: &mut Spills) {
        let index = spills.take();
        let reads = &mut spills.all[index as usize].0[READS];
        match self.kept {
            Kept::Here => {
                let first = self.read.lane() / 32 * 32;
                reads.extend(lanes(self.readers).map(|lane| self.read.with_lane(first + lane)));
            }
            Kept::Enough => reads.extend([self.read, self.other]),
            Kept::Nowhere | Kept::Outside | Kept::Spilled => {}
        }
        (self.read, self.kept, self.readers) = (Stamp::NEVER, Kept::Spilled, index);
    }

    /// Adds to a list of the spill, and drops what it stands for.
    fn keep(&mut self, spills: &mut Spills, list: usize, now: &Now) {
        let me = now.stamp;
        let spill = &mut spills.all[self.readers as usize];
        let only_reads = spill.0[ATOMIC_READS].is_empty() && spill.0[ATOMIC_WRITES].is_empty();
        let list = &mut spill.0[list];
        list.retain(|&earlier| !now.after(earlier));
        self.kept = Kept::Spilled;
        if let Some(&foreign) = list.iter().find(|&&one| !now.clock.is_present(one)) {
            list.clear();
            list.push(foreign);
            if only_reads {
                spills.give_back(self.readers);
                self.keep_here(foreign);
            }
            return;
        }
        let apart = |list: &[Stamp]| {
            list.iter()
                .copied()
                .find(|one| one.simdgroup() != list[0].simdgroup())
        };
        if apart(list).is_none() {
            list.push(me);
        }
        if let (Some(apart), true) = (apart(list), only_reads) {
            let mut two = [list[0], apart];
            two.sort_by_key(|one| one.time);
            spills.give_back(self.readers);
            ([self.read, self.other], self.kept) = (two, Kept::Enough);
        }
    }
}
