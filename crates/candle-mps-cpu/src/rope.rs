//! Rotary position embedding: each pair of a row is turned by an angle that depends on its position,
//! (a, b) → (a·cos − b·sin, a·sin + b·cos). <https://arxiv.org/abs/2104.09864>

use std::ops::Range;

use crate::{
    Element, Error, Layout, Real, Result, V,
    rows::{Rows, last_axis, place, settle, vectors},
    simd::{Simd, Vector, WithSimd, isa},
    threads,
};

const OP: &str = "rope";

/// Elements that are worth a thread: what one does in 30 µs with AVX-512; see [`threads::parts`].
const LEAST: usize = 240 << 10;

/// Which elements of a row make a pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pairs {
    /// Neighbours, as in the paper and in Candle's `rope_i`.
    Neighbours,
    /// The first half and the second, as in GPT-NeoX, Llama in Hugging Face's layout and Candle's
    /// `rope`.
    Halves,
}

/// Turns the rows of `x` by the angles whose cosines and sines are given, to `out` in row-major order.
///
/// `cos` and `sin` have the dimensions of `x` with the last one halved, broadcast by strides of 0: for
/// heads before positions as for positions before heads (`thd`), with angles for each batch or for
/// all. Where their last dimension is less than half of a row, the rest of the row is copied: some
/// models turn a part only.
///
/// # Errors
/// When a layout does not fit its slice or has rank 0, `cos` and `sin` do not fit `x`, or `out` has
/// another length.
pub fn rope<T: Element>(
    x: (&[T], &Layout),
    cos: (&[T], &Layout),
    sin: (&[T], &Layout),
    pairs: Pairs,
    out: &mut [T],
) -> Result<()> {
    turn(x, cos, sin, pairs, T::Acc::ONE, out)
}

/// The gradient of [`rope`] from that of its result: turned back by the same angles.
///
/// # Errors
/// As [`rope`].
pub fn rope_backward<T: Element>(
    grad: (&[T], &Layout),
    cos: (&[T], &Layout),
    sin: (&[T], &Layout),
    pairs: Pairs,
    out: &mut [T],
) -> Result<()> {
    turn(grad, cos, sin, pairs, T::Acc::ZERO - T::Acc::ONE, out)
}

fn turn<T: Element>(
    (x, layout): (&[T], &Layout),
    (cos, its): (&[T], &Layout),
    (sin, sins): (&[T], &Layout),
    pairs: Pairs,
    sign: T::Acc,
    out: &mut [T],
) -> Result<()> {
    let x = last_axis(OP, "x", x, layout)?;
    let cos = last_axis(OP, "cos", cos, its)?;
    let sin = last_axis(OP, "sin", sin, sins)?;
    let (dims, angles) = (layout.dims(), its.dims());
    let fits = angles.len() == dims.len()
        && angles[..angles.len() - 1] == dims[..dims.len() - 1]
        && cos.width <= x.width / 2;
    if !fits {
        let mut expected = dims.to_vec();
        expected[dims.len() - 1] = x.width / 2;
        return Err(Error::Dims {
            op: OP,
            argument: "cos",
            expected,
            got: angles.to_vec(),
        });
    }
    sins.check_dims(OP, "sin", angles)?;
    layout.check_len(OP, "out", out.len())?;
    let parts = threads::parts(out.len(), LEAST).min(x.count.max(1));
    let isa = isa()?;
    threads::rows(out, x.width, parts, |rows, out| {
        isa.run(Turn {
            x: &x,
            cos: &cos,
            sin: &sin,
            pairs,
            sign,
            rows,
            out,
        });
    });
    Ok(())
}

struct Turn<'a, T: Element> {
    x: &'a Rows<'a, T>,
    cos: &'a Rows<'a, T>,
    sin: &'a Rows<'a, T>,
    pairs: Pairs,
    /// 1, or −1 to turn back.
    sign: T::Acc,
    rows: Range<usize>,
    out: &'a mut [T],
}

