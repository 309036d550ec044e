//! Plain Rust on small arrays, which the compiler turns into what the target has (SSE2 on x86-64).

use std::{
    array,
    ops::{Add, Div, Mul, Sub},
};

use half::{bf16, f16};

use super::{Simd, Vector, WithSimd};

/// No instruction set needed.
#[derive(Debug, Clone, Copy)]
pub struct Scalar(());

impl Scalar {
    /// Always there.
    pub fn new() -> Self {
        Self(())
    }
}

impl Default for Scalar {
    fn default() -> Self {
        Self::new()
    }
}

/// Four elements.
#[derive(Clone, Copy)]
pub struct Four<T>([T; 4]);

impl Simd for Scalar {
    type F32 = Four<f32>;
    type F64 = Four<f64>;

    // Nobody is here for speed, and what would be inlined is long without vectors.
    #[inline(never)]
    fn with<K: WithSimd>(self, kernel: K) -> K::Output {
        kernel.run(self)
    }

    #[inline(always)]
    fn load_f32(self, src: &[f32]) -> Four<f32> {
        Four(array::from_fn(|i| src[i]))
    }
    #[inline(always)]
    fn load_f64(self, src: &[f64]) -> Four<f64> {
        Four(array::from_fn(|i| src[i]))
    }
    #[inline(never)]
    fn load_f16(self, src: &[f16]) -> Four<f32> {
        Four(array::from_fn(|i| src[i].to_f32()))
    }
    #[inline(never)]
    fn load_bf16(self, src: &[bf16]) -> Four<f32> {
        Four(array::from_fn(|i| src[i].to_f32()))
    }
    #[inline(always)]
    fn store_f32(self, v: Four<f32>, dst: &mut [f32]) {
        dst[..4].copy_from_slice(&v.0);
    }
    #[inline(always)]
    fn store_f64(self, v: Four<f64>, dst: &mut [f64]) {
        dst[..4].copy_from_slice(&v.0);
    }
    #[inline(never)]
    fn store_f16(self, v: Four<f32>, dst: &mut [f16]) {
        dst[..4].copy_from_slice(&v.0.map(f16::from_f32));
    }
    #[inline(never)]
    fn store_bf16(self, v: Four<f32>, dst: &mut [bf16]) {
        dst[..4].copy_from_slice(&v.0.map(bf16::from_f32));
    }
}

macro_rules! four {
    ($t:ident, $bits:ident, $int:ident, $bias:literal, $mantissa:literal, $magic:expr) => {
        impl Add for Four<$t> {
            type Output = Self;
            #[inline(always)]
            fn add(self, other: Self) -> Self {
                Self(array::from_fn(|i| self.0[i] + other.0[i]))
            }
        }
        impl Sub for Four<$t> {
            type Output = Self;
            #[inline(always)]
            fn sub(self, other: Self) -> Self {
                Self(array::from_fn(|i| self.0[i] - other.0[i]))
            }
        }
        impl Mul for Four<$t> {
            type Output = Self;
            #[inline(always)]
            fn mul(self, other: Self) -> Self {
                Self(array::from_fn(|i| self.0[i] * other.0[i]))
            }
        }
        impl Div for Four<$t> {
            type Output = Self;
            #[inline(always)]
            fn div(self, other: Self) -> Self {
                Self(array::from_fn(|i| self.0[i] / other.0[i]))
            }
        }
        impl Vector<Scalar> for Four<$t> {
            type Scalar = $t;
            type Mask = [bool; 4];
            const LANES: usize = 4;

            #[inline(always)]
            fn splat(_: Scalar, value: $t) -> Self {
                Self([value; 4])
            }
            #[inline(always)]
            fn mul_add(self, b: Self, c: Self) -> Self {
                self * b + c
            }
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
                Self(self.0.map($t::sqrt))
            }
            /// Adding 1.5·2^mantissa leaves no room for a fraction. (`round_ties_even` is a call to
            /// the C library without SSE4.1.)
            #[inline(always)]
            fn round(self) -> Self {
                Self(self.0.map(|x| (x + $magic) - $magic))
            }
            #[inline(always)]
            fn scale(self, n: Self) -> Self {
                let power = |n: $int| $t::from_bits(((n + $bias) as $bits) << $mantissa);
                Self(array::from_fn(|i| {
                    let n = n.0[i] as $int;
                    self.0[i] * power(n >> 1) * power(n - (n >> 1))
                }))
            }
            #[inline(always)]
            fn gt(self, other: Self) -> [bool; 4] {
                array::from_fn(|i| self.0[i] > other.0[i])
            }
            #[inline(always)]
            fn eq(self, other: Self) -> [bool; 4] {
                array::from_fn(|i| self.0[i] == other.0[i])
            }
            #[inline(always)]
            fn select(mask: [bool; 4], yes: Self, no: Self) -> Self {
                Self(array::from_fn(|i| if mask[i] { yes.0[i] } else { no.0[i] }))
            }
            #[inline(always)]
            fn deinterleave(self, other: Self) -> (Self, Self) {
                let ([a, b, c, d], [e, f, g, h]) = (self.0, other.0);
                (Self([a, c, e, g]), Self([b, d, f, h]))
            }
            #[inline(always)]
            fn interleave(self, other: Self) -> (Self, Self) {
                let ([a, b, c, d], [e, f, g, h]) = (self.0, other.0);
                (Self([a, e, b, f]), Self([c, g, d, h]))
            }
            #[inline(always)]
            fn reduce_add(self) -> $t {
                (self.0[0] + self.0[2]) + (self.0[1] + self.0[3])
            }
            #[inline(always)]
            fn reduce_max(self) -> $t {
                let larger = |a: $t, b: $t| if a > b { a } else { b };
                larger(larger(self.0[0], self.0[1]), larger(self.0[2], self.0[3]))
            }
        }
    };
}

four!(f32, u32, i32, 127, 23, 12_582_912_f32);
four!(f64, u64, i64, 1023, 52, 6_755_399_441_055_744_f64);
