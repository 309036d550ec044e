//! Weak references: places that are set to null when their object goes. One table behind
//! one lock: weak references are rare in Metal code, and the lock is what keeps an object
//! from ending between being read and being retained.

use crate::class::{CUSTOM_OWNERSHIP, Class};
use crate::object::{self, Object};
use crate::ownership::{objc_autorelease, objc_retain};
use crate::selector::{Sel, known};
use crate::{cache::Imp, message};
use std::collections::HashMap;
use std::ptr;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

#[derive(Default)]
struct Places(HashMap<usize, Vec<*mut *mut Object>>);

// SAFETY: a place is only written with the table locked, as the weak functions' contract has
// callers keep it valid until `objc_destroyWeak`.
unsafe impl Send for Places {}

fn places() -> MutexGuard<'static, Places> {
    static PLACES: OnceLock<Mutex<Places>> = OnceLock::new();
    PLACES
        .get_or_init(Mutex::default)
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
}

/// Sets every weak reference to `object` to null.
pub(crate) fn clear(object: *mut Object) {
    for place in places().0.remove(&object.addr()).unwrap_or_default() {
        // SAFETY: registered places stay valid until they are destroyed.
        unsafe { *place = ptr::null_mut() };
    }
}

impl Places {
    /// # Safety
    /// `place` is valid until it is removed; `object` is null or a live object.
    unsafe fn store(&mut self, place: *mut *mut Object, object: *mut Object) {
        // SAFETY: the caller's promise.
        unsafe {
            *place = object;
            if !object.is_null() && object::is_counted(object) {
                object::note_weak(object);
                self.0.entry(object.addr()).or_default().push(place);
            }
        }
    }

    /// # Safety
    /// `place` was stored to.
    unsafe fn forget(&mut self, place: *mut *mut Object) {
        // SAFETY: the caller's promise.
        let object = unsafe { *place };
        if let Some(list) = self.0.get_mut(&object.addr()) {
            list.retain(|other| *other != place);
            if list.is_empty() {
                self.0.remove(&object.addr());
            }
        }
    }
}

/// Retains `object` if it is not ending.
///
/// # Safety
/// `object` is an object that does not end while the table is locked by the caller.
unsafe fn try_retain(object: *mut Object) -> bool {
    // SAFETY: the caller's promise.
    unsafe {
        let class: &'static Class = &*(*object).class();
        if !object::is_counted(object) {
            objc_retain(object);
            return true;
        }
        if class.has(CUSTOM_OWNERSHIP) {
            let imp: Imp = message::lookup(object, known!(c"_tryRetain"));
            let send: unsafe extern "C-unwind" fn(*mut Object, Sel) -> u8 =
                std::mem::transmute(imp);
            return send(object, known!(c"_tryRetain")) != 0;
        }
        object::try_retain_counted(object)
    }
}

#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn objc_initWeak(
    place: *mut *mut Object,
    object: *mut Object,
) -> *mut Object {
    // SAFETY: the C contract is that of `store`.
    unsafe { places().store(place, object) };
    object
}

#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn objc_storeWeak(
    place: *mut *mut Object,
    object: *mut Object,
) -> *mut Object {
    let mut places = places();
    // SAFETY: the C contract: an initialised place.
    unsafe {
        places.forget(place);
        places.store(place, object);
    }
    object
}

#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn objc_destroyWeak(place: *mut *mut Object) {
    // SAFETY: the C contract: an initialised place.
    unsafe { places().forget(place) };
}

#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn objc_loadWeakRetained(place: *mut *mut Object) -> *mut Object {
    let _places = places();
    // SAFETY: the C contract: an initialised place. The object cannot be freed while the
    // table is locked, because `clear` comes before that and waits.
    unsafe {
        let object = *place;
        if !object.is_null() && try_retain(object) {
            object
        } else {
            ptr::null_mut()
        }
    }
}

#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn objc_loadWeak(place: *mut *mut Object) -> *mut Object {
    // SAFETY: the C contract; the ownership taken is handed to the pool.
    unsafe { objc_autorelease(objc_loadWeakRetained(place)) }
}

#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn objc_copyWeak(to: *mut *mut Object, from: *mut *mut Object) {
    let mut places = places();
    // SAFETY: the C contract: `from` is initialised, `to` is not.
    unsafe { places.store(to, *from) };
}

#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn objc_moveWeak(to: *mut *mut Object, from: *mut *mut Object) {
    let mut places = places();
    // SAFETY: the C contract: `from` is initialised and ends here.
    unsafe {
        places.store(to, *from);
        places.forget(from);
        *from = ptr::null_mut();
    }
}
