//! Copies blocks of A and B into the order in which the tiles read them, widened to what they compute
//! in.
//!
//! A: for each tile its columns, or rows at `a_stride`. B: panels of two vectors (the last one of as many as are needed), each a
//! row of the panel for every k, padded with zeros. For bf16 pairs the same, with pairs along k in
//! the place of elements.

use std::ops::Range;

use half::bf16;

use super::Mat;
use crate::{
    Element, V,
    simd::{
        MAX_LANES, Simd, Vector, WithSimd,
        gemm::{WIDTH, a_stride, turned},
    },
};

/// Columns of a full panel, in elements of `R`.
pub(crate) fn panel<R: crate::Real, S: Simd>() -> usize {
    WIDTH * V::<R, S>::LANES
}

/// `cols` columns as packed: whole vectors.
pub(crate) fn padded(cols: usize, lanes: usize) -> usize {
    cols.next_multiple_of(lanes)
}

/// Packs a block of A for tiles, each column by column. `tiles` are their rows, from 0.
#[inline(always)]
pub(crate) fn tiles<S: Simd, E: Element>(
    s: S,
    a: Mat<'_, E>,
    first: usize,
    tiles: impl Iterator<Item = Range<usize>> + Clone,
    k: Range<usize>,
    dst: &mut [E::Acc],
) {
    const FEW: usize = 8;
    let (lanes, deep) = (V::<E::Acc, S>::LANES, k.len());
    if a.rs != 1 || a.cs == 1 {
        for tile in tiles {
            let dst = &mut dst[tile.start * deep..tile.end * deep];
            turned_tile(s, a, first + tile.start, tile.len(), k.clone(), dst);
        }
        return;
    }
    // The columns lie along memory: a few of them at a time, each through all tiles.
    for few in (0..deep).step_by(FEW) {
        for tile in tiles.clone() {
            let height = tile.len();
            let dst = &mut dst[tile.start * deep..tile.end * deep];
            for at in few..deep.min(few + FEW) {
                let column = &a.data[(k.start + at) * a.cs + first + tile.start..];
                // Vectors may reach into the next column, which is written after this one.
                for row in (0..height).step_by(lanes) {
                    let x = E::get(s, &column[row..], E::Acc::ZERO);
                    E::Acc::put(s, x, &mut dst[at * height + row..]);
                }
            }
        }
    }
}

/// Packs a tile of A whose columns do not lie along memory, through squares.
#[inline(always)]
fn turned_tile<S: Simd, E: Element>(
    s: S,
    a: Mat<'_, E>,
    first: usize,
    height: usize,
    k: Range<usize>,
    dst: &mut [E::Acc],
) {
    let lanes = V::<E::Acc, S>::LANES;
    // The last vector of a column may reach into the next column, so it is written first.
    for row in (0..height).step_by(lanes).rev() {
        let last = height - row - 1;
        let mut starts = [0; MAX_LANES];
        for (i, start) in starts.iter_mut().enumerate() {
            *start = (first + row + i.min(last)) * a.rs + k.start * a.cs;
        }
        for at in (0..k.len()).step_by(lanes) {
            let deep = lanes.min(k.len() - at);
            let dst = &mut dst[at * height + row..];
            let mut square = [V::<E::Acc, S>::splat(s, E::Acc::ZERO); MAX_LANES];
            // The usual case by itself, so that its loops have no branches and stay in registers.
            if a.cs == 1 && deep == lanes && dst.len() >= (lanes - 1) * height + lanes {
                for i in 0..lanes {
                    square[i] = E::load(s, &a.data[starts[i] + at..]);
                }
                let square = turned::<E::Acc, S>(square);
                for i in 0..lanes {
                    E::Acc::store(s, square[i], &mut dst[i * height..]);
                }
                continue;
            }
            for i in 0..lanes {
                square[i] = line(s, a.data, starts[i] + at * a.cs, a.cs, deep);
            }
            for (i, &x) in turned::<E::Acc, S>(square).iter().enumerate().take(deep) {
                E::Acc::put(s, x, &mut dst[i * height..]);
            }
        }
    }
}

/// At most a vector of elements at a distance, and then zeros.
#[inline(always)]
fn line<S: Simd, E: Element>(
    s: S,
    data: &[E],
    start: usize,
    step: usize,
    len: usize,
) -> V<E::Acc, S> {
    if step == 1 {
        return E::get(s, &data[start..start + len], E::Acc::ZERO);
    }
    let mut elements = [E::Acc::ZERO; MAX_LANES];
    for (i, x) in elements.iter_mut().enumerate().take(len) {
        *x = data[start + i * step].to_acc();
    }
    E::Acc::load(s, &elements)
}

