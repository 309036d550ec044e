//! softmax(x)ᵢ = exp(xᵢ) / Σⱼ exp(xⱼ) along any axis, and its logarithm.
//! <https://en.wikipedia.org/wiki/Softmax_function>
//!
//! The largest element is subtracted first, so nothing overflows. Results for unusual rows are those
//! of IEEE arithmetic, on every instruction set: a row with NaN or +∞ in it, or of −∞ only, is NaN; −∞
//! among others gets 0; a row of one finite element is 1; no elements, no result.

use std::ops::Range;

use crate::{
    Element, Error, Layout, Real, Result, V,
    layout::product,
    rows::{Rows, TILE, first, max_of_four, place, settle, sum_of_four, vectors},
    simd::{Isa, Simd, Vector, WithSimd, exp, isa},
    threads,
};

/// Elements that are worth a thread: what one does in 30 µs with AVX-512; see [`threads::parts`].
const LEAST: usize = 140 << 10;

/// What else happens to `x` on the way in.
#[derive(Debug, Clone, Copy)]
pub struct Options<'a, T> {
    /// `x` is multiplied by this: attention's 1/√d, or an inverse temperature, without a pass.
    pub scale: f64,
    /// This is added after scaling: attention's mask or bias. Dimensions as `x`, broadcast by strides
    /// of 0.
    pub mask: Option<(&'a [T], Layout<'a>)>,
    /// A row of −∞ only gives 0 (−∞ for the logarithm) instead of NaN: padding that may see nothing
    /// then contributes nothing, and no NaN reaches the gradients.
    pub hidden_rows_are_zero: bool,
}

impl<T> Default for Options<'_, T> {
    fn default() -> Self {
        Self {
            scale: 1.,
            mask: None,
            hidden_rows_are_zero: false,
        }
    }
}

/// Writes softmax(scale·x + mask) along `axis` to `out`, in row-major order.
///
/// # Errors
/// When a layout does not fit its slice, the mask's dimensions are not those of `x`, `out` has another
/// length, or there is no such axis.
pub fn softmax<T: Element>(
    x: &[T],
    layout: &Layout,
    axis: usize,
    options: &Options<T>,
    out: &mut [T],
) -> Result<()> {
    forward("softmax", Kind::Plain, x, layout, axis, options, out)
}

/// Writes ln softmax(scale·x + mask) along `axis` to `out`, in row-major order.
///
/// # Errors
/// As [`softmax`].
pub fn log_softmax<T: Element>(
    x: &[T],
    layout: &Layout,
    axis: usize,
    options: &Options<T>,
    out: &mut [T],
) -> Result<()> {
    forward("log_softmax", Kind::Log, x, layout, axis, options, out)
}

/// The gradient of [`softmax`]: scale · y · (g − Σ g·y), from its result `y` and the gradient `g`.
/// That of the mask is the same with a scale of 1.
///
/// # Errors
/// When a layout does not fit its slice, the dimensions differ, `out` has another length, or there is
/// no such axis.
pub fn softmax_backward<T: Element>(
    y: (&[T], &Layout),
    grad: (&[T], &Layout),
    axis: usize,
    scale: f64,
    out: &mut [T],
) -> Result<()> {
    backward("softmax_backward", Kind::Plain, y, grad, axis, scale, out)
}

