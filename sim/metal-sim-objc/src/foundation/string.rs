//! `NSString`: text, kept as UTF-8 with a NUL behind it. Lengths and indices that Objective-C
//! counts in UTF-16 units are counted from that. Only [`mutable_string`]
//! ever changes a text.

use super::mutable_string;
use crate::exception::raise_or_fault;
use crate::fault::fault;
use objc2::rc::{Allocated, Retained};
use objc2::runtime::{AnyObject, NSObject, NSObjectProtocol};
use objc2::{AnyThread, DefinedClass, Message, define_class, msg_send};
use objc2_foundation::{
    NSComparisonResult, NSCopying, NSMutableCopying, NSMutableString, NSString, NSZone,
};
use std::ffi::{CStr, c_char, c_int, c_void};
use std::ops::Deref;
use std::sync::{Arc, PoisonError, RwLock};

// The bindings take `NSStringEncoding` as an `int` on this ABI, as GNUstep declares it.
const ASCII: c_int = 1;
const UTF8: c_int = 4;

/// The text of a string.
pub struct Text(RwLock<Snapshot>);

/// A text as it was when it was asked for.
#[derive(Clone)]
pub struct Snapshot {
    /// UTF-8 and a NUL.
    bytes: Arc<[u8]>,
}

impl Snapshot {
    fn new(text: &str) -> Self {
        Self {
            bytes: [text.as_bytes(), b"\0"].concat().into(),
        }
    }
}

impl Deref for Snapshot {
    type Target = str;

    fn deref(&self) -> &str {
        let text = &self.bytes[..self.bytes.len() - 1];
        // SAFETY: `new` is the only constructor, and begins with a `str`.
        unsafe { str::from_utf8_unchecked(text) }
    }
}

impl Text {
    pub(crate) fn get(&self) -> Snapshot {
        self.0
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    pub(crate) fn set(&self, text: &str) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Snapshot::new(text);
    }

    /// The text for C, valid as long as the string neither ends nor changes.
    fn as_c(&self) -> *const c_char {
        let text = self.0.read().unwrap_or_else(PoisonError::into_inner);
        text.bytes.as_ptr().cast()
    }
}

define_class!(
    // SAFETY: NSObject has no requirements on its subclasses, and there is no `Drop`.
    #[unsafe(super(NSObject))]
    #[name = "NSString"]
    #[ivars = Text]
    /// The class behind `NSString`.
    pub struct SimString;

    // SAFETY: no further requirements.
    unsafe impl NSObjectProtocol for SimString {}

    // SAFETY: immutable, so a copy is the same string. The mutable subclass overrides it.
    unsafe impl NSCopying for SimString {
        #[unsafe(method_id(copyWithZone:))]
        fn copy_with_zone(&self, _zone: *mut NSZone) -> Retained<Self> {
            self.retain()
        }
    }

    // SAFETY: the copy is mutable and starts with the same text.
    unsafe impl NSMutableCopying for SimString {
        #[unsafe(method_id(mutableCopyWithZone:))]
        fn mutable_copy_with_zone(&self, _zone: *mut NSZone) -> Retained<NSMutableString> {
            mutable_string::new(&self.text())
        }
    }

    impl SimString {
        #[unsafe(method_id(init))]
        fn init(this: Allocated<Self>) -> Retained<Self> {
            init_with(this, "")
        }

        #[unsafe(method_id(initWithBytes:length:encoding:))]
        fn init_with_bytes(
            this: Allocated<Self>,
            bytes: *const c_void,
            length: usize,
            encoding: c_int,
        ) -> Option<Retained<Self>> {
            let bytes = match length {
                0 => &[][..],
                // SAFETY: the method's contract: `length` readable bytes.
                _ => unsafe { std::slice::from_raw_parts(bytes.cast::<u8>(), length) },
            };
            text_in(bytes, encoding).map(|text| init_with(this, text))
        }

        #[unsafe(method_id(initWithUTF8String:))]
        fn init_with_utf8(this: Allocated<Self>, text: *const c_char) -> Option<Retained<Self>> {
            // SAFETY: the method's contract: a NUL-terminated string.
            let text = unsafe { CStr::from_ptr(text) }.to_str().ok();
            text.map(|text| init_with(this, text))
        }

        #[unsafe(method_id(initWithString:))]
        fn init_with_string(this: Allocated<Self>, other: &SimString) -> Retained<Self> {
            init_with(this, &other.text())
        }

        #[unsafe(method_id(string))]
        fn empty() -> Retained<Self> {
            init_with(Self::alloc(), "")
        }

        #[unsafe(method_id(stringWithString:))]
        fn with_string(other: &SimString) -> Retained<Self> {
            init_with(Self::alloc(), &other.text())
        }

        #[unsafe(method_id(stringWithUTF8String:))]
        fn with_utf8(text: *const c_char) -> Option<Retained<Self>> {
            // SAFETY: the method's contract: a NUL-terminated string.
            let text = unsafe { CStr::from_ptr(text) }.to_str().ok();
            text.map(|text| init_with(Self::alloc(), text))
        }

        #[unsafe(method(UTF8String))]
        fn utf8(&self) -> *const c_char {
            self.ivars().as_c()
        }

        #[unsafe(method(lengthOfBytesUsingEncoding:))]
        fn length_of_bytes(&self, encoding: c_int) -> usize {
            let text = self.text();
            match encoding {
                UTF8 => text.len(),
                ASCII if text.is_ascii() => text.len(),
                _ => 0,
            }
        }

        #[unsafe(method(length))]
        fn length(&self) -> usize {
            self.text().encode_utf16().count()
        }

        #[unsafe(method(characterAtIndex:))]
        fn character_at(&self, index: usize) -> u16 {
            let text = self.text();
            let unit = text.encode_utf16().nth(index);
            unit.unwrap_or_else(|| {
                out_of_range(format!("-[NSString characterAtIndex: {index}] of {:?}", &*text))
            })
        }

        #[unsafe(method(isEqualToString:))]
        fn is_equal_to_string(&self, other: &SimString) -> bool {
            *self.text() == *other.text()
        }

        #[unsafe(method(isEqual:))]
        fn is_equal(&self, other: Option<&AnyObject>) -> bool {
            other
                .and_then(|other| other.downcast_ref::<SimString>())
                .is_some_and(|other| *other.text() == *self.text())
        }

        #[unsafe(method(hash))]
        fn hash(&self) -> usize {
            hash_of(self.text().as_bytes())
        }

        #[unsafe(method(compare:))]
        fn compare(&self, other: &SimString) -> NSComparisonResult {
            let (left, right) = (self.text(), other.text());
            left.encode_utf16().cmp(right.encode_utf16()).into()
        }

        #[unsafe(method(hasPrefix:))]
        fn has_prefix(&self, prefix: &SimString) -> bool {
            self.text().starts_with(&*prefix.text())
        }

        #[unsafe(method(hasSuffix:))]
        fn has_suffix(&self, suffix: &SimString) -> bool {
            self.text().ends_with(&*suffix.text())
        }

        #[unsafe(method(intValue))]
        fn int_value(&self) -> c_int {
            self.text().trim().parse().unwrap_or(0)
        }

        #[unsafe(method_id(stringByAppendingString:))]
        fn appending(&self, other: &SimString) -> Retained<Self> {
            init_with(Self::alloc(), &format!("{}{}", &*self.text(), &*other.text()))
        }

        #[unsafe(method_id(stringByAppendingPathComponent:))]
        fn appending_path(&self, other: &SimString) -> Retained<Self> {
            init_with(Self::alloc(), &joined_path(&self.text(), &other.text()))
        }

        #[unsafe(method_id(description))]
        fn description(&self) -> Retained<Self> {
            self.retain()
        }
    }
);

