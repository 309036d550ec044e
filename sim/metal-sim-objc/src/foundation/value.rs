//! `NSValue`: the bytes of a value of any C type, with the type's encoding.

use super::{encoding, string};
use objc2::rc::{Allocated, Retained};
use objc2::runtime::{AnyObject, NSObject, NSObjectProtocol};
use objc2::{AnyThread, DefinedClass, Message, define_class, msg_send};
use objc2_foundation::{NSCopying, NSRange, NSString, NSZone};
use std::ffi::{CStr, CString, c_char, c_void};

/// A value's bytes and the encoding of its type.
pub struct Stored {
    bytes: Box<[u8]>,
    encoding: CString,
}

define_class!(
    // SAFETY: NSObject has no requirements on its subclasses, and there is no `Drop`.
    #[unsafe(super(NSObject))]
    #[name = "NSValue"]
    #[ivars = Stored]
    /// The class behind `NSValue`.
    pub struct SimValue;

    // SAFETY: no further requirements.
    unsafe impl NSObjectProtocol for SimValue {}

    // SAFETY: immutable, so a copy is the same value.
    unsafe impl NSCopying for SimValue {
        #[unsafe(method_id(copyWithZone:))]
        fn copy_with_zone(&self, _zone: *mut NSZone) -> Retained<Self> {
            self.retain()
        }
    }

    impl SimValue {
        // There is no value of no type.
        #[unsafe(method_id(init))]
        fn init(_this: Allocated<Self>) -> Option<Retained<Self>> {
            None
        }

        #[unsafe(method_id(initWithBytes:objCType:))]
        fn init_with_bytes(
            this: Allocated<Self>,
            bytes: *const c_void,
            encoding: *const c_char,
        ) -> Retained<Self> {
            // SAFETY: the method's contract: a value of that type.
            init_with(this, unsafe { Stored::copied(bytes, encoding) })
        }

        #[unsafe(method_id(valueWithBytes:objCType:))]
        fn with_bytes(bytes: *const c_void, encoding: *const c_char) -> Retained<Self> {
            // SAFETY: the method's contract: a value of that type.
            init_with(Self::alloc(), unsafe { Stored::copied(bytes, encoding) })
        }

        #[unsafe(method_id(value:withObjCType:))]
        fn with_type(bytes: *const c_void, encoding: *const c_char) -> Retained<Self> {
            // SAFETY: the method's contract: a value of that type.
            init_with(Self::alloc(), unsafe { Stored::copied(bytes, encoding) })
        }

        #[unsafe(method_id(valueWithPointer:))]
        fn with_pointer(pointer: *const c_void) -> Retained<Self> {
            let stored = Stored::new(&pointer.addr().to_ne_bytes(), c"^v");
            init_with(Self::alloc(), stored)
        }

        #[unsafe(method(pointerValue))]
        fn pointer_value(&self) -> *mut c_void {
            // Stored as an address, since bytes have no provenance.
            std::ptr::with_exposed_provenance_mut(usize::from_ne_bytes(self.ivars().array()))
        }

        #[unsafe(method_id(valueWithRange:))]
        fn with_range(range: NSRange) -> Retained<Self> {
            init_with(Self::alloc(), Stored::of_range(range))
        }

        #[unsafe(method(rangeValue))]
        fn range_value(&self) -> NSRange {
            self.ivars().range()
        }

        #[unsafe(method(objCType))]
        fn objc_type(&self) -> *const c_char {
            self.ivars().encoding.as_ptr()
        }

        #[unsafe(method(getValue:))]
        fn get_value(&self, into: *mut c_void) {
            // SAFETY: the method's contract: room for a value of the type.
            unsafe { self.ivars().copy_to(into, usize::MAX) };
        }

        #[unsafe(method(getValue:size:))]
        fn get_value_of_size(&self, into: *mut c_void, size: usize) {
            // SAFETY: the method's contract: room for `size` bytes.
            unsafe { self.ivars().copy_to(into, size) };
        }

        #[unsafe(method(isEqualToValue:))]
        fn is_equal_to_value(&self, other: &SimValue) -> bool {
            self.ivars().equals(other.ivars())
        }

        #[unsafe(method(isEqual:))]
        fn is_equal(&self, other: Option<&AnyObject>) -> bool {
            other
                .and_then(|other| other.downcast_ref::<SimValue>())
                .is_some_and(|other| self.ivars().equals(other.ivars()))
        }

        #[unsafe(method(hash))]
        fn hash(&self) -> usize {
            string::hash_of(&self.ivars().bytes)
        }

        #[unsafe(method_id(description))]
        fn description(&self) -> Retained<NSString> {
            string::new(&self.ivars().shown())
        }
    }
);

