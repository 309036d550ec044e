//! The prelude, function by function, against references in f64 or in plain Rust. Each test compiles a small C++ source
//! as kernels are compiled and calls it from lanes that are OS threads; nothing of the crate itself takes part.

#![allow(unsafe_code)]

mod atomics;
mod conversions;
mod detector;
mod geometric;
mod integers;
mod lanes;
mod library;
mod math;
mod matrices;
mod packing;
mod relational;
mod simd;
mod simdgroup_matrix;
mod types;
mod vectors;

/// Different numbers, the same in every run (xorshift64*).
struct Numbers(u64);

impl Numbers {
    fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn bits(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// Between two numbers.
    fn between(&mut self, low: f32, high: f32) -> f32 {
        low + (self.bits() >> 40) as f32 / (1 << 24) as f32 * (high - low)
    }
}
