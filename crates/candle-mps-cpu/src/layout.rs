//! Where the elements of an operand lie in its slice.
//!
//! The same three things that a Candle layout has, borrowed, so that making one costs nothing. A
//! stride of 0 repeats a dimension, which is how masks and weights are broadcast.

use crate::{Error, Result};

/// Dimensions, strides and the offset of the first element, all counted in elements.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Layout<'a> {
    dims: &'a [usize],
    /// None: row-major without gaps.
    strides: Option<&'a [usize]>,
    offset: usize,
    count: usize,
    /// One past the largest index; 0 when there are no elements.
    end: usize,
}

impl<'a> Layout<'a> {
    /// Row-major without gaps, from the start of the slice.
    ///
    /// # Errors
    /// [`Error::SizeOverflow`] when the number of elements does not fit `usize`.
    pub fn contiguous(dims: &'a [usize]) -> Result<Self> {
        let count = count(dims)?;
        Ok(Self {
            dims,
            strides: None,
            offset: 0,
            count,
            end: count,
        })
    }

    /// Any strides, any offset.
    ///
    /// # Errors
    /// [`Error::StrideCount`] unless there is one stride for each dimension, and
    /// [`Error::SizeOverflow`] when an index does not fit `usize`.
    pub fn new(dims: &'a [usize], strides: &'a [usize], offset: usize) -> Result<Self> {
        if dims.len() != strides.len() {
            return Err(Error::StrideCount {
                dims: dims.len(),
                strides: strides.len(),
            });
        }
        let count = count(dims)?;
        let end = if count == 0 {
            Some(0)
        } else {
            end(dims, strides, offset)
        };
        let end = end.ok_or_else(|| Error::SizeOverflow {
            argument: "strides",
            dims: strides.to_vec(),
        })?;
        Ok(Self {
            dims,
            strides: Some(strides),
            offset,
            count,
            end,
        })
    }

    /// The dimensions.
    pub fn dims(&self) -> &'a [usize] {
        self.dims
    }

    /// The number of dimensions.
    pub fn rank(&self) -> usize {
        self.dims.len()
    }

    /// The number of elements.
    pub fn count(&self) -> usize {
        self.count
    }

    /// The index of the first element.
    pub fn offset(&self) -> usize {
        self.offset
    }

    /// The distance between neighbours along `axis`; 0 for an axis that does not exist.
    pub fn stride(&self, axis: usize) -> usize {
        match self.strides {
            Some(strides) => strides.get(axis).copied().unwrap_or(0),
            None if axis < self.dims.len() => product(&self.dims[axis + 1..]),
            None => 0,
        }
    }

    /// Whether the elements lie in row-major order without gaps (after the offset).
    pub fn is_contiguous(&self) -> bool {
        let Some(strides) = self.strides else {
            return true;
        };
        let mut expected = 1;
        self.count == 0
            || self.dims.iter().zip(strides).rev().all(|(&dim, &stride)| {
                let fits = dim == 1 || stride == expected;
                expected *= dim;
                fits
            })
    }

    /// The elements as one slice, when they lie in row-major order without gaps.
    pub fn as_slice<'x, T>(&self, elements: &'x [T]) -> Option<&'x [T]> {
        if self.is_contiguous() {
            elements.get(self.offset..self.offset + self.count)
        } else {
            None
        }
    }

    /// Refuses a slice that is shorter than what the layout reaches.
    ///
    /// # Errors
    /// [`Error::OutOfBounds`], naming `op` and `argument`.
    pub fn check(&self, op: &'static str, argument: &'static str, len: usize) -> Result<()> {
        if self.end > len {
            return Err(Error::OutOfBounds {
                op,
                argument,
                last: self.end - 1,
                len,
            });
        }
        Ok(())
    }

    /// Refuses a slice that has not exactly as many elements: what a result in row-major order needs.
    ///
    /// # Errors
    /// [`Error::Length`], naming `op` and `argument`.
    pub fn check_len(&self, op: &'static str, argument: &'static str, len: usize) -> Result<()> {
        if self.count != len {
            return Err(Error::Length {
                op,
                argument,
                expected: self.count,
                got: len,
            });
        }
        Ok(())
    }

    /// Refuses an operand of other dimensions.
    ///
    /// # Errors
    /// [`Error::Dims`], naming `op` and `argument`.
    pub fn check_dims(
        &self,
        op: &'static str,
        argument: &'static str,
        dims: &[usize],
    ) -> Result<()> {
        if self.dims != dims {
            let (expected, got) = (dims.to_vec(), self.dims.to_vec());
            return Err(Error::Dims {
                op,
                argument,
                expected,
                got,
            });
        }
        Ok(())
    }
}

/// The product of some dimensions of a layout. Beside a zero they are unbounded, and it saturates:
/// nothing is ever addressed by it then.
pub(crate) fn product(dims: &[usize]) -> usize {
    dims.iter()
        .fold(1, |product, dim| product.saturating_mul(*dim))
}

fn count(dims: &[usize]) -> Result<usize> {
    if dims.contains(&0) {
        return Ok(0);
    }
    dims.iter()
        .try_fold(1usize, |product, &dim| product.checked_mul(dim))
        .ok_or_else(|| Error::SizeOverflow {
            argument: "dims",
            dims: dims.to_vec(),
        })
}

fn end(dims: &[usize], strides: &[usize], offset: usize) -> Option<usize> {
    let last = dims
        .iter()
        .zip(strides)
        .try_fold(offset, |last, (&dim, &stride)| {
            last.checked_add((dim - 1).checked_mul(stride)?)
        })?;
    last.checked_add(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contiguous_strides() {
        let layout = Layout::contiguous(&[2, 3, 4]).unwrap();
        assert_eq!(
            (0..4).map(|axis| layout.stride(axis)).collect::<Vec<_>>(),
            [12, 4, 1, 0]
        );
        assert_eq!(layout.count(), 24);
        assert!(layout.is_contiguous());
    }

    #[test]
    fn views() {
        let transposed = Layout::new(&[3, 2], &[1, 3], 0).unwrap();
        assert!(!transposed.is_contiguous());
        assert!(Layout::new(&[1, 3], &[99, 1], 5).unwrap().is_contiguous());
        assert_eq!(
            Layout::new(&[3], &[1], 1).unwrap().as_slice(&[0, 1, 2, 3]),
            Some(&[1, 2, 3][..])
        );
        assert_eq!(transposed.as_slice(&[0; 6]), None);
    }

    #[test]
    fn refusals_name_the_argument() {
        assert_eq!(
            Layout::new(&[2, 3], &[3], 0),
            Err(Error::StrideCount {
                dims: 2,
                strides: 1
            })
        );
        assert!(matches!(
            Layout::contiguous(&[usize::MAX, 2]),
            Err(Error::SizeOverflow {
                argument: "dims",
                ..
            })
        ));
        assert!(matches!(
            Layout::new(&[3], &[usize::MAX], 0),
            Err(Error::SizeOverflow {
                argument: "strides",
                ..
            })
        ));
        let layout = Layout::new(&[2, 3], &[4, 1], 2).unwrap();
        assert_eq!(layout.check("op", "x", 9), Ok(()));
        assert_eq!(
            layout.check("op", "x", 8),
            Err(Error::OutOfBounds {
                op: "op",
                argument: "x",
                last: 8,
                len: 8
            })
        );
    }

    #[test]
    fn nothing_reaches_nowhere() {
        let empty = Layout::new(&[0, usize::MAX], &[usize::MAX, usize::MAX], 7).unwrap();
        assert_eq!((empty.count(), empty.check("op", "x", 0)), (0, Ok(())));
    }
}
