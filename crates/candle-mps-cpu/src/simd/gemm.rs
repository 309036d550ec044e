//! Register tiles of the matrix product, and the part of a matrix that one thread writes.
//!
//! A tile keeps up to 14 x 2 vectors of C in registers (AVX-512; 6 x 2 on AVX2) while it walks along
//! k: two vectors of B are loaded, and each row's element of A is broadcast against them. A comes
//! packed column by column, one stream of memory, or as rows at some distance; B as panels of two
//! vectors. See `docs/gemm.md`.

use std::{marker::PhantomData, ops::Range};

use super::{Simd, Vector, WithSimd, vector::MAX_LANES};
use crate::{Real, V};

/// Vectors of B in a full tile.
pub(crate) const WIDTH: usize = 2;

/// The depth of a block whose A is packed as rows: 1 KiB.
pub(crate) const fn depth<P>() -> usize {
    1024 / size_of::<P>()
}

/// The distance of rows packed for a tile: 17 cache lines, an odd number, so that the rows of a tile do
/// not fall into the same set of the cache.
pub(crate) const fn a_stride<P>() -> usize {
    depth::<P>() + 64 / size_of::<P>()
}

/// Rows of a full tile: as many as the registers hold beside two vectors of B and one of A.
pub(crate) const fn height<R: Real, S: Simd>() -> usize {
    match V::<R, S>::LANES * size_of::<R>() {
        64 => 14,
        32 => 6,
        _ if cfg!(target_arch = "aarch64") => 12,
        _ => 4,
    }
}

/// A rectangle of a row-major matrix that one thread writes while others write other rectangles.
#[derive(Debug)]
pub struct Block<'a, T> {
    start: *mut T,
    stride: usize,
    rows: usize,
    cols: usize,
    matrix: PhantomData<&'a mut [T]>,
}

// SAFETY: a block is an exclusive borrow of its elements, as `&mut [T]` is: blocks are made by
// splitting, and the halves share no element.
unsafe impl<T: Send> Send for Block<'_, T> {}

impl<'a, T> Block<'a, T> {
    /// The matrix of `rows` rows in `elements`, each `stride` after the one before.
    ///
    /// # Panics
    /// When the last row does not fit, or the rows overlap.
    pub fn new(elements: &'a mut [T], rows: usize, cols: usize, stride: usize) -> Self {
        let end = if rows * cols == 0 {
            0
        } else {
            (rows - 1) * stride + cols
        };
        assert!(
            end <= elements.len() && (cols <= stride || rows <= 1),
            "block outside its slice"
        );
        Self {
            start: elements.as_mut_ptr(),
            stride,
            rows,
            cols,
            matrix: PhantomData,
        }
    }

    pub fn rows(&self) -> usize {
        self.rows
    }

    pub fn cols(&self) -> usize {
        self.cols
    }

    pub fn row(&mut self, row: usize) -> &mut [T] {
        assert!(row < self.rows, "row {row} of {}", self.rows);
        // SAFETY: the row lies in the rectangle, which `self` borrows exclusively.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(row * self.stride), self.cols) }
    }

    /// A smaller rectangle, borrowed.
    pub fn part(&mut self, rows: Range<usize>, cols: Range<usize>) -> Block<'_, T> {
        assert!(
            rows.start <= rows.end
                && rows.end <= self.rows
                && cols.start <= cols.end
                && cols.end <= self.cols,
            "{rows:?} x {cols:?} of {} x {}",
            self.rows,
            self.cols
        );
        let start = self
            .start
            .wrapping_add(rows.start * self.stride + cols.start);
        let (rows, cols) = (rows.len(), cols.len());
        Block {
            start,
            stride: self.stride,
            rows,
            cols,
            matrix: PhantomData,
        }
    }

    /// The rows before `at`, and the others.
    pub fn split_rows(self, at: usize) -> (Self, Self) {
        assert!(at <= self.rows, "row {at} of {}", self.rows);
        let start = self.start.wrapping_add(at * self.stride);
        (
            Self { rows: at, ..self },
            Self {
                start,
                rows: self.rows - at,
                ..self
            },
        )
    }

    /// The columns before `at`, and the others.
    pub fn split_cols(self, at: usize) -> (Self, Self) {
        assert!(at <= self.cols, "column {at} of {}", self.cols);
        let start = self.start.wrapping_add(at);
        (
            Self { cols: at, ..self },
            Self {
                start,
                cols: self.cols - at,
                ..self
            },
        )
    }
}

