//! Every operation of every instruction set of this machine, against plain Rust.

use half::{bf16, f16};

use super::{Isa, Simd, Vector, WithSimd, available, gemm::turned, vector::MAX_LANES};
use crate::{Element, Real, V};

/// Numbers with something to trip over: zeros, ties, tiny, huge, infinite, NaN.
fn samples() -> Vec<f64> {
    let mut all = vec![
        0., -0., 1., -1., 0.5, 1.5, 2.5, -2.5, -0.5, 3.25, 1e-30, -7e5, 1e30,
    ];
    all.extend([
        f64::INFINITY,
        f64::NEG_INFINITY,
        f64::NAN,
        123.456,
        -1e-3,
        4_194_303.5,
    ]);
    all
}

fn same<R: Real>(a: R, b: R) -> bool {
    let (a, b) = (a.to_f64(), b.to_f64());
    (a.is_nan() && b.is_nan()) || a == b
}

struct Binary<'a, R>(&'a [R], &'a [R], usize, std::marker::PhantomData<R>);

impl<R: Real> WithSimd for Binary<'_, R> {
    type Output = Vec<R>;
    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> Vec<R> {
        let mut out = vec![R::ZERO; MAX_LANES];
        let (a, b) = (
            R::load_part(s, self.0, R::ZERO),
            R::load_part(s, self.1, R::ZERO),
        );
        let one = V::<R, S>::splat(s, R::ONE);
        let v = match self.2 {
            0 => a + b,
            1 => a - b,
            2 => a * b,
            3 => a / b,
            4 => a.max(b),
            5 => a.min(b),
            6 => V::<R, S>::select(a.gt(b), one, b),
            7 => V::<R, S>::select(a.eq(b), one, a),
            8 => a.sqrt(),
            9 => a.round(),
            _ => a.mul_add(b, one),
        };
        R::store(s, v, &mut out);
        out.truncate(V::<R, S>::LANES);
        out
    }
}

fn arithmetic<R: Real>(isa: Isa) {
    let samples: Vec<R> = samples().into_iter().map(R::from_f64).collect();
    for op in 0..11 {
        for &a in &samples {
            for &b in &samples {
                if op == 9 && a.to_f64().abs() > 4e6 {
                    continue;
                }
                let expected = match op {
                    0 => a + b,
                    1 => a - b,
                    2 => a * b,
                    3 => a / b,
                    4 => {
                        if a > b {
                            a
                        } else {
                            b
                        }
                    }
                    5 => {
                        if a < b {
                            a
                        } else {
                            b
                        }
                    }
                    6 => {
                        if a > b {
                            R::ONE
                        } else {
                            b
                        }
                    }
                    7 => {
                        if a == b {
                            R::ONE
                        } else {
                            a
                        }
                    }
                    8 => a.sqrt(),
                    9 => R::from_f64(a.to_f64().round_ties_even()),
                    _ => R::from_f64(a.to_f64().mul_add(b.to_f64(), 1.)),
                };
                let kernel = Binary(
                    &[a; MAX_LANES],
                    &[b; MAX_LANES],
                    op,
                    std::marker::PhantomData,
                );
                for got in isa.run(kernel) {
                    let near = op == 10
                        && (got.to_f64() - expected.to_f64()).abs()
                            <= 1e-6 * (1. + (a * b).to_f64().abs());
                    assert!(
                        same(got, expected) || near,
                        "{} op {op}: {a:?}, {b:?} gave {got:?}, not {expected:?}",
                        isa.name()
                    );
                }
            }
        }
    }
}

#[test]
fn arithmetic_is_that_of_rust() {
    for isa in available() {
        arithmetic::<f32>(isa);
        arithmetic::<f64>(isa);
    }
}

/// Loads part of a slice and gives the sum, the maximum and the elements again.
struct Part<'a, T: Element>(&'a [T], T::Acc, &'a mut [T]);

