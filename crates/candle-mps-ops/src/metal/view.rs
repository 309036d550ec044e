//! A tensor as kernels see it: its buffer, and strides for the rows of its elements.
//!
//! Kernels count rows through three dimensions at most, which is enough for every view of a tensor of rank 4;
//! neighbouring dimensions that one stride describes become one first, for all operands of a kernel alike. What
//! is still too irregular is copied by Candle.

use candle_core::backend::BackendStorage;
use candle_core::{DType, Layout, MetalStorage};

use super::stream;
use crate::error::Result;

/// A tensor's storage, and where its elements lie in it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct View<'a> {
    pub(crate) storage: &'a MetalStorage,
    pub(crate) layout: &'a Layout,
}

impl View<'_> {
    /// The last dimension, of a tensor that is no scalar.
    pub(crate) fn last(&self) -> usize {
        self.layout.dims().len().saturating_sub(1)
    }

    pub(crate) fn dtype(&self) -> DType {
        self.storage.dtype()
    }

    /// The elements in row-major order, from the start of a buffer: this one if they lie so, which is nobody's to write.
    pub(crate) fn row_major(&self) -> Result<Owned> {
        match self.layout.is_contiguous() && self.layout.start_offset() == 0 {
            true => Ok(Owned {
                storage: self.storage.clone(),
                layout: self.layout.clone(),
            }),
            false => self.copied(),
        }
    }

    /// The elements in row-major order, in memory of their own.
    pub(crate) fn copied(&self) -> Result<Owned> {
        let (device, count) = (self.storage.device(), self.layout.shape().elem_count());
        let mut storage = stream::output(device, count, self.dtype())?;
        if count > 0 {
            self.storage
                .copy_strided_src(&mut storage, 0, self.layout)?;
        }
        let layout = Layout::contiguous(self.layout.shape());
        Ok(Owned { storage, layout })
    }
}

impl<'a> View<'a> {
    /// The same storage, with its elements elsewhere or in another order.
    pub(crate) fn with<'b>(self, layout: &'b Layout) -> View<'b>
    where
        'a: 'b,
    {
        View {
            storage: self.storage,
            layout,
        }
    }
}

/// A tensor outside of Candle's graph.
#[derive(Clone, Debug)]
pub(crate) struct Owned {
    pub(crate) storage: MetalStorage,
    pub(crate) layout: Layout,
}

impl Owned {
    pub(crate) fn view(&self) -> View<'_> {
        View {
            storage: &self.storage,
            layout: &self.layout,
        }
    }
}

/// `Rows` of `common.metal`. Counts are of elements.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Rows {
    start: u64,
    stride: [u64; 3],
    step: u64,
}

/// `Vector` of `common.metal`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Vector {
    start: u64,
    step: u64,
}

impl Vector {
    /// A tensor of one dimension, or one that is not there.
    pub(crate) fn of(view: Option<&View<'_>>) -> Self {
        view.map_or(Self { start: 0, step: 1 }, |view| Self {
            start: view.layout.start_offset() as u64,
            step: view.layout.stride().first().copied().unwrap_or(1) as u64,
        })
    }

    /// Whether four neighbours can be read at once, from every fourth on.
    pub(crate) fn by_fours(&self) -> bool {
        self.step == 1 && self.start.is_multiple_of(4)
    }
}

/// `Shape` of `common.metal`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Shape {
    pub(crate) rows: u32,
    pub(crate) width: u32,
    dims: [u32; 2],
}

/// What most kernels are told: the rows of each tensor.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub(crate) struct Parameters<const N: usize> {
    pub(crate) shape: Shape,
    pub(crate) rows: [Rows; N],
}

/// The rows of several tensors of one shape along dimension `axis`: what is in front of it and behind it counts
/// rows. None if they take more than three dimensions, or more rows or columns than 32 bits count.
pub(crate) fn rows<const N: usize>(
    layouts: [&Layout; N],
    axis: usize,
) -> Option<(Shape, [Rows; N])> {
    let dims = layouts[0].dims();
    let mut merged: Vec<(usize, [usize; N])> = Vec::with_capacity(dims.len());
    for (at, &dim) in dims.iter().enumerate() {
        if at == axis || dim == 1 {
            continue;
        }
        let strides = layouts.map(|layout| layout.stride()[at]);
        match merged.last_mut() {
            Some((size, before))
                if (0..N).all(|of| strides[of].checked_mul(dim) == Some(before[of])) =>
            {
                *size = size.checked_mul(dim)?;
                *before = strides;
            }
            _ => merged.push((dim, strides)),
        }
    }
    let ahead = 3usize.checked_sub(merged.len())?;
    let dim = |at: usize| ahead.le(&at).then(|| &merged[at - ahead]);
    let size = |at: usize| dim(at).map_or(Ok(1), |dim| u32::try_from(dim.0));
    let rows: usize = merged.iter().map(|dim| dim.0).product();
    let shape = Shape {
        rows: u32::try_from(rows).ok()?,
        width: u32::try_from(dims.get(axis).copied().unwrap_or(1)).ok()?,
        dims: [size(1).ok()?, size(2).ok()?],
    };
    let mut number = 0;
    let rows = layouts.map(|layout| {
        let of = number;
        number += 1;
        Rows {
            start: layout.start_offset() as u64,
            stride: [0, 1, 2].map(|at| dim(at).map_or(0, |dim| dim.1[of] as u64)),
            step: layout.stride().get(axis).copied().unwrap_or(1) as u64,
        }
    });
    Some((shape, rows))
}

