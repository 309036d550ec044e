//! Layer norm along the last axis: yᵢ = (xᵢ − μ) / √(σ² + ε) · wᵢ + bᵢ.
//! <https://arxiv.org/abs/1607.06450>
//!
//! The variance takes a second pass, over the differences from the mean: the shorter E(x²) − μ² loses
//! all its digits, and may come out negative, where the mean is much larger than the spread.

use std::ops::Range;

use crate::{
    Element, Layout, Real, Result, V,
    rows::{
        Rows, check_eps, check_vector, first, last_axis, place, settle, sum_of_four, sums, vectors,
        weight_or_ones, wide_vector,
    },
    simd::{Simd, Vector, WithSimd, isa},
    threads,
};

/// Elements that are worth a thread: what one does in 30 µs with AVX-512; see [`threads::parts`].
const LEAST: usize = 260 << 10;

/// Writes the norm of `x`, times `weight` and plus `bias` (one element for each of a row) where there
/// are, to `out` in row-major order.
///
/// # Errors
/// When the layout does not fit `x` or has rank 0, `weight`, `bias` or `out` has another length, or
/// `eps` is negative or NaN.
pub fn layer_norm<T: Element>(
    x: &[T],
    layout: &Layout,
    weight: Option<&[T]>,
    bias: Option<&[T]>,
    eps: f64,
    out: &mut [T],
) -> Result<()> {
    const OP: &str = "layer_norm";
    let x = last_axis(OP, "x", x, layout)?;
    layout.check_len(OP, "out", out.len())?;
    if let Some(weight) = weight {
        check_vector(OP, "weight", x.width, weight)?;
    }
    if let Some(bias) = bias {
        check_vector(OP, "bias", x.width, bias)?;
    }
    check_eps(OP, eps)?;
    let (isa, eps) = (isa()?, T::Acc::from_f64(eps));
    let parts = threads::parts(out.len(), LEAST).min(x.count.max(1));
    let weight = weight.map(|weight| wide_vector(isa, weight));
    let bias = bias.map(|bias| wide_vector(isa, bias));
    threads::rows(out, x.width, parts, |rows, out| {
        isa.run(Forward {
            x: &x,
            weight: weight.as_deref(),
            bias: bias.as_deref(),
            eps,
            rows,
            out,
        });
    });
    Ok(())
}

/// What [`layer_norm_backward`] fills.
#[derive(Debug)]
pub struct LayerNormGrads<'a, T> {
    /// The gradient of `x`, in row-major order.
    pub x: &'a mut [T],
    /// The gradient of the weight, summed over the rows.
    pub weight: Option<&'a mut [T]>,
    /// The gradient of the bias, summed over the rows.
    pub bias: Option<&'a mut [T]>,
}

/// The gradients of [`layer_norm`] from its arguments and the gradient of its result. With x̂ the norm
/// before weight and bias, r = 1/√(σ² + ε) and h = g·w: dx = r·(h − mean(h) − x̂·mean(h·x̂)),
/// dw = Σ g·x̂, db = Σ g.
///
/// # Errors
/// As [`layer_norm`], or when `grad` has other dimensions than `x`.
pub fn layer_norm_backward<T: Element>(
    (x, layout): (&[T], &Layout),
    weight: Option<&[T]>,
    (grad, its): (&[T], &Layout),
    eps: f64,
    out: LayerNormGrads<T>,
) -> Result<()> {
    const OP: &str = "layer_norm_backward";
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
    if let Some(bias) = &out.bias {
        check_vector(OP, "out.bias", x.width, bias)?;
    }
    check_eps(OP, eps)?;
    let (isa, eps) = (isa()?, T::Acc::from_f64(eps));
    let parts = threads::parts(out.x.len(), LEAST / 2);
    let wanted = if out.weight.is_some() || out.bias.is_some() {
        2
    } else {
        0
    };
    let width = x.width;
    let weight = weight_or_ones(isa, weight, width);
    let total = sums(out.x, width, parts, wanted, |rows, dx, sums| {
        isa.run(Backward {
            x: &x,
            weight: &weight,
            grad: &grad,
            eps,
            rows,
            dx,
            sums,
        });
    });
    for (to, sum) in out.weight.into_iter().flatten().zip(&total) {
        *to = T::from_acc(*sum);
    }
    for (to, sum) in out.bias.into_iter().flatten().zip(total.iter().skip(width)) {
        *to = T::from_acc(*sum);
    }
    Ok(())
}

