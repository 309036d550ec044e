//! AVX-512: 16 f32 or 8 f64. The end of a row is loaded and stored under a mask.

use std::arch::x86_64::*;

use half::{bf16, f16};

use super::{Simd, Vector, WithSimd, vector::operators};

/// This machine has AVX-512 F, BW, DQ and VL (and AVX2, FMA and F16C).
#[derive(Debug, Clone, Copy)]
pub struct Avx512(());

impl Avx512 {
    /// The proof, on a machine that has it.
    pub fn detect() -> Option<Self> {
        let there = is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx512vl")
            && is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("fma")
            && is_x86_feature_detected!("f16c");
        there.then_some(Self(()))
    }

    /// The token's features, turned on.
    ///
    /// # Safety
    /// The machine has them.
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c")]
    unsafe fn enabled<K: WithSimd>(self, kernel: K) -> K::Output {
        kernel.run(self)
    }
}

/// Sixteen f32.
#[derive(Clone, Copy)]
pub struct F32x16(__m512);

/// Eight f64.
#[derive(Clone, Copy)]
pub struct F64x8(__m512d);

#[inline(always)]
fn mask16(len: usize) -> __mmask16 {
    if len >= 16 { !0 } else { (1 << len) - 1 }
}

#[inline(always)]
fn mask8(len: usize) -> __mmask8 {
    if len >= 8 { !0 } else { (1 << len) - 1 }
}

impl Simd for Avx512 {
    type F32 = F32x16;
    type F64 = F64x8;

    #[inline]
    fn with<K: WithSimd>(self, kernel: K) -> K::Output {
        // SAFETY: the token proves the features.
        unsafe { self.enabled(kernel) }
    }

    #[inline(always)]
    fn load_f32(self, src: &[f32]) -> F32x16 {
        let src = &src[..16];
        // SAFETY: 16 elements are there; the token proves the features.
        unsafe { F32x16(_mm512_loadu_ps(src.as_ptr())) }
    }
    #[inline(always)]
    fn load_f64(self, src: &[f64]) -> F64x8 {
        let src = &src[..8];
        // SAFETY: 8 elements are there; the token proves the features.
        unsafe { F64x8(_mm512_loadu_pd(src.as_ptr())) }
    }
    #[inline(always)]
    fn load_f16(self, src: &[f16]) -> F32x16 {
        let src = &src[..16];
        // SAFETY: 16 elements of 16 bits are there; the token proves the features.
        unsafe { F32x16(_mm512_cvtph_ps(_mm256_loadu_si256(src.as_ptr().cast()))) }
    }
    #[inline(always)]
    fn load_bf16(self, src: &[bf16]) -> F32x16 {
        let src = &src[..16];
        // SAFETY: 16 elements of 16 bits are there; the token proves the features.
        unsafe {
            let narrow = _mm256_loadu_si256(src.as_ptr().cast());
            F32x16(_mm512_castsi512_ps(_mm512_slli_epi32::<16>(
                _mm512_cvtepu16_epi32(narrow),
            )))
        }
    }

    #[inline(always)]
    fn store_f32(self, v: F32x16, dst: &mut [f32]) {
        let dst = &mut dst[..16];
        // SAFETY: there is room for 16 elements; the token proves the features.
        unsafe { _mm512_storeu_ps(dst.as_mut_ptr(), v.0) }
    }
    #[inline(always)]
    fn store_f64(self, v: F64x8, dst: &mut [f64]) {
        let dst = &mut dst[..8];
        // SAFETY: there is room for 8 elements; the token proves the features.
        unsafe { _mm512_storeu_pd(dst.as_mut_ptr(), v.0) }
    }
    #[inline(always)]
    fn store_f16(self, v: F32x16, dst: &mut [f16]) {
        let dst = &mut dst[..16];
        // SAFETY: there is room for 16 elements of 16 bits; the token proves the features.
        unsafe { _mm256_storeu_si256(dst.as_mut_ptr().cast(), v.to_f16()) }
    }
    #[inline(always)]
    fn store_bf16(self, v: F32x16, dst: &mut [bf16]) {
        let dst = &mut dst[..16];
        // SAFETY: there is room for 16 elements of 16 bits; the token proves the features.
        unsafe { _mm256_storeu_si256(dst.as_mut_ptr().cast(), v.to_bf16()) }
    }

