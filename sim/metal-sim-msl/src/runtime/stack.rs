//! Stacks of GPU threads: reserved address space whose pages exist once they were used, each with a page below it that
//! nobody may touch. A kernel that overflows its stack faults there, and does not write into its neighbour's.

use std::{io, ptr};

/// Bytes of one stack, its guard included.
pub const SIZE: usize = 256 << 10;
const GUARD: usize = 16 << 10;
/// Stacks that are mapped together.
const CHUNK: usize = 32;
/// The same place in all stacks would be the same lines of a cache; tops are spread over so many of these steps.
const COLOURS: usize = 32;
const COLOUR: usize = 192;

/// The stacks of one OS thread that runs threadgroups.
#[derive(Default)]
pub struct Stacks {
    chunks: Vec<*mut u8>,
}

// SAFETY: it owns its mappings.
unsafe impl Send for Stacks {}

impl Stacks {
    /// Maps stacks until there are `count`.
    pub fn ensure(&mut self, count: usize) -> io::Result<()> {
        while self.chunks.len() * CHUNK < count {
            self.chunks.push(map()?);
        }
        Ok(())
    }

    /// The end of stack `index`, aligned to 16; there are as many as [`Stacks::ensure`] was asked for.
    pub fn top(&self, index: usize) -> *mut u8 {
        let end = (index % CHUNK + 1) * SIZE;
        self.chunks[index / CHUNK].wrapping_add(end - 64 - index % COLOURS * COLOUR)
    }

    /// Whether an address is in one of the stacks or in the guard of one.
    pub fn place(&self, address: usize) -> Option<Place> {
        let chunk = self
            .chunks
            .iter()
            .find(|chunk| (chunk.addr()..chunk.addr() + CHUNK * SIZE).contains(&address))?;
        let guard = (address - chunk.addr()) % SIZE < GUARD;
        Some(if guard { Place::Guard } else { Place::Stack })
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    Stack,
    Guard,
}

fn map() -> io::Result<*mut u8> {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
    // SAFETY: a new mapping, at a place of the system's choice.
    unsafe {
        let chunk = libc::mmap(
            ptr::null_mut(),
            CHUNK * SIZE,
            libc::PROT_READ | libc::PROT_WRITE,
            flags,
            -1,
            0,
        );
        if chunk == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        for stack in 0..CHUNK {
            // Fails if the process has too many mappings.
            if libc::mprotect(chunk.byte_add(stack * SIZE), GUARD, libc::PROT_NONE) != 0 {
                let error = io::Error::last_os_error();
                libc::munmap(chunk, CHUNK * SIZE);
                return Err(error);
            }
        }
        Ok(chunk.cast())
    }
}

impl Drop for Stacks {
    fn drop(&mut self) {
        for chunk in &self.chunks {
            // SAFETY: mapped above with this length; no fiber runs on it any more.
            unsafe { libc::munmap(chunk.cast(), CHUNK * SIZE) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tops_are_aligned_apart_and_guarded() {
        let mut stacks = Stacks::default();
        stacks.ensure(100).unwrap();
        let tops: Vec<usize> = (0..100).map(|index| stacks.top(index).addr()).collect();
        for (index, top) in tops.iter().enumerate() {
            assert_eq!(top % 16, 0);
            assert_eq!(stacks.place(top - 1), Some(Place::Stack));
            assert_eq!(
                stacks.place(top - SIZE + GUARD + 8192),
                Some(Place::Stack),
                "{index}"
            );
            assert_eq!(
                stacks.place(top + 64 + index % COLOURS * COLOUR - SIZE),
                Some(Place::Guard)
            );
        }
        assert_eq!(stacks.place(8), None);
    }
}
