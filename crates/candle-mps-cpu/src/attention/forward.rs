//! The forward pass: the queries of one head at a time, block of keys by block of keys.

use std::ops::Range;

use super::{
    Operands, Options, Problem,
    blocks::{Panels, QUERIES, Rows, finish, narrow, scale, weigh},
};
use crate::{
    Element, Real, Result,
    matmul::{Buffer, Factor, Mat, few, product::LEAST},
    simd::{
        Simd, WithSimd,
        gemm::{Block, a_stride, depth},
        isa,
    },
    threads,
};

/// Writes attention to `out`, [batch, heads, queries, width], and with `lse` the logarithm of each
/// row's sum of exponentials, [batch, heads, queries], which the backward pass wants.
///
/// # Errors
/// When an operand has not four dimensions or a layout that does not fit its slice, when dimensions or
/// lengths do not match, or the soft cap is not positive.
pub fn forward<T: Factor>(
    operands: &Operands<T>,
    options: &Options<T>,
    out: &mut [T],
    lse: Option<&mut [T::Acc]>,
) -> Result<()> {
    let op = "attention";
    let problem = Problem::new(op, operands, options)?;
    problem.check_out(op, out, lse.as_deref())?;
    let isa = isa()?;
    let Problem {
        batch,
        heads,
        queries,
        keys,
        size,
        width,
        ..
    } = problem;
    if batch * heads * queries == 0 {
        return Ok(());
    }
    let heads = batch * heads;
    let work = (heads * queries)
        .saturating_mul(2 * keys)
        .saturating_mul(size + width);
    let parts = threads::parts(work, LEAST);
    let blocks = queries.div_ceil(QUERIES);
    let pieces = if heads >= 2 * parts {
        1
    } else {
        parts.min(blocks)
    };
    let mut units: Vec<Vec<Unit<'_, T>>> =
        (0..parts.min(heads * pieces)).map(|_| Vec::new()).collect();
    let count = units.len();
    let (mut out, mut lse) = (out, lse);
    for index in 0..heads * pieces {
        let piece = threads::part(blocks, pieces, index % pieces);
        let rows = piece.start * QUERIES..queries.min(piece.end * QUERIES);
        let (mine, rest) = out.split_at_mut(rows.len() * width);
        out = rest;
        let (my_lse, rest) = lse.map(|lse| lse.split_at_mut(rows.len())).unzip();
        lse = rest;
        let unit = Unit {
            problem,
            head: index / pieces,
            rows,
            out: mine,
            lse: my_lse,
        };
        units[index * count / (heads * pieces)].push(unit);
    }
    threads::run_with(units, |_, units| {
        for unit in units {
            isa.run(unit);
        }
    });
    Ok(())
}

/// Some queries of one head, in whole blocks.
struct Unit<'a, T: Factor> {
    problem: Problem<'a, T>,
    head: usize,
    rows: Range<usize>,
    out: &'a mut [T],
    lse: Option<&'a mut [T::Acc]>,
}

/// The rows of a unit so far.
struct State<T: Factor> {
    /// Σ weight · V
    sums: Buffer<T::Acc>,
    largest: Buffer<T::Acc>,
    /// Σ weight
    total: Buffer<T::Acc>,
}

impl<T: Factor> WithSimd for Unit<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self {
            problem,
            head,
            rows,
            out,
            lse,
        } = self;
        let Problem {
            heads,
            kv_heads,
            width,
            queries,
            ..
        } = problem;
        let (batch, head) = (head / heads, head % heads);
        let kv_head = head / (heads / kv_heads);
        let [q, k] = [problem.q.at(batch, head), problem.k.at(batch, kv_head)];
        let v = problem.v.at(batch, kv_head);
        let mask = problem.mask.map(|mask| mask.at(batch, head));

        let buffer = |len, value: T::Acc| {
            let mut buffer = Buffer::<T::Acc>::new(len);
            buffer.fill(value);
            buffer
        };
        let zero = T::Acc::ZERO;
        let mut state = State::<T> {
            sums: buffer(rows.len() * width, zero),
            largest: buffer(rows.len(), T::Acc::NEG_INFINITY),
            total: buffer(rows.len(), zero),
        };
        if queries <= 4 && k.cs == 1 && v.cs == 1 {
            few_queries(s, &problem, [q, k, v], mask, &rows, &mut state);
        } else {
            many_queries(s, &problem, [q, k, v], mask, &rows, &mut state);
        }
        let State {
            mut sums,
            largest,
            total,
        } = state;
        for (row, out) in out.chunks_exact_mut(width.max(1)).enumerate() {
            let hidden = total[row] == zero;
            let sums = &mut sums[row * width..(row + 1) * width];
            scale(
                s,
                sums,
                if hidden {
                    zero
                } else {
                    T::Acc::ONE / total[row]
                },
            );
            narrow(s, sums, out);
        }
        for (row, lse) in lse.into_iter().flatten().enumerate() {
            let hidden = total[row] == zero;
            *lse = if hidden {
                T::Acc::NEG_INFINITY
            } else {
                largest[row] + total[row].ln()
            };
        }
    }
}