impl<T: Element> WithSimd for Turn<'_, T> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let [mut buffer, mut buffer_2, mut buffer_3, mut buffer_4] = [const { Vec::new() }; 4];
        for (row, out) in self.rows.zip(self.out.chunks_mut(self.x.width.max(1))) {
            let (cos, sin) = if self.cos.width == 0 {
                (&[][..], &[][..])
            } else {
                (
                    self.cos.get(s, row, &mut buffer_2),
                    self.sin.get(s, row, &mut buffer_3),
                )
            };
            s.with(Row {
                x: self.x.get(s, row, &mut buffer),
                cos,
                sin,
                pairs: self.pairs,
                sign: self.sign,
                out: place(out, &mut buffer_4),
            });
            settle(s, &buffer_4, out);
        }
    }
}

/// One row. What has no angle stays as it is.
struct Row<'a, R> {
    x: &'a [R],
    cos: &'a [R],
    sin: &'a [R],
    pairs: Pairs,
    sign: R,
    out: &'a mut [R],
}

impl<R: Real> WithSimd for Row<'_, R> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let (x, rest) = self.x.split_at(2 * self.cos.len());
        let (out, others) = self.out.split_at_mut(x.len());
        others.copy_from_slice(rest);
        match self.pairs {
            Pairs::Halves => halves(s, x, self.cos, self.sin, self.sign, out),
            Pairs::Neighbours => neighbours(s, x, self.cos, self.sin, self.sign, out),
        }
    }
}

/// Both products are rounded, as in Candle: on f32 and f64 the results are equal to the last bit.
#[inline(always)]
fn halves<R: Real, S: Simd>(s: S, x: &[R], cos: &[R], sin: &[R], sign: R, out: &mut [R]) {
    let (a, b) = x.split_at(cos.len());
    let (to_a, to_b) = out.split_at_mut(cos.len());
    let (sin, sign) = (&sin[..cos.len()], V::<R, S>::splat(s, sign));
    vectors!(cos.len(), V::<R, S>::LANES, |at, len, _k| {
        let a = R::get(s, &a[at..at + len], R::ZERO);
        let b = R::get(s, &b[at..at + len], R::ZERO);
        let cos = R::get(s, &cos[at..at + len], R::ZERO);
        let sin = R::get(s, &sin[at..at + len], R::ZERO) * sign;
        R::put(s, a * cos - b * sin, &mut to_a[at..at + len]);
        R::put(s, a * sin + b * cos, &mut to_b[at..at + len]);
    });
}

