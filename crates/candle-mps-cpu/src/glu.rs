//! Gated linear units, act(gate) · up, whatever the activation: what `swiglu.rs` and `geglu.rs` share.

use std::ops::Range;

use crate::{
    Element, Layout, Real, Result, V,
    rows::{Rows, last_axis, place, settle, vectors, wide},
    simd::{Simd, Vector, WithSimd, isa},
    threads,
};

/// Elements that are worth a thread: what one does in 30 µs with AVX-512; see [`threads::parts`].
const LEAST: usize = 180 << 10;

/// A function of one number.
pub(crate) trait Activation: Copy + Sync {
    /// Its value.
    fn value<R: Real, S: Simd>(self, s: S, x: V<R, S>) -> V<R, S>;
    /// Its value and its slope.
    fn slope<R: Real, S: Simd>(self, s: S, x: V<R, S>) -> (V<R, S>, V<R, S>);
}

/// The unit, for stretches of equal length.
struct Stretch<'a, R, A> {
    activation: A,
    gate: &'a [R],
    up: &'a [R],
    out: &'a mut [R],
}

impl<R: Real, A: Activation> WithSimd for Stretch<'_, R, A> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let (gate, n) = (self.gate, self.gate.len());
        let (up, out) = (&self.up[..n], &mut self.out[..n]);
        vectors!(n, V::<R, S>::LANES, |at, len, _k| {
            let gate = R::get(s, &gate[at..at + len], R::ZERO);
            let up = R::get(s, &up[at..at + len], R::ZERO);
            let act = self.activation.value::<R, S>(s, gate);
            R::put(s, act * up, &mut out[at..at + len]);
        });
    }
}

/// Its gradients, for stretches of equal length.
struct StretchBackward<'a, R, A> {
    activation: A,
    gate: &'a [R],
    up: &'a [R],
    grad: &'a [R],
    to_gate: &'a mut [R],
    to_up: &'a mut [R],
}

impl<R: Real, A: Activation> WithSimd for StretchBackward<'_, R, A> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let (gate, n) = (self.gate, self.gate.len());
        let (up, grad) = (&self.up[..n], &self.grad[..n]);
        let (to_gate, to_up) = (&mut self.to_gate[..n], &mut self.to_up[..n]);
        vectors!(n, V::<R, S>::LANES, |at, len, _k| {
            let gate = R::get(s, &gate[at..at + len], R::ZERO);
            let grad = R::get(s, &grad[at..at + len], R::ZERO);
            let up = R::get(s, &up[at..at + len], R::ZERO);
            let (value, slope) = self.activation.slope::<R, S>(s, gate);
            R::put(s, grad * up * slope, &mut to_gate[at..at + len]);
            R::put(s, grad * value, &mut to_up[at..at + len]);
        });
    }
}

/// Elements that fit the first cache five times.
const STRETCH: usize = 2048;

/// 1 / (1 + exp(−x))
#[inline(always)]
pub(crate) fn sigmoid<R: Real, S: Simd>(s: S, x: V<R, S>) -> V<R, S> {
    let one = V::<R, S>::splat(s, R::ONE);
    one / (one + crate::simd::exp::<R, S>(s, V::<R, S>::splat(s, R::ZERO) - x))
}

