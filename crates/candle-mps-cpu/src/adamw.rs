//! AdamW, one step in one pass over parameter, gradient and both moments, in place.
//! <https://arxiv.org/abs/1711.05101>
//!
//! As Candle's optimiser computes it, where it takes a dozen passes over fresh memory:
//! m ← β₁·m + (1 − β₁)·g, v ← β₂·v + (1 − β₂)·g²,
//! θ ← θ·(1 − η·λ) − η · (m / (1 − β₁ᵗ)) / (√(v / (1 − β₂ᵗ)) + ε).

use std::ops::Range;

use crate::{
    Element, Error, Layout, Real, Result, V,
    rows::{Rows, TILE, check_vector, place_of, settle, vectors, wide},
    simd::{Isa, Simd, Vector, WithSimd, isa},
    threads,
};

const OP: &str = "adamw";

/// Elements that are worth a thread: what one does in 30 µs with AVX-512; see [`threads::parts`].
const LEAST: usize = 160 << 10;

/// The optimiser's settings, with Candle's names and defaults.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdamW {
    /// η, the learning rate.
    pub lr: f64,
    /// How much of the first moment is kept.
    pub beta1: f64,
    /// How much of the second moment is kept.
    pub beta2: f64,
    /// Keeps the quotient finite where gradients vanish.
    pub eps: f64,
    /// λ: how fast parameters shrink on their own.
    pub weight_decay: f64,
}

impl Default for AdamW {
    fn default() -> Self {
        Self {
            lr: 0.001,
            beta1: 0.9,
            beta2: 0.999,
            eps: 1e-8,
            weight_decay: 0.01,
        }
    }
}

/// What a step changes, each in row-major order.
#[derive(Debug)]
pub struct Moments<'a, T> {
    /// θ.
    pub parameter: &'a mut [T],
    /// m, the mean of the gradients; zeros before the first step.
    pub first: &'a mut [T],
    /// v, the mean of their squares; zeros before the first step.
    pub second: &'a mut [T],
}

/// The `t`-th step, counted from 1. The gradient may be laid out in any way: that of a linear layer's
/// weight often comes transposed.
///
/// # Errors
/// When the gradient's layout does not fit it, one of the others has not as many elements, `t` is 0, or
/// a beta is not in 0..1 (with 1, the first step divides by zero).
pub fn adamw<T: Element>(
    state: Moments<T>,
    (grad, layout): (&[T], &Layout),
    t: usize,
    with: &AdamW,
) -> Result<()> {
    layout.check(OP, "grad", grad.len())?;
    check_vector(OP, "parameter", layout.count(), state.parameter)?;
    check_vector(OP, "first", layout.count(), state.first)?;
    check_vector(OP, "second", layout.count(), state.second)?;
    for (argument, got) in [("beta1", with.beta1), ("beta2", with.beta2)] {
        if !(0. ..1.).contains(&got) {
            return Err(Error::Option {
                op: OP,
                argument,
                got,
                remedy: "pass a number in 0..1",
            });
        }
    }
    if t == 0 {
        return Err(Error::Option {
            op: OP,
            argument: "t",
            got: 0.,
            remedy: "count steps from 1",
        });
    }
    let (isa, step) = (isa()?, Step::new(with, t));
    let count = layout.count();
    if count == 0 {
        return Ok(());
    }
    let parts = threads::parts(count, LEAST);
    if let Some(grad) = layout.as_slice(grad) {
        split(state, 1, count, parts, |range, state| {
            isa.run(Flat {
                step,
                state,
                grad: &grad[range],
            });
        });
    } else if let Some(axis) = layout.rank().checked_sub(1) {
        let rows = Rows::new(grad, layout, axis);
        split(
            state,
            rows.width,
            rows.count,
            parts.min(rows.count.max(1)),
            |range, state| {
                tiles(isa, step, &rows, range, state);
            },
        );
    }
    Ok(())
}

/// Divides rows of `width` elements of all three among threads.
fn split<T: Element>(
    mut state: Moments<T>,
    width: usize,
    rows: usize,
    parts: usize,
    f: impl Fn(Range<usize>, Moments<T>) + Sync,
) {
    let mut items = Vec::with_capacity(parts);
    for part in 0..parts {
        let range = threads::part(rows, parts, part);
        let (mine, rest) = state.split_at(range.len() * width);
        items.push((range, mine));
        state = rest;
    }
    threads::run_with(items, |_, (range, state)| f(range, state));
}

/// Copies the gradient out, some rows at a time, where it does not lie as the parameter does.
fn tiles<T: Element>(
    isa: Isa,
    step: Step<T::Acc>,
    grad: &Rows<T>,
    rows: Range<usize>,
    mut state: Moments<T>,
) {
    let mut tile = vec![T::Acc::ZERO; TILE * grad.width];
    for first in rows.clone().step_by(TILE) {
        let lines = first..(first + TILE).min(rows.end);
        let count = lines.len() * grad.width;
        grad.gather(lines, &mut tile);
        let (mine, rest) = state.split_at(count);
        state = rest;
        isa.run(Span {
            step,
            state: mine,
            grad: &tile[..count],
        });
    }
}

