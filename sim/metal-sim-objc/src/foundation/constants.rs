//! Foundation's constant strings: statics that programs link to, filled at start.

use super::string;
use crate::object::Object;
use objc2::rc::Retained;
use objc2_foundation::NSString;
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};

/// A static that holds a string which is never released.
#[repr(transparent)]
pub(crate) struct Constant(AtomicPtr<Object>);

impl Constant {
    const fn empty() -> Self {
        Self(AtomicPtr::new(ptr::null_mut()))
    }

    fn fill(&self, text: &str) {
        let string = Retained::into_raw(string::new(text));
        self.0.store(string.cast(), Ordering::Release);
    }

    /// The string.
    pub(crate) fn get(&self) -> &'static NSString {
        // SAFETY: filled at start, and the string is never released.
        unsafe { &*self.0.load(Ordering::Acquire).cast::<NSString>() }
    }
}

macro_rules! constants {
    ($($name:ident = $text:literal),* $(,)?) => {
        $(
            // SAFETY: the symbol names this static alone.
            #[unsafe(no_mangle)]
            #[allow(non_upper_case_globals)]
            pub(crate) static $name: Constant = Constant::empty();
        )*

        pub(crate) fn register() {
            $($name.fill($text);)*
        }
    };
}

constants!(
    NSLocalizedDescriptionKey = "NSLocalizedDescription",
    NSLocalizedFailureReasonErrorKey = "NSLocalizedFailureReason",
    NSUnderlyingErrorKey = "NSUnderlyingError",
    NSCocoaErrorDomain = "NSCocoaErrorDomain",
    NSPOSIXErrorDomain = "NSPOSIXErrorDomain",
    NSOSStatusErrorDomain = "NSOSStatusErrorDomain",
    NSGenericException = "NSGenericException",
    NSInternalInconsistencyException = "NSInternalInconsistencyException",
    NSInvalidArgumentException = "NSInvalidArgumentException",
    NSMallocException = "NSMallocException",
    NSRangeException = "NSRangeException",
);
