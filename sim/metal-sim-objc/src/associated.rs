//! Associated objects: values attached to an object under a key, released with it.

use crate::object::{self, Object};
use crate::ownership::{objc_autorelease, objc_release, objc_retain};
use std::collections::HashMap;
use std::ffi::c_void;
use std::ptr;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

/// The policy bit that keeps a strong reference.
const RETAIN: usize = 1;
/// The policy bits that store a copy.
const COPY: usize = 3;

struct Value {
    object: *mut Object,
    owned: bool,
}

#[derive(Default)]
struct Values(HashMap<usize, HashMap<usize, Value>>);

// SAFETY: values are objects, which any thread may retain and release.
unsafe impl Send for Values {}

fn values() -> MutexGuard<'static, Values> {
    static VALUES: OnceLock<Mutex<Values>> = OnceLock::new();
    VALUES
        .get_or_init(Mutex::default)
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
}

fn let_go(value: Option<Value>) {
    if let Some(value) = value.filter(|value| value.owned) {
        // SAFETY: the table owned one reference.
        unsafe { objc_release(value.object) };
    }
}

/// Drops everything associated with `object`.
pub(crate) fn remove_all(object: *mut Object) {
    let removed = values().0.remove(&object.addr());
    // After the lock is gone: a release may deallocate an object with associations.
    for value in removed.into_iter().flat_map(HashMap::into_values) {
        let_go(Some(value));
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn objc_setAssociatedObject(
    object: *mut Object,
    key: *const c_void,
    value: *mut Object,
    policy: usize,
) {
    if object.is_null() {
        return;
    }
    let owned = policy & RETAIN != 0;
    // SAFETY: the C contract: both are objects (or the value is null).
    unsafe {
        let value = match (owned, policy & COPY == COPY) {
            (true, true) => crate::message::send(value, crate::selector::Sel::new(c"copy")),
            (true, false) => objc_retain(value),
            (false, _) => value,
        };
        let old = {
            let mut values = values();
            if value.is_null() {
                values
                    .0
                    .get_mut(&object.addr())
                    .and_then(|held| held.remove(&key.addr()))
            } else {
                if object::is_counted(object) {
                    object::note_associated(object);
                }
                let held = values.0.entry(object.addr()).or_default();
                held.insert(
                    key.addr(),
                    Value {
                        object: value,
                        owned,
                    },
                )
            }
        };
        let_go(old);
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn objc_getAssociatedObject(
    object: *mut Object,
    key: *const c_void,
) -> *mut Object {
    let values = values();
    let held = values
        .0
        .get(&object.addr())
        .and_then(|held| held.get(&key.addr()));
    match held {
        // SAFETY: the table owns a reference while it is locked; the caller gets one that
        // outlives a change of the table.
        Some(value) if value.owned => unsafe { objc_autorelease(objc_retain(value.object)) },
        Some(value) => value.object,
        None => ptr::null_mut(),
    }
}

#[unsafe(no_mangle)]
extern "C" fn objc_removeAssociatedObjects(object: *mut Object) {
    remove_all(object);
}