/// Whether four neighbours of a row can be read at once in all of these: elements lie side by side, and rows begin
/// at multiples of four and end there.
pub(crate) fn by_fours(shape: &Shape, rows: &[Rows]) -> bool {
    let aligned = |rows: &Rows| {
        rows.step == 1
            && rows.start.is_multiple_of(4)
            && rows.stride.iter().all(|stride| stride.is_multiple_of(4))
    };
    shape.width.is_multiple_of(4) && rows.iter().all(aligned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Shape as Dims;

    fn layout(dims: &[usize], strides: &[usize], start: usize) -> Layout {
        Layout::new(Dims::from(dims), strides.to_vec(), start)
    }

    /// Where each element of each row is, by the arithmetic of `common.metal`.
    fn places(shape: &Shape, rows: &Rows) -> Vec<u64> {
        let (width, dims) = (shape.width, shape.dims.map(u64::from));
        let start = |row: u64| {
            let (inner, rest) = (row % dims[1], row / dims[1]);
            let (middle, outer) = (rest % dims[0], rest / dims[0]);
            let [a, b, c] = rows.stride;
            rows.start + outer * a + middle * b + inner * c
        };
        (0..u64::from(shape.rows))
            .flat_map(|row| (0..u64::from(width)).map(move |at| start(row) + at * rows.step))
            .collect()
    }

    /// Where the elements of a layout are, in the order of rows along `axis`.
    fn expected(layout: &Layout, axis: usize) -> Vec<u64> {
        let rank = layout.dims().len();
        let order: Vec<usize> = (0..rank).filter(|at| *at != axis).chain([axis]).collect();
        let turned = layout.permute(&order).unwrap();
        let (dims, strides) = (turned.dims(), turned.stride());
        let mut places = vec![turned.start_offset() as u64];
        for (dim, stride) in dims.iter().zip(strides) {
            let along = |at: u64| (0..*dim).map(move |step| at + (step * stride) as u64);
            places = places.into_iter().flat_map(along).collect();
        }
        places
    }

    #[test]
    fn rows_are_where_the_layout_says() {
        for layout in [
            layout(&[2, 3, 4, 5], &[60, 20, 5, 1], 7),
            layout(&[2, 3, 4, 5], &[60, 5, 15, 1], 0),
            layout(&[2, 3, 4, 5], &[1, 2, 6, 24], 3),
            layout(&[2, 3, 4, 5], &[0, 5, 0, 1], 3),
            layout(&[6, 5], &[1, 6], 0),
            layout(&[5], &[2], 1),
        ] {
            for axis in 0..layout.dims().len() {
                let (shape, [rows]) = rows([&layout], axis).unwrap();
                let found = places(&shape, &rows);
                assert_eq!(found, expected(&layout, axis), "{layout:?} {axis}");
            }
        }
    }

    #[test]
    fn operands_are_merged_together() {
        let plain = layout(&[4, 3, 2], &[6, 2, 1], 0);
        let turned = layout(&[4, 3, 2], &[2, 8, 1], 5);
        let (shape, both) = rows([&plain, &turned], 2).unwrap();
        assert_eq!((shape.rows, shape.width), (12, 2));
        assert_eq!(places(&shape, &both[1]), expected(&turned, 2));
        let (shape, one) = rows([&plain], 2).unwrap();
        assert_eq!(shape.dims, [1, 12]);
        assert_eq!(places(&shape, &one[0]), expected(&plain, 2));
    }

    #[test]
    fn too_many_dimensions_are_none() {
        // Four dimensions that no stride joins, and the row.
        let scattered = layout(&[2, 2, 2, 2, 3], &[3, 100, 7, 1000, 1], 0);
        assert_eq!(rows([&scattered], 4), None);
        let long = layout(&[1 << 33, 1], &[1, 1], 0);
        assert_eq!(rows([&long], 1), None);
    }

    #[test]
    fn fours_need_neighbours_and_alignment() {
        let fours = |layout: Layout| {
            let (shape, rows) = rows([&layout], layout.dims().len() - 1).unwrap();
            by_fours(&shape, &rows)
        };
        assert!(fours(layout(&[3, 8], &[8, 1], 0)));
        assert!(fours(layout(&[3, 8], &[12, 1], 4)));
        assert!(!fours(layout(&[3, 8], &[9, 1], 0)));
        assert!(!fours(layout(&[3, 8], &[8, 1], 2)));
        assert!(!fours(layout(&[3, 8], &[1, 3], 0)));
        assert!(!fours(layout(&[3, 6], &[6, 1], 0)));
        assert!(fours(layout(&[1, 8], &[8, 1], 0)));
    }
}
