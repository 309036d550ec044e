//! Products of matrices as `product.metal` describes them: which dimension of a tensor is which of the product, and by
//! which kernel it is computed.
//!
//! Each dimension in front of the matrices is one of three. What the result does not have is summed over, and becomes
//! part of the inner dimension; what B does not have makes more rows of A; the rest counts products. Neighbours that
//! one stride describes become one, so that a batch of sequences times one weight is one product with many rows.

use candle_core::{DType, Layout};

use super::{gemv, matmul};
use crate::error::Result;
use crate::metal::library::{Kernel, Source};
use crate::metal::op::Stream;
use crate::metal::stream::Argument::{self, Absent, Read, Write};
use crate::metal::too_long;
use crate::metal::view::{Owned, View};
use crate::ops::Activation;
use crate::ops::matmul::broadcast;

/// What becomes of A · B: act(A · B + M · N + bias).
#[derive(Clone, Copy, Default)]
pub(super) struct Epilogue<'a> {
    pub(super) bias: Option<View<'a>>,
    pub(super) activation: Activation,
    /// Takes what the activation is applied to.
    pub(super) keep: Option<&'a Owned>,
    /// M, in f32, and N: for one product only.
    pub(super) more: Option<[View<'a>; 2]>,
}

/// Encodes C = act(A · B + M · N + bias). The dimensions in front of the matrices are broadcast; over those that C lacks,
/// or has with size 1, it is summed. A and B may be in f32 when C is not; the columns of C are neighbours.
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
        return plan.encode(stream, [a, b, c], epilogue);
    }
    let over: Vec<usize> = (0..dims.len())
        .filter(|&axis| layouts[2].stride()[axis] == 0)
        .collect();
    let a = regular(a, &layouts[0], &over, dims.len() + 1)?;
    let b = regular(b, &layouts[1], &over, dims.len())?;
    let plan = Plan::new(&[a.layout.clone(), b.layout.clone(), layouts[2].clone()]);
    plan.encode(stream, [a.view(), b.view(), c], epilogue)
}

/// A copy whose axes `over` lie next to the axis `inner`, so that one stride describes them all.
fn regular(view: View<'_>, layout: &Layout, over: &[usize], inner: usize) -> Result<Owned> {
    let rank = layout.dims().len();
    let kept = (0..rank).filter(|axis| *axis != inner && !over.contains(axis));
    let order: Vec<usize> = kept.chain(over.iter().copied()).chain([inner]).collect();
    let turned = layout.permute(&order)?;
    let copy = View {
        storage: view.storage,
        layout: &turned,
    };
    let copy = copy.copied()?;
    let mut back = vec![0; rank];
    for (place, axis) in order.into_iter().enumerate() {
        back[axis] = place;
    }
    Ok(Owned {
        layout: copy.layout.permute(&back)?,
        storage: copy.storage,
    })
}

/// A dimension of a product, with the strides of A, B and C. What an operand lacks or repeats has the stride 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Dim {
    size: usize,
    strides: [usize; 3],
}

/// Without those of size 1, and neighbours made one where all operands allow that.
fn merged(dims: Vec<Dim>) -> Vec<Dim> {
    let mut merged: Vec<Dim> = Vec::with_capacity(dims.len());
    for dim in dims.into_iter().filter(|dim| dim.size != 1) {
        let next = dim.strides.map(|stride| stride.checked_mul(dim.size));
        match merged.last_mut() {
            Some(before) if before.strides.map(Some) == next => {
                before.size *= dim.size;
                before.strides = dim.strides;
            }
            _ => merged.push(dim),
        }
    }
    merged
}

/// Takes the last dimension; none left is one of size 1.
fn last(dims: &mut Vec<Dim>) -> Dim {
    let one = Dim {
        size: 1,
        strides: [0; 3],
    };
    dims.pop().unwrap_or(one)
}

/// The elements of a view as a matrix, with all dimensions but the last as rows. Copied only if no stride expresses that.
pub(super) fn matrix(view: View<'_>) -> Result<Owned> {
    let axes = view.layout.dims().iter().zip(view.layout.stride());
    let mut front: Vec<Dim> = axes
        .map(|(&size, &stride)| Dim {
            size,
            strides: [stride; 3],
        })
        .collect();
    let columns = last(&mut front);
    let shape = (front.iter().map(|dim| dim.size).product(), columns.size);
    let mut front = merged(front);
    if front.len() > 1 {
        let copy = view.copied()?;
        return Ok(Owned {
            layout: Layout::contiguous(shape),
            storage: copy.storage,
        });
    }
    let strides = vec![last(&mut front).strides[0], columns.strides[0]];
    Ok(Owned {
        layout: Layout::new(shape.into(), strides, view.layout.start_offset()),
        storage: view.storage.clone(),
    })
}

/// The dimensions of a product, sorted by what they are.
#[derive(Clone, Debug)]
struct Plan {
    starts: [usize; 3],
    products: Vec<Dim>,
    rows: Dim,
    columns: Dim,
    inner: Vec<Dim>,
}

