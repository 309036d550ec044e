//! Which dimension of a tensor is which of a product.
//!
//! Each dimension in front of the matrices is one of three. What the result does not have is summed over, and becomes
//! part of the inner dimension; what B does not have makes more rows of A; the rest counts products. Neighbours that
//! one stride describes become one, so that a batch of sequences times one weight is one product with many rows.

use candle_core::Layout;

use crate::error::Result;
use crate::metal::view::{Owned, View};

/// A dimension of a product, with the strides of A, B and C. What an operand lacks or repeats has the stride 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Dim {
    pub(super) size: usize,
    pub(super) strides: [usize; 3],
}

impl Dim {
    pub(super) const ONE: Self = Self {
        size: 1,
        strides: [0; 3],
    };
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

/// The dimensions of a product, sorted by what they are.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) starts: [usize; 3],
    pub(super) products: Vec<Dim>,
    pub(super) rows: Dim,
    pub(super) columns: Dim,
    pub(super) inner: Vec<Dim>,
}

impl Plan {
    /// Of three layouts with the same dimensions in front of their matrices.
    pub(super) fn new(layouts: &[Layout; 3]) -> Self {
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
        let its_rows = rows.pop().unwrap_or(Dim::ONE);
        products.extend(rows);
        Self {
            starts: [0, 1, 2].map(|of: usize| layouts[of].start_offset()),
            products: merged(products),
            rows: its_rows,
            columns,
            inner: merged(inner),
        }
    }
}

/// A copy whose axes `over` lie next to the axis `inner`, so that one stride describes them all.
pub(super) fn regular(
    view: View<'_>,
    layout: &Layout,
    over: &[usize],
    inner: usize,
) -> Result<Owned> {
    let rank = layout.dims().len();
    let kept = (0..rank).filter(|axis| *axis != inner && !over.contains(axis));
    let order: Vec<usize> = kept.chain(over.iter().copied()).chain([inner]).collect();
    let turned = layout.permute(&order)?;
    let copy = view.with(&turned).copied()?;
    let mut back = vec![0; rank];
    for (place, axis) in order.into_iter().enumerate() {
        back[axis] = place;
    }
    Ok(Owned {
        layout: copy.layout.permute(&back)?,
        storage: copy.storage,
    })
}

/// The elements of a view as a matrix, with all dimensions but the last as rows. Copied only if no stride expresses
/// that.
pub(super) fn matrix(view: View<'_>) -> Result<Owned> {
    let axes = view.layout.dims().iter().zip(view.layout.stride());
    let mut front: Vec<Dim> = axes
        .map(|(&size, &stride)| Dim {
            size,
            strides: [stride; 3],
        })
        .collect();
    let columns = front.pop().unwrap_or(Dim::ONE);
    let shape = (front.iter().map(|dim| dim.size).product(), columns.size);
    let mut front = merged(front);
    if front.len() > 1 {
        let copy = view.copied()?;
        return Ok(Owned {
            layout: Layout::contiguous(shape),
            storage: copy.storage,
        });
    }
    let rows = front.pop().unwrap_or(Dim::ONE);
    let strides = vec![rows.strides[0], columns.strides[0]];
    Ok(Owned {
        layout: Layout::new(shape.into(), strides, view.layout.start_offset()),
        storage: view.storage.clone(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dim(size: usize, strides: [usize; 3]) -> Dim {
        Dim { size, strides }
    }

    /// The plan of a product of row-major operands, with gradients as the result if `own` lacks dimensions.
    fn plan(a: &[usize], b: &[usize], own: &[usize], whole: &[usize]) -> Plan {
        let layout = |dims: &[usize]| {
            let matrix = &dims[dims.len() - 2..];
            Layout::contiguous(dims)
                .broadcast_as([whole, matrix].concat())
                .unwrap()
        };
        Plan::new(&[layout(a), layout(b), layout(own)])
    }

    #[test]
    fn a_batch_times_one_matrix_is_one_product() {
        let plan = plan(&[2, 3, 4, 5], &[5, 6], &[2, 3, 4, 6], &[2, 3]);
        assert_eq!(plan.products, []);
        assert_eq!(plan.rows, dim(24, [5, 0, 6]));
        assert_eq!(plan.columns, dim(6, [0, 1, 1]));
        assert_eq!(plan.inner, [dim(5, [1, 6, 0])]);
    }

    #[test]
    fn what_the_result_lacks_is_summed_over() {
        // The gradient of a weight: one inner dimension, as long as the rows follow each other.
        let plan = plan(&[2, 3, 4, 1], &[2, 3, 1, 5], &[4, 5], &[2, 3]);
        assert_eq!(plan.products, []);
        assert_eq!(plan.rows, dim(4, [1, 0, 5]));
        assert_eq!(plan.inner, [dim(6, [4, 5, 0])]);
    }

    #[test]
    fn what_both_have_counts_products() {
        let plan = plan(&[2, 1, 4, 5], &[2, 3, 5, 6], &[2, 3, 4, 6], &[2, 3]);
        assert_eq!(plan.products, [dim(2, [20, 90, 72]), dim(3, [0, 30, 24])]);
        assert_eq!(plan.rows, dim(4, [5, 0, 6]));
    }

    #[test]
    fn neighbours_merge_where_all_operands_allow_it() {
        let dims = vec![dim(2, [12, 0, 6]), dim(1, [99, 99, 99]), dim(3, [4, 0, 2])];
        assert_eq!(merged(dims), [dim(6, [4, 0, 2])]);
        let dims = vec![dim(2, [12, 0, 7]), dim(3, [4, 0, 2])];
        assert_eq!(merged(dims.clone()), dims);
    }
}
