//! GEGLU: gelu(gate) · up with gelu(x) = x · Φ(x), Φ the normal distribution.
//! <https://arxiv.org/abs/2002.05202>

use crate::{
    Element, Layout, Real, Result, V,
    glu::{self, Activation, sigmoid},
    simd::{Simd, Vector, exp, normal_cdf},
};

/// Which gelu. Models are trained with one and do not take the other's results.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gelu {
    /// x · Φ(x): Candle's `gelu_erf`, PyTorch's default.
    Exact,
    /// x · (1 + tanh(√(2/π)·(x + 0.044715·x³))) / 2: Candle's `gelu`, Gemma's.
    Tanh,
}

/// Writes gelu(gate) · up to `out`, in row-major order.
///
/// # Errors
/// When a layout does not fit its slice or has rank 0, the dimensions differ, or `out` has another
/// length.
pub fn geglu<T: Element>(
    gate: (&[T], &Layout),
    up: (&[T], &Layout),
    gelu: Gelu,
    out: &mut [T],
) -> Result<()> {
    match gelu {
        Gelu::Exact => glu::forward("geglu", gate, up, Exact, out),
        Gelu::Tanh => glu::forward("geglu", gate, up, Tanh, out),
    }
}

/// The gradients of [`geglu`] by `gate` and by `up`, from its arguments and the gradient of its result.
///
/// # Errors
/// As [`geglu`].
pub fn geglu_backward<T: Element>(
    gate: (&[T], &Layout),
    up: (&[T], &Layout),
    grad: (&[T], &Layout),
    gelu: Gelu,
    out: (&mut [T], &mut [T]),
) -> Result<()> {
    match gelu {
        Gelu::Exact => glu::backward("geglu_backward", gate, up, grad, Exact, out),
        Gelu::Tanh => glu::backward("geglu_backward", gate, up, grad, Tanh, out),
    }
}

#[derive(Clone, Copy)]
struct Exact;

impl Activation for Exact {
    #[inline(always)]
    fn value<R: Real, S: Simd>(self, s: S, x: V<R, S>) -> V<R, S> {
        x * normal_cdf::<R, S>(s, x)
    }

    #[inline(always)]
    fn slope<R: Real, S: Simd>(self, s: S, x: V<R, S>) -> (V<R, S>, V<R, S>) {
        let splat = |value| V::<R, S>::splat(s, R::from_f64(value));
        let below = normal_cdf::<R, S>(s, x);
        // 1 / √(2π)
        let density = exp::<R, S>(s, x * x * splat(-0.5)) * splat(0.398_942_280_401_432_7);
        (x * below, x.mul_add(density, below))
    }
}

#[derive(Clone, Copy)]
struct Tanh;

impl Tanh {
    /// √(2/π) and the factor of x³ in it.
    const FACTORS: (f64, f64) = (0.797_884_560_802_865_4, 0.797_884_560_802_865_4 * 0.044_715);
}

impl Activation for Tanh {
    #[inline(always)]
    fn value<R: Real, S: Simd>(self, s: S, x: V<R, S>) -> V<R, S> {
        self.slope::<R, S>(s, x).0
    }

    /// (1 + tanh(u)) / 2 is the sigmoid of 2u.
    #[inline(always)]
    fn slope<R: Real, S: Simd>(self, s: S, x: V<R, S>) -> (V<R, S>, V<R, S>) {
        let splat = |value| V::<R, S>::splat(s, R::from_f64(value));
        let (linear, cubic) = Self::FACTORS;
        let square = x * x;
        let double = x * square.mul_add(splat(2. * cubic), splat(2. * linear));
        let sigmoid = sigmoid::<R, S>(s, double);
        let steep = square.mul_add(splat(6. * cubic), splat(2. * linear));
        let value = x * sigmoid;
        (
            value,
            (value * (splat(1.) - sigmoid)).mul_add(steep, sigmoid),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oracle::{each_type, normal_cdf};

    fn exact<T: Element>() {
        glu::check::both::<T>(
            "geglu",
            |gate, up, out| geglu(gate, up, Gelu::Exact, out),
            |gate, up, grad, out| geglu_backward(gate, up, grad, Gelu::Exact, out),
            |x| {
                let density = (-x * x / 2.).exp() / (2. * std::f64::consts::PI).sqrt();
                (x * normal_cdf(x), normal_cdf(x) + x * density)
            },
        );
    }

    fn tanh<T: Element>() {
        glu::check::both::<T>(
            "geglu (tanh)",
            |gate, up, out| geglu(gate, up, Gelu::Tanh, out),
            |gate, up, grad, out| geglu_backward(gate, up, grad, Gelu::Tanh, out),
            |x| {
                let (linear, cubic) = Tanh::FACTORS;
                let tanh = (x * (linear + cubic * x * x)).tanh();
                let inner = linear + 3. * cubic * x * x;
                (
                    x * (1. + tanh) / 2.,
                    (1. + tanh) / 2. + x * (1. - tanh * tanh) * inner / 2.,
                )
            },
        );
    }

    each_type!(exact tanh);

    #[test]
    fn far_out() {
        let layout = Layout::contiguous(&[4]).unwrap();
        let (gate, ones) = ([-1e4f32, 1e4, -30., 0.], [1f32; 4]);
        for gelu in [Gelu::Exact, Gelu::Tanh] {
            let mut out = [9f32; 4];
            geglu((&gate, &layout), (&ones, &layout), gelu, &mut out).unwrap();
            assert_eq!(out, [0., 1e4, 0., 0.], "{gelu:?}");
        }
    }

    #[test]
    fn refusals_name_the_argument() {
        glu::check::refusals(
            |gate, up, out| geglu(gate, up, Gelu::Tanh, out),
            |gate, up, grad, out| geglu_backward(gate, up, grad, Gelu::Tanh, out),
        );
    }
}
