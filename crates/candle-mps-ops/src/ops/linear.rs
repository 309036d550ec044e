//! [`linear`]: y = act(x · Wᵀ + b), a fully connected layer, with bias and activation applied to each
//! part of the product while it is in the cache; and [`linear_add`], where that part is added to something.
//!
//! Backward, with z = x · Wᵀ + b and u = g · act′(z): dx = u · W, dW = uᵀ · x, db = Σ u. Only gelu and
//! silu need z, which is then kept; for relu the result tells.

use candle_core::{Layout, Shape, Tensor};
use candle_mps_cpu::memory::vector;
use candle_mps_cpu::{geglu, matmul as cpu, swiglu};

use super::check_rank;
use super::fused::{self, Kept, Op, Pass, Route, apply, bad_shape, route};
use super::matmul::readable;
use super::operand::{Float, Operand, rows, view};
use crate::error::Result;

pub(crate) const OP: &str = "linear";

/// The function that [`linear_with`] applies.
pub use candle_mps_cpu::matmul::Activation;

/// A fully connected layer: y = x · weightᵀ + bias.
///
/// `x` is [.., in], `weight` `[out, in]` as in `candle_nn::Linear`, `bias` `[out]`; the result is
/// [.., out]. Any strides; f32, f64, f16 or bf16, one for all, summed in f32 (f64 for f64) and rounded
/// once. Differentiable in all three.
///
/// ```
/// use candle_core::{Device, Tensor};
/// use candle_mps_ops::ops;
///
/// let x = Tensor::new(&[[1f32, 2.]], &Device::Cpu)?;
/// let weight = Tensor::new(&[[1f32, 0.], [0., 1.], [1., 1.]], &Device::Cpu)?;
/// let bias = Tensor::new(&[0f32, 0., 10.], &Device::Cpu)?;
/// assert_eq!(ops::linear(&x, &weight, Some(&bias))?.to_vec2::<f32>()?, [[1., 2., 13.]]);
/// # Ok::<(), candle_mps_ops::Error>(())
/// ```
pub fn linear(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    linear_with(x, weight, bias, Activation::None)
}

/// [`linear`] with an activation: y = act(x · weightᵀ + bias). Differentiable in `x`, `weight` and
/// `bias`.
///
/// ```
/// use candle_core::{Device, Tensor};
/// use candle_mps_ops::ops::{self, Activation};
///
/// let x = Tensor::new(&[[1f32, -2.]], &Device::Cpu)?;
/// let weight = Tensor::new(&[[1f32, 0.], [0., 1.]], &Device::Cpu)?;
/// let y = ops::linear_with(&x, &weight, None, Activation::Relu)?;
/// assert_eq!(y.to_vec2::<f32>()?, [[1., 0.]]);
/// # Ok::<(), candle_mps_ops::Error>(())
/// ```
pub fn linear_with(
    x: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    activation: Activation,
) -> Result<Tensor> {
    run(x, weight, bias, None, activation)
}

/// [`linear`] whose result is added to `residual`: y = residual + x · weightᵀ + bias, as at the end of each
/// half of a transformer's layer. `residual` has the shape of the result. Differentiable in all four.
///
/// ```
/// use candle_core::{Device, Tensor};
/// use candle_mps_ops::ops;
///
/// let x = Tensor::new(&[[1f32, 2.]], &Device::Cpu)?;
/// let weight = Tensor::new(&[[1f32, 1.], [1., -1.]], &Device::Cpu)?;
/// let y = ops::linear_add(&x, &weight, None, &x)?;
/// assert_eq!(y.to_vec2::<f32>()?, [[4., 1.]]);
/// # Ok::<(), candle_mps_ops::Error>(())
/// ```
pub fn linear_add(
    x: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    residual: &Tensor,
) -> Result<Tensor> {
    run(x, weight, bias, Some(residual), Activation::None)
}

fn run(
    x: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    residual: Option<&Tensor>,
    activation: Activation,
) -> Result<Tensor> {
    let operands: Vec<_> = [("x", x), ("weight", weight)]
        .into_iter()
        .chain(bias.map(|bias| ("bias", bias)))
        .chain(residual.map(|residual| ("residual", residual)))
        .collect();
    fused::check(OP, &operands)?;
    check_rank(OP, "x", x.shape(), 1)?;
    let shape = result_shape(OP, x, weight, bias)?;
    if let Some(residual) = residual.filter(|it| it.shape() != &shape) {
        let needed =
            format!("{shape:?} is needed, the shape of the product: reshape or broadcast it");
        return Err(bad_shape(OP, "residual", residual, needed));
    }
    let op = Linear {
        activation,
        bias: bias.is_some(),
    };
    if route(&op, &operands, false)? != Route::Ours {
        let y = composed(x, weight, bias, activation)?;
        return Ok(residual.map_or(Ok(y.clone()), |residual| residual + y)?);
    }
    apply(op, shape, &operands)
}

