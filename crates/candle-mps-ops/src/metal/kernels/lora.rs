//! The op [`Lora`]: the kernels of `lora.metal`, and products that take up what they leave.
//!
//! The correction alone is one dispatch. With the linear layer there are two: t = s · (x · A), and the product with W,
//! whose sums go on with t · B before they are rounded. The gradient of x is made in the same way, with
//! u = s · (g · Bᵀ) in the place of t.

use candle_core::{DType, Layout, Tensor};

use super::matmul::turned;
use super::product::{self, Epilogue, Operand, Reading};
use super::{columns, linear, plan};
use crate::error::Result;
use crate::metal::dispatch::Size;
use crate::metal::library::{Kernel, Source, source};
use crate::metal::op::{Gradients, MetalOp, Pass, Stream};
use crate::metal::stream::Argument::{Absent, Read, Write};
use crate::metal::stream::Grid;
use crate::metal::too_long;
use crate::metal::view::{Owned, View};
use crate::ops::fused::Kept;
use crate::ops::lora::Lora;

static SOURCE: Source = source!("lora", with: ["tile"], flags: 7, numbers: 1);

/// As in `lora.metal`.
const MOST_RANK: usize = 64;
const CHUNK: usize = 16;
const THREADS: usize = 256;

/// With more rows than these, they go by blocks of eight.
const SINGLE_ROWS: usize = 4;

/// Threadgroups that are enough for a GPU. A guess, not measured.
const ENOUGH: usize = 32;

