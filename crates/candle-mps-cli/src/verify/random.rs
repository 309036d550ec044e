//! Sizes, numbers and views out of a seed. Every case has a seed of its own, so that one can be drawn
//! again without those before it.

use candle_core::{DType, Device, Result, Tensor};

/// A generator of cases.
pub struct Random(fastrand::Rng);

impl Random {
    /// The generator of one case: `seed` is the round's, `words` name the case.
    pub fn of(seed: u64, words: &[&str]) -> Self {
        // FNV-1a, with a byte between the words that none of them has.
        let mut hash = 0xcbf2_9ce4_8422_2325;
        let bytes = seed.to_le_bytes();
        let words = words.iter().flat_map(|word| [b"\xff", word.as_bytes()]);
        for byte in words.flatten().chain(&bytes) {
            hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
        Self(fastrand::Rng::with_seed(hash))
    }

    /// A number under `end`.
    pub fn below(&mut self, end: usize) -> usize {
        self.0.usize(..end)
    }

    /// A number from `first` to `last`.
    pub fn between(&mut self, first: usize, last: usize) -> usize {
        self.0.usize(first..=last)
    }

    /// Yes or no.
    pub fn chance(&mut self) -> bool {
        self.0.bool()
    }

    /// Mostly a size up to `small`, where each is a case of its own for vectors and tiles; sometimes one up
    /// to `large`, which has several of them.
    pub fn size(&mut self, small: usize, large: usize) -> usize {
        let last = if self.below(6) == 0 { large } else { small };
        self.between(1, last)
    }

    /// The size of a row.
    pub fn width(&mut self) -> usize {
        self.size(40, 300)
    }

    /// Dimensions in front of those that an op wants: none, one or two.
    pub fn front(&mut self) -> Vec<usize> {
        (0..self.below(3)).map(|_| self.between(1, 4)).collect()
    }

    /// A contiguous tensor of numbers between -2 and 2, rounded to `dtype` and held in f64.
    pub fn tensor(&mut self, shape: &[usize], dtype: DType) -> Result<Tensor> {
        let data: Vec<f64> = (0..shape.iter().product())
            .map(|_| 4. * self.0.f64() - 2.)
            .collect();
        let exact = Tensor::from_vec(data, shape, &Device::Cpu)?;
        exact.to_dtype(dtype)?.to_dtype(DType::F64)
    }

    /// A number whose absolute value is between 0.5 and 2.
    pub fn away_from_zero(&mut self) -> f64 {
        let size = 0.5 + 1.5 * self.0.f64();
        if self.chance() { size } else { -size }
    }

    /// How to get at a tensor of this shape as a view of another, in any way.
    pub fn view(&mut self, shape: &[usize]) -> View {
        let mut order: Vec<usize> = (0..shape.len()).collect();
        if order.len() > 1 && self.chance() {
            let (a, b) = (self.below(order.len()), self.below(order.len()));
            order.swap(a, b);
        }
        let cuts = self.cuts(shape.len());
        View {
            shape: shape.to_vec(),
            order,
            cuts,
            repeated: None,
        }
    }

    /// The same of a tensor that wants no gradient: it may repeat its elements along a dimension, too. (The
    /// gradient would be a sum by Candle in the type itself, whose error is not ours.)
    pub fn frozen_view(&mut self, shape: &[usize]) -> View {
        let mut view = self.view(shape);
        if !shape.is_empty() && self.below(3) == 0 {
            view.repeated = Some(self.below(shape.len()));
        }
        view
    }

    /// Like `view`, but in the ways in which MPS can address matrices: rows behind each other, or columns
    /// if `transposed`, with batches in any order or repeated.
    #[cfg(feature = "metal")]
    pub fn matrices(&mut self, shape: &[usize], transposed: bool) -> View {
        let rank = shape.len();
        let mut order: Vec<usize> = (0..rank).collect();
        if transposed && rank >= 2 && self.chance() {
            order.swap(rank - 1, rank - 2);
        }
        let swapped = rank >= 4 && self.chance();
        if swapped {
            order.swap(0, 1);
        }
        let repeated = (rank >= 3 && !swapped && self.below(4) == 0).then_some(0);
        let cuts = self.cuts(rank);
        View {
            shape: shape.to_vec(),
            order,
            cuts,
            repeated,
        }
    }

    /// What lies before and after the view in each dimension: nothing, half of the time.
    fn cuts(&mut self, rank: usize) -> Vec<(usize, usize)> {
        let gaps = self.chance();
        let cut = |random: &mut Self| {
            if gaps {
                (random.below(3), random.below(2))
            } else {
                (0, 0)
            }
        };
        (0..rank).map(|_| cut(self)).collect()
    }
}

/// The way from a contiguous tensor to a view of it: dimensions swapped, then parts of them, one of them
/// repeated. Candle's ops on the way have a backward.
#[derive(Debug)]
pub struct View {
    shape: Vec<usize>,
    order: Vec<usize>,
    cuts: Vec<(usize, usize)>,
    repeated: Option<usize>,
}

impl View {
    /// The shape of the tensor underneath.
    pub fn base(&self) -> Vec<usize> {
        let mut base = vec![0; self.shape.len()];
        for (at, &axis) in self.order.iter().enumerate() {
            let size = if self.repeated == Some(at) {
                1
            } else {
                self.shape[at]
            };
            base[axis] = self.cuts[at].0 + size + self.cuts[at].1;
        }
        base
    }

    /// The view of a tensor of that shape.
    pub fn of(&self, base: &Tensor) -> Result<Tensor> {
        let mut view = base.permute(&self.order[..])?;
        for (at, (&size, &(before, _))) in self.shape.iter().zip(&self.cuts).enumerate() {
            let size = if self.repeated == Some(at) { 1 } else { size };
            view = view.narrow(at, before, size)?;
        }
        if self.repeated.is_some() {
            view = view.broadcast_as(&self.shape[..])?;
        }
        Ok(view)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_and_a_name_give_the_same_numbers_and_no_other_case_does() {
        let numbers = |seed, words: &[&str]| {
            let mut random = Random::of(seed, words);
            [(); 4].map(|()| random.below(1 << 30))
        };
        assert_eq!(numbers(1, &["a", "bc"]), numbers(1, &["a", "bc"]));
        for other in [numbers(2, &["a", "bc"]), numbers(1, &["ab", "c"])] {
            assert_ne!(numbers(1, &["a", "bc"]), other);
        }
    }

    #[test]
    fn views_have_the_shape_that_was_asked_for() {
        let mut strided = 0;
        for seed in 0..50 {
            let mut random = Random::of(seed, &[]);
            let shape = [random.front(), vec![3, 5]].concat();
            for view in [random.view(&shape), random.frozen_view(&shape)] {
                let base = random.tensor(&view.base(), DType::F32).unwrap();
                let view = view.of(&base).unwrap();
                assert_eq!(view.dims(), shape);
                strided += usize::from(!view.is_contiguous());
            }
        }
        assert!(strided > 20, "{strided} of 100");
    }
}
