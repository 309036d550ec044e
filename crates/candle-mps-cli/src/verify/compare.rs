//! How far numbers are from the exact ones, and how far they may be.

use candle_core::{DType, Result, Tensor};

use crate::results::Pass;

/// How far a result may be from the exact one, as a part of its scale. A gradient sums over many rows of
/// numbers that were rounded to the type, and may be 8 times as far away.
pub fn bound(dtype: DType, pass: Pass) -> f64 {
    let part = match dtype {
        DType::F64 => 1e-12,
        DType::F16 => 2e-3,
        DType::BF16 => 1.6e-2,
        _ => 1e-5,
    };
    match pass {
        Pass::Backward => 8. * part,
        Pass::Forward | Pass::Step => part,
    }
}

/// What the errors of a tensor's elements are parts of.
#[derive(Debug)]
pub enum Scales {
    /// One scale for all.
    One(f64),
    /// One for each element.
    Each(Vec<f64>),
}

impl Scales {
    /// The largest expected element, or 1.
    pub fn largest(expected: &[f64]) -> Self {
        let largest = |largest: f64, value: &f64| largest.max(value.abs());
        Self::One(expected.iter().fold(1., largest))
    }

    /// One for each element; below the normal numbers of the type, rounding has steps of one size.
    pub fn each(magnitudes: Vec<f64>, dtype: DType) -> Self {
        let least = match dtype {
            DType::F16 => 2f64.powi(-14),
            DType::F64 => f64::MIN_POSITIVE,
            _ => f32::MIN_POSITIVE.into(),
        };
        Self::Each(magnitudes.into_iter().map(|it| it.max(least)).collect())
    }

    fn at(&self, index: usize) -> f64 {
        match self {
            Self::One(scale) => *scale,
            Self::Each(scales) => scales.get(index).copied().unwrap_or(1.),
        }
    }
}

/// The element that is furthest from the expected one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Worst {
    pub index: usize,
    pub got: f64,
    pub expected: f64,
    /// As a part of the scale; infinite where no number came.
    pub error: f64,
}

/// Compares tensors of as many elements; `None` if there are none.
pub fn worst(got: &[f64], expected: &[f64], scales: &Scales) -> Option<Worst> {
    let errors = got.iter().zip(expected).enumerate();
    let errors = errors.map(|(index, (&got, &expected))| {
        let error = if got == expected {
            0.
        } else {
            (got - expected).abs() / scales.at(index)
        };
        Worst {
            index,
            got,
            expected,
            // A NaN is on no side of a bound.
            error: if error.is_nan() { f64::INFINITY } else { error },
        }
    });
    errors.max_by(|a, b| a.error.total_cmp(&b.error))
}

/// The elements in f64, in the order of the tensor's indices.
pub fn values(tensor: &Tensor) -> Result<Vec<f64>> {
    let tensor = tensor.to_device(&candle_core::Device::Cpu)?;
    tensor.flatten_all()?.to_dtype(DType::F64)?.to_vec1()
}

/// The place of an element, such as `[1, 0, 7]`.
pub fn place(mut index: usize, shape: &[usize]) -> String {
    let mut place: Vec<usize> = shape
        .iter()
        .rev()
        .map(|&size| {
            let at = index % size.max(1);
            index /= size.max(1);
            at
        })
        .collect();
    place.reverse();
    format!("{place:?}")
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXPECTED: [f64; 3] = [0.5, -4., 2.];

    fn error(at: usize, by: f64, scales: &Scales) -> f64 {
        let mut got = EXPECTED;
        got[at] += by;
        let worst = worst(&got, &EXPECTED, scales).unwrap();
        assert_eq!(worst.index, at);
        worst.error
    }

    #[test]
    fn one_element_beyond_the_bound_is_caught_and_one_within_is_not() {
        let bound = bound(DType::F32, Pass::Forward);
        for at in 0..3 {
            let scales = Scales::largest(&EXPECTED);
            assert!(error(at, 4. * 1.01 * bound, &scales) > bound);
            assert!(error(at, 4. * -0.99 * bound, &scales) <= bound);
            let scales = Scales::each(vec![1., 10., 100.], DType::F32);
            let scale = scales.at(at);
            assert!(error(at, scale * 1.01 * bound, &scales) > bound);
            assert!(error(at, scale * -0.99 * bound, &scales) <= bound);
        }
    }

    #[test]
    fn what_is_no_number_is_beyond_every_bound() {
        let scales = Scales::largest(&EXPECTED);
        for wrong in [f64::NAN, f64::INFINITY] {
            assert_eq!(error(1, wrong, &scales), f64::INFINITY);
        }
        let both = [f64::NEG_INFINITY];
        assert_eq!(worst(&both, &both, &scales).unwrap().error, 0.);
        assert_eq!(worst(&[], &[], &scales), None);
    }

    #[test]
    fn gradients_may_be_eight_times_as_far_away() {
        for dtype in [DType::F32, DType::F64, DType::F16, DType::BF16] {
            let times = bound(dtype, Pass::Backward) / bound(dtype, Pass::Forward);
            assert_eq!(times, 8.);
        }
    }

    #[test]
    fn places_count_from_the_last_dimension() {
        assert_eq!(place(0, &[]), "[]");
        assert_eq!(place(7, &[2, 5]), "[1, 2]");
        assert_eq!(place(23, &[2, 3, 4]), "[1, 2, 3]");
    }
}