impl<T: Element> WithSimd for Part<'_, T> {
    type Output = (usize, T::Acc, T::Acc);
    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> Self::Output {
        let v = T::load_part(s, self.0, self.1);
        T::store_part(s, v, self.2);
        (V::<T::Acc, S>::LANES, v.reduce_add(), v.reduce_max())
    }
}

fn parts<T: Element>(isa: Isa) {
    let all: Vec<T> = (0..40)
        .map(|i| T::from_f64(f64::from((i * 7) % 32)))
        .collect();
    for len in 0..=20 {
        for start in 0..3 {
            let src = &all[start..start + len];
            let mut dst = [T::from_f64(99.); 24];
            let fill = T::from_f64(-1.).to_acc();
            let (lanes, sum, largest) = isa.run(Part(src, fill, &mut dst[1..1 + len]));
            let whole: Vec<f64> = (0..lanes)
                .map(|i| src.get(i).map_or(-1., |x| x.to_f64()))
                .collect();
            let at = format!("{} len {len}", isa.name());
            assert_eq!(sum.to_f64(), whole.iter().sum::<f64>(), "{at}");
            assert_eq!(
                largest.to_f64(),
                whole.iter().fold(-1., |a, &b| f64::max(a, b)),
                "{at}"
            );
            assert_eq!(dst[1..1 + len.min(lanes)], src[..len.min(lanes)], "{at}");
            let untouched = dst[..1].iter().chain(&dst[1 + len.min(lanes)..]);
            assert!(untouched.into_iter().all(|x| x.to_f64() == 99.), "{at}");
        }
    }
}

#[test]
fn parts_of_vectors() {
    for isa in available() {
        parts::<f32>(isa);
        parts::<f64>(isa);
        parts::<f16>(isa);
        parts::<bf16>(isa);
    }
}

/// Widens and rounds through vectors.
struct Convert<'a, T: Element, U: Element>(&'a [T], &'a mut [U]);

impl<T: Element, U: Element<Acc = T::Acc>> WithSimd for Convert<'_, T, U> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let lanes = V::<T::Acc, S>::LANES;
        for (x, y) in self
            .0
            .chunks_exact(lanes)
            .zip(self.1.chunks_exact_mut(lanes))
        {
            U::store(s, T::load(s, x), y);
        }
    }
}

#[test]
fn every_narrow_number_widens_as_in_half() {
    let f16s: Vec<_> = (0..=u16::MAX).map(f16::from_bits).collect();
    let bf16s: Vec<_> = (0..=u16::MAX).map(bf16::from_bits).collect();
    for isa in available() {
        let mut wide = vec![0f32; 1 << 16];
        isa.run(Convert(&f16s, &mut wide));
        assert!(
            f16s.iter().zip(&wide).all(|(x, &y)| same(x.to_f32(), y)),
            "{}",
            isa.name()
        );
        isa.run(Convert(&bf16s, &mut wide));
        assert!(
            bf16s.iter().zip(&wide).all(|(x, &y)| same(x.to_f32(), y)),
            "{}",
            isa.name()
        );
    }
}

#[test]
fn rounding_is_to_nearest_even() {
    // Around every narrow number and every tie: the neighbours on both sides.
    let around = |bits: u32| [bits.wrapping_sub(1), bits, bits.wrapping_add(1)].map(f32::from_bits);
    let bf16_ties = (0..1u32 << 17).flat_map(|i| around(i << 15));
    let f16_ties = (0..1u32 << 20).flat_map(|i| around(i << 12));
    let mut x: Vec<f32> = bf16_ties.chain(f16_ties).collect();
    x.truncate(x.len() / MAX_LANES * MAX_LANES);
    for isa in available() {
        let mut narrow = vec![f16::ZERO; x.len()];
        isa.run(Convert(&x, &mut narrow));
        for (&x, &y) in x.iter().zip(&narrow) {
            let right = f16::from_f32(x);
            assert!(
                right == y || (right.is_nan() && y.is_nan()),
                "{} {x} {y}",
                isa.name()
            );
        }
        let mut narrow = vec![bf16::ZERO; x.len()];
        isa.run(Convert(&x, &mut narrow));
        for (&x, &y) in x.iter().zip(&narrow) {
            let right = bf16::from_f32(x);
            assert!(
                right == y || (right.is_nan() && y.is_nan()),
                "{} {x} {y}",
                isa.name()
            );
        }
    }
}

