//! Which bytes of a private buffer hold something. Such a buffer begins with anything, and only the GPU writes to it, so
//! whoever made it knows: kernels under the detector note what they write, everyone else says so with [`Written::mark`].

use std::ops::Range;
use std::sync::{Mutex, PoisonError};

/// The bytes of one buffer that were written, through all dispatches.
#[derive(Debug)]
pub struct Written {
    address: usize,
    length: usize,
    /// A bit for each byte.
    bits: Mutex<Box<[u64]>>,
}

impl Written {
    /// Of a buffer that is there and that nobody wrote yet.
    pub fn nothing(address: *const u8, length: usize) -> Self {
        Self {
            address: address.addr(),
            length,
            bits: Mutex::new(vec![0; length.div_ceil(64)].into()),
        }
    }

    /// These bytes, counted from the buffer's first, were written.
    pub fn mark(&self, bytes: Range<usize>) {
        let mut bits = self.bits.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut at, end) = (bytes.start, bytes.end.min(self.length));
        while at < end {
            let stop = end.min((at / 64 + 1) * 64);
            bits[at / 64] |= (u64::MAX >> (64 - (stop - at))) << (at % 64);
            at = stop;
        }
    }

    /// The same by addresses; what is not of this buffer is left out.
    pub(crate) fn mark_addresses(&self, addresses: Range<usize>) {
        let start = addresses.start.max(self.address);
        let end = addresses.end.min(self.address + self.length);
        if start < end {
            self.mark(start - self.address..end - self.address);
        }
    }

    /// Divides addresses of this buffer into those that were written and those that were not.
    pub(crate) fn parts(&self, addresses: Range<usize>) -> Vec<(Range<usize>, bool)> {
        let bits = self.bits.lock().unwrap_or_else(PoisonError::into_inner);
        let mut parts: Vec<(Range<usize>, bool)> = Vec::new();
        let mut at = addresses.start;
        while at < addresses.end {
            let byte = at - self.address;
            let word = bits[byte / 64] >> (byte % 64);
            let written = word & 1 != 0;
            let same = if written {
                word.trailing_ones()
            } else {
                word.trailing_zeros()
            } as usize;
            let end = addresses.end.min(at + same.min(64 - byte % 64));
            match parts.last_mut() {
                Some((part, before)) if *before == written => part.end = end,
                _ => parts.push((at..end, written)),
            }
            at = end;
        }
        parts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_marked_is_written_to_the_byte() {
        let memory = [0_u8; 200];
        let first = memory.as_ptr().addr();
        let written = Written::nothing(memory.as_ptr(), memory.len());
        written.mark(60..130);
        written.mark_addresses(first + 190..first + 500);
        let parts = written.parts(first..first + 200);
        let expected = [
            (0..60, false),
            (60..130, true),
            (130..190, false),
            (190..200, true),
        ];
        let from_first =
            |(part, is): (Range<usize>, bool)| (part.start - first..part.end - first, is);
        assert!(parts.into_iter().map(from_first).eq(expected));
    }
}
