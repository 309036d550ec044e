//! Rows along one axis of an operand, and loops over their vectors.

use std::ops::Range;

use crate::{
    Element, Layout, Real, V,
    simd::{MAX_LANES, Simd},
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
            count: if layout.count() == 0 { 0 } else { count },
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

    /// Copies `lines` to `tile`, one after the other, reading neighbours of different lines together.
    pub fn gather(&self, lines: Range<usize>, tile: &mut [T]) {
        for (column, line) in lines.enumerate() {
            let start = self.start(line);
            for (i, to) in tile[column * self.width..][..self.width]
                .iter_mut()
                .enumerate()
            {
                *to = self.x[start + i * self.step];
            }
        }
    }
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
