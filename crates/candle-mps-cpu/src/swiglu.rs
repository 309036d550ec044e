//! SwiGLU: silu(gate) · up with silu(x) = x / (1 + exp(−x)), the unit of Llama's feed-forward layers.
//! <https://arxiv.org/abs/2002.05202>
//!
//! `gate` and `up` are operands of their own, so that two products and two halves of one (as Candle's
//! `swiglu` takes them) both go without a copy.

use crate::{
    Element, Layout, Real, Result, V,
    glu::{self, Activation, sigmoid},
    simd::{Simd, Vector},
};

/// Writes silu(gate) · up to `out`, in row-major order.
///
/// # Errors
/// When a layout does not fit its slice or has rank 0, the dimensions differ, or `out` has another
/// length.
pub fn swiglu<T: Element>(gate: (&[T], &Layout), up: (&[T], &Layout), out: &mut [T]) -> Result<()> {
    glu::forward("swiglu", gate, up, Silu, out)
}

/// The gradients of [`swiglu`] by `gate` and by `up`, from its arguments and the gradient of its result.
///
/// # Errors
/// As [`swiglu`].
pub fn swiglu_backward<T: Element>(
    gate: (&[T], &Layout),
    up: (&[T], &Layout),
    grad: (&[T], &Layout),
    (to_gate, to_up): (&mut [T], &mut [T]),
) -> Result<()> {
    glu::backward("swiglu_backward", gate, up, grad, Silu, (to_gate, to_up))
}

#[derive(Clone, Copy)]
struct Silu;

impl Activation for Silu {
    #[inline(always)]
    fn value<R: Real, S: Simd>(self, s: S, x: V<R, S>) -> V<R, S> {
        x * sigmoid::<R, S>(s, x)
    }

    #[inline(always)]
    fn slope<R: Real, S: Simd>(self, s: S, x: V<R, S>) -> (V<R, S>, V<R, S>) {
        let (sigmoid, one) = (sigmoid::<R, S>(s, x), V::<R, S>::splat(s, R::ONE));
        let value = x * sigmoid;
        (value, value.mul_add(one - sigmoid, sigmoid))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oracle::each_type;

    fn both<T: Element>() {
        glu::check::both::<T>("swiglu", swiglu, swiglu_backward, |x| {
            let sigmoid = 1. / (1. + (-x).exp());
            (x * sigmoid, sigmoid * (1. + x * (1. - sigmoid)))
        });
    }

    each_type!(both);

    #[test]
    fn far_out() {
        let layout = Layout::contiguous(&[4]).unwrap();
        let (gate, ones, mut out) = ([-1e4f32, 1e4, -100., 0.], [1f32; 4], [9f32; 4]);
        swiglu((&gate, &layout), (&ones, &layout), &mut out).unwrap();
        assert_eq!((out[0], out[1], out[3]), (0., 1e4, 0.));
        assert!(out[2].abs() < 1e-40);
    }

    #[test]
    fn refusals_name_the_argument() {
        glu::check::refusals(swiglu, swiglu_backward);
    }
}
