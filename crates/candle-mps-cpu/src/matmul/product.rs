//! One product, from operands to results: how it is cut into cells for threads. Each cell is cut into
//! blocks that stay in cache, see `block.rs`.
//!
//! A product is a sum of terms, Σ Aᵢ·Bᵢ, so that a LoRA layer's x·W + t·B is one pass over C. Every
//! element of C is the same sequence of operations whatever the cut: the depth is cut by the shape
//! alone, and inside a block each element has one chain of multiply-adds.

use std::ops::Range;

use super::{
    Factor, Mat, Output, PackedB,
    block::{Blocks, block, pairs_of},
    epilogue::Epilogue,
    few, pack,
    scratch::Buffer,
};
use crate::{
    Element,
    simd::{Isa, Simd, WithSimd, gemm::Block},
    threads,
};

/// Rows for which a packed block of B is used before the next is packed.
const ROWS: usize = if cfg!(test) { 32 } else { 1024 };

/// Floating-point operations that are worth a thread. Tests divide what is much smaller.
pub(crate) const LEAST: usize = if cfg!(test) { 2_000 } else { 12_000_000 };

/// The left factor of a term: an operand, or something computed before and not rounded.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Left<'a, T: Element> {
    Own(Mat<'a, T>),
    Wide(Mat<'a, T::Acc>),
}

/// The right factor of a term.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Right<'a, T: Factor> {
    Own(Mat<'a, T>),
    Wide(Mat<'a, T::Acc>),
    Packed(&'a PackedB<T>),
}

/// A·B.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Term<'a, T: Factor> {
    pub a: Left<'a, T>,
    pub b: Right<'a, T>,
    pub depth: usize,
}

/// C (m x n) = epilogue(Σ terms).
#[derive(Debug, Clone, Copy)]
pub(crate) struct Product<'a, T: Factor, O: Element, const N: usize> {
    pub m: usize,
    pub n: usize,
    pub terms: [Term<'a, T>; N],
    pub epilogue: Epilogue<'a, O>,
}

/// A part of a product for one thread.
struct Cell<'a, T: Factor, O: Element, const N: usize> {
    product: Product<'a, T, O, N>,
    isa: Isa,
    rows: Range<usize>,
    cols: Range<usize>,
    out: Block<'a, O>,
}

/// Computes `batch` products of equal shape into consecutive m x n matrices of `out`.
pub(crate) fn run<'a, T: Factor, O: Output<Acc = T::Acc>, const N: usize>(
    batch: usize,
    isa: Isa,
    out: &mut [O],
    (m, n): (usize, usize),
    terms: &(dyn Fn(usize) -> [Term<'a, T>; N] + Sync),
    epilogue: Epilogue<'_, O>,
) {
    let size = m * n;
    if batch == 0 || size == 0 {
        return;
    }
    let product = |index| Product {
        m,
        n,
        terms: terms(index),
        epilogue,
    };
    let terms = product(0).terms;
    let depth = terms
        .iter()
        .fold(1, |sum: usize, term| sum.saturating_add(2 * term.depth));
    let work = depth.saturating_mul(size);
    let rows_are_few = few::takes(&product(0));
    if rows_are_few && batch == 1 {
        let chunks = few::chunks(&product(0));
        if chunks > 1 {
            return in_chunks(product(0), isa, chunks, out);
        }
    }
    let parts = match rows_are_few {
        true => threads::parts(depth.saturating_mul(n * size_of::<T>() * batch), few::LEAST),
        false => threads::parts(work.saturating_mul(batch), LEAST),
    };
    let whole = |index: usize, out: &mut [O]| {
        let product = product(index);
        let out = Block::new(out, m, n, n);
        isa.run(Cell {
            product,
            isa,
            rows: 0..m,
            cols: 0..n,
            out,
        });
    };
    if parts == 1 || batch >= 4 * parts || batch.is_multiple_of(parts) {
        threads::rows(out, size, parts.min(batch), |range, out| {
            for (index, out) in range.zip(out.chunks_exact_mut(size)) {
                whole(index, out);
            }
        });
        return;
    }
    let panel = isa.run(PanelOf::<T>::NEW);
    let (down, across) = match rows_are_few {
        true => (1, parts.min(n.div_ceil(panel))),
        false => grid(m, n, parts, panel),
    };
    let mut cells: Vec<Vec<Cell<'_, T, O, N>>> = (0..down * across).map(|_| Vec::new()).collect();
    for (index, out) in out.chunks_exact_mut(size).enumerate() {
        let product = product(index);
        let mut below = Block::new(out, m, n, n);
        for i in 0..down {
            let rows = threads::part(m, down, i);
            let (mut right, rest) = below.split_rows(rows.len());
            below = rest;
            for (j, cols) in columns(n, across, panel).enumerate() {
                let (out, rest) = right.split_cols(cols.len());
                right = rest;
                let rows = rows.clone();
                cells[i * across + j].push(Cell {
                    product,
                    isa,
                    rows,
                    cols,
                    out,
                });
            }
        }
    }
    threads::run_with(cells, |_, cells| {
        for cell in cells {
            isa.run(cell);
        }
    });
}

/// A product of few rows, whose depth is cut for threads.
fn in_chunks<T: Factor, O: Output<Acc = T::Acc>, const N: usize>(
    product: Product<'_, T, O, N>,
    isa: Isa,
    count: usize,
    out: &mut [O],
) {
    let size = product.m * product.n;
    let mut sums = Buffer::<T::Acc>::new(count * size);
    threads::rows(
        &mut sums,
        size,
        threads::count().min(count),
        |range, sums| {
            for (index, sums) in range.zip(sums.chunks_exact_mut(size)) {
                isa.run(few::Chunk {
                    product,
                    index,
                    count,
                    sums,
                });
            }
        },
    );
    isa.run(few::Finish::<T, O, N> {
        product,
        sums: &mut sums,
        out,
    });
}

/// How many cells down and across, `parts` in all at most: the smallest largest cell, and then the
/// least packing, which each thread does for itself instead of waiting for others.
fn grid(m: usize, n: usize, parts: usize, panel: usize) -> (usize, usize) {
    let cost = |&(down, across): &(usize, usize)| {
        let rows = m.div_ceil(down);
        let cols = n.div_ceil(panel).div_ceil(across) * panel;
        rows * cols + 4 * (rows + 2 * cols)
    };
    let panels = n.div_ceil(panel);
    (1..=parts)
        .map(|down| (down.min(m), (parts / down).min(panels)))
        .min_by_key(cost)
        .unwrap_or((1, 1))
}

/// The columns of each cell: whole panels.
fn columns(n: usize, across: usize, panel: usize) -> impl Iterator<Item = Range<usize>> {
    (0..across).map(move |j| {
        let panels = threads::part(n.div_ceil(panel), across, j);
        (panels.start * panel).min(n)..(panels.end * panel).min(n)
    })
}

/// The width of a panel in an instruction set.
struct PanelOf<T>(std::marker::PhantomData<T>);

impl<T> PanelOf<T> {
    const NEW: Self = Self(std::marker::PhantomData);
}

impl<T: Element> WithSimd for PanelOf<T> {
    type Output = usize;
    #[inline(always)]
    fn run<S: Simd>(self, _: S) -> usize {
        pack::panel::<T::Acc, S>()
    }
}

impl<T: Factor, O: Output<Acc = T::Acc>, const N: usize> WithSimd for Cell<'_, T, O, N> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self {
            product,
            isa,
            rows,
            cols,
            mut out,
        } = self;
        if few::takes(&product) {
            return few::run(s, &product, cols, out);
        }
        let Blocks { columns, .. } = match pairs_of::<T>(isa) {
            Some(_) => Blocks::COMMON,
            None => Blocks::of::<T::Acc, S>(product.m),
        };
        for top in rows.clone().step_by(ROWS) {
            for left in cols.clone().step_by(columns) {
                let (bottom, right) = (rows.end.min(top + ROWS), cols.end.min(left + columns));
                let out = out.part(
                    top - rows.start..bottom - rows.start,
                    left - cols.start..right - cols.start,
                );
                block(s, &product, isa, top..bottom, left..right, out);
            }
        }
    }
}