/// The gradient of [`log_softmax`]: scale · (g − exp(y) · Σ g).
///
/// # Errors
/// As [`softmax_backward`].
pub fn log_softmax_backward<T: Element>(
    y: (&[T], &Layout),
    grad: (&[T], &Layout),
    axis: usize,
    scale: f64,
    out: &mut [T],
) -> Result<()> {
    backward("log_softmax_backward", Kind::Log, y, grad, axis, scale, out)
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Kind {
    Plain,
    Log,
}

fn forward<T: Element>(
    op: &'static str,
    kind: Kind,
    x: &[T],
    layout: &Layout,
    axis: usize,
    options: &Options<T>,
    out: &mut [T],
) -> Result<()> {
    check(op, "x", x, layout, axis, out)?;
    let rows = Rows::new(x, layout, axis);
    let mask = match &options.mask {
        Some((mask, its)) => {
            its.check_dims(op, "mask", layout.dims())?;
            its.check(op, "mask", mask.len())?;
            Some(Rows::new(mask, its, axis))
        }
        None => None,
    };
    let scale = T::Acc::from_f64(options.scale);
    let zero = options.hidden_rows_are_zero;
    each_line(
        isa()?,
        &rows,
        mask.as_ref(),
        layout,
        axis,
        out,
        Forward { kind, scale, zero },
    );
    Ok(())
}

fn backward<T: Element>(
    op: &'static str,
    kind: Kind,
    (y, layout): (&[T], &Layout),
    (grad, its): (&[T], &Layout),
    axis: usize,
    scale: f64,
    out: &mut [T],
) -> Result<()> {
    check(op, "y", y, layout, axis, out)?;
    its.check_dims(op, "grad", layout.dims())?;
    its.check(op, "grad", grad.len())?;
    let (y, grad) = (Rows::new(y, layout, axis), Rows::new(grad, its, axis));
    let line = Backward {
        kind,
        scale: T::Acc::from_f64(scale),
    };
    each_line(isa()?, &y, Some(&grad), layout, axis, out, line);
    Ok(())
}

fn check<T: Element>(
    op: &'static str,
    argument: &'static str,
    x: &[T],
    layout: &Layout,
    axis: usize,
    out: &[T],
) -> Result<()> {
    let rank = layout.rank();
    if rank == 0 {
        return Err(Error::Rank {
            op,
            argument,
            least: 1,
            got: 0,
        });
    }
    if axis >= rank {
        return Err(Error::Axis { op, axis, rank });
    }
    layout.check(op, argument, x.len())?;
    layout.check_len(op, "out", out.len())
}

/// What happens to one line, with or without a second operand.
trait Line<R: Real>: Copy + Sync {
    fn line<S: Simd>(self, s: S, x: &[R], other: Option<&[R]>, out: &mut [R]);
}

/// One line, apart from the loops over lines, which share it.
struct Alone<'a, R, L> {
    line: L,
    x: &'a [R],
    other: Option<&'a [R]>,
    out: &'a mut [R],
}

impl<R: Real, L: Line<R>> WithSimd for Alone<'_, R, L> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        self.line.line(s, self.x, self.other, self.out);
    }
}

#[derive(Clone, Copy)]
struct Forward<R> {
    kind: Kind,
    scale: R,
    zero: bool,
}

impl<R: Real> Line<R> for Forward<R> {
    #[inline(always)]
    fn line<S: Simd>(self, s: S, x: &[R], mask: Option<&[R]>, out: &mut [R]) {
        match mask {
            Some(mask) => self.masked::<S, true>(s, x, mask, out),
            None => self.masked::<S, false>(s, x, x, out),
        }
    }
}

