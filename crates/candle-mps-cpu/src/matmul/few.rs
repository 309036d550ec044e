//! Products with few rows: every element of B is read once, in the order in which it lies in memory.
//!
//! One to four rows of A make B's bandwidth the limit, and packing B would double its traffic. Where
//! B's rows lie along memory, blocks of them are added to C's row in cache; where its columns do, each
//! element of C is a dot product. Threads take columns.

use std::ops::Range;

use super::{
    Factor, Mat,
    product::{Left, Product, Right},
    scratch::Buffer,
};
use crate::{
    Element, V,
    simd::{Simd, Vector, gemm::Block},
};

/// Up to this many rows B's bandwidth is the limit.
const MOST: usize = 4;

/// As many for columns that lie along memory, which packing would have to turn.
const MOST_DOTS: usize = 16;

/// Bytes of B, counted twice, that are worth a thread. Tests divide what is much smaller.
pub(crate) const LEAST: usize = if cfg!(test) { 2_000 } else { 1536 << 10 };

/// Columns whose sums stay in the first cache.
const COLUMNS: usize = 2048;

/// Whether this way is the right one: it depends on shape and strides only.
pub(crate) fn takes<T: Factor, O: Element, const N: usize>(product: &Product<'_, T, O, N>) -> bool {
    let all = |fits: fn(usize, usize) -> bool| {
        product.terms.iter().all(|term| match term.b {
            Right::Own(b) => fits(b.rs, b.cs),
            Right::Wide(b) => fits(b.rs, b.cs),
            Right::Packed(_) => false,
        })
    };
    match product.m {
        m if m <= MOST => all(|rs, cs| rs == 1 || cs == 1),
        m if m <= MOST_DOTS => all(|rs, cs| rs == 1 && cs != 1),
        _ => false,
    }
}

/// Computes the columns `cols` of all rows.
#[inline(always)]
pub(crate) fn run<T: Factor, O: Element<Acc = T::Acc>, S: Simd, const N: usize>(
    s: S,
    product: &Product<'_, T, O, N>,
    cols: Range<usize>,
    mut out: Block<'_, O>,
) {
    let (m, width) = (product.m, cols.len().min(COLUMNS));
    let deepest = product
        .terms
        .iter()
        .map(|term| term.depth)
        .max()
        .unwrap_or(0);
    let mut x = Buffer::<T::Acc>::new(m * deepest);
    let mut sums = Buffer::<T::Acc>::new(m * width);
    for first in cols.clone().step_by(COLUMNS) {
        let width = cols.end.min(first + COLUMNS) - first;
        let sums = &mut sums[..m * width];
        sums.fill(T::Acc::ZERO);
        for term in &product.terms {
            let x = &mut x[..m * term.depth];
            match term.a {
                Left::Own(a) => gather(a, term.depth, x),
                Left::Wide(a) => gather(a, term.depth, x),
            }
            let sums = (first, width, &mut *sums);
            match term.b {
                Right::Own(b) => add(s, x, b, (m, term.depth, product.n), sums),
                Right::Wide(b) => add(s, x, b, (m, term.depth, product.n), sums),
                Right::Packed(_) => unreachable!("refused by `takes`"),
            }
        }
        for (row, sums) in sums.chunks_exact(width).enumerate() {
            let out = &mut out.row(row)[first - cols.start..][..width];
            product.epilogue.row(s, first, Some(sums), out);
        }
    }
}

/// Adds x·B to sums: the columns from `first` on.
#[inline(always)]
pub(crate) fn add<E: Element, S: Simd>(
    s: S,
    x: &[E::Acc],
    b: Mat<'_, E>,
    (m, depth, n): (usize, usize, usize),
    (first, width, sums): (usize, usize, &mut [E::Acc]),
) {
    if b.cs != 1 {
        dots(s, x, b, depth, first, width, sums);
    } else if n <= V::<E::Acc, S>::LANES {
        narrow(s, x, b, depth, first, width, sums);
    } else {
        match m {
            1 => add_rows::<E, S, 1, 8>(s, x, b, depth, first, width, sums),
            2 => add_rows::<E, S, 2, 8>(s, x, b, depth, first, width, sums),
            3 => add_rows::<E, S, 3, 4>(s, x, b, depth, first, width, sums),
            _ => add_rows::<E, S, 4, 4>(s, x, b, depth, first, width, sums),
        }
    }
}

/// A's rows, widened, one after the other.
#[inline(always)]
fn gather<E: Element>(a: Mat<'_, E>, depth: usize, x: &mut [E::Acc]) {
    if depth == 0 {
        return;
    }
    for (row, x) in x.chunks_exact_mut(depth).enumerate() {
        for (k, x) in x.iter_mut().enumerate() {
            *x = a.at(row, k).to_acc();
        }
    }
}

/// Adds K rows of B at a time, each times M elements of A, to M rows of sums.
#[inline(always)]
fn add_rows<T: Element, S: Simd, const M: usize, const K: usize>(
    s: S,
    x: &[T::Acc],
    b: Mat<'_, T>,
    depth: usize,
    first: usize,
    width: usize,
    sums: &mut [T::Acc],
) {
    let whole = depth / K * K;
    for k in (0..whole).step_by(K) {
        add_block::<T, S, M, K>(s, x, b, depth, k, first, width, sums);
    }
    for k in whole..depth {
        add_block::<T, S, M, 1>(s, x, b, depth, k, first, width, sums);
    }
}

