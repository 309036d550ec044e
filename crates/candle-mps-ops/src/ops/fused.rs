//! How an op gets into Candle's graph: the one place that knows what Candle's `CustomOp` leaves to
//! its users.
//!
//! - Only arguments that want a gradient become arguments of the `CustomOp`. The others are kept
//!   beside the op, so that nothing is computed for a frozen weight; and with no such argument there
//!   is no node at all, and nothing is kept for a backward pass.
//! - A `CustomOp` has three arguments at most. When more want a gradient, the rest goes through
//!   `pack.rs`.
//! - Candle fails on a node of its graph that got no gradient, and adds up what it gets: so every
//!   argument in the graph gets one, of exactly its own shape.
//! - What the forward pass keeps for the backward pass lives and dies with the node.
//!
//! What happens on Metal is in `fused/metal.rs`.

#[cfg(feature = "metal")]
mod metal;

use std::any::Any;
use std::ops::Deref;
use std::sync::{Arc, OnceLock};

use candle_core::{
    CpuStorage, CustomOp1, CustomOp2, CustomOp3, DType, Device, Layout, Shape, Storage, Tensor,
};

#[cfg(feature = "metal")]
use candle_core::MetalStorage;
use candle_mps_cpu::memory::vector;

use super::calls;
use super::operand::{Float, Operand, cpu_storage, with_float};
use super::pack::{self, Parcel};
use crate::error::{Error, Result};

/// What a forward pass keeps.
pub(crate) type Kept = Box<dyn Any + Send + Sync>;

/// What an op does on Metal.
#[cfg(feature = "metal")]
pub(super) use crate::metal::op::MetalOp as OnMetal;
/// Nothing, without Metal.
#[cfg(not(feature = "metal"))]
pub(super) trait OnMetal {}
#[cfg(not(feature = "metal"))]
impl<T> OnMetal for T {}

/// An op: here what it does on the CPU. Its arguments have been checked, and are all of one float type.
pub(super) trait Op: OnMetal + Send + Sync + 'static {
    /// The name in errors and in Candle's graph.
    const NAME: &'static str;

    /// Overwrites `out` with the result, in row-major order. If `keep`, there will be a backward
    /// pass, and what is returned goes there.
    fn forward<T: Float>(
        &self,
        arguments: &[Operand<T>],
        keep: bool,
        out: &mut [T],
    ) -> Result<Option<Kept>>;

    /// The gradients of the arguments in row-major order. Those that are not wanted are ignored.
    fn backward<T: Float>(&self, pass: &Pass<T>) -> Result<Vec<Option<Vec<T>>>>;
}

/// What a backward pass gets.
pub(super) struct Pass<'a, T> {
    pub arguments: &'a [Operand<'a, T>],
    /// The gradient of the result. Any layout: that of a sum repeats one element.
    pub gradient: Operand<'a, T>,
    /// The result of the forward pass.
    pub result: Operand<'a, T>,
    /// For each argument, whether its gradient is wanted.
    wanted: &'a [bool],
    /// What the forward pass has kept.
    pub kept: Option<&'a Kept>,
}

impl<T: Float> Pass<'_, T> {
    /// Whether the gradient of this argument is wanted; that of one that is not there is not.
    pub fn wants(&self, at: usize) -> bool {
        self.wanted.get(at).is_some_and(|wanted| *wanted)
    }

    /// Memory for the gradient of this argument.
    pub fn fresh(&self, at: usize) -> Vec<T> {
        vector(self.arguments[at].layout.shape().elem_count())
    }

    /// What the forward pass has kept, as the type that it was.
    pub fn kept<K: 'static>(&self, op: &'static str) -> Result<&K> {
        self.kept
            .and_then(|kept| kept.downcast_ref())
            .ok_or_else(|| candle_core::Error::BackwardNotSupported { op }.into())
    }
}

/// Who computes a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Route {
    /// A kernel of ours: [`apply`].
    Ours,
    /// A kernel of Metal Performance Shaders.
    #[cfg_attr(not(feature = "metal"), allow(dead_code))]
    Mps,
    /// The composition of Candle's ops, which has a backward at every step.
    Candle,
}

