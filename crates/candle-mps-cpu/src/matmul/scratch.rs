//! Memory for packed blocks: kept by each thread, because a fresh megabyte costs more page faults than
//! the packing takes.

use std::{
    cell::RefCell,
    ops::{Deref, DerefMut},
    thread::LocalKey,
};

/// A type of which packed blocks consist.
pub trait Scratch: Copy + Default + Send + Sync + 'static {
    /// This thread's buffers that are not in use.
    fn pool() -> &'static LocalKey<RefCell<Vec<Vec<Self>>>>;
}

macro_rules! scratch {
    ($($t:ty)*) => {
        $(impl Scratch for $t {
            fn pool() -> &'static LocalKey<RefCell<Vec<Vec<Self>>>> {
                thread_local! {
                    static POOL: RefCell<Vec<Vec<$t>>> = const { RefCell::new(Vec::new()) };
                }
                &POOL
            }
        })*
    };
}
scratch!(f32 f64 u32);

/// Elements of no particular value, on a cache line's boundary; given back to the thread when dropped.
pub(crate) struct Buffer<T: Scratch> {
    memory: Vec<T>,
    start: usize,
    len: usize,
}

impl<T: Scratch> Buffer<T> {
    pub fn new(len: usize) -> Self {
        let line = 64 / size_of::<T>();
        let mut memory = T::pool().with_borrow_mut(Vec::pop).unwrap_or_default();
        if memory.len() < len + line {
            memory.clear();
            memory.resize(len + line, T::default());
        }
        // An offset of usize::MAX is allowed by the documentation; then any place will do.
        let start = memory.as_ptr().align_offset(64);
        Self {
            start: if start < line { start } else { 0 },
            memory,
            len,
        }
    }
}

impl<T: Scratch> Drop for Buffer<T> {
    fn drop(&mut self) {
        let memory = std::mem::take(&mut self.memory);
        // While the thread ends its pool may be gone, and the memory goes with it.
        let _ = T::pool().try_with(|pool| pool.borrow_mut().push(memory));
    }
}

impl<T: Scratch> Deref for Buffer<T> {
    type Target = [T];
    fn deref(&self) -> &[T] {
        &self.memory[self.start..self.start + self.len]
    }
}

impl<T: Scratch> DerefMut for Buffer<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        &mut self.memory[self.start..self.start + self.len]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_are_aligned_and_used_again() {
        let place = {
            let (first, second) = (Buffer::<f32>::new(1000), Buffer::<f32>::new(10));
            assert_ne!(first.as_ptr(), second.as_ptr());
            assert_eq!((first.len(), second.len()), (1000, 10));
            assert_eq!(first.as_ptr().align_offset(64), 0);
            first.as_ptr()
        };
        assert_eq!(Buffer::<f32>::new(900).as_ptr(), place);
    }
}