/// How the elements of a tile's A lie.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Lie {
    /// Column after column, as many elements in each as C has rows.
    Columns,
    /// Rows at this distance.
    Rows(usize),
}

/// C = A·B, or C + A·B, for one tile: at most [`height`] rows and [`WIDTH`] vectors, which C's shape says.
pub(crate) struct Tile<'a, R> {
    pub a: &'a [R],
    pub lie: Lie,
    /// `depth` rows at `b_stride`, each of whole vectors.
    pub b: &'a [R],
    pub b_stride: usize,
    pub depth: usize,
    pub c: Block<'a, R>,
    /// C + A·B.
    pub add: bool,
}

impl<R: Real> Tile<'_, R> {
    #[inline(always)]
    pub fn run<S: Simd>(self, s: S) {
        let lanes = V::<R, S>::LANES;
        let (m, vectors) = (self.c.rows, self.c.cols.div_ceil(lanes));
        assert!(m <= height::<R, S>() && vectors <= WIDTH);
        if m == 0 || vectors == 0 {
            return;
        }
        let a_end = match self.lie {
            Lie::Columns => m * self.depth,
            Lie::Rows(stride) => (m - 1) * stride + self.depth,
        };
        assert!(self.a.len() >= a_end, "A is too short");
        let b_end = self.depth.saturating_sub(1) * self.b_stride + vectors * lanes;
        assert!(self.depth == 0 || self.b.len() >= b_end, "B is too short");
        macro_rules! rows {
            ($($m:literal)*) => {
                match (m, vectors, self.lie) {
                    $(
                        ($m, 1, Lie::Columns) if $m <= height::<R, S>() => {
                            s.with(Fixed::<R, $m, 1, false>(self))
                        }
                        ($m, _, Lie::Columns) if $m <= height::<R, S>() => {
                            s.with(Fixed::<R, $m, 2, false>(self))
                        }
                        ($m, 1, Lie::Rows(_)) if $m <= height::<R, S>() => {
                            s.with(Fixed::<R, $m, 1, true>(self))
                        }
                        ($m, _, Lie::Rows(_)) if $m <= height::<R, S>() => {
                            s.with(Fixed::<R, $m, 2, true>(self))
                        }
                    )*
                    _ => unreachable!("checked above"),
                }
            };
        }
        rows!(1 2 3 4 5 6 7 8 9 10 11 12 13 14);
    }
}

/// Runs a block for each row of a tile, written out: with a loop that the compiler does not unroll, all
/// of C would be in memory.
macro_rules! each_row {
    ($m:ident, |$i:ident| $body:block) => {
        each_row!(@ $m $i $body 0 1 2 3 4 5 6 7 8 9 10 11 12 13)
    };
    (@ $m:ident $i:ident $body:block $($row:literal)*) => {
        $(if $row < $m {
            const $i: usize = $row;
            $body
        })*
    };
}

/// A tile whose size the compiler knows, so that C stays in registers. Its sizes have been checked.
struct Fixed<'a, R, const M: usize, const N: usize, const ROWS: bool>(Tile<'a, R>);