impl<R: Real> Forward<R> {
    #[inline(always)]
    fn masked<S: Simd, const MASKED: bool>(self, s: S, x: &[R], mask: &[R], out: &mut [R]) {
        let (n, lanes) = (x.len(), V::<R, S>::LANES);
        let (mask, out) = (&mask[..n], &mut out[..n]);
        let splat = |value| V::<R, S>::splat(s, value);
        let lowest = splat(R::NEG_INFINITY);
        let input = Input::<R, MASKED> {
            x,
            mask,
            scale: self.scale,
        };
        let mut largest = [lowest; 4];
        vectors!(n, lanes, |at, len, k| {
            // NaN is passed over here, and comes in again with the exponentials.
            largest[k] = input.get(s, at, len).max(largest[k]);
        });
        let largest = max_of_four(largest);
        let hidden = |(&x, &mask): (&R, &R)| {
            let v = x * self.scale;
            (if MASKED { v + mask } else { v }) == R::NEG_INFINITY
        };
        if self.zero && largest == R::NEG_INFINITY && x.iter().zip(mask).all(hidden) {
            return out.fill(if self.kind == Kind::Log {
                R::NEG_INFINITY
            } else {
                R::ZERO
            });
        }
        let base = splat(largest);

        let mut sums = [splat(R::ZERO); 4];
        vectors!(n, lanes, |at, len, k| {
            let v = input.get(s, at, len) - base;
            let e = exp::<R, S>(s, v);
            sums[k] = sums[k] + e;
            R::put(
                s,
                if self.kind == Kind::Log { v } else { e },
                &mut out[at..at + len],
            );
        });
        let sum = sum_of_four(sums);

        match self.kind {
            Kind::Plain => {
                let factor = splat(R::ONE / sum);
                vectors!(n, lanes, |at, len, _k| {
                    let e = R::get(s, &out[at..at + len], R::ZERO);
                    R::put(s, e * factor, &mut out[at..at + len]);
                });
            }
            Kind::Log => {
                let log = splat(sum.ln());
                vectors!(n, lanes, |at, len, _k| {
                    let v = R::get(s, &out[at..at + len], R::ZERO);
                    R::put(s, v - log, &mut out[at..at + len]);
                });
            }
        }
    }
}

/// scale·x + mask. (A function and not a closure in the kernel: those are not always inlined, and then
/// lack the instruction set.)
struct Input<'a, R, const MASKED: bool> {
    x: &'a [R],
    mask: &'a [R],
    scale: R,
}

impl<R: Real, const MASKED: bool> Input<'_, R, MASKED> {
    /// At most a vector; missing elements are −∞.
    #[inline(always)]
    fn get<S: Simd>(&self, s: S, at: usize, len: usize) -> V<R, S> {
        let v = R::get(s, &self.x[at..at + len], R::ZERO) * V::<R, S>::splat(s, self.scale);
        let v = if MASKED {
            v + R::get(s, &self.mask[at..at + len], R::ZERO)
        } else {
            v
        };
        if len < V::<R, S>::LANES {
            first::<R, S>(s, v, len, R::NEG_INFINITY)
        } else {
            v
        }
    }
}

#[derive(Clone, Copy)]
struct Backward<R> {
    kind: Kind,
    scale: R,
}

impl<R: Real> Line<R> for Backward<R> {
    #[inline(always)]
    fn line<S: Simd>(self, s: S, y: &[R], grad: Option<&[R]>, out: &mut [R]) {
        let (n, lanes) = (y.len(), V::<R, S>::LANES);
        let (grad, out) = (&grad.unwrap_or_default()[..n], &mut out[..n]);
        let splat = |value| V::<R, S>::splat(s, value);
        let mut sums = [splat(R::ZERO); 4];
        vectors!(n, lanes, |at, len, k| {
            let g = R::get(s, &grad[at..at + len], R::ZERO);
            sums[k] = match self.kind {
                Kind::Plain => g.mul_add(R::get(s, &y[at..at + len], R::ZERO), sums[k]),
                Kind::Log => sums[k] + g,
            };
        });
        let sum = splat(sum_of_four(sums));
        let scale = splat(self.scale);
        vectors!(n, lanes, |at, len, _k| {
            let g = R::get(s, &grad[at..at + len], R::ZERO);
            let y = R::get(s, &y[at..at + len], R::ZERO);
            let dx = match self.kind {
                Kind::Plain => y * (g - sum),
                Kind::Log => g - exp::<R, S>(s, y) * sum,
            };
            R::put(s, dx * scale, &mut out[at..at + len]);
        });
    }
}

