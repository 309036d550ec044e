//! The element types, and the type that each accumulates in.

use half::{bf16, f16};

use crate::simd::{EXP_F32, EXP_F64, Exp, NORMAL_F32, NORMAL_F64, Normal, Simd, Vector};

/// The vector of `R` in the instruction set `S`.
pub type V<R, S> = <R as Real>::Vector<S>;

/// A type that a kernel reads and writes: f32, f64, f16 or bf16.
///
/// Kernels compute in [`Element::Acc`]; f16 and bf16 are widened at the load and rounded to nearest
/// even at the store, once.
pub trait Element:
    Copy + Send + Sync + std::fmt::Debug + PartialEq + 'static + sealed::Sealed
{
    /// What sums and statistics are kept in: f32, or f64 for f64.
    type Acc: Real;

    /// Zero.
    const ZERO: Self;

    /// Whether the type is its own accumulator: storing rounds nothing.
    const WIDE: bool;

    /// Widens one element.
    fn to_acc(self) -> Self::Acc;

    /// Rounds to nearest even.
    fn from_acc(acc: Self::Acc) -> Self;

    /// Widens to f64.
    fn to_f64(self) -> f64;

    /// Rounds from f64 to nearest even.
    fn from_f64(value: f64) -> Self;

    /// The elements themselves, for a type that is its own accumulator.
    fn as_acc(_: &[Self]) -> Option<&[Self::Acc]> {
        None
    }

    /// The elements themselves, for a type that is its own accumulator.
    fn as_acc_mut(_: &mut [Self]) -> Option<&mut [Self::Acc]> {
        None
    }

    /// The first vector of `src`. Panics if there are fewer elements.
    fn load<S: Simd>(s: S, src: &[Self]) -> V<Self::Acc, S>;

    /// Writes a vector to the start of `dst`. Panics if there is less room.
    fn store<S: Simd>(s: S, v: V<Self::Acc, S>, dst: &mut [Self]);

    /// A vector from at most as many elements as it has; the others are `fill`.
    fn load_part<S: Simd>(s: S, src: &[Self], fill: Self::Acc) -> V<Self::Acc, S>;

    /// Writes as many elements as `dst` has, at most the whole vector.
    fn store_part<S: Simd>(s: S, v: V<Self::Acc, S>, dst: &mut [Self]);

    /// A whole vector where `src` has one, else what there is and `fill`.
    #[inline(always)]
    fn get<S: Simd>(s: S, src: &[Self], fill: Self::Acc) -> V<Self::Acc, S> {
        if src.len() >= V::<Self::Acc, S>::LANES {
            Self::load(s, src)
        } else {
            Self::load_part(s, src, fill)
        }
    }

    /// A whole vector where `dst` has room for one, else as much as fits.
    #[inline(always)]
    fn put<S: Simd>(s: S, v: V<Self::Acc, S>, dst: &mut [Self]) {
        if dst.len() >= V::<Self::Acc, S>::LANES {
            Self::store(s, v, dst);
        } else {
            Self::store_part(s, v, dst);
        }
    }
}

/// A type that kernels compute in: f32 or f64.
pub trait Real:
    Element<Acc = Self>
    + std::ops::Add<Output = Self>
    + std::ops::Sub<Output = Self>
    + std::ops::Mul<Output = Self>
    + std::ops::Div<Output = Self>
    + PartialOrd
{
    /// The vector of this type in the instruction set `S`.
    type Vector<S: Simd>: Vector<S, Scalar = Self>;

    /// One.
    const ONE: Self;

    /// −∞.
    const NEG_INFINITY: Self;

    /// What [`exp`](crate::simd::exp) computes with.
    const EXP: Exp<Self>;

    /// What [`normal_cdf`](crate::simd::normal_cdf) computes with.
    const NORMAL: Normal<Self>;

    /// The square root.
    fn sqrt(self) -> Self;

    /// The natural logarithm.
    fn ln(self) -> Self;
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for f32 {}
    impl Sealed for f64 {}
    impl Sealed for half::f16 {}
    impl Sealed for half::bf16 {}
}

