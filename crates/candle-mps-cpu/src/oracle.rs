//! What the ops' tests share: random operands, every instruction set, results against f64.
//!
//! `SEED=<number> cargo test <name>` replays the case that a failure has named,
//! `CANDLE_MPS_TEST_ROUNDS=<number>` sets how many are tried, and `CANDLE_MPS_ISA=<name>` leaves one
//! instruction set of those that the machine has.

use candle_mps_seeds::Random;

use crate::{
    Element, Layout,
    simd::{available, isa, with_isa},
    threads::with_count,
};

/// The generator of all tests, and what is made of it here.
#[derive(Debug)]
pub struct Rng(Random);

impl Rng {
    /// The generator that `SEED` names.
    pub fn new(seed: u64) -> Self {
        Self(Random::new(seed))
    }

    /// A number of the range.
    pub fn below(&mut self, end: usize) -> usize {
        self.0.below(end)
    }

    /// Roughly normal, from four uniform ones.
    pub fn real(&mut self) -> f64 {
        let sum: f64 = (0..4)
            .map(|_| (self.0.bits() >> 11) as f64 / (1u64 << 53) as f64)
            .sum();
        (sum - 2.) * 1.8
    }

    /// Dimensions of 1 to 4 axes: mostly small, the last often longer than a few vectors.
    pub fn dims(&mut self) -> Vec<usize> {
        let mut dims: Vec<usize> = (0..1 + self.below(4)).map(|_| 1 + self.below(5)).collect();
        let axis = self.below(dims.len());
        let long = [4, 40, 150][self.below(3)];
        dims[axis] = 1 + self.below(long);
        dims
    }

    /// Values for `dims`, laid out in any way: permuted, with gaps, repeated, at any offset.
    pub fn operand<T: Element>(&mut self, dims: &[usize]) -> Operand<T> {
        let mut order: Vec<usize> = (0..dims.len()).collect();
        if self.below(3) == 0 {
            for i in (1..order.len()).rev() {
                order.swap(i, self.below(i + 1));
            }
        }
        let gaps = self.below(3) == 0;
        let mut strides = vec![0; dims.len()];
        let mut stride = 1 + usize::from(gaps) * self.below(2);
        for &axis in order.iter().rev() {
            let repeated = gaps && self.below(8) == 0;
            strides[axis] = if repeated { 0 } else { stride };
            stride *= dims[axis] + usize::from(gaps) * self.below(3);
        }
        let offset = self.below(6);
        let last: usize = dims
            .iter()
            .zip(&strides)
            .map(|(&d, &s)| d.saturating_sub(1) * s)
            .sum();
        let len = if dims.contains(&0) {
            0
        } else {
            offset + last + 1
        } + self.below(3);
        let data = (0..len).map(|_| T::from_f64(self.real())).collect();
        Operand {
            data,
            dims: dims.to_vec(),
            strides,
            offset,
        }
    }

    /// Values without gaps.
    pub fn values<T: Element>(&mut self, len: usize) -> Vec<T> {
        (0..len).map(|_| T::from_f64(self.real())).collect()
    }
}

/// A slice with its layout.
#[derive(Debug)]
pub struct Operand<T> {
    pub data: Vec<T>,
    pub dims: Vec<usize>,
    pub strides: Vec<usize>,
    pub offset: usize,
}

impl<T: Element> Operand<T> {
    pub fn layout(&self) -> Layout<'_> {
        Layout::new(&self.dims, &self.strides, self.offset).unwrap()
    }

    /// The elements in row-major order.
    pub fn values(&self) -> Vec<f64> {
        let count: usize = self.dims.iter().product();
        (0..count)
            .map(|mut index| {
                let mut at = self.offset;
                for (&dim, &stride) in self.dims.iter().zip(&self.strides).rev() {
                    at += index % dim * stride;
                    index /= dim;
                }
                self.data[at].to_f64()
            })
            .collect()
    }
}

/// How many random cases there are where nothing else is asked for.
const ROUNDS: u64 = 60;

fn rounds() -> u64 {
    number("CANDLE_MPS_TEST_ROUNDS").unwrap_or(ROUNDS)
}

/// The step of a sweep over many numbers, wider where fewer rounds are asked for.
pub fn step(usual: usize) -> usize {
    usual * ROUNDS.div_ceil(rounds().max(1)) as usize
}

fn number(name: &str) -> Option<u64> {
    let value = std::env::var(name).ok()?;
    Some(value.parse().expect("SEED and ROUNDS are numbers"))
}

/// Runs `case` with many seeds, on every instruction set, with one thread and with three; what it
/// returns must not depend on the number of threads.
pub fn cases<T: Element>(name: &str, case: impl Fn(&mut Rng) -> Vec<T>) {
    let seeds = number("SEED").map_or(0..rounds(), |seed| seed..seed + 1);
    let isas = match std::env::var_os("CANDLE_MPS_ISA") {
        Some(_) => vec![isa().unwrap()],
        None => available(),
    };
    for seed in seeds {
        for &isa in &isas {
            eprintln!("{name}: on {}; replay with SEED={seed}", isa.name());
            let run = |threads| with_isa(isa, || with_count(threads, || case(&mut Rng::new(seed))));
            let (one, three) = (run(1), run(3));
            let bits = |all: &[T]| all.iter().map(|x| x.to_f64().to_bits()).collect::<Vec<_>>();
            assert_eq!(bits(&one), bits(&three), "threads change the result");
        }
    }
}

/// Refuses results farther from the exact ones than one rounding of `T` and `slack` units of rounding
/// of its accumulator, relative to `size` (or the value, if larger).
pub fn check<T: Element>(what: &str, got: &[T], exact: &[f64], size: f64, slack: f64) {
    assert_eq!(got.len(), exact.len(), "{what}");
    let unit = |bits: i32| 2f64.powi(-bits);
    let (store, tiny, acc) = match size_of::<T>() {
        8 => (0., 0., unit(53)),
        4 => (0., 0., unit(24)),
        _ if T::from_f64(1e10).to_f64().is_infinite() => (unit(11), unit(25), unit(24)),
        _ => (unit(8), unit(130), unit(24)),
    };
    for (at, (got, &exact)) in got.iter().zip(exact).enumerate() {
        let got = got.to_f64();
        let bound = exact.abs() * store * 1.001 + tiny + slack * acc * exact.abs().max(size);
        assert!(
            (got - exact).abs() <= bound || got == exact || (got.is_nan() && exact.is_nan()),
            "{what}[{at}] = {got}, not {exact} (within {bound:e})"
        );
    }
}

/// Φ by its power series around 0, in a way that loses nothing for |x| < 6.
pub fn normal_cdf(x: f64) -> f64 {
    let (mut term, mut sum, mut k) = (x.abs(), 0., 1.);
    while term > 1e-20 * (1. + sum) {
        sum += term;
        k += 2.;
        term *= x * x / k;
    }
    let above = sum * (-x * x / 2.).exp() / (2. * std::f64::consts::PI).sqrt();
    0.5 + above * x.signum()
}

/// Runs a generic test for the four types.
macro_rules! each_type {
    ($($name:ident)*) => {
        $(
            mod $name {
                #[test]
                fn of_f32() {
                    super::$name::<f32>();
                }
                #[test]
                fn of_f64() {
                    super::$name::<f64>();
                }
                #[test]
                fn of_f16() {
                    super::$name::<half::f16>();
                }
                #[test]
                fn of_bf16() {
                    super::$name::<half::bf16>();
                }
            }
        )*
    };
}
pub(crate) use each_type;
