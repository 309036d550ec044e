//! The part of [`Fused`] for Metal: Candle's storages become views, and an op's kernels are encoded. Nothing waits.

use candle_core::op::BackpropOp;
use candle_core::{DeviceLocation, Layout, MetalDevice, MetalStorage, Storage, Tensor};

use super::{Fused, Op, Route};
use crate::error::{Error, Result};
use crate::metal::dispatch::{self, Asked};
use crate::metal::op::{Pass, Stream};
use crate::metal::view::View;
use crate::ops::calls;

/// What the table of routes says of this call.
pub(super) fn route<O: Op>(
    device: &MetalDevice,
    op: &O,
    operands: &[(&'static str, &Tensor)],
    mps: bool,
) -> Result<Route> {
    let Some((_, first)) = operands.first() else {
        return Ok(Route::Candle);
    };
    let empty = operands.iter().any(|(_, x)| x.elem_count() == 0);
    // Indices go on by some thousands at a time, and must not begin anew.
    let countable = |x: &Tensor| i32::try_from(x.elem_count()).is_ok();
    let long = !operands.iter().all(|(_, x)| countable(x));
    dispatch::route(&Asked {
        op: O::NAME,
        dtype: first.dtype(),
        size: op.size(operands),
        refused: match (empty, long) {
            (true, _) => Some("an operand is empty"),
            (_, true) => Some("an operand has 2³¹ elements or more"),
            _ => op.refuses(operands),
        },
        mps,
        device,
    })
}

impl<O: Op> Fused<O> {
    /// The forward pass with the storages that Candle has for the direct arguments.
    pub(super) fn metal_forward(
        &self,
        given: &[(&MetalStorage, &Layout)],
        keep: bool,
    ) -> Result<MetalStorage> {
        calls::count(const { calls::place(O::NAME) });
        let guards = self.guards(given);
        let views: Vec<View<'_>> = guards
            .iter()
            .map(|guard| match guard {
                Ok((storage, layout)) => view(O::NAME, storage, layout),
                Err((storage, layout)) => Ok(View { storage, layout }),
            })
            .collect::<Result<_>>()?;
        let device = match self.arguments.first().map(Tensor::device) {
            Some(candle_core::Device::Metal(device)) => device,
            _ => return Err(not_on_metal(O::NAME)),
        };
        let stream = Stream { device };
        let out = stream.output(self.shape.dims(), self.dtype())?;
        if let Some(kept) = self.op.encode(&stream, &views, keep, out.view())? {
            // The op is used once, so there is nothing yet.
            let _ = self.kept.set(kept);
        }
        Ok(out.storage)
    }

    /// The gradients of all arguments in the graph.
    pub(super) fn metal_gradients(
        &self,
        device: &MetalDevice,
        wanted: &[bool],
        result: &Tensor,
        gradient: &Tensor,
    ) -> Result<Vec<Option<Tensor>>> {
        let guards: Vec<_> = [gradient, result]
            .into_iter()
            .chain(&self.arguments)
            .map(Tensor::storage_and_layout)
            .collect();
        let views: Vec<View<'_>> = guards
            .iter()
            .map(|(storage, layout)| view(O::NAME, storage, layout))
            .collect::<Result<_>>()?;
        let &[gradient, result, ref arguments @ ..] = &views[..] else {
            return Ok(Vec::new());
        };
        let pass = Pass {
            arguments,
            gradient,
            result,
            wanted,
            kept: self.kept.get(),
        };
        let gradients = self.op.encode_backward(&Stream { device }, &pass)?;
        let tensor = |(gradient, wanted): (Option<crate::metal::view::Owned>, &bool)| {
            let gradient = gradient.filter(|_| *wanted)?;
            let shape = gradient.layout.shape().clone();
            let storage = Storage::Metal(gradient.storage);
            Some(Tensor::from_storage(
                storage,
                shape,
                BackpropOp::none(),
                false,
            ))
        };
        Ok(gradients.into_iter().zip(wanted).map(tensor).collect())
    }
}

fn view<'a>(op: &'static str, storage: &'a Storage, layout: &'a Layout) -> Result<View<'a>> {
    match storage {
        Storage::Metal(storage) => Ok(View { storage, layout }),
        _ => Err(not_on_metal(op)),
    }
}

/// For tensors of which [`check`](super::check) knows that they are.
fn not_on_metal(op: &'static str) -> Error {
    let (left, right) = (DeviceLocation::Metal { gpu_id: 0 }, DeviceLocation::Cpu);
    Error::DeviceMismatch { op, left, right }
}
