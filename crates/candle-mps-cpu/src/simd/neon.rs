//! NEON: 4 f32 or 2 f64. Every aarch64 has it.

use std::arch::{aarch64::*, asm};

use half::{bf16, f16};

use super::{Simd, Vector, WithSimd, vector::operators};

/// NEON is part of aarch64.
#[derive(Debug, Clone, Copy)]
pub struct Neon(());

impl Neon {
    /// Always there on aarch64.
    pub fn new() -> Self {
        Self(())
    }
}

impl Default for Neon {
    fn default() -> Self {
        Self::new()
    }
}

/// Four f32.
#[derive(Clone, Copy)]
pub struct F32x4(float32x4_t);

/// Two f64.
#[derive(Clone, Copy)]
pub struct F64x2(float64x2_t);

impl Simd for Neon {
    type F32 = F32x4;
    type F64 = F64x2;

    #[inline]
    fn with<K: WithSimd>(self, kernel: K) -> K::Output {
        kernel.run(self)
    }

    #[inline(always)]
    fn load_f32(self, src: &[f32]) -> F32x4 {
        let src = &src[..4];
        // SAFETY: 4 elements are there; NEON is part of the target.
        unsafe { F32x4(vld1q_f32(src.as_ptr())) }
    }
    #[inline(always)]
    fn load_f64(self, src: &[f64]) -> F64x2 {
        let src = &src[..2];
        // SAFETY: 2 elements are there; NEON is part of the target.
        unsafe { F64x2(vld1q_f64(src.as_ptr())) }
    }
    /// In assembly, because the intrinsic takes a type that stable Rust does not have.
    #[inline(always)]
    fn load_f16(self, src: &[f16]) -> F32x4 {
        let src = &src[..4];
        // SAFETY: 4 elements of 16 bits are there; the conversion is part of the base instruction set
        // and touches its registers only.
        unsafe {
            let narrow = vld1_u16(src.as_ptr().cast());
            let wide: float32x4_t;
            asm!("fcvtl {0:v}.4s, {1:v}.4h", out(vreg) wide, in(vreg) narrow,
                 options(pure, nomem, nostack, preserves_flags));
            F32x4(wide)
        }
    }
    #[inline(always)]
    fn load_bf16(self, src: &[bf16]) -> F32x4 {
        let src = &src[..4];
        // SAFETY: 4 elements of 16 bits are there; NEON is part of the target.
        unsafe {
            F32x4(vreinterpretq_f32_u32(vshll_n_u16::<16>(vld1_u16(
                src.as_ptr().cast(),
            ))))
        }
    }

    #[inline(always)]
    fn store_f32(self, v: F32x4, dst: &mut [f32]) {
        let dst = &mut dst[..4];
        // SAFETY: there is room for 4 elements; NEON is part of the target.
        unsafe { vst1q_f32(dst.as_mut_ptr(), v.0) }
    }
    #[inline(always)]
    fn store_f64(self, v: F64x2, dst: &mut [f64]) {
        let dst = &mut dst[..2];
        // SAFETY: there is room for 2 elements; NEON is part of the target.
        unsafe { vst1q_f64(dst.as_mut_ptr(), v.0) }
    }
    #[inline(always)]
    fn store_f16(self, v: F32x4, dst: &mut [f16]) {
        let dst = &mut dst[..4];
        // SAFETY: there is room for 4 elements of 16 bits; the conversion is part of the base
        // instruction set and touches its registers only.
        unsafe {
            let narrow: uint16x4_t;
            asm!("fcvtn {0:v}.4h, {1:v}.4s", out(vreg) narrow, in(vreg) v.0,
                 options(pure, nomem, nostack, preserves_flags));
            vst1_u16(dst.as_mut_ptr().cast(), narrow);
        }
    }
    #[inline(always)]
    fn store_bf16(self, v: F32x4, dst: &mut [bf16]) {
        let dst = &mut dst[..4];
        // SAFETY: there is room for 4 elements of 16 bits; NEON is part of the target.
        unsafe {
            let bits = vreinterpretq_u32_f32(v.0);
            let odd = vandq_u32(vshrq_n_u32::<16>(bits), vdupq_n_u32(1));
            let rounded = vaddq_u32(bits, vaddq_u32(odd, vdupq_n_u32(0x7fff)));
            let quiet = vorrq_u32(bits, vdupq_n_u32(0x40_0000));
            let all = vbslq_u32(vceqq_f32(v.0, v.0), rounded, quiet);
            vst1_u16(dst.as_mut_ptr().cast(), vshrn_n_u32::<16>(all));
        }
    }
}

