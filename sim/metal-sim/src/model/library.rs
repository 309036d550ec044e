//! `MTLLibrary`: compiling Metal source is work of its own that this simulator does not do
//! yet; asking for it is answered with an error, as a source that does not compile is.

use objc2::rc::Retained;
use objc2::runtime::AnyObject;
use objc2_foundation::NSError;

/// `MTLLibraryErrorUnsupported`.
const UNSUPPORTED: isize = 1;

/// Answers nil and an error that says what is missing.
///
/// # Safety
/// `error` is null or a place for an error.
pub(crate) unsafe fn refuse(error: *mut *mut NSError, call: &str) -> Option<Retained<AnyObject>> {
    if !error.is_null() {
        let message = format!("{call}: this simulator does not compile Metal kernels yet");
        let told =
            metal_sim_objc::foundation::error::new("MTLLibraryErrorDomain", UNSUPPORTED, &message);
        // SAFETY: the caller's promise; errors are handed out autoreleased.
        unsafe { *error = Retained::autorelease_ptr(told) };
    }
    None
}
