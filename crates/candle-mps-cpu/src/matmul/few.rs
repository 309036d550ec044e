//! Products with few rows: every element of B is read once, in the order in which it lies in memory.
//!
//! One to four rows of A make B's bandwidth the limit, and packing B would double its traffic. Where
//! B's rows lie along memory, blocks of them are added to C's row in cache; where its columns do, each
//! element of C is a dot product. Threads take columns.

use std::ops::Range;

use super::{
    Factor, Mat,
    product::{Left, Product, Right, Term},
    scratch::Buffer,
};
use crate::{
    Element, V,
    simd::{
        Simd, Vector, WithSimd,
        gemm::{Block, prefetch},
    },
    threads,
};

/// Up to this many rows B's bandwidth is the limit.
const MOST: usize = 4;

/// As many for columns that lie along memory, which packing would have to turn.
const MOST_DOTS: usize = 16;

/// Bytes of B, counted twice, that are worth a thread. Tests divide what is much smaller.
pub(crate) const LEAST: usize = if cfg!(test) { 2_000 } else { 6 << 20 };

/// Bytes of the longest rows of B for which the depth is cut for threads, and the most rows of sums in
/// all chunks of it, which one thread adds up.
const LONGEST: usize = if cfg!(test) { 400 } else { 64 << 10 };
const MOST_SUMS: usize = 16;

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

/// Into how many chunks the depth is cut, so that each thread reads B from end to end: half of a row
/// of B may be no more than a page, and then what the processor fetches ahead is the other thread's.
/// The shape alone decides.
pub(crate) fn chunks<T: Factor, O: Element, const N: usize>(
    product: &Product<'_, T, O, N>,
) -> usize {
    let along = |term: &Term<'_, T>| match term.b {
        Right::Own(b) => b.cs == 1,
        Right::Wide(b) => b.cs == 1,
        Right::Packed(_) => false,
    };
    let row = product.n * size_of::<T>();
    if row > LONGEST || !product.terms.iter().all(along) {
        return 1;
    }
    let depth: usize = product.terms.iter().map(|term| term.depth).sum();
    (2 * depth.saturating_mul(row) / LEAST).clamp(1, MOST_SUMS / product.m.clamp(1, MOST_SUMS))
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
    let mut sums = Buffer::<T::Acc>::new(m * width);
    for first in cols.clone().step_by(COLUMNS) {
        let width = cols.end.min(first + COLUMNS) - first;
        let sums = &mut sums[..m * width];
        sum(s, product, (0, 1), first, width, sums);
        for (row, sums) in sums.chunks_exact(width).enumerate() {
            let out = &mut out.row(row)[first - cols.start..][..width];
            product.epilogue.row(s, first, Some(sums), out);
        }
    }
}

/// The sums of one chunk of the depth, `index` of `count`, m x n.
pub(crate) struct Chunk<'a, T: Factor, O: Element, const N: usize> {
    pub product: Product<'a, T, O, N>,
    pub index: usize,
    pub count: usize,
    pub sums: &'a mut [T::Acc],
}

impl<T: Factor, O: Element<Acc = T::Acc>, const N: usize> WithSimd for Chunk<'_, T, O, N> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Product { m, n, .. } = self.product;
        let mut part = Buffer::<T::Acc>::new(m * n.min(COLUMNS));
        for first in (0..n).step_by(COLUMNS) {
            let width = (n - first).min(COLUMNS);
            let part = &mut part[..m * width];
            sum(
                s,
                &self.product,
                (self.index, self.count),
                first,
                width,
                part,
            );
            for (sums, part) in self.sums.chunks_exact_mut(n).zip(part.chunks_exact(width)) {
                sums[first..first + width].copy_from_slice(part);
            }
        }
    }
}

/// Adds up the sums of all chunks, in order, and finishes.
pub(crate) struct Finish<'a, T: Factor, O: Element, const N: usize> {
    pub product: Product<'a, T, O, N>,
    pub sums: &'a mut [T::Acc],
    pub out: &'a mut [O],
}

impl<T: Factor, O: Element<Acc = T::Acc>, const N: usize> WithSimd for Finish<'_, T, O, N> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Product { m, n, .. } = self.product;
        let lanes = V::<T::Acc, S>::LANES;
        let (sums, more) = self.sums.split_at_mut(m * n);
        for chunk in more.chunks_exact(m * n) {
            for (sums, chunk) in sums.chunks_mut(lanes).zip(chunk.chunks(lanes)) {
                let [x, y] = [&*sums, chunk].map(|x| T::Acc::get(s, x, T::Acc::ZERO));
                T::Acc::put(s, x + y, sums);
            }
        }
        for (sums, out) in sums.chunks_exact(n).zip(self.out.chunks_exact_mut(n)) {
            self.product.epilogue.row(s, 0, Some(sums), out);
        }
    }
}

