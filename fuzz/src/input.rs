//! Bytes turned into arguments: mostly good ones, at times a length, a stride or a number that
//! somebody passes by mistake or to do harm.

use candle_mps_cpu::{Element, Layout, Result};

/// No operand has more elements than this; larger ones are announced and not passed.
const MOST: usize = 1 << 17;

/// Reads arguments from bytes. Where they end, zeros follow.
pub struct Input<'a> {
    bytes: &'a [u8],
    hostile: bool,
    wild: bool,
    /// Spreads the bytes over many elements.
    state: u64,
}

/// A slice and its layout.
pub struct Operand<T> {
    pub data: Vec<T>,
    pub dims: Vec<usize>,
    strides: Option<Vec<usize>>,
    offset: usize,
}

impl<'a> Input<'a> {
    /// The first byte says whether hostile sizes and wild numbers occur at all.
    pub fn new(bytes: &'a [u8]) -> Self {
        let mut input = Self {
            bytes,
            hostile: false,
            wild: false,
            state: 0,
        };
        let mode = input.byte();
        input.hostile = mode & 1 == 1;
        input.wild = mode & 6 == 6;
        input
    }

    pub fn byte(&mut self) -> u8 {
        let Some((&first, rest)) = self.bytes.split_first() else {
            return 0;
        };
        self.bytes = rest;
        first
    }

    /// A number of the range.
    pub fn below(&mut self, end: usize) -> usize {
        usize::from(self.byte()) % end
    }

    pub fn flag(&mut self) -> bool {
        self.byte() & 1 == 1
    }

    /// Whether what has been read fits together: then an error is a bug.
    pub fn is_good(&self) -> bool {
        !self.hostile
    }

    /// Whether results can be compared: no infinities, nothing huge.
    pub fn is_tame(&self) -> bool {
        !self.wild
    }

    /// One time in eight, in hostile inputs.
    pub fn evil(&mut self) -> bool {
        self.hostile && self.byte() & 7 == 7
    }

    /// A dimension or a stride that is too much for somebody.
    pub fn huge(&mut self) -> usize {
        [
            0,
            usize::MAX,
            usize::MAX - 1,
            isize::MAX as usize,
            isize::MAX as usize + 1,
            1 << 32,
            (1 << 32) + 1,
            usize::MAX / 3,
            1 << 62,
            1 << 20,
        ][self.below(10)]
    }

    /// A good dimension: around the lengths of vectors and tiles.
    pub fn size(&mut self) -> usize {
        let byte = usize::from(self.byte());
        if byte < 240 {
            byte % 10
        } else {
            (byte - 238) * 4
        }
    }

    /// Dimensions, `least` to 4 of them.
    pub fn dims(&mut self, least: usize) -> Vec<usize> {
        let rank = least + self.below(5 - least);
        let mut dims: Vec<usize> = (0..rank).map(|_| self.size()).collect();
        // Zeros are no reason for the others to be large: some become 1 later.
        while dims.iter().map(|&dim| dim.max(1)).product::<usize>() > MOST / 64 {
            let largest = dims.iter().copied().max().unwrap_or_default();
            let at = dims.iter().position(|&dim| dim == largest);
            dims[at.unwrap_or_default()] /= 2;
        }
        dims
    }

    /// These dimensions, or others.
    fn spoiled(&mut self, dims: &[usize]) -> Vec<usize> {
        let mut dims = dims.to_vec();
        if self.evil() {
            match self.below(4) {
                0 => drop(dims.pop()),
                1 => dims.push(self.size()),
                _ if dims.is_empty() => {}
                2 => {
                    let at = self.below(dims.len());
                    dims[at] = self.huge();
                }
                _ => {
                    for dim in &mut dims {
                        *dim = self.huge();
                    }
                }
            }
        }
        dims
    }

    /// A length, or another.
    pub fn len(&mut self, right: usize) -> usize {
        let right = right.min(MOST);
        if self.evil() {
            [right + 1, right.saturating_sub(1), 0, right / 2][self.below(4)]
        } else {
            right
        }
    }

    /// One of the options that an op takes as a number.
    pub fn option(&mut self, good: &[f64]) -> f64 {
        const BAD: [f64; 6] = [f64::NAN, f64::INFINITY, -1., 0., 1e300, -f64::INFINITY];
        if self.evil() {
            self.wild = true;
            BAD[self.below(6)]
        } else {
            good[self.below(good.len())]
        }
    }

    /// Numbers, allocated to the element.
    pub fn values<T: Element>(&mut self, len: usize) -> Vec<T> {
        let len = self.len(len);
        self.fill(len)
    }

    /// As many numbers as asked for.
    pub fn numbers(&mut self, len: usize) -> Vec<f32> {
        self.fill(len)
    }

    fn fill<T: Element>(&mut self, len: usize) -> Vec<T> {
        const WILD: [f64; 8] = [
            f64::NAN,
            f64::INFINITY,
            f64::NEG_INFINITY,
            1e38,
            -1e300,
            1e-40,
            -0.,
            65504.,
        ];
        self.state = self.state.wrapping_add(u64::from(self.byte()) << 20 | 1);
        let mut values = Vec::with_capacity(len);
        for _ in 0..len {
            self.state = self
                .state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            let bits = (self.state >> 33) as usize;
            let number = if self.wild && bits % 5 == 0 {
                WILD[bits / 5 % 8]
            } else {
                // Steps that bf16 has as well.
                ((bits >> 8) % 129) as f64 / 32. - 2.
            };
            values.push(T::from_f64(number));
        }
        values
    }

