//! [`matmul`]: C = A · B for matrices in the last two dimensions, with the dimensions in front
//! broadcast.
//!
//! Transposed views, offsets, gaps and repeated dimensions are read where they are. Backward:
//! dA = G · Bᵀ and dB = Aᵀ · G, summed over the dimensions in which the operand was repeated. That sum
//! is part of the product: those dimensions are put next to the one that it already sums over, so no
//! larger gradient is ever made.

use candle_core::{Layout, Shape, Tensor};
use candle_mps_cpu::matmul as cpu;
use candle_mps_cpu::memory::vector;

use super::fused::{self, Kept, Op, Pass, Route, apply, bad_shape, route};
use super::operand::{Float, Operand, elements, merged, view};
use super::{check_float, check_rank, matmul_mps};
use crate::error::{Error, Result};

const OP: &str = "matmul";

/// The product of the matrices in the last two dimensions of `a` and `b`.
///
/// `a` is [.., m, k] and `b` [.., k, n]. Dimensions in front are aligned at the right and are equal, 1
/// or missing, as for `Tensor::broadcast_matmul`, but nothing is copied to repeat it. Any strides;
/// f32, f64, f16 or bf16, one for both, summed in f32 (f64 for f64). Differentiable in both.
///
/// ```
/// use candle_core::{Device, Tensor};
/// use candle_mps_ops::ops;
///
/// let a = Tensor::new(&[[[1f32, 2.]], [[3., 4.]]], &Device::Cpu)?; // [2, 1, 2]
/// let b = Tensor::new(&[[1f32, 0.], [0., 10.]], &Device::Cpu)?;
/// let c = ops::matmul(&a, &b)?;
/// assert_eq!(c.to_vec3::<f32>()?, [[[1., 20.]], [[3., 40.]]]);
/// # Ok::<(), candle_mps_ops::Error>(())
/// ```
pub fn matmul(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    let operands = [("a", a), ("b", b)];
    fused::check(OP, &operands)?;
    check_rank(OP, "a", a.shape(), 2)?;
    check_rank(OP, "b", b.shape(), 2)?;
    let shape = product_shape(a, b)?;
    let front = |x: &Tensor| x.dims()[..x.rank() - 2].to_vec();
    let mps = front(a) == front(b) && check_float(OP, "a", a.dtype()).is_ok();
    match route(&Matmul, &operands, mps)? {
        Route::Ours => apply(Matmul, shape, &operands),
        Route::Mps => matmul_mps(a, b),
        Route::Candle => Ok(composed(a, b, &shape)?),
    }
}

fn product_shape(a: &Tensor, b: &Tensor) -> Result<Shape> {
    let (front_a, matrix_a) = a.dims().split_at(a.rank() - 2);
    let (front_b, matrix_b) = b.dims().split_at(b.rank() - 2);
    if matrix_a[1] != matrix_b[0] {
        let needed = format!(
            "its second to last dimension must be {}, the last of a, whose shape is {:?}: \
             transpose one",
            matrix_a[1],
            a.shape()
        );
        return Err(bad_shape(OP, "b", b, needed));
    }
    let mut dims = broadcast(front_a, front_b).ok_or_else(|| Error::Shapes {
        op: OP,
        left: a.shape().clone(),
        right: b.shape().clone(),
        why: "the dimensions before the last two must be equal, 1 or missing: reshape one, or \
              unsqueeze a dimension",
    })?;
    dims.extend([matrix_a[0], matrix_b[1]]);
    Ok(Shape::from(dims))
}

/// The dimensions to which both are broadcast, aligned at the right.
pub(crate) fn broadcast(a: &[usize], b: &[usize]) -> Option<Vec<usize>> {
    let (long, short) = if a.len() < b.len() { (b, a) } else { (a, b) };
    let mut dims = long.to_vec();
    for (dim, &other) in dims.iter_mut().rev().zip(short.iter().rev()) {
        match (*dim, other) {
            (one, other) if one == other => {}
            (1, other) => *dim = other,
            (_, 1) => {}
            _ => return None,
        }
    }
    Some(dims)
}

/// The same by ops of Candle, each with a backward.
fn composed(a: &Tensor, b: &Tensor, shape: &Shape) -> candle_core::Result<Tensor> {
    let [front @ .., _, _] = shape.dims() else {
        return a.matmul(b);
    };
    if front.len() <= 2 {
        // The reshape changes nothing, but on the way back it makes any gradient contiguous.
        let product = readable(a)?.broadcast_matmul(&readable(b)?)?;
        return product.reshape(shape);
    }
    // Candle knows at most two dimensions in front.
    let stack = |x: &Tensor| -> candle_core::Result<Tensor> {
        let matrix = &x.dims()[x.rank() - 2..];
        let whole = x.broadcast_as([front, matrix].concat())?;
        whole.reshape((front.iter().product::<usize>(), matrix[0], matrix[1]))
    };
    stack(a)?.matmul(&stack(b)?)?.reshape(shape)
}

