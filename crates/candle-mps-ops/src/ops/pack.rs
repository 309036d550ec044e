//! Gradients for more than three arguments of a `CustomOp`.
//!
//! A small op over the arguments that are left makes a token, a tensor of one element, and the main
//! op takes the token as its third argument. Candle goes backward through the main op first: that one
//! computes all gradients at once and leaves those of the packed arguments in a parcel. Then Candle
//! goes backward through the token, which hands them out.
//!
//! A backward pass runs on one thread, and several may run through one graph at the same time: the
//! parcel has a place for each thread.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, ThreadId};

#[cfg(feature = "metal")]
use candle_core::MetalStorage;
use candle_core::{CpuStorage, CustomOp1, CustomOp2, CustomOp3, Layout, Shape, Tensor};

use super::operand::{Float, with_float};
use crate::error::Result;

type Gradients = Vec<Option<Tensor>>;

/// Gradients on their way from the main op to the arguments that are packed.
#[derive(Default)]
pub(super) struct Parcel(Mutex<HashMap<ThreadId, Gradients>>);

impl Parcel {
    fn places(&self) -> MutexGuard<'_, HashMap<ThreadId, Gradients>> {
        // A map is never half changed here, so that of a thread that panicked is still good.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Leaves the gradients for this thread's backward pass.
    pub fn post(&self, gradients: Gradients) {
        self.places().insert(thread::current().id(), gradients);
    }

    fn collect(&self) -> candle_core::Result<Gradients> {
        self.places()
            .remove(&thread::current().id())
            .ok_or(candle_core::Error::BackwardNotSupported { op: "pack" })
    }
}

/// A token for one to three tensors of one type. The main op that takes it as an argument has to
/// [post](Parcel::post) their gradients before it returns that of the token.
pub(super) fn token(op: &'static str, tensors: &[&Tensor], parcel: Arc<Parcel>) -> Result<Tensor> {
    let pack = Pack { op, parcel };
    Ok(match *tensors {
        [first] => first.apply_op1(pack)?,
        [first, second] => first.apply_op2(second, pack)?,
        [first, second, third] => first.apply_op3(second, third, pack)?,
        // No op has more than five tensors that can want a gradient.
        _ => return Err(candle_core::Error::BackwardNotSupported { op }.into()),
    })
}

struct Pack {
    op: &'static str,
    parcel: Arc<Parcel>,
}

impl Pack {
    /// One element, of the type of the packed tensors.
    fn element(&self, like: &CpuStorage) -> candle_core::Result<(CpuStorage, Shape)> {
        use candle_core::backend::BackendStorage;

        fn zero<T: Float>() -> Result<CpuStorage> {
            Ok(T::to_cpu_storage_owned(vec![T::zero()]))
        }
        let storage = with_float!(self.op, "an argument", like.dtype(), zero())?;
        Ok((storage, Shape::from(1)))
    }

    /// The same on Metal, where nobody needs its value: it is left as it is.
    #[cfg(feature = "metal")]
    fn metal_element(&self, like: &MetalStorage) -> candle_core::Result<(MetalStorage, Shape)> {
        use candle_core::backend::BackendStorage;

        let storage = crate::metal::stream::output(like.device(), 1, like.dtype())?;
        Ok((storage, Shape::from(1)))
    }

    fn hand_out<const N: usize>(&self) -> candle_core::Result<[Option<Tensor>; N]> {
        let mut gradients = self.parcel.collect()?.into_iter();
        Ok(std::array::from_fn(|_| gradients.next().flatten()))
    }
}

impl CustomOp1 for Pack {
    fn name(&self) -> &'static str {
        self.op
    }

    fn cpu_fwd(&self, s: &CpuStorage, _: &Layout) -> candle_core::Result<(CpuStorage, Shape)> {
        self.element(s)
    }

    #[cfg(feature = "metal")]
    fn metal_fwd(
        &self,
        s: &MetalStorage,
        _: &Layout,
    ) -> candle_core::Result<(MetalStorage, Shape)> {
        self.metal_element(s)
    }

    fn bwd(&self, _: &Tensor, _: &Tensor, _: &Tensor) -> candle_core::Result<Option<Tensor>> {
        let [first] = self.hand_out()?;
        Ok(first)
    }
}

impl CustomOp2 for Pack {
    fn name(&self) -> &'static str {
        self.op
    }

    fn cpu_fwd(
        &self,
        s: &CpuStorage,
        _: &Layout,
        _: &CpuStorage,
        _: &Layout,
    ) -> candle_core::Result<(CpuStorage, Shape)> {
        self.element(s)
    }

    #[cfg(feature = "metal")]
    fn metal_fwd(
        &self,
        s: &MetalStorage,
        _: &Layout,
        _: &MetalStorage,
        _: &Layout,
    ) -> candle_core::Result<(MetalStorage, Shape)> {
        self.metal_element(s)
    }

    fn bwd(
        &self,
        _: &Tensor,
        _: &Tensor,
        _: &Tensor,
        _: &Tensor,
    ) -> candle_core::Result<(Option<Tensor>, Option<Tensor>)> {
        let [first, second] = self.hand_out()?;
        Ok((first, second))
    }
}

impl CustomOp3 for Pack {
    fn name(&self) -> &'static str {
        self.op
    }

    fn cpu_fwd(
        &self,
        s: &CpuStorage,
        _: &Layout,
        _: &CpuStorage,
        _: &Layout,
        _: &CpuStorage,
        _: &Layout,
    ) -> candle_core::Result<(CpuStorage, Shape)> {
        self.element(s)
    }

    #[cfg(feature = "metal")]
    fn metal_fwd(
        &self,
        s: &MetalStorage,
        _: &Layout,
        _: &MetalStorage,
        _: &Layout,
        _: &MetalStorage,
        _: &Layout,
    ) -> candle_core::Result<(MetalStorage, Shape)> {
        self.metal_element(s)
    }

    fn bwd(
        &self,
        _: &Tensor,
        _: &Tensor,
        _: &Tensor,
        _: &Tensor,
        _: &Tensor,
    ) -> candle_core::Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let [first, second, third] = self.hand_out()?;
        Ok((first, second, third))
    }
}