/// The shape of x · weightᵀ + bias, if the operands go together. `x` is no scalar.
pub(super) fn result_shape(
    op: &'static str,
    x: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
) -> Result<Shape> {
    let (front, inner) = x.dims().split_at(x.rank() - 1);
    let out = match *weight.dims() {
        [out, its] if [its] == inner => out,
        _ => {
            let needed = format!(
                "[out, {}] is needed for x of shape {:?}: transpose it if it is [in, out]",
                inner[0],
                x.shape()
            );
            return Err(bad_shape(op, "weight", weight, needed));
        }
    };
    if let Some(bias) = bias.filter(|bias| bias.dims() != [out]) {
        let needed = format!("[{out}] is needed, one element for each row of weight: flatten it");
        return Err(bad_shape(op, "bias", bias, needed));
    }
    Ok(Shape::from([front, &[out]].concat()))
}

/// The same by ops of Candle, each with a backward.
pub(super) fn composed(
    x: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    activation: Activation,
) -> candle_core::Result<Tensor> {
    let (inner, out) = (weight.dims()[1], weight.dims()[0]);
    let count = x.dims()[..x.rank() - 1].iter().product::<usize>();
    let flat = x.reshape((count, inner))?;
    let dims = [&x.dims()[..x.rank() - 1], &[out]].concat();
    let product = flat.matmul(&readable(&weight.t()?)?)?.reshape(dims)?;
    let z = match bias {
        Some(bias) => product.broadcast_add(bias)?,
        None => product,
    };
    match activation {
        Activation::None => Ok(z),
        Activation::Relu => z.relu(),
        Activation::Gelu => z.gelu(),
        Activation::Silu => z.silu(),
    }
}

pub(crate) struct Linear {
    pub(crate) activation: Activation,
    bias: bool,
}

/// Bias and residual, among the arguments or what belongs to each.
pub(crate) struct Rest<'a, A> {
    pub(crate) bias: Option<&'a A>,
    pub(crate) residual: Option<&'a A>,
}

impl Linear {
    /// What follows x and the weight.
    pub(crate) fn rest<'a, A>(&self, rest: &'a [A]) -> Rest<'a, A> {
        match rest {
            [bias, residual @ ..] if self.bias => Rest {
                bias: Some(bias),
                residual: residual.first(),
            },
            _ => Rest {
                bias: None,
                residual: rest.first(),
            },
        }
    }
}

impl Op for Linear {
    const NAME: &'static str = OP;

    fn forward<T: Float>(
        &self,
        arguments: &[Operand<T>],
        keep: bool,
        out: &mut [T],
    ) -> Result<Option<Kept>> {
        let [x, weight, rest @ ..] = arguments else {
            return Ok(None);
        };
        let Rest { bias, residual } = self.rest(rest);
        let bias = bias.map(Operand::elements).transpose()?;
        if let Some(residual) = residual {
            out.copy_from_slice(&residual.elements()?);
        }
        let (x_layout, weight_layout) = (matrices(x.layout), weight.layout.transpose(0, 1)?);
        let product = |activation, out: &mut [T]| -> Result<()> {
            let options = cpu::Options {
                bias: bias.as_deref(),
                activation,
                accumulate: residual.is_some(),
                ..Default::default()
            };
            let weight = (weight.data, &view(&weight_layout)?);
            Ok(cpu::matmul(
                (x.data, &view(&x_layout)?),
                weight,
                &options,
                out,
            )?)
        };
        if !keep || matches!(self.activation, Activation::None | Activation::Relu) {
            product(self.activation, out)?;
            return Ok(None);
        }
        let mut z = vector(out.len());
        product(Activation::None, &mut z)?;
        gate(&z, |z, one| match self.activation {
            Activation::Silu => swiglu::swiglu(z, one, out),
            _ => geglu::geglu(z, one, geglu::Gelu::Tanh, out),
        })?;
        Ok(Some(Box::new(z)))
    }

