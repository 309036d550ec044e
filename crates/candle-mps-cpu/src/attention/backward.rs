//! The backward pass: with P the weights, G the gradient of the result O and D = Σ G·O of each row,
//!
//! dV = Pᵀ·G, dS = P ∘ (G·Vᵀ − D), dQ = scale · dS·K, dK = scale · dSᵀ·Q,
//!
//! where a cap multiplies dS by 1 − (cap(x)/c)². P is computed again from the scores and the saved
//! logarithms. The queries that share a head of K and V are cut into pieces by the shape alone, so
//! that threads have work where heads are few; a head's pieces are added up in order, so that every
//! sum has one order.

use std::ops::Range;

use super::{
    Four, Operands, Options, Problem,
    blocks::{Panels, QUERIES, Rows, finish, narrow, scale},
};
use crate::{
    Element, Layout, Real, Result, V,
    matmul::{Buffer, Factor, Mat, check_len, product::LEAST},
    rows::vectors,
    simd::{
        Simd, Vector, WithSimd, exp,
        gemm::{Block, a_stride, depth},
        isa,
    },
    threads,
};

/// Pieces in all, where heads of K and V are fewer.
const PIECES: usize = 8;

/// Blocks of queries that a piece has at least, so that its sums cost little beside its work.
const BLOCKS: usize = if cfg!(test) { 1 } else { 9 };

/// Where gradients go, row-major; each is overwritten.
#[derive(Debug)]
pub struct Gradients<'a, T> {
    /// `[batch, heads, queries, size]`
    pub q: &'a mut [T],
    /// `[batch, kv heads, keys, size]`
    pub k: &'a mut [T],
    /// `[batch, kv heads, keys, width]`
    pub v: &'a mut [T],
}

/// Writes the gradients of q, k and v, from the result `out` and the logarithms `lse` of
/// [`forward`](super::forward), and the gradient `grad` of the result.
///
/// # Errors
/// As [`forward`](super::forward), for `grad` and the gradients as well.
pub fn backward<T: Factor>(
    operands: &Operands<T>,
    options: &Options<T>,
    (out, lse): (&[T], &[T::Acc]),
    grad: (&[T], Layout),
    gradients: Gradients<T>,
) -> Result<()> {
    let op = "attention_backward";
    let problem = Problem::new(op, operands, options)?;
    problem.check_out(op, out, Some(lse))?;
    let Problem {
        batch,
        heads,
        kv_heads,
        queries,
        keys,
        size,
        width,
        ..
    } = problem;
    let grad = Four::new(op, "grad", grad, Some([batch, heads, queries, width]))?;
    let kv = |last: usize| {
        [kv_heads, keys, last]
            .iter()
            .fold(batch, |a, &b| a.saturating_mul(b))
    };
    check_len(
        op,
        "gradients.q",
        problem.len(&[queries, size]),
        gradients.q.len(),
    )?;
    check_len(op, "gradients.k", kv(size), gradients.k.len())?;
    check_len(op, "gradients.v", kv(width), gradients.v.len())?;
    let isa = isa()?;
    let all = batch * kv_heads;
    if all == 0 {
        return Ok(());
    }
    let work = (batch * heads * queries)
        .saturating_mul(6 * keys)
        .saturating_mul(size + width);
    let group = heads / kv_heads;
    let blocks = group * queries.div_ceil(QUERIES);
    let pieces = (PIECES / all).min(blocks / BLOCKS).max(1);
    let parts = threads::parts(work, LEAST).min(all * pieces);
    let mut units: Vec<Vec<Unit<'_, T>>> = (0..parts).map(|_| Vec::new()).collect();
    // Where there is one piece, its sums are the result.
    let spare = if pieces == 1 { 0 } else { all * pieces };
    let mut sums = Buffer::<T::Acc>::new(spare * keys * (size + width));
    let mut rest_of_sums = &mut sums[..];
    let Gradients {
        mut q,
        mut k,
        mut v,
    } = gradients;
    for index in 0..all * pieces {
        let (head, piece) = (index / pieces, index % pieces);
        let rows = rows_of(threads::part(blocks, pieces, piece), queries);
        let (dq, rest) = q.split_at_mut(rows.len() * size);
        q = rest;
        let target = if pieces == 1 {
            let (dk, rest) = k.split_at_mut(keys * size);
            k = rest;
            let (dv, rest) = v.split_at_mut(keys * width);
            v = rest;
            Target::Result(dk, dv)
        } else {
            let (mine, rest) = rest_of_sums.split_at_mut(keys * (size + width));
            rest_of_sums = rest;
            let (dk, dv) = mine.split_at_mut(keys * size);
            Target::Sums(dk, dv)
        };
        // In turns, because under a causal mask the last pieces see the most keys.
        let work = Work {
            problem,
            out,
            lse,
            grad,
            head,
            rows,
            dq,
        };
        units[index % parts].push(Unit { work, target });
    }
    threads::run_with(units, |_, units| {
        for unit in units {
            isa.run(unit);
        }
    });
    if pieces == 1 {
        return Ok(());
    }
    let step = keys * (size + width);
    let mut totals = Vec::new();
    for sums in sums.chunks_exact((pieces * step).max(1)) {
        let results = [
            (&mut k, size, 0, problem.scale),
            (&mut v, width, keys * size, T::Acc::ONE),
        ];
        for (all, size, start, factor) in results {
            let (out, rest) = std::mem::take(all).split_at_mut(keys * size);
            *all = rest;
            totals.push(Total {
                sums: &sums[start..],
                step,
                factor,
                out,
            });
        }
    }
    let parts = threads::parts(sums.len(), LEAST).min(totals.len());
    let mut shares: Vec<Vec<Total<'_, T>>> = (0..parts).map(|_| Vec::new()).collect();
    for (index, total) in totals.into_iter().enumerate() {
        shares[index % parts].push(total);
    }
    threads::run_with(shares, |_, totals| {
        for total in totals {
            isa.run(total);
        }
    });
    Ok(())
}

