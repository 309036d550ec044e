//! How the kernel of `rope.metal` is called.

use candle_core::Tensor;
use candle_mps_cpu::rope::Pairs;

use super::LANES;
use crate::error::Result;
use crate::metal::library::{Kernel, Source, source};
use crate::metal::op::{Gradients, MetalOp, Pass, Stream};
use crate::metal::stream::Argument::{Read, Write};
use crate::metal::stream::Grid;
use crate::metal::view::View;
use crate::ops::fused::Kept;
use crate::ops::rope::Rope;

static SOURCE: Source = source!("rope", flags: 2, numbers: 0);

/// `RopeShape` of the kernel.
#[repr(C)]
#[derive(Clone, Copy)]
struct Parameters {
    dims: [u32; 4],
    starts: [u64; 3],
    strides: [[u64; 4]; 3],
}

impl Rope {
    /// Turns `x` by the angles, or back, into `out`, which is row-major.
    fn turn(
        &self,
        stream: &Stream<'_>,
        back: bool,
        [x, cos, sin]: [View<'_>; 3],
        out: View<'_>,
    ) -> Result<()> {
        let kernel = Kernel::new(&SOURCE, "rope", x.dtype())
            .flags(&[matches!(self.pairs, Pairs::Neighbours), back]);
        // The op has checked that all have four dimensions, and that they fit 32 bits.
        let four = |sizes: &[usize]| [0, 1, 2, 3].map(|at| sizes.get(at).copied().unwrap_or(0));
        let dims = four(cos.layout.dims());
        let views = [x, cos, sin];
        let parameters = Parameters {
            dims: dims.map(|dim| dim as u32),
            starts: views.map(|view| view.layout.start_offset() as u64),
            strides: views.map(|view| four(view.layout.stride()).map(|stride| stride as u64)),
        };
        let [outer, middle, inner, pairs] = dims;
        let threads = pairs.next_multiple_of(LANES).min(256);
        let grid = Grid {
            groups: [pairs.div_ceil(threads), outer * middle * inner, 1],
            threads,
        };
        let arguments = [
            Read(x.storage),
            Read(cos.storage),
            Read(sin.storage),
            Write(out.storage),
        ];
        stream.dispatch(&kernel, &arguments, &parameters, grid)
    }
}

impl MetalOp for Rope {
    fn refuses(&self, operands: &[(&'static str, &Tensor)]) -> Option<&'static str> {
        let trained = operands.iter().skip(1).any(|(_, angles)| angles.track_op());
        trained.then_some("the angles are trained")
    }

    fn encode(
        &self,
        stream: &Stream<'_>,
        arguments: &[View<'_>],
        _: bool,
        out: View<'_>,
    ) -> Result<Option<Kept>> {
        if let [x, cos, sin] = *arguments {
            self.turn(stream, false, [x, cos, sin], out)?;
        }
        Ok(None)
    }

    fn encode_backward(&self, stream: &Stream<'_>, pass: &Pass<'_>) -> Result<Gradients> {
        let [x, cos, sin] = *pass.arguments else {
            return Ok(vec![]);
        };
        let dx = stream.fresh(x)?;
        self.turn(stream, true, [pass.gradient, cos, sin], dx.view())?;
        Ok(vec![Some(dx)])
    }
}
