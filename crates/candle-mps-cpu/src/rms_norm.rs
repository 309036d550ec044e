//! RMS norm along the last axis: yᵢ = xᵢ · wᵢ / √(mean(x²) + ε).
//! <https://arxiv.org/abs/1910.07467>

use std::ops::Range;

use crate::{
    Element, Layout, Real, Result, V,
    rows::{
        Rows, check_eps, check_vector, last_axis, place, settle, sum_of_four, sums, vectors,
        weight_or_ones, wide_vector,
    },
    simd::{Simd, Vector, WithSimd, isa},
    threads,
};

/// Elements that are worth a thread: what one does in 30 µs with AVX-512; see [`threads::parts`].
const LEAST: usize = 360 << 10;

/// Writes the norm of `x`, times `weight` (one element for each of a row) if there is one, to `out` in
/// row-major order.
///
/// # Errors
/// When the layout does not fit `x` or has rank 0, `weight` or `out` has another length, or `eps` is
/// negative or NaN.
pub fn rms_norm<T: Element>(
    x: &[T],
    layout: &Layout,
    weight: Option<&[T]>,
    eps: f64,
    out: &mut [T],
) -> Result<()> {
    const OP: &str = "rms_norm";
    let x = last_axis(OP, "x", x, layout)?;
    layout.check_len(OP, "out", out.len())?;
    if let Some(weight) = weight {
        check_vector(OP, "weight", x.width, weight)?;
    }
    check_eps(OP, eps)?;
    let (isa, eps) = (isa()?, T::Acc::from_f64(eps));
    let parts = threads::parts(out.len(), LEAST).min(x.count.max(1));
    let weight = weight.map(|weight| wide_vector(isa, weight));
    threads::rows(out, x.width, parts, |rows, out| {
        isa.run(Forward {
            x: &x,
            weight: weight.as_deref(),
            eps,
            rows,
            out,
        });
    });
    Ok(())
}

/// What [`rms_norm_backward`] fills.
#[derive(Debug)]
pub struct RmsNormGrads<'a, T> {
    /// The gradient of `x`, in row-major order.
    pub x: &'a mut [T],
    /// The gradient of the weight, summed over the rows.
    pub weight: Option<&'a mut [T]>,
}

/// The gradients of [`rms_norm`] from its arguments and the gradient of its result. With r = 1/√(mean(x²)
/// + ε) and h = g·w: dx = r·h − x·r³·mean(h·x), dw = Σ g·x·r.
///
/// # Errors
/// As [`rms_norm`], or when `grad` has other dimensions than `x`.
pub fn rms_norm_backward<T: Element>(
    (x, layout): (&[T], &Layout),
    weight: Option<&[T]>,
    (grad, its): (&[T], &Layout),
    eps: f64,
    out: RmsNormGrads<T>,
) -> Result<()> {
    const OP: &str = "rms_norm_backward";
    let x = last_axis(OP, "x", x, layout)?;
    its.check_dims(OP, "grad", layout.dims())?;
    let grad = last_axis(OP, "grad", grad, its)?;
    layout.check_len(OP, "out.x", out.x.len())?;
    if let Some(weight) = weight {
        check_vector(OP, "weight", x.width, weight)?;
    }
    if let Some(weight) = &out.weight {
        check_vector(OP, "out.weight", x.width, weight)?;
    }
    check_eps(OP, eps)?;
    let (isa, eps) = (isa()?, T::Acc::from_f64(eps));
    let parts = threads::parts(out.x.len(), LEAST / 2);
    let wanted = usize::from(out.weight.is_some());
    let weight = weight_or_ones(isa, weight, x.width);
    let total = sums(out.x, x.width, parts, wanted, |rows, dx, dw| {
        isa.run(Backward {
            x: &x,
            weight: &weight,
            grad: &grad,
            eps,
            rows,
            dx,
            dw,
        });
    });
    for (to, sum) in out.weight.into_iter().flatten().zip(total) {
        *to = T::from_acc(sum);
    }
    Ok(())
}

struct Forward<'a, T: Element> {
    x: &'a Rows<'a, T>,
    weight: Option<&'a [T::Acc]>,
    eps: T::Acc,
    rows: Range<usize>,
    out: &'a mut [T],
}

impl<T: Element> WithSimd for Forward<'_, T> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let (mut buffer, mut buffer_2) = (Vec::new(), Vec::new());
        for (row, out) in self.rows.zip(self.out.chunks_mut(self.x.width.max(1))) {
            s.with(Row {
                x: self.x.get(s, row, &mut buffer),
                weight: self.weight,
                eps: self.eps,
                out: place(out, &mut buffer_2),
            });
            settle(s, &buffer_2, out);
        }
    }
}

/// One row.
struct Row<'a, R> {
    x: &'a [R],
    weight: Option<&'a [R]>,
    eps: R,
    out: &'a mut [R],
}

