//! Products of matrices as `product.metal` describes them, and by which kernel they are computed.

use candle_core::{DType, Layout};

use super::plan::{Dim, Plan, regular};
use super::{gemv, matmul};
use crate::error::Result;
use crate::metal::library::{Kernel, Source};
use crate::metal::op::Stream;
use crate::metal::stream::Argument::{Absent, Read, Write};
use crate::metal::too_long;
use crate::metal::view::{Owned, View};
use crate::ops::Activation;
use crate::ops::matmul::broadcast;

/// What becomes of A · B: act(A · B + M · N + bias) + added.
#[derive(Clone, Copy, Default)]
pub(super) struct Epilogue<'a> {
    pub(super) bias: Option<View<'a>>,
    pub(super) activation: Activation,
    /// Takes what the activation is applied to.
    pub(super) keep: Option<&'a Owned>,
    /// M, in f32, and N: for one product only.
    pub(super) more: Option<[View<'a>; 2]>,
    /// Row-major, of the shape of C.
    pub(super) added: Option<View<'a>>,
}

/// Encodes C = act(A · B + M · N + bias) + added. The dimensions in front of the matrices are broadcast; over those that
/// C lacks, or has with size 1, it is summed. A and B may be in f32 when C is not; the columns of C are neighbours.
pub(super) fn encode(
    stream: &Stream<'_>,
    [a, b, c]: [View<'_>; 3],
    epilogue: &Epilogue<'_>,
) -> Result<()> {
    let front = |view: View<'_>| view.layout.dims()[..view.layout.dims().len() - 2].to_vec();
    let dims = broadcast(&front(a), &front(b)).unwrap_or_default();
    let whole = |view: View<'_>| -> Result<Layout> {
        let matrix = &view.layout.dims()[view.layout.dims().len() - 2..];
        Ok(view.layout.broadcast_as([&dims, matrix].concat())?)
    };
    let layouts = [whole(a)?, whole(b)?, whole(c)?];
    let plan = Plan::new(&layouts);
    if plan.inner.len() <= 2 {
        return dispatches(plan, stream, [a, b, c], epilogue);
    }
    let over: Vec<usize> = (0..dims.len())
        .filter(|&axis| layouts[2].stride()[axis] == 0)
        .collect();
    let a = regular(a, &layouts[0], &over, dims.len() + 1)?;
    let b = regular(b, &layouts[1], &over, dims.len())?;
    let plan = Plan::new(&[a.layout.clone(), b.layout.clone(), layouts[2].clone()]);
    dispatches(plan, stream, [a.view(), b.view(), c], epilogue)
}

/// Encodes it: one dispatch, or one for each index of those dimensions that the kernels do not count.
fn dispatches(
    mut plan: Plan,
    stream: &Stream<'_>,
    views: [View<'_>; 3],
    epilogue: &Epilogue<'_>,
) -> Result<()> {
    if plan.products.len() <= 3 {
        return dispatch(&plan, stream, views, epilogue);
    }
    let first = plan.products.remove(0);
    for at in 0..first.size {
        let mut one = plan.clone();
        for (start, stride) in one.starts.iter_mut().zip(first.strides) {
            *start += at * stride;
        }
        dispatches(one, stream, views, epilogue)?;
    }
    Ok(())
}

fn dispatch(
    plan: &Plan,
    stream: &Stream<'_>,
    [a, b, c]: [View<'_>; 3],
    epilogue: &Epilogue<'_>,
) -> Result<()> {
    let parameters = Parameters::new(plan, epilogue).ok_or_else(|| too_long(c.layout))?;
    let [m, n] = match epilogue.more {
        Some(more) => more.map(|view| Read(view.storage)),
        None => [Absent; 2],
    };
    let arguments = [
        Read(a.storage),
        Read(b.storage),
        Write(c.storage),
        epilogue.keep.map_or(Absent, |z| Write(&z.storage)),
        epilogue.bias.map_or(Absent, |bias| Read(bias.storage)),
        m,
        n,
        epilogue.added.map_or(Absent, |added| Read(added.storage)),
    ];
    let call = Call {
        dtype: c.dtype(),
        floats: [a, b].map(|view| view.dtype() != c.dtype()),
        split: plan.inner.len() == 2,
        epilogue,
        products: plan.products.iter().map(|dim| dim.size).product(),
        parameters,
    };
    let (kernel, grid) = gemv::kernel(&call).unwrap_or_else(|| matmul::kernel(&call));
    stream.dispatch(&kernel, &arguments, &call.parameters, grid)
}

/// `Operand` of `tile.metal`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Operand {
    start: u64,
    batch: [u64; 3],
    line: u64,
    inner: [u64; 2],
}

impl Operand {
    /// The rows of a matrix.
    pub(super) fn rows(layout: &Layout) -> Self {
        Self {
            start: layout.start_offset() as u64,
            batch: [0; 3],
            line: layout.stride()[0] as u64,
            inner: [0, layout.stride()[1] as u64],
        }
    }

    /// The columns of a matrix.
    pub(super) fn columns(layout: &Layout) -> Self {
        let Self {
            start, line, inner, ..
        } = Self::rows(layout);
        Self {
            start,
            batch: [0; 3],
            line: inner[1],
            inner: [0, line],
        }
    }
}

/// `Product` of `product.metal`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub(super) struct Parameters {
    pub(super) a: Operand,
    pub(super) b: Operand,
    m: Operand,
    n: Operand,
    c_start: u64,
    c_batch: [u64; 3],
    c_row: u64,
    bias_start: u64,
    bias_step: u64,
    added_start: u64,
    pub(super) rows: u32,
    pub(super) columns: u32,
    pub(super) inner: u32,
    split: u32,
    more: u32,
    dims: [u32; 2],
    gap: u32,
}