struct Forward<'a, T: Element> {
    x: &'a Rows<'a, T>,
    weight: Option<&'a [T::Acc]>,
    bias: Option<&'a [T::Acc]>,
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
                bias: self.bias,
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
    bias: Option<&'a [R]>,
    eps: R,
    out: &'a mut [R],
}

impl<R: Real> WithSimd for Row<'_, R> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let (x, n, lanes) = (self.x, self.x.len(), V::<R, S>::LANES);
        let out = &mut self.out[..n];
        let mean = mean::<R, S>(s, x);
        let mut squares = [V::<R, S>::splat(s, R::ZERO); 4];
        vectors!(n, lanes, |at, len, k| {
            let d = difference::<R, S>(s, &x[at..at + len], mean);
            squares[k] = d.mul_add(d, squares[k]);
        });
        let r = inverse(sum_of_four(squares), n, self.eps);
        let (mean, r) = (V::<R, S>::splat(s, mean), V::<R, S>::splat(s, r));
        match (self.weight, self.bias) {
            (Some(weight), Some(bias)) => {
                let (weight, bias) = (&weight[..n], &bias[..n]);
                vectors!(n, lanes, |at, len, _k| {
                    let y = (R::get(s, &x[at..at + len], R::ZERO) - mean) * r;
                    let w = R::get(s, &weight[at..at + len], R::ZERO);
                    let b = R::get(s, &bias[at..at + len], R::ZERO);
                    R::put(s, y.mul_add(w, b), &mut out[at..at + len]);
                });
            }
            (weight, bias) => vectors!(n, lanes, |at, len, _k| {
                let mut y = (R::get(s, &x[at..at + len], R::ZERO) - mean) * r;
                if let Some(weight) = weight {
                    y = y * R::get(s, &weight[at..at + len], R::ZERO);
                }
                if let Some(bias) = bias {
                    y = y + R::get(s, &bias[at..at + len], R::ZERO);
                }
                R::put(s, y, &mut out[at..at + len]);
            }),
        }
    }
}

#[inline(always)]
fn mean<R: Real, S: Simd>(s: S, x: &[R]) -> R {
    let mut sums = [V::<R, S>::splat(s, R::ZERO); 4];
    vectors!(x.len(), V::<R, S>::LANES, |at, len, k| {
        sums[k] = sums[k] + R::get(s, &x[at..at + len], R::ZERO);
    });
    sum_of_four(sums) / R::from_f64(x.len() as f64)
}

/// At most a vector of x − mean; 0 for missing elements.
#[inline(always)]
fn difference<R: Real, S: Simd>(s: S, x: &[R], mean: R) -> V<R, S> {
    let d = R::get(s, x, R::ZERO) - V::<R, S>::splat(s, mean);
    if x.len() < V::<R, S>::LANES {
        first::<R, S>(s, d, x.len(), R::ZERO)
    } else {
        d
    }
}

/// 1 / √(squares / n + ε)
#[inline(always)]
fn inverse<R: Real>(squares: R, n: usize, eps: R) -> R {
    R::ONE / (squares / R::from_f64(n as f64) + eps).sqrt()
}

struct Backward<'a, T: Element> {
    x: &'a Rows<'a, T>,
    weight: &'a [T::Acc],
    grad: &'a Rows<'a, T>,
    eps: T::Acc,
    rows: Range<usize>,
    dx: &'a mut [T],
    sums: &'a mut [T::Acc],
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
                sums: self.sums,
            });
            settle(s, &buffer_3, dx);
        }
    }
}

/// The gradients of one row; those of weight and bias are added to `sums`, unless that is empty.
struct RowBackward<'a, R> {
    x: &'a [R],
    weight: &'a [R],
    grad: &'a [R],
    eps: R,
    dx: &'a mut [R],
    sums: &'a mut [R],
}

