//! Products by the kernels of `matmul.metal`, and the op [`Matmul`].

use candle_core::{Layout, Tensor};

use super::product::{self, Call, Epilogue};
use crate::error::Result;
use crate::metal::dispatch::Size;
use crate::metal::library::{Kernel, Source, source};
use crate::metal::op::{Gradients, MetalOp, Pass, Stream};
use crate::metal::stream::Grid;
use crate::metal::view::View;
use crate::ops::fused::Kept;
use crate::ops::matmul::Matmul;

static SOURCE: Source = source!("matmul", with: ["tile", "product"], flags: 11, numbers: 2);

/// Threadgroups that are enough for a GPU: with fewer large ones, small ones are better. A guess, not measured.
const ENOUGH: usize = 32;

/// The kernel by tiles.
pub(super) fn kernel(call: &Call<'_>) -> (Kernel, Grid) {
    let (rows, columns) = (call.parameters.rows, call.parameters.columns);
    let groups = |size: usize| {
        let [rows, columns] = [rows, columns].map(|count| (count as usize).div_ceil(size));
        [columns, rows, call.products]
    };
    let large = rows.min(columns) >= 64 && groups(64).iter().product::<usize>() >= ENOUGH;
    let (function, size) = match large {
        true => ("matmul_64", 64),
        false => ("matmul_32", 32),
    };
    let grid = Grid {
        groups: groups(size),
        threads: 128,
    };
    (call.kernel(&SOURCE, function, 0), grid)
}

impl MetalOp for Matmul {
    fn size(&self, operands: &[(&'static str, &Tensor)]) -> Size {
        let [(_, a), (_, b)] = operands else {
            return Size::elements(operands);
        };
        let (front, a) = a.dims().split_at(a.rank() - 2);
        let columns = b.dims()[b.rank() - 1];
        Size::Product {
            rows: a[0],
            inner: a[1],
            columns,
            count: front.iter().product(),
        }
    }

    fn encode(
        &self,
        stream: &Stream<'_>,
        arguments: &[View<'_>],
        _: bool,
        out: View<'_>,
    ) -> Result<Option<Kept>> {
        if let [a, b] = *arguments {
            product::encode(stream, [a, b, out], &Epilogue::default())?;
        }
        Ok(None)
    }

    fn encode_backward(&self, stream: &Stream<'_>, pass: &Pass<'_>) -> Result<Gradients> {
        let [a, b] = *pass.arguments else {
            return Ok(vec![]);
        };
        let g = pass.gradient;
        let mut gradients = vec![None, None];
        if pass.wants(0) {
            let (da, turned) = (stream.fresh(a)?, turned(b.layout)?);
            let b = b.with(&turned);
            product::encode(stream, [g, b, da.view()], &Epilogue::default())?;
            gradients[0] = Some(da);
        }
        if pass.wants(1) {
            let (db, turned) = (stream.fresh(b)?, turned(a.layout)?);
            let a = a.with(&turned);
            product::encode(stream, [a, g, db.view()], &Epilogue::default())?;
            gradients[1] = Some(db);
        }
        Ok(gradients)
    }
}

/// With the last two dimensions swapped.
pub(super) fn turned(layout: &Layout) -> Result<Layout> {
    let rank = layout.dims().len();
    Ok(layout.transpose(rank - 2, rank - 1)?)
}