/// The rows of some blocks of queries, where each head begins a new block.
fn rows_of(blocks: Range<usize>, queries: usize) -> Range<usize> {
    let each = queries.div_ceil(QUERIES).max(1);
    let row = |block: usize| block / each * queries + (block % each * QUERIES).min(queries);
    row(blocks.start)..row(blocks.end)
}

/// The sum of a gradient over pieces.
struct Total<'a, T: Factor> {
    sums: &'a [T::Acc],
    /// From piece to piece.
    step: usize,
    factor: T::Acc,
    out: &'a mut [T],
}

impl<T: Factor> WithSimd for Total<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        const FEW: usize = 1024;
        let mut total = [T::Acc::ZERO; FEW];
        for (first, out) in (0..).step_by(FEW).zip(self.out.chunks_mut(FEW)) {
            let total = &mut total[..out.len()];
            for (index, piece) in self.sums.chunks(self.step).enumerate() {
                let Some(piece) = piece.get(first..first + total.len()) else {
                    break;
                };
                if index == 0 {
                    total.copy_from_slice(piece);
                } else {
                    add(s, total, piece);
                }
            }
            scale(s, total, self.factor);
            narrow(s, total, out);
        }
    }
}

/// x += y.
#[inline(always)]
fn add<R: Real, S: Simd>(s: S, x: &mut [R], y: &[R]) {
    let lanes = V::<R, S>::LANES;
    for (x, y) in x.chunks_mut(lanes).zip(y.chunks(lanes)) {
        R::put(s, R::get(s, x, R::ZERO) + R::get(s, y, R::ZERO), x);
    }
}

/// Where the gradients of a head of K and V go.
enum Target<'a, T: Factor> {
    Result(&'a mut [T], &'a mut [T]),
    /// To be added to those of other pieces.
    Sums(&'a mut [T::Acc], &'a mut [T::Acc]),
}

