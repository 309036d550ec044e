//! `@synchronized`: a recursive lock per object, kept as long as somebody uses it.

use crate::object::Object;
use std::collections::HashMap;
use std::ffi::c_int;
use std::sync::{Condvar, Mutex, PoisonError};
use std::thread::{self, ThreadId};

struct Held {
    by: ThreadId,
    times: usize,
}

static LOCKS: Mutex<Option<HashMap<usize, Held>>> = Mutex::new(None);
static RELEASED: Condvar = Condvar::new();

/// The lock was taken or given back.
const SUCCESS: c_int = 0;
/// The calling thread does not hold the lock.
const NOT_OWNING: c_int = -1;

#[unsafe(no_mangle)]
extern "C" fn objc_sync_enter(object: *mut Object) -> c_int {
    if object.is_null() {
        return SUCCESS;
    }
    let me = thread::current().id();
    let mut guard = LOCKS.lock().unwrap_or_else(PoisonError::into_inner);
    loop {
        let locks = guard.get_or_insert_default();
        match locks.get_mut(&object.addr()) {
            None => {
                locks.insert(object.addr(), Held { by: me, times: 1 });
                return SUCCESS;
            }
            Some(held) if held.by == me => {
                held.times += 1;
                return SUCCESS;
            }
            Some(_) => guard = RELEASED.wait(guard).unwrap_or_else(PoisonError::into_inner),
        }
    }
}

#[unsafe(no_mangle)]
extern "C" fn objc_sync_exit(object: *mut Object) -> c_int {
    if object.is_null() {
        return SUCCESS;
    }
    let mut guard = LOCKS.lock().unwrap_or_else(PoisonError::into_inner);
    let locks = guard.get_or_insert_default();
    match locks.get_mut(&object.addr()) {
        Some(held) if held.by == thread::current().id() => {
            held.times -= 1;
            if held.times == 0 {
                locks.remove(&object.addr());
                RELEASED.notify_all();
            }
            SUCCESS
        }
        _ => NOT_OWNING,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    fn excludes_other_threads_and_lets_its_own_in_again() {
        let address = 0x1000; // A lock is keyed by address; the object is never looked at.
        let inside = AtomicUsize::new(0);
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let object = std::ptr::without_provenance_mut::<Object>(address);
                    for _ in 0..200 {
                        assert_eq!(objc_sync_enter(object), SUCCESS);
                        assert_eq!(objc_sync_enter(object), SUCCESS);
                        assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0);
                        inside.fetch_sub(1, Ordering::SeqCst);
                        assert_eq!(objc_sync_exit(object), SUCCESS);
                        assert_eq!(objc_sync_exit(object), SUCCESS);
                    }
                });
            }
        });
        let object = std::ptr::without_provenance_mut(address);
        assert_eq!(objc_sync_exit(object), NOT_OWNING);
    }
}
