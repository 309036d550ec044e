//! [`cross_entropy`]: the mean over the rows of ln Σⱼ exp(xⱼ) − x_target.
//! <https://en.wikipedia.org/wiki/Cross-entropy>
//!
//! Neither probabilities nor their logarithms are stored: the forward pass keeps one number for each
//! row. Backward: dx = g / rows · (softmax(x) − [the target]).

use candle_core::{D, DType, Device, DeviceLocation, Tensor};
use candle_mps_cpu::cross_entropy as cpu;

use super::fused::{self, Kept, Op, Pass, Route, apply, bad_shape, check_device, route};
use super::operand::{Float, Operand};
use super::{check_rank, softmax};
use crate::error::{Error, Result};

pub(crate) const OP: &str = "cross_entropy";

/// What a row that does not count has for a target inside.
const IGNORED: u32 = u32::MAX;

/// Cross-entropy of `logits` with class indices: the mean of −ln softmax(logits)\[target\].
///
/// `logits` is [.., classes] in f32, f64, f16 or bf16, `targets` has the dimensions in front of the
/// last and is u8, u32 or i64. The result is a scalar of the logits' type; no rows give 0. The same
/// number as `candle_nn::loss::cross_entropy`, summed in f64. On Metal nobody waits for the targets to look at
/// them: one that is no class makes the loss NaN there, where the CPU has an error, and sums are in f32. (Where
/// Candle's ops compute it, by `CANDLE_MPS_ROUTE` or for logits of more than four dimensions, they look for
/// such a class outside of the logits.) Differentiable in `logits`.
///
/// ```
/// use candle_core::{Device, Tensor};
/// use candle_mps_ops::ops;
///
/// let logits = Tensor::new(&[[0f32, 0.], [0., 0.]], &Device::Cpu)?;
/// let targets = Tensor::new(&[0u32, 1], &Device::Cpu)?;
/// let loss = ops::cross_entropy(&logits, &targets)?.to_scalar::<f32>()?;
/// assert!((loss - 2f32.ln()).abs() < 1e-6);
/// # Ok::<(), candle_mps_ops::Error>(())
/// ```
pub fn cross_entropy(logits: &Tensor, targets: &Tensor) -> Result<Tensor> {
    cross_entropy_with(logits, targets, None)
}

/// [`cross_entropy`] where rows whose target is `ignored` do not count: padding, or a question that
/// the model shall not learn to ask. PyTorch's default for it is −100.
///
/// ```
/// use candle_core::{Device, Tensor};
/// use candle_mps_ops::ops;
///
/// let logits = Tensor::new(&[[0f32, 0.], [9., 0.]], &Device::Cpu)?;
/// let targets = Tensor::new(&[0i64, -100], &Device::Cpu)?;
/// let loss = ops::cross_entropy_with(&logits, &targets, Some(-100))?.to_scalar::<f32>()?;
/// assert!((loss - 2f32.ln()).abs() < 1e-6);
/// # Ok::<(), candle_mps_ops::Error>(())
/// ```
pub fn cross_entropy_with(
    logits: &Tensor,
    targets: &Tensor,
    ignored: Option<i64>,
) -> Result<Tensor> {
    let operands = [("logits", logits)];
    fused::check(OP, &operands)?;
    check_rank(OP, "logits", logits.shape(), 1)?;
    check_device(OP, logits, targets)?;
    let (rows, classes) = logits.dims().split_at(logits.rank() - 1);
    if targets.dims() != rows {
        let needed = format!(
            "{rows:?} is needed for logits of shape {:?}: one class index for each row",
            logits.shape()
        );
        return Err(bad_shape(OP, "targets", targets, needed));
    }
    if !matches!(targets.dtype(), DType::U8 | DType::U32 | DType::I64) {
        return Err(Error::NotIndex {
            op: OP,
            operand: "targets",
            dtype: targets.dtype(),
        });
    }
    let op = CrossEntropy {
        targets: match logits.device() {
            Device::Cpu => Targets::Checked(indices(targets, classes[0], ignored)?),
            _ => Targets::OnDevice(targets.detach()),
        },
        ignored,
    };
    if route(&op, &operands, false)? != Route::Ours {
        return Ok(composed(logits, targets, ignored)?);
    }
    apply(op, ().into(), &operands)
}

