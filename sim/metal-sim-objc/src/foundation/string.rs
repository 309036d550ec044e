//! `NSString`: immutable text, kept as UTF-8 with a NUL behind it. Lengths and indices that
//! Objective-C counts in UTF-16 units are counted from that.

use objc2::rc::{Allocated, Retained};
use objc2::runtime::{AnyObject, NSObject, NSObjectProtocol};
use objc2::{AnyThread, DefinedClass, Message, define_class, msg_send};
use objc2_foundation::{NSComparisonResult, NSCopying, NSString, NSZone};
use std::ffi::{CStr, c_char, c_int, c_void};

// The bindings take `NSStringEncoding` as an `int` on this ABI, as GNUstep declares it.
const ASCII: c_int = 1;
const UTF8: c_int = 4;

/// The text of a string.
pub struct Text {
    /// UTF-8 and a NUL.
    bytes: Box<[u8]>,
}

impl Text {
    fn new(text: &str) -> Self {
        Self {
            bytes: [text.as_bytes(), b"\0"].concat().into_boxed_slice(),
        }
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        let bytes = &self.bytes[..self.bytes.len() - 1];
        str::from_utf8(bytes).expect("made from a str")
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

    // SAFETY: `copyWithZone:` returns an equal string; immutable, so the same one.
    unsafe impl NSCopying for SimString {
        #[unsafe(method_id(copyWithZone:))]
        fn copy_with_zone(&self, _zone: *mut NSZone) -> Retained<Self> {
            self.retain()
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
            init_with(this, other.ivars().as_str())
        }

        #[unsafe(method_id(string))]
        fn empty() -> Retained<Self> {
            init_with(Self::alloc(), "")
        }

        #[unsafe(method_id(stringWithUTF8String:))]
        fn with_utf8(text: *const c_char) -> Option<Retained<Self>> {
            // SAFETY: the method's contract: a NUL-terminated string.
            let text = unsafe { CStr::from_ptr(text) }.to_str().ok();
            text.map(|text| init_with(Self::alloc(), text))
        }

        #[unsafe(method(UTF8String))]
        fn utf8(&self) -> *const c_char {
            self.ivars().bytes.as_ptr().cast()
        }

        #[unsafe(method(lengthOfBytesUsingEncoding:))]
        fn length_of_bytes(&self, encoding: c_int) -> usize {
            match encoding {
                UTF8 => self.text().len(),
                ASCII if self.text().is_ascii() => self.text().len(),
                _ => 0,
            }
        }

        #[unsafe(method(length))]
        fn length(&self) -> usize {
            self.text().encode_utf16().count()
        }

        #[unsafe(method(characterAtIndex:))]
        fn character_at(&self, index: usize) -> u16 {
            let unit = self.text().encode_utf16().nth(index);
            unit.unwrap_or_else(|| {
                crate::fault::fault("index out of range", format!("character {index} of {:?}", self.text()))
            })
        }

        #[unsafe(method(isEqualToString:))]
        fn is_equal_to_string(&self, other: &SimString) -> bool {
            self.text() == other.text()
        }

        #[unsafe(method(isEqual:))]
        fn is_equal(&self, other: Option<&AnyObject>) -> bool {
            other
                .and_then(|other| other.downcast_ref::<SimString>())
                .is_some_and(|other| other.text() == self.text())
        }

        #[unsafe(method(hash))]
        fn hash(&self) -> usize {
            // FNV-1a: equal texts have equal hashes, which is the whole contract.
            self.text().bytes().fold(0xcbf2_9ce4_8422_2325, |hash: usize, byte| {
                (hash ^ byte as usize).wrapping_mul(0x0100_0000_01b3)
            })
        }

        #[unsafe(method(compare:))]
        fn compare(&self, other: &SimString) -> NSComparisonResult {
            let left = self.text().encode_utf16();
            left.cmp(other.text().encode_utf16()).into()
        }

        #[unsafe(method(hasPrefix:))]
        fn has_prefix(&self, prefix: &SimString) -> bool {
            self.text().starts_with(prefix.text())
        }

        #[unsafe(method(hasSuffix:))]
        fn has_suffix(&self, suffix: &SimString) -> bool {
            self.text().ends_with(suffix.text())
        }

        #[unsafe(method(intValue))]
        fn int_value(&self) -> c_int {
            self.text().trim().parse().unwrap_or(0)
        }

        #[unsafe(method_id(stringByAppendingString:))]
        fn appending(&self, other: &SimString) -> Retained<Self> {
            init_with(Self::alloc(), &format!("{}{}", self.text(), other.text()))
        }

        #[unsafe(method_id(stringByAppendingPathComponent:))]
        fn appending_path(&self, other: &SimString) -> Retained<Self> {
            let (left, right) = (self.text().trim_end_matches('/'), other.text());
            init_with(Self::alloc(), &format!("{left}/{right}"))
        }

        #[unsafe(method_id(description))]
        fn description(&self) -> Retained<Self> {
            self.retain()
        }
    }
);

impl SimString {
    fn text(&self) -> &str {
        self.ivars().as_str()
    }
}

fn init_with(this: Allocated<SimString>, text: &str) -> Retained<SimString> {
    let this = this.set_ivars(Text::new(text));
    // SAFETY: NSObject's `init` has this signature.
    unsafe { msg_send![super(this), init] }
}

/// The bytes as text, if the encoding is one that strings are made with and they are valid.
fn text_in(bytes: &[u8], encoding: c_int) -> Option<&str> {
    let text = str::from_utf8(bytes).ok()?;
    match encoding {
        UTF8 => Some(text),
        ASCII => text.is_ascii().then_some(text),
        other => crate::fault::fault(
            "string encoding",
            format!("NSStringEncoding {other} is not simulated"),
        ),
    }
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
