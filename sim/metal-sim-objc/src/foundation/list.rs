//! The elements of a collection: shared snapshots of a list that may change, and how they are
//! enumerated. Whatever calls out to the elements works on a snapshot, so that they may change
//! the list meanwhile.

use objc2::rc::Retained;
use objc2::runtime::AnyObject;
use objc2_foundation::NSFastEnumerationState;
use std::ffi::c_ulong;
use std::ops::Deref;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

/// A list's elements as they were when they were asked for.
pub type Elements = Arc<Objects>;

/// Objects that a collection owns.
#[derive(Clone, Default)]
pub struct Objects(pub(crate) Vec<Retained<AnyObject>>);

// SAFETY: ownership is counted atomically, and what else happens to the objects is up to those
// who share the collection, as it is on a Mac.
unsafe impl Send for Objects {}
// SAFETY: as above.
unsafe impl Sync for Objects {}

impl Deref for Objects {
    type Target = Vec<Retained<AnyObject>>;

    fn deref(&self) -> &Vec<Retained<AnyObject>> {
        &self.0
    }
}

/// A list, and how often it was changed.
pub struct List {
    elements: RwLock<Elements>,
    changes: AtomicU64,
}

impl List {
    pub(crate) fn new(elements: Vec<Retained<AnyObject>>) -> Self {
        Self {
            elements: RwLock::new(Arc::new(Objects(elements))),
            changes: AtomicU64::new(0),
        }
    }

    pub(crate) fn get(&self) -> Elements {
        self.elements
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Changes the list. What `change` takes out is returned and let go by the caller, when
    /// the lock is gone.
    pub(crate) fn change<R>(&self, change: impl FnOnce(&mut Vec<Retained<AnyObject>>) -> R) -> R {
        let mut elements = self
            .elements
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        self.changes.fetch_add(1, Ordering::Relaxed);
        change(&mut Arc::make_mut(&mut elements).0)
    }

    /// Where an enumeration sees that the list was changed.
    pub(crate) fn changes(&self) -> *mut c_ulong {
        self.changes.as_ptr().cast()
    }
}

/// An element as methods return it: not retained, or null.
pub(crate) fn pointer(object: Option<&Retained<AnyObject>>) -> *mut AnyObject {
    object.map_or(ptr::null_mut(), |object| {
        Retained::as_ptr(object).cast_mut()
    })
}

/// # Safety
/// `into` has room for the elements.
pub(crate) unsafe fn copy_out(elements: &[Retained<AnyObject>], into: *mut *mut AnyObject) {
    for (at, object) in elements.iter().enumerate() {
        // SAFETY: the caller's promise.
        unsafe { *into.add(at) = pointer(Some(object)) };
    }
}

/// Hands out the next elements of a list that is being enumerated.
///
/// # Safety
/// `state` is valid, `buffer` has room for `room` objects, and `changes` points to a number
/// that lives as long as the list.
pub(crate) unsafe fn enumerate(
    elements: &[Retained<AnyObject>],
    state: NonNull<NSFastEnumerationState>,
    buffer: NonNull<*mut AnyObject>,
    room: usize,
    changes: *mut c_ulong,
) -> usize {
    // SAFETY: the caller's promise.
    unsafe {
        let done = ((*state.as_ptr()).state as usize).min(elements.len());
        let next = &elements[done..elements.len().min(done + room)];
        hand_out(next, state, buffer, changes)
    }
}

/// Puts elements into the buffer of an enumeration.
///
/// # Safety
/// As for [`enumerate`]; `next` fits the buffer.
pub(crate) unsafe fn hand_out(
    next: &[Retained<AnyObject>],
    state: NonNull<NSFastEnumerationState>,
    buffer: NonNull<*mut AnyObject>,
    changes: *mut c_ulong,
) -> usize {
    // SAFETY: the caller's promise.
    unsafe {
        let state = state.as_ptr();
        copy_out(next, buffer.as_ptr());
        (*state).state += next.len() as c_ulong;
        (*state).itemsPtr = buffer.as_ptr().cast();
        (*state).mutationsPtr = changes;
        next.len()
    }
}

/// The change counter of what cannot change.
pub(crate) fn never_changes() -> *mut c_ulong {
    static UNCHANGED: AtomicU64 = AtomicU64::new(0);
    UNCHANGED.as_ptr().cast()
}
