//! What samples say: medians, and how many times as long one side took as another, from samples taken in
//! pairs.
//!
//! Machines are shared: their speed changes by more than the differences that we look for, but it changes
//! slowly. So two sides are sampled one after the other, again and again, and each round gives one ratio.
//! The median of these is the ratio of the row. Its interval needs no model of the noise: between two of the
//! sorted ratios, chosen so that the true median lies outside once in a thousand times.
//!
//! Two runs of the same program differ by a percent or two, by where its memory happens to lie. So less than
//! [`SAME`] is no difference, however sure it is.

use crate::results::bench::{Ratio, Verdict};

/// What is called no difference, as a part.
pub const SAME: f64 = 0.02;

/// An interval that reaches further than this is no answer, if it begins at no difference.
const NEAR: f64 = 0.05;

/// How many standard deviations of a binomial distribution leave one in a thousand outside.
const SURE: f64 = 3.29;

/// First quartile, median, third quartile of at least one sample.
pub fn quartiles(samples: &[f64]) -> Option<[f64; 3]> {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    let last = sorted.len().checked_sub(1)?;
    let at = |quarter: usize| {
        let exact = (last * quarter) as f64 / 4.;
        let (low, part) = (exact as usize, exact.fract());
        sorted[low] + part * (sorted[(low + 1).min(last)] - sorted[low])
    };
    Some([at(1), at(2), at(3)])
}

/// How many times `ours` a peer's samples are, taken in the same rounds. `None` without samples.
pub fn ratio(theirs: &[f64], ours: &[f64]) -> Option<Ratio> {
    let mut ratios: Vec<f64> = theirs
        .iter()
        .zip(ours)
        .filter(|(_, ours)| **ours > 0.)
        .map(|(theirs, ours)| theirs / ours)
        .collect();
    ratios.sort_by(f64::total_cmp);
    let [_, times, _] = quartiles(&ratios)?;
    let count = ratios.len();
    // How many of the sorted ratios lie outside on each side; none if there are too few to be sure.
    let outside = (count as f64 / 2. - SURE * (count as f64).sqrt() / 2.).max(0.) as usize;
    let (low, high) = (ratios[outside], ratios[count - 1 - outside]);
    Some(Ratio {
        times,
        low,
        high,
        verdict: verdict(low, high),
    })
}

fn verdict(low: f64, high: f64) -> Verdict {
    if low > 1. + SAME {
        Verdict::Faster
    } else if high < 1. - SAME {
        Verdict::Slower
    } else if low >= 1. - NEAR && high <= 1. + NEAR {
        Verdict::NoDifference
    } else {
        Verdict::Unclear
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quartiles_lie_between_samples() {
        assert_eq!(quartiles(&[]), None);
        assert_eq!(quartiles(&[7.]), Some([7., 7., 7.]));
        assert_eq!(quartiles(&[4., 1., 3., 2., 5.]), Some([2., 3., 4.]));
        assert_eq!(quartiles(&[1., 2.]), Some([1.25, 1.5, 1.75]));
    }

    #[test]
    fn the_interval_narrows_as_rounds_add_up() {
        let mut random = fastrand::Rng::with_seed(1);
        let mut of = |rounds: usize| {
            let ours: Vec<f64> = (0..rounds).map(|_| 1. + random.f64()).collect();
            let theirs: Vec<f64> = ours
                .iter()
                .map(|ours| ours * (1.9 + 0.2 * random.f64()))
                .collect();
            ratio(&theirs, &ours).unwrap()
        };
        let (few, many) = (of(5), of(500));
        assert!(few.low < few.times && few.times < few.high);
        assert!(many.high - many.low < 0.05, "{many:?}");
        assert!((many.times - 2.).abs() < 0.02, "{many:?}");
        assert_eq!(many.verdict, Verdict::Faster);
    }

    #[test]
    fn the_interval_misses_as_seldom_as_it_says() {
        // 2000 experiments: about two misses are due, and more than ten next to impossible.
        let mut random = fastrand::Rng::with_seed(2);
        let misses = (0..2000).filter(|_| {
            let theirs: Vec<f64> = (0..61).map(|_| 1. + random.f64() - random.f64()).collect();
            let ratio = ratio(&theirs, &[1.; 61]).unwrap();
            ratio.low > 1. || ratio.high < 1.
        });
        assert!(misses.count() <= 10);
    }

    #[test]
    fn verdicts() {
        assert_eq!(verdict(1.03, 1.07), Verdict::Faster);
        assert_eq!(verdict(0.5, 0.97), Verdict::Slower);
        assert_eq!(verdict(0.99, 1.01), Verdict::NoDifference);
        assert_eq!(verdict(1.01, 1.05), Verdict::NoDifference);
        assert_eq!(verdict(0.97, 1.03), Verdict::NoDifference);
        assert_eq!(verdict(1.01, 1.06), Verdict::Unclear);
        assert_eq!(verdict(0.8, 1.3), Verdict::Unclear);
        assert_eq!(verdict(1.01, 1.4), Verdict::Unclear);
    }
}
