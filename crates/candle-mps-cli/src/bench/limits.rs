//! What the machine can do at best: multiply-adds on registers, and copies to fresh memory, on all threads.
//! Rates in the tables stand beside these.

use std::hint::black_box;
use std::time::Instant;

use candle_mps_cpu::simd::{self, Simd, Vector, WithSimd};
use candle_mps_cpu::{V, memory, threads};

use crate::results::bench::Limits;

/// Sizes of the copies in bytes, read and write together.
const COPIES: [u64; 4] = [128 << 10, 1 << 20, 16 << 20, 128 << 20];

/// The best of a few tries each; about half a second.
pub fn measure() -> Limits {
    Limits {
        gflops: multiply_adds(),
        copies: COPIES.map(|bytes| (bytes, copy(bytes))).to_vec(),
    }
}

impl Limits {
    /// GB/s of a copy about as large as this.
    pub fn bandwidth(&self, bytes: f64) -> Option<f64> {
        let distance = |size: u64| (size as f64 / bytes.max(1.)).ln().abs();
        let nearest = self
            .copies
            .iter()
            .min_by(|a, b| distance(a.0).total_cmp(&distance(b.0)));
        nearest.map(|(_, rate)| *rate)
    }
}

/// As many chains as keep the units busy.
struct Fma {
    rounds: usize,
    factor: f32,
}

impl WithSimd for Fma {
    type Output = f32;
    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> f32 {
        let factor = V::<f32, S>::splat(s, self.factor);
        let mut sums = [factor; 12];
        for _ in 0..self.rounds {
            for sum in &mut sums {
                *sum = sum.mul_add(factor, factor);
            }
        }
        sums.into_iter()
            .reduce(|a, b| a + b)
            .map_or(0., V::<f32, S>::reduce_add)
    }
}

/// The lanes of an instruction set.
struct Lanes;

impl WithSimd for Lanes {
    type Output = usize;
    #[inline(always)]
    fn run<S: Simd>(self, _: S) -> usize {
        V::<f32, S>::LANES
    }
}

fn multiply_adds() -> f64 {
    let Ok(isa) = simd::isa() else {
        return 0.;
    };
    let rounds = 1_000_000;
    let flops = (threads::count() * rounds * 12 * 2 * isa.run(Lanes)) as f64;
    let tries = (0..9).map(|_| {
        let start = Instant::now();
        threads::run(threads::count(), |_| {
            black_box(isa.run(Fma {
                rounds,
                factor: black_box(0.5),
            }));
        });
        flops / start.elapsed().as_secs_f64() / 1e9
    });
    tries.fold(0., f64::max)
}

fn copy(bytes: u64) -> f64 {
    let from = vec![1f32; bytes as usize / 8];
    let tries = (0..9).map(|_| {
        let start = Instant::now();
        let mut to = memory::vector::<f32>(from.len());
        let parts = threads::parts(from.len(), 64 << 10);
        threads::rows(&mut to, 1, parts, |range, to| {
            to.copy_from_slice(&from[range]);
        });
        let seconds = start.elapsed().as_secs_f64();
        black_box(to);
        bytes as f64 / seconds / 1e9
    });
    tries.fold(0., f64::max)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_copy_of_the_nearest_size_counts() {
        let limits = Limits {
            gflops: 1.,
            copies: vec![(1 << 10, 100.), (1 << 20, 50.)],
        };
        assert_eq!(limits.bandwidth(10.), Some(100.));
        assert_eq!(limits.bandwidth(4096.), Some(100.));
        assert_eq!(limits.bandwidth(1e9), Some(50.));
        assert_eq!(Limits::default().bandwidth(1.), None);
    }

    #[test]
    fn limits_are_measured() {
        let limits = measure();
        assert!(limits.gflops > 0.01, "{limits:?}");
        assert!(
            limits.copies.iter().all(|(_, rate)| *rate > 0.01),
            "{limits:?}"
        );
    }
}