macro_rules! vector {
    ($v:ident, $t:ident, $mask:ident, $lanes:literal, $dup:ident, $add:ident, $sub:ident, $mul:ident,
     $div:ident, $fma:ident, $sqrt:ident, $round:ident, $gt:ident, $eq:ident, $select:ident,
     $sum:ident, $largest:ident, $to_int:ident, $add_int:ident, $dup_int:ident, $shift:ident,
     $half:ident, $sub_int:ident, $cast:ident, $bias:literal, $mantissa:literal, $even:ident, $odd:ident,
     $low:ident, $high:ident) => {
        operators!($v: Add add $add, Sub sub $sub, Mul mul $mul, Div div $div);
        impl Vector<Neon> for $v {
            type Scalar = $t;
            type Mask = $mask;
            const LANES: usize = $lanes;

            #[inline(always)]
            fn splat(_: Neon, value: $t) -> Self {
                // SAFETY: NEON is part of the target.
                unsafe { Self($dup(value)) }
            }
            #[inline(always)]
            fn mul_add(self, b: Self, c: Self) -> Self {
                // SAFETY: NEON is part of the target.
                unsafe { Self($fma(c.0, self.0, b.0)) }
            }
            /// By comparison: the instruction for it treats NaN otherwise than the trait says.
            #[inline(always)]
            fn max(self, other: Self) -> Self {
                Self::select(self.gt(other), self, other)
            }
            #[inline(always)]
            fn min(self, other: Self) -> Self {
                Self::select(other.gt(self), self, other)
            }
            #[inline(always)]
            fn sqrt(self) -> Self {
                // SAFETY: NEON is part of the target.
                unsafe { Self($sqrt(self.0)) }
            }
            #[inline(always)]
            fn round(self) -> Self {
                // SAFETY: NEON is part of the target.
                unsafe { Self($round(self.0)) }
            }
            #[inline(always)]
            fn scale(self, n: Self) -> Self {
                // Two steps: 2ⁿ alone may be too small or too large for a normal number.
                // SAFETY: NEON is part of the target.
                unsafe {
                    let n = $to_int(n.0);
                    let low = $half::<1>(n);
                    let high = $sub_int(n, low);
                    let bias = $dup_int($bias);
                    let low = $cast($shift::<$mantissa>($add_int(low, bias)));
                    let high = $cast($shift::<$mantissa>($add_int(high, bias)));
                    Self($mul($mul(self.0, low), high))
                }
            }
            #[inline(always)]
            fn gt(self, other: Self) -> $mask {
                // SAFETY: NEON is part of the target.
                unsafe { $gt(self.0, other.0) }
            }
            #[inline(always)]
            fn eq(self, other: Self) -> $mask {
                // SAFETY: NEON is part of the target.
                unsafe { $eq(self.0, other.0) }
            }
            #[inline(always)]
            fn select(mask: $mask, yes: Self, no: Self) -> Self {
                // SAFETY: NEON is part of the target.
                unsafe { Self($select(mask, yes.0, no.0)) }
            }
            #[inline(always)]
            fn deinterleave(self, other: Self) -> (Self, Self) {
                // SAFETY: NEON is part of the target.
                unsafe { (Self($even(self.0, other.0)), Self($odd(self.0, other.0))) }
            }
            #[inline(always)]
            fn interleave(self, other: Self) -> (Self, Self) {
                // SAFETY: NEON is part of the target.
                unsafe { (Self($low(self.0, other.0)), Self($high(self.0, other.0))) }
            }
            #[inline(always)]
            fn reduce_add(self) -> $t {
                // SAFETY: NEON is part of the target.
                unsafe { $sum(self.0) }
            }
            #[inline(always)]
            fn reduce_max(self) -> $t {
                // SAFETY: NEON is part of the target.
                unsafe { $largest(self.0) }
            }
        }
    };
}

vector!(
    F32x4,
    f32,
    uint32x4_t,
    4,
    vdupq_n_f32,
    vaddq_f32,
    vsubq_f32,
    vmulq_f32,
    vdivq_f32,
    vfmaq_f32,
    vsqrtq_f32,
    vrndnq_f32,
    vcgtq_f32,
    vceqq_f32,
    vbslq_f32,
    vaddvq_f32,
    vmaxnmvq_f32,
    vcvtq_s32_f32,
    vaddq_s32,
    vdupq_n_s32,
    vshlq_n_s32,
    vshrq_n_s32,
    vsubq_s32,
    vreinterpretq_f32_s32,
    127,
    23,
    vuzp1q_f32,
    vuzp2q_f32,
    vzip1q_f32,
    vzip2q_f32
);
vector!(
    F64x2,
    f64,
    uint64x2_t,
    2,
    vdupq_n_f64,
    vaddq_f64,
    vsubq_f64,
    vmulq_f64,
    vdivq_f64,
    vfmaq_f64,
    vsqrtq_f64,
    vrndnq_f64,
    vcgtq_f64,
    vceqq_f64,
    vbslq_f64,
    vaddvq_f64,
    vmaxnmvq_f64,
    vcvtq_s64_f64,
    vaddq_s64,
    vdupq_n_s64,
    vshlq_n_s64,
    vshrq_n_s64,
    vsubq_s64,
    vreinterpretq_f64_s64,
    1023,
    52,
    vuzp1q_f64,
    vuzp2q_f64,
    vzip1q_f64,
    vzip2q_f64
);