/// Writes the sums of a chunk of the depth, for the columns from `first` on.
#[inline(always)]
fn sum<T: Factor, O: Element<Acc = T::Acc>, S: Simd, const N: usize>(
    s: S,
    product: &Product<'_, T, O, N>,
    (index, count): (usize, usize),
    first: usize,
    width: usize,
    sums: &mut [T::Acc],
) {
    sums.fill(T::Acc::ZERO);
    for term in &product.terms {
        let k = threads::part(term.depth, count, index);
        let mut x = Buffer::<T::Acc>::new(product.m * k.len());
        match term.a {
            Left::Own(a) => gather(a, k.clone(), &mut x),
            Left::Wide(a) => gather(a, k.clone(), &mut x),
        }
        let (dims, sums) = ((product.m, k.len(), product.n), (first, width, &mut *sums));
        match term.b {
            Right::Own(b) => add(s, &x, b.below(k.start), dims, sums),
            Right::Wide(b) => add(s, &x, b.below(k.start), dims, sums),
            Right::Packed(_) => unreachable!("refused by `takes`"),
        }
    }
}

/// Adds x·B to sums: the columns from `first` on.
#[inline(always)]
pub(crate) fn add<E: Element, S: Simd>(
    s: S,
    x: &[E::Acc],
    b: Mat<'_, E>,
    dims: (usize, usize, usize),
    (first, width, sums): (usize, usize, &mut [E::Acc]),
) {
    s.with(Add {
        x,
        b,
        dims,
        first,
        width,
        sums,
    });
}

/// A kernel of its own, which all products share.
struct Add<'a, E: Element> {
    x: &'a [E::Acc],
    b: Mat<'a, E>,
    /// Rows, depth and columns of the product.
    dims: (usize, usize, usize),
    first: usize,
    width: usize,
    sums: &'a mut [E::Acc],
}

impl<E: Element> WithSimd for Add<'_, E> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self {
            x,
            b,
            dims: (m, depth, n),
            first,
            width,
            sums,
        } = self;
        if b.cs != 1 {
            dots(s, x, b, depth, first, width, sums);
        } else if n <= V::<E::Acc, S>::LANES {
            narrow(s, x, b, depth, first, width, sums);
        } else {
            match m {
                1 => add_rows::<E, S, 1, 4>(s, x, b, depth, first, width, sums),
                2 => add_rows::<E, S, 2, 4>(s, x, b, depth, first, width, sums),
                3 => add_rows::<E, S, 3, 2>(s, x, b, depth, first, width, sums),
                _ => add_rows::<E, S, 4, 2>(s, x, b, depth, first, width, sums),
            }
        }
    }
}

/// A's rows, widened, one after the other.
#[inline(always)]
fn gather<E: Element>(a: Mat<'_, E>, k: Range<usize>, x: &mut [E::Acc]) {
    for (row, x) in x.chunks_exact_mut(k.len().max(1)).enumerate() {
        if a.cs == 1 {
            let line = a.run(row * a.rs + k.start, k.len());
            x.iter_mut().zip(line).for_each(|(x, y)| *x = y.to_acc());
            continue;
        }
        for (k, x) in k.clone().zip(x) {
            *x = a.at(row, k).to_acc();
        }
    }
}

/// Rows of B that are added at once.
const ROWS: usize = 4;

/// How far ahead B is asked for, in elements: about what one core has under way.
const AHEAD: usize = 512;

/// Adds a few rows of B at a time, each times M elements of A, to M rows of sums; G vectors at once.
#[inline(always)]
fn add_rows<T: Element, S: Simd, const M: usize, const G: usize>(
    s: S,
    x: &[T::Acc],
    b: Mat<'_, T>,
    depth: usize,
    first: usize,
    width: usize,
    sums: &mut [T::Acc],
) {
    let whole = depth / ROWS * ROWS;
    for k in (0..whole).step_by(ROWS) {
        let factors: [[T::Acc; ROWS]; M] =
            std::array::from_fn(|row| std::array::from_fn(|i| x[row * depth + k + i]));
        let lines: [&[T]; ROWS] = std::array::from_fn(|i| b.run((k + i) * b.rs + first, width));
        add_lines::<T, S, M, ROWS, G>(s, factors, lines, width, sums);
    }
    for k in whole..depth {
        let factors: [[T::Acc; 1]; M] = std::array::from_fn(|row| [x[row * depth + k]]);
        let lines = [b.run(k * b.rs + first, width)];
        add_lines::<T, S, M, 1, G>(s, factors, lines, width, sums);
    }
}

