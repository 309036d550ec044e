//! What is remembered of a few bytes that were always accessed together: the last plain write, and the accesses since
//! that a later write must be ordered after.
//!
//! Most memory is read by nobody, by one lane, or by lanes of one simdgroup at the same time: that fits into the cell.
//! Everything else is in a [`Spill`]. Readers that add nothing are not kept: threadgroups run one after the other under
//! the detector, so whoever writes later is in another threadgroup than a reader from an earlier one, and one such
//! reader stands for all; within a threadgroup, two from different simdgroups stand for all until the next barrier.
//! (Where acquire orders some of them before the write and not others, one that was not kept may be missed.)

use crate::detect::clock::Clock;
use crate::detect::stamp::Stamp;
use crate::finding::AccessKind;
use crate::runtime::simdgroup::lanes;

#[derive(Clone, Copy, Debug, Default)]
pub struct Cell {
    write: Stamp,
    /// One of the readers.
    read: Stamp,
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
    /// In the cell.
    Here,
    Spilled,
    /// Spilled, and two readers in it stand for all as long as they are unordered with the present: no barrier came
    /// since `read`, the earlier of them.
    Enough,
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
    /// Whether a read of what nobody wrote is a finding.
    pub fresh: bool,
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

/// An access with what decides most of them.
#[derive(Clone, Copy)]
pub struct Quick {
    pub stamp: Stamp,
    /// Earlier times of this threadgroup are ordered before it.
    pub barrier: u32,
    /// Whether a reader from another threadgroup is surely unordered with it.
    pub foreign: bool,
    /// Whether a read of what nobody wrote is a finding.
    pub fresh: bool,
}

impl Cell {
    /// Whether the last write is surely ordered before the access.
    #[inline]
    fn quick_after_write(&self, quick: &Quick) -> bool {
        let (write, me) = (self.write, quick.stamp);
        if write.group == 0 {
            return !quick.fresh;
        }
        write.group == me.group && (write.time < quick.barrier || write.lane() == me.lane())
    }

    /// A plain read that surely is no race, remembered. False: it was not decided.
    #[inline]
    pub fn quick_read(&mut self, quick: Quick) -> bool {
        if !self.quick_after_write(&quick) {
            return false;
        }
        let me = quick.stamp;
        match self.kept {
            Kept::Nowhere => self.keep_here(me),
            Kept::Here if self.read.group != me.group => return quick.foreign,
            Kept::Here if self.read.time == me.time && self.read.simdgroup() == me.simdgroup() => {
                self.readers |= 1 << (me.lane() % 32);
                self.read = me;
            }
            Kept::Here if self.read.time < quick.barrier => self.keep_here(me),
            Kept::Enough => return self.read.group == me.group && self.read.time >= quick.barrier,
            Kept::Here | Kept::Spilled => return false,
        }
        true
    }

    /// The same for a plain write.
    #[inline]
    pub fn quick_write(&mut self, quick: Quick) -> bool {
        let me = quick.stamp;
        let write = self.write.group == 0 || self.quick_after_write(&quick);
        let reads = match self.kept {
            Kept::Nowhere => true,
            Kept::Here => {
                let alone = self.readers == 1 << (me.lane() % 32)
                    && self.read.simdgroup() == me.simdgroup();
                self.read.group == me.group && (alone || self.read.time < quick.barrier)
            }
            Kept::Spilled | Kept::Enough => false,
        };
        if write && reads {
            (self.write, self.kept) = (me, Kept::Nowhere);
        }
        write && reads
    }

    /// The spill's copy belongs to the copied cell.
    pub fn duplicate(&self, spills: &mut Spills) -> Self {
        let mut copy = *self;
        if matches!(self.kept, Kept::Spilled | Kept::Enough) {
            copy.readers = spills.take();
            spills.all[copy.readers as usize] = spills.all[self.readers as usize].clone();
        }
        copy
    }

    /// Whether anyone wrote: plainly or by an atomic function.
    pub fn written(&self, spills: &Spills) -> bool {
        let spilled = || matches!(self.kept, Kept::Spilled | Kept::Enough);
        self.write.group != 0
            || spilled() && !spills.all[self.readers as usize].0[ATOMIC_WRITES].is_empty()
    }