/// What a gated unit reads: of one kind of element, of the same dimensions.
pub(crate) struct Operands<'a, T, const N: usize> {
    rows: [Rows<'a, T>; N],
    /// All of them as slices, when none has gaps: rows then do not matter.
    flat: Option<[&'a [T]; N]>,
}

impl<'a, T: Element, const N: usize> Operands<'a, T, N> {
    pub fn new(
        op: &'static str,
        names: [&'static str; N],
        operands: [(&'a [T], &Layout); N],
    ) -> Result<Self> {
        let dims = operands[0].1.dims();
        for (name, (x, layout)) in names.iter().zip(&operands) {
            last_axis(op, name, x, layout)?;
            layout.check_dims(op, name, dims)?;
        }
        let axis = dims.len() - 1;
        let flat = operands.map(|(x, layout)| layout.as_slice(x));
        Ok(Self {
            rows: operands.map(|(x, layout)| Rows::new(x, layout, axis)),
            flat: flat
                .iter()
                .all(Option::is_some)
                .then(|| flat.map(Option::unwrap_or_default)),
        })
    }

    /// The unit that work is divided into, and the number of parts.
    fn grain(&self, count: usize) -> (usize, usize) {
        let width = if self.flat.is_some() {
            1
        } else {
            self.rows[0].width
        };
        let units = count.checked_div(width).unwrap_or(0);
        (width, threads::parts(count, LEAST).min(units.max(1)))
    }
}

pub(crate) fn forward<T: Element, A: Activation>(
    op: &'static str,
    gate: (&[T], &Layout),
    up: (&[T], &Layout),
    activation: A,
    out: &mut [T],
) -> Result<()> {
    let operands = Operands::new(op, ["gate", "up"], [gate, up])?;
    gate.1.check_len(op, "out", out.len())?;
    let (width, parts) = operands.grain(out.len());
    let isa = isa()?;
    threads::rows(out, width, parts, |units, out| {
        isa.run(Forward {
            operands: &operands,
            activation,
            units,
            out,
        });
    });
    Ok(())
}

struct Forward<'a, T, A> {
    operands: &'a Operands<'a, T, 2>,
    activation: A,
    units: Range<usize>,
    out: &'a mut [T],
}

impl<T: Element, A: Activation> WithSimd for Forward<'_, T, A> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let [mut buffer, mut buffer_2, mut buffer_3] = [const { Vec::new() }; 3];
        let operands = self.operands;
        let width = if operands.flat.is_some() {
            STRETCH
        } else {
            operands.rows[0].width.max(1)
        };
        for (index, out) in self.out.chunks_mut(width).enumerate() {
            let [gate, up] = match operands.flat {
                Some([gate, up]) => {
                    let start = self.units.start + index * width;
                    let stretch = start..start + out.len();
                    [
                        wide(s, &gate[stretch.clone()], &mut buffer),
                        wide(s, &up[stretch], &mut buffer_2),
                    ]
                }
                None => {
                    let (row, [gate, up]) = (self.units.start + index, &operands.rows);
                    [gate.get(s, row, &mut buffer), up.get(s, row, &mut buffer_2)]
                }
            };
            s.with(Stretch {
                activation: self.activation,
                gate,
                up,
                out: place(out, &mut buffer_3),
            });
            settle(s, &buffer_3, out);
        }
    }
}

pub(crate) fn backward<T: Element, A: Activation>(
    op: &'static str,
    gate: (&[T], &Layout),
    up: (&[T], &Layout),
    grad: (&[T], &Layout),
    activation: A,
    (to_gate, to_up): (&mut [T], &mut [T]),
) -> Result<()> {
    let operands = Operands::new(op, ["gate", "up", "grad"], [gate, up, grad])?;
    gate.1.check_len(op, "out.gate", to_gate.len())?;
    gate.1.check_len(op, "out.up", to_up.len())?;
    let (width, parts) = operands.grain(to_gate.len());
    let units = to_gate.len().checked_div(width).unwrap_or(0);
    let isa = isa()?;
    let mut items = Vec::with_capacity(parts);
    let (mut gates, mut ups) = (to_gate, to_up);
    for part in 0..parts {
        let units = threads::part(units, parts, part);
        let (gate, rest) = gates.split_at_mut(units.len() * width);
        gates = rest;
        let (up, rest) = ups.split_at_mut(units.len() * width);
        ups = rest;
        items.push((units, gate, up));
    }
    threads::run_with(items, |_, (units, to_gate, to_up)| {
        isa.run(Backward {
            operands: &operands,
            activation,
            units,
            to_gate,
            to_up,
        });
    });
    Ok(())
}

struct Backward<'a, T, A> {
    operands: &'a Operands<'a, T, 3>,
    activation: A,
    units: Range<usize>,
    to_gate: &'a mut [T],
    to_up: &'a mut [T],
}

