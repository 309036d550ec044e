//! AVX2 with FMA and F16C: 8 f32 or 4 f64.

use std::arch::x86_64::*;

use half::{bf16, f16};

use super::{Simd, Vector, WithSimd, vector::operators};

/// This machine has AVX2, FMA and F16C.
#[derive(Debug, Clone, Copy)]
pub struct Avx2(());

impl Avx2 {
    /// The proof, on a machine that has it.
    pub fn detect() -> Option<Self> {
        let there = is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("fma")
            && is_x86_feature_detected!("f16c");
        there.then_some(Self(()))
    }

    /// The token's features, turned on.
    ///
    /// # Safety
    /// The machine has them.
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn enabled<K: WithSimd>(self, kernel: K) -> K::Output {
        kernel.run(self)
    }
}

/// Eight f32.
#[derive(Clone, Copy)]
pub struct F32x8(__m256);

/// Four f64.
#[derive(Clone, Copy)]
pub struct F64x4(__m256d);

impl Simd for Avx2 {
    type F32 = F32x8;
    type F64 = F64x4;

    #[inline]
    fn with<K: WithSimd>(self, kernel: K) -> K::Output {
        // SAFETY: the token proves the features.
        unsafe { self.enabled(kernel) }
    }

    #[inline(always)]
    fn load_f32(self, src: &[f32]) -> F32x8 {
        let src = &src[..8];
        // SAFETY: 8 elements are there; the token proves the features.
        unsafe { F32x8(_mm256_loadu_ps(src.as_ptr())) }
    }
    #[inline(always)]
    fn load_f64(self, src: &[f64]) -> F64x4 {
        let src = &src[..4];
        // SAFETY: 4 elements are there; the token proves the features.
        unsafe { F64x4(_mm256_loadu_pd(src.as_ptr())) }
    }
    #[inline(always)]
    fn load_f16(self, src: &[f16]) -> F32x8 {
        let src = &src[..8];
        // SAFETY: 8 elements of 16 bits are there; the token proves the features.
        unsafe { F32x8(_mm256_cvtph_ps(_mm_loadu_si128(src.as_ptr().cast()))) }
    }
    #[inline(always)]
    fn load_bf16(self, src: &[bf16]) -> F32x8 {
        let src = &src[..8];
        // SAFETY: 8 elements of 16 bits are there; the token proves the features.
        unsafe {
            let narrow = _mm_loadu_si128(src.as_ptr().cast());
            F32x8(_mm256_castsi256_ps(_mm256_slli_epi32::<16>(
                _mm256_cvtepu16_epi32(narrow),
            )))
        }
    }

    #[inline(always)]
    fn store_f32(self, v: F32x8, dst: &mut [f32]) {
        let dst = &mut dst[..8];
        // SAFETY: there is room for 8 elements; the token proves the features.
        unsafe { _mm256_storeu_ps(dst.as_mut_ptr(), v.0) }
    }
    #[inline(always)]
    fn store_f64(self, v: F64x4, dst: &mut [f64]) {
        let dst = &mut dst[..4];
        // SAFETY: there is room for 4 elements; the token proves the features.
        unsafe { _mm256_storeu_pd(dst.as_mut_ptr(), v.0) }
    }
    #[inline(always)]
    fn store_f16(self, v: F32x8, dst: &mut [f16]) {
        let dst = &mut dst[..8];
        // SAFETY: there is room for 8 elements of 16 bits; the token proves the features.
        unsafe {
            let narrow = _mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(v.0);
            _mm_storeu_si128(dst.as_mut_ptr().cast(), narrow);
        }
    }
    #[inline(always)]
    fn store_bf16(self, v: F32x8, dst: &mut [bf16]) {
        let dst = &mut dst[..8];
        // SAFETY: there is room for 8 elements of 16 bits; the token proves the features.
        unsafe {
            let bits = _mm256_castps_si256(v.0);
            let odd = _mm256_and_si256(_mm256_srli_epi32::<16>(bits), _mm256_set1_epi32(1));
            let half = _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff));
            let rounded = _mm256_add_epi32(bits, half);
            let nan = _mm256_castps_si256(_mm256_cmp_ps::<_CMP_UNORD_Q>(v.0, v.0));
            let quiet = _mm256_or_si256(bits, _mm256_set1_epi32(0x40_0000));
            let all = _mm256_srli_epi32::<16>(_mm256_blendv_epi8(rounded, quiet, nan));
            let (low, high) = (
                _mm256_castsi256_si128(all),
                _mm256_extracti128_si256::<1>(all),
            );
            _mm_storeu_si128(dst.as_mut_ptr().cast(), _mm_packus_epi32(low, high));
        }
    }
}