impl Plan {
    /// Of three layouts with the same dimensions in front of their matrices.
    fn new(layouts: &[Layout; 3]) -> Self {
        let dims = layouts[2].dims();
        let front = dims.len() - 2;
        let (mut products, mut rows, mut inner) = (vec![], vec![], vec![]);
        for (axis, &size) in dims[..front].iter().enumerate() {
            let strides = [0, 1, 2].map(|of: usize| layouts[of].stride()[axis]);
            let dim = Dim { size, strides };
            match strides {
                [_, _, 0] => inner.push(dim),
                [_, 0, _] => rows.push(dim),
                _ => products.push(dim),
            }
        }
        let [a, b, c] = [0, 1, 2].map(|of: usize| &layouts[of].stride()[front..]);
        rows.push(Dim {
            size: dims[front],
            strides: [a[0], 0, c[0]],
        });
        inner.push(Dim {
            size: layouts[0].dims()[front + 1],
            strides: [a[1], b[0], 0],
        });
        let columns = Dim {
            size: dims[front + 1],
            strides: [0, b[1], c[1]],
        };
        let mut rows = merged(rows);
        let its_rows = last(&mut rows);
        products.extend(rows);
        Self {
            starts: [0, 1, 2].map(|of: usize| layouts[of].start_offset()),
            products: merged(products),
            rows: its_rows,
            columns: last(&mut merged(vec![columns])),
            inner: merged(inner),
        }
    }

    /// Encodes it: one dispatch, or one for each index of those dimensions that the kernels do not count.
    fn encode(
        mut self,
        stream: &Stream<'_>,
        views: [View<'_>; 3],
        epilogue: &Epilogue<'_>,
    ) -> Result<()> {
        if self.products.len() <= 3 {
            return self.dispatch(stream, views, epilogue);
        }
        let first = self.products.remove(0);
        for at in 0..first.size {
            let mut one = self.clone();
            for (start, stride) in one.starts.iter_mut().zip(first.strides) {
                *start += at * stride;
            }
            one.encode(stream, views, epilogue)?;
        }
        Ok(())
    }

    fn dispatch(
        mut self,
        stream: &Stream<'_>,
        [a, b, c]: [View<'_>; 3],
        epilogue: &Epilogue<'_>,
    ) -> Result<()> {
        let count = |size: usize| u32::try_from(size).map_err(|_| too_long(c.layout));
        let own = last(&mut self.inner);
        let over = self.inner.pop();
        let ahead = 3 - self.products.len();
        let products = [0, 1, 2].map(|at: usize| match at.checked_sub(ahead) {
            Some(at) => self.products[at],
            None => last(&mut vec![]),
        });
        let operand = |of: usize, line: Dim| Operand {
            start: self.starts[of] as u64,
            batch: products.map(|dim| dim.strides[of] as u64),
            line: line.strides[of] as u64,
            inner: [over.unwrap_or_default(), own].map(|dim| dim.strides[of] as u64),
        };
        let result = operand(2, self.rows);
        let bias = epilogue.bias.map(|bias| bias.layout);
        let [m, n] = match epilogue.more {
            Some([m, n]) => [Operand::rows(m.layout), Operand::columns(n.layout)],
            None => [Operand::default(); 2],
        };
        let parameters = Parameters {
            a: operand(0, self.rows),
            b: operand(1, self.columns),
            m,
            n,
            c_start: result.start,
            c_batch: result.batch,
            c_row: result.line,
            bias_start: bias.map_or(0, |bias| bias.start_offset() as u64),
            bias_step: bias.map_or(0, |bias| bias.stride()[0] as u64),
            rows: count(self.rows.size)?,
            columns: count(self.columns.size)?,
            inner: count(own.size * over.map_or(1, |dim| dim.size))?,
            split: count(own.size)?,
            more: count(epilogue.more.map_or(0, |[m, _]| m.dims()[1]))?,
            dims: [count(products[1].size)?, count(products[2].size)?],
            gap: 0,
        };
        let products: usize = products.iter().map(|dim| dim.size).product();
        count(products)?;
        let keep = epilogue.keep.map(|z| &z.storage);
        let call = Call {
            dtype: c.dtype(),
            floats: [a, b].map(|view| view.dtype() != c.dtype()),
            split: over.is_some(),
            epilogue,
            arguments: [
                Read(a.storage),
                Read(b.storage),
                Write(c.storage),
                keep.map_or(Absent, Write),
                epilogue.bias.map_or(Absent, |bias| Read(bias.storage)),
                epilogue.more.map_or(Absent, |[m, _]| Read(m.storage)),
                epilogue.more.map_or(Absent, |[_, n]| Read(n.storage)),
            ],
            products,
            parameters,
        };
        let (kernel, grid) = gemv::kernel(&call).unwrap_or_else(|| matmul::kernel(&call));
        stream.dispatch(&kernel, &call.arguments, &call.parameters, grid)
    }
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
    pub(super) rows: u32,
    pub(super) columns: u32,
    pub(super) inner: u32,
    split: u32,
    more: u32,
    dims: [u32; 2],
    gap: u32,
}

/// A dispatch, but for its kernel.
pub(super) struct Call<'a> {
    dtype: DType,
    /// Whether A and B are in f32, and C is not.
    floats: [bool; 2],
    /// Whether the inner dimension is two.
    split: bool,
    epilogue: &'a Epilogue<'a>,
    arguments: [Argument<'a>; 7],
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
                bias, keep, more, ..
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
