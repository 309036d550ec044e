//! `NSMutableString`: a string whose text can be replaced. Every change replaces the whole
//! text, so a reader on another thread sees the old one or the new one.

use super::string::{self, SimString};
use objc2::rc::Retained;
use objc2::runtime::{NSObject, NSObjectProtocol};
use objc2::{AnyThread, DefinedClass, define_class, msg_send};
use objc2_foundation::{NSCopying, NSMutableString, NSString, NSZone};
use std::ffi::{CStr, c_char};

define_class!(
    // SAFETY: initialised by NSString's initialisers, and there is no `Drop`.
    #[unsafe(super(SimString, NSObject))]
    #[name = "NSMutableString"]
    /// The class behind `NSMutableString`.
    pub struct SimMutableString;

    // SAFETY: no further requirements.
    unsafe impl NSObjectProtocol for SimMutableString {}

    // SAFETY: the copy is immutable and has the same text.
    unsafe impl NSCopying for SimMutableString {
        #[unsafe(method_id(copyWithZone:))]
        fn copy_with_zone(&self, _zone: *mut NSZone) -> Retained<NSString> {
            string::new(&self.text())
        }
    }

    impl SimMutableString {
        #[unsafe(method_id(string))]
        fn empty() -> Retained<NSMutableString> {
            new("")
        }

        #[unsafe(method_id(stringWithCapacity:))]
        fn with_capacity(_capacity: usize) -> Retained<NSMutableString> {
            new("")
        }

        #[unsafe(method_id(stringWithString:))]
        fn with_string(other: &SimString) -> Retained<NSMutableString> {
            new(&other.text())
        }

        #[unsafe(method_id(stringWithUTF8String:))]
        fn with_utf8(text: *const c_char) -> Option<Retained<NSMutableString>> {
            // SAFETY: the method's contract: a NUL-terminated string.
            let text = unsafe { CStr::from_ptr(text) }.to_str().ok();
            text.map(new)
        }

        #[unsafe(method(appendString:))]
        fn append(&self, other: &SimString) {
            self.replace(format!("{}{}", &*self.text(), &*other.text()));
        }

        #[unsafe(method(setString:))]
        fn set(&self, other: &SimString) {
            self.replace(other.text().to_string());
        }

        // Valid until the pool is drained, whatever happens to the string.
        #[unsafe(method(UTF8String))]
        fn utf8(&self) -> *const c_char {
            string::lasting_c_text(&self.text())
        }

        #[unsafe(method_id(description))]
        fn description(&self) -> Retained<NSString> {
            string::new(&self.text())
        }
    }
);

impl SimMutableString {
    fn replace(&self, text: String) {
        let string: &SimString = self;
        string.ivars().set(&text);
    }
}

/// A new mutable string.
pub(crate) fn new(text: &str) -> Retained<NSMutableString> {
    let this = SimMutableString::alloc().set_ivars(());
    let text = string::new(text);
    // SAFETY: NSString's initialiser has this signature; `SimMutableString` is the class
    // `NSMutableString`.
    unsafe {
        let string: Retained<SimMutableString> = msg_send![super(this), initWithString: &*text];
        Retained::cast_unchecked(string)
    }
}
