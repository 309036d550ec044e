//! The op [`Linear`]: a product with a bias and an activation in its epilogue, and the kernel of `linear.metal`, which
//! begins its backward pass.

use candle_core::{Layout, Tensor};

use super::matmul::turned;
use super::product::{self, Epilogue};
use super::{columns, elementwise, plan};
use crate::error::Result;
use crate::metal::dispatch::Size;
use crate::metal::library::{Kernel, Source, source};
use crate::metal::op::{Gradients, MetalOp, Pass, Stream};
use crate::metal::stream::Argument::{Read, Write};
use crate::metal::view::{Owned, Parameters, View, by_fours};
use crate::ops::Activation;
use crate::ops::fused::Kept;
use crate::ops::linear::{self, Linear, Rest};

static SOURCE: Source = source!("linear", with: ["gates"], flags: 1, numbers: 1);

impl MetalOp for Linear {
    fn size(&self, operands: &[(&'static str, &Tensor)]) -> Size {
        match operands {
            [(_, x), (_, weight), ..] => size(x, weight.dims()[0]),
            _ => Size::elements(operands),
        }
    }

    fn encode(
        &self,
        stream: &Stream<'_>,
        arguments: &[View<'_>],
        keep: bool,
        out: View<'_>,
    ) -> Result<Option<Kept>> {
        let [x, weight, ref rest @ ..] = *arguments else {
            return Ok(None);
        };
        let (rows, weight_turned, out_rows) = (
            as_rows(x.layout),
            turned(weight.layout)?,
            as_rows(out.layout),
        );
        let Rest { bias, residual } = self.rest(rest);
        let copied = residual.filter(|it| !it.layout.is_contiguous());
        let copied = copied.map(View::copied).transpose()?;
        let needs_z = matches!(self.activation, Activation::Gelu | Activation::Silu);
        let z = (keep && needs_z).then(|| stream.fresh(out)).transpose()?;
        let epilogue = Epilogue {
            bias: bias.copied(),
            activation: self.activation,
            keep: z.as_ref(),
            more: None,
            added: copied.as_ref().map(Owned::view).or(residual.copied()),
        };
        let operands = [
            x.with(&rows),
            weight.with(&weight_turned),
            out.with(&out_rows),
        ];
        product::encode(stream, operands, &epilogue)?;
        Ok(z.map(|z| Box::new(z) as Kept))
    }

    fn encode_backward(&self, stream: &Stream<'_>, pass: &Pass<'_>) -> Result<Gradients> {
        let [x, weight, ref rest @ ..] = *pass.arguments else {
            return Ok(vec![]);
        };
        let u = before_activation(self.activation, stream, pass)?;
        let u = u.as_ref().map_or(pass.gradient, Owned::view);
        let (u_rows, x_rows) = (as_rows(u.layout), as_rows(x.layout));
        let plain = Epilogue::default();
        let mut gradients = vec![None; pass.arguments.len()];
        if pass.wants(0) {
            let dx = stream.fresh(x)?;
            let (u, dx_rows) = (u.with(&u_rows), as_rows(&dx.layout));
            let to = dx.view().with(&dx_rows);
            product::encode(stream, [u, weight, to], &plain)?;
            gradients[0] = Some(dx);
        }
        if pass.wants(1) {
            let (dw, u_columns) = (stream.fresh(weight)?, turned(&u_rows)?);
            let (u, x) = (u.with(&u_columns), x.with(&x_rows));
            product::encode(stream, [u, x, dw.view()], &plain)?;
            gradients[1] = Some(dw);
        }
        let Rest { bias, residual } = self.rest(rest);
        if bias.is_some() && pass.wants(2) {
            let u = plan::matrix(u)?;
            gradients[2] = Some(columns::sums(stream, u.view())?);
        }
        let last = gradients.len() - 1;
        if residual.is_some() && pass.wants(last) {
            gradients[last] = Some(pass.gradient.row_major()?);
        }
        Ok(gradients)
    }
}

/// u = g · act'(z), if there is an activation.
fn before_activation(
    activation: Activation,
    stream: &Stream<'_>,
    pass: &Pass<'_>,
) -> Result<Option<Owned>> {
    let z = match activation {
        Activation::None => return Ok(None),
        Activation::Relu => pass.result,
        Activation::Gelu | Activation::Silu => pass.kept::<Owned>(linear::OP)?.view(),
    };
    let u = stream.fresh(z)?;
    let all = [z, pass.gradient, u.view()];
    stream.elements(all, |shape, rows, [z, g, u]| {
        let kernel = Kernel::new(&SOURCE, "before_activation", z.dtype())
            .flags(&[by_fours(&shape, &rows)])
            .numbers(&[product::number_of(activation)]);
        let grid = elementwise(&shape);
        let arguments = [Read(z.storage), Read(g.storage), Write(u.storage)];
        stream.dispatch(&kernel, &arguments, &Parameters { shape, rows }, grid)
    })?;
    Ok(Some(u))
}

/// The size of a product of the rows of `x`.
pub(super) fn size(x: &Tensor, columns: usize) -> Size {
    let inner = x.dims()[x.rank() - 1];
    Size::Product {
        rows: x.elem_count() / inner.max(1),
        inner,
        columns,
        count: 1,
    }
}

/// The last dimension as the only row of a matrix, for each index of those in front.
fn as_rows(layout: &Layout) -> Layout {
    let (mut dims, mut strides) = (layout.dims().to_vec(), layout.stride().to_vec());
    dims.insert(dims.len() - 1, 1);
    strides.insert(strides.len() - 1, 0);
    Layout::new(dims.into(), strides, layout.start_offset())
}