/// A distance for packed rows of `depth` elements: an odd number of cache lines, so that the rows of a
/// tile do not fall into the same set of the cache.
pub(crate) fn odd_lines<R>(depth: usize) -> usize {
    let line = 64 / size_of::<R>();
    (depth.div_ceil(line) | 1) * line
}

/// Packs a block of A as rows at `stride`.
#[inline(always)]
pub(crate) fn rows<S: Simd, E: Element>(
    s: S,
    a: Mat<'_, E>,
    rows: Range<usize>,
    k: Range<usize>,
    stride: usize,
    dst: &mut [E::Acc],
) {
    s.with(AsRows {
        a,
        rows,
        k,
        stride,
        dst,
    });
}

/// A kernel of its own, which all callers of [`rows`] share.
struct AsRows<'a, E: Element> {
    a: Mat<'a, E>,
    rows: Range<usize>,
    k: Range<usize>,
    stride: usize,
    dst: &'a mut [E::Acc],
}

impl<E: Element> WithSimd for AsRows<'_, E> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self {
            a,
            rows,
            k,
            stride,
            dst,
        } = self;
        if a.cs == 1 {
            for (row, dst) in rows.zip(dst.chunks_mut(stride)) {
                widen(s, a.run(row * a.rs + k.start, k.len()), dst);
            }
        } else {
            // Rows are far apart in memory or reversed in order: a few of them at a time, along k.
            let height = rows.len();
            for first in (0..height).step_by(16) {
                let few = first..height.min(first + 16);
                for (at, k) in k.clone().enumerate() {
                    for row in few.clone() {
                        dst[row * stride + at] = a.at(rows.start + row, k).to_acc();
                    }
                }
            }
        }
    }
}

/// Packs a block of B; `cols` starts at the beginning of a panel.
#[inline(always)]
pub(crate) fn cols<S: Simd, E: Element>(
    s: S,
    b: Mat<'_, E>,
    k: Range<usize>,
    cols: Range<usize>,
    dst: &mut [E::Acc],
) {
    s.with(AsPanels { b, k, cols, dst });
}

/// A kernel of its own, which all callers of [`cols`] share.
struct AsPanels<'a, E: Element> {
    b: Mat<'a, E>,
    k: Range<usize>,
    cols: Range<usize>,
    dst: &'a mut [E::Acc],
}

impl<E: Element> WithSimd for AsPanels<'_, E> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { b, k, cols, dst } = self;
        let lanes = V::<E::Acc, S>::LANES;
        if b.cs == 1 {
            return wide_lines(s, b, k, cols, dst);
        }
        let mut dst = dst;
        for first in cols.clone().step_by(WIDTH * lanes) {
            let width = (cols.end - first).min(WIDTH * lanes);
            let step = padded(width, lanes);
            let (panel, rest) = std::mem::take(&mut dst).split_at_mut(step * k.len());
            dst = rest;
            turn(s, b, k.clone(), first, width, panel);
        }
    }
}

/// Packs a block of B whose rows lie along memory: a few rows at a time, each from end to end, because
/// going down a panel would touch a new page with almost every row.
#[inline(always)]
fn wide_lines<S: Simd, E: Element>(
    s: S,
    b: Mat<'_, E>,
    k: Range<usize>,
    cols: Range<usize>,
    dst: &mut [E::Acc],
) {
    const FEW: usize = 8;
    let lanes = V::<E::Acc, S>::LANES;
    for few in (0..k.len()).step_by(FEW) {
        let few = few..k.len().min(few + FEW);
        for first in (0..cols.len()).step_by(WIDTH * lanes) {
            let width = (cols.len() - first).min(WIDTH * lanes);
            let step = padded(width, lanes);
            let panel = &mut dst[first * k.len()..][few.start * step..few.end * step];
            for (at, panel) in few.clone().zip(panel.chunks_exact_mut(step)) {
                let line = b.run((k.start + at) * b.rs + cols.start + first, width);
                if width == WIDTH * lanes {
                    for j in 0..WIDTH {
                        let x = E::load(s, &line[j * lanes..(j + 1) * lanes]);
                        E::Acc::store(s, x, &mut panel[j * lanes..(j + 1) * lanes]);
                    }
                } else {
                    widen(s, line, panel);
                }
            }
        }
    }
}