/// As Candle's product can read it: it refuses most strides.
pub(super) fn readable(x: &Tensor) -> candle_core::Result<Tensor> {
    if x.t()?.is_contiguous() {
        return Ok(x.clone());
    }
    x.contiguous()
}

pub(crate) struct Matmul;

impl Op for Matmul {
    const NAME: &'static str = OP;

    fn forward<T: Float>(
        &self,
        arguments: &[Operand<T>],
        _: bool,
        out: &mut [T],
    ) -> Result<Option<Kept>> {
        if let [a, b] = arguments {
            let (a, b) = (a.pair()?, b.pair()?);
            cpu::matmul((a.0, &a.1), (b.0, &b.1), &cpu::Options::default(), out)?;
        }
        Ok(None)
    }

    fn backward<T: Float>(&self, pass: &Pass<T>) -> Result<Vec<Option<Vec<T>>>> {
        let [a, b] = pass.arguments else {
            return Ok(vec![]);
        };
        let g = &pass.gradient;
        let turned =
            |layout: &Layout| layout.transpose(layout.dims().len() - 2, layout.dims().len() - 1);
        let da = || summed((g.data, g.layout), (b.data, &turned(b.layout)?), a.dims());
        let db = || summed((a.data, &turned(a.layout)?), (g.data, g.layout), b.dims());
        Ok(vec![
            pass.wants(0).then(da).transpose()?,
            pass.wants(1).then(db).transpose()?,
        ])
    }
}

/// left · right, summed over all dimensions that `own`, the dimensions of the result, does not have.
fn summed<T: Float>(
    (left, its): (&[T], &Layout),
    (right, rights): (&[T], &Layout),
    own: &[usize],
) -> Result<Vec<T>> {
    let front = |layout: &Layout| layout.dims()[..layout.dims().len() - 2].to_vec();
    let dims = broadcast(&front(its), &front(rights)).unwrap_or_default();
    let whole = |layout: &Layout| -> Result<Layout> {
        let matrix = &layout.dims()[layout.dims().len() - 2..];
        Ok(layout.broadcast_as([&dims, matrix].concat())?)
    };
    let ahead = dims.len() + 2 - own.len();
    let (over, kept): (Vec<usize>, Vec<usize>) = (0..dims.len())
        .partition(|&axis| axis < ahead || (own[axis - ahead] == 1 && dims[axis] != 1));
    let rank = dims.len() + 2;
    let order = [&kept[..], &[rank - 2], &over, &[rank - 1]].concat();
    let left_layout = whole(its)?.permute(&order)?;
    let order = [&kept[..], &over, &[rank - 2], &[rank - 1]].concat();
    let right_layout = whole(rights)?.permute(&order)?;
    // [kept.., m, over.., k] and [kept.., over.., k, n]: what is summed over becomes one dimension.
    let first = kept.len();
    let (left, left_layout) = as_one(left, &left_layout, first + 1..rank)?;
    let (right, right_layout) = as_one(right, &right_layout, first..rank - 1)?;
    let mut out = vector(own.iter().product());
    cpu::matmul(
        (&left, &view(&left_layout)?),
        (&right, &view(&right_layout)?),
        &cpu::Options::default(),
        &mut out,
    )?;
    Ok(out)
}

/// The view with neighbouring dimensions made one: copied only if no stride expresses that.
fn as_one<'a, T: Float>(
    data: &'a [T],
    layout: &Layout,
    axes: std::ops::Range<usize>,
) -> Result<(std::borrow::Cow<'a, [T]>, Layout)> {
    let (dims, strides) = (layout.dims(), layout.stride());
    let one: usize = dims[axes.clone()].iter().product();
    let shape = Shape::from([&dims[..axes.start], &[one], &dims[axes.end..]].concat());
    Ok(match merged(&dims[axes.clone()], &strides[axes.clone()]) {
        Some(stride) => {
            let strides = [&strides[..axes.start], &[stride], &strides[axes.end..]].concat();
            (
                data.into(),
                Layout::new(shape, strides, layout.start_offset()),
            )
        }
        None => (elements(data, layout)?, Layout::contiguous(shape)),
    })
}
