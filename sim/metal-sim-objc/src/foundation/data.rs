//! `NSData`: bytes, its own or borrowed until a block gives them back. Only
//! [`mutable_data`] ever changes them.

use super::mutable_data;
use super::string::{self, out_of_range};
use block2::{DynBlock, RcBlock};
use objc2::rc::{Allocated, Retained};
use objc2::runtime::{AnyObject, NSObject, NSObjectProtocol};
use objc2::{AnyThread, DefinedClass, Message, define_class, msg_send};
use objc2_foundation::{
    NSCopying, NSData, NSMutableCopying, NSMutableData, NSRange, NSString, NSZone,
};
use std::ffi::c_void;
use std::sync::{PoisonError, RwLock};

/// Gives borrowed bytes back.
type Deallocator = DynBlock<dyn Fn(*mut c_void, usize)>;

/// Where the bytes are.
pub(crate) enum Bytes {
    Own(Vec<u8>),
    Borrowed {
        start: *mut u8,
        length: usize,
        give_back: Option<RcBlock<dyn Fn(*mut c_void, usize)>>,
    },
}

/// Bytes behind a lock.
pub struct Content(RwLock<Bytes>);

define_class!(
    // SAFETY: NSObject has no requirements on its subclasses, and there is no `Drop`.
    #[unsafe(super(NSObject))]
    #[name = "NSData"]
    #[ivars = Content]
    /// The class behind `NSData`.
    pub struct SimData;

    // SAFETY: no further requirements.
    unsafe impl NSObjectProtocol for SimData {}

    // SAFETY: immutable, so a copy is the same data. The mutable subclass overrides it.
    unsafe impl NSCopying for SimData {
        #[unsafe(method_id(copyWithZone:))]
        fn copy_with_zone(&self, _zone: *mut NSZone) -> Retained<Self> {
            self.retain()
        }
    }

    // SAFETY: the copy is mutable and has the same bytes.
    unsafe impl NSMutableCopying for SimData {
        #[unsafe(method_id(mutableCopyWithZone:))]
        fn mutable_copy_with_zone(&self, _zone: *mut NSZone) -> Retained<NSMutableData> {
            mutable_data::new(self.to_vec())
        }
    }

    impl SimData {
        #[unsafe(method_id(init))]
        fn init(this: Allocated<Self>) -> Retained<Self> {
            init_with(this, Bytes::Own(Vec::new()))
        }

        #[unsafe(method_id(data))]
        fn data() -> Retained<Self> {
            init_with(Self::alloc(), Bytes::Own(Vec::new()))
        }

        #[unsafe(method_id(initWithBytes:length:))]
        fn init_with_bytes(
            this: Allocated<Self>,
            bytes: *const c_void,
            length: usize,
        ) -> Retained<Self> {
            // SAFETY: the method's contract: `length` bytes.
            init_with(this, Bytes::Own(unsafe { copied(bytes, length) }))
        }

        #[unsafe(method_id(dataWithBytes:length:))]
        fn with_bytes(bytes: *const c_void, length: usize) -> Retained<Self> {
            // SAFETY: the method's contract: `length` bytes.
            init_with(Self::alloc(), Bytes::Own(unsafe { copied(bytes, length) }))
        }

        #[unsafe(method_id(initWithData:))]
        fn init_with_data(this: Allocated<Self>, other: &SimData) -> Retained<Self> {
            init_with(this, Bytes::Own(other.to_vec()))
        }

        #[unsafe(method_id(dataWithData:))]
        fn with_data(other: &SimData) -> Retained<Self> {
            init_with(Self::alloc(), Bytes::Own(other.to_vec()))
        }

        #[unsafe(method_id(initWithBytesNoCopy:length:freeWhenDone:))]
        fn init_no_copy(
            this: Allocated<Self>,
            bytes: *mut c_void,
            length: usize,
            free: bool,
        ) -> Retained<Self> {
            // SAFETY: the method's contract: `bytes` came from `malloc` if it is to be freed.
            let block = || RcBlock::new(|bytes, _| unsafe { libc::free(bytes) });
            init_with(this, Bytes::borrowed(bytes, length, free.then(block)))
        }

        #[unsafe(method_id(initWithBytesNoCopy:length:deallocator:))]
        fn init_no_copy_block(
            this: Allocated<Self>,
            bytes: *mut c_void,
            length: usize,
            give_back: Option<&Deallocator>,
        ) -> Retained<Self> {
            init_with(this, Bytes::borrowed(bytes, length, give_back.map(DynBlock::copy)))
        }

        #[unsafe(method(length))]
        fn length(&self) -> usize {
            self.look(<[u8]>::len)
        }

        #[unsafe(method(bytes))]
        fn bytes(&self) -> *const c_void {
            self.look(|bytes| bytes.as_ptr().cast())
        }

        #[unsafe(method(getBytes:length:))]
        fn get_bytes(&self, into: *mut c_void, length: usize) {
            // SAFETY: the method's contract: room for `length` bytes.
            self.look(|bytes| unsafe { copy_out(&bytes[..length.min(bytes.len())], into) });
        }

        #[unsafe(method(getBytes:range:))]
        fn get_range(&self, into: *mut c_void, range: NSRange) {
            // SAFETY: the method's contract: room for the range's length.
            self.look(|bytes| unsafe { copy_out(part(bytes, range), into) });
        }

        #[unsafe(method_id(subdataWithRange:))]
        fn subdata(&self, range: NSRange) -> Retained<NSData> {
            new(self.look(|bytes| part(bytes, range).to_vec()))
        }

        #[unsafe(method(isEqualToData:))]
        fn is_equal_to_data(&self, other: &SimData) -> bool {
            self.to_vec() == other.to_vec()
        }

        #[unsafe(method(isEqual:))]
        fn is_equal(&self, other: Option<&AnyObject>) -> bool {
            other
                .and_then(|other| other.downcast_ref::<SimData>())
                .is_some_and(|other| self.to_vec() == other.to_vec())
        }

        #[unsafe(method(hash))]
        fn hash(&self) -> usize {
            self.look(string::hash_of)
        }

        #[unsafe(method_id(description))]
        fn description(&self) -> Retained<NSString> {
            string::new(&self.look(shown))
        }
    }
);