/// Some queries of those that share a head of K and V, in whole blocks.
struct Work<'a, T: Factor> {
    problem: Problem<'a, T>,
    out: &'a [T],
    lse: &'a [T::Acc],
    grad: Four<'a, T>,
    head: usize,
    /// Counted through the heads of Q, one after the other.
    rows: Range<usize>,
    dq: &'a mut [T],
}

/// The work of a unit, and what it is for.
struct Unit<'a, T: Factor> {
    work: Work<'a, T>,
    target: Target<'a, T>,
}

impl<T: Factor> WithSimd for Unit<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { work, mut target } = self;
        let factor = work.problem.scale;
        let lengths = match &target {
            Target::Result(k, v) => (k.len(), v.len()),
            Target::Sums(..) => (0, 0),
        };
        let (mut own_k, mut own_v) = (zeros::<T>(lengths.0), zeros::<T>(lengths.1));
        // One call for both, because the compiler leaves closures that are in two places out of line.
        let (dk, dv) = match &mut target {
            Target::Result(..) => (&mut own_k[..], &mut own_v[..]),
            Target::Sums(dk, dv) => {
                dk.fill(T::Acc::ZERO);
                dv.fill(T::Acc::ZERO);
                (&mut dk[..], &mut dv[..])
            }
        };
        work.add_to(s, dk, dv);
        if let Target::Result(k, v) = target {
            scale(s, &mut own_k, factor);
            narrow(s, &own_k, k);
            narrow(s, &own_v, v);
        }
    }
}

fn zeros<T: Factor>(len: usize) -> Buffer<T::Acc> {
    let mut buffer = Buffer::<T::Acc>::new(len);
    buffer.fill(T::Acc::ZERO);
    buffer
}

impl<T: Factor> Work<'_, T> {
    /// Writes the gradient of these queries, and adds to those of K (not scaled) and V.
    #[inline(always)]
    fn add_to<S: Simd>(self, s: S, dk: &mut [T::Acc], dv: &mut [T::Acc]) {
        let Self {
            problem,
            out,
            lse,
            grad,
            head,
            rows,
            dq: result,
        } = self;
        let Problem {
            heads,
            kv_heads,
            queries,
            keys,
            size,
            width,
            ..
        } = problem;
        let (batch, kv_head, group) = (head / kv_heads, head % kv_heads, heads / kv_heads);
        let [k, v] = [&problem.k, &problem.v].map(|x| x.at(batch, kv_head));
        let mut dq = Buffer::<T::Acc>::new(queries * size);
        let mut spare = Spare {
            weights: zeros::<T>(QUERIES * a_stride::<T::Acc>()),
            slopes: zeros::<T>(QUERIES * a_stride::<T::Acc>()),
            turned: zeros::<T>(depth::<T::Acc>() * a_stride::<T::Acc>()),
        };
        for member in 0..group {
            let first = member * queries;
            let mine = rows.start.max(first)..rows.end.min(first + queries);
            if mine.is_empty() {
                continue;
            }
            let own = mine.start - first..mine.end - first;
            let q_head = kv_head * group + member;
            let at = (batch * heads + q_head) * queries;
            let (q, g) = (problem.q.at(batch, q_head), grad.at(batch, q_head));
            let mask = problem.mask.map(|mask| mask.at(batch, q_head));
            let out = &out[at * width..(at + queries) * width];
            let mut d = Buffer::<T::Acc>::new(queries);
            for row in own.clone() {
                d[row] = dot(s, g, row, out, width);
            }
            let all = Head {
                problem,
                q,
                k,
                v,
                g,
                mask,
                lse: &lse[at..at + queries],
                d: &d,
            };
            let part = own.start * size..own.end * size;
            dq[part.clone()].fill(T::Acc::ZERO);
            // Keys that none of these queries sees are not packed.
            for start in (0..problem.seen(own.end - 1)).step_by(depth::<T::Acc>()) {
                let cols = start..keys.min(start + depth::<T::Acc>());
                all.keys(s, own.clone(), cols, &mut dq, dk, dv, &mut spare);
            }
            scale(s, &mut dq[part.clone()], problem.scale);
            let place = mine.start - rows.start..mine.end - rows.start;
            narrow(
                s,
                &dq[part],
                &mut result[place.start * size..place.end * size],
            );
        }
    }
}