struct Scale<R>(R, R);

impl<R: Real> WithSimd for Scale<R> {
    type Output = R;
    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> R {
        let v = V::<R, S>::splat(s, self.0).scale(V::<R, S>::splat(s, self.1));
        v.reduce_max()
    }
}

#[test]
fn scaling_by_powers_of_two() {
    for isa in available() {
        for n in -151..130 {
            let exact = (1.25 * 2f64.powi(n)) as f32;
            assert_eq!(
                isa.run(Scale(1.25f32, n as f32)),
                exact,
                "{} 2^{n}",
                isa.name()
            );
        }
        for n in [-1076, -1074, -1060, -1022, -1, 0, 1, 600, 1023, 1024] {
            let half = n / 2;
            let exact = 1.25 * 2f64.powi(half) * 2f64.powi(n - half);
            assert_eq!(
                isa.run(Scale(1.25f64, f64::from(n))),
                exact,
                "{} 2^{n}",
                isa.name()
            );
        }
    }
}

struct Pairs<'a, R>(&'a [R], &'a mut [R], &'a mut [R]);

impl<R: Real> WithSimd for Pairs<'_, R> {
    type Output = usize;
    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> usize {
        let lanes = V::<R, S>::LANES;
        let (even, odd) = R::load(s, self.0).deinterleave(R::load(s, &self.0[lanes..]));
        R::store(s, even, self.1);
        R::store(s, odd, &mut self.1[lanes..]);
        let (low, high) = even.interleave(odd);
        R::store(s, low, self.2);
        R::store(s, high, &mut self.2[lanes..]);
        lanes
    }
}

fn pairs<R: Real>(isa: Isa) {
    let all: Vec<R> = (0..32).map(|i| R::from_f64(f64::from(i))).collect();
    let (mut apart, mut back) = (vec![R::ZERO; 32], vec![R::ZERO; 32]);
    let lanes = isa.run(Pairs(&all, &mut apart, &mut back));
    let at = isa.name();
    assert!(
        (0..lanes).all(|i| apart[i] == all[2 * i]),
        "{at}: {apart:?}"
    );
    assert!(
        (0..lanes).all(|i| apart[lanes + i] == all[2 * i + 1]),
        "{at}: {apart:?}"
    );
    assert_eq!(back[..2 * lanes], all[..2 * lanes], "{at}");
}

#[test]
fn pairs_come_apart_and_together() {
    for isa in available() {
        pairs::<f32>(isa);
        pairs::<f64>(isa);
    }
}

struct Turn<'a, R>(&'a [R], &'a mut [R]);

impl<R: Real> WithSimd for Turn<'_, R> {
    type Output = usize;
    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> usize {
        let lanes = V::<R, S>::LANES;
        let mut square = [V::<R, S>::splat(s, R::ZERO); MAX_LANES];
        for (x, line) in square.iter_mut().zip(self.0.chunks_exact(lanes)) {
            *x = R::load(s, line);
        }
        let turned = turned::<R, S>(square);
        for (&x, line) in turned.iter().zip(self.1.chunks_exact_mut(lanes)) {
            R::store(s, x, line);
        }
        lanes
    }
}

fn turn<R: Real>(isa: Isa) {
    let all: Vec<R> = (0..256).map(|i| R::from_f64(f64::from(i))).collect();
    let mut out = vec![R::ZERO; 256];
    let lanes = isa.run(Turn(&all, &mut out));
    for at in 0..lanes * lanes {
        let expected = all[at % lanes * lanes + at / lanes];
        assert_eq!(out[at], expected, "{} at {at}", isa.name());
    }
}

#[test]
fn squares_are_turned() {
    for isa in available() {
        turn::<f32>(isa);
        turn::<f64>(isa);
    }
}
