//! Rows along one axis of an operand, and loops over their vectors.

use std::{borrow::Cow, ops::Range};

use crate::{
    Element, Error, Layout, Real, Result, V,
    simd::{Isa, MAX_LANES, Simd, Vector, WithSimd},
    threads,
};

/// Runs a block for each vector of `0..n`: first in groups of four whose accumulators `k` (0 to 3) are
/// independent, then one by one. `at` is the first element, `len` the number of them: `lanes`, as the
/// compiler knows in the first loop, or fewer in the last vector.
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
        let mut next = groups * 4 * lanes;
        while next < n {
            let ($at, $len) = (next, lanes.min(n - next));
            $body
            next += lanes;
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

    /// A line as it is computed with: where it lies, or in `buffer`.
    #[inline(always)]
    pub fn get<'b, S: Simd>(
        &'b self,
        s: S,
        line: usize,
        buffer: &'b mut Vec<T::Acc>,
    ) -> &'b [T::Acc] {
        let start = self.start(line);
        if self.step == 1 || self.width == 1 {
            return wide(s, &self.x[start..start + self.width], buffer);
        }
        buffer.clear();
        buffer.extend((0..self.width).map(|i| self.x[start + i * self.step].to_acc()));
        buffer
    }

    /// The element that a line consists of, where it is one that a stride of 0 repeats: as often as the
    /// dimension says, which no slice bounds.
    pub fn repeated(&self, line: usize) -> Option<&T> {
        let repeats = self.step == 0 && self.width > 1;
        repeats.then(|| &self.x[self.start(line)])
    }

    /// Copies up to [`TILE`] lines to `tile`, one after the other. Neighbours across the lines are read
    /// together, so that a cache line is used whole where the lines lie side by side.
    pub fn gather(&self, lines: Range<usize>, tile: &mut [T::Acc]) {
        let mut starts = [0; TILE];
        for (start, line) in starts.iter_mut().zip(lines.clone()) {
            *start = self.start(line);
        }
        for i in 0..self.width {
            for (column, start) in starts.iter().enumerate().take(lines.len()) {
                tile[column * self.width + i] = self.x[start + i * self.step].to_acc();
            }
        }
    }
}

// Kernels compute with f32 and f64. f16 and bf16 are widened line by line on the way in and rounded on
// the way out: in the first cache this costs little, and every kernel exists for two types, not four.

/// `x` itself, or widened to `buffer`.
#[inline(always)]
pub(crate) fn wide<'b, T: Element, S: Simd>(
    s: S,
    x: &'b [T],
    buffer: &'b mut Vec<T::Acc>,
) -> &'b [T::Acc] {
    if let Some(x) = T::as_acc(x) {
        return x;
    }
    buffer.resize(x.len().max(buffer.len()), T::Acc::ZERO);
    s.with(Widen { x, to: buffer });
    &buffer[..x.len()]
}

/// A vector that goes with every row, such as a weight: itself, or widened once.
pub(crate) fn wide_vector<'a, T: Element>(isa: Isa, x: &'a [T]) -> Cow<'a, [T::Acc]> {
    if let Some(x) = T::as_acc(x) {
        return Cow::Borrowed(x);
    }
    let mut to = vec![T::Acc::ZERO; x.len()];
    isa.run(Widen { x, to: &mut to });
    Cow::Owned(to)
}

/// The weight of a norm's backward pass, widened: without one, ones.
pub(crate) fn weight_or_ones<'a, T: Element>(
    isa: Isa,
    weight: Option<&'a [T]>,
    width: usize,
) -> Cow<'a, [T::Acc]> {
    match weight {
        Some(weight) => wide_vector(isa, weight),
        None => Cow::Owned(vec![T::Acc::ONE; width]),
    }
}

/// Where a line of results is computed: in its place, or in `buffer`. [`settle`] comes after.
#[inline(always)]
pub(crate) fn place<'b, T: Element>(
    out: &'b mut [T],
    buffer: &'b mut Vec<T::Acc>,
) -> &'b mut [T::Acc] {
    let len = out.len();
    if let Some(out) = T::as_acc_mut(out) {
        return out;
    }
    buffer.resize(len.max(buffer.len()), T::Acc::ZERO);
    &mut buffer[..len]
}

/// [`place`] for a line that is read first.
#[inline(always)]
pub(crate) fn place_of<'b, T: Element, S: Simd>(
    s: S,
    out: &'b mut [T],
    buffer: &'b mut Vec<T::Acc>,
) -> &'b mut [T::Acc] {
    if !T::WIDE {
        buffer.resize(out.len().max(buffer.len()), T::Acc::ZERO);
        s.with(Widen { x: out, to: buffer });
    }
    place(out, buffer)
}

/// Rounds a line from `buffer` to its place, unless it was computed there.
#[inline(always)]
pub(crate) fn settle<T: Element, S: Simd>(s: S, buffer: &[T::Acc], out: &mut [T]) {
    if !T::WIDE {
        s.with(Round { x: buffer, to: out });
    }
}

/// Widens all of `x` to the start of `to`.
struct Widen<'a, T: Element> {
    x: &'a [T],
    to: &'a mut [T::Acc],
}

impl<T: Element> WithSimd for Widen<'_, T> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let (x, to) = (self.x, &mut self.to[..self.x.len()]);
        vectors!(x.len(), V::<T::Acc, S>::LANES, |at, len, _k| {
            let v = T::get(s, &x[at..at + len], T::Acc::ZERO);
            T::Acc::put(s, v, &mut to[at..at + len]);
        });
    }
}

/// Rounds the start of `x` to all of `to`.
struct Round<'a, T: Element> {
    x: &'a [T::Acc],
    to: &'a mut [T],
}

impl<T: Element> WithSimd for Round<'_, T> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let (x, to) = (&self.x[..self.to.len()], self.to);
        vectors!(x.len(), V::<T::Acc, S>::LANES, |at, len, _k| {
            let v = T::Acc::get(s, &x[at..at + len], T::Acc::ZERO);
            T::put(s, v, &mut to[at..at + len]);
        });
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

/// Refuses the ε of a norm that is negative or NaN. The norms do so themselves; this is for those who
/// compute one in another way.
///
/// # Errors
/// [`Error::Option`].
pub fn check_eps(op: &'static str, eps: f64) -> Result<()> {
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
    use crate::simd::Scalar;

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
        let (s, mut buffer) = (Scalar::new(), Vec::new());
        assert_eq!(rows.get(s, 5, &mut buffer), [9., 10., 11.]);
        let rows = Rows::new(&x, &layout, 2);
        assert_eq!(rows.get(s, 4, &mut buffer), [4., 10., 16., 22.]);
        let mut tile = [0.; 8];
        rows.gather(4..6, &mut tile);
        assert_eq!(tile, [4., 10., 16., 22., 5., 11., 17., 23.]);
    }
}