impl<'a, T> Moments<'a, T> {
    fn split_at(self, at: usize) -> (Self, Self) {
        let (parameter, parameters) = self.parameter.split_at_mut(at);
        let (first, firsts) = self.first.split_at_mut(at);
        let (second, seconds) = self.second.split_at_mut(at);
        let rest = Moments {
            parameter: parameters,
            first: firsts,
            second: seconds,
        };
        (
            Moments {
                parameter,
                first,
                second,
            },
            rest,
        )
    }
}

/// The factors of a step, each computed in f64 and rounded once, as Candle does.
#[derive(Debug, Clone, Copy)]
struct Step<R> {
    keep_first: R,
    add_first: R,
    keep_second: R,
    add_second: R,
    scale_first: R,
    scale_second: R,
    keep: R,
    lr: R,
    eps: R,
}

impl<R: Element> Step<R> {
    fn new(with: &AdamW, t: usize) -> Self {
        let t = i32::try_from(t).unwrap_or(i32::MAX);
        Self {
            keep_first: R::from_f64(with.beta1),
            add_first: R::from_f64(1. - with.beta1),
            keep_second: R::from_f64(with.beta2),
            add_second: R::from_f64(1. - with.beta2),
            scale_first: R::from_f64(1. / (1. - with.beta1.powi(t))),
            scale_second: R::from_f64(1. / (1. - with.beta2.powi(t))),
            keep: R::from_f64(1. - with.lr * with.weight_decay),
            lr: R::from_f64(with.lr),
            eps: R::from_f64(with.eps),
        }
    }
}

/// A gradient that lies as the parameter does.
struct Flat<'a, T: Element> {
    step: Step<T::Acc>,
    state: Moments<'a, T>,
    grad: &'a [T],
}

impl<T: Element> WithSimd for Flat<'_, T> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let (mut state, mut buffer) = (self.state, Vec::new());
        for grad in self.grad.chunks(STRETCH) {
            let (mine, rest) = state.split_at(grad.len());
            state = rest;
            s.with(Span {
                step: self.step,
                state: mine,
                grad: wide(s, grad, &mut buffer),
            });
        }
    }
}

/// A gradient that has been widened.
struct Span<'a, T: Element> {
    step: Step<T::Acc>,
    state: Moments<'a, T>,
    grad: &'a [T::Acc],
}

impl<T: Element> WithSimd for Span<'_, T> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let [mut buffer, mut buffer_2, mut buffer_3] = [const { Vec::new() }; 3];
        let mut state = self.state;
        for grad in self.grad.chunks(STRETCH) {
            let (mine, rest) = state.split_at(grad.len());
            state = rest;
            s.with(Stretch {
                step: self.step,
                state: Moments {
                    parameter: place_of(s, mine.parameter, &mut buffer),
                    first: place_of(s, mine.first, &mut buffer_2),
                    second: place_of(s, mine.second, &mut buffer_3),
                },
                grad,
            });
            settle(s, &buffer, mine.parameter);
            settle(s, &buffer_2, mine.first);
            settle(s, &buffer_3, mine.second);
        }
    }
}

/// Elements that fit the first cache four times.
const STRETCH: usize = 2048;

struct Stretch<'a, R: Real> {
    step: Step<R>,
    state: Moments<'a, R>,
    grad: &'a [R],
}