macro_rules! vector {
    ($v:ident, $raw:ident, $t:ident, $lanes:literal, $set1:ident, $add:ident, $sub:ident, $mul:ident,
     $div:ident, $fmadd:ident, $max:ident, $min:ident, $sqrt:ident, $round:ident, $cmp:ident,
     $blend:ident, $low:ident, $high:ident, $halves:ident) => {
        operators!($v: Add add $add, Sub sub $sub, Mul mul $mul, Div div $div);
        impl Vector<Avx2> for $v {
            type Scalar = $t;
            type Mask = $raw;
            const LANES: usize = $lanes;

            #[inline(always)]
            fn splat(_: Avx2, value: $t) -> Self {
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
                // Two steps: 2ⁿ alone may be too small or too large for a normal number.
                let (low, high) = n.halves();
                self * low.power() * high.power()
            }
            #[inline(always)]
            fn gt(self, other: Self) -> $raw {
                // SAFETY: the vector proves the features.
                unsafe { $cmp::<_CMP_GT_OQ>(self.0, other.0) }
            }
            #[inline(always)]
            fn eq(self, other: Self) -> $raw {
                // SAFETY: the vector proves the features.
                unsafe { $cmp::<_CMP_EQ_OQ>(self.0, other.0) }
            }
            #[inline(always)]
            fn select(mask: $raw, yes: Self, no: Self) -> Self {
                // SAFETY: the vectors prove the features.
                unsafe { Self($blend(no.0, yes.0, mask)) }
            }
            #[inline(always)]
            fn deinterleave(self, other: Self) -> (Self, Self) {
                self.apart(other)
            }
            #[inline(always)]
            fn interleave(self, other: Self) -> (Self, Self) {
                // SAFETY: the vectors prove the features.
                unsafe {
                    let (low, high) = ($low(self.0, other.0), $high(self.0, other.0));
                    (
                        Self($halves::<0x20>(low, high)),
                        Self($halves::<0x31>(low, high)),
                    )
                }
            }
            #[inline(always)]
            fn reduce_add(self) -> $t {
                self.sum()
            }
            #[inline(always)]
            fn reduce_max(self) -> $t {
                self.largest()
            }
        }
        impl $v {
            /// Two integral parts of about the same size whose sum is `self`.
            #[inline(always)]
            fn halves(self) -> (Self, Self) {
                // SAFETY: the vector proves the features.
                let half = Self(unsafe { $mul(self.0, $set1(0.5)) }).round();
                (half, self - half)
            }
        }
    };
}

vector!(
    F32x8,
    __m256,
    f32,
    8,
    _mm256_set1_ps,
    _mm256_add_ps,
    _mm256_sub_ps,
    _mm256_mul_ps,
    _mm256_div_ps,
    _mm256_fmadd_ps,
    _mm256_max_ps,
    _mm256_min_ps,
    _mm256_sqrt_ps,
    _mm256_round_ps,
    _mm256_cmp_ps,
    _mm256_blendv_ps,
    _mm256_unpacklo_ps,
    _mm256_unpackhi_ps,
    _mm256_permute2f128_ps
);
vector!(
    F64x4,
    __m256d,
    f64,
    4,
    _mm256_set1_pd,
    _mm256_add_pd,
    _mm256_sub_pd,
    _mm256_mul_pd,
    _mm256_div_pd,
    _mm256_fmadd_pd,
    _mm256_max_pd,
    _mm256_min_pd,
    _mm256_sqrt_pd,
    _mm256_round_pd,
    _mm256_cmp_pd,
    _mm256_blendv_pd,
    _mm256_unpacklo_pd,
    _mm256_unpackhi_pd,
    _mm256_permute2f128_pd
);