/// The targets as the kernel takes them.
fn indices(targets: &Tensor, classes: usize, ignored: Option<i64>) -> Result<Vec<u32>> {
    let targets = targets
        .flatten_all()?
        .to_dtype(DType::I64)?
        .to_vec1::<i64>()?;
    let index = |(at, target): (usize, i64)| match u32::try_from(target) {
        _ if Some(target) == ignored => Ok(IGNORED),
        Ok(index) if (index as usize) < classes => Ok(index),
        _ => Err(Error::NoSuchClass {
            op: OP,
            at,
            target,
            classes,
        }),
    };
    targets.into_iter().enumerate().map(index).collect()
}

/// The same by ops of Candle, each with a backward.
fn composed(
    logits: &Tensor,
    targets: &Tensor,
    ignored: Option<i64>,
) -> candle_core::Result<Tensor> {
    let classes = logits.dim(D::Minus1)?;
    let rows = targets.elem_count();
    if rows == 0 || classes == 0 {
        return logits.sum_all();
    }
    let logits = logits.reshape((rows, classes))?;
    let targets = targets.reshape((rows, 1))?;
    let logs = softmax::composed(&logits, 1, true)?;
    let Some(ignored) = ignored else {
        return logs
            .gather(&targets, 1)?
            .sum_all()?
            .affine(-1. / rows as f64, 0.);
    };
    let counts = targets.ne(ignored)?;
    let targets = counts.where_cond(&targets, &targets.zeros_like()?)?;
    let counts = counts.to_dtype(logits.dtype())?;
    let count = counts.to_dtype(DType::F32)?.sum_all()?.maximum(1f64)?;
    let sum = (logs.gather(&targets, 1)? * counts)?.sum_all()?;
    sum.neg()?.div(&count.to_dtype(sum.dtype())?)
}

pub(crate) struct CrossEntropy {
    pub(crate) targets: Targets,
    #[cfg_attr(not(feature = "metal"), allow(dead_code))]
    pub(crate) ignored: Option<i64>,
}

/// One class for each row.
pub(crate) enum Targets {
    /// Checked, with [`IGNORED`] where a row does not count.
    Checked(Vec<u32>),
    /// As they came, on the GPU: nobody waits to look at them. One that is no class makes the loss NaN.
    OnDevice(Tensor),
}

impl CrossEntropy {
    /// The targets for the CPU's kernels.
    fn checked(&self) -> Result<&[u32]> {
        match &self.targets {
            Targets::Checked(targets) => Ok(targets),
            Targets::OnDevice(targets) => Err(Error::DeviceMismatch {
                op: OP,
                left: DeviceLocation::Cpu,
                right: targets.device().location(),
            }),
        }
    }
}

impl Op for CrossEntropy {
    const NAME: &'static str = OP;

    fn forward<T: Float>(
        &self,
        arguments: &[Operand<T>],
        keep: bool,
        out: &mut [T],
    ) -> Result<Option<Kept>> {
        let ([x], [loss]) = (arguments, out) else {
            return Ok(None);
        };
        let forward = cpu::cross_entropy(x.data, &x.view()?, self.checked()?, Some(IGNORED))?;
        *loss = T::from_acc(forward.loss);
        Ok(keep.then(|| Box::new(forward) as Kept))
    }

    fn backward<T: Float>(&self, pass: &Pass<T>) -> Result<Vec<Option<Vec<T>>>> {
        let ([x], [gradient]) = (pass.arguments, &*pass.gradient.elements()?) else {
            return Ok(vec![]);
        };
        let forward: &cpu::CrossEntropy<T::Acc> = pass.kept(OP)?;
        let mut dx = pass.fresh(0);
        let x = (x.data, &x.view()?);
        let gradient = candle_mps_cpu::Element::to_f64(*gradient);
        cpu::cross_entropy_backward(
            x,
            self.checked()?,
            Some(IGNORED),
            forward,
            gradient,
            &mut dx,
        )?;
        Ok(vec![Some(dx)])
    }
}