/// Σ G·O of a row.
#[inline(always)]
fn dot<T: Factor, S: Simd>(_: S, g: Mat<'_, T>, row: usize, out: &[T], width: usize) -> T::Acc {
    let out = &out[row * width..(row + 1) * width];
    let mut sums = [T::Acc::ZERO; 8];
    for (at, x) in out.iter().enumerate() {
        sums[at % 8] = sums[at % 8] + g.at(row, at).to_acc() * x.to_acc();
    }
    sums.into_iter().fold(T::Acc::ZERO, |a, b| a + b)
}

/// One head of Q with its K and V.
struct Head<'a, T: Factor> {
    problem: Problem<'a, T>,
    q: Mat<'a, T>,
    k: Mat<'a, T>,
    v: Mat<'a, T>,
    g: Mat<'a, T>,
    mask: Option<Mat<'a, T>>,
    lse: &'a [T::Acc],
    d: &'a [T::Acc],
}

/// Memory for one block.
struct Spare<T: Factor> {
    /// P
    weights: Buffer<T::Acc>,
    /// dS
    slopes: Buffer<T::Acc>,
    /// Pᵀ, then dSᵀ
    turned: Buffer<T::Acc>,
}

impl<T: Factor> Head<'_, T> {
    /// What a block of keys adds to the gradients, for some queries.
    #[inline(always)]
    #[allow(
        clippy::too_many_arguments,
        reason = "a loop body, with what it adds to"
    )]
    fn keys<S: Simd>(
        &self,
        s: S,
        own: Range<usize>,
        cols: Range<usize>,
        dq: &mut [T::Acc],
        dk: &mut [T::Acc],
        dv: &mut [T::Acc],
        spare: &mut Spare<T>,
    ) {
        let Problem {
            size,
            width,
            scale: factor,
            ..
        } = self.problem;
        let (stride, one) = (a_stride::<T::Acc>(), T::Acc::ONE);
        let k_turned = Panels::new(s, self.k.transposed(), 0..size, cols.clone());
        let v_turned = Panels::new(s, self.v.transposed(), 0..width, cols.clone());
        let k = Panels::new(s, self.k, cols.clone(), 0..size);
        for first in own.clone().step_by(QUERIES) {
            let few = first..own.end.min(first + QUERIES);
            let (rows, end) = (few.len(), cols.end.min(self.problem.seen(few.end - 1)));
            if end <= cols.start {
                continue;
            }
            let deep = end - cols.start;
            let q = Rows::new(s, self.q, few.clone(), size, factor);
            let g = Rows::new(s, self.g, few.clone(), width, one);
            let Spare {
                weights,
                slopes,
                turned,
            } = &mut *spare;
            q.times(
                s,
                0..rows,
                &k_turned,
                Block::new(weights, rows, deep, stride),
            );
            g.times(
                s,
                0..rows,
                &v_turned,
                Block::new(slopes, rows, deep, stride),
            );
            for (query, (weights, slopes)) in few
                .clone()
                .zip(weights.chunks_mut(stride).zip(slopes.chunks_mut(stride)))
            {
                let (weights, slopes) = (&mut weights[..deep], &mut slopes[..deep]);
                self.row(s, query, cols.start, weights, slopes);
            }
            let keys = cols.start..end;
            let q = Panels::new(s, self.q, few.clone(), 0..size);
            let g = Panels::new(s, self.g, few.clone(), 0..width);
            turn(weights, rows, deep, stride, turned);
            let dv = &mut dv[keys.start * width..keys.end * width];
            g.after(s, turned, rows, Block::new(dv, deep, width, width));
            turn(slopes, rows, deep, stride, turned);
            let dk = &mut dk[keys.start * size..keys.end * size];
            q.after(s, turned, rows, Block::new(dk, deep, size, size));
            let dq = &mut dq[few.start * size..few.end * size];
            k.after(s, slopes, deep, Block::new(dq, rows, size, size));
        }
    }

    /// Scores become weights, and G·Vᵀ becomes dS, for keys from `start` on.
    #[inline(always)]
    fn row<S: Simd>(
        &self,
        s: S,
        query: usize,
        start: usize,
        scores: &mut [T::Acc],
        slopes: &mut [T::Acc],
    ) {
        let seen = self.problem.seen(query).saturating_sub(start);
        let lse = self.lse[query];
        let seen = match lse == T::Acc::NEG_INFINITY {
            true => 0,
            false => seen.min(scores.len()),
        };
        let (scores, hidden) = scores.split_at_mut(seen);
        hidden.fill(T::Acc::ZERO);
        let (slopes, hidden) = slopes.split_at_mut(seen);
        hidden.fill(T::Acc::ZERO);
        // The cap's slope joins while the capped score is known, before the mask is added.
        let plain = Problem {
            mask: None,
            ..self.problem
        };
        finish(s, &plain, None, query, start, scores);
        s.with(Shift {
            slopes: &mut *slopes,
            scores,
            d: self.d[query],
            cap: self.problem.cap.map(|[cap, _]| cap),
        });
        let uncapped = Problem {
            cap: None,
            ..self.problem
        };
        finish(s, &uncapped, self.mask, query, start, scores);
        s.with(Weights {
            slopes,
            scores,
            lse,
        });
    }
}