/// Packed blocks of keys and values, each used for all blocks of queries.
#[inline(always)]
fn many_queries<T: Factor, S: Simd>(
    s: S,
    problem: &Problem<'_, T>,
    [q, k, v]: [Mat<'_, T>; 3],
    mask: Option<Mat<'_, T>>,
    rows: &Range<usize>,
    state: &mut State<T>,
) {
    let &Problem {
        keys, size, width, ..
    } = problem;
    let (stride, block) = (a_stride::<T::Acc>(), depth::<T::Acc>());
    let q = Rows::new(s, q, rows.clone(), size, problem.scale);
    let mut scores = Buffer::<T::Acc>::new(QUERIES * stride);
    for start in (0..problem.seen(rows.end - 1)).step_by(block) {
        let end = keys.min(start + block);
        let k = Panels::new(s, k.transposed(), 0..size, start..end);
        let v = Panels::new(s, v, start..end, 0..width);
        for first in (0..rows.len()).step_by(QUERIES) {
            let few = first..rows.len().min(first + QUERIES);
            let end = end.min(problem.seen(rows.start + few.end - 1));
            if end <= start {
                continue;
            }
            let deep = end - start;
            q.times(
                s,
                few.clone(),
                &k,
                Block::new(&mut scores, few.len(), deep, stride),
            );
            let all = rows.start..rows.start + few.end;
            weights(
                s,
                problem,
                mask,
                all,
                few.clone(),
                start..end,
                (&mut scores, stride),
                state,
            );
            let sums = &mut state.sums[few.start * width..few.end * width];
            v.after(s, &scores, deep, Block::new(sums, few.len(), width, width));
        }
    }
}

/// Keys and values read once, where they lie: packing would cost more than it saves.
#[inline(always)]
fn few_queries<T: Factor, S: Simd>(
    s: S,
    problem: &Problem<'_, T>,
    [q, k, v]: [Mat<'_, T>; 3],
    mask: Option<Mat<'_, T>>,
    rows: &Range<usize>,
    state: &mut State<T>,
) {
    const KEYS: usize = 1024;
    let &Problem {
        keys, size, width, ..
    } = problem;
    let mut x = Buffer::<T::Acc>::new(rows.len() * size);
    for (row, x) in rows.clone().zip(x.chunks_exact_mut(size.max(1))) {
        for (at, x) in x.iter_mut().enumerate() {
            *x = q.at(row, at).to_acc() * problem.scale;
        }
    }
    let mut scores = Buffer::<T::Acc>::new(rows.len() * keys.min(KEYS));
    for start in (0..problem.seen(rows.end - 1)).step_by(KEYS) {
        let end = problem.seen(rows.end - 1).min(start + KEYS);
        let deep = end - start;
        let scores = &mut scores[..rows.len() * deep];
        scores.fill(T::Acc::ZERO);
        let dims = (rows.len(), size, keys);
        few::add(s, &x, k.transposed(), dims, (start, deep, &mut *scores));
        weights(
            s,
            problem,
            mask,
            rows.clone(),
            0..rows.len(),
            start..end,
            (scores, deep),
            state,
        );
        let v = Mat {
            data: v.data.get(start * v.rs..).unwrap_or(&[]),
            ..v
        };
        if width > 0 {
            few::add(
                s,
                scores,
                v,
                (rows.len(), deep, width),
                (0, width, &mut state.sums),
            );
        }
    }
}

/// Turns a block of scores, rows at `stride`, into weights, and scales down the sums so far.
#[inline(always)]
#[allow(
    clippy::too_many_arguments,
    reason = "a loop body that two loops share"
)]
fn weights<T: Factor, S: Simd>(
    s: S,
    problem: &Problem<'_, T>,
    mask: Option<Mat<'_, T>>,
    rows: Range<usize>,
    few: Range<usize>,
    keys: Range<usize>,
    (scores, stride): (&mut [T::Acc], usize),
    state: &mut State<T>,
) {
    for (row, scores) in few.clone().zip(scores.chunks_mut(stride)) {
        let query = rows.end - few.end + row;
        let seen = problem.seen(query).clamp(keys.start, keys.end) - keys.start;
        let (visible, hidden) = scores[..keys.len()].split_at_mut(seen);
        hidden.fill(T::Acc::ZERO);
        finish(s, problem, mask, query, keys.start, visible);
        let factor = weigh(s, visible, &mut state.largest[row], &mut state.total[row]);
        if factor != T::Acc::ONE {
            let width = problem.width;
            scale(s, &mut state.sums[row * width..(row + 1) * width], factor);
        }
    }
}