#[inline(always)]
fn neighbours<R: Real, S: Simd>(s: S, x: &[R], cos: &[R], sin: &[R], sign: R, out: &mut [R]) {
    let (n, lanes) = (cos.len(), V::<R, S>::LANES);
    let signs = V::<R, S>::splat(s, sign);
    let whole = n / lanes * lanes;
    for at in (0..whole).step_by(lanes) {
        let (low, high) = (R::load(s, &x[2 * at..]), R::load(s, &x[2 * at + lanes..]));
        let (a, b) = low.deinterleave(high);
        let (cos, sin) = (R::load(s, &cos[at..]), R::load(s, &sin[at..]) * signs);
        let (low, high) = (a * cos - b * sin).interleave(a * sin + b * cos);
        R::store(s, low, &mut out[2 * at..]);
        R::store(s, high, &mut out[2 * at + lanes..]);
    }
    if whole < n {
        // The rest, through vectors of its own so that it is rounded as the others are.
        let mut pairs = [[R::ZERO; crate::simd::MAX_LANES]; 2];
        for i in whole..n {
            pairs[0][i - whole] = x[2 * i];
            pairs[1][i - whole] = x[2 * i + 1];
        }
        let (a, b) = (R::load(s, &pairs[0]), R::load(s, &pairs[1]));
        let cos = R::get(s, &cos[whole..], R::ZERO);
        let sin = R::get(s, &sin[whole..], R::ZERO) * signs;
        R::store(s, a * cos - b * sin, &mut pairs[0]);
        R::store(s, a * sin + b * cos, &mut pairs[1]);
        for i in whole..n {
            out[2 * i] = pairs[0][i - whole];
            out[2 * i + 1] = pairs[1][i - whole];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oracle::{Rng, cases, check, each_type};

    fn both<T: Element>() {
        cases("rope", |rng: &mut Rng| {
            let mut dims = rng.dims();
            let last = dims.len() - 1;
            let half = dims[last];
            dims[last] = 2 * half + if rng.below(3) == 0 { rng.below(4) } else { 0 };
            let x = rng.operand::<T>(&dims);
            let mut angles = dims.clone();
            angles[last] = half;
            let (cos, sin) = (rng.operand::<T>(&angles), rng.operand::<T>(&angles));
            let pairs = [Pairs::Halves, Pairs::Neighbours][rng.below(2)];
            let back = rng.below(2) == 0;
            let mut out = rng.values(dims.iter().product());
            let op = if back { rope_backward } else { rope };
            let (lx, lc, ls) = (x.layout(), cos.layout(), sin.layout());
            op(
                (&x.data, &lx),
                (&cos.data, &lc),
                (&sin.data, &ls),
                pairs,
                &mut out,
            )
            .unwrap();
            let mut expected = x.values();
            let (cos, sin) = (cos.values(), sin.values());
            for (row, y) in expected.chunks_mut(dims[last]).enumerate() {
                for i in 0..half {
                    let (c, s) = (cos[row * half + i], sin[row * half + i]);
                    let s = if back { -s } else { s };
                    let (first, second) = match pairs {
                        Pairs::Halves => (i, i + half),
                        Pairs::Neighbours => (2 * i, 2 * i + 1),
                    };
                    let (a, b) = (y[first], y[second]);
                    (y[first], y[second]) = (a * c - b * s, a * s + b * c);
                }
            }
            check("y", &out, &expected, 16., 2.);
            out
        });
    }

    each_type!(both);

    /// Angles per position, heads after positions: what Candle calls `thd`.
    #[test]
    fn positions_before_heads() {
        let (t, h, d) = (3, 2, 4);
        let dims = [t, h, d];
        let layout = Layout::contiguous(&dims).unwrap();
        let x: Vec<f32> = (0..24u8).map(f32::from).collect();
        let (cos, sin) = ([0f32; 6], [1f32, 1., 2., 2., 3., 3.]);
        let (angles, strides) = ([t, h, d / 2], [d / 2, 0, 1]);
        let its = Layout::new(&angles, &strides, 0).unwrap();
        let mut out = [0f32; 24];
        rope(
            (&x, &layout),
            (&cos, &its),
            (&sin, &its),
            Pairs::Neighbours,
            &mut out,
        )
        .unwrap();
        assert_eq!(out[..8], [-1., 0., -3., 2., -5., 4., -7., 6.]);
        assert_eq!(out[16..20], [-17. * 3., 16. * 3., -19. * 3., 18. * 3.]);
    }

    #[test]
    fn refusals_name_the_argument() {
        let dims = [2, 4];
        let layout = Layout::contiguous(&dims).unwrap();
        let halved = [2, 2];
        let half = Layout::contiguous(&halved).unwrap();
        let (x, mut out) = ([0f32; 8], [0f32; 8]);
        let refusal = |cos: &Layout, sin: &Layout, length: usize, out: &mut [f32]| {
            let pairs = Pairs::Halves;
            let result = rope((&x, &layout), (&x[..length], cos), (&x, sin), pairs, out);
            result.unwrap_err().to_string()
        };
        assert!(refusal(&half, &half, 3, &mut out).contains("`cos`"));
        assert!(refusal(&layout, &half, 8, &mut out).contains("`cos`"));
        assert!(refusal(&half, &layout, 8, &mut out).contains("`sin`"));
        assert!(refusal(&half, &half, 8, &mut out[..1]).contains("`out`"));
        let scalar = Layout::contiguous(&[]).unwrap();
        assert!(refusal(&scalar, &half, 8, &mut out).contains("`cos`"));
    }
}