    /// An operand of these dimensions, laid out in any way.
    pub fn operand<T: Element>(&mut self, dims: &[usize]) -> Operand<T> {
        let dims = self.spoiled(dims);
        let offset = if self.evil() {
            self.huge()
        } else {
            self.below(4)
        };
        let kind = self.below(4);
        let mut strides = vec![0; dims.len()];
        let (mut stride, gap) = (1 + usize::from(kind == 2), usize::from(kind == 2));
        let turned = kind == 1;
        for step in 0..dims.len() {
            let axis = if turned { step } else { dims.len() - 1 - step };
            let repeated = kind == 3 && self.flag();
            strides[axis] = if repeated { 0 } else { stride };
            if !repeated {
                stride = stride.saturating_mul(dims[axis].saturating_add(gap));
            }
        }
        if self.evil() {
            match self.below(3) {
                0 => strides.push(1),
                _ if strides.is_empty() => {}
                1 => drop(strides.pop()),
                _ => {
                    let at = self.below(strides.len());
                    strides[at] = self.huge();
                }
            }
        }
        let plain = kind == 0 && self.flag();
        let (strides, offset) = if plain {
            (None, 0)
        } else {
            (Some(strides), offset)
        };
        let mut operand = Operand {
            data: vec![],
            dims,
            strides,
            offset,
        };
        let reach = operand.reach().unwrap_or(1);
        let len = self.len(reach);
        operand.data = self.fill(len);
        operand
    }

    /// What the result is written to.
    pub fn out<T: Element>(&mut self, dims: &[usize]) -> Vec<T> {
        let count = dims
            .iter()
            .try_fold(1usize, |all, &dim| all.checked_mul(dim));
        self.values(count.unwrap_or(MOST))
    }

    /// Arguments that fit must not be refused.
    pub fn expect(&self, result: &Result<()>) {
        if let Err(error) = result {
            assert!(!error.to_string().is_empty());
            assert!(!self.is_good(), "good arguments were refused: {error}");
        }
    }

    /// Compares a result with the exact one, where that makes sense. `size` is that of the numbers
    /// which have cancelled out on the way.
    pub fn check<T: Element>(&self, what: &str, got: &[T], exact: &[f64], size: f64) {
        if !self.is_tame() {
            return;
        }
        assert_eq!(got.len(), exact.len(), "{what}");
        let (unit, largest) = match (size_of::<T>(), T::from_f64(1e10).to_f64().is_infinite()) {
            (8, _) => (1e-11, f64::INFINITY),
            (4, _) => (2e-5, 1e30),
            (_, true) => (1e-3, 6e4),
            _ => (8e-3, 1e30),
        };
        for (at, (got, &exact)) in got.iter().zip(exact).enumerate() {
            let got = got.to_f64();
            let near = (got - exact).abs() <= unit * (size + exact.abs());
            let out_of_range = exact.abs() >= largest || !exact.is_finite();
            assert!(
                near || out_of_range || got == exact,
                "{what}[{at}] = {got}, not {exact}"
            );
        }
    }
}

impl<T: Element> Operand<T> {
    pub fn layout(&self) -> Result<Layout<'_>> {
        match &self.strides {
            None => Layout::contiguous(&self.dims),
            Some(strides) => Layout::new(&self.dims, strides, self.offset),
        }
    }

    /// One past the last element that the layout reaches.
    fn reach(&self) -> Option<usize> {
        if self.dims.contains(&0) {
            return Some(0);
        }
        let Some(strides) = &self.strides else {
            return self
                .dims
                .iter()
                .try_fold(1usize, |all, &dim| all.checked_mul(dim));
        };
        let pairs = self.dims.iter().zip(strides);
        let last = pairs.fold(Some(self.offset), |last, (&dim, &stride)| {
            last?.checked_add((dim - 1).checked_mul(stride)?)
        });
        last?.checked_add(1)
    }

    /// The elements in row-major order, of an operand that an op has accepted.
    pub fn values(&self) -> Vec<f64> {
        if self.dims.contains(&0) {
            return vec![];
        }
        let contiguous: Vec<usize> = (0..self.dims.len())
            .map(|axis| self.dims[axis + 1..].iter().product())
            .collect();
        let strides = self.strides.as_ref().unwrap_or(&contiguous);
        let count: usize = self.dims.iter().product();
        (0..count)
            .map(|mut index| {
                let mut at = self.offset;
                for (&dim, &stride) in self.dims.iter().zip(strides).rev() {
                    at += index % dim * stride;
                    index /= dim;
                }
                self.data[at].to_f64()
            })
            .collect()
    }
}

/// The layout of an operand; where there cannot be one, the target ends.
macro_rules! layout {
    ($input:ident, $operand:ident) => {
        match $operand.layout() {
            Ok(layout) => layout,
            Err(error) => return $input.expect(&Err(error)),
        }
    };
}
pub(crate) use layout;
