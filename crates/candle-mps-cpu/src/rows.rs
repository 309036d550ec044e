//! Rows along one axis of an operand, and loops over their vectors.

use std::ops::Range;

use crate::{
    Element, Error, Layout, Real, Result, V,
    simd::{MAX_LANES, Simd, Vector},
    threads,
};

/// Runs a block for each vector of `0..n`: first in groups of four whose accumulators `k` (0 to 3) are
/// independent, then one by one, then the rest with fewer elements. `at` is the first element, `len`
/// the number of them; in the first two loops the compiler knows that it is `lanes`.
macro_rules! vectors {
    ($n:expr, $lanes:expr, |$at:ident, $len:ident, $k:ident| $body:block) => {{
        let (n, lanes): (usize, usize) = ($n, $lanes);
        let groups = n / (4 * lanes);
        for group in 0..groups {
            for $k in 0..4 {
                let ($at, $len) = (group * 4 * lanes + $k * lanes, lanes);
                $body
            }
        }
        #[allow(unused_variables, reason = "not every block has four accumulators")]
        let $k = 0;
        for vector in groups * 4..n / lanes {
            let ($at, $len) = (vector * lanes, lanes);
            $body
        }
        let $at = n / lanes * lanes;
        if $at < n {
            let $len = n - $at;
            $body
        }
    }};
}
pub(crate) use vectors;

/// The first `len` elements of `v`; the others become `fill`.
#[inline(always)]
pub(crate) fn first<R: Real, S: Simd>(s: S, v: V<R, S>, len: usize, fill: R) -> V<R, S> {
    let mut all = [R::ZERO; MAX_LANES];
    R::store(s, v, &mut all);
    R::load_part(s, &all[..len], fill)
}

/// The sum of all elements of the four accumulators of [`vectors`], pairwise.
#[inline(always)]
pub(crate) fn sum_of_four<S: Simd, X: Vector<S>>([a, b, c, d]: [X; 4]) -> X::Scalar {
    ((a + b) + (c + d)).reduce_add()
}

/// The largest element of the four accumulators of [`vectors`].
#[inline(always)]
pub(crate) fn max_of_four<S: Simd, X: Vector<S>>([a, b, c, d]: [X; 4]) -> X::Scalar {
    a.max(b).max(c.max(d)).reduce_max()
}

/// The lines of an operand along one axis, numbered in row-major order of the other axes.
#[derive(Debug)]
pub(crate) struct Rows<'a, T> {
    x: &'a [T],
    /// Elements of a line.
    pub width: usize,
    /// The distance between neighbours in a line.
    step: usize,
    /// How many lines.
    pub count: usize,
    offset: usize,
    /// The last of the other axes after merging, and the ones before it (last first).
    inner: (usize, usize),
    outer: Vec<(usize, usize)>,
}

impl<'a, T: Element> Rows<'a, T> {
    /// The lines along `axis`, which exists; the layout has been checked against `x`.
    pub fn new(x: &'a [T], layout: &Layout, axis: usize) -> Self {
        let dims = layout.dims();
        if layout.count() == 0 {
            // Dimensions beside a zero are unbounded; there is nothing to multiply them for.
            return Self {
                x,
                width: dims[axis],
                step: layout.stride(axis),
                count: 0,
                offset: 0,
                inner: (1, 0),
                outer: Vec::new(),
            };
        }
        let mut merged: Option<(usize, usize)> = None;
        let mut outer = Vec::new();
        let mut count = 1;
        for other in (0..dims.len()).rev().filter(|&other| other != axis) {
            let (dim, stride) = (dims[other], layout.stride(other));
            count *= dim;
            if dim == 1 {
                continue;
            }
            // Axes that continue each other become one.
            let last = outer.last_mut().or(merged.as_mut());
            match last {
                Some(last) if last.0.checked_mul(last.1) == Some(stride) => last.0 *= dim,
                Some(_) => outer.push((dim, stride)),
                None => merged = Some((dim, stride)),
            }
        }
        Self {
            x,
            width: dims[axis],
            step: layout.stride(axis),
            count,
            offset: layout.offset(),
            inner: merged.unwrap_or((1, 0)),
            outer,
        }
    }

    #[inline]
    fn start(&self, mut line: usize) -> usize {
        if self.outer.is_empty() {
            return self.offset + line * self.inner.1;
        }
        let mut at = self.offset + line % self.inner.0 * self.inner.1;
        line /= self.inner.0;
        for &(dim, stride) in &self.outer {
            at += line % dim * stride;
            line /= dim;
        }
        at
    }

    /// A line as a slice: where it lies, or copied to `buffer`.
    #[inline]
    pub fn get<'b>(&'b self, line: usize, buffer: &'b mut Vec<T>) -> &'b [T] {
        let start = self.start(line);
        if self.step == 1 || self.width == 1 {
            return &self.x[start..start + self.width];
        }
        buffer.clear();
        buffer.extend((0..self.width).map(|i| self.x[start + i * self.step]));
        buffer
    }