impl Bytes {
    fn borrowed(
        bytes: *mut c_void,
        length: usize,
        give_back: Option<RcBlock<dyn Fn(*mut c_void, usize)>>,
    ) -> Self {
        Self::Borrowed {
            start: bytes.cast(),
            length,
            give_back,
        }
    }

    fn as_slice(&self) -> &[u8] {
        match self {
            Self::Own(bytes) => bytes,
            Self::Borrowed { length: 0, .. } => &[],
            // SAFETY: who lent the bytes keeps them until they are given back.
            Self::Borrowed { start, length, .. } => unsafe {
                std::slice::from_raw_parts(*start, *length)
            },
        }
    }

    /// The bytes as a vector that can be changed; borrowed ones are copied first.
    pub(crate) fn own(&mut self) -> &mut Vec<u8> {
        if let Self::Borrowed { .. } = self {
            *self = Self::Own(self.as_slice().to_vec());
        }
        match self {
            Self::Own(bytes) => bytes,
            Self::Borrowed { .. } => unreachable!("replaced above"),
        }
    }
}

impl Drop for Bytes {
    fn drop(&mut self) {
        if let Self::Borrowed {
            start,
            length,
            give_back: Some(block),
        } = self
        {
            block.call((start.cast(), *length));
        }
    }
}

impl SimData {
    pub(crate) fn look<R>(&self, look: impl FnOnce(&[u8]) -> R) -> R {
        let content = self
            .ivars()
            .0
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        look(content.as_slice())
    }

    pub(crate) fn change<R>(&self, change: impl FnOnce(&mut Vec<u8>) -> R) -> R {
        let mut content = self
            .ivars()
            .0
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        change(content.own())
    }

    pub(crate) fn to_vec(&self) -> Vec<u8> {
        self.look(<[u8]>::to_vec)
    }
}

fn part(bytes: &[u8], range: NSRange) -> &[u8] {
    let end = range.location.checked_add(range.length);
    end.and_then(|end| bytes.get(range.location..end))
        .unwrap_or_else(|| out_of_range(format!("{range:?} of {} bytes", bytes.len())))
}

fn shown(bytes: &[u8]) -> String {
    let hex: String = bytes
        .iter()
        .take(32)
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let more = if bytes.len() > 32 { " ..." } else { "" };
    format!("{{length = {}, bytes = 0x{hex}{more}}}", bytes.len())
}

/// # Safety
/// `bytes` points to `length` bytes.
pub(crate) unsafe fn copied(bytes: *const c_void, length: usize) -> Vec<u8> {
    match length {
        0 => Vec::new(),
        // SAFETY: the caller's promise.
        _ => unsafe { std::slice::from_raw_parts(bytes.cast(), length) }.to_vec(),
    }
}

/// # Safety
/// `into` has room for the bytes.
unsafe fn copy_out(bytes: &[u8], into: *mut c_void) {
    // SAFETY: the caller's promise.
    unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), into.cast(), bytes.len()) };
}

fn init_with(this: Allocated<SimData>, bytes: Bytes) -> Retained<SimData> {
    let this = this.set_ivars(Content(RwLock::new(bytes)));
    // SAFETY: NSObject's `init` has this signature.
    unsafe { msg_send![super(this), init] }
}

/// New data.
pub fn new(bytes: Vec<u8>) -> Retained<NSData> {
    let data = init_with(SimData::alloc(), Bytes::Own(bytes));
    // SAFETY: `SimData` is the class `NSData`.
    unsafe { Retained::cast_unchecked(data) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;
    use std::rc::Rc;

    #[test]
    fn borrowed_bytes_are_given_back_once() {
        let given_back = Rc::new(Cell::new(0));
        let mut bytes = *b"lent";
        let start: *mut c_void = bytes.as_mut_ptr().cast();
        let count = Rc::clone(&given_back);
        let block: RcBlock<dyn Fn(*mut c_void, usize)> = RcBlock::new(move |place, length| {
            assert_eq!((place, length), (start, 4));
            count.set(count.get() + 1);
        });
        // SAFETY: the initialiser has this signature, and `bytes` outlives the data.
        let data: Retained<NSData> = unsafe {
            msg_send![NSData::alloc(), initWithBytesNoCopy: start, length: 4_usize, deallocator: &*block]
        };
        assert_eq!(data.to_vec(), b"lent");
        drop(data);
        assert_eq!(given_back.get(), 1);
    }
}