/// Divides the lines among threads and runs `line` on each.
fn each_line<T: Element, L: Line<T::Acc>>(
    isa: Isa,
    x: &Rows<T>,
    other: Option<&Rows<T>>,
    layout: &Layout,
    axis: usize,
    out: &mut [T],
    line: L,
) {
    let width = x.width;
    let inner = product(&layout.dims()[axis + 1..]);
    let parts = threads::parts(out.len(), LEAST).min(x.count.max(1));
    if out.is_empty() {
        return;
    }
    if inner == 1 {
        threads::rows(out, width, parts, |lines, out| {
            isa.run(Outer {
                x,
                other,
                lines,
                out,
                line,
            });
        });
        return;
    }
    // The result's lines are interleaved. Each part gets some columns of every row.
    let parts = parts.min(inner);
    let mut columns: Vec<Vec<&mut [T]>> = Vec::new();
    columns.resize_with(parts, || Vec::with_capacity(out.len() / inner));
    for mut row in out.chunks_mut(inner) {
        for (part, column) in columns.iter_mut().enumerate() {
            let (mine, rest) = row.split_at_mut(threads::part(inner, parts, part).len());
            column.push(mine);
            row = rest;
        }
    }
    threads::run_with(columns, |part, rows| {
        let columns = threads::part(inner, parts, part);
        isa.run(Inner {
            x,
            other,
            inner,
            columns,
            rows,
            line,
        });
    });
}

/// Lines whose results lie one after the other.
struct Outer<'a, T, L> {
    x: &'a Rows<'a, T>,
    other: Option<&'a Rows<'a, T>>,
    lines: Range<usize>,
    out: &'a mut [T],
    line: L,
}

impl<T: Element, L: Line<T::Acc>> WithSimd for Outer<'_, T, L> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let [mut buffer, mut buffer_2, mut buffer_3] = [const { Vec::new() }; 3];
        for (line, out) in self.lines.zip(self.out.chunks_mut(self.x.width.max(1))) {
            let x = self.x.get(s, line, &mut buffer);
            let other = match self.other {
                Some(other) => Some(other.get(s, line, &mut buffer_2)),
                None => None,
            };
            s.with(Alone {
                line: self.line,
                x,
                other,
                out: place(out, &mut buffer_3),
            });
            settle(s, &buffer_3, out);
        }
    }
}

/// Lines whose results are interleaved: some columns of a matrix.
struct Inner<'a, T, L> {
    x: &'a Rows<'a, T>,
    other: Option<&'a Rows<'a, T>>,
    inner: usize,
    columns: Range<usize>,
    rows: Vec<&'a mut [T]>,
    line: L,
}

impl<T: Element, L: Line<T::Acc>> WithSimd for Inner<'_, T, L> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(mut self, s: S) {
        let width = self.x.width;
        let tile = |wanted: bool| vec![T::Acc::ZERO; usize::from(wanted) * TILE * width];
        let (mut x, mut other) = (tile(true), tile(self.other.is_some()));
        let mut out = vec![T::ZERO; TILE * width];
        let mut buffer = Vec::new();
        for (outer, rows) in self.rows.chunks_mut(width).enumerate() {
            for first in self.columns.clone().step_by(TILE) {
                let columns = first..(first + TILE).min(self.columns.end);
                let start = outer * self.inner;
                let lines = start + columns.start..start + columns.end;
                self.x.gather(lines.clone(), &mut x);
                if let Some(rows) = self.other {
                    rows.gather(lines, &mut other);
                }
                for column in 0..columns.len() {
                    let range = column * width..(column + 1) * width;
                    let out = &mut out[range.clone()];
                    s.with(Alone {
                        line: self.line,
                        x: &x[range.clone()],
                        other: self.other.map(|_| &other[range]),
                        out: place(out, &mut buffer),
                    });
                    settle(s, &buffer, out);
                }
                for (i, row) in rows.iter_mut().enumerate() {
                    let to = &mut row[first - self.columns.start..][..columns.len()];
                    for (column, to) in to.iter_mut().enumerate() {
                        *to = out[column * width + i];
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