macro_rules! element {
    ($t:ty, $acc:ty, $zero:expr, $load:ident, $store:ident, $load_part:ident, $store_part:ident,
     $to_acc:expr, $from_acc:expr, $to_f64:expr, $from_f64:expr $(, $wide:item)*) => {
        impl Element for $t {
            type Acc = $acc;
            const ZERO: Self = $zero;
            const WIDE: bool = size_of::<$t>() == size_of::<$acc>();
            #[inline(always)]
            fn to_acc(self) -> $acc {
                $to_acc(self)
            }
            #[inline(always)]
            fn from_acc(acc: $acc) -> Self {
                $from_acc(acc)
            }
            #[inline(always)]
            fn to_f64(self) -> f64 {
                $to_f64(self)
            }
            #[inline(always)]
            fn from_f64(value: f64) -> Self {
                $from_f64(value)
            }
            #[inline(always)]
            fn load<S: Simd>(s: S, src: &[Self]) -> V<$acc, S> {
                s.$load(src)
            }
            #[inline(always)]
            fn store<S: Simd>(s: S, v: V<$acc, S>, dst: &mut [Self]) {
                s.$store(v, dst)
            }
            #[inline(always)]
            fn load_part<S: Simd>(s: S, src: &[Self], fill: $acc) -> V<$acc, S> {
                s.$load_part(src, fill)
            }
            #[inline(always)]
            fn store_part<S: Simd>(s: S, v: V<$acc, S>, dst: &mut [Self]) {
                s.$store_part(v, dst)
            }
            $($wide)*
        }
    };
}

element!(
    f32,
    f32,
    0.,
    load_f32,
    store_f32,
    load_part_f32,
    store_part_f32,
    |x| x,
    |x| x,
    f64::from,
    |x: f64| x as f32,
    #[inline(always)]
    fn as_acc(elements: &[f32]) -> Option<&[f32]> {
        Some(elements)
    },
    #[inline(always)]
    fn as_acc_mut(elements: &mut [f32]) -> Option<&mut [f32]> {
        Some(elements)
    }
);
element!(
    f64,
    f64,
    0.,
    load_f64,
    store_f64,
    load_part_f64,
    store_part_f64,
    |x| x,
    |x| x,
    |x| x,
    |x| x,
    #[inline(always)]
    fn as_acc(elements: &[f64]) -> Option<&[f64]> {
        Some(elements)
    },
    #[inline(always)]
    fn as_acc_mut(elements: &mut [f64]) -> Option<&mut [f64]> {
        Some(elements)
    }
);
element!(
    f16,
    f32,
    f16::ZERO,
    load_f16,
    store_f16,
    load_part_f16,
    store_part_f16,
    f16::to_f32,
    f16::from_f32,
    f16::to_f64,
    f16::from_f64
);
element!(
    bf16,
    f32,
    bf16::ZERO,
    load_bf16,
    store_bf16,
    load_part_bf16,
    store_part_bf16,
    bf16::to_f32,
    bf16::from_f32,
    bf16::to_f64,
    bf16::from_f64
);

macro_rules! real {
    ($t:ident, $vector:ident, $exp:ident, $normal:ident) => {
        impl Real for $t {
            type Vector<S: Simd> = S::$vector;
            const ONE: Self = 1.;
            const NEG_INFINITY: Self = $t::NEG_INFINITY;
            const EXP: Exp<Self> = $exp;
            const NORMAL: Normal<Self> = $normal;
            #[inline(always)]
            fn sqrt(self) -> Self {
                $t::sqrt(self)
            }
            #[inline(always)]
            fn ln(self) -> Self {
                $t::ln(self)
            }
        }
    };
}

real!(f32, F32, EXP_F32, NORMAL_F32);
real!(f64, F64, EXP_F64, NORMAL_F64);
