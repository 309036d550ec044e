//! Objective-C exceptions are refused: nothing that is simulated throws one, and throwing
//! through Rust frames needs a C++ personality that this runtime does not have. A program
//! that throws is told so, by name.

use crate::fault::fault;
use crate::object::{self, Object};
use std::ffi::c_void;

#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn objc_exception_throw(exception: *mut Object) -> ! {
    let class = if exception.is_null() {
        "nil".into()
    } else {
        // SAFETY: the C contract: an object.
        unsafe { object::class_name(exception) }.to_string_lossy()
    };
    fault(
        "Objective-C exceptions are not simulated",
        format!("an exception of class {class} was thrown"),
    )
}

#[unsafe(no_mangle)]
extern "C-unwind" fn objc_exception_rethrow(_buffer: *mut c_void) -> ! {
    fault(
        "Objective-C exceptions are not simulated",
        "objc_exception_rethrow",
    )
}

#[unsafe(no_mangle)]
extern "C-unwind" fn objc_begin_catch(_buffer: *mut c_void) -> *mut Object {
    fault(
        "Objective-C exceptions are not simulated",
        "objc_begin_catch",
    )
}

#[unsafe(no_mangle)]
extern "C-unwind" fn objc_end_catch() {
    fault("Objective-C exceptions are not simulated", "objc_end_catch")
}