impl<R: Real> WithSimd for Stretch<'_, R> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let (n, lanes) = (self.grad.len(), V::<R, S>::LANES);
        let splat = |value| V::<R, S>::splat(s, value);
        let (keep_first, add_first) = (splat(self.step.keep_first), splat(self.step.add_first));
        let (keep_second, add_second) = (splat(self.step.keep_second), splat(self.step.add_second));
        let (to_first, to_second) = (splat(self.step.scale_first), splat(self.step.scale_second));
        let (keep, eps) = (splat(self.step.keep), splat(self.step.eps));
        let back = splat(R::ZERO - self.step.lr);
        let grad = self.grad;
        let Moments {
            parameter,
            first,
            second,
        } = self.state;
        let (parameter, first, second) = (&mut parameter[..n], &mut first[..n], &mut second[..n]);
        vectors!(n, lanes, |at, len, _k| {
            let g = R::get(s, &grad[at..at + len], R::ZERO);
            let m = R::get(s, &first[at..at + len], R::ZERO);
            let m = m.mul_add(keep_first, g * add_first);
            R::put(s, m, &mut first[at..at + len]);
            let v = R::get(s, &second[at..at + len], R::ZERO);
            let v = v.mul_add(keep_second, g * g * add_second);
            R::put(s, v, &mut second[at..at + len]);
            let move_by = m * to_first / ((v * to_second).sqrt() + eps);
            let theta = R::get(s, &parameter[at..at + len], R::ZERO) * keep;
            let theta = move_by.mul_add(back, theta);
            R::put(s, theta, &mut parameter[at..at + len]);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oracle::{Rng, cases, check, each_type};

    fn steps<T: Element>() {
        cases("adamw", |rng: &mut Rng| {
            let dims = rng.dims();
            let count = dims.iter().product();
            let mut theta: Vec<T> = rng.values(count);
            let (mut m, mut v) = (vec![T::ZERO; count], vec![T::ZERO; count]);
            let with = AdamW {
                lr: 0.1,
                weight_decay: 0.1,
                eps: 1e-3,
                ..AdamW::default()
            };
            for t in 1..4 {
                let grad = rng.operand::<T>(&dims);
                // The exact step starts from the rounded state, so that errors do not pile up.
                let (mut x, mut first, mut second) = (Vec::new(), Vec::new(), Vec::new());
                for (i, g) in grad.values().into_iter().enumerate() {
                    first.push(with.beta1 * m[i].to_f64() + (1. - with.beta1) * g);
                    second.push(with.beta2 * v[i].to_f64() + (1. - with.beta2) * g * g);
                    let mean = first[i] / (1. - with.beta1.powi(t));
                    let root = (second[i] / (1. - with.beta2.powi(t))).sqrt();
                    let kept = theta[i].to_f64() * (1. - with.lr * with.weight_decay);
                    x.push(kept - with.lr * mean / (root + with.eps));
                }
                let state = Moments {
                    parameter: &mut theta,
                    first: &mut m,
                    second: &mut v,
                };
                adamw(state, (&grad.data, &grad.layout()), t as usize, &with).unwrap();
                check("parameter", &theta, &x, 1., 8.);
                check("first", &m, &first, 1., 4.);
                check("second", &v, &second, 1e-2, 8.);
            }
            theta.extend(m);
            theta.extend(v);
            theta
        });
    }

    each_type!(steps);

    /// Found by fuzzing: dimensions beside a zero are unbounded.
    #[test]
    fn nothing_to_do_in_any_dimensions() {
        let dims = [0, usize::MAX];
        let layout = Layout::new(&dims, &[1, 2], 0).unwrap();
        let state = Moments::<f32> {
            parameter: &mut [],
            first: &mut [],
            second: &mut [],
        };
        adamw(state, (&[], &layout), 1, &AdamW::default()).unwrap();
    }

    #[test]
    fn a_large_transposed_gradient() {
        let (dims, strides) = ([300, 200], [1, 300]);
        let layout = Layout::new(&dims, &strides, 0).unwrap();
        let grad: Vec<f32> = (0..60_000).map(|i| (i % 97) as f32 - 48.).collect();
        let (mut x, mut m, mut v) = (vec![1f32; 60_000], vec![0.; 60_000], vec![0.; 60_000]);
        let state = Moments {
            parameter: &mut x,
            first: &mut m,
            second: &mut v,
        };
        adamw(state, (&grad, &layout), 1, &AdamW::default()).unwrap();
        for row in 0..300 {
            for column in 0..200 {
                let sign =
                    grad[column * 300 + row].signum() * f32::from(grad[column * 300 + row] != 0.);
                let exact = 1. - 1e-5 - 1e-3 * sign;
                assert!(
                    (x[row * 200 + column] - exact).abs() < 1e-6,
                    "{row} {column}"
                );
            }
        }
    }

    #[test]
    fn refusals_name_the_argument() {
        let dims = [2];
        let layout = Layout::contiguous(&dims).unwrap();
        let refusal = |lengths: [usize; 4], t, with: AdamW| {
            let [mut x, mut m, mut v, g] = lengths.map(|length| vec![0f32; length]);
            let state = Moments {
                parameter: &mut x,
                first: &mut m,
                second: &mut v,
            };
            adamw(state, (&g, &layout), t, &with)
                .unwrap_err()
                .to_string()
        };
        let plain = AdamW::default();
        for (at, name) in ["`parameter`", "`first`", "`second`", "`grad`"]
            .iter()
            .enumerate()
        {
            let mut lengths = [2; 4];
            lengths[at] = 1;
            assert!(refusal(lengths, 1, plain).contains(name));
        }
        assert!(refusal([2; 4], 0, plain).contains("`t`"));
        assert!(refusal([2; 4], 1, AdamW { beta1: 1., ..plain }).contains("`beta1`"));
        assert!(
            refusal(
                [2; 4],
                1,
                AdamW {
                    beta2: f64::NAN,
                    ..plain
                }
            )
            .contains("`beta2`")
        );
    }
}
