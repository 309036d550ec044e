//! How the kernels of `cross_entropy.metal` are called.

use candle_core::{DType, Layout, MetalStorage, Storage, Tensor};

use super::{LANES, Team, elementwise};
use crate::error::Result;
use crate::metal::library::{Kernel, Source, source};
use crate::metal::op::{Gradients, MetalOp, Pass, Stream};
use crate::metal::stream::Argument::{Read, Write};
use crate::metal::stream::Grid;
use crate::metal::view::{Owned, Rows, Shape, View, by_fours};
use crate::ops::cross_entropy::{CrossEntropy, OP, Targets};
use crate::ops::fused::Kept;

static SOURCE: Source = source!("cross_entropy", flags: 2, numbers: 2);

/// Up to so many logits, one threadgroup computes all rows. What it saves is a dispatch of a few microseconds; what it
/// costs is that one core of the GPU works alone, on this many elements for about as long. Not measured on a Mac.
const AT_ONCE: usize = 1 << 16;

/// `LossShape` of the kernels.
#[repr(C)]
#[derive(Clone, Copy)]
struct Parameters {
    shape: Shape,
    x: Rows,
    targets: Rows,
    dx: Rows,
    ignored: i64,
}

/// What both passes tell the kernels.
struct Call<'a> {
    stream: &'a Stream<'a>,
    x: View<'a>,
    targets: &'a MetalStorage,
    parameters: Parameters,
    flags: [bool; 2],
    index: u16,
}

impl CrossEntropy {
    /// Calls `encode` with views of the logits and of `dx`, a tensor of their shape.
    fn call<R>(
        &self,
        stream: &Stream<'_>,
        x: View<'_>,
        dx: Option<&Owned>,
        encode: impl FnOnce(&Call<'_>) -> Result<R>,
    ) -> Result<R> {
        let Targets::OnDevice(targets) = &self.targets else {
            return Err(candle_core::Error::BackwardNotSupported { op: OP }.into());
        };
        let (storage, layout) = targets.storage_and_layout();
        let Storage::Metal(storage) = &*storage else {
            return Err(candle_core::Error::BackwardNotSupported { op: OP }.into());
        };
        // As if each target were repeated for all classes.
        let strides = [layout.stride(), &[0]].concat();
        let repeated = Layout::new(x.layout.shape().clone(), strides, layout.start_offset());
        let targets = View {
            storage,
            layout: &repeated,
        };
        let dx = dx.map_or(x, Owned::view);
        stream.rows([x, targets, dx], x.last(), |shape, rows, views| {
            let fours = by_fours(&shape, &rows[..1]);
            let [x, targets, dx] = rows;
            encode(&Call {
                stream,
                x: views[0],
                targets: views[1].storage,
                parameters: Parameters {
                    shape,
                    x,
                    targets,
                    dx,
                    ignored: self.ignored.unwrap_or_default(),
                },
                flags: [fours, self.ignored.is_some()],
                index: match views[1].dtype() {
                    DType::U8 => 0,
                    DType::U32 => 1,
                    _ => 2,
                },
            })
        })
    }
}

impl Call<'_> {
    fn kernel(&self, function: &'static str, simdgroups: u16) -> Kernel {
        Kernel::new(&SOURCE, function, self.x.dtype())
            .flags(&self.flags)
            .numbers(&[simdgroups, self.index])
    }

    fn at_once(&self, mean: View<'_>, kept: &Owned) -> Result<()> {
        let shape = &self.parameters.shape;
        let kernel = self.kernel("cross_entropy_at_once", 1);
        let arguments = [
            Read(self.x.storage),
            Read(self.targets),
            Write(mean.storage),
            Write(&kept.storage),
        ];
        let simdgroups = shape.rows.min(16) as usize;
        let grid = Grid::line(1, simdgroups * LANES);
        self.stream
            .dispatch(&kernel, &arguments, &self.parameters, grid)
    }

    fn in_two(&self, mean: View<'_>, kept: &Owned) -> Result<()> {
        let shape = &self.parameters.shape;
        let losses = self.stream.output(&[shape.rows as usize, 2], DType::F32)?;
        let team = Team::of(shape.width);
        let kernel = self.kernel("cross_entropy_rows", team.simdgroups);
        let arguments = [
            Read(self.x.storage),
            Read(self.targets),
            Write(&kept.storage),
            Write(&losses.storage),
        ];
        let grid = team.grid(shape.rows);
        self.stream
            .dispatch(&kernel, &arguments, &self.parameters, grid)?;
        let team = Team::of(shape.rows);
        let kernel = self.kernel("cross_entropy_mean", team.simdgroups);
        let arguments = [
            Read(&losses.storage),
            Write(mean.storage),
            Write(&kept.storage),
        ];
        let grid = Grid::line(1, usize::from(team.simdgroups) * LANES);
        self.stream.dispatch(&kernel, &arguments, &shape.rows, grid)
    }

    fn gradient(&self, kept: &Owned, g: View<'_>, dx: &Owned) -> Result<()> {
        let kernel = self.kernel("cross_entropy_gradient", 1);
        let arguments = [
            Read(self.x.storage),
            Read(self.targets),
            Read(&kept.storage),
            Read(g.storage),
            Write(&dx.storage),
        ];
        let grid = elementwise(&self.parameters.shape);
        self.stream
            .dispatch(&kernel, &arguments, &self.parameters, grid)
    }
}

impl MetalOp for CrossEntropy {
    fn refuses(&self, operands: &[(&'static str, &Tensor)]) -> Option<&'static str> {
        let rank = operands.first().map_or(0, |(_, x)| x.rank());
        (rank > 4).then_some("logits have more than four dimensions")
    }

    fn encode(
        &self,
        stream: &Stream<'_>,
        arguments: &[View<'_>],
        _: bool,
        out: View<'_>,
    ) -> Result<Option<Kept>> {
        let [x] = arguments else { return Ok(None) };
        let kept = self.call(stream, *x, None, |call| {
            let rows = call.parameters.shape.rows as usize;
            // The logarithms of the rows' sums, and how many rows count.
            let kept = stream.output(&[rows + 1], DType::F32)?;
            match x.layout.shape().elem_count() <= AT_ONCE {
                true => call.at_once(out, &kept)?,
                false => call.in_two(out, &kept)?,
            }
            Ok(kept)
        })?;
        Ok(Some(Box::new(kept)))
    }

    fn encode_backward(&self, stream: &Stream<'_>, pass: &Pass<'_>) -> Result<Gradients> {
        let [x] = *pass.arguments else {
            return Ok(vec![]);
        };
        let kept: &Owned = pass.kept(OP)?;
        let dx = stream.fresh(x)?;
        // A scalar at an offset is rare, and cheap to copy.
        let moved = match pass.gradient.layout.start_offset() {
            0 => None,
            _ => Some(pass.gradient.copied()?),
        };
        let g = moved.as_ref().map_or(pass.gradient, Owned::view);
        self.call(stream, x, Some(&dx), |call| call.gradient(kept, g, &dx))?;
        Ok(vec![Some(dx)])
    }
}