    /// Copies up to [`TILE`] lines to `tile`, one after the other. Neighbours across the lines are read
    /// together, so that a cache line is used whole where the lines lie side by side.
    pub fn gather(&self, lines: Range<usize>, tile: &mut [T]) {
        let mut starts = [0; TILE];
        for (start, line) in starts.iter_mut().zip(lines.clone()) {
            *start = self.start(line);
        }
        for i in 0..self.width {
            for (column, start) in starts.iter().enumerate().take(lines.len()) {
                tile[column * self.width + i] = self.x[start + i * self.step];
            }
        }
    }
}

/// Lines that are worth copying out together.
pub(crate) const TILE: usize = 16;

/// The rows along the last axis of an operand that an op works on.
pub(crate) fn last_axis<'a, T: Element>(
    op: &'static str,
    argument: &'static str,
    x: &'a [T],
    layout: &Layout,
) -> Result<Rows<'a, T>> {
    let rank = layout.rank();
    if rank == 0 {
        return Err(Error::Rank {
            op,
            argument,
            least: 1,
            got: 0,
        });
    }
    layout.check(op, argument, x.len())?;
    Ok(Rows::new(x, layout, rank - 1))
}

/// Refuses a vector, such as a weight, that has not one element for each of a row.
pub(crate) fn check_vector<T>(
    op: &'static str,
    argument: &'static str,
    expected: usize,
    vector: &[T],
) -> Result<()> {
    let got = vector.len();
    if expected == got {
        Ok(())
    } else {
        Err(Error::Length {
            op,
            argument,
            expected,
            got,
        })
    }
}

/// Refuses the ε of a norm that is negative or NaN.
pub(crate) fn check_eps(op: &'static str, eps: f64) -> Result<()> {
    if eps >= 0. {
        return Ok(());
    }
    Err(Error::Option {
        op,
        argument: "eps",
        got: eps,
        remedy: "pass 0 or a small positive number",
    })
}

/// How many blocks of rows at most are summed up on their own; see [`sums`].
const BLOCKS: usize = 32;
/// Fewer rows than this make no block.
const BLOCK: usize = 8;

/// Runs `f` on blocks of rows of `out`, each with `vectors` zeroed rows of sums of its own, and adds
/// the blocks' sums in order. The blocks depend on the number of rows only, not on that of threads, and
/// keep rounding errors small as well: no sum has more than some dozens of terms before it is added.
pub(crate) fn sums<T: Element>(
    out: &mut [T],
    width: usize,
    parts: usize,
    vectors: usize,
    f: impl Fn(Range<usize>, &mut [T], &mut [T::Acc]) + Sync,
) -> Vec<T::Acc> {
    let mut total = vec![T::Acc::ZERO; vectors * width];
    let rows = out.len().checked_div(width).unwrap_or(0);
    if rows == 0 {
        return total;
    }
    let block = rows.div_ceil(BLOCKS).max(BLOCK);
    let blocks = rows.div_ceil(block);
    let mut partial = vec![T::Acc::ZERO; blocks * total.len()];
    let parts = parts.min(blocks);
    let mut items = Vec::with_capacity(parts);
    let (mut out, mut rest) = (out, &mut partial[..]);
    for part in 0..parts {
        let mine = threads::part(blocks, parts, part);
        let first = mine.start * block;
        let end = (mine.end * block).min(rows);
        let (rows, others) = std::mem::take(&mut out).split_at_mut((end - first) * width);
        out = others;
        let (sums, others) = std::mem::take(&mut rest).split_at_mut(mine.len() * total.len());
        rest = others;
        items.push((first, rows, sums));
    }
    threads::run_with(items, |_, (first, rows, sums)| {
        let sums = sums.chunks_mut((vectors * width).max(1));
        // With no sums wanted there is nothing to zip with.
        let mut sums = sums.map(Some).chain(std::iter::repeat_with(|| None));
        for (index, rows) in rows.chunks_mut(block * width).enumerate() {
            let start = first + index * block;
            let sums = sums.next().flatten().unwrap_or_default();
            f(start..start + rows.len() / width, rows, sums);
        }
    });
    for partial in partial.chunks(total.len().max(1)) {
        for (total, partial) in total.iter_mut().zip(partial) {
            *total = *total + *partial;
        }
    }
    total
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_vector_once() {
        for n in 0..150 {
            let mut seen = vec![0; n];
            vectors!(n, 16, |at, len, k| {
                assert!(k < 4 && len <= 16);
                seen[at..at + len].iter_mut().for_each(|times| *times += 1);
            });
            assert!(seen.iter().all(|&times| times == 1), "{n}: {seen:?}");
        }
    }

    #[test]
    fn lines_of_a_permuted_view() {
        let x: Vec<f32> = (0..24u8).map(f32::from).collect();
        // 2 x 3 x 4 stored as 4 x 2 x 3.
        let layout = Layout::new(&[2, 3, 4], &[3, 1, 6], 0).unwrap();
        let rows = Rows::new(&x, &layout, 1);
        assert_eq!((rows.count, rows.width), (8, 3));
        let mut buffer = Vec::new();
        assert_eq!(rows.get(5, &mut buffer), [9., 10., 11.]);
        let rows = Rows::new(&x, &layout, 2);
        assert_eq!(rows.get(4, &mut buffer), [4., 10., 16., 22.]);
        let mut tile = [0.; 8];
        rows.gather(4..6, &mut tile);
        assert_eq!(tile, [4., 10., 16., 22., 5., 11., 17., 23.]);
    }
}
