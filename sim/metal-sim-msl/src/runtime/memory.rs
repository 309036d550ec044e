//! Threadgroup memory: the arguments, then each variable when a thread first asks for it. At the beginning of every
//! threadgroup it holds NaNs, as no GPU promises zeros. Under the detector, variables keep a distance, so that a step
//! out of one is not a step into the next.

use crate::abi;
use std::ptr;

/// What a threadgroup may have, as on every Apple GPU.
pub const LIMIT: usize = 32 << 10;
/// Room for gaps, and for a kernel without the detector to overrun its variables without hitting anyone else's.
pub const ARENA: usize = 3 * LIMIT;
/// Between two variables, under the detector; then each also begins at a multiple of it.
const GAP: usize = 256;
const POISON: u8 = 0xff;

/// A variable or an argument that has its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placed {
    pub key: Key,
    pub start: usize,
    pub size: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    /// Index of `[[threadgroup(index)]]`.
    Argument(u32),
    Variable(*const abi::Variable),
}

/// The threadgroup memory of one OS thread, for one threadgroup after the other.
pub struct Memory {
    arena: Box<Arena>,
    placed: Vec<Placed>,
    gap: usize,
    end: usize,
    /// Bytes that count against the limit.
    used: usize,
    /// By multiples of the gap: who is there, counted from 1.
    blocks: [u8; ARENA / GAP],
}

/// Pages of the detector are its own.
#[repr(align(4096))]
struct Arena([u8; ARENA]);

// SAFETY: keys are compared, and read as statics of a library that outlives the dispatch.
unsafe impl Send for Memory {}

impl Memory {
    pub fn new() -> Self {
        Self {
            arena: Box::new(Arena([POISON; ARENA])),
            placed: Vec::new(),
            gap: 0,
            end: 0,
            used: 0,
            blocks: [0; ARENA / GAP],
        }
    }

    /// Begins a dispatch: places arguments of these lengths, which together are within the limit.
    pub fn begin_dispatch(&mut self, arguments: &[usize], apart: bool) {
        self.placed.clear();
        (self.end, self.used) = (0, 0);
        self.blocks.fill(0);
        self.gap = if apart { GAP } else { 0 };
        for (index, &size) in (0..).zip(arguments) {
            if size > 0 {
                // Metal rounds lengths up to 16, so sizes are within what the caller checked.
                self.put(Key::Argument(index), size, 16);
            }
        }
    }

    /// Begins a threadgroup: nothing is written in what has been placed so far.
    pub fn begin_threadgroup(&mut self) {
        self.arena.0[..self.end].fill(POISON);
    }

    pub fn argument(&mut self, index: u32) -> Option<*mut u8> {
        self.find(Key::Argument(index))
    }

    /// The place of a variable, or None if it exceeds the limit.
    ///
    /// # Safety
    /// It is a static of a loaded library.
    pub unsafe fn variable(&mut self, variable: *const abi::Variable) -> Option<*mut u8> {
        let key = Key::Variable(variable);
        // SAFETY: as the caller says.
        let (size, align) = unsafe { ((*variable).size as usize, (*variable).align as usize) };
        self.find(key)
            .or_else(|| self.put(key, size, align.max(16)))
    }

    fn find(&mut self, key: Key) -> Option<*mut u8> {
        let start = self.placed.iter().find(|placed| placed.key == key)?.start;
        Some(self.start().wrapping_add(start))
    }

    fn put(&mut self, key: Key, size: usize, align: usize) -> Option<*mut u8> {
        self.used = self.used.next_multiple_of(align) + size;
        let start = (self.end + self.gap).next_multiple_of(align.max(self.gap));
        if self.used > LIMIT || start + size + self.gap > ARENA {
            return None;
        }
        self.arena.0[self.end..start + size].fill(POISON);
        self.end = start + size;
        self.placed.push(Placed { key, start, size });
        if self.gap != 0 {
            // Fewer than 255, at this distance.
            self.blocks[start / GAP..self.end.div_ceil(GAP)].fill(self.placed.len() as u8);
        }
        Some(self.start().wrapping_add(start))
    }

    fn start(&mut self) -> *mut u8 {
        ptr::from_mut(&mut *self.arena).cast()
    }

    /// The address of all of it.
    pub fn address(&self) -> usize {
        ptr::from_ref(&*self.arena).addr()
    }

    /// Under the detector: whose an offset is, if not beyond the end of it.
    #[inline]
    pub fn owner(&self, offset: usize) -> Option<&Placed> {
        let number = usize::from(self.blocks[offset / GAP]);
        self.placed.get(number.wrapping_sub(1))
    }

    pub fn placed(&self) -> &[Placed] {
        &self.placed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variable(size: u32) -> abi::Variable {
        abi::Variable {
            name: c"v".as_ptr(),
            size,
            align: 4,
            line: 1,
        }
    }

    #[test]
    fn a_variable_keeps_its_place_and_is_new_in_every_threadgroup() {
        let (a, b) = (variable(100), variable(8));
        let mut memory = Memory::new();
        memory.begin_dispatch(&[0, 64], true);
        memory.begin_threadgroup();
        assert_eq!(memory.argument(0), None);
        let argument = memory.argument(1).unwrap();
        // SAFETY: the variables live as long as the test; places are within the arena.
        unsafe {
            let first = memory.variable(&raw const a).unwrap();
            let second = memory.variable(&raw const b).unwrap();
            assert!(
                first.addr() >= argument.addr() + 64 + GAP
                    && second.addr() >= first.addr() + 100 + GAP
            );
            first.write(1);
            memory.begin_threadgroup();
            assert_eq!(memory.variable(&raw const a), Some(first));
            assert_eq!(first.read(), POISON);
        }
        assert_eq!(memory.used, 64 + 112 + 8);
    }

    #[test]
    fn what_exceeds_the_limit_has_no_place() {
        let (large, small) = (variable(32 << 10), variable(4));
        let mut memory = Memory::new();
        memory.begin_dispatch(&[], false);
        // SAFETY: the variables live as long as the test.
        unsafe {
            assert!(memory.variable(&raw const large).is_some());
            assert_eq!(memory.variable(&raw const small), None);
        }
    }
}