impl<R: Real> WithSimd for RowBackward<'_, R> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let (x, n, lanes) = (self.x, self.x.len(), V::<R, S>::LANES);
        let (weight, grad, dx) = (&self.weight[..n], &self.grad[..n], &mut self.dx[..n]);
        let splat = |value| V::<R, S>::splat(s, value);
        let mean = mean::<R, S>(s, x);
        let [mut squares, mut sums, mut products] = [[splat(R::ZERO); 4]; 3];
        vectors!(n, lanes, |at, len, k| {
            let d = difference::<R, S>(s, &x[at..at + len], mean);
            let g = R::get(s, &grad[at..at + len], R::ZERO);
            let h = g * R::get(s, &weight[at..at + len], R::ZERO);
            squares[k] = d.mul_add(d, squares[k]);
            sums[k] = sums[k] + h;
            products[k] = d.mul_add(h, products[k]);
        });
        let count = R::from_f64(n as f64);
        let r = inverse(sum_of_four(squares), n, self.eps);
        let shift = splat(sum_of_four(sums) / count);
        let factor = splat(R::ZERO - sum_of_four(products) / count * r);
        let (mean, r) = (splat(mean), splat(r));
        let wanted = !self.sums.is_empty();
        let (dw, db) = self.sums.split_at_mut(if wanted { n } else { 0 });
        vectors!(n, lanes, |at, len, _k| {
            let normed = (R::get(s, &x[at..at + len], R::ZERO) - mean) * r;
            let g = R::get(s, &grad[at..at + len], R::ZERO);
            let h = g * R::get(s, &weight[at..at + len], R::ZERO);
            let y = normed.mul_add(factor, h - shift) * r;
            R::put(s, y, &mut dx[at..at + len]);
            if wanted {
                let sum = R::get(s, &dw[at..at + len], R::ZERO);
                R::put(s, g.mul_add(normed, sum), &mut dw[at..at + len]);
                let sum = R::get(s, &db[at..at + len], R::ZERO);
                R::put(s, g + sum, &mut db[at..at + len]);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oracle::{Rng, cases, check, each_type};

    /// Mean and 1 / √(variance + ε).
    fn statistics(x: &[f64], eps: f64) -> (f64, f64) {
        let n = x.len() as f64;
        let mean = x.iter().sum::<f64>() / n;
        let variance = x.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>() / n;
        (mean, 1. / (variance + eps).sqrt())
    }

    fn forward<T: Element>() {
        cases("layer_norm", |rng: &mut Rng| {
            let dims = rng.dims();
            let width = dims[dims.len() - 1];
            let x = rng.operand::<T>(&dims);
            let weight: Option<Vec<T>> = (rng.below(3) > 0).then(|| rng.values(width));
            let bias: Option<Vec<T>> = (rng.below(3) > 0).then(|| rng.values(width));
            let mut out = rng.values(dims.iter().product());
            let (w, b) = (weight.as_deref(), bias.as_deref());
            layer_norm(&x.data, &x.layout(), w, b, 1e-2, &mut out).unwrap();
            let (mut expected, mut size) = (Vec::new(), 1f64);
            for row in x.values().chunks(width) {
                let (mean, r) = statistics(row, 1e-2);
                expected.extend(row.iter().enumerate().map(|(i, x)| {
                    let w = w.map_or(1., |w| w[i].to_f64());
                    let b = b.map_or(0., |b| b[i].to_f64());
                    size = size.max((x.abs() + mean.abs()) * r * w.abs() + b.abs());
                    (x - mean) * r * w + b
                }));
            }
            check("y", &out, &expected, size, 24.);
            out
        });
    }

    fn gradients<T: Element>() {
        cases("layer_norm_backward", |rng: &mut Rng| {
            let dims = rng.dims();
            let width = dims[dims.len() - 1];
            let (x, grad) = (rng.operand::<T>(&dims), rng.operand::<T>(&dims));
            let weight: Option<Vec<T>> = (rng.below(3) > 0).then(|| rng.values(width));
            let mut dx = rng.values(dims.iter().product());
            let (mut dw, mut db) = (rng.values(width), rng.values(width));
            let (has_w, has_b) = (rng.below(3) > 0, rng.below(3) > 0);
            let out = LayerNormGrads {
                x: &mut dx,
                weight: has_w.then_some(&mut dw[..]),
                bias: has_b.then_some(&mut db[..]),
            };
            let (layout, its) = (x.layout(), grad.layout());
            let w = weight.as_deref();
            layer_norm_backward((&x.data, &layout), w, (&grad.data, &its), 1e-1, out).unwrap();
            let mut expected = Vec::new();
            let (mut to_w, mut to_b, mut size) = (vec![0.; width], vec![0.; width], 1f64);
            for (x, g) in x.values().chunks(width).zip(grad.values().chunks(width)) {
                let (mean, r) = statistics(x, 1e-1);
                let n = width as f64;
                let h: Vec<f64> = (0..width)
                    .map(|i| g[i] * w.map_or(1., |w| w[i].to_f64()))
                    .collect();
                let normed: Vec<f64> = x.iter().map(|x| (x - mean) * r).collect();
                let shift = h.iter().sum::<f64>() / n;
                let dot = h.iter().zip(&normed).map(|(h, y)| h * y).sum::<f64>() / n;
                for i in 0..width {
                    expected.push(r * (h[i] - shift - normed[i] * dot));
                    to_w[i] += g[i] * normed[i];
                    to_b[i] += g[i];
                    let whole = (x[i].abs() + mean.abs()) * r;
                    size = size.max(r * (h[i].abs() + shift.abs() + whole * (1. + dot.abs())));
                    size = size.max((g[i] * whole).abs() * 8.);
                }
            }
            check("dx", &dx, &expected, size, 64.);
            if has_w {
                check("dw", &dw, &to_w, size, 64.);
                dx.extend(dw);
            }
            if has_b {
                check("db", &db, &to_b, size, 64.);
                dx.extend(db);
            }
            dx
        });
    }

    each_type!(forward gradients);

    /// E[x²] − μ² in f32 is off by thousands here.
    #[test]
    fn a_mean_much_larger_than_the_spread() {
        let x: Vec<f32> = (0..1000).map(|i| 1e5 + (i % 4) as f32).collect();
        let dims = [1000];
        let layout = Layout::contiguous(&dims).unwrap();
        let mut out = vec![0.; 1000];
        layer_norm(&x, &layout, None, None, 0., &mut out).unwrap();
        let wide: Vec<f64> = x.iter().map(|&x| f64::from(x)).collect();
        let (mean, r) = statistics(&wide, 0.);
        for (y, x) in out.iter().zip(wide) {
            assert!((f64::from(*y) - (x - mean) * r).abs() < 0.02, "{y}");
        }
    }

    #[test]
    fn unusual_rows() {
        let dims = [1, 1];
        let one = Layout::contiguous(&dims).unwrap();
        let mut out = [7f32];
        layer_norm(&[5.], &one, Some(&[2.]), Some(&[3.]), 1e-5, &mut out).unwrap();
        assert_eq!(out, [3.]);
        layer_norm(&[f32::NAN], &one, None, None, 1e-5, &mut out).unwrap();
        assert!(out[0].is_nan());
        let empty = Layout::contiguous(&[3, 0]).unwrap();
        layer_norm::<f32>(&[], &empty, None, None, 1e-6, &mut []).unwrap();
    }

    #[test]
    fn refusals_name_the_argument() {
        let dims = [2, 3];
        let layout = Layout::contiguous(&dims).unwrap();
        let (x, mut out) = ([0f32; 6], [0f32; 6]);
        let refusal = |result: Result<()>| result.unwrap_err().to_string();
        assert!(refusal(layer_norm(&x[1..], &layout, None, None, 0., &mut out)).contains("`x`"));
        let result = layer_norm(&x, &layout, Some(&x), None, 0., &mut out);
        assert!(refusal(result).contains("`weight`"));
        let result = layer_norm(&x, &layout, None, Some(&x), 0., &mut out);
        assert!(refusal(result).contains("`bias`"));
        assert!(refusal(layer_norm(&x, &layout, None, None, -1., &mut out)).contains("`eps`"));
        let scalar = Layout::contiguous(&[]).unwrap();
        let result = layer_norm(&x, &scalar, None, None, 0., &mut out[..1]);
        assert!(refusal(result).contains("rank 0"));
        for (weight, bias, name) in [(1, 3, "`out.weight`"), (3, 1, "`out.bias`")] {
            let (mut dw, mut db) = (vec![0.; weight], vec![0.; bias]);
            let grads = LayerNormGrads {
                x: &mut out,
                weight: Some(&mut dw),
                bias: Some(&mut db),
            };
            let result = layer_norm_backward((&x, &layout), None, (&x, &layout), 0., grads);
            assert!(refusal(result).contains(name));
        }
    }
}