/// G·Vᵀ − d, times the slope of the cap: dS without P.
struct Shift<'a, R> {
    slopes: &'a mut [R],
    /// Capped.
    scores: &'a [R],
    d: R,
    cap: Option<R>,
}

impl<R: Real> WithSimd for Shift<'_, R> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let (slopes, scores) = (self.slopes, self.scores);
        let (d, one) = (V::<R, S>::splat(s, self.d), V::<R, S>::splat(s, R::ONE));
        let cap = V::<R, S>::splat(s, self.cap.unwrap_or(R::ONE));
        vectors!(slopes.len(), V::<R, S>::LANES, |at, len, _k| {
            let mut x = R::get(s, &slopes[at..at + len], R::ZERO) - d;
            if self.cap.is_some() {
                let part = R::get(s, &scores[at..at + len], R::ZERO) / cap;
                x = x * (one - part * part);
            }
            R::put(s, x, &mut slopes[at..at + len]);
        });
    }
}

/// Scores become weights P, and what is in `slopes` becomes dS.
struct Weights<'a, R> {
    slopes: &'a mut [R],
    scores: &'a mut [R],
    lse: R,
}

impl<R: Real> WithSimd for Weights<'_, R> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let (slopes, scores) = (self.slopes, self.scores);
        let (lse, zero) = (V::<R, S>::splat(s, self.lse), V::<R, S>::splat(s, R::ZERO));
        vectors!(scores.len(), V::<R, S>::LANES, |at, len, _k| {
            let weight = exp::<R, S>(s, R::get(s, &scores[at..at + len], R::ZERO) - lse);
            R::put(s, weight, &mut scores[at..at + len]);
            // A weight of 0 has no slope, even where G·V is not finite.
            let x = R::get(s, &slopes[at..at + len], R::ZERO) * weight;
            let x = V::<R, S>::select(weight.eq(zero), zero, x);
            R::put(s, x, &mut slopes[at..at + len]);
        });
    }
}

/// The transpose of a block, rows at `stride` in both.
#[inline(always)]
fn turn<R: Real>(from: &[R], rows: usize, cols: usize, stride: usize, to: &mut [R]) {
    for first in (0..cols).step_by(16) {
        for row in 0..rows {
            let end = cols.min(first + 16);
            for (at, &x) in from[row * stride + first..row * stride + end]
                .iter()
                .enumerate()
            {
                to[(first + at) * stride + row] = x;
            }
        }
    }
}
