//! Functions that no instruction set has, from those that it has.

use super::{Simd, Vector};
use crate::{Real, V};

/// What [`exp`] needs to know about a type.
#[derive(Debug)]
pub struct Exp<R: 'static> {
    /// Below this the result is 0.
    lowest: R,
    /// Above this the result is ∞.
    highest: R,
    log2_e: R,
    /// ln 2 in two parts: the first has so few bits that its product with an exponent is exact.
    ln_2: [R; 2],
    /// (eʳ − 1 − r) / r² for |r| ≤ ln 2 / 2, lowest power first: interpolated at Chebyshev nodes.
    tail: &'static [R],
}

pub(crate) const EXP_F32: Exp<f32> = Exp {
    lowest: -104.,
    highest: 89.,
    log2_e: std::f32::consts::LOG2_E,
    ln_2: [0.693_359_4, -2.121_944_4e-4],
    tail: &[
        0.5,
        0.166_665_77,
        0.041_666_556,
        0.008_363_233,
        0.001_392_625_1,
    ],
};

pub(crate) const EXP_F64: Exp<f64> = Exp {
    lowest: -746.,
    highest: 710.,
    log2_e: std::f64::consts::LOG2_E,
    ln_2: [0.693_147_180_369_123_8, 1.908_214_929_270_587_7e-10],
    tail: &[
        0.500_000_000_000_000_1,
        0.166_666_666_666_666_69,
        0.041_666_666_666_623_824,
        0.008_333_333_333_330_039,
        0.001_388_888_891_736_708_1,
        1.984_126_986_317_155_7e-4,
        2.480_152_105_786_820_6e-5,
        2.755_726_827_690_569_6e-6,
        2.762_020_159_103_154_7e-7,
        2.510_047_250_569_499_6e-8,
    ],
};

/// eˣ within 2 ULP of the exact value for every x, also where the result is below the normal numbers.
/// exp(−∞) = 0, exp(∞) = ∞, and NaN stays NaN.
///
/// x = n·ln 2 + r with |r| ≤ ln 2 / 2, so eˣ = 2ⁿ·eʳ.
#[inline(always)]
pub fn exp<R: Real, S: Simd>(s: S, x: V<R, S>) -> V<R, S> {
    let splat = |value| V::<R, S>::splat(s, value);
    let constants = R::EXP;
    // In this order NaN stays NaN.
    let x = splat(constants.highest).min(splat(constants.lowest).max(x));
    let n = (x * splat(constants.log2_e)).round();
    let r = n.mul_add(splat(R::ZERO - constants.ln_2[0]), x);
    let r = n.mul_add(splat(R::ZERO - constants.ln_2[1]), r);
    let (last, others) = match constants.tail.split_last() {
        Some((last, others)) => (*last, others),
        None => (R::ZERO, constants.tail),
    };
    let mut tail = splat(last);
    for &coefficient in others.iter().rev() {
        tail = tail.mul_add(r, splat(coefficient));
    }
    let e_r = (r * r).mul_add(tail, r) + splat(R::ONE);
    e_r.scale(n)
}

/// What [`normal_cdf`] needs to know about a type.
#[derive(Debug)]
pub struct Normal<R: 'static> {
    /// t = 1 / (1 + bend·|x|) brings the half line into 0..1.
    bend: R,
    /// Φ(−|x|)·exp(x²/2) / t in powers of 2t − 1, lowest first: interpolated at Chebyshev nodes.
    tail: &'static [R],
}

pub(crate) const NORMAL_F32: Normal<f32> = Normal {
    bend: 0.35,
    tail: &[
        0.253_244_28,
        0.171_495_74,
        0.071_099_26,
        0.010_235_743,
        -0.005_111_949,
        -0.001_766_595_8,
        0.000_703_755_2,
        0.000_242_945_19,
        -0.000_141_436_42,
        -2.272_131_5e-05,
        2.100_505e-05,
    ],
};

