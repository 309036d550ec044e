//! The C functions of ownership, as compilers and objc2 call them. Where a class overrides
//! `retain`, `release` or `autorelease`, they send that message; everywhere else they count.

use crate::class::{CUSTOM_OWNERSHIP, META, UNCOUNTED};
use crate::object::{Object, release_counted, retain_counted};
use crate::selector::known;
use crate::{message, pool};
use std::sync::OnceLock;
use std::sync::atomic::Ordering;

/// What is special about the class of an object, for the ownership functions.
#[inline]
unsafe fn special(object: *mut Object) -> u32 {
    // SAFETY: the caller passes an object.
    let flags = unsafe { &*(*object).class() }.flags.load(Ordering::Relaxed);
    flags & (META | CUSTOM_OWNERSHIP | UNCOUNTED)
}

#[unsafe(no_mangle)]
pub(crate) unsafe extern "C-unwind" fn objc_retain(object: *mut Object) -> *mut Object {
    if object.is_null() {
        return object;
    }
    // SAFETY: the C contract: an object.
    unsafe {
        match special(object) {
            0 => retain_counted(object),
            flags if flags & CUSTOM_OWNERSHIP != 0 => {
                return message::send(object, known!(c"retain"));
            }
            _ => {}
        }
    }
    object
}

#[unsafe(no_mangle)]
pub(crate) unsafe extern "C-unwind" fn objc_release(object: *mut Object) {
    if object.is_null() {
        return;
    }
    // SAFETY: the C contract: an object of which the caller gives up one ownership.
    unsafe {
        match special(object) {
            0 => release_counted(object),
            flags if flags & CUSTOM_OWNERSHIP != 0 => {
                message::send(object, known!(c"release"));
            }
            _ => {}
        }
    }
}

// An overridden `autorelease` is not asked: on this ABI the pool takes the object at once.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C-unwind" fn objc_autorelease(object: *mut Object) -> *mut Object {
    // SAFETY: the C contract: null, or an object of which the caller gives up one ownership.
    unsafe {
        if !object.is_null() && special(object) & (META | UNCOUNTED) == 0 {
            pool::add(object);
        }
    }
    object
}

#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn objc_autoreleaseReturnValue(object: *mut Object) -> *mut Object {
    // SAFETY: the same contract.
    unsafe { objc_autorelease(object) }
}

#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn objc_retainAutorelease(object: *mut Object) -> *mut Object {
    // SAFETY: the ownership taken is the one given up.
    unsafe { objc_autorelease(objc_retain(object)) }
}

#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn objc_retainAutoreleaseReturnValue(object: *mut Object) -> *mut Object {
    // SAFETY: the same contract.
    unsafe { objc_retainAutorelease(object) }
}

#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn objc_retainAutoreleasedReturnValue(object: *mut Object) -> *mut Object {
    if hands_over() && pool::take_back(object) {
        return object;
    }
    // SAFETY: the same contract.
    unsafe { objc_retain(object) }
}

/// Whether a result that was autoreleased just now is taken out of the pool again, as
/// Apple's runtime does for optimised programs. Off unless `METAL_SIM_HANDOVER=1`: a Mac does
/// not promise it, and without it the objects of a program that lacks a pool add up.
fn hands_over() -> bool {
    static HANDS_OVER: OnceLock<bool> = OnceLock::new();
    *HANDS_OVER.get_or_init(|| std::env::var("METAL_SIM_HANDOVER").is_ok_and(|it| it == "1"))
}

#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn objc_storeStrong(place: *mut *mut Object, object: *mut Object) {
    // SAFETY: the C contract: `place` holds null or an owned object.
    unsafe {
        let old = *place;
        *place = objc_retain(object);
        objc_release(old);
    }
}
