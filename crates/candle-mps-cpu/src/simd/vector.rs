//! What a kernel may ask of an instruction set.

use std::{
    fmt::Debug,
    ops::{Add, Div, Mul, Sub},
};

use half::{bf16, f16};

use crate::{Element, Real};

/// A kernel: its arguments, and what to compute with the vectors of any instruction set.
pub trait WithSimd {
    /// What it returns.
    type Output;

    /// The kernel. Mark it `#[inline(always)]`, and every generic function that it calls.
    fn run<S: Simd>(self, s: S) -> Self::Output;
}

/// An instruction set; a value of it proves that this machine has it.
pub trait Simd: Copy + Send + Sync + Debug + 'static {
    /// A vector of f32. f16 and bf16 are widened to it.
    type F32: Vector<Self, Scalar = f32>;
    /// A vector of f64.
    type F64: Vector<Self, Scalar = f64>;

    /// Runs a kernel with this instruction set turned on for the compiler.
    fn with<K: WithSimd>(self, kernel: K) -> K::Output;

    /// The first vector of `src`. Panics if `src` is shorter.
    fn load_f32(self, src: &[f32]) -> Self::F32;
    /// The first vector of `src`. Panics if `src` is shorter.
    fn load_f64(self, src: &[f64]) -> Self::F64;
    /// The first vector of `src`, widened. Panics if `src` is shorter.
    fn load_f16(self, src: &[f16]) -> Self::F32;
    /// The first vector of `src`, widened. Panics if `src` is shorter.
    fn load_bf16(self, src: &[bf16]) -> Self::F32;

    /// Writes to the start of `dst`. Panics if `dst` is shorter.
    fn store_f32(self, v: Self::F32, dst: &mut [f32]);
    /// Writes to the start of `dst`. Panics if `dst` is shorter.
    fn store_f64(self, v: Self::F64, dst: &mut [f64]);
    /// Rounds to nearest even and writes to the start of `dst`. Panics if `dst` is shorter.
    fn store_f16(self, v: Self::F32, dst: &mut [f16]);
    /// Rounds to nearest even and writes to the start of `dst`. Panics if `dst` is shorter.
    fn store_bf16(self, v: Self::F32, dst: &mut [bf16]);

    /// At most a vector of `src`; missing elements are `fill`.
    #[inline(always)]
    fn load_part_f32(self, src: &[f32], fill: f32) -> Self::F32 {
        self.load_f32(&filled(src, fill))
    }
    /// At most a vector of `src`; missing elements are `fill`.
    #[inline(always)]
    fn load_part_f64(self, src: &[f64], fill: f64) -> Self::F64 {
        self.load_f64(&filled(src, fill))
    }
    /// At most a vector of `src`; missing elements are `fill`.
    #[inline(always)]
    fn load_part_f16(self, src: &[f16], fill: f32) -> Self::F32 {
        self.load_f16(&filled(src, f16::from_acc(fill)))
    }
    /// At most a vector of `src`; missing elements are `fill`.
    #[inline(always)]
    fn load_part_bf16(self, src: &[bf16], fill: f32) -> Self::F32 {
        self.load_bf16(&filled(src, bf16::from_acc(fill)))
    }

    /// Writes as many elements as `dst` has, at most the whole vector.
    #[inline(always)]
    fn store_part_f32(self, v: Self::F32, dst: &mut [f32]) {
        let mut whole = [Element::ZERO; MAX_LANES];
        self.store_f32(v, &mut whole);
        let len = dst.len().min(Self::F32::LANES);
        dst[..len].copy_from_slice(&whole[..len]);
    }
    /// Writes as many elements as `dst` has, at most the whole vector.
    #[inline(always)]
    fn store_part_f64(self, v: Self::F64, dst: &mut [f64]) {
        let mut whole = [Element::ZERO; MAX_LANES];
        self.store_f64(v, &mut whole);
        let len = dst.len().min(Self::F64::LANES);
        dst[..len].copy_from_slice(&whole[..len]);
    }
    /// Writes as many elements as `dst` has, at most the whole vector.
    #[inline(always)]
    fn store_part_f16(self, v: Self::F32, dst: &mut [f16]) {
        let mut whole = [Element::ZERO; MAX_LANES];
        self.store_f16(v, &mut whole);
        let len = dst.len().min(Self::F32::LANES);
        dst[..len].copy_from_slice(&whole[..len]);
    }
    /// Writes as many elements as `dst` has, at most the whole vector.
    #[inline(always)]
    fn store_part_bf16(self, v: Self::F32, dst: &mut [bf16]) {
        let mut whole = [Element::ZERO; MAX_LANES];
        self.store_bf16(v, &mut whole);
        let len = dst.len().min(Self::F32::LANES);
        dst[..len].copy_from_slice(&whole[..len]);
    }
}

