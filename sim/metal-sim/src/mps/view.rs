//! A matrix as a kernel sees it: elements of a region, by batch, row and column.

use super::data_type::Element;
use super::matrix::Shape;
use crate::memory::Memory;
use crate::pass::Access;
use objc2_metal::MTLOrigin;
use std::ops::Range;
use std::sync::Arc;

/// A region of a matrix, in every batch.
#[derive(Clone)]
pub struct View {
    memory: Arc<Memory>,
    element: Element,
    start: usize,
    shape: Shape,
}

impl View {
    pub(crate) fn new(memory: Arc<Memory>, offset: usize, shape: Shape) -> Self {
        Self {
            memory,
            element: shape.element(),
            start: offset,
            shape,
        }
    }

    /// The view from an origin on: x is the row, y the column (rule 16).
    pub(crate) fn from(mut self, origin: MTLOrigin) -> Self {
        self.start += origin.x * self.shape.row_bytes + origin.y * self.element.size();
        self.shape.rows -= origin.x;
        self.shape.columns -= origin.y;
        self
    }

    /// The view cut to a number of rows and columns.
    pub(crate) fn cut(mut self, rows: usize, columns: usize) -> Self {
        self.shape.rows = self.shape.rows.min(rows);
        self.shape.columns = self.shape.columns.min(columns);
        self
    }

    /// The element type.
    pub fn element(&self) -> Element {
        self.element
    }

    /// Rows of the region.
    pub fn rows(&self) -> usize {
        self.shape.rows
    }

    /// Columns of the region.
    pub fn columns(&self) -> usize {
        self.shape.columns
    }

    /// Number of matrices.
    pub fn matrices(&self) -> usize {
        self.shape.matrices
    }

    fn at(&self, batch: usize, row: usize, column: usize) -> usize {
        self.start
            + batch * self.shape.matrix_bytes
            + row * self.shape.row_bytes
            + column * self.element.size()
    }

    /// An element.
    ///
    /// # Safety
    /// Nobody writes it meanwhile.
    pub unsafe fn get(&self, batch: usize, row: usize, column: usize) -> f64 {
        // SAFETY: the caller's promise.
        unsafe { self.element.read(&self.memory, self.at(batch, row, column)) }
    }

    /// Sets an element.
    ///
    /// # Safety
    /// Nobody else accesses it meanwhile.
    pub unsafe fn set(&self, batch: usize, row: usize, column: usize, value: f64) {
        // SAFETY: the caller's promise.
        unsafe {
            self.element
                .write(&self.memory, self.at(batch, row, column), value)
        };
    }

    /// A row as floats.
    ///
    /// # Safety
    /// Nobody writes it meanwhile.
    pub unsafe fn row(&self, batch: usize, row: usize) -> Vec<f64> {
        // SAFETY: the caller's promise.
        (0..self.columns())
            .map(|column| unsafe { self.get(batch, row, column) })
            .collect()
    }

    /// The bytes from the first element of the first matrix to the end of the last.
    pub fn range(&self) -> Range<usize> {
        self.start..self.start + self.shape.bytes()
    }

    /// Whether the views share bytes. Views of one buffer may lie between each other's rows.
    pub fn overlaps(&self, other: &View) -> bool {
        // By address: buffers of a heap may share memory without being one.
        let addresses = |view: &View, range: Range<usize>| {
            let base = view.memory.base().addr();
            base + range.start..base + range.end
        };
        let (left, right) = (
            addresses(self, self.range()),
            addresses(other, other.range()),
        );
        if left.start >= right.end || right.start >= left.end {
            return false;
        }
        let mut rows: Vec<(Range<usize>, bool)> = Vec::new();
        rows.extend(
            self.row_ranges()
                .map(|range| (addresses(self, range), true)),
        );
        rows.extend(
            other
                .row_ranges()
                .map(|range| (addresses(other, range), false)),
        );
        rows.sort_by_key(|(range, _)| range.start);
        // Rows by start: one overlaps the other view if it starts before the furthest end
        // that the other view has reached.
        let mut reached = [0, 0];
        rows.into_iter().any(|(range, ours)| {
            let hit = range.start < reached[usize::from(!ours)];
            let own = &mut reached[usize::from(ours)];
            *own = range.end.max(*own);
            hit
        })
    }

    fn row_ranges(&self) -> impl Iterator<Item = Range<usize>> {
        let length = self.columns() * self.element.size();
        let rows =
            (0..self.matrices()).flat_map(|batch| (0..self.rows()).map(move |row| (batch, row)));
        rows.map(move |(batch, row)| {
            let start = self.at(batch, row, 0);
            start..start + length
        })
    }

    /// The accesses of reading (or writing) every row: one range a row, so that what lies
    /// between rows is not claimed.
    pub(crate) fn accesses(&self, write: bool) -> Vec<Access> {
        let access = |range| match write {
            true => Access::write(&self.memory, range),
            false => Access::read(&self.memory, range),
        };
        self.row_ranges().map(access).collect()
    }
}
