//! Host memory behind a buffer. The GPU thread and the CPU both reach it through raw
//! pointers, as on a Mac with unified memory; nothing here ever makes a reference to it.

use crate::hazards;
use crate::lock;
use crate::order::{Group, Ids, Node, Users};
use metal_sim_msl::Written;
use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::ops::Range;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

/// Apple's page size, which no-copy buffers are held to.
pub const PAGE: usize = 16384;

/// Sizes in memory are multiples of this.
const ROOM: usize = 256;

/// What private memory holds before it is written: every float type reads it as NaN.
pub const POISON: u8 = 0xff;

/// Memory of a buffer.
pub struct Memory {
    base: NonNull<u8>,
    len: usize,
    origin: Origin,
    /// Set when the buffer object is gone and only recorded work still knows the memory.
    abandoned: AtomicBool,
    /// For the detector, what of private memory holds something.
    written: Option<Arc<Written>>,
    /// Of tracked resources: the passes that use it. A tracked heap is one resource, whose users are those of all parts.
    users: Option<Arc<Mutex<Users>>>,
    /// The buffer's label.
    label: Mutex<Option<String>>,
}

/// Where memory came from, and so how it ends.
pub enum Origin {
    /// Allocated here.
    Own(Layout),
    /// Given by the program, with what to call at the end.
    Foreign(Option<Box<dyn FnOnce() + Send>>),
    /// A part of a heap, which lives as long.
    Part(Arc<Memory>),
}

// SAFETY: the pointer is only dereferenced by `unsafe` functions whose callers order their
// accesses (the simulated GPU's rules are about just that).
unsafe impl Send for Memory {}
// SAFETY: as above.
unsafe impl Sync for Memory {}

impl Memory {
    /// Allocates, zeroed. `None` when there is not enough.
    ///
    /// There is room behind the last byte, as on a Mac, where a buffer has whole pages: a kernel that writes a little
    /// too far spoils nothing, and only the detector tells.
    pub fn allocate(len: usize) -> Option<Self> {
        let align = if len >= PAGE { PAGE } else { ROOM };
        let layout =
            Layout::from_size_align(len.checked_next_multiple_of(ROOM)?.max(ROOM), align).ok()?;
        // SAFETY: the layout is not empty.
        let base = NonNull::new(unsafe { alloc_zeroed(layout) })?;
        Some(Self {
            base,
            len,
            origin: Origin::Own(layout),
            abandoned: AtomicBool::new(false),
            written: None,
            users: None,
            label: Mutex::default(),
        })
    }

    /// A part of other memory, which it keeps.
    pub fn part(whole: &Arc<Self>, range: Range<usize>) -> Self {
        assert!(
            range.start <= range.end && range.end <= whole.len,
            "{range:?} of {} bytes",
            whole.len
        );
        // SAFETY: in bounds.
        let base = unsafe { whole.base.add(range.start) };
        Self {
            base,
            len: range.len(),
            origin: Origin::Part(whole.clone()),
            abandoned: AtomicBool::new(false),
            written: None,
            users: whole.users.clone(),
            label: Mutex::default(),
        }
    }

    /// Wraps memory of the program's.
    ///
    /// # Safety
    /// `base` is valid for `len` bytes until `at_end` was called.
    pub unsafe fn foreign(
        base: NonNull<u8>,
        len: usize,
        at_end: Option<Box<dyn FnOnce() + Send>>,
    ) -> Self {
        Self {
            base,
            len,
            origin: Origin::Foreign(at_end),
            abandoned: AtomicBool::new(false),
            written: None,
            users: None,
            label: Mutex::default(),
        }
    }

    /// Metal orders the passes that use it.
    pub(crate) fn track(&mut self) {
        self.users.get_or_insert_default();
    }

    /// Whether Metal takes the two for one resource when it orders passes.
    pub(crate) fn is_tracked_with(&self, other: &Self) -> bool {
        let both = self.users.as_ref().zip(other.users.as_ref());
        both.is_some_and(|(one, other)| Arc::ptr_eq(one, other))
    }

    /// Whether it does.
    pub(crate) fn is_tracked(&self) -> bool {
        self.users.is_some()
    }

    /// A pass that uses it was submitted to a queue; `after` gets what it has to wait for, if this is tracked.
    pub(crate) fn submit(&self, queue: usize, pass: &Arc<Node>, writes: bool, after: &mut Group) {
        if let Some(users) = &self.users {
            lock(users).submit(queue, pass, writes, after);
        }
    }

