//! What happens to a sum on its way to memory: scale, bias, activation, accumulation.

use crate::{
    Element, Real, V,
    simd::{Simd, Vector, WithSimd, exp},
};

/// The function applied to each element of a product.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Activation {
    /// x
    #[default]
    None,
    /// max(x, 0); NaN stays NaN.
    Relu,
    /// x/2 · (1 + tanh(√(2/π)·(x + 0.044715·x³))): [GELU](https://arxiv.org/abs/1606.08415) in the form
    /// that Candle's `Tensor::gelu` and GPT-2 use.
    Gelu,
    /// x / (1 + e⁻ˣ): [SiLU](https://arxiv.org/abs/1702.03118), as `Tensor::silu`.
    Silu,
}

/// Scale, bias, activation and accumulation of one product, in the accumulator's type.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Epilogue<'a, T: Element> {
    pub scale: T::Acc,
    pub bias: Option<&'a [T]>,
    pub activation: Activation,
    pub accumulate: bool,
}

impl<T: Element> Epilogue<'_, T> {
    /// Whether the result is the plain sum (but for accumulation).
    pub fn is_plain(&self) -> bool {
        self.scale == T::Acc::ONE && self.is_linear()
    }

    /// Whether the result is the sum times the scale (but for accumulation).
    pub fn is_linear(&self) -> bool {
        self.bias.is_none() && self.activation == Activation::None
    }

    /// Finishes a row that starts at column `first`: from `sums`, or in place when those are in `out`.
    #[inline(always)]
    pub fn row<S: Simd>(&self, s: S, first: usize, sums: Option<&[T::Acc]>, out: &mut [T]) {
        s.with(Row {
            epilogue: self,
            first,
            sums,
            out,
        });
    }
}

/// One row, apart from the loops over rows, which share it.
struct Row<'a, T: Element> {
    epilogue: &'a Epilogue<'a, T>,
    first: usize,
    sums: Option<&'a [T::Acc]>,
    out: &'a mut [T],
}

impl<T: Element> WithSimd for Row<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self {
            epilogue,
            first,
            sums,
            out,
        } = self;
        let (lanes, zero) = (V::<T::Acc, S>::LANES, T::Acc::ZERO);
        let scale = V::<T::Acc, S>::splat(s, epilogue.scale);
        let bias = epilogue.bias.map(|bias| &bias[first..first + out.len()]);
        for (at, out) in (0..).step_by(lanes).zip(out.chunks_mut(lanes)) {
            let end = at + out.len();
            let old = T::get(s, out, zero);
            let mut x = match sums {
                Some(sums) => T::Acc::get(s, &sums[at..end], zero),
                None => old,
            };
            x = match bias {
                Some(bias) => x.mul_add(scale, T::get(s, &bias[at..end], zero)),
                None => x * scale,
            };
            x = activate::<T::Acc, S>(s, epilogue.activation, x);
            if epilogue.accumulate {
                x = x + old;
            }
            T::put(s, x, out);
        }
    }
}

#[inline(always)]
fn activate<R: Real, S: Simd>(s: S, activation: Activation, x: V<R, S>) -> V<R, S> {
    match activation {
        Activation::None => x,
        Activation::Relu => V::<R, S>::splat(s, R::ZERO).max(x),
        Activation::Silu => gate::<R, S>(s, x, x),
        Activation::Gelu => {
            let splat = |value| V::<R, S>::splat(s, R::from_f64(value));
            let cubic = (x * x).mul_add(splat(0.044_715), splat(1.));
            let slope = splat(2. * (2. / std::f64::consts::PI).sqrt());
            gate::<R, S>(s, x, x * cubic * slope)
        }
    }
}

/// x / (1 + e⁻ᵗ), which is x·(1 + tanh(t/2))/2. At −∞ it would be ∞/∞; the limit is 0.
#[inline(always)]
fn gate<R: Real, S: Simd>(s: S, x: V<R, S>, t: V<R, S>) -> V<R, S> {
    let splat = |value| V::<R, S>::splat(s, value);
    let quotient = x / (splat(R::ONE) + exp::<R, S>(s, splat(R::ZERO) - t));
    V::<R, S>::select(x.eq(splat(R::NEG_INFINITY)), splat(R::ZERO), quotient)
}
