//! The ops' kernels, two files for each op: `softmax.metal` and, in `softmax.rs`, how it is called.

mod attention;
mod columns;
mod cross_entropy;
mod gemv;
mod glu;
mod layer_norm;
mod linear;
mod lora;
mod matmul;
mod plan;
mod product;
mod rms_norm;
mod rope;
mod softmax;

use super::stream::Grid;
use super::view::Shape;

/// Threads of a simdgroup, on every GPU of Apple's.
const LANES: usize = 32;

/// How threads share rows, as a function constant and a grid say it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Team {
    /// Simdgroups that share a row. If it is one, a threadgroup works on `rows` rows, otherwise on one.
    simdgroups: u16,
    rows: usize,
}

impl Team {
    /// For rows of this width: so many simdgroups, a power of two, that a thread has about eight elements, and more of a
    /// long row.
    fn of(width: u32) -> Self {
        let simdgroups = (width as usize).div_ceil(8 * LANES).next_power_of_two();
        match simdgroups.min(16) {
            1 => Self {
                simdgroups: 1,
                rows: 8,
            },
            simdgroups => Self {
                simdgroups: simdgroups as u16,
                rows: 1,
            },
        }
    }

    fn grid(self, rows: u32) -> Grid {
        let simdgroups = usize::from(self.simdgroups) * self.rows;
        Grid::line((rows as usize).div_ceil(self.rows), simdgroups * LANES)
    }
}

/// The grid for kernels that work on each element by itself: threads with four neighbours each, and rows.
fn elementwise(shape: &Shape) -> Grid {
    let fours = (shape.width as usize).div_ceil(4);
    let threads = fours.next_multiple_of(LANES).min(256);
    Grid {
        groups: [fours.div_ceil(threads), shape.rows as usize, 1],
        threads,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn teams_cover_their_rows() {
        for width in [0, 1, 31, 256, 257, 1024, 4096, 100_000] {
            let team = Team::of(width);
            assert!(team.simdgroups.is_power_of_two() && team.simdgroups <= 16);
            let grid = team.grid(100);
            assert!(grid.groups[0] * team.rows >= 100, "{width}");
            assert!(grid.threads <= 512, "{width}");
        }
        assert_eq!(Team::of(256).simdgroups, 1);
        assert_eq!(Team::of(257).simdgroups, 2);
    }
}
