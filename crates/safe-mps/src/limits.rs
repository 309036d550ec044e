//! The sizes at which `MPSMatrixMultiplication` is known to compute wrong results, and how a
//! product is cut to stay below them.
//!
//! On M1 and M2 a band of rows comes out as NaN or infinity, without any error, once
//! `(row + 2 * K) * row_bytes` of the result reaches 2^31
//! ([JuliaGPU/Metal.jl#381](https://github.com/JuliaGPU/Metal.jl/issues/381)); a square f32
//! product is wrong from N = 13378 on. The report measured tight results only, where `row_bytes`
//! is `N * size`. As long as cutting rows suffices, the real row stride is used here, which is
//! right either way. Columns are cut only when `2 * K` alone exceeds the budget; a column tile
//! keeps the stride of the whole, so there the width of the tile has to count, as in the report's
//! second form `(M + 2 * K) * N * size`.

/// The first value that is wrong.
pub(crate) const OFFSET_LIMIT: u64 = 1 << 31;

/// Row tiles thinner than this cost more than column tiles, unless the matrix is that thin.
const THIN: usize = 128;

/// Column tiles start at a multiple of this many elements where they can, which keeps the offsets
/// of f16 and f32 aligned to 16 bytes.
const ALIGN: usize = 8;

/// Part of a result matrix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Tile {
    pub(crate) rows: std::ops::Range<usize>,
    pub(crate) columns: std::ops::Range<usize>,
}

/// What has to be known of a product to cut it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Product {
    /// Rows of the result.
    pub(crate) m: usize,
    /// Columns of the result.
    pub(crate) n: usize,
    /// Inner dimension.
    pub(crate) k: usize,
    /// Bytes of an element of the result.
    pub(crate) element: usize,
    /// Row stride of the result.
    pub(crate) row_bytes: usize,
}

/// Tiles that cover the result, each with `(rows + 2 * k) * bytes of a row < limit`. `None` if
/// not even a single element satisfies that.
pub(crate) fn tiles(product: Product, limit: u64) -> Option<Vec<Tile>> {
    let Product {
        m,
        n,
        k,
        element,
        row_bytes,
    } = product;
    // With a single row nothing is ever a row stride apart.
    let stride = if m == 1 {
        n.saturating_mul(element)
    } else {
        row_bytes
    };
    let most_rows = rows_below(limit, k, stride);
    if most_rows >= m.min(THIN) {
        return Some(cut(m, most_rows, n, n));
    }
    // Columns, then. Tiles about as tall as they are deep keep the number of them small.
    let depth = 2 * k as u128;
    let tall = (m as u128).min(depth.max(THIN as u128));
    let width_for = |rows: u128| (limit as u128 - 1) / ((rows + depth) * element as u128);
    let width = match width_for(tall) {
        0 => width_for(1),
        width => width,
    };
    let width = usize::try_from(width).unwrap_or(usize::MAX).min(n);
    if width == 0 {
        return None;
    }
    let width = if width < n && width > ALIGN {
        width - width % ALIGN
    } else {
        width
    };
    Some(cut(m, rows_below(limit, k, width * element), n, width))
}

/// The largest number of rows with `(rows + 2 * k) * row_bytes < limit`.
fn rows_below(limit: u64, k: usize, row_bytes: usize) -> usize {
    let all = (limit as u128 - 1) / (row_bytes as u128).max(1);
    usize::try_from(all.saturating_sub(2 * k as u128)).unwrap_or(usize::MAX)
}

fn cut(m: usize, height: usize, n: usize, width: usize) -> Vec<Tile> {
    let pieces = |total: usize, step: usize| {
        (0..total)
            .step_by(step.max(1))
            .map(move |at| at..total.min(at.saturating_add(step)))
    };
    pieces(m, height)
        .flat_map(|rows| {
            pieces(n, width).map(move |columns| Tile {
                rows: rows.clone(),
                columns,
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn square(n: usize) -> Product {
        Product {
            m: n,
            n,
            k: n,
            element: 4,
            row_bytes: 4 * n,
        }
    }

    #[test]
    fn one_tile_up_to_the_reported_threshold() {
        assert_eq!(tiles(square(13377), OFFSET_LIMIT).unwrap().len(), 1);
        assert!(tiles(square(13378), OFFSET_LIMIT).unwrap().len() > 1);
    }

    #[test]
    fn every_element_is_in_one_tile_and_every_tile_below_the_limit() {
        for limit in [64_u64, 500, 4096, 100_000] {
            for (m, n, k) in [
                (1, 1, 1),
                (7, 9, 5),
                (300, 2, 3),
                (2, 300, 3),
                (200, 200, 20),
            ] {
                for pad in [0, 12] {
                    let row_bytes = 4 * n + pad;
                    let product = Product {
                        m,
                        n,
                        k,
                        element: 4,
                        row_bytes,
                    };
                    let Some(tiles) = tiles(product, limit) else {
                        assert!((1 + 2 * k as u64) * 4 >= limit);
                        continue;
                    };
                    let mut covered = vec![0; m * n];
                    for tile in &tiles {
                        let (rows, columns) = (tile.rows.len() as u64, tile.columns.len() as u64);
                        assert!((rows + 2 * k as u64) * columns * 4 < limit);
                        if columns == n as u64 && m > 1 && tile.rows.len().min(m) >= m.min(THIN) {
                            assert!((rows + 2 * k as u64) * (row_bytes as u64) < limit);
                        }
                        for i in tile.rows.clone() {
                            for j in tile.columns.clone() {
                                covered[i * n + j] += 1;
                            }
                        }
                    }
                    assert!(covered.iter().all(|&c| c == 1), "{m}x{n}x{k} limit {limit}");
                }
            }
        }
    }

    #[test]
    fn an_inner_dimension_that_leaves_no_room() {
        let deep = |k| Product {
            m: 1,
            n: 1,
            k,
            element: 4,
            row_bytes: 4,
        };
        assert!(tiles(deep((1 << 28) - 1), OFFSET_LIMIT).is_some());
        assert!(tiles(deep(1 << 28), OFFSET_LIMIT).is_none());
        assert!(tiles(deep(usize::MAX), OFFSET_LIMIT).is_none());
    }

    #[test]
    fn large_squares_need_few_tiles() {
        assert!(tiles(square(16384), OFFSET_LIMIT).unwrap().len() <= 8);
        assert!(tiles(square(32768), OFFSET_LIMIT).unwrap().len() <= 32);
    }
}