impl<const FULL: bool> MetalOp for Lora<FULL> {
    fn refuses(&self, operands: &[(&'static str, &Tensor)]) -> Option<&'static str> {
        let rank = operands.get(1).map_or(0, |(_, a)| a.dims()[1]);
        (rank > MOST_RANK).then_some("the rank is above 64")
    }

    fn size(&self, operands: &[(&'static str, &Tensor)]) -> Size {
        match operands {
            [(_, x), _, (_, b), ..] => linear::size(x, b.dims()[1]),
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
        let [x, a, b, ref base @ ..] = *arguments else {
            return Ok(None);
        };
        let x = plan::matrix(x)?;
        let [w, bias @ ..] = base else {
            self.encode_low(stream, x.view(), a, Some(b), out)?;
            return Ok(None);
        };
        let t = self.low(stream, x.view(), a)?;
        let w_turned = turned(w.layout)?;
        let w = w.with(&w_turned);
        let epilogue = Epilogue {
            bias: bias.first().copied(),
            more: Some([t.view(), b]),
            ..Epilogue::default()
        };
        let y = plan::matrix(out)?;
        product::encode(stream, [x.view(), w, y.view()], &epilogue)?;
        Ok(keep.then(|| Box::new(t) as Kept))
    }

    fn encode_backward(&self, stream: &Stream<'_>, pass: &Pass<'_>) -> Result<Gradients> {
        let [x, a, b, ref base @ ..] = *pass.arguments else {
            return Ok(vec![]);
        };
        let (x, g) = (plan::matrix(x)?, plan::matrix(pass.gradient)?);
        let (x, g, plain) = (x.view(), g.view(), Epilogue::default());
        let gradient = |at: usize| -> Result<Option<Owned>> {
            let wanted = pass.wants(at).then(|| stream.fresh(pass.arguments[at]));
            wanted.transpose()
        };
        let (dx, da, db, dw) = (gradient(0)?, gradient(1)?, gradient(2)?, gradient(3)?);
        if dx.is_some() || da.is_some() {
            let b_turned = turned(b.layout)?;
            let b = b.with(&b_turned);
            let u = self.low(stream, g, b)?;
            if let Some(dx) = &dx {
                let a_turned = turned(a.layout)?;
                let a = a.with(&a_turned);
                let dx = plan::matrix(dx.view())?;
                match base.first() {
                    Some(w) => {
                        let epilogue = Epilogue {
                            more: Some([u.view(), a]),
                            ..plain
                        };
                        product::encode(stream, [g, *w, dx.view()], &epilogue)?;
                    }
                    None => product::encode(stream, [u.view(), a, dx.view()], &plain)?,
                }
            }
            if let Some(da) = &da {
                transposed_product(stream, x, u.view(), da.view())?;
            }
        }
        if let Some(db) = &db {
            let kept = pass.kept.and_then(|kept| kept.downcast_ref::<Owned>());
            let t = match kept {
                Some(t) => t.clone(),
                None => self.low(stream, x, a)?,
            };
            transposed_product(stream, t.view(), g, db.view())?;
        }
        if let Some(dw) = &dw {
            transposed_product(stream, g, x, dw.view())?;
        }
        let dbias = pass.wants(4).then(|| columns::sums(stream, g));
        Ok(vec![dx, da, db, dw, dbias.transpose()?])
    }
}

/// C = Aᵀ · B, the sum over rows.
fn transposed_product(stream: &Stream<'_>, a: View<'_>, b: View<'_>, c: View<'_>) -> Result<()> {
    let turned = turned(a.layout)?;
    let a = a.with(&turned);
    product::encode(stream, [a, b, c], &Epilogue::default())
}

impl<const FULL: bool> Lora<FULL> {
    /// s · (x · a), in f32.
    fn low(&self, stream: &Stream<'_>, x: View<'_>, a: View<'_>) -> Result<Owned> {
        let dims = [x.layout.dims()[0], a.layout.dims()[1]];
        let t = stream.output(&dims, DType::F32)?;
        self.encode_low(stream, x, a, None, t.view())?;
        Ok(t)
    }

    /// s · (x · a) · b, or without b what is in front of it.
    fn encode_low(
        &self,
        stream: &Stream<'_>,
        x: View<'_>,
        a: View<'_>,
        b: Option<View<'_>>,
        out: View<'_>,
    ) -> Result<()> {
        let ([rows, inner], rank) = (two(x.layout), a.layout.dims()[1]);
        let columns = b.map_or(1, |b| b.layout.dims()[1]);
        let (function, blocks, block) = match rows <= SINGLE_ROWS {
            true => ("lora_row", rows, 4 * THREADS),
            false => {
                let blocks = rows.div_ceil(8);
                // Several threadgroups may share the columns, but each computes t: not for fewer than 256.
                let share = (ENOUGH / blocks).clamp(1, columns.div_ceil(256));
                let block = columns.div_ceil(share).next_multiple_of(128);
                ("lora_block", blocks, block)
            }
        };
        let number = |size: usize| u32::try_from(size).map_err(|_| too_long(x.layout));
        let parameters = Parameters {
            x: Operand::rows(x.layout),
            a: Operand::columns(a.layout),
            b: b.map_or_else(Operand::default, |b| Operand::columns(b.layout)),
            rows: number(rows)?,
            inner: number(inner)?,
            rank: number(rank)?,
            columns: number(columns)?,
            block: number(block)?,
            scale: self.scaling as f32,
        };
        let p = &parameters;
        let readings = [
            Reading::of(&p.x, p.rows, p.inner),
            Reading::of(&p.a, p.rank, p.inner),
            Reading::of(&p.b, p.columns, p.rank),
        ];
        let [x_flags, a_flags, b_flags] = readings.map(|it| [it.along_lines, it.fours]);
        let flags = [&x_flags[..], &a_flags, &b_flags, &[b.is_some()]].concat();
        let kernel = Kernel::new(&SOURCE, function, x.dtype())
            .flags(&flags)
            .numbers(&[rank.div_ceil(CHUNK) as u16]);
        let arguments = [
            Read(x.storage),
            Read(a.storage),
            b.map_or(Absent, |b| Read(b.storage)),
            Write(out.storage),
        ];
        let grid = Grid {
            groups: [columns.div_ceil(block), blocks, 1],
            threads: THREADS,
        };
        stream.dispatch(&kernel, &arguments, &parameters, grid)
    }
}

/// The dimensions of a matrix.
fn two(layout: &Layout) -> [usize; 2] {
    [layout.dims()[0], layout.dims()[1]]
}

/// `LoraShape` of `lora.metal`.
#[repr(C)]
#[derive(Clone, Copy)]
struct Parameters {
    x: Operand,
    a: Operand,
    b: Operand,
    rows: u32,
    inner: u32,
    rank: u32,
    columns: u32,
    block: u32,
    scale: f32,
}