    #[inline(always)]
    fn load_part_f32(self, src: &[f32], fill: f32) -> F32x16 {
        let mask = mask16(src.len());
        // SAFETY: the mask covers no element beyond the slice; the token proves the features.
        unsafe {
            F32x16(_mm512_mask_loadu_ps(
                _mm512_set1_ps(fill),
                mask,
                src.as_ptr(),
            ))
        }
    }
    #[inline(always)]
    fn load_part_f64(self, src: &[f64], fill: f64) -> F64x8 {
        let mask = mask8(src.len());
        // SAFETY: the mask covers no element beyond the slice; the token proves the features.
        unsafe {
            F64x8(_mm512_mask_loadu_pd(
                _mm512_set1_pd(fill),
                mask,
                src.as_ptr(),
            ))
        }
    }
    #[inline(always)]
    fn store_part_f32(self, v: F32x16, dst: &mut [f32]) {
        let mask = mask16(dst.len());
        // SAFETY: the mask covers no element beyond the slice; the token proves the features.
        unsafe { _mm512_mask_storeu_ps(dst.as_mut_ptr(), mask, v.0) }
    }
    #[inline(always)]
    fn store_part_f64(self, v: F64x8, dst: &mut [f64]) {
        let mask = mask8(dst.len());
        // SAFETY: the mask covers no element beyond the slice; the token proves the features.
        unsafe { _mm512_mask_storeu_pd(dst.as_mut_ptr(), mask, v.0) }
    }
}

impl F32x16 {
    #[inline(always)]
    fn to_f16(self) -> __m256i {
        // SAFETY: the vector proves the features.
        unsafe { _mm512_cvtps_ph::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(self.0) }
    }

    /// In integers, because `vcvtneps2bf16` flushes what is not normal to zero.
    #[inline(always)]
    fn to_bf16(self) -> __m256i {
        // SAFETY: the vector proves the features.
        unsafe {
            let bits = _mm512_castps_si512(self.0);
            let odd = _mm512_and_si512(_mm512_srli_epi32::<16>(bits), _mm512_set1_epi32(1));
            let half = _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff));
            let rounded = _mm512_add_epi32(bits, half);
            let nan = _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(self.0, self.0);
            let quiet = _mm512_or_si512(bits, _mm512_set1_epi32(0x40_0000));
            let all = _mm512_mask_blend_epi32(nan, rounded, quiet);
            _mm512_cvtepi32_epi16(_mm512_srli_epi32::<16>(all))
        }
    }
}

/// Places in two vectors, one after the other.
const EVEN: [u8; 16] = [0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30];
const ODD: [u8; 16] = [1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31];
const LOW_16: [u8; 16] = [0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23];
const HIGH_16: [u8; 16] = [8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31];
const LOW_8: [u8; 16] = [0, 8, 1, 9, 2, 10, 3, 11, 0, 0, 0, 0, 0, 0, 0, 0];
const HIGH_8: [u8; 16] = [4, 12, 5, 13, 6, 14, 7, 15, 0, 0, 0, 0, 0, 0, 0, 0];

/// Widens places to the lanes of f32.
///
/// # Safety
/// The machine has AVX-512 F.
#[inline(always)]
unsafe fn index_32(places: [u8; 16]) -> __m512i {
    // SAFETY: 16 bytes are there; the caller vouches for the features.
    unsafe { _mm512_cvtepu8_epi32(_mm_loadu_si128(places.as_ptr().cast())) }
}

/// Widens the first eight places to the lanes of f64.
///
/// # Safety
/// The machine has AVX-512 F.
#[inline(always)]
unsafe fn index_64(places: [u8; 16]) -> __m512i {
    // SAFETY: 16 bytes are there; the caller vouches for the features.
    unsafe { _mm512_cvtepu8_epi64(_mm_loadu_si128(places.as_ptr().cast())) }
}

