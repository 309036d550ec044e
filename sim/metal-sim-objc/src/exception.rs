//! Objective-C exceptions, on top of Rust's panics: a throw unwinds like a panic with a
//! payload of its own, and `objc2_exception_helper_0_1_try_catch`, which objc2's feature
//! `exception` calls for `@try`, catches that payload and lets every other one pass. So no
//! Objective-C compiler is needed; the crate `objc2-exception-helper`, which would call one,
//! is replaced by declarations (`cargo xtask test objc` does that).
//!
//! Code that a compiler made from `@try` does not work here: it names a personality function
//! that this runtime does not have, so it does not link.

use crate::fault::fault;
use crate::foundation;
use crate::object::{self, Object};
use crate::ownership::{objc_release, objc_retain};
use std::any::Any;
use std::cell::Cell;
use std::ffi::{CStr, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

thread_local! {
    /// How many `@try` this thread is in.
    static TRIES: Cell<usize> = const { Cell::new(0) };
}

/// What unwinds: an exception, with one ownership of it.
struct Thrown(*mut Object);

// SAFETY: ownership is counted atomically, and a panic stays on its thread.
unsafe impl Send for Thrown {}

impl Drop for Thrown {
    fn drop(&mut self) {
        // SAFETY: the payload owns the exception until somebody catches it.
        unsafe { objc_release(self.0) };
    }
}

/// Whether a throw on this thread would be caught.
fn is_caught() -> bool {
    TRIES.try_with(|tries| tries.get() > 0).unwrap_or(false)
}

/// Reports what Apple's frameworks throw an exception for: thrown where the program catches
/// exceptions, and a fault everywhere else, where a Mac would end the process.
pub(crate) fn raise_or_fault<D: std::fmt::Display>(
    name: &CStr,
    reason: impl FnOnce() -> String,
    rule: &str,
    detail: impl FnOnce() -> D,
) -> ! {
    if is_caught() {
        let exception = foundation::exception::new(&name.to_string_lossy(), &reason());
        resume_unwind(Box::new(Thrown(exception)));
    }
    fault(rule, detail())
}

#[unsafe(no_mangle)]
pub(crate) unsafe extern "C-unwind" fn objc_exception_throw(exception: *mut Object) -> ! {
    if is_caught() {
        // SAFETY: the C contract: null or an object, here retained for whoever catches it.
        resume_unwind(Box::new(Thrown(unsafe { objc_retain(exception) })));
    }
    // SAFETY: the C contract.
    let what = unsafe { describe(exception) };
    fault("uncaught exception", what)
}

/// # Safety
/// `exception` is null or an object.
unsafe fn describe(exception: *mut Object) -> String {
    if exception.is_null() {
        return "nil".to_owned();
    }
    // SAFETY: the caller's promise.
    unsafe {
        foundation::exception::told(exception)
            .unwrap_or_else(|| object::class_name(exception).to_string_lossy().into_owned())
    }
}

/// Calls `body` and gives the exception it ended with, if it did, owned.
fn catch(body: impl FnOnce()) -> Result<(), *mut Object> {
    TRIES.with(|tries| tries.set(tries.get() + 1));
    let ended = catch_unwind(AssertUnwindSafe(body));
    TRIES.with(|tries| tries.set(tries.get() - 1));
    ended.map_err(
        |payload: Box<dyn Any + Send>| match payload.downcast::<Thrown>() {
            // The ownership goes on to the caller.
            Ok(thrown) => std::mem::ManuallyDrop::new(*thrown).0,
            Err(panic) => resume_unwind(panic),
        },
    )
}

#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn objc2_exception_helper_0_1_try_catch(
    body: extern "C-unwind" fn(*mut c_void),
    context: *mut c_void,
    error: *mut *mut Object,
) -> u8 {
    match catch(|| body(context)) {
        Ok(()) => 0,
        Err(exception) => {
            // SAFETY: the function's contract: a place for the exception.
            unsafe { *error = exception };
            1
        }
    }
}

/// What code made by a compiler would call inside `@catch`; it cannot get there.
fn refused(function: &str) -> ! {
    fault(
        "compiled @try is not simulated",
        format!("{function} was called"),
    )
}

#[unsafe(no_mangle)]
extern "C-unwind" fn objc_exception_rethrow(_buffer: *mut c_void) -> ! {
    refused("objc_exception_rethrow")
}

#[unsafe(no_mangle)]
extern "C" fn objc_begin_catch(_buffer: *mut c_void) -> *mut Object {
    refused("objc_begin_catch")
}

#[unsafe(no_mangle)]
extern "C" fn objc_end_catch() {
    refused("objc_end_catch")
}