impl<R: Real> WithSimd for Row<'_, R> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let (x, n, lanes) = (self.x, self.x.len(), V::<R, S>::LANES);
        let out = &mut self.out[..n];
        let by = V::<R, S>::splat(s, inverse::<R, S>(s, x, self.eps));
        match self.weight {
            Some(weight) => {
                let weight = &weight[..n];
                vectors!(n, lanes, |at, len, _k| {
                    let y = R::get(s, &x[at..at + len], R::ZERO) * by;
                    let y = y * R::get(s, &weight[at..at + len], R::ZERO);
                    R::put(s, y, &mut out[at..at + len]);
                });
            }
            None => vectors!(n, lanes, |at, len, _k| {
                let y = R::get(s, &x[at..at + len], R::ZERO) * by;
                R::put(s, y, &mut out[at..at + len]);
            }),
        }
    }
}

/// 1 / √(mean(x²) + ε)
#[inline(always)]
fn inverse<R: Real, S: Simd>(s: S, x: &[R], eps: R) -> R {
    let mut squares = [V::<R, S>::splat(s, R::ZERO); 4];
    vectors!(x.len(), V::<R, S>::LANES, |at, len, k| {
        let x = R::get(s, &x[at..at + len], R::ZERO);
        squares[k] = x.mul_add(x, squares[k]);
    });
    let mean = sum_of_four(squares) / R::from_f64(x.len() as f64);
    R::ONE / (mean + eps).sqrt()
}

struct Backward<'a, T: Element> {
    x: &'a Rows<'a, T>,
    weight: &'a [T::Acc],
    grad: &'a Rows<'a, T>,
    eps: T::Acc,
    rows: Range<usize>,
    dx: &'a mut [T],
    dw: &'a mut [T::Acc],
}

impl<T: Element> WithSimd for Backward<'_, T> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let [mut buffer, mut buffer_2, mut buffer_3] = [const { Vec::new() }; 3];
        for (row, dx) in self.rows.zip(self.dx.chunks_mut(self.x.width.max(1))) {
            s.with(RowBackward {
                x: self.x.get(s, row, &mut buffer),
                weight: self.weight,
                grad: self.grad.get(s, row, &mut buffer_2),
                eps: self.eps,
                dx: place(dx, &mut buffer_3),
                dw: self.dw,
            });
            settle(s, &buffer_3, dx);
        }
    }
}

/// The gradients of one row; the weight's is added to `dw`, unless that is empty.
struct RowBackward<'a, R> {
    x: &'a [R],
    weight: &'a [R],
    grad: &'a [R],
    eps: R,
    dx: &'a mut [R],
    dw: &'a mut [R],
}