pub(crate) const NORMAL_F64: Normal<f64> = Normal {
    bend: 0.3,
    tail: &[
        0.221_970_613_834_432_78,
        0.164_579_484_086_162_96,
        0.086_549_637_418_461_67,
        0.027_760_365_473_702_56,
        0.001_817_135_795_504_761_6,
        -0.002_423_896_547_362_810_5,
        -0.000_575_642_516_353_962,
        0.000_283_636_906_298_445_83,
        9.013_992_135_637_326e-05,
        -4.974_626_164_063_511e-05,
        -1.112_558_217_400_143_5e-05,
        1.073_080_139_875_046_9e-05,
        2.446_020_519_248_639_3e-07,
        -2.248_061_468_393_407e-06,
        5.182_974_739_407_987e-07,
        3.497_762_162_072_180_7e-07,
        -2.308_157_664_043_885_8e-07,
        -2.827_421_515_192_259e-09,
        5.867_081_141_860_565e-08,
        -2.284_679_613_244_009_4e-08,
        -6.962_460_040_236_622e-09,
        9.229_566_452_129_484e-09,
        -1.165_258_214_681_984_2e-09,
        -2.007_700_109_925_021_3e-09,
        6.538_651_643_808_755e-10,
        2.257_888_135_640_856_2e-10,
        -9.173_052_805_767_125e-11,
        -6.959_501_161_548_225e-12,
    ],
};