/// Packs a panel of B whose columns lie along k: `lanes` of k at a time through a small square.
#[inline(always)]
fn turn<S: Simd, E: Element>(
    s: S,
    b: Mat<'_, E>,
    k: Range<usize>,
    first: usize,
    width: usize,
    panel: &mut [E::Acc],
) {
    let lanes = V::<E::Acc, S>::LANES;
    let step = padded(width, lanes);
    for at in (0..k.len()).step_by(lanes) {
        let deep = lanes.min(k.len() - at);
        let panel = &mut panel[at * step..(at + deep) * step];
        for vector in (0..step).step_by(lanes) {
            let mut square = [V::<E::Acc, S>::splat(s, E::Acc::ZERO); MAX_LANES];
            for (j, x) in square.iter_mut().enumerate().take(lanes) {
                if vector + j < width {
                    let start = (k.start + at) * b.rs + (first + vector + j) * b.cs;
                    *x = line(s, b.data, start, b.rs, deep);
                }
            }
            for (&x, dst) in turned::<E::Acc, S>(square)
                .iter()
                .zip(panel.chunks_exact_mut(step))
            {
                E::Acc::store(s, x, &mut dst[vector..vector + lanes]);
            }
        }
    }
}

/// Widens `src` into the start of `dst`, and fills up to a whole vector with zeros where `dst` has room.
#[inline(always)]
fn widen<S: Simd, E: Element>(s: S, src: &[E], dst: &mut [E::Acc]) {
    let lanes = V::<E::Acc, S>::LANES;
    let whole = src.len() / lanes * lanes;
    let (body, tail) = src.split_at(whole);
    let (dst_body, dst_tail) = dst.split_at_mut(whole);
    for (x, y) in body
        .chunks_exact(lanes)
        .zip(dst_body.chunks_exact_mut(lanes))
    {
        E::Acc::store(s, E::load(s, x), y);
    }
    if !tail.is_empty() {
        let room = dst_tail.len().min(lanes);
        E::Acc::store_part(
            s,
            E::load_part(s, tail, E::Acc::ZERO),
            &mut dst_tail[..room],
        );
    }
}

fn pair(low: bf16, high: bf16) -> u32 {
    u32::from(low.to_bits()) | u32::from(high.to_bits()) << 16
}

/// Packs a block of A as pairs; `pairs` counts pairs along k, of which the last may lack its second.
#[cfg_attr(
    not(target_arch = "x86_64"),
    allow(dead_code, reason = "only AVX-512 multiplies pairs")
)]
#[inline(always)]
pub(crate) fn pair_rows(
    a: Mat<'_, bf16>,
    depth: usize,
    rows: Range<usize>,
    pairs: Range<usize>,
    dst: &mut [u32],
) {
    for (row, dst) in rows.zip(dst.chunks_mut(a_stride::<u32>())) {
        let whole = pairs.start..pairs.end.min(depth / 2);
        if a.cs == 1 {
            let run = a.run(row * a.rs + 2 * whole.start, 2 * whole.len());
            for (x, y) in run.chunks_exact(2).zip(&mut *dst) {
                *y = pair(x[0], x[1]);
            }
        } else {
            for (k, y) in whole.clone().zip(&mut *dst) {
                *y = pair(a.at(row, 2 * k), a.at(row, 2 * k + 1));
            }
        }
        if whole.end < pairs.end {
            dst[whole.len()] = pair(a.at(row, depth - 1), bf16::ZERO);
        }
    }
}

/// Packs a block of B as pairs, as [`cols`] does.
#[inline(always)]
pub(crate) fn pair_cols(
    b: Mat<'_, bf16>,
    depth: usize,
    pairs: Range<usize>,
    cols: Range<usize>,
    dst: &mut [u32],
) {
    const LANES: usize = 16;
    let mut dst = dst;
    for first in cols.clone().step_by(WIDTH * LANES) {
        let width = (cols.end - first).min(WIDTH * LANES);
        let step = padded(width, LANES);
        let (panel, rest) = std::mem::take(&mut dst).split_at_mut(step * pairs.len());
        dst = rest;
        panel.fill(0);
        let whole = pairs.start..pairs.end.min(depth / 2);
        if b.cs == 1 {
            for (k, dst) in pairs.clone().zip(panel.chunks_exact_mut(step)) {
                let low = b.run(2 * k * b.rs + first, width);
                if whole.contains(&k) {
                    let high = b.run((2 * k + 1) * b.rs + first, width);
                    for ((y, &low), &high) in dst.iter_mut().zip(low).zip(high) {
                        *y = pair(low, high);
                    }
                } else {
                    for (y, &low) in dst.iter_mut().zip(low) {
                        *y = pair(low, bf16::ZERO);
                    }
                }
            }
        } else {
            for j in 0..width {
                for (at, k) in pairs.clone().enumerate() {
                    let high = if whole.contains(&k) {
                        b.at(2 * k + 1, first + j)
                    } else {
                        bf16::ZERO
                    };
                    panel[at * step + j] = pair(b.at(2 * k, first + j), high);
                }
            }
        }
    }
}