#[inline(always)]
#[allow(
    clippy::too_many_arguments,
    reason = "a loop body that two loops share"
)]
fn add_block<T: Element, S: Simd, const M: usize, const K: usize>(
    s: S,
    x: &[T::Acc],
    b: Mat<'_, T>,
    depth: usize,
    k: usize,
    first: usize,
    width: usize,
    sums: &mut [T::Acc],
) {
    let lanes = V::<T::Acc, S>::LANES;
    let factors: [[_; K]; M] = std::array::from_fn(|row| {
        std::array::from_fn(|i| V::<T::Acc, S>::splat(s, x[row * depth + k + i]))
    });
    let lines: [&[T]; K] = std::array::from_fn(|i| b.run((k + i) * b.rs + first, width));
    let whole = width / lanes * lanes;
    for at in (0..whole).step_by(lanes) {
        let line: [_; K] = std::array::from_fn(|i| T::load(s, &lines[i][at..at + lanes]));
        for (row, factors) in factors.iter().enumerate() {
            let place = &mut sums[row * width + at..][..lanes];
            let mut sum = T::Acc::load(s, place);
            for (&factor, &line) in factors.iter().zip(&line) {
                sum = line.mul_add(factor, sum);
            }
            T::Acc::store(s, sum, place);
        }
    }
    if whole < width {
        for (row, factors) in factors.iter().enumerate() {
            let place = &mut sums[row * width + whole..(row + 1) * width];
            let mut sum = T::Acc::load_part(s, place, T::Acc::ZERO);
            for (&factor, line) in factors.iter().zip(&lines) {
                let line = T::load_part(s, &line[whole..], T::Acc::ZERO);
                sum = line.mul_add(factor, sum);
            }
            T::Acc::store_part(s, sum, place);
        }
    }
}

/// At most one vector of columns: eight chains along k, because one would wait for its own sums.
#[inline(always)]
fn narrow<T: Element, S: Simd>(
    s: S,
    x: &[T::Acc],
    b: Mat<'_, T>,
    depth: usize,
    first: usize,
    width: usize,
    sums: &mut [T::Acc],
) {
    const CHAINS: usize = 8;
    let zero = V::<T::Acc, S>::splat(s, T::Acc::ZERO);
    for (x, sums) in x
        .chunks_exact(depth.max(1))
        .zip(sums.chunks_exact_mut(width))
    {
        let mut chains = [zero; CHAINS];
        let whole = depth / CHAINS * CHAINS;
        for k in (0..whole).step_by(CHAINS) {
            let x = &x[k..k + CHAINS];
            for (i, chain) in chains.iter_mut().enumerate() {
                let line = T::load_part(s, b.run((k + i) * b.rs + first, width), T::Acc::ZERO);
                *chain = line.mul_add(V::<T::Acc, S>::splat(s, x[i]), *chain);
            }
        }
        for (k, &x) in x.iter().enumerate().skip(whole) {
            let line = T::load_part(s, b.run(k * b.rs + first, width), T::Acc::ZERO);
            chains[0] = line.mul_add(V::<T::Acc, S>::splat(s, x), chains[0]);
        }
        let [a, b, c, d, e, f, g, h] = chains;
        let sum = ((a + b) + (c + d)) + ((e + f) + (g + h));
        let old = T::Acc::load_part(s, sums, T::Acc::ZERO);
        T::Acc::store_part(s, old + sum, sums);
    }
}

/// Each sum is a dot product of a row of A with a column of B, four columns at a time.
#[inline(always)]
fn dots<T: Element, S: Simd>(
    s: S,
    x: &[T::Acc],
    b: Mat<'_, T>,
    depth: usize,
    first: usize,
    width: usize,
    sums: &mut [T::Acc],
) {
    let column = |j: usize| b.run((first + j) * b.cs, depth);
    let whole = width / 4 * 4;
    for j in (0..whole).step_by(4) {
        let columns = std::array::from_fn::<_, 4, _>(|i| column(j + i));
        for (row, x) in x.chunks_exact(depth.max(1)).enumerate() {
            let place = &mut sums[row * width + j..][..4];
            for (place, dot) in place.iter_mut().zip(dot::<T, S, 4>(s, x, columns)) {
                *place = *place + dot;
            }
        }
    }
    for j in whole..width {
        for (row, x) in x.chunks_exact(depth.max(1)).enumerate() {
            let place = &mut sums[row * width + j];
            *place = *place + dot::<T, S, 1>(s, x, [column(j)])[0];
        }
    }
}

/// N dot products, each in two chains.
#[inline(always)]
fn dot<T: Element, S: Simd, const N: usize>(s: S, x: &[T::Acc], columns: [&[T]; N]) -> [T::Acc; N] {
    let lanes = V::<T::Acc, S>::LANES;
    let mut chains = [[V::<T::Acc, S>::splat(s, T::Acc::ZERO); 2]; N];
    let whole = x.len() / (2 * lanes) * (2 * lanes);
    for k in (0..whole).step_by(2 * lanes) {
        for half in 0..2 {
            let at = k + half * lanes;
            let x = T::Acc::load(s, &x[at..at + lanes]);
            for (chains, column) in chains.iter_mut().zip(columns) {
                chains[half] = T::load(s, &column[at..at + lanes]).mul_add(x, chains[half]);
            }
        }
    }
    for k in (whole..x.len()).step_by(lanes) {
        let end = x.len().min(k + lanes);
        let x = T::Acc::load_part(s, &x[k..end], T::Acc::ZERO);
        for (chains, column) in chains.iter_mut().zip(columns) {
            let column = T::load_part(s, &column[k..end], T::Acc::ZERO);
            chains[0] = column.mul_add(x, chains[0]);
        }
    }
    chains.map(|[a, b]| (a + b).reduce_add())
}