/// Φ(x), the probability that a standard normal number is below x: (1 + erf(x / √2)) / 2. Within 4 ULP
/// of 1 everywhere.
#[inline(always)]
pub fn normal_cdf<R: Real, S: Simd>(s: S, x: V<R, S>) -> V<R, S> {
    let splat = |value| V::<R, S>::splat(s, value);
    let (zero, one) = (splat(R::ZERO), splat(R::ONE));
    let size = x.max(zero - x);
    let t = one / size.mul_add(splat(R::NORMAL.bend), one);
    let u = t + t - one;
    let (last, others) = match R::NORMAL.tail.split_last() {
        Some((last, others)) => (*last, others),
        None => (R::ZERO, R::NORMAL.tail),
    };
    let mut tail = splat(last);
    for &coefficient in others.iter().rev() {
        tail = tail.mul_add(u, splat(coefficient));
    }
    let below = exp::<R, S>(s, size * size * splat(R::from_f64(-0.5))) * t * tail;
    V::<R, S>::select(x.gt(zero), one - below, below)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        oracle,
        simd::{WithSimd, available},
    };

    struct Cdf<'a, R>(&'a [R], &'a mut [R]);

    impl<R: Real> WithSimd for Cdf<'_, R> {
        type Output = ();
        #[inline(always)]
        fn run<S: Simd>(self, s: S) {
            let lanes = V::<R, S>::LANES;
            for (x, y) in self.0.chunks(lanes).zip(self.1.chunks_mut(lanes)) {
                R::store_part(s, normal_cdf::<R, S>(s, R::load_part(s, x, R::ZERO)), y);
            }
        }
    }

    fn cdf<R: Real>(unit: f64) {
        let x: Vec<R> = (-60_000..=60_000)
            .map(|i| R::from_f64(f64::from(i) * 1e-4))
            .collect();
        for isa in available() {
            let mut y = vec![R::ZERO; x.len()];
            isa.run(Cdf(&x, &mut y));
            for (x, y) in x.iter().zip(&y) {
                let exact = oracle::normal_cdf(x.to_f64());
                let off = (y.to_f64() - exact).abs() / unit;
                assert!(
                    off <= 4.,
                    "{}: cdf({x:?}) = {y:?}, not {exact}: {off}",
                    isa.name()
                );
            }
            let ends = [
                R::NEG_INFINITY,
                R::ZERO - R::NEG_INFINITY,
                R::from_f64(f64::NAN),
            ];
            let mut y = [R::ONE; 3];
            isa.run(Cdf(&ends, &mut y));
            assert!(
                y[0] == R::ZERO && y[1] == R::ONE && y[2].to_f64().is_nan(),
                "{y:?}"
            );
        }
    }

    #[test]
    fn the_normal_distribution() {
        cdf::<f32>(f64::from(f32::EPSILON));
        cdf::<f64>(f64::EPSILON);
    }

    struct Each<'a, R>(&'a [R], &'a mut [R]);

    impl<R: Real> WithSimd for Each<'_, R> {
        type Output = ();
        #[inline(always)]
        fn run<S: Simd>(self, s: S) {
            let lanes = V::<R, S>::LANES;
            for (x, y) in self.0.chunks(lanes).zip(self.1.chunks_mut(lanes)) {
                R::store_part(s, exp::<R, S>(s, R::load_part(s, x, R::ZERO)), y);
            }
        }
    }

    /// The distance in units of the last place of an f32 of that size.
    fn ulps_f32(got: f32, exact: f64) -> f64 {
        if exact >= f64::from(f32::MAX) * (1. + 2f64.powi(-24)) {
            return if got == f32::INFINITY {
                0.
            } else {
                f64::INFINITY
            };
        }
        let exponent = exact.max(f64::from(f32::MIN_POSITIVE)).log2().floor();
        (f64::from(got) - exact).abs() / (exponent - 23.).exp2()
    }

    #[test]
    fn f32_within_2_ulp_over_the_whole_range() {
        // Every 97th number (fewer in a short run) of each sign up to the largest finite one.
        let x: Vec<f32> = (0..0x7f80_0000u32)
            .step_by(oracle::step(97))
            .flat_map(|bits| [f32::from_bits(bits), -f32::from_bits(bits)])
            .filter(|x| x.abs() < 200. && x.abs() > 1e-9)
            .collect();
        for isa in available() {
            let mut y = vec![0.; x.len()];
            isa.run(Each(&x, &mut y));
            let worst = x
                .iter()
                .zip(&y)
                .map(|(&x, &y)| (ulps_f32(y, f64::from(x).exp()), x));
            let (ulps, at) = worst.max_by(|a, b| a.0.total_cmp(&b.0)).unwrap();
            println!("{}: {ulps} ULP at {at}", isa.name());
            assert!(ulps <= 2., "{}: {ulps} ULP at {at}", isa.name());
        }
    }

    #[test]
    fn f64_within_2_ulp_over_the_whole_range() {
        let x: Vec<f64> = (0..1_000_000)
            .map(|i| -750. + f64::from(i) * 0.001_461_7)
            .collect();
        for isa in available() {
            let mut y = vec![0.; x.len()];
            isa.run(Each(&x, &mut y));
            for (&x, &y) in x.iter().zip(&y) {
                let exact = x.exp();
                let apart = y.to_bits().abs_diff(exact.to_bits());
                assert!(apart <= 2, "{}: exp({x}) = {y}, not {exact}", isa.name());
            }
        }
    }

    #[test]
    fn the_ends() {
        let x = [
            f32::NEG_INFINITY,
            -1e30,
            -103.98,
            -0.,
            0.,
            88.72,
            88.73,
            1e30,
            f32::INFINITY,
        ];
        for isa in available() {
            let mut y = [0.; 9];
            isa.run(Each(&x, &mut y));
            assert_eq!(y[..2], [0., 0.]);
            assert!(y[2] == 0. || y[2] == f32::from_bits(1), "{}", y[2]);
            assert_eq!(y[3..5], [1., 1.]);
            assert!(
                y[5].is_finite() && y[6..].iter().all(|&y| y == f32::INFINITY),
                "{y:?}"
            );
            let mut nan = [0.; 2];
            isa.run(Each(&[f32::NAN, -f32::NAN], &mut nan));
            assert!(nan.iter().all(|y| y.is_nan()), "{}", isa.name());
            let mut ends = [0.; 4];
            isa.run(Each(
                &[f64::NEG_INFINITY, f64::INFINITY, f64::NAN, -800.],
                &mut ends,
            ));
            assert!(ends[0] == 0. && ends[1] == f64::INFINITY && ends[2].is_nan() && ends[3] == 0.);
        }
    }
}
