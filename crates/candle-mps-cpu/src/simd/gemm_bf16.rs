//! The tile of `gemm.rs` for bf16 with `vdpbf16ps`: pairs of neighbours along k, two products and two
//! sums in f32 an instruction, twice the speed of f32.
//!
//! A pair is one 32-bit element here, so packing, strides and broadcasts are those of f32 with half
//! the depth. The instruction takes inputs below the normal numbers as zero.

use std::arch::x86_64::*;

use super::{
    Avx512,
    gemm::{Block, WIDTH, a_stride, depth},
};

/// Rows of a full tile.
pub(crate) const HEIGHT: usize = 14;

const LANES: usize = 16;

/// This machine has AVX-512 with BF16.
#[derive(Debug, Clone, Copy)]
pub struct Avx512Bf16(());

impl Avx512Bf16 {
    /// The proof, on a machine that has it.
    pub fn detect(_: Avx512) -> Option<Self> {
        is_x86_feature_detected!("avx512bf16").then_some(Self(()))
    }
}

/// C = A·B, or C + A·B, for one tile. Elements of A and B are pairs along k, the first in the low half.
pub(crate) struct PairTile<'a> {
    /// Rows at [`a_stride`].
    pub a: &'a [u32],
    /// `depth` rows at `b_stride`, each of whole vectors.
    pub b: &'a [u32],
    pub b_stride: usize,
    /// In pairs.
    pub depth: usize,
    pub c: Block<'a, f32>,
    /// C + A·B.
    pub add: bool,
}

impl PairTile<'_> {
    pub fn run(self, _proof: Avx512Bf16) {
        let (m, vectors) = (self.c.rows(), self.c.cols().div_ceil(LANES));
        assert!(m <= HEIGHT && vectors <= WIDTH && self.depth <= depth::<u32>());
        if m == 0 || vectors == 0 {
            return;
        }
        assert!(
            self.a.len() >= (m - 1) * a_stride::<u32>() + self.depth,
            "A is too short"
        );
        let b_end = self.depth.saturating_sub(1) * self.b_stride + vectors * LANES;
        assert!(self.depth == 0 || self.b.len() >= b_end, "B is too short");
        macro_rules! rows {
            ($($m:literal)*) => {
                match (m, vectors) {
                    // SAFETY: the token proves the features; sizes are checked above.
                    $(($m, 1) => unsafe { fixed::<$m, 1>(self) },
                    // SAFETY: the token proves the features; sizes are checked above.
                    ($m, _) => unsafe { fixed::<$m, 2>(self) },)*
                    _ => unreachable!("checked above"),
                }
            };
        }
        rows!(1 2 3 4 5 6 7 8 9 10 11 12 13 14);
    }
}

/// # Safety
/// The machine has the features; A has M rows of `depth` pairs, and B N vectors in each of `depth` rows.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")]
unsafe fn fixed<const M: usize, const N: usize>(tile: PairTile<'_>) {
    let PairTile {
        a,
        b,
        b_stride,
        depth,
        mut c,
        add,
    } = tile;
    let mut sums = [[_mm512_setzero_ps(); N]; M];
    let (mut a, mut b) = (a.as_ptr(), b.as_ptr());
    for _ in 0..depth {
        let mut columns = [_mm512_setzero_si512(); N];
        for (j, column) in columns.iter_mut().enumerate() {
            // SAFETY: the caller has checked that B has N vectors in each of its rows.
            *column = unsafe { _mm512_loadu_si512(b.add(j * LANES).cast()) };
        }
        for (i, sums) in sums.iter_mut().enumerate() {
            // SAFETY: the caller has checked that A has M rows of `depth` pairs.
            let x = _mm512_set1_epi32(unsafe { *a.add(i * a_stride::<u32>()) }.cast_signed());
            for (sum, &column) in sums.iter_mut().zip(&columns) {
                // SAFETY: both types are 64 bytes for which every bit pattern is valid.
                let [x, column] = [x, column]
                    .map(|pairs| unsafe { std::mem::transmute::<__m512i, __m512bh>(pairs) });
                *sum = _mm512_dpbf16_ps(*sum, x, column);
            }
        }
        a = a.wrapping_add(1);
        b = b.wrapping_add(b_stride);
    }
    for (i, sums) in sums.into_iter().enumerate() {
        for (sum, place) in sums.into_iter().zip(c.row(i).chunks_mut(LANES)) {
            let mask = if place.len() >= LANES {
                !0
            } else {
                (1 << place.len()) - 1
            };
            // SAFETY: the mask covers no element beyond `place`.
            unsafe {
                let sum = if add {
                    _mm512_add_ps(_mm512_maskz_loadu_ps(mask, place.as_ptr()), sum)
                } else {
                    sum
                };
                _mm512_mask_storeu_ps(place.as_mut_ptr(), mask, sum);
            }
        }
    }
}