    fn backward<T: Float>(&self, pass: &Pass<T>) -> Result<Vec<Option<Vec<T>>>> {
        let [x, weight, rest @ ..] = pass.arguments else {
            return Ok(vec![]);
        };
        let u = self.before_activation(pass)?;
        let contiguous = Layout::contiguous(pass.gradient.layout.shape());
        let (u, u_layout) = match &u {
            Some(u) => (&u[..], &contiguous),
            None => (pass.gradient.data, pass.gradient.layout),
        };
        let plain = cpu::Options::default();
        let mut answer = vec![None; pass.arguments.len()];
        if pass.wants(0) {
            let mut dx = pass.fresh(0);
            let u_matrices = matrices(u_layout);
            let u = (u, &view(&u_matrices)?);
            cpu::matmul(u, (weight.data, &weight.view()?), &plain, &mut dx)?;
            answer[0] = Some(dx);
        }
        let (u, u_rows) = rows(u, u_layout)?;
        if pass.wants(1) {
            let mut dw = pass.fresh(1);
            let (x, x_rows) = rows(x.data, x.layout)?;
            let turned = u_rows.transpose(0, 1)?;
            let u = (&*u, &view(&turned)?);
            cpu::matmul(u, (&x, &view(&x_rows)?), &plain, &mut dw)?;
            answer[1] = Some(dw);
        }
        let Rest { bias, residual } = self.rest(rest);
        if bias.is_some() && pass.wants(2) {
            answer[2] = Some(column_sums(&u, &u_rows)?);
        }
        let last = answer.len() - 1;
        if residual.is_some() && pass.wants(last) {
            answer[last] = Some(pass.gradient.elements()?.into_owned());
        }
        Ok(answer)
    }
}

impl Linear {
    /// u = g · act′(z), if there is an activation.
    fn before_activation<T: Float>(&self, pass: &Pass<T>) -> Result<Option<Vec<T>>> {
        let gradient = pass.gradient;
        match self.activation {
            Activation::None => Ok(None),
            Activation::Relu => {
                let zero = T::zero();
                let (y, g) = (pass.result.elements()?, gradient.elements()?);
                let slope = y
                    .iter()
                    .zip(&*g)
                    .map(|(y, g)| if *y > zero { *g } else { zero });
                Ok(Some(slope.collect()))
            }
            Activation::Gelu | Activation::Silu => {
                let z: &Vec<T> = pass.kept(OP)?;
                let (mut u, mut unused) = (vector(z.len()), vector(z.len()));
                let flat = gradient.elements()?;
                let dims = [flat.len()];
                let g = (&*flat, &candle_mps_cpu::Layout::contiguous(&dims)?);
                let out = (&mut u[..], &mut unused[..]);
                gate(z, |z, one| match self.activation {
                    Activation::Silu => swiglu::swiglu_backward(z, one, g, out),
                    _ => geglu::geglu_backward(z, one, g, geglu::Gelu::Tanh, out),
                })?;
                Ok(Some(u))
            }
        }
    }
}

/// A slice with its layout.
type View<'a, T> = (&'a [T], &'a candle_mps_cpu::Layout<'a>);

/// Calls a gated unit with z as the gate and 1, repeated, as what passes: the activation alone.
fn gate<T: Float>(
    z: &[T],
    unit: impl FnOnce(View<'_, T>, View<'_, T>) -> candle_mps_cpu::Result<()>,
) -> Result<()> {
    let dims = [z.len()];
    let one = [T::one()];
    let z_layout = candle_mps_cpu::Layout::contiguous(&dims)?;
    let repeated = candle_mps_cpu::Layout::new(&dims, &[0], 0)?;
    Ok(unit((z, &z_layout), (&one, &repeated))?)
}

/// A layout of two dimensions or more: a vector is a row.
fn matrices(layout: &Layout) -> Layout {
    match (layout.dims(), layout.stride()) {
        (&[inner], &[step]) => Layout::new((1, inner).into(), vec![0, step], layout.start_offset()),
        _ => layout.clone(),
    }
}

/// The sum over the rows of a matrix: the gradient of a bias. A product with a row of ones, so that it
/// is summed in f32 and with vectors, whatever the strides.
pub(super) fn column_sums<T: Float>(data: &[T], layout: &Layout) -> Result<Vec<T>> {
    let dims = [1, layout.dims()[0]];
    let ones = candle_mps_cpu::Layout::new(&dims, &[0, 0], 0)?;
    let mut sums = vector(layout.dims()[1]);
    let matrix = (data, &view(layout)?);
    cpu::matmul(
        (&[T::one()], &ones),
        matrix,
        &cpu::Options::default(),
        &mut sums,
    )?;
    Ok(sums)
}
