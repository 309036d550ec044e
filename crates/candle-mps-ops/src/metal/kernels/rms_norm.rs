//! How the kernels of `rms_norm.metal` are called.

use candle_core::DType;

use super::{Team, columns};
use crate::error::Result;
use crate::metal::library::{Kernel, Source, source};
use crate::metal::op::{Gradients, MetalOp, Pass, Stream};
use crate::metal::stream::Argument::{Absent, Read, Write};
use crate::metal::view::{self, Rows, Shape, Vector, View, by_fours};
use crate::ops::fused::Kept;
use crate::ops::rms_norm::RmsNorm;

static SOURCE: Source = source!("rms_norm", flags: 3, numbers: 1);

#[repr(C)]
#[derive(Clone, Copy)]
struct Parameters<const N: usize> {
    shape: Shape,
    rows: [Rows; N],
    weight: Vector,
    eps: f32,
    inverse_width: f32,
}

impl RmsNorm {
    fn parameters<const N: usize>(
        &self,
        shape: Shape,
        rows: [Rows; N],
        weight: Vector,
    ) -> Parameters<N> {
        Parameters {
            shape,
            rows,
            weight,
            eps: self.eps as f32,
            inverse_width: (1. / f64::from(shape.width)) as f32,
        }
    }
}

impl MetalOp for RmsNorm {
    fn encode(
        &self,
        stream: &Stream<'_>,
        arguments: &[View<'_>],
        _: bool,
        out: View<'_>,
    ) -> Result<Option<Kept>> {
        let [x, rest @ ..] = arguments else {
            return Ok(None);
        };
        let weight = Vector::of(rest.first());
        stream.rows([*x, out], x.last(), |shape, rows, [x, y]| {
            let team = Team::of(shape.width);
            let fours = by_fours(&shape, &rows) && weight.by_fours();
            let kernel = Kernel::new(&SOURCE, "rms_norm", x.dtype())
                .flags(&[!rest.is_empty(), fours])
                .numbers(&[team.simdgroups]);
            let its = rest.first().map_or(Absent, |weight| Read(weight.storage));
            let arguments = [Read(x.storage), its, Write(y.storage)];
            let parameters = self.parameters(shape, rows, weight);
            stream.dispatch(&kernel, &arguments, &parameters, team.grid(shape.rows))
        })?;
        Ok(None)
    }

    fn encode_backward(&self, stream: &Stream<'_>, pass: &Pass<'_>) -> Result<Gradients> {
        let [x, rest @ ..] = pass.arguments else {
            return Ok(vec![]);
        };
        let weight = Vector::of(rest.first());
        let dx = stream.fresh(*x)?;
        let dw = rest.first().filter(|_| pass.wants(1));
        let dw = dw.map(|weight| stream.fresh(*weight)).transpose()?;
        let all = [*x, pass.gradient, dx.view()];
        stream.rows(all, x.last(), |shape, rows, [x, g, dx]| {
            let kept = match &dw {
                Some(_) => Some(stream.output(&[shape.rows as usize], DType::F32)?),
                None => None,
            };
            let team = Team::of(shape.width);
            let fours = by_fours(&shape, &rows) && weight.by_fours();
            let kernel = Kernel::new(&SOURCE, "rms_norm_gradient", x.dtype())
                .flags(&[!rest.is_empty(), fours, kept.is_some()])
                .numbers(&[team.simdgroups]);
            let arguments = [
                Read(x.storage),
                Read(g.storage),
                rest.first().map_or(Absent, |weight| Read(weight.storage)),
                Write(dx.storage),
                kept.as_ref().map_or(Absent, |kept| Write(&kept.storage)),
            ];
            let parameters = self.parameters(shape, rows, weight);
            stream.dispatch(&kernel, &arguments, &parameters, team.grid(shape.rows))?;
            let (Some(kept), Some(dw)) = (&kept, &dw) else {
                return Ok(());
            };
            let kernel = Kernel::new(&SOURCE, "rms_norm_weight_gradient", x.dtype());
            let arguments = [
                Read(x.storage),
                Read(g.storage),
                Read(&kept.storage),
                Write(&dw.storage),
            ];
            let [x, g, _] = rows;
            let parameters = view::Parameters {
                shape,
                rows: [x, g],
            };
            stream.dispatch(&kernel, &arguments, &parameters, columns::grid(&shape))
        })?;
        Ok(vec![Some(dx), dw])
    }
}
