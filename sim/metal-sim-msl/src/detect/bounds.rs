//! What memory a kernel may access: its buffers, and what is its own without being anyone's business: stacks, the
//! library's constants. Everything else is out of bounds, and told by the buffer that is nearest.

use crate::written::Written;
use std::ops::Range;
use std::sync::Arc;

/// A buffer of the dispatch.
#[derive(Clone, Debug)]
pub struct Region {
    pub start: usize,
    pub length: usize,
    /// Of a private buffer: what of it holds something.
    pub written: Option<Arc<Written>>,
    /// By index and label, as findings say it.
    pub name: String,
    /// Accesses to it are traffic.
    pub counts: bool,
}

impl Region {
    fn end(&self) -> usize {
        self.start + self.length
    }

    fn distance(&self, at: usize) -> usize {
        self.start
            .saturating_sub(at)
            .max(at.saturating_sub(self.end()))
    }
}

#[derive(Default)]
pub struct Bounds {
    pub buffers: Vec<Region>,
    /// There are arguments without a buffer. They are null: a fault near it tells, and not the detector.
    pub unbound: bool,
    /// Accessed without being checked.
    pub quiet: Vec<Range<usize>>,
}

/// What an address belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Owner {
    Buffer(usize),
    Quiet(Range<usize>),
    Nobody,
}

impl Bounds {
    pub fn owner(&self, at: usize) -> Owner {
        // The longest, should buffers share memory: what is within it is within bounds.
        let holds = |(_, region): &(usize, &Region)| (region.start..region.end()).contains(&at);
        let buffer = self
            .buffers
            .iter()
            .enumerate()
            .filter(holds)
            .max_by_key(|(_, region)| region.end());
        if let Some((index, _)) = buffer {
            return Owner::Buffer(index);
        }
        self.quiet
            .iter()
            .find(|range| range.contains(&at))
            .map_or(Owner::Nobody, |range| Owner::Quiet(range.clone()))
    }

    pub fn nearest(&self, at: usize) -> Option<&Region> {
        self.buffers.iter().min_by_key(|region| region.distance(at))
    }
}

/// Whether the system lets this process read there.
pub fn readable(at: usize, size: usize) -> bool {
    let mut ends = [0; 2];
    // SAFETY: a pipe of its own, closed at the end; the system checks the address itself, and answers with an error.
    unsafe {
        if libc::pipe(ends.as_mut_ptr()) != 0 {
            return false;
        }
        let last = at.saturating_add(size.saturating_sub(1));
        let readable = [at, last]
            .into_iter()
            .all(|at| libc::write(ends[1], at as *const _, 1) == 1);
        libc::close(ends[0]);
        libc::close(ends[1]);
        readable
    }
}

/// The memory that a loaded library covers, by an address in it, and where its offsets begin.
pub fn loaded(inside: usize) -> Option<(usize, Range<usize>)> {
    struct Search {
        inside: usize,
        found: Option<(usize, Range<usize>)>,
    }
    unsafe extern "C" fn look(
        info: *mut libc::dl_phdr_info,
        _: usize,
        search: *mut std::ffi::c_void,
    ) -> std::ffi::c_int {
        // SAFETY: the loader calls with an object's headers, and with the pointer it was given below.
        unsafe {
            let search = &mut *search.cast::<Search>();
            let base = (*info).dlpi_addr as usize;
            let (mut start, mut end) = (usize::MAX, 0);
            for index in 0..(*info).dlpi_phnum {
                let header = &*(*info).dlpi_phdr.add(index.into());
                if header.p_type == libc::PT_LOAD {
                    start = start.min(base + header.p_vaddr as usize);
                    end = end.max(base + (header.p_vaddr + header.p_memsz) as usize);
                }
            }
            if (start..end).contains(&search.inside) {
                search.found = Some((base, start..end));
            }
            search.found.is_some().into()
        }
    }
    let mut search = Search {
        inside,
        found: None,
    };
    // SAFETY: `look` gets `search`, which outlives the call.
    unsafe { libc::dl_iterate_phdr(Some(look), (&raw mut search).cast()) };
    search.found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_buffer_is_by_its_edge() {
        let region = |start, length, name: &str| Region {
            start,
            length,
            written: None,
            name: name.into(),
            counts: true,
        };
        let bounds = Bounds {
            buffers: vec![region(1000, 500, "a"), region(2000, 10, "b")],
            quiet: vec![5..8, 90..91],
            unbound: false,
        };
        assert_eq!(bounds.owner(1499), Owner::Buffer(0));
        assert_eq!(bounds.owner(1500), Owner::Nobody);
        assert_eq!(bounds.owner(7), Owner::Quiet(5..8));
        assert_eq!(bounds.nearest(1600).unwrap().name, "a");
        assert_eq!(bounds.nearest(1900).unwrap().name, "b");
    }

    #[test]
    fn unmapped_memory_is_not_readable() {
        let here = 1_u64;
        assert!(readable((&raw const here).addr(), 8));
        assert!(!readable(16, 4));
    }

    #[test]
    fn this_code_is_loaded_somewhere() {
        let inside = readable as *const () as usize;
        let (base, range) = loaded(inside).unwrap();
        assert!(base <= inside && range.contains(&inside));
    }
}
