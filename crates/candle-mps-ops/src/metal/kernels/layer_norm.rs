//! How the kernels of `layer_norm.metal` are called.

use candle_core::DType;

use super::{Team, columns};
use crate::error::Result;
use crate::metal::library::{Kernel, Source, source};
use crate::metal::op::{Gradients, MetalOp, Pass, Stream};
use crate::metal::stream::Argument::{self, Absent, Read, Write};
use crate::metal::view::{self, Owned, Rows, Shape, Vector, View, by_fours};
use crate::ops::fused::Kept;
use crate::ops::layer_norm::LayerNorm;

static SOURCE: Source = source!("layer_norm", flags: 4, numbers: 1);

#[repr(C)]
#[derive(Clone, Copy)]
struct Parameters<const N: usize> {
    shape: Shape,
    rows: [Rows; N],
    weight: Vector,
    bias: Vector,
    eps: f32,
    inverse_width: f32,
}

impl LayerNorm {
    fn parameters<const N: usize>(
        &self,
        shape: Shape,
        rows: [Rows; N],
        [weight, bias]: [Vector; 2],
    ) -> Parameters<N> {
        Parameters {
            shape,
            rows,
            weight,
            bias,
            eps: self.eps as f32,
            inverse_width: (1. / f64::from(shape.width)) as f32,
        }
    }
}

fn written(owned: Option<&Owned>) -> Argument<'_> {
    owned.map_or(Absent, |owned| Write(&owned.storage))
}

impl MetalOp for LayerNorm {
    fn encode(
        &self,
        stream: &Stream<'_>,
        arguments: &[View<'_>],
        _: bool,
        out: View<'_>,
    ) -> Result<Option<Kept>> {
        let [x, weight, rest @ ..] = arguments else {
            return Ok(None);
        };
        let vectors = [Vector::of(Some(weight)), Vector::of(rest.first())];
        stream.rows([*x, out], x.last(), |shape, rows, [x, y]| {
            let team = Team::of(shape.width);
            let fours = by_fours(&shape, &rows) && vectors.iter().all(Vector::by_fours);
            let kernel = Kernel::new(&SOURCE, "layer_norm", x.dtype())
                .flags(&[!rest.is_empty(), fours])
                .numbers(&[team.simdgroups]);
            let arguments = [
                Read(x.storage),
                Read(weight.storage),
                rest.first().map_or(Absent, |bias| Read(bias.storage)),
                Write(y.storage),
            ];
            let parameters = self.parameters(shape, rows, vectors);
            stream.dispatch(&kernel, &arguments, &parameters, team.grid(shape.rows))
        })?;
        Ok(None)
    }

    fn encode_backward(&self, stream: &Stream<'_>, pass: &Pass<'_>) -> Result<Gradients> {
        let [x, weight, rest @ ..] = pass.arguments else {
            return Ok(vec![]);
        };
        let fresh = |at: usize, view: &View<'_>| pass.wants(at).then(|| stream.fresh(*view));
        let dx = stream.fresh(*x)?;
        let dw = fresh(1, weight).transpose()?;
        let db = rest.first().and_then(|bias| fresh(2, bias)).transpose()?;
        let vectors = [Vector::of(Some(weight)), Vector::of(None)];
        let all = [*x, pass.gradient, dx.view()];
        stream.rows(all, x.last(), |shape, rows, [x, g, dx]| {
            let kept = match &dw {
                // Mean and 1/√variance of each row.
                Some(_) => Some(stream.output(&[shape.rows as usize, 2], DType::F32)?),
                None => None,
            };
            let team = Team::of(shape.width);
            let fours = by_fours(&shape, &rows) && vectors[0].by_fours();
            let kernel = Kernel::new(&SOURCE, "layer_norm_gradient", x.dtype())
                .flags(&[false, fours, kept.is_some()])
                .numbers(&[team.simdgroups]);
            let arguments = [
                Read(x.storage),
                Read(g.storage),
                Read(weight.storage),
                Write(dx.storage),
                written(kept.as_ref()),
            ];
            let parameters = self.parameters(shape, rows, vectors);
            stream.dispatch(&kernel, &arguments, &parameters, team.grid(shape.rows))?;
            if dw.is_none() && db.is_none() {
                return Ok(());
            }
            let kernel = Kernel::new(&SOURCE, "layer_norm_weight_gradient", x.dtype()).flags(&[
                db.is_some(),
                false,
                false,
                dw.is_some(),
            ]);
            let arguments = [
                kept.as_ref().map_or(Absent, |_| Read(x.storage)),
                Read(g.storage),
                kept.as_ref().map_or(Absent, |kept| Read(&kept.storage)),
                written(dw.as_ref()),
                written(db.as_ref()),
            ];
            let [x, g, _] = rows;
            let parameters = view::Parameters {
                shape,
                rows: [x, g],
            };
            stream.dispatch(&kernel, &arguments, &parameters, columns::grid(&shape))
        })?;
        Ok(vec![Some(dx), dw, db])
    }
}
