//! How the kernels of `glu.metal` are called, for both gated units.

use candle_mps_cpu::geglu::Gelu;

use super::elementwise;
use crate::error::Result;
use crate::metal::library::{Kernel, Source, source};
use crate::metal::op::{Gradients, MetalOp, Pass, Stream};
use crate::metal::stream::Argument::{Read, Write};
use crate::metal::view::{Parameters, View, by_fours};
use crate::ops::fused::Kept;
use crate::ops::geglu::GeGlu;
use crate::ops::swiglu::SwiGlu;

static SOURCE: Source = source!("glu", with: ["gates"], flags: 1, numbers: 1);

/// The function of the gate, as `glu.metal` numbers it.
#[derive(Clone, Copy)]
enum Unit {
    Silu = 0,
    Tanh = 1,
    Gelu = 2,
}

fn forward(
    unit: Unit,
    stream: &Stream<'_>,
    arguments: &[View<'_>],
    out: View<'_>,
) -> Result<Option<Kept>> {
    let [gate, up] = arguments else {
        return Ok(None);
    };
    stream.elements([*gate, *up, out], |shape, rows, [gate, up, y]| {
        let kernel = Kernel::new(&SOURCE, "glu", y.dtype())
            .flags(&[by_fours(&shape, &rows)])
            .numbers(&[unit as u16]);
        let arguments = [Read(gate.storage), Read(up.storage), Write(y.storage)];
        let parameters = Parameters { shape, rows };
        stream.dispatch(&kernel, &arguments, &parameters, elementwise(&shape))
    })?;
    Ok(None)
}

fn backward(unit: Unit, stream: &Stream<'_>, pass: &Pass<'_>) -> Result<Gradients> {
    let [gate, up] = pass.arguments else {
        return Ok(vec![]);
    };
    let (dgate, dup) = (stream.fresh(*gate)?, stream.fresh(*up)?);
    let all = [*gate, *up, pass.gradient, dgate.view(), dup.view()];
    stream.elements(all, |shape, rows, [gate, up, g, dgate, dup]| {
        let kernel = Kernel::new(&SOURCE, "glu_gradient", g.dtype())
            .flags(&[by_fours(&shape, &rows)])
            .numbers(&[unit as u16]);
        let arguments = [
            Read(gate.storage),
            Read(up.storage),
            Read(g.storage),
            Write(dgate.storage),
            Write(dup.storage),
        ];
        let parameters = Parameters { shape, rows };
        stream.dispatch(&kernel, &arguments, &parameters, elementwise(&shape))
    })?;
    Ok(vec![Some(dgate), Some(dup)])
}

impl MetalOp for SwiGlu {
    fn encode(
        &self,
        stream: &Stream<'_>,
        arguments: &[View<'_>],
        _: bool,
        out: View<'_>,
    ) -> Result<Option<Kept>> {
        forward(Unit::Silu, stream, arguments, out)
    }

    fn encode_backward(&self, stream: &Stream<'_>, pass: &Pass<'_>) -> Result<Gradients> {
        backward(Unit::Silu, stream, pass)
    }
}

impl GeGlu {
    fn unit(&self) -> Unit {
        match self.0 {
            Gelu::Tanh => Unit::Tanh,
            Gelu::Exact => Unit::Gelu,
        }
    }
}

impl MetalOp for GeGlu {
    fn encode(
        &self,
        stream: &Stream<'_>,
        arguments: &[View<'_>],
        _: bool,
        out: View<'_>,
    ) -> Result<Option<Kept>> {
        forward(self.unit(), stream, arguments, out)
    }

    fn encode_backward(&self, stream: &Stream<'_>, pass: &Pass<'_>) -> Result<Gradients> {
        backward(self.unit(), stream, pass)
    }
}
