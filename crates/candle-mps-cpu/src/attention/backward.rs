//! The backward pass: with P the weights, G the gradient of the result O and D = Σ G·O of each row,
//!
//! dV = Pᵀ·G, dS = P ∘ (G·Vᵀ − D), dQ = scale · dS·K, dK = scale · dSᵀ·Q,
//!
//! where a cap multiplies dS by 1 − (cap(x)/c)². P is computed again from the scores and the saved
//! logarithms. A thread takes a whole head of K and V with all heads of Q that share it, so that every
//! sum has one order.

use std::ops::Range;

use super::{
    Four, Operands, Options, Problem,
    blocks::{Panels, QUERIES, Rows, each, finish, narrow, scale},
};
use crate::{
    Element, Layout, Real, Result, V,
    matmul::{Buffer, Factor, Mat, check_len, product::LEAST},
    simd::{
        Simd, Vector, WithSimd, exp,
        gemm::{Block, a_stride, depth},
        isa,
    },
    threads,
};

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
    let parts = threads::parts(work, LEAST).min(all);
    let mut units: Vec<Vec<Unit<'_, T>>> = (0..parts).map(|_| Vec::new()).collect();
    let Gradients {
        mut q,
        mut k,
        mut v,
    } = gradients;
    for head in 0..all {
        let (dq, rest) = q.split_at_mut(heads / kv_heads * queries * size);
        q = rest;
        let (dk, rest) = k.split_at_mut(keys * size);
        k = rest;
        let (dv, rest) = v.split_at_mut(keys * width);
        v = rest;
        let unit = Unit {
            problem,
            out,
            lse,
            grad,
            head,
            gradients: Gradients {
                q: dq,
                k: dk,
                v: dv,
            },
        };
        units[head * parts / all].push(unit);
    }
    threads::run_with(units, |_, units| {
        for unit in units {
            isa.run(unit);
        }
    });
    Ok(())
}

/// One head of K and V.
struct Unit<'a, T: Factor> {
    problem: Problem<'a, T>,
    out: &'a [T],
    lse: &'a [T::Acc],
    grad: Four<'a, T>,
    head: usize,
    gradients: Gradients<'a, T>,
}

impl<T: Factor> WithSimd for Unit<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self {
            problem,
            out,
            lse,
            grad,
            head,
            gradients,
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
        let zeros = |len| {
            let mut buffer = Buffer::<T::Acc>::new(len);
            buffer.fill(T::Acc::ZERO);
            buffer
        };
        let (mut dk, mut dv) = (zeros(keys * size), zeros(keys * width));
        let mut dq = zeros(queries * size);
        let mut spare = Spare {
            weights: zeros(QUERIES * a_stride::<T::Acc>()),
            slopes: zeros(QUERIES * a_stride::<T::Acc>()),
            turned: zeros(depth::<T::Acc>() * a_stride::<T::Acc>()),
        };
        for member in 0..group {
            let q_head = kv_head * group + member;
            let at = (batch * heads + q_head) * queries;
            let (q, g) = (problem.q.at(batch, q_head), grad.at(batch, q_head));
            let mask = problem.mask.map(|mask| mask.at(batch, q_head));
            let out = &out[at * width..(at + queries) * width];
            let d: Vec<T::Acc> = (0..queries).map(|row| dot(s, g, row, out, width)).collect();
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
            dq.fill(T::Acc::ZERO);
            for start in (0..keys).step_by(depth::<T::Acc>()) {
                let cols = start..keys.min(start + depth::<T::Acc>());
                all.keys(s, cols, &mut dq, &mut dk, &mut dv, &mut spare);
            }
            scale(s, &mut dq, problem.scale);
            let place = member * queries * size;
            narrow(s, &dq, &mut gradients.q[place..place + queries * size]);
        }
        scale(s, &mut dk, problem.scale);
        narrow(s, &dk, gradients.k);
        narrow(s, &dv, gradients.v);
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
    /// What a block of keys adds to the gradients.
    #[inline(always)]
    fn keys<S: Simd>(
        &self,
        s: S,
        cols: Range<usize>,
        dq: &mut [T::Acc],
        dk: &mut [T::Acc],
        dv: &mut [T::Acc],
        spare: &mut Spare<T>,
    ) {
        let Problem {
            queries,
            size,
            width,
            scale: factor,
            ..
        } = self.problem;
        let (stride, one) = (a_stride::<T::Acc>(), T::Acc::ONE);
        let k_turned = Panels::new(s, self.k.transposed(), 0..size, cols.clone());
        let v_turned = Panels::new(s, self.v.transposed(), 0..width, cols.clone());
        let k = Panels::new(s, self.k, cols.clone(), 0..size);
        for first in (0..queries).step_by(QUERIES) {
            let few = first..queries.min(first + QUERIES);
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
        let splat = |x| V::<T::Acc, S>::splat(s, x);
        let seen = self
            .problem
            .seen(query)
            .saturating_sub(start)
            .min(scores.len());
        let lse = self.lse[query];
        let seen = if lse == T::Acc::NEG_INFINITY { 0 } else { seen };
        let (scores, hidden) = scores.split_at_mut(seen);
        hidden.fill(T::Acc::ZERO);
        let (slopes, hidden) = slopes.split_at_mut(seen);
        hidden.fill(T::Acc::ZERO);
        let lanes = V::<T::Acc, S>::LANES;
        let load = |x: &[T::Acc], at: usize, len: usize| match len == lanes {
            true => T::Acc::load(s, &x[at..at + len]),
            false => T::Acc::load_part(s, &x[at..at + len], T::Acc::ZERO),
        };
        let plain = Problem {
            mask: None,
            ..self.problem
        };
        finish(s, &plain, None, query, start, scores);
        let d = splat(self.d[query]);
        // dS without P, which the cap's slope joins while the capped score is known.
        each(s, slopes, |x, at, len| {
            let x = x - d;
            match self.problem.cap {
                Some([cap, _]) => {
                    let part = load(scores, at, len) / splat(cap);
                    x * (splat(T::Acc::ONE) - part * part)
                }
                None => x,
            }
        });
        let uncapped = Problem {
            cap: None,
            ..self.problem
        };
        finish(s, &uncapped, self.mask, query, start, scores);
        each(s, scores, |x, _, _| exp::<T::Acc, S>(s, x - splat(lse)));
        // A weight of 0 has no slope, even where G·V is not finite.
        let zero = splat(T::Acc::ZERO);
        each(s, slopes, |x, at, len| {
            let weight = load(scores, at, len);
            V::<T::Acc, S>::select(weight.eq(zero), zero, x * weight)
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
