//! The Foundation classes that Metal, MPS and their Rust users touch, each a class made
//! with `define_class!`, so that its type encodings come from the compiler.

pub mod array;
pub mod dictionary;
pub mod error;
pub mod string;
pub mod url;

use crate::class;
use crate::object::Object;
use objc2::ClassType;
use objc2::rc::Retained;
use objc2_foundation::NSString;

crate::link_class!(
    NS_STRING = "NSString",
    NS_ARRAY = "NSArray",
    NS_DICTIONARY = "NSDictionary",
    NS_ERROR = "NSError",
    NS_URL = "NSURL",
);

pub(crate) fn register() {
    class::declare_statics(&statics());
    // Asking for its class is what makes a defined class exist.
    let _ = string::SimString::class();
    let _ = array::SimArray::class();
    let _ = dictionary::SimDictionary::class();
    let _ = error::SimError::class();
    let _ = url::SimUrl::class();
    error::register_keys();
}

/// A new string that the innermost pool owns.
pub(crate) fn autoreleased_string(text: &str) -> *mut Object {
    let string: Retained<NSString> = string::new(text);
    Retained::autorelease_ptr(string).cast()
}
