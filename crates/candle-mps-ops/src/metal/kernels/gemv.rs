//! When a product is computed by the kernel of `gemv.metal`.

use super::LANES;
use super::product::Call;
use crate::metal::library::{Kernel, Source, source};
use crate::metal::stream::Grid;

static SOURCE: Source = source!("gemv", with: ["tile", "product"], flags: 10, numbers: 2);

/// As in `gemv.metal`.
const OWN_COLUMNS: usize = 4;
const MOST_ROWS: u32 = 8;

/// Simdgroups of a threadgroup.
const SIMDGROUPS: usize = 4;

/// The kernel for few rows, if this product is for it.
pub(super) fn kernel(call: &Call<'_>) -> Option<(Kernel, Grid)> {
    let (rows, columns) = (call.parameters.rows, call.parameters.columns as usize);
    let [a, b] = call.readings();
    if rows > MOST_ROWS || call.is_unusual() || !a.along_lines || !b.along_lines {
        return None;
    }
    let grid = Grid {
        groups: [columns.div_ceil(OWN_COLUMNS * SIMDGROUPS), 1, call.products],
        threads: SIMDGROUPS * LANES,
    };
    Some((call.kernel(&SOURCE, "gemv", rows as u16), grid))
}
