//! What both passes share: packed blocks of heads, and the arithmetic of a row of scores.

use std::ops::Range;

use super::Problem;
use crate::{
    Element, Real, V,
    matmul::{Buffer, Factor, Mat, Scratch, block::Multiply, pack},
    rows::{max_of_four, sum_of_four, vectors},
    simd::{
        Simd, Vector, WithSimd, exp,
        gemm::{Block, a_stride, depth},
    },
    threads,
};

/// Queries of a block: two register tiles. Fixed, so that cuts for threads do not move blocks.
pub(super) const QUERIES: usize = 28;

/// A size in parts that a packed block is deep enough for.
fn chunks<R>(size: usize) -> impl Iterator<Item = Range<usize>> {
    let count = size.div_ceil(depth::<R>());
    (0..count).map(move |index| threads::part(size, count, index))
}

/// Rows of a head, packed as left factor.
pub(super) struct Rows<R: Scratch> {
    data: Buffer<R>,
    rows: usize,
    size: usize,
}

impl<R: Scratch + Real> Rows<R> {
    #[inline(always)]
    pub fn new<T: Element<Acc = R>, S: Simd>(
        s: S,
        x: Mat<'_, T>,
        rows: Range<usize>,
        size: usize,
        factor: R,
    ) -> Self {
        let count = chunks::<R>(size).count();
        let (height, stride) = (rows.len(), a_stride::<R>());
        let mut data = Buffer::new(count * height * stride);
        for (chunk, k) in data
            .chunks_exact_mut((height * stride).max(1))
            .zip(chunks::<R>(size))
        {
            let deep = k.len();
            pack::rows(s, x, rows.clone(), k, stride, chunk);
            if factor != R::ONE {
                chunk
                    .chunks_exact_mut(stride)
                    .for_each(|row| scale(s, &mut row[..deep], factor));
            }
        }
        Self {
            data,
            rows: height,
            size,
        }
    }

    /// C = these rows times panels.
    #[inline(always)]
    pub fn times<S: Simd>(
        &self,
        s: S,
        rows: Range<usize>,
        panels: &Panels<R>,
        mut c: Block<'_, R>,
    ) {
        let stride = a_stride::<R>();
        let (height, width) = (c.rows(), c.cols());
        if self.size == 0 {
            (0..height).for_each(|row| c.row(row).fill(R::ZERO));
        }
        for (index, k) in chunks::<R>(self.size).enumerate() {
            let a = &self.data[(index * self.rows + rows.start) * stride..];
            let b = &panels.data[k.start * panels.padded..];
            let c = c.part(0..height, 0..width);
            s.with(Multiply {
                rows: a,
                panels: b,
                packed: (k.len(), panels.cols),
                depth: k.len(),
                c,
                add: index > 0,
            });
        }
    }
}

/// Columns of a matrix, packed as right factor: for [`Rows::times`] in chunks of the depth, for
/// [`Panels::after`] in one.
pub(super) struct Panels<R: Scratch> {
    data: Buffer<R>,
    deep: usize,
    cols: usize,
    padded: usize,
}

impl<R: Scratch + Real> Panels<R> {
    /// The rows `k` and columns `cols` of `x`.
    #[inline(always)]
    pub fn new<T: Element<Acc = R>, S: Simd>(
        s: S,
        x: Mat<'_, T>,
        k: Range<usize>,
        cols: Range<usize>,
    ) -> Self {
        let padded = pack::padded(cols.len(), V::<R, S>::LANES);
        let mut data = Buffer::new(k.len() * padded);
        for chunk in chunks::<R>(k.len()) {
            let block = &mut data[chunk.start * padded..chunk.end * padded];
            pack::cols(
                s,
                x,
                k.start + chunk.start..k.start + chunk.end,
                cols.clone(),
                block,
            );
        }
        Self {
            data,
            deep: k.len(),
            cols: cols.len(),
            padded,
        }
    }

    /// C += rows of `deep` elements at `a_stride` times the first `deep` rows of these panels, which
    /// are of one chunk.
    #[inline(always)]
    pub fn after<S: Simd>(&self, s: S, a: &[R], deep: usize, c: Block<'_, R>) {
        s.with(Multiply {
            rows: a,
            panels: &self.data,
            packed: (self.deep, self.cols),
            depth: deep,
            c,
            add: true,
        });
    }
}

/// x times factor.
#[inline(always)]
pub(super) fn scale<R: Real, S: Simd>(s: S, x: &mut [R], factor: R) {
    let factor = V::<R, S>::splat(s, factor);
    vectors!(x.len(), V::<R, S>::LANES, |at, len, _k| {
        let v = R::get(s, &x[at..at + len], R::ZERO) * factor;
        R::put(s, v, &mut x[at..at + len]);
    });
}