/// A vector of f32 or f64.
pub trait Vector<S: Simd>:
    Copy
    + Send
    + Sync
    + Add<Output = Self>
    + Sub<Output = Self>
    + Mul<Output = Self>
    + Div<Output = Self>
{
    /// f32 or f64.
    type Scalar: Real;
    /// The result of a comparison.
    type Mask: Copy;

    /// The number of elements.
    const LANES: usize;

    /// The same value everywhere.
    fn splat(s: S, value: Self::Scalar) -> Self;
    /// `self * b + c`; rounded once where the instruction set can.
    fn mul_add(self, b: Self, c: Self) -> Self;
    /// `self` where it is greater than `other`, else `other`: a NaN in `self` is passed over, one in
    /// `other` is kept.
    fn max(self, other: Self) -> Self;
    /// `self` where it is less than `other`, else `other`: NaN as in [`Vector::max`].
    fn min(self, other: Self) -> Self;
    /// The square root.
    fn sqrt(self) -> Self;
    /// To the nearest integer, ties to even, for magnitudes below 2²².
    fn round(self) -> Self;
    /// `self * 2^n` for integral `n` in −1100..1100 (f64) or −160..160 (f32), also where 2ⁿ itself is
    /// not a normal number.
    fn scale(self, n: Self) -> Self;
    /// `self > other`, false for NaN.
    fn gt(self, other: Self) -> Self::Mask;
    /// `self == other`, false for NaN.
    fn eq(self, other: Self) -> Self::Mask;
    /// `yes` where the mask is set, else `no`.
    fn select(mask: Self::Mask, yes: Self, no: Self) -> Self;
    /// The elements of `self` followed by `other` at even places, and those at odd places.
    fn deinterleave(self, other: Self) -> (Self, Self);
    /// What [`Vector::deinterleave`] has taken apart: elements of `self` and `other` in turn.
    fn interleave(self, other: Self) -> (Self, Self);
    /// The sum of the elements, in an order that depends on the instruction set only.
    fn reduce_add(self) -> Self::Scalar;
    /// The largest element; NaN may be passed over.
    fn reduce_max(self) -> Self::Scalar;
}

/// No vector has more elements than this.
pub(crate) const MAX_LANES: usize = 16;

/// `src` and then `fill`.
#[inline(always)]
fn filled<T: Copy>(src: &[T], fill: T) -> [T; MAX_LANES] {
    let mut whole = [fill; MAX_LANES];
    let len = src.len().min(MAX_LANES);
    whole[..len].copy_from_slice(&src[..len]);
    whole
}

/// `+`, `-`, `*` and `/` of a vector around a vendor's vector, each by an intrinsic.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
macro_rules! operators {
    ($v:ident: $($operator:ident $method:ident $intrinsic:ident),+) => {$(
        impl std::ops::$operator for $v {
            type Output = Self;
            #[inline(always)]
            fn $method(self, other: Self) -> Self {
                // SAFETY: the vector proves the features of its instruction set.
                unsafe { Self($intrinsic(self.0, other.0)) }
            }
        }
    )+};
}
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
pub(super) use operators;
