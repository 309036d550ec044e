//! Results in fresh memory without the cost of its page faults.
//!
//! `vec![0.; n]` writes small results twice, and a large one costs a page fault for every 4 KiB: the
//! 64 MiB result of a softmax over 4096 x 4096 took longer to fault in than to compute. [`vector`]
//! leaves the elements as they were, and asks Linux for 2 MiB pages where a result is large enough.

#![allow(
    unsafe_code,
    reason = "the one other place besides simd/: memory that nobody has written"
)]

use crate::Element;

/// From this size on, huge pages are asked for: below, the advice costs more than it saves.
const LARGE: usize = 4 << 20;

/// `len` elements of *unspecified* value: for a result that is about to be overwritten.
///
/// The values are whatever the memory held: valid numbers, but of no meaning.
///
/// # Panics
/// Like `Vec::with_capacity`, when `len` elements do not fit the address space.
pub fn vector<T: Element>(len: usize) -> Vec<T> {
    let mut vector = Vec::<T>::with_capacity(len);
    if len * size_of::<T>() >= LARGE {
        advise(vector.as_mut_ptr().cast(), len * size_of::<T>());
    }
    freeze(vector.as_mut_ptr(), len);
    // SAFETY: the capacity is at least `len`; `freeze` has given the elements a value, and every bit
    // pattern is valid for the sealed trait's four types.
    unsafe { vector.set_len(len) };
    vector
}

/// Makes memory of unspecified content hold *some* value, so that reading it is not undefined.
#[inline]
fn freeze<T: Element>(start: *mut T, len: usize) {
    if cfg!(miri) || cfg!(not(any(target_arch = "x86_64", target_arch = "aarch64"))) {
        // SAFETY: the caller's vector has room for `len` elements, and zero is valid for each type.
        unsafe { start.write_bytes(0, len) };
    }
    #[cfg(all(not(miri), any(target_arch = "x86_64", target_arch = "aarch64")))]
    // SAFETY: an assembly block may write any memory whose address it gets. This one gets the address
    // and has not promised otherwise, so for the compiler it has written `len` elements, each with the
    // value that the machine's memory has there. That holds because nothing takes those values back:
    // the pages belong to this allocation, and no allocator that Rust programs use gives out memory
    // under MADV_FREE without having touched it.
    unsafe {
        std::arch::asm!("/* {0} */", in(reg) start, options(nostack, preserves_flags));
    }
}

/// Asks for huge pages inside `start..start + bytes`. A refusal is of no consequence.
#[cfg(target_os = "linux")]
fn advise(start: *mut u8, bytes: usize) {
    const MADV_HUGEPAGE: i32 = 14;
    const PAGE: usize = 4096;
    unsafe extern "C" {
        fn madvise(start: *mut std::ffi::c_void, len: usize, advice: i32) -> i32;
    }
    let skip = start.align_offset(PAGE);
    if skip < bytes {
        // SAFETY: the pages lie wholly inside an allocation of ours, and this advice changes no
        // content; where the page size is larger, the kernel refuses an address that is not aligned.
        unsafe {
            madvise(
                start.add(skip).cast(),
                (bytes - skip) & !(PAGE - 1),
                MADV_HUGEPAGE,
            )
        };
    }
}

#[cfg(not(target_os = "linux"))]
fn advise(_start: *mut u8, _bytes: usize) {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_and_writes() {
        for len in [0, 1, 1000, LARGE / 4 - 1, LARGE / 4, 3 * LARGE / 4 + 5] {
            let mut v = vector::<f32>(len);
            assert_eq!(v.len(), len);
            v.fill(2.5);
            assert!(v.iter().all(|&x| x == 2.5));
        }
    }

    /// The advice reaches the kernel: a large result lies on huge pages, where the system has them.
    #[test]
    // On x86-64 only: qemu, which runs the tests for aarch64, accepts the advice and drops it.
    #[cfg(all(target_os = "linux", target_arch = "x86_64", not(miri)))]
    fn large_results_are_advised() {
        let mut v = vector::<f64>(8 << 20);
        v.fill(1.);
        let address = v.as_ptr() as usize + v.len() * 4;
        let smaps = std::fs::read_to_string("/proc/self/smaps").unwrap();
        let mut inside = false;
        let mut flags = None;
        for line in smaps.lines() {
            if let Some((range, _)) = line.split_once(' ')
                && let Some((start, end)) = range.split_once('-')
                && let (Ok(start), Ok(end)) = (
                    usize::from_str_radix(start, 16),
                    usize::from_str_radix(end, 16),
                )
            {
                inside = (start..end).contains(&address);
            } else if inside && line.starts_with("VmFlags:") {
                flags = Some(line.to_owned());
            }
        }
        let flags = flags.expect("the middle of the result is mapped");
        assert!(flags.split_whitespace().any(|flag| flag == "hg"), "{flags}");
    }
}