    /// A pass that uses it starts: what comes before it, if this is tracked.
    pub(crate) fn start(&self, pass: &Arc<Node>, writes: bool) -> Ids {
        let users = self.users.as_ref();
        users.map_or_else(Ids::default, |users| lock(users).start(pass, writes))
    }

    /// The buffer's label.
    pub(crate) fn label(&self) -> Option<String> {
        lock(&self.label).clone()
    }

    pub(crate) fn set_label(&self, label: Option<String>) {
        *lock(&self.label) = label;
    }

    /// The buffer's name in a report.
    pub(crate) fn title(&self) -> String {
        match self.label() {
            Some(label) => format!("buffer “{label}” of {} bytes", self.len),
            None => format!("buffer {:p} of {} bytes", self.base, self.len),
        }
    }

    /// Its bytes.
    pub(crate) fn addresses(&self) -> Range<usize> {
        let base = self.base().addr();
        base..base + self.len
    }

    /// Notes from now on what is written, as nothing was so far.
    pub fn trace(&mut self) {
        self.written = Some(Arc::new(Written::nothing(self.base(), self.len)));
    }

    /// What was written, if that is noted.
    pub fn written(&self) -> Option<&Arc<Written>> {
        self.written.as_ref()
    }

    /// The first byte.
    pub fn base(&self) -> *mut u8 {
        self.base.as_ptr()
    }

    /// The length in bytes.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are no bytes.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The buffer object is gone.
    pub(crate) fn abandon(&self) {
        self.abandoned.store(true, Ordering::Release);
    }

    /// Whether the buffer object is gone.
    pub fn is_abandoned(&self) -> bool {
        self.abandoned.load(Ordering::Acquire)
    }

    /// Fills a range with one byte.
    ///
    /// # Safety
    /// Nobody else accesses the range meanwhile.
    pub unsafe fn fill(&self, range: Range<usize>, value: u8) {
        assert!(
            range.start <= range.end && range.end <= self.len,
            "{range:?} of {} bytes",
            self.len
        );
        // SAFETY: in bounds, and the caller's promise.
        unsafe { self.base().add(range.start).write_bytes(value, range.len()) };
    }

    /// Copies bytes between memories, or within one.
    ///
    /// # Safety
    /// Nobody else accesses either range meanwhile.
    pub unsafe fn copy_to(&self, from: usize, into: &Memory, at: usize, len: usize) {
        assert!(
            from.checked_add(len).is_some_and(|end| end <= self.len),
            "source of a copy"
        );
        assert!(
            at.checked_add(len).is_some_and(|end| end <= into.len),
            "destination of a copy"
        );
        // SAFETY: both in bounds; `copy` allows overlap; the caller's promise.
        unsafe { std::ptr::copy(self.base().add(from), into.base().add(at), len) };
    }

    /// Reads a value at a byte offset.
    ///
    /// # Safety
    /// Nobody else writes it meanwhile, and its bytes are a `T`.
    pub unsafe fn read<T: Copy>(&self, at: usize) -> T {
        assert!(
            at.checked_add(size_of::<T>())
                .is_some_and(|end| end <= self.len),
            "read at {at}"
        );
        // SAFETY: in bounds, and the caller's promise.
        unsafe { self.base().add(at).cast::<T>().read_unaligned() }
    }

    /// Writes a value at a byte offset.
    ///
    /// # Safety
    /// Nobody else accesses it meanwhile.
    pub unsafe fn write<T: Copy>(&self, at: usize, value: T) {
        assert!(
            at.checked_add(size_of::<T>())
                .is_some_and(|end| end <= self.len),
            "write at {at}"
        );
        // SAFETY: in bounds, and the caller's promise.
        unsafe { self.base().add(at).cast::<T>().write_unaligned(value) };
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        if !matches!(self.origin, Origin::Part(_)) {
            hazards::forget(self.addresses());
        }
        match &mut self.origin {
            // SAFETY: allocated with this layout and not freed before.
            Origin::Own(layout) => unsafe { dealloc(self.base.as_ptr(), *layout) },
            Origin::Foreign(at_end) => {
                if let Some(at_end) = at_end.take() {
                    at_end();
                }
            }
            Origin::Part(_) => {}
        }
    }
}