impl<R: Real> WithSimd for RowBackward<'_, R> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let (x, n, lanes) = (self.x, self.x.len(), V::<R, S>::LANES);
        let (weight, grad, dx) = (&self.weight[..n], &self.grad[..n], &mut self.dx[..n]);
        let splat = |value| V::<R, S>::splat(s, value);
        let (mut squares, mut products) = ([splat(R::ZERO); 4], [splat(R::ZERO); 4]);
        vectors!(n, lanes, |at, len, k| {
            let x = R::get(s, &x[at..at + len], R::ZERO);
            let g = R::get(s, &grad[at..at + len], R::ZERO);
            let h = g * R::get(s, &weight[at..at + len], R::ZERO);
            squares[k] = x.mul_add(x, squares[k]);
            products[k] = x.mul_add(h, products[k]);
        });
        let count = R::from_f64(n as f64);
        let mean = sum_of_four(squares) / count;
        let r = R::ONE / (mean + self.eps).sqrt();
        let shift = sum_of_four(products) / count * r * r;
        let (r, shift) = (splat(r), splat(R::ZERO - shift));
        let dw = self.dw;
        vectors!(n, lanes, |at, len, _k| {
            let x = R::get(s, &x[at..at + len], R::ZERO);
            let g = R::get(s, &grad[at..at + len], R::ZERO);
            let h = g * R::get(s, &weight[at..at + len], R::ZERO);
            R::put(s, x.mul_add(shift, h) * r, &mut dx[at..at + len]);
            if !dw.is_empty() {
                let sum = R::get(s, &dw[at..at + len], R::ZERO);
                R::put(s, (g * x).mul_add(r, sum), &mut dw[at..at + len]);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oracle::{Rng, cases, check, each_type};

    fn forward<T: Element>() {
        cases("rms_norm", |rng: &mut Rng| {
            let dims = rng.dims();
            let width = dims[dims.len() - 1];
            let x = rng.operand::<T>(&dims);
            let weight: Option<Vec<T>> = (rng.below(3) > 0).then(|| rng.values(width));
            let mut out = rng.values(dims.iter().product());
            rms_norm(&x.data, &x.layout(), weight.as_deref(), 1e-5, &mut out).unwrap();
            let mut expected = Vec::new();
            for row in x.values().chunks(width) {
                let mean = row.iter().map(|x| x * x).sum::<f64>() / width as f64;
                expected.extend(row.iter().enumerate().map(|(i, x)| {
                    x * weight.as_ref().map_or(1., |w| w[i].to_f64()) / (mean + 1e-5).sqrt()
                }));
            }
            check("y", &out, &expected, 0., 24.);
            out
        });
    }

    fn gradients<T: Element>() {
        cases("rms_norm_backward", |rng: &mut Rng| {
            let dims = rng.dims();
            let width = dims[dims.len() - 1];
            let (x, grad) = (rng.operand::<T>(&dims), rng.operand::<T>(&dims));
            let weight: Option<Vec<T>> = (rng.below(3) > 0).then(|| rng.values(width));
            let mut dx = rng.values(dims.iter().product());
            let mut dw = rng.values(width);
            let both = rng.below(3) > 0;
            let out = RmsNormGrads {
                x: &mut dx,
                weight: both.then_some(&mut dw[..]),
            };
            let (layout, its) = (x.layout(), grad.layout());
            rms_norm_backward(
                (&x.data, &layout),
                weight.as_deref(),
                (&grad.data, &its),
                1e-3,
                out,
            )
            .unwrap();
            let mut expected = Vec::new();
            let (mut sums, mut size) = (vec![0.; width], 1f64);
            for (x, g) in x.values().chunks(width).zip(grad.values().chunks(width)) {
                let w = |i: usize| weight.as_ref().map_or(1., |w| w[i].to_f64());
                let mean = x.iter().map(|x| x * x).sum::<f64>() / width as f64;
                let r = 1. / (mean + 1e-3).sqrt();
                let dot: f64 = (0..width).map(|i| g[i] * w(i) * x[i]).sum::<f64>() / width as f64;
                for i in 0..width {
                    expected.push(r * g[i] * w(i) - x[i] * r * r * r * dot);
                    sums[i] += g[i] * x[i] * r;
                    let parts = (r * g[i] * w(i)).abs() + (x[i] * r * r * r * dot).abs();
                    size = size.max(parts).max((g[i] * x[i] * r).abs() * 8.);
                }
            }
            check("dx", &dx, &expected, size, 64.);
            if both {
                check("dw", &dw, &sums, size, 64.);
                dx.extend(dw);
            }
            dx
        });
    }

    each_type!(forward gradients);

    #[test]
    fn many_rows_are_summed_well() {
        let (rows, width) = (10_000, 3);
        let dims = [rows, width];
        let layout = Layout::contiguous(&dims).unwrap();
        let (x, grad) = (vec![1f32; rows * width], vec![0.1f32; rows * width]);
        let (mut dx, mut dw) = (vec![0.; rows * width], vec![0.; width]);
        let out = RmsNormGrads {
            x: &mut dx,
            weight: Some(&mut dw),
        };
        rms_norm_backward((&x, &layout), None, (&grad, &layout), 0., out).unwrap();
        assert!(dw.iter().all(|&sum| (sum - 1000.).abs() < 0.02), "{dw:?}");
    }

    #[test]
    fn unusual_rows() {
        let dims = [1, 2];
        let layout = Layout::contiguous(&dims).unwrap();
        let mut out = [7f32; 2];
        rms_norm(&[0., 0.], &layout, None, 1e-6, &mut out).unwrap();
        assert_eq!(out, [0., 0.]);
        rms_norm(&[1., f32::NAN], &layout, None, 1e-6, &mut out).unwrap();
        assert!(out.iter().all(|y| y.is_nan()));
        rms_norm(&[1., f32::INFINITY], &layout, None, 1e-6, &mut out).unwrap();
        assert!(out[0] == 0. && out[1].is_nan());
        let empty = Layout::contiguous(&[3, 0]).unwrap();
        rms_norm::<f32>(&[], &empty, Some(&[]), 1e-6, &mut []).unwrap();
    }

    #[test]
    fn refusals_name_the_argument() {
        let dims = [2, 3];
        let layout = Layout::contiguous(&dims).unwrap();
        let (x, mut out) = ([0f32; 6], [0f32; 6]);
        let refusal = |result: Result<()>| result.unwrap_err().to_string();
        assert!(refusal(rms_norm(&x[1..], &layout, None, 0., &mut out)).contains("`x`"));
        assert!(refusal(rms_norm(&x, &layout, Some(&x), 0., &mut out)).contains("`weight`"));
        assert!(refusal(rms_norm(&x, &layout, None, 0., &mut out[1..])).contains("`out`"));
        assert!(refusal(rms_norm(&x, &layout, None, -1., &mut out)).contains("`eps`"));
        assert!(refusal(rms_norm(&x, &layout, None, f64::NAN, &mut out)).contains("`eps`"));
        let scalar = Layout::contiguous(&[]).unwrap();
        assert!(refusal(rms_norm(&x, &scalar, None, 0., &mut out[..1])).contains("rank 0"));
        let other = Layout::contiguous(&[3, 2]).unwrap();
        let grads = RmsNormGrads {
            x: &mut out,
            weight: None,
        };
        let result = rms_norm_backward((&x, &layout), None, (&x, &other), 0., grads);
        assert!(refusal(result).contains("`grad`"));
        let grads = RmsNormGrads {
            x: &mut out,
            weight: Some(&mut []),
        };
        let result = rms_norm_backward((&x, &layout), None, (&x, &layout), 0., grads);
        assert!(refusal(result).contains("`out.weight`"));
    }
}