/// Who computes `op` for these operands: on the CPU we do; on Metal a table decides; for gradients of gradients, and
/// on other devices, it is Candle. `mps` says whether there is a kernel of MPS for them.
pub(super) fn route<O: Op>(
    op: &O,
    operands: &[(&'static str, &Tensor)],
    mps: bool,
) -> Result<Route> {
    static SECOND_ORDER: OnceLock<bool> = OnceLock::new();
    let second_order = SECOND_ORDER.get_or_init(|| {
        std::env::var("CANDLE_GRAD_DO_NOT_DETACH").is_ok_and(|set| !set.is_empty() && set != "0")
    });
    match operands.first().map(|(_, x)| x.device()) {
        Some(Device::Cpu) if !second_order => Ok(Route::Ours),
        #[cfg(feature = "metal")]
        Some(Device::Metal(device)) if !second_order => metal::route(device, op, operands, mps),
        _ => {
            let _ = (op, mps);
            Ok(Route::Candle)
        }
    }
}

/// Applies `op` to tensors of one float type and one device, for which [`route`] says that we compute it: those that
/// [`check`] has seen, with their names. The result has the shape `shape`.
pub(super) fn apply<O: Op>(
    op: O,
    shape: Shape,
    operands: &[(&'static str, &Tensor)],
) -> Result<Tensor> {
    let argument = |at: usize| operands[at].1;
    let graph: Vec<usize> = (0..operands.len())
        .filter(|&at| argument(at).track_op())
        .collect();
    let mut fused = Fused {
        op,
        shape,
        arguments: operands.iter().map(|(_, it)| it.detach()).collect(),
        direct: graph.clone(),
        packed: Vec::new(),
        kept: OnceLock::new(),
        parcel: None,
    };
    let tensor = |at: usize| argument(graph[at]);
    let result = match graph.len() {
        0 => return fused.without_graph(),
        1 => tensor(0).apply_op1(fused),
        2 => tensor(0).apply_op2(tensor(1), fused),
        3 => tensor(0).apply_op3(tensor(1), tensor(2), fused),
        _ => {
            fused.packed = fused.direct.split_off(2);
            let rest: Vec<&Tensor> = fused.packed.iter().map(|&at| argument(at)).collect();
            let parcel = Arc::new(Parcel::default());
            let token = pack::token(O::NAME, &rest, parcel.clone())?;
            fused.parcel = Some(parcel);
            tensor(0).apply_op3(tensor(1), &token, fused)
        }
    };
    Ok(result?)
}

/// An op with its arguments, used once.
struct Fused<O> {
    op: O,
    shape: Shape,
    /// All arguments, outside of the graph.
    arguments: Vec<Tensor>,
    /// Which of them are arguments of the `CustomOp`, and in the graph thereby.
    direct: Vec<usize>,
    /// Which of them are in the graph through the parcel.
    packed: Vec<usize>,
    kept: OnceLock<Kept>,
    parcel: Option<Arc<Parcel>>,
}

/// A storage and a layout that Candle handed over.
type Given<'a> = (&'a CpuStorage, &'a Layout);

impl<O: Op> Fused<O> {
    fn dtype(&self) -> DType {
        self.arguments.first().map_or(DType::F32, Tensor::dtype)
    }

    /// The result for arguments of which none wants a gradient.
    fn without_graph(&self) -> Result<Tensor> {
        let none = candle_core::op::BackpropOp::none();
        let storage = match self.arguments.first().map(Tensor::device) {
            #[cfg(feature = "metal")]
            Some(Device::Metal(_)) => Storage::Metal(self.metal_forward(&[], false)?),
            _ => Storage::Cpu(self.forward(&[], false)?.0),
        };
        Ok(Tensor::from_storage(
            storage,
            self.shape.clone(),
            none,
            false,
        ))
    }

    /// What each argument reads: the one that Candle has given (`Err`), or a lock of our own.
    fn guards<G: Copy>(
        &self,
        given: &[G],
    ) -> Vec<std::result::Result<(impl Deref<Target = Storage>, &Layout), G>> {
        (0..self.arguments.len())
            .map(
                |at| match self.direct.iter().position(|&direct| direct == at) {
                    // Candle holds these already, and a lock is not to be taken twice.
                    Some(place) if place < given.len() => Err(given[place]),
                    _ => Ok(self.arguments[at].storage_and_layout()),
                },
            )
            .collect()
    }

    /// The forward pass with the storages that Candle has for the direct arguments.
    fn forward(&self, given: &[Given<'_>], keep: bool) -> Result<(CpuStorage, Shape)> {
        calls::count(const { calls::place(O::NAME) });
        fn typed<T: Float>(
            op: &impl Op,
            given: &[Given<'_>],
            keep: bool,
            len: usize,
        ) -> Result<(CpuStorage, Option<Kept>)> {
            let operands: Vec<Operand<'_, T>> = given
                .iter()
                .map(|(storage, layout)| Operand::new(storage, layout))
                .collect::<Result<_>>()?;
            let mut out = vector::<T>(len);
            let kept = op.forward(&operands, keep, &mut out)?;
            Ok((T::to_cpu_storage_owned(out), kept))
        }
        let guards = self.guards(given);
        let storages: Vec<Given<'_>> = guards
            .iter()
            .zip(&self.arguments)
            .map(|(guard, tensor)| match guard {
                Ok((storage, layout)) => Ok((cpu_storage(O::NAME, tensor, storage)?, *layout)),
                Err(given) => Ok(*given),
            })
            .collect::<Result<_>>()?;
        let len = self.shape.elem_count();
        let (storage, kept) = with_float!(
            O::NAME,
            "x",
            self.dtype(),
            typed(&self.op, &storages, keep, len)
        )?;
        if let Some(kept) = kept {
            // The op is used once, so there is nothing yet.
            let _ = self.kept.set(kept);
        }
        Ok((storage, self.shape.clone()))
    }

    /// The gradients of all arguments in the graph.
    fn gradients(&self, result: &Tensor, gradient: &Tensor) -> Result<Vec<Option<Tensor>>> {
        fn typed<T: Float>(
            op: &impl Op,
            given: &[Given<'_>],
            wanted: &[bool],
            kept: Option<&Kept>,
            arguments: &[Tensor],
        ) -> Result<Vec<Option<Tensor>>> {
            let operands: Vec<Operand<'_, T>> = given
                .iter()
                .map(|(storage, layout)| Operand::new(storage, layout))
                .collect::<Result<_>>()?;
            let &[gradient, result, ref operands @ ..] = &operands[..] else {
                return Ok(Vec::new());
            };
            let gradients = op.backward(&Pass {
                arguments: operands,
                gradient,
                result,
                wanted,
                kept,
            })?;
            let tensors = gradients.into_iter().zip(arguments).zip(wanted);
            tensors
                .map(
                    |((gradient, argument), wanted)| match gradient.filter(|_| *wanted) {
                        Some(gradient) => Ok(Some(Tensor::from_vec(
                            gradient,
                            argument.shape(),
                            &Device::Cpu,
                        )?)),
                        None => Ok(None),
                    },
                )
                .collect()
        }
        let wanted: Vec<bool> = (0..self.arguments.len())
            .map(|at| self.direct.contains(&at) || self.packed.contains(&at))
            .collect();
        #[cfg(feature = "metal")]
        if let Device::Metal(device) = result.device() {
            return self.metal_gradients(device, &wanted, result, gradient);
        }
        let tensors: Vec<&Tensor> = [gradient, result]
            .into_iter()
            .chain(&self.arguments)
            .collect();
        let guards: Vec<_> = tensors
            .iter()
            .map(|tensor| tensor.storage_and_layout())
            .collect();
        let storages: Vec<Given<'_>> = guards
            .iter()
            .zip(tensors)
            .map(|((storage, layout), tensor)| {
                Ok((cpu_storage(O::NAME, tensor, storage)?, *layout))
            })
            .collect::<Result<_>>()?;
        with_float!(
            O::NAME,
            "x",
            self.dtype(),
            typed(
                &self.op,
                &storages,
                &wanted,
                self.kept.get(),
                &self.arguments
            )
        )
    }

    /// The gradients of the direct arguments, and of the token if there is one.
    fn backward<const N: usize>(
        &self,
        token: Option<&Tensor>,
        result: &Tensor,
        gradient: &Tensor,
    ) -> candle_core::Result<[Option<Tensor>; N]> {
        let mut gradients = self.gradients(result, gradient)?;
        let mut take = |at: usize| gradients.get_mut(at).and_then(Option::take);
        let mut answer = [const { None }; N];
        for (to, &at) in answer.iter_mut().zip(&self.direct) {
            *to = take(at);
        }
        if let (Some(parcel), Some(token), Some(last)) = (&self.parcel, token, answer.last_mut()) {
            parcel.post(self.packed.iter().map(|&at| take(at)).collect());
            *last = Some(token.zeros_like()?);
        }
        Ok(answer)
    }
}

impl<O: Op> CustomOp1 for Fused<O> {
    fn name(&self) -> &'static str {
        O::NAME
    }

    fn cpu_fwd(&self, s1: &CpuStorage, l1: &Layout) -> candle_core::Result<(CpuStorage, Shape)> {
        Ok(self.forward(&[(s1, l1)], true)?)
    }

    #[cfg(feature = "metal")]
    fn metal_fwd(
        &self,
        s1: &MetalStorage,
        l1: &Layout,
    ) -> candle_core::Result<(MetalStorage, Shape)> {
        Ok((self.metal_forward(&[(s1, l1)], true)?, self.shape.clone()))
    }

    fn bwd(
        &self,
        _: &Tensor,
        result: &Tensor,
        gradient: &Tensor,
    ) -> candle_core::Result<Option<Tensor>> {
        let [first] = self.backward(None, result, gradient)?;
        Ok(first)
    }
}

impl<O: Op> CustomOp2 for Fused<O> {
    fn name(&self) -> &'static str {
        O::NAME
    }

    fn cpu_fwd(
        &self,
        s1: &CpuStorage,
        l1: &Layout,
        s2: &CpuStorage,
        l2: &Layout,
    ) -> candle_core::Result<(CpuStorage, Shape)> {
        Ok(self.forward(&[(s1, l1), (s2, l2)], true)?)
    }

    #[cfg(feature = "metal")]
    fn metal_fwd(
        &self,
        s1: &MetalStorage,
        l1: &Layout,
        s2: &MetalStorage,
        l2: &Layout,
    ) -> candle_core::Result<(MetalStorage, Shape)> {
        let given = [(s1, l1), (s2, l2)];
        Ok((self.metal_forward(&given, true)?, self.shape.clone()))
    }

    fn bwd(
        &self,
        _: &Tensor,
        _: &Tensor,
        result: &Tensor,
        gradient: &Tensor,
    ) -> candle_core::Result<(Option<Tensor>, Option<Tensor>)> {
        let [first, second] = self.backward(None, result, gradient)?;
        Ok((first, second))
    }
}

impl<O: Op> CustomOp3 for Fused<O> {
    fn name(&self) -> &'static str {
        O::NAME
    }

    fn cpu_fwd(
        &self,
        s1: &CpuStorage,
        l1: &Layout,
        s2: &CpuStorage,
        l2: &Layout,
        s3: &CpuStorage,
        l3: &Layout,
    ) -> candle_core::Result<(CpuStorage, Shape)> {
        // The third may be a token, which is no argument of the op.
        let given = [(s1, l1), (s2, l2), (s3, l3)];
        Ok(self.forward(&given[..self.direct.len()], true)?)
    }

    #[cfg(feature = "metal")]
    fn metal_fwd(
        &self,
        s1: &MetalStorage,
        l1: &Layout,
        s2: &MetalStorage,
        l2: &Layout,
        s3: &MetalStorage,
        l3: &Layout,
    ) -> candle_core::Result<(MetalStorage, Shape)> {
        let given = [(s1, l1), (s2, l2), (s3, l3)];
        let given = &given[..self.direct.len()];
        Ok((self.metal_forward(given, true)?, self.shape.clone()))
    }

    fn bwd(
        &self,
        _: &Tensor,
        _: &Tensor,
        third: &Tensor,
        result: &Tensor,
        gradient: &Tensor,
    ) -> candle_core::Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let [first, second, third] = self.backward(Some(third), result, gradient)?;
        Ok((first, second, third))
    }
}

/// Refuses operands that are not floats, or not of one type, or not on one device.
pub(super) fn check(op: &'static str, operands: &[(&'static str, &Tensor)]) -> Result<()> {
    let Some(&(first, x)) = operands.first() else {
        return Ok(());
    };
    for &(operand, tensor) in operands {
        let dtype = tensor.dtype();
        if !matches!(dtype, DType::F32 | DType::F64 | DType::F16 | DType::BF16) {
            return Err(Error::NotFloat { op, operand, dtype });
        }
        if dtype != x.dtype() {
            let expected = x.dtype();
            return Err(Error::OperandDType {
                op,
                operand,
                dtype,
                first,
                expected,
            });
        }
        check_device(op, x, tensor)?;
    }
    Ok(())
}

/// Refuses tensors of two devices.
pub(super) fn check_device(op: &'static str, left: &Tensor, right: &Tensor) -> Result<()> {
    if left.device().same_device(right.device()) {
        return Ok(());
    }
    let (left, right) = (left.device().location(), right.device().location());
    Err(Error::DeviceMismatch { op, left, right })
}

/// The error for an operand of a shape that does not do.
pub(super) fn bad_shape(
    op: &'static str,
    operand: &'static str,
    tensor: &Tensor,
    needed: impl Into<String>,
) -> Error {
    let (shape, needed) = (tensor.shape().clone(), needed.into());
    Error::OperandShape {
        op,
        operand,
        shape,
        needed,
    }
}
