//! The Foundation classes that Metal, MPS and their Rust users touch, each a class made
//! with `define_class!`, so that its type encodings come from the compiler. The methods are
//! thin shells around plain Rust: what can fail or call out does so there.

pub mod array;
mod asked;
mod constants;
pub mod data;
pub mod date;
pub mod dictionary;
mod encoding;
pub mod enumerator;
pub mod error;
pub mod exception;
mod list;
pub mod mutable_array;
pub mod mutable_data;
pub mod mutable_dictionary;
pub mod mutable_string;
pub mod number;
pub mod string;
pub mod thread;
pub mod url;
pub mod value;

use crate::class;
use crate::object::Object;
use objc2::ClassType;
use objc2::rc::Retained;
use objc2_foundation::NSString;

crate::link_class!(
    NS_STRING = "NSString",
    NS_MUTABLE_STRING = "NSMutableString",
    NS_ARRAY = "NSArray",
    NS_MUTABLE_ARRAY = "NSMutableArray",
    NS_DICTIONARY = "NSDictionary",
    NS_MUTABLE_DICTIONARY = "NSMutableDictionary",
    NS_ENUMERATOR = "NSEnumerator",
    NS_VALUE = "NSValue",
    NS_NUMBER = "NSNumber",
    NS_DATA = "NSData",
    NS_MUTABLE_DATA = "NSMutableData",
    NS_DATE = "NSDate",
    NS_ERROR = "NSError",
    NS_EXCEPTION = "NSException",
    NS_THREAD = "NSThread",
    NS_URL = "NSURL",
);

pub(crate) fn register() {
    class::declare_statics(&statics());
    // Asking for its class is what makes a defined class exist, and its superclass before it.
    let _ = mutable_string::SimMutableString::class();
    let _ = mutable_array::SimMutableArray::class();
    let _ = mutable_dictionary::SimMutableDictionary::class();
    let _ = enumerator::SimEnumerator::class();
    let _ = number::SimNumber::class();
    let _ = mutable_data::SimMutableData::class();
    let _ = date::SimDate::class();
    let _ = error::SimError::class();
    let _ = exception::SimException::class();
    let _ = thread::SimThread::class();
    let _ = url::SimUrl::class();
    constants::register();
}

/// A new string that the innermost pool owns.
pub(crate) fn autoreleased_string(text: &str) -> *mut Object {
    let string: Retained<NSString> = string::new(text);
    Retained::autorelease_ptr(string).cast()
}
