//! How the kernels of `softmax.metal` are called.

use super::Team;
use crate::error::Result;
use crate::metal::library::{Kernel, Source, source};
use crate::metal::op::{Gradients, MetalOp, Pass, Stream};
use crate::metal::stream::Argument::{Read, Write};
use crate::metal::view::{Parameters, View, by_fours};
use crate::ops::fused::Kept;
use crate::ops::softmax::Softmax;

static SOURCE: Source = source!("softmax", flags: 2, numbers: 1);

impl<const LOG: bool> MetalOp for Softmax<LOG> {
    fn encode(
        &self,
        stream: &Stream<'_>,
        arguments: &[View<'_>],
        _: bool,
        out: View<'_>,
    ) -> Result<Option<Kept>> {
        let [x] = arguments else { return Ok(None) };
        stream.rows([*x, out], self.0, |shape, rows, [x, y]| {
            let team = Team::of(shape.width);
            let kernel = Kernel::new(&SOURCE, "softmax", x.dtype())
                .flags(&[LOG, by_fours(&shape, &rows)])
                .numbers(&[team.simdgroups]);
            let arguments = [Read(x.storage), Write(y.storage)];
            let parameters = Parameters { shape, rows };
            stream.dispatch(&kernel, &arguments, &parameters, team.grid(shape.rows))
        })?;
        Ok(None)
    }

    fn encode_backward(&self, stream: &Stream<'_>, pass: &Pass<'_>) -> Result<Gradients> {
        let dx = stream.fresh(pass.arguments[0])?;
        let all = [pass.result, pass.gradient, dx.view()];
        stream.rows(all, self.0, |shape, rows, [y, g, dx]| {
            let team = Team::of(shape.width);
            let kernel = Kernel::new(&SOURCE, "softmax_gradient", y.dtype())
                .flags(&[LOG, by_fours(&shape, &rows)])
                .numbers(&[team.simdgroups]);
            let arguments = [Read(y.storage), Read(g.storage), Write(dx.storage)];
            let parameters = Parameters { shape, rows };
            stream.dispatch(&kernel, &arguments, &parameters, team.grid(shape.rows))
        })?;
        Ok(vec![Some(dx)])
    }
}
