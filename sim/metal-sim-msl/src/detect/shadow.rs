//! Shadow memory: the cells of every byte that was accessed. Pages of it appear with the first access; a page begins with
//! cells of four bytes and is divided further when a smaller access comes, so what is remembered is exact to the byte
//! and costs a fourth of that where nobody looks closer.

use crate::detect::cell::{Cell, Conflict, Now, Spills};
use crate::finding::AccessKind;
use std::ops::Range;

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

impl Page {
    pub fn new() -> Self {
        Self {
            shift: 2,
            cells: Vec::new(),
        }
    }

    /// Begins anew, with these parts of the page. The spills are cleared by whoever has all pages.
    pub fn begin(&mut self, parts: &[(Range<usize>, Cell)]) {
        let edges = parts.iter().flat_map(|(part, _)| [part.start, part.end]);
        self.shift = edges.fold(2, |shift, edge| shift.min((edge | 4).trailing_zeros()));
        self.cells.clear();
        self.cells.resize(PAGE >> self.shift, Cell::OUTSIDE);
        for (part, cell) in parts {
            self.cells[part.start >> self.shift..part.end >> self.shift].fill(*cell);
        }
    }

    /// For compiled accesses: the cells, and the logarithm of their bytes. Both change when a cell is divided.
    pub fn shared(&mut self) -> (*mut Cell, u32) {
        (self.cells.as_mut_ptr(), self.shift)
    }

    /// The bytes that were written.
    pub fn written<'a>(&'a self, spills: &'a Spills) -> impl Iterator<Item = Range<usize>> + 'a {
        let bytes = 1 << self.shift;
        let written = self.cells.iter().enumerate();
        written
            .filter(|(_, cell)| cell.written(spills))
            .map(move |(index, _)| index * bytes..(index + 1) * bytes)
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
                (cell.atomic(spills, now, deed.writes), AccessKind::Atomic)
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
