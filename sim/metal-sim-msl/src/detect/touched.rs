//! Which bytes of the buffers a dispatch touched: bits for each, so that what is read a second time, or by a second
//! name, counts once. Bytes that atomic functions alone have touched are told apart.

use super::bounds::Region;
use super::cell::Spills;
use super::shadow::{PAGE, Page};
use crate::dispatch::{self, Traffic};
use std::collections::HashMap;
use std::ops::Range;

type Bits = [u64; PAGE / 64];

/// What was touched so far.
#[derive(Default)]
pub struct Touched {
    /// By the page's address: read, written, and accessed plainly.
    pages: HashMap<usize, [Bits; 3]>,
}

impl Touched {
    /// Adds what the cells of the page at this address remember, within the regions that count.
    pub fn add(&mut self, address: usize, page: &Page, spills: &Spills, regions: &[Region]) {
        let within = |region: &&Region| {
            region.counts && region.start < address + PAGE && address < region.start + region.length
        };
        for region in regions.iter().filter(within) {
            let first = region.start.max(address) - address;
            let last = (region.start + region.length - address).min(PAGE);
            let bits = self.pages.entry(address).or_insert([[0; PAGE / 64]; 3]);
            let ranges = [
                page.read(spills),
                page.written(spills),
                page.plainly(spills),
            ];
            for (bits, ranges) in bits.iter_mut().zip(ranges) {
                for range in ranges {
                    mark(bits, range.start.max(first)..range.end.min(last));
                }
            }
        }
    }

    /// Which bytes those are.
    pub fn ranges(&self) -> dispatch::Touched {
        let mut pages: Vec<_> = self.pages.iter().collect();
        pages.sort_by_key(|(address, _)| **address);
        let mut found = dispatch::Touched::default();
        for (address, [read, written, plain]) in pages {
            let atomic = |of: &Bits| std::array::from_fn(|at| of[at] & !plain[at]);
            let plainly = |of: &Bits| std::array::from_fn(|at| of[at] & plain[at]);
            ranges(*address, &plainly(read), &mut found.read);
            ranges(*address, &plainly(written), &mut found.written);
            ranges(*address, &atomic(read), &mut found.atomic_read);
            ranges(*address, &atomic(written), &mut found.atomic_written);
        }
        found
    }

    /// How much that is.
    pub fn traffic(&self) -> Traffic {
        let count = |which: usize| {
            let words = self.pages.values().flat_map(|bits| &bits[which]);
            words.map(|word| u64::from(word.count_ones())).sum()
        };
        Traffic {
            bytes_read: count(0),
            bytes_written: count(1),
        }
    }
}

/// The ranges of the bits that are set, from this address on.
fn ranges(address: usize, bits: &Bits, into: &mut Vec<Range<usize>>) {
    let set = |byte: usize| bits[byte / 64] >> (byte % 64) & 1 != 0;
    let mut byte = 0;
    while byte < PAGE {
        if bits[byte / 64] == 0 {
            byte = (byte / 64 + 1) * 64;
            continue;
        }
        if set(byte) {
            let end = (byte..PAGE).find(|at| !set(*at)).unwrap_or(PAGE);
            match into.last_mut() {
                Some(last) if last.end == address + byte => last.end = address + end,
                _ => into.push(address + byte..address + end),
            }
            byte = end;
        }
        byte += 1;
    }
}

fn mark(bits: &mut Bits, bytes: Range<usize>) {
    for byte in bytes {
        bits[byte / 64] |= 1 << (byte % 64);
    }
}
