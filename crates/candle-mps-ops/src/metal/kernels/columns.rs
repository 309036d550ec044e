//! How the kernel of `columns.metal` is called.

use super::LANES;
use crate::error::Result;
use crate::metal::library::{Kernel, Source, source};
use crate::metal::op::Stream;
use crate::metal::stream::Argument::{Read, Write};
use crate::metal::stream::Grid;
use crate::metal::view::{Owned, Parameters, Shape, View};

static SOURCE: Source = source!("columns", flags: 0, numbers: 0);

/// Simdgroups that share rows, at most: see `columns.metal`.
const MOST_SIMDGROUPS: usize = 16;

/// The grid for sums over the rows of each column: a lane for each column, and a simdgroup for some of the rows.
pub(super) fn grid(shape: &Shape) -> Grid {
    let simdgroups = (shape.rows as usize).div_ceil(4).min(MOST_SIMDGROUPS);
    Grid::line((shape.width as usize).div_ceil(LANES), simdgroups * LANES)
}

/// The sum of a matrix over its rows.
pub(super) fn sums(stream: &Stream<'_>, matrix: View<'_>) -> Result<Owned> {
    let sums = stream.output(&matrix.layout.dims()[1..], matrix.dtype())?;
    stream.rows([matrix], 1, |shape, rows, [matrix]| {
        let kernel = Kernel::new(&SOURCE, "columns", matrix.dtype());
        let arguments = [Read(matrix.storage), Write(&sums.storage)];
        stream.dispatch(
            &kernel,
            &arguments,
            &Parameters { shape, rows },
            grid(&shape),
        )
    })?;
    Ok(sums)
}