impl Stored {
    pub(crate) fn new(bytes: &[u8], encoding: &CStr) -> Self {
        Self {
            bytes: bytes.into(),
            encoding: encoding.to_owned(),
        }
    }

    /// # Safety
    /// `encoding` is a NUL-terminated string, and `bytes` a value of that type.
    unsafe fn copied(bytes: *const c_void, encoding: *const c_char) -> Self {
        // SAFETY: the caller's promise.
        let encoding = unsafe { CStr::from_ptr(encoding) };
        let (size, _) = encoding::layout(&encoding.to_string_lossy());
        let bytes = match size {
            0 => &[][..],
            // SAFETY: the caller's promise: a value of that size.
            _ => unsafe { std::slice::from_raw_parts(bytes.cast(), size) },
        };
        Self::new(bytes, encoding)
    }

    fn of_range(range: NSRange) -> Self {
        let words = [range.location, range.length];
        Self::new(&words.map(usize::to_ne_bytes).concat(), c"{_NSRange=QQ}")
    }

    fn range(&self) -> NSRange {
        let word = |at: usize| {
            let bytes = self.bytes.get(at..at + 8)?;
            Some(usize::from_ne_bytes(bytes.try_into().ok()?))
        };
        match (word(0), word(8)) {
            (Some(location), Some(length)) => NSRange { location, length },
            _ => NSRange::from(0..0),
        }
    }

    /// The encoding of the type.
    pub(crate) fn encoding(&self) -> &CStr {
        &self.encoding
    }

    /// The first bytes of the value, with zeros behind a shorter one.
    pub(crate) fn array<const N: usize>(&self) -> [u8; N] {
        let mut array = [0; N];
        let known = self.bytes.len().min(N);
        array[..known].copy_from_slice(&self.bytes[..known]);
        array
    }

    /// # Safety
    /// `into` has room for the value, or for `room` bytes.
    unsafe fn copy_to(&self, into: *mut c_void, room: usize) {
        let size = self.bytes.len().min(room);
        // SAFETY: the caller's promise.
        unsafe { std::ptr::copy_nonoverlapping(self.bytes.as_ptr(), into.cast(), size) };
    }

    fn equals(&self, other: &Stored) -> bool {
        self.encoding == other.encoding && self.bytes == other.bytes
    }

    fn shown(&self) -> String {
        let bytes: String = self
            .bytes
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        format!("{{length = {}, bytes = 0x{bytes}}}", self.bytes.len())
    }
}

fn init_with(this: Allocated<SimValue>, stored: Stored) -> Retained<SimValue> {
    let this = this.set_ivars(stored);
    // SAFETY: NSObject's `init` has this signature.
    unsafe { msg_send![super(this), init] }
}

#[cfg(test)]
mod tests {
    use objc2_foundation::{NSRange, NSValue};

    #[test]
    fn a_value_keeps_its_bytes_and_its_type() {
        let value = NSValue::new(NSRange::from(3..7));
        assert_eq!(value.get_range(), Some(NSRange::from(3..7)));
        assert_eq!(value.encoding(), Some("{_NSRange=QQ}"));
        assert_ne!(NSValue::new(1_u32), NSValue::new(1_i32));
        let place = std::ptr::from_ref(&value).cast_mut().cast();
        // SAFETY: the pointer is not looked through.
        unsafe {
            let pointer = NSValue::valueWithPointer(place);
            assert_eq!(pointer.pointerValue(), place);
        }
    }
}