macro_rules! vector {
    ($v:ident, $t:ident, $mask:ty, $lanes:literal, $set1:ident, $add:ident, $sub:ident, $mul:ident,
     $div:ident, $fmadd:ident, $max:ident, $min:ident, $sqrt:ident, $round:ident, $scalef:ident,
     $cmp:ident, $blend:ident, $reduce_add:ident, $reduce_max:ident, $permute:ident, $index:ident,
     $low:ident, $high:ident) => {
        operators!($v: Add add $add, Sub sub $sub, Mul mul $mul, Div div $div);
        impl Vector<Avx512> for $v {
            type Scalar = $t;
            type Mask = $mask;
            const LANES: usize = $lanes;

            #[inline(always)]
            fn splat(_: Avx512, value: $t) -> Self {
                // SAFETY: the token proves the features.
                unsafe { Self($set1(value)) }
            }
            #[inline(always)]
            fn mul_add(self, b: Self, c: Self) -> Self {
                // SAFETY: the vector proves the features.
                unsafe { Self($fmadd(self.0, b.0, c.0)) }
            }
            #[inline(always)]
            fn max(self, other: Self) -> Self {
                // SAFETY: the vector proves the features.
                unsafe { Self($max(self.0, other.0)) }
            }
            #[inline(always)]
            fn min(self, other: Self) -> Self {
                // SAFETY: the vector proves the features.
                unsafe { Self($min(self.0, other.0)) }
            }
            #[inline(always)]
            fn sqrt(self) -> Self {
                // SAFETY: the vector proves the features.
                unsafe { Self($sqrt(self.0)) }
            }
            #[inline(always)]
            fn round(self) -> Self {
                // SAFETY: the vector proves the features.
                unsafe {
                    Self($round::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(
                        self.0,
                    ))
                }
            }
            #[inline(always)]
            fn scale(self, n: Self) -> Self {
                // SAFETY: the vector proves the features.
                unsafe { Self($scalef(self.0, n.0)) }
            }
            #[inline(always)]
            fn gt(self, other: Self) -> $mask {
                // SAFETY: the vector proves the features.
                unsafe { $cmp::<_CMP_GT_OQ>(self.0, other.0) }
            }
            #[inline(always)]
            fn eq(self, other: Self) -> $mask {
                // SAFETY: the vector proves the features.
                unsafe { $cmp::<_CMP_EQ_OQ>(self.0, other.0) }
            }
            #[inline(always)]
            fn select(mask: $mask, yes: Self, no: Self) -> Self {
                // SAFETY: the vectors prove the features.
                unsafe { Self($blend(mask, no.0, yes.0)) }
            }
            #[inline(always)]
            fn deinterleave(self, other: Self) -> (Self, Self) {
                // SAFETY: the vectors prove the features.
                unsafe {
                    let (even, odd) = ($index(EVEN), $index(ODD));
                    (
                        Self($permute(self.0, even, other.0)),
                        Self($permute(self.0, odd, other.0)),
                    )
                }
            }
            #[inline(always)]
            fn interleave(self, other: Self) -> (Self, Self) {
                // SAFETY: the vectors prove the features.
                unsafe {
                    let (low, high) = ($index($low), $index($high));
                    (
                        Self($permute(self.0, low, other.0)),
                        Self($permute(self.0, high, other.0)),
                    )
                }
            }
            #[inline(always)]
            fn reduce_add(self) -> $t {
                // SAFETY: the vector proves the features.
                unsafe { $reduce_add(self.0) }
            }
            #[inline(always)]
            fn reduce_max(self) -> $t {
                // SAFETY: the vector proves the features.
                unsafe { $reduce_max(self.0) }
            }
        }
    };
}

vector!(
    F32x16,
    f32,
    __mmask16,
    16,
    _mm512_set1_ps,
    _mm512_add_ps,
    _mm512_sub_ps,
    _mm512_mul_ps,
    _mm512_div_ps,
    _mm512_fmadd_ps,
    _mm512_max_ps,
    _mm512_min_ps,
    _mm512_sqrt_ps,
    _mm512_roundscale_ps,
    _mm512_scalef_ps,
    _mm512_cmp_ps_mask,
    _mm512_mask_blend_ps,
    _mm512_reduce_add_ps,
    _mm512_reduce_max_ps,
    _mm512_permutex2var_ps,
    index_32,
    LOW_16,
    HIGH_16
);
vector!(
    F64x8,
    f64,
    __mmask8,
    8,
    _mm512_set1_pd,
    _mm512_add_pd,
    _mm512_sub_pd,
    _mm512_mul_pd,
    _mm512_div_pd,
    _mm512_fmadd_pd,
    _mm512_max_pd,
    _mm512_min_pd,
    _mm512_sqrt_pd,
    _mm512_roundscale_pd,
    _mm512_scalef_pd,
    _mm512_cmp_pd_mask,
    _mm512_mask_blend_pd,
    _mm512_reduce_add_pd,
    _mm512_reduce_max_pd,
    _mm512_permutex2var_pd,
    index_64,
    LOW_8,
    HIGH_8
);
