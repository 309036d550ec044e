//! The ops' kernels, two files for each op: `softmax.metal` and, in `softmax.rs`, how it is called.

mod columns;
mod gemv;
mod linear;
mod lora;
mod matmul;
mod plan;
mod product;
mod softmax;

use super::stream::Grid;

use candle_core::Tensor;

use super::op::{Gradients, MetalOp, Pass, Stream};
use super::view::View;
use crate::error::Result;
use crate::ops;
use crate::ops::fused::Kept;

/// Ops whose kernels are not written yet: Candle computes them.
macro_rules! not_yet {
    ($([$($generics:tt)*] $op:ty,)*) => {$(
        impl<$($generics)*> MetalOp for $op {
            fn refuses(&self, _: &[(&'static str, &Tensor)]) -> Option<&'static str> {
                Some("there is no kernel for it yet")
            }

            fn encode(&self, _: &Stream<'_>, _: &[View<'_>], _: bool, _: View<'_>) -> Result<Option<Kept>> {
                Ok(None)
            }

            fn encode_backward(&self, _: &Stream<'_>, _: &Pass<'_>) -> Result<Gradients> {
                Ok(vec![])
            }
        }
    )*};
}

not_yet!(
    [] ops::attention::Attention,
    [] ops::cross_entropy::CrossEntropy,
    [] ops::geglu::GeGlu,
    [] ops::layer_norm::LayerNorm,
    [] ops::rms_norm::RmsNorm,
    [] ops::rope::Rope,
    [] ops::swiglu::SwiGlu,
);

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
    /// For rows of this width. Each thread gets eight elements of it or more, as long as there are rows enough.
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