impl Parameters {
    /// Of a plan with three dimensions of products and two inner ones at most. None if 32 bits do not count something.
    fn new(plan: &Plan, epilogue: &Epilogue<'_>) -> Option<Self> {
        let count = |size: usize| u32::try_from(size).ok();
        // In front of those that there are, others of size 1.
        let at = |dims: &[Dim], most: usize, at: usize| {
            let place = (at + dims.len()).checked_sub(most);
            place.map_or(Dim::ONE, |place| dims[place])
        };
        let products = [0, 1, 2].map(|place| at(&plan.products, 3, place));
        let inner = [0, 1].map(|place| at(&plan.inner, 2, place));
        let operand = |of: usize, line: Dim| Operand {
            start: plan.starts[of] as u64,
            batch: products.map(|dim| dim.strides[of] as u64),
            line: line.strides[of] as u64,
            inner: inner.map(|dim| dim.strides[of] as u64),
        };
        let (result, bias) = (operand(2, plan.rows), epilogue.bias.map(|bias| bias.layout));
        let [m, n] = match epilogue.more {
            Some([m, n]) => [Operand::rows(m.layout), Operand::columns(n.layout)],
            None => [Operand::default(); 2],
        };
        count(products.iter().map(|dim| dim.size).product())?;
        Some(Self {
            a: operand(0, plan.rows),
            b: operand(1, plan.columns),
            m,
            n,
            c_start: result.start,
            c_batch: result.batch,
            c_row: result.line,
            bias_start: bias.map_or(0, |bias| bias.start_offset() as u64),
            bias_step: bias.map_or(0, |bias| bias.stride()[0] as u64),
            added_start: epilogue
                .added
                .map_or(0, |it| it.layout.start_offset() as u64),
            rows: count(plan.rows.size)?,
            columns: count(plan.columns.size)?,
            inner: count(inner[0].size * inner[1].size)?,
            split: count(inner[1].size)?,
            more: count(epilogue.more.map_or(0, |[m, _]| m.layout.dims()[1]))?,
            dims: [count(products[1].size)?, count(products[2].size)?],
            gap: 0,
        })
    }
}

/// A dispatch, but for its kernel.
pub(super) struct Call<'a> {
    dtype: DType,
    /// Whether A and B are in f32, and C is not.
    floats: [bool; 2],
    /// Whether the inner dimension is two.
    split: bool,
    epilogue: &'a Epilogue<'a>,
    /// How many products.
    pub(super) products: usize,
    pub(super) parameters: Parameters,
}

impl Call<'_> {
    /// A kernel with the function constants of `product.metal`.
    pub(super) fn kernel(
        &self,
        source: &'static Source,
        function: &'static str,
        few: u16,
    ) -> Kernel {
        let (
            [a, b],
            Epilogue {
                bias,
                keep,
                more,
                added,
                ..
            },
        ) = (self.readings(), self.epilogue);
        Kernel::new(source, function, self.dtype)
            .flags(&[
                a.along_lines,
                a.fours,
                self.floats[0],
                b.along_lines,
                b.fours,
                self.floats[1],
                self.split,
                bias.is_some(),
                keep.is_some(),
                more.is_some(),
                added.is_some(),
            ])
            .numbers(&[number_of(self.epilogue.activation), few])
    }

    /// Whether operands are in another type than the result, or the inner dimension is two.
    pub(super) fn is_unusual(&self) -> bool {
        self.split || self.floats != [false; 2]
    }

    /// How A and B are best read.
    pub(super) fn readings(&self) -> [Reading; 2] {
        let Parameters {
            a,
            b,
            rows,
            columns,
            split,
            ..
        } = &self.parameters;
        [
            Reading::of(a, *rows, *split),
            Reading::of(b, *columns, *split),
        ]
    }
}

/// An activation as kernels know it.
pub(super) fn number_of(activation: Activation) -> u16 {
    match activation {
        Activation::None => 0,
        Activation::Relu => 1,
        Activation::Gelu => 2,
        Activation::Silu => 3,
    }
}

/// `Reading` of `tile.metal`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Reading {
    pub(super) along_lines: bool,
    pub(super) fours: bool,
}

impl Reading {
    /// Of an operand with so many lines of so many elements.
    pub(super) fn of(operand: &Operand, lines: u32, line: u32) -> Self {
        let Operand {
            start,
            batch: [first, second, third],
            line: stride,
            inner,
        } = *operand;
        let along_lines = inner[1] == 1 || stride != 1;
        let (step, count, other) = match along_lines {
            true => (inner[1], line, stride),
            false => (stride, lines, inner[1]),
        };
        let whole = [start, first, second, third, other, inner[0], count.into()];
        Self {
            along_lines,
            fours: step == 1 && whole.iter().all(|number| number.is_multiple_of(4)),
        }
    }
}