impl F32x8 {
    /// 2 to the power of each (integral) element.
    #[inline(always)]
    fn power(self) -> Self {
        // SAFETY: the vector proves the features.
        unsafe {
            let biased = _mm256_add_epi32(_mm256_cvtps_epi32(self.0), _mm256_set1_epi32(127));
            Self(_mm256_castsi256_ps(_mm256_slli_epi32::<23>(biased)))
        }
    }

    #[inline(always)]
    fn apart(self, other: Self) -> (Self, Self) {
        // SAFETY: the vectors prove the features.
        unsafe {
            let even = _mm256_castps_pd(_mm256_shuffle_ps::<0b10_00_10_00>(self.0, other.0));
            let odd = _mm256_castps_pd(_mm256_shuffle_ps::<0b11_01_11_01>(self.0, other.0));
            let in_order = |v| Self(_mm256_castpd_ps(_mm256_permute4x64_pd::<0b11_01_10_00>(v)));
            (in_order(even), in_order(odd))
        }
    }

    #[inline(always)]
    fn sum(self) -> f32 {
        // SAFETY: the vector proves the features.
        unsafe {
            let four = _mm_add_ps(
                _mm256_castps256_ps128(self.0),
                _mm256_extractf128_ps::<1>(self.0),
            );
            let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
            _mm_cvtss_f32(_mm_add_ss(two, _mm_shuffle_ps::<1>(two, two)))
        }
    }

    #[inline(always)]
    fn largest(self) -> f32 {
        // SAFETY: the vector proves the features.
        unsafe {
            let four = _mm_max_ps(
                _mm256_castps256_ps128(self.0),
                _mm256_extractf128_ps::<1>(self.0),
            );
            let two = _mm_max_ps(four, _mm_movehl_ps(four, four));
            _mm_cvtss_f32(_mm_max_ss(two, _mm_shuffle_ps::<1>(two, two)))
        }
    }
}

impl F64x4 {
    /// 2 to the power of each (integral) element.
    #[inline(always)]
    fn power(self) -> Self {
        // SAFETY: the vector proves the features.
        unsafe {
            let wide = _mm256_cvtepi32_epi64(_mm256_cvtpd_epi32(self.0));
            let biased = _mm256_add_epi64(wide, _mm256_set1_epi64x(1023));
            Self(_mm256_castsi256_pd(_mm256_slli_epi64::<52>(biased)))
        }
    }

    #[inline(always)]
    fn apart(self, other: Self) -> (Self, Self) {
        // SAFETY: the vectors prove the features.
        unsafe {
            let even = _mm256_unpacklo_pd(self.0, other.0);
            let odd = _mm256_unpackhi_pd(self.0, other.0);
            let in_order = |v| Self(_mm256_permute4x64_pd::<0b11_01_10_00>(v));
            (in_order(even), in_order(odd))
        }
    }

    #[inline(always)]
    fn sum(self) -> f64 {
        // SAFETY: the vector proves the features.
        unsafe {
            let two = _mm_add_pd(
                _mm256_castpd256_pd128(self.0),
                _mm256_extractf128_pd::<1>(self.0),
            );
            _mm_cvtsd_f64(_mm_add_sd(two, _mm_unpackhi_pd(two, two)))
        }
    }

    #[inline(always)]
    fn largest(self) -> f64 {
        // SAFETY: the vector proves the features.
        unsafe {
            let two = _mm_max_pd(
                _mm256_castpd256_pd128(self.0),
                _mm256_extractf128_pd::<1>(self.0),
            );
            _mm_cvtsd_f64(_mm_max_sd(two, _mm_unpackhi_pd(two, two)))
        }
    }
}
