//! What an op does on Metal: the counterpart of `Op` in `ops/fused.rs`, which puts both into Candle's graph.

use candle_core::{DType, Layout, MetalDevice, Tensor};

use super::dispatch::Size;
use super::library::Kernel;
use super::stream::{self, Argument, Grid};
use super::view::{self, Owned, Rows, Shape, View};
use crate::error::Result;
use crate::ops::fused::Kept;

/// An op with kernels.
pub(crate) trait MetalOp {
    /// Why the kernels do not take these operands, if so. Their types have been checked.
    fn refuses(&self, operands: &[(&'static str, &Tensor)]) -> Option<&'static str> {
        let _ = operands;
        None
    }

    /// How much work it is, for the table of routes.
    fn size(&self, operands: &[(&'static str, &Tensor)]) -> Size {
        Size::elements(operands)
    }

    /// Encodes the forward pass. No argument is empty, and neither is the result, which is row-major.
    /// If `keep`, there will be a backward pass, and what is returned goes there.
    fn encode(
        &self,
        stream: &Stream<'_>,
        arguments: &[View<'_>],
        keep: bool,
        out: View<'_>,
    ) -> Result<Option<Kept>>;

    /// Encodes the backward pass. The gradients of the arguments are row-major; those that are not wanted are ignored.
    fn encode_backward(&self, stream: &Stream<'_>, pass: &Pass<'_>) -> Result<Gradients>;
}

/// Those of the arguments, in their order.
pub(crate) type Gradients = Vec<Option<Owned>>;

/// What a backward pass gets.
pub(crate) struct Pass<'a> {
    pub(crate) arguments: &'a [View<'a>],
    /// The gradient of the result. Any layout: that of a sum repeats one element.
    pub(crate) gradient: View<'a>,
    /// The result of the forward pass.
    pub(crate) result: View<'a>,
    /// For each argument, whether its gradient is wanted.
    pub(crate) wanted: &'a [bool],
    /// What the forward pass has kept.
    pub(crate) kept: Option<&'a Kept>,
}

impl Pass<'_> {
    /// Whether the gradient of this argument is wanted; that of one that is not there is not.
    pub(crate) fn wants(&self, at: usize) -> bool {
        self.wanted.get(at).is_some_and(|wanted| *wanted)
    }

    /// What the forward pass has kept, as the type that it was.
    pub(crate) fn kept<K: 'static>(&self, op: &'static str) -> Result<&K> {
        self.kept
            .and_then(|kept| kept.downcast_ref())
            .ok_or_else(|| candle_core::Error::BackwardNotSupported { op }.into())
    }
}

/// Where the work goes: a Candle device's encoder and its pool.
#[derive(Clone, Copy)]
pub(crate) struct Stream<'a> {
    pub(crate) device: &'a MetalDevice,
}

impl Stream<'_> {
    /// Memory for a gradient: row-major, of the type and dimensions of `like`.
    pub(crate) fn fresh(&self, like: View<'_>) -> Result<Owned> {
        self.output(like.layout.dims(), like.dtype())
    }

    /// Memory for a result or for something on the way to it.
    pub(crate) fn output(&self, dims: &[usize], dtype: DType) -> Result<Owned> {
        let layout = Layout::contiguous(dims);
        let count = layout.shape().elem_count();
        let storage = stream::output(self.device, count, dtype)?;
        Ok(Owned { storage, layout })
    }

    /// Encodes a dispatch.
    pub(crate) fn dispatch<P: Copy>(
        &self,
        kernel: &Kernel,
        arguments: &[Argument<'_>],
        parameters: &P,
        grid: Grid,
    ) -> Result<()> {
        stream::dispatch(self.device, kernel, arguments, parameters, grid)
    }

    /// Calls `encode` with the rows of all views along `axis`, and with the views. Views of one shape; all but the
    /// last, which is the result and row-major, are copied if no strides express them together.
    pub(crate) fn rows<const N: usize>(
        &self,
        views: [View<'_>; N],
        axis: usize,
        encode: impl FnOnce(Shape, [Rows; N], [View<'_>; N]) -> Result<()>,
    ) -> Result<()> {
        if let Some((shape, rows)) = view::rows(views.map(|view| view.layout), axis) {
            return encode(shape, rows, views);
        }
        let copies = views[..N - 1].iter().map(View::copied);
        let copies = copies.collect::<Result<Vec<_>>>()?;
        let plain: [View<'_>; N] =
            std::array::from_fn(|at| copies.get(at).map_or(views[at], Owned::view));
        match view::rows(plain.map(|view| view.layout), axis) {
            Some((shape, rows)) => encode(shape, rows, plain),
            None => Err(super::too_long(views[0].layout)),
        }
    }
}
