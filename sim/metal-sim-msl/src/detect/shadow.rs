//! Shadow memory: the cells of every byte that was accessed. Pages of it appear with the first access; a cell is for as
//! many bytes as that has, up to 16, and the page is divided further when a smaller access comes, so what is remembered
//! is exact to the byte and costs no more than is needed.

use crate::detect::cell::{Cell, Conflict, Now, Spills};
use crate::finding::AccessKind;
use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Bytes that a page describes.
pub const PAGE: usize = 4096;

pub struct Page {
    /// Bytes of a cell, as a power of two.
    shift: u32,
    cells: Vec<Cell>,
}

/// What an access to part of a page came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// A conflict, what the present access does in it, and at which byte of the page.
    pub conflict: Option<(Conflict, AccessKind, usize)>,
    /// The first byte that was read and that nobody wrote.
    pub unwritten: Option<usize>,
}

/// What is done to memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deed {
    pub reads: bool,
    pub writes: bool,
    pub atomic: bool,
}

/// Cells that nobody uses: new memory costs more than what is done with it.
static FREE: Mutex<Vec<Vec<Cell>>> = Mutex::new(Vec::new());
/// So many are kept, of at most 128 KiB, mostly 32 KiB.
const KEPT: usize = 1024;

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The next dispatch may use what these pages have.
pub fn give_back(pages: impl Iterator<Item = Page>) {
    let mut free = lock(&FREE);
    let room = KEPT.saturating_sub(free.len());
    free.extend(pages.map(|page| page.cells).take(room));
}

impl Page {
    pub fn new() -> Self {
        let cells = lock(&FREE).pop();
        Self {
            shift: 4,
            cells: cells.unwrap_or_default(),
        }
    }

    /// Begins anew, with these parts of the page, for an access of so many bytes: if all are like it, that is what a
    /// cell has. The spills are cleared by whoever has all pages.
    pub fn begin(&mut self, parts: &[(Range<usize>, Cell)], size: usize) {
        let edges = parts.iter().flat_map(|(part, _)| [part.start, part.end]);
        let least = |shift: u32, at: usize| shift.min(at.trailing_zeros());
        self.shift = edges.fold(least(self.shift, size), least);
        let whole = parts.iter().find(|(part, _)| part.len() == PAGE);
        self.cells.clear();
        self.cells.resize(
            PAGE >> self.shift,
            whole.map_or(Cell::OUTSIDE, |(_, cell)| *cell),
        );
        for (part, cell) in parts.iter().filter(|(part, _)| part.len() < PAGE) {
            self.cells[part.start >> self.shift..part.end >> self.shift].fill(*cell);
        }
    }

    /// For compiled accesses: the address of the cells, and the logarithm of their bytes. Both change when a cell is divided.
    pub fn shared(&mut self) -> (usize, u32) {
        (self.cells.as_mut_ptr().expose_provenance(), self.shift)
    }

    /// The bytes that were written.
    pub fn written(&self, spills: &Spills) -> Vec<Range<usize>> {
        self.bytes(|cell| cell.written(spills))
    }

    /// The bytes that were read.
    pub fn read(&self, spills: &Spills) -> Vec<Range<usize>> {
        self.bytes(|cell| cell.was_read(spills))
    }

    /// The bytes that were accessed otherwise than by atomic functions.
    pub fn plainly(&self, spills: &Spills) -> Vec<Range<usize>> {
        self.bytes(|cell| cell.plainly(spills))
    }

    fn bytes(&self, are: impl Fn(&Cell) -> bool) -> Vec<Range<usize>> {
        let bytes = 1 << self.shift;
        let mut ranges: Vec<Range<usize>> = Vec::new();
        for (index, cell) in self.cells.iter().enumerate() {
            if are(cell) {
                let (start, end) = (index * bytes, (index + 1) * bytes);
                match ranges.last_mut() {
                    Some(last) if last.end == start => last.end = end,
                    _ => ranges.push(start..end),
                }
            }
        }
        ranges
    }

    /// An access to `size` bytes from `offset`, all of them in this page.
    pub fn access(
        &mut self,
        spills: &mut Spills,
        now: &Now,
        offset: usize,
        size: usize,
        deed: Deed,
    ) -> Seen {
        let uneven = (offset | size) & ((1 << self.shift) - 1);
        if uneven != 0 {
            self.divide(uneven.trailing_zeros(), spills);
        }
        let mut seen = Seen::default();
        for index in offset >> self.shift..(offset + size) >> self.shift {
            let cell = &mut self.cells[index];
            if cell.is_outside() {
                *cell = Cell::UNWRITTEN; // A variable that got its place after the page began.
            }
            if deed.reads && seen.unwritten.is_none() && cell.unwritten(spills) {
                seen.unwritten = Some(index << self.shift);
            }
            let (conflict, kind) = if deed.atomic {
                (cell.atomic(spills, now, deed), AccessKind::Atomic)
            } else {
                let read = if deed.reads {
                    cell.read(spills, now)
                } else {
                    None
                };
                match read {
                    None if deed.writes => (cell.write(spills, now), AccessKind::Write),
                    None => (None, AccessKind::Read),
                    Some(conflict) => {
                        if deed.writes {
                            cell.write(spills, now);
                        }
                        (Some(conflict), AccessKind::Read)
                    }
                }
            };
            if let (Some(conflict), None) = (conflict, seen.conflict) {
                seen.conflict = Some((conflict, kind, index << self.shift));
            }
        }
        seen
    }

    #[cold]
    fn divide(&mut self, shift: u32, spills: &mut Spills) {
        let copies = 1 << (self.shift - shift);
        let mut divided = Vec::with_capacity(self.cells.len() * copies);
        for cell in &self.cells {
            divided.push(*cell);
            divided.extend((1..copies).map(|_| cell.duplicate(spills)));
        }
        (self.shift, self.cells) = (shift, divided);
    }
}