#[inline(always)]
fn add_lines<T: Element, S: Simd, const M: usize, const K: usize, const G: usize>(
    s: S,
    x: [[T::Acc; K]; M],
    lines: [&[T]; K],
    width: usize,
    sums: &mut [T::Acc],
) {
    let lanes = V::<T::Acc, S>::LANES;
    let zero = V::<T::Acc, S>::splat(s, T::Acc::ZERO);
    let mut factors = [[zero; K]; M];
    for (factors, x) in factors.iter_mut().zip(&x) {
        for (factor, &x) in factors.iter_mut().zip(x) {
            *factor = V::<T::Acc, S>::splat(s, x);
        }
    }
    let whole = width / (G * lanes) * (G * lanes);
    for at in (0..whole).step_by(G * lanes) {
        let mut all = [[zero; G]; M];
        for (row, all) in all.iter_mut().enumerate() {
            let place = &sums[row * width + at..][..G * lanes];
            for (j, sum) in all.iter_mut().enumerate() {
                *sum = T::Acc::load(s, &place[j * lanes..]);
            }
        }
        for (i, line) in lines.iter().enumerate() {
            let line = &line[at..][..G * lanes];
            for j in 0..G {
                let line = &line[j * lanes..];
                prefetch(line.as_ptr().wrapping_add(AHEAD));
                let line = T::load(s, line);
                for (all, factors) in all.iter_mut().zip(&factors) {
                    all[j] = line.mul_add(factors[i], all[j]);
                }
            }
        }
        for (row, all) in all.iter().enumerate() {
            let place = &mut sums[row * width + at..][..G * lanes];
            for (j, &sum) in all.iter().enumerate() {
                T::Acc::store(s, sum, &mut place[j * lanes..]);
            }
        }
    }
    for at in (whole..width).step_by(lanes) {
        let end = width.min(at + lanes);
        for (row, factors) in factors.iter().enumerate() {
            let place = &mut sums[row * width + at..row * width + end];
            let mut sum = T::Acc::get(s, place, T::Acc::ZERO);
            for (&factor, line) in factors.iter().zip(&lines) {
                sum = T::get(s, &line[at..end], T::Acc::ZERO).mul_add(factor, sum);
            }
            T::Acc::put(s, sum, place);
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

/// Each sum is a dot product of a row of A with a column of B: for one row in the order of memory, for
/// more four columns at a time.
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
    let whole = if sums.len() == width {
        0
    } else {
        width / 4 * 4
    };
    for j in (0..whole).step_by(4) {
        let columns = [column(j), column(j + 1), column(j + 2), column(j + 3)];
        for (row, x) in x.chunks_exact(depth.max(1)).enumerate() {
            let place = &mut sums[row * width + j..][..4];
            for (place, dot) in place.iter_mut().zip(dot::<T, S, 4, 2>(s, x, columns)) {
                *place = *place + dot;
            }
        }
    }
    for j in whole..width {
        let column = column(j);
        for (row, x) in x.chunks_exact(depth.max(1)).enumerate() {
            let place = &mut sums[row * width + j];
            *place = *place + dot::<T, S, 1, 8>(s, x, [column])[0];
        }
    }
}

/// N dot products, each in C chains.
#[inline(always)]
fn dot<T: Element, S: Simd, const N: usize, const C: usize>(
    s: S,
    x: &[T::Acc],
    columns: [&[T]; N],
) -> [T::Acc; N] {
    let lanes = V::<T::Acc, S>::LANES;
    let mut chains = [[V::<T::Acc, S>::splat(s, T::Acc::ZERO); C]; N];
    let whole = x.len() / (C * lanes) * (C * lanes);
    for k in (0..whole).step_by(C * lanes) {
        let x = &x[k..][..C * lanes];
        for (chains, column) in chains.iter_mut().zip(columns) {
            let column = &column[k..][..C * lanes];
            for (at, chain) in (0..).step_by(lanes).zip(chains) {
                let column = &column[at..];
                prefetch(column.as_ptr().wrapping_add(AHEAD));
                *chain = T::load(s, column).mul_add(T::Acc::load(s, &x[at..]), *chain);
            }
        }
    }
    for k in (whole..x.len()).step_by(lanes) {
        let end = x.len().min(k + lanes);
        let x = T::Acc::get(s, &x[k..end], T::Acc::ZERO);
        for (chains, column) in chains.iter_mut().zip(columns) {
            chains[0] = T::get(s, &column[k..end], T::Acc::ZERO).mul_add(x, chains[0]);
        }
    }
    let mut dots = [T::Acc::ZERO; N];
    for (dot, chains) in dots.iter_mut().zip(&mut chains) {
        let mut count = C;
        while count > 1 {
            count /= 2;
            for i in 0..count {
                chains[i] = chains[i] + chains[i + count];
            }
        }
        *dot = chains[0].reduce_add();
    }
    dots
}
