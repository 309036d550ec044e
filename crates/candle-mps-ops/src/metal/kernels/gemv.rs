//! When a product is computed by a kernel of `gemv.metal`.

use super::LANES;
use super::product::Call;
use crate::metal::library::{Kernel, Source, source};
use crate::metal::stream::Grid;

static SOURCE: Source = source!("gemv", with: ["tile", "product"], flags: 11, numbers: 2);

/// As in `gemv.metal`.
const OWN_COLUMNS: usize = 4;
const MOST_ROWS: u32 = 8;

/// The kernel for few rows, if this product is for one.
pub(super) fn kernel(call: &Call<'_>) -> Option<(Kernel, Grid)> {
    let (rows, columns) = (call.parameters.rows, call.parameters.columns as usize);
    let [a, b] = call.readings();
    if rows > MOST_ROWS || call.is_unusual() || (b.along_lines && !a.along_lines) {
        return None;
    }
    // How many columns a threadgroup has, and simdgroups.
    let (function, width, simdgroups) = match b.along_lines {
        true => ("gemv", 4 * OWN_COLUMNS, 4),
        // No less than four elements of the inner dimension, and at least what sums up 128 columns.
        false => {
            let simdgroups = call.parameters.inner.div_ceil(4).clamp(4, 16);
            ("gemv_across", LANES * OWN_COLUMNS, simdgroups as usize)
        }
    };
    let grid = Grid {
        groups: [columns.div_ceil(width), 1, call.products],
        threads: simdgroups * LANES,
    };
    Some((call.kernel(&SOURCE, function, rows as u16), grid))
}
