//! Vectors of each instruction set, behind one trait, chosen at run time.
//!
//! A kernel is a struct with its arguments that implements [`WithSimd`]: written once, generic over
//! [`Simd`], every function on its way `#[inline(always)]`. [`Isa::run`] calls it inside a function
//! that has the instruction set's features turned on, and there the whole kernel is compiled again.
//! That is also why the methods here have no `target_feature` of their own: such a function does not
//! inline into one without.
//!
//! **No closures over vectors.** They cannot be marked `#[inline(always)]`, and one that is not inlined
//! lacks the features: each of its operations becomes a call, thirty times slower. Use a function, a
//! method or a macro. To look for it: `objdump -dC` of a release test binary has calls to `core_arch`.
//!
//! **Tokens.** A value of `Avx512`, `Avx2` or `Neon` proves that this machine has what its name
//! says: only `detect` makes one. Vectors are made from tokens, so a vector is a proof as well, and
//! its methods are safe.
//!
//! **Why not `pulp`,** which works the same way: it has AVX-512 since 0.22 but neither f16 nor bf16
//! loads, no scaling by a power of two (`vscalef`, a third of our `exp` on AVX-512), and its masked
//! loads go through a table of slices. What is needed here is about forty operations.
//!
//! `CANDLE_MPS_ISA=avx512|avx2|neon|scalar` requires an instruction set, for tests and measurements.

#![allow(
    unsafe_code,
    reason = "vendor intrinsics; tokens prove that the machine has them"
)]

#[cfg(any(test, all(feature = "accelerate", target_vendor = "apple")))]
pub(crate) mod accelerate;
#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
pub(crate) mod gemm;
#[cfg(target_arch = "x86_64")]
mod gemm_bf16;
mod isa;
mod math;
#[cfg(target_arch = "aarch64")]
mod neon;
mod scalar;
#[cfg(test)]
mod tests;
mod vector;

#[cfg(target_arch = "x86_64")]
pub use avx2::Avx2;
#[cfg(target_arch = "x86_64")]
pub use avx512::Avx512;
#[cfg(target_arch = "x86_64")]
pub use gemm_bf16::Avx512Bf16;
#[cfg(target_arch = "x86_64")]
pub(crate) use gemm_bf16::{HEIGHT as PAIR_HEIGHT, PairTile};
pub use isa::{Isa, available, isa, with_isa};
pub(crate) use math::{EXP_F32, EXP_F64, NORMAL_F32, NORMAL_F64};
pub use math::{Exp, Normal, exp, normal_cdf};
#[cfg(target_arch = "aarch64")]
pub use neon::Neon;
pub use scalar::Scalar;
pub(crate) use vector::MAX_LANES;
pub use vector::{Simd, Vector, WithSimd};