/// Rounds a row of sums into the result.
#[inline(always)]
pub(super) fn narrow<T: Element, S: Simd>(s: S, sums: &[T::Acc], out: &mut [T]) {
    let lanes = V::<T::Acc, S>::LANES;
    for (x, y) in sums.chunks(lanes).zip(out.chunks_mut(lanes)) {
        if x.len() == lanes {
            T::store(s, T::Acc::load(s, x), y);
        } else {
            T::store_part(s, T::Acc::load_part(s, x, T::Acc::ZERO), y);
        }
    }
}

/// c·tanh(x/c), from 2/c: c·(1 − 2/(1 + e^(2x/c))).
#[inline(always)]
fn capped<R: Real, S: Simd>(s: S, x: V<R, S>, [cap, twice]: [R; 2]) -> V<R, S> {
    let splat = |x| V::<R, S>::splat(s, x);
    let grown = exp::<R, S>(s, x * splat(twice)) + splat(R::ONE);
    splat(cap) * (splat(R::ONE) - splat(R::from_f64(2.)) / grown)
}

/// Caps scores, and adds the mask: keys from `start` on, as seen by `query`.
#[inline(always)]
pub(super) fn finish<T: Factor, S: Simd>(
    s: S,
    problem: &Problem<'_, T>,
    mask: Option<Mat<'_, T>>,
    query: usize,
    start: usize,
    scores: &mut [T::Acc],
) {
    if let Some(cap) = problem.cap {
        s.with(Cap { scores, cap });
    }
    let Some(mask) = mask else { return };
    if mask.cs == 1 {
        let mask = mask.run(query * mask.rs + start, scores.len());
        s.with(Add { scores, mask });
    } else {
        for (at, x) in scores.iter_mut().enumerate() {
            *x = *x + mask.at(query, start + at).to_acc();
        }
    }
}

/// Kernels of their own, which the loops of both passes share.
struct Cap<'a, R> {
    scores: &'a mut [R],
    cap: [R; 2],
}

impl<R: Real> WithSimd for Cap<'_, R> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let (scores, cap) = (self.scores, self.cap);
        vectors!(scores.len(), V::<R, S>::LANES, |at, len, _k| {
            let x = R::get(s, &scores[at..at + len], R::ZERO);
            R::put(s, capped::<R, S>(s, x, cap), &mut scores[at..at + len]);
        });
    }
}

/// Adds as many elements of a mask as there are scores.
struct Add<'a, T: Element> {
    scores: &'a mut [T::Acc],
    mask: &'a [T],
}

impl<T: Element> WithSimd for Add<'_, T> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let (scores, mask) = (self.scores, self.mask);
        vectors!(scores.len(), V::<T::Acc, S>::LANES, |at, len, _k| {
            let x = T::Acc::get(s, &scores[at..at + len], T::Acc::ZERO);
            let x = x + T::get(s, &mask[at..at + len], T::Acc::ZERO);
            T::Acc::put(s, x, &mut scores[at..at + len]);
        });
    }
}

/// Turns scores into weights relative to the largest score so far, which may become larger: then what
/// was summed before must be multiplied by the result.
#[inline(always)]
pub(super) fn weigh<R: Real, S: Simd>(s: S, scores: &mut [R], largest: &mut R, total: &mut R) -> R {
    if scores.is_empty() {
        return R::ONE;
    }
    s.with(Weigh {
        scores,
        largest,
        total,
    })
}

struct Weigh<'a, R> {
    scores: &'a mut [R],
    largest: &'a mut R,
    total: &'a mut R,
}

impl<R: Real> WithSimd for Weigh<'_, R> {
    type Output = R;
    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> R {
        let Self {
            scores,
            largest,
            total,
        } = self;
        let (n, lanes) = (scores.len(), V::<R, S>::LANES);
        let splat = |value| V::<R, S>::splat(s, value);
        let mut most = [splat(R::NEG_INFINITY); 4];
        vectors!(n, lanes, |at, len, k| {
            most[k] = R::get(s, &scores[at..at + len], R::NEG_INFINITY).max(most[k]);
        });
        let most = max_of_four(most);
        let before = *largest;
        if most > before {
            *largest = most;
        }
        // Where nothing is visible yet, any finite number will do: every weight is 0.
        let at = if *largest == R::NEG_INFINITY {
            R::ZERO
        } else {
            *largest
        };
        let base = splat(at);
        let mut sums = [splat(R::ZERO); 4];
        vectors!(n, lanes, |at, len, k| {
            let score = R::get(s, &scores[at..at + len], R::NEG_INFINITY);
            let weight = exp::<R, S>(s, score - base);
            sums[k] = sums[k] + weight;
            R::put(s, weight, &mut scores[at..at + len]);
        });
        let sum = sum_of_four(sums);
        let factor = if *largest == before {
            R::ONE
        } else {
            R::from_f64((before.to_f64() - at.to_f64()).exp())
        };
        *total = *total * factor + sum;
        factor
    }
}