impl SimString {
    pub(crate) fn text(&self) -> Snapshot {
        self.ivars().get()
    }
}

fn joined_path(folder: &str, name: &str) -> String {
    match folder {
        "" => name.to_owned(),
        _ => format!("{}/{name}", folder.trim_end_matches('/')),
    }
}

/// Equal bytes have equal hashes, which is all that `hash` promises (FNV-1a).
pub(crate) fn hash_of(bytes: &[u8]) -> usize {
    bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash: usize, byte| {
            (hash ^ usize::from(*byte)).wrapping_mul(0x0100_0000_01b3)
        })
}

/// What Foundation throws `NSRangeException` for.
pub(crate) fn out_of_range(detail: String) -> ! {
    let reason = || format!("{detail}: out of range");
    raise_or_fault(c"NSRangeException", reason, "index out of range", || {
        &detail
    })
}

fn init_with(this: Allocated<SimString>, text: &str) -> Retained<SimString> {
    let this = this.set_ivars(Text(RwLock::new(Snapshot::new(text))));
    // SAFETY: NSObject's `init` has this signature.
    unsafe { msg_send![super(this), init] }
}

/// The bytes as text, if the encoding is one that strings are made with and they are valid.
fn text_in(bytes: &[u8], encoding: c_int) -> Option<&str> {
    let text = str::from_utf8(bytes).ok()?;
    match encoding {
        // A byte order mark is no part of the text.
        UTF8 => Some(text.strip_prefix('\u{feff}').unwrap_or(text)),
        ASCII => text.is_ascii().then_some(text),
        other => fault(
            "string encoding",
            format!("NSStringEncoding {other} is not simulated"),
        ),
    }
}

/// A text for C that lives as long as the innermost pool.
pub(crate) fn lasting_c_text(text: &str) -> *const c_char {
    let string = init_with(SimString::alloc(), text);
    let text = string.ivars().as_c();
    let _ = Retained::autorelease_ptr(string);
    text
}

/// A new string.
pub fn new(text: &str) -> Retained<NSString> {
    let string = init_with(SimString::alloc(), text);
    // SAFETY: `SimString` is the class `NSString`.
    unsafe { Retained::cast_unchecked(string) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_survives_with_its_utf16_length() {
        for text in ["", "Metal", "größer", "𝕄etal", "a\0b"] {
            let string = NSString::from_str(text);
            assert_eq!(string.to_string(), text);
            assert_eq!(string.length(), text.encode_utf16().count());
        }
    }

    #[test]
    fn equality_is_by_content() {
        let (left, right) = (NSString::from_str("same"), NSString::from_str("same"));
        assert_eq!(left, right);
        assert_eq!(left.hash(), right.hash());
        assert_ne!(left, NSString::from_str("other"));
    }
}