impl<T: Element, A: Activation> WithSimd for Backward<'_, T, A> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let [mut buffer, mut buffer_2, mut buffer_3] = [const { Vec::new() }; 3];
        let [mut gate_buffer, mut up_buffer] = [const { Vec::new() }; 2];
        let operands = self.operands;
        let width = if operands.flat.is_some() {
            STRETCH
        } else {
            operands.rows[0].width.max(1)
        };
        let outs = self
            .to_gate
            .chunks_mut(width)
            .zip(self.to_up.chunks_mut(width));
        for (index, (to_gate, to_up)) in outs.enumerate() {
            let [gate, up, grad] = match operands.flat {
                Some([gate, up, grad]) => {
                    let start = self.units.start + index * width;
                    let stretch = start..start + to_gate.len();
                    [
                        wide(s, &gate[stretch.clone()], &mut buffer),
                        wide(s, &up[stretch.clone()], &mut buffer_2),
                        wide(s, &grad[stretch], &mut buffer_3),
                    ]
                }
                None => {
                    let (row, [gate, up, grad]) = (self.units.start + index, &operands.rows);
                    [
                        gate.get(s, row, &mut buffer),
                        up.get(s, row, &mut buffer_2),
                        grad.get(s, row, &mut buffer_3),
                    ]
                }
            };
            s.with(StretchBackward {
                activation: self.activation,
                gate,
                up,
                grad,
                to_gate: place(to_gate, &mut gate_buffer),
                to_up: place(to_up, &mut up_buffer),
            });
            settle(s, &gate_buffer, to_gate);
            settle(s, &up_buffer, to_up);
        }
    }
}

/// The test of both units: against f64, and the backward against the slope that `exact` gives.
#[cfg(test)]
pub(crate) mod check {
    use super::*;
    use crate::oracle::{cases, check};

    type Operand<'a, T> = (&'a [T], &'a Layout<'a>);

    pub fn both<T: Element>(
        name: &str,
        forward: impl Fn(Operand<T>, Operand<T>, &mut [T]) -> Result<()>,
        backward: impl Fn(Operand<T>, Operand<T>, Operand<T>, (&mut [T], &mut [T])) -> Result<()>,
        exact: impl Fn(f64) -> (f64, f64),
    ) {
        cases(name, |rng| {
            let dims = rng.dims();
            let count = dims.iter().product();
            let (gate, up) = (rng.operand::<T>(&dims), rng.operand::<T>(&dims));
            let grad = rng.operand::<T>(&dims);
            let (lg, lu, lr) = (gate.layout(), up.layout(), grad.layout());
            let (g, u) = ((&gate.data[..], &lg), (&up.data[..], &lu));
            let mut out = rng.values(count);
            forward(g, u, &mut out).unwrap();
            let (gates, ups, grads) = (gate.values(), up.values(), grad.values());
            let each = |f: &dyn Fn(usize) -> f64| (0..count).map(f).collect::<Vec<f64>>();
            check("y", &out, &each(&|i| exact(gates[i]).0 * ups[i]), 16., 4.);
            let (mut dg, mut du) = (rng.values(count), rng.values(count));
            backward(g, u, (&grad.data, &lr), (&mut dg, &mut du)).unwrap();
            check(
                "gate",
                &dg,
                &each(&|i| exact(gates[i]).1 * ups[i] * grads[i]),
                16.,
                8.,
            );
            check("up", &du, &each(&|i| exact(gates[i]).0 * grads[i]), 16., 4.);
            out.extend(dg);
            out.extend(du);
            out
        });
    }

    pub fn refusals(
        forward: impl Fn(Operand<f32>, Operand<f32>, &mut [f32]) -> Result<()>,
        backward: impl Fn(
            Operand<f32>,
            Operand<f32>,
            Operand<f32>,
            (&mut [f32], &mut [f32]),
        ) -> Result<()>,
    ) {
        let layout = Layout::contiguous(&[2, 3]).unwrap();
        let other = Layout::contiguous(&[3, 2]).unwrap();
        let scalar = Layout::contiguous(&[]).unwrap();
        let (x, mut out, mut out_2) = ([0f32; 6], [0f32; 6], [0f32; 6]);
        let whole = (&x[..], &layout);
        let refusal = |result: Result<()>| result.unwrap_err().to_string();
        assert!(refusal(forward((&x[1..], &layout), whole, &mut out)).contains("`gate`"));
        assert!(refusal(forward(whole, (&x, &other), &mut out)).contains("`up`"));
        assert!(refusal(forward(whole, whole, &mut out[1..])).contains("`out`"));
        assert!(refusal(forward((&x, &scalar), whole, &mut out)).contains("rank 0"));
        let outs = (&mut out[..], &mut out_2[..]);
        assert!(refusal(backward(whole, whole, (&x, &other), outs)).contains("`grad`"));
        let outs = (&mut out[1..], &mut out_2[..]);
        assert!(refusal(backward(whole, whole, whole, outs)).contains("`out.gate`"));
        let outs = (&mut out[..], &mut out_2[1..]);
        assert!(refusal(backward(whole, whole, whole, outs)).contains("`out.up`"));
    }
}
