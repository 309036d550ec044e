//! `NSMutableData`: data whose bytes and length can be changed.

use super::data::{self, SimData, copied};
use objc2::rc::{Allocated, Retained};
use objc2::runtime::{NSObject, NSObjectProtocol};
use objc2::{AnyThread, define_class, msg_send};
use objc2_foundation::{NSCopying, NSData, NSMutableData, NSRange, NSZone};
use std::ffi::c_void;

define_class!(
    // SAFETY: initialised by NSData's initialisers, and there is no `Drop`.
    #[unsafe(super(SimData, NSObject))]
    #[name = "NSMutableData"]
    /// The class behind `NSMutableData`.
    pub struct SimMutableData;

    // SAFETY: no further requirements.
    unsafe impl NSObjectProtocol for SimMutableData {}

    // SAFETY: the copy is immutable and has the same bytes.
    unsafe impl NSCopying for SimMutableData {
        #[unsafe(method_id(copyWithZone:))]
        fn copy_with_zone(&self, _zone: *mut NSZone) -> Retained<NSData> {
            data::new(self.to_vec())
        }
    }

    impl SimMutableData {
        #[unsafe(method_id(data))]
        fn data() -> Retained<NSMutableData> {
            new(Vec::new())
        }

        #[unsafe(method_id(dataWithCapacity:))]
        fn with_capacity(capacity: usize) -> Option<Retained<NSMutableData>> {
            Some(new(Vec::with_capacity(capacity)))
        }

        #[unsafe(method_id(dataWithLength:))]
        fn with_length(length: usize) -> Option<Retained<NSMutableData>> {
            Some(new(vec![0; length]))
        }

        #[unsafe(method_id(dataWithBytes:length:))]
        fn with_bytes(bytes: *const c_void, length: usize) -> Retained<NSMutableData> {
            // SAFETY: the method's contract: `length` bytes.
            new(unsafe { copied(bytes, length) })
        }

        #[unsafe(method_id(dataWithData:))]
        fn with_data(other: &SimData) -> Retained<NSMutableData> {
            new(other.to_vec())
        }

        #[unsafe(method_id(initWithCapacity:))]
        fn init_with_capacity(this: Allocated<Self>, _capacity: usize) -> Option<Retained<Self>> {
            Some(init(this))
        }

        #[unsafe(method(mutableBytes))]
        fn mutable_bytes(&self) -> *mut c_void {
            self.change(|bytes| bytes.as_mut_ptr().cast())
        }

        #[unsafe(method(setLength:))]
        fn set_length(&self, length: usize) {
            self.change(|bytes| bytes.resize(length, 0));
        }

        #[unsafe(method(increaseLengthBy:))]
        fn increase_length(&self, more: usize) {
            self.change(|bytes| bytes.resize(bytes.len() + more, 0));
        }

        #[unsafe(method(appendBytes:length:))]
        fn append(&self, more: *const c_void, length: usize) {
            // SAFETY: the method's contract: `length` bytes.
            let more = unsafe { copied(more, length) };
            self.change(|bytes| bytes.extend(more));
        }

        #[unsafe(method(appendData:))]
        fn append_data(&self, other: &SimData) {
            let more = other.to_vec();
            self.change(|bytes| bytes.extend(more));
        }

        #[unsafe(method(setData:))]
        fn set_data(&self, other: &SimData) {
            let new = other.to_vec();
            self.change(|bytes| *bytes = new);
        }

        #[unsafe(method(replaceBytesInRange:withBytes:))]
        fn replace(&self, range: NSRange, with: *const c_void) {
            // SAFETY: the method's contract: as many bytes as the range is long.
            self.splice(range, unsafe { copied(with, range.length) });
        }

        #[unsafe(method(replaceBytesInRange:withBytes:length:))]
        fn replace_by(&self, range: NSRange, with: *const c_void, length: usize) {
            // SAFETY: the method's contract: `length` bytes.
            self.splice(range, unsafe { copied(with, length) });
        }
    }
);

impl SimMutableData {
    /// Puts `new` in the place of a range; what lies behind the end counts as zeros.
    fn splice(&self, range: NSRange, new: Vec<u8>) {
        let end = range.location.saturating_add(range.length);
        self.change(|bytes| {
            if end > bytes.len() {
                bytes.resize(end, 0);
            }
            bytes.splice(range.location..end, new);
        });
    }
}

fn init(this: Allocated<SimMutableData>) -> Retained<SimMutableData> {
    // SAFETY: NSData's `init` has this signature.
    unsafe { msg_send![super(this.set_ivars(())), init] }
}

/// New mutable data.
pub(crate) fn new(bytes: Vec<u8>) -> Retained<NSMutableData> {
    let data = init(SimMutableData::alloc());
    data.change(|held| *held = bytes);
    // SAFETY: `SimMutableData` is the class `NSMutableData`.
    unsafe { Retained::cast_unchecked(data) }
}