    #[inline]
    fn write_conflict(&self, now: &Now) -> Option<Conflict> {
        let conflict = self.write.group != 0 && !now.after(self.write);
        conflict.then_some(Conflict {
            first: self.write,
            kind: AccessKind::Write,
        })
    }

    /// A plain read.
    #[inline]
    pub fn read(&mut self, spills: &mut Spills, now: &Now) -> Option<Conflict> {
        let conflict = self.write_conflict(now);
        let (me, clock) = (now.stamp, now.clock);
        match self.kept {
            Kept::Nowhere => self.keep_here(me),
            Kept::Here if self.read.group == me.group => {
                if self.read.time == me.time && self.read.simdgroup() == me.simdgroup() {
                    self.readers |= 1 << (me.lane() % 32);
                    self.read = me;
                } else if clock
                    .unordered(self.read, self.readers, now.kind, me.lane())
                    .is_none()
                {
                    self.keep_here(me);
                } else {
                    self.spill(spills);
                    self.keep(spills, READS, now);
                }
            }
            // A reader from another threadgroup stands for all, unless this one comes after it by an atomic.
            Kept::Here => {
                if now.after(self.read) {
                    self.keep_here(me);
                }
            }
            Kept::Enough
                if self.read.group == me.group && self.read.time >= clock.barrier[now.kind] => {}
            Kept::Enough | Kept::Spilled => {
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
    #[inline]
    pub fn write(&mut self, spills: &mut Spills, now: &Now) -> Option<Conflict> {
        let mut conflict = self.write_conflict(now);
        match self.kept {
            Kept::Nowhere => {}
            Kept::Here => {
                let reader =
                    now.clock
                        .unordered(self.read, self.readers, now.kind, now.stamp.lane());
                conflict = conflict.or(reader.map(|first| Conflict {
                    first,
                    kind: AccessKind::Read,
                }));
            }
            Kept::Spilled | Kept::Enough => {
                let spill = &spills.all[self.readers as usize];
                let kinds = [AccessKind::Read, AccessKind::Atomic, AccessKind::Atomic];
                let mut found = spill.0.iter().zip(kinds).filter_map(|(list, kind)| {
                    now.first_unordered(list)
                        .map(|first| Conflict { first, kind })
                });
                conflict = conflict.or_else(|| found.next());
                spills.give_back(self.readers);
            }
        }
        self.write = now.stamp;
        self.kept = Kept::Nowhere;
        conflict
    }

    /// An access by an atomic function.
    pub fn atomic(&mut self, spills: &mut Spills, now: &Now, writes: bool) -> Option<Conflict> {
        let mut conflict = self.write_conflict(now);
        if !matches!(self.kept, Kept::Spilled | Kept::Enough) {
            self.spill(spills);
        }
        self.kept = Kept::Spilled;
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
        if self.kept == Kept::Here {
            let first = self.read.lane() / 32 * 32;
            let readers = lanes(self.readers).map(|lane| self.read.with_lane(first + lane));
            spills.all[index as usize].0[READS].extend(readers);
        }
        (self.kept, self.readers) = (Kept::Spilled, index);
    }

    /// Adds to a list of the spill, and drops what it stands for.
    fn keep(&mut self, spills: &mut Spills, list: usize, now: &Now) {
        let me = now.stamp;
        let spill = &mut spills.all[self.readers as usize];
        let only_reads = spill.0[ATOMIC_READS].is_empty() && spill.0[ATOMIC_WRITES].is_empty();
        let list = &mut spill.0[list];
        list.retain(|&earlier| !now.after(earlier));
        self.kept = Kept::Spilled;
        if let Some(&foreign) = list.iter().find(|one| one.group != me.group) {
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
            // What the two stand for is decided by the earlier.
            self.read = if apart.time < list[0].time {
                apart
            } else {
                list[0]
            };
            self.kept = Kept::Enough;
        }
    }
}