impl<R: Real, const M: usize, const N: usize, const ROWS: bool> WithSimd
    for Fixed<'_, R, M, N, ROWS>
{
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        if M > height::<R, S>() {
            return; // never called: keeps the compiler from unrolling it
        }
        let Tile {
            a,
            lie,
            b,
            b_stride,
            depth,
            c,
            add,
        } = self.0;
        let (row, step) = match lie {
            Lie::Rows(stride) if ROWS => (stride, 1),
            _ => (1, M),
        };
        let lanes = V::<R, S>::LANES;
        if add {
            for i in 0..M {
                for j in 0..N {
                    prefetch(c.start.wrapping_add(i * c.stride + j * lanes).cast_const());
                }
            }
        }
        let mut sums = [[V::<R, S>::splat(s, R::ZERO); N]; M];
        let (a, mut b) = (a.as_ptr(), b.as_ptr());
        // Three rows from one address each: an address for every row would not fit the registers.
        let mut places: [_; 5] = std::array::from_fn(|i| a.wrapping_add(3 * i * row));
        for _ in 0..depth {
            let mut columns = [V::<R, S>::splat(s, R::ZERO); N];
            for (j, column) in columns.iter_mut().enumerate() {
                // SAFETY: `Tile::run` has checked that B has N vectors in each of its rows.
                *column = R::load(s, unsafe {
                    std::slice::from_raw_parts(b.add(j * lanes), lanes)
                });
            }
            each_row!(M, |I| {
                let place = places[I / 3].wrapping_add(I % 3 * row);
                // SAFETY: `Tile::run` has checked that A has M rows of `depth` elements.
                let x = V::<R, S>::splat(s, unsafe { *place });
                for j in 0..N {
                    sums[I][j] = x.mul_add(columns[j], sums[I][j]);
                }
            });
            for place in &mut places {
                *place = place.wrapping_add(step);
            }
            b = b.wrapping_add(b_stride);
        }
        assert!(c.rows == M && c.cols <= N * lanes && c.cols > (N - 1) * lanes);
        each_row!(M, |I| {
            // SAFETY: the row lies in the block, which is ours alone, and has so many columns.
            unsafe { store::<R, S, N>(s, sums[I], c.start.add(I * c.stride), c.cols, add) };
        });
    }
}

/// Asks for the cache line at an address, which may be any, so that it is there when it is read.
#[inline(always)]
pub(crate) fn prefetch<R>(place: *const R) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch changes nothing and may be given any address; SSE is part of x86-64.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(place.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = place;
}

/// Writes the sums of a row of a tile to C, which has `cols` columns from `start` on, in N vectors.
///
/// # Safety
/// They are elements that may be written.
#[inline(always)]
unsafe fn store<R: Real, S: Simd, const N: usize>(
    s: S,
    sums: [V<R, S>; N],
    start: *mut R,
    cols: usize,
    add: bool,
) {
    let lanes = V::<R, S>::LANES;
    for (j, sum) in sums.into_iter().enumerate() {
        let len = lanes.min(cols - j * lanes);
        // SAFETY: the caller's promise.
        let place = unsafe { std::slice::from_raw_parts_mut(start.add(j * lanes), len) };
        if len == lanes {
            let sum = if add { R::load(s, place) + sum } else { sum };
            R::store(s, sum, place);
        } else {
            let sum = if add {
                R::load_part(s, place, R::ZERO) + sum
            } else {
                sum
            };
            R::store_part(s, sum, place);
        }
    }
}

/// The transpose of the first vectors, as many as a vector has elements. Each round of interleaving
/// moves one bit from the numbers of the vectors to the places in them.
#[inline(always)]
pub(crate) fn turned<R: Real, S: Simd>(square: [V<R, S>; MAX_LANES]) -> [V<R, S>; MAX_LANES] {
    let half = V::<R, S>::LANES / 2;
    let mut from = square;
    for _ in 0..V::<R, S>::LANES.ilog2() {
        let mut to = from;
        for i in 0..half {
            (to[2 * i], to[2 * i + 1]) = from[i].interleave(from[i + half]);
        }
        from = to;
    }
    from
}
