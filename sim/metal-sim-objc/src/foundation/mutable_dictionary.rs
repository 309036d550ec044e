//! `NSMutableDictionary`: a dictionary whose entries can be added, replaced and removed. Every
//! change is made on a copy and put in the place of the old entries, so no lock is held while
//! keys are copied and compared.

use super::dictionary::{Entries, SimDictionary};
use objc2::rc::{Allocated, Retained};
use objc2::runtime::{AnyObject, NSObject, NSObjectProtocol};
use objc2::{AnyThread, DefinedClass, define_class, msg_send};
use objc2_foundation::{NSCopying, NSDictionary, NSMutableDictionary, NSZone};

define_class!(
    // SAFETY: initialised by NSDictionary's initialisers, and there is no `Drop`.
    #[unsafe(super(SimDictionary, NSObject))]
    #[name = "NSMutableDictionary"]
    /// The class behind `NSMutableDictionary`.
    pub struct SimMutableDictionary;

    // SAFETY: no further requirements.
    unsafe impl NSObjectProtocol for SimMutableDictionary {}

    // SAFETY: the copy is immutable and has the same entries.
    unsafe impl NSCopying for SimMutableDictionary {
        #[unsafe(method_id(copyWithZone:))]
        fn copy_with_zone(&self, _zone: *mut NSZone) -> Retained<NSDictionary> {
            self.frozen()
        }
    }

    impl SimMutableDictionary {
        #[unsafe(method_id(dictionary))]
        fn dictionary() -> Retained<NSMutableDictionary> {
            new(Entries::default())
        }

        #[unsafe(method_id(dictionaryWithCapacity:))]
        fn with_capacity(_capacity: usize) -> Retained<NSMutableDictionary> {
            new(Entries::default())
        }

        #[unsafe(method_id(initWithCapacity:))]
        fn init_with_capacity(this: Allocated<Self>, _capacity: usize) -> Retained<Self> {
            init(this)
        }

        #[unsafe(method(setObject:forKey:))]
        fn set_object(&self, value: &AnyObject, key: &AnyObject) {
            self.change(|entries| entries.insert(key, value));
        }

        #[unsafe(method(setObject:forKeyedSubscript:))]
        fn set_subscript(&self, value: Option<&AnyObject>, key: &AnyObject) {
            self.change(|entries| match value {
                Some(value) => entries.insert(key, value),
                None => entries.remove(key),
            });
        }

        #[unsafe(method(removeObjectForKey:))]
        fn remove(&self, key: &AnyObject) {
            self.change(|entries| entries.remove(key));
        }

        #[unsafe(method(removeAllObjects))]
        fn remove_all(&self) {
            self.change(|entries| *entries = Entries::default());
        }
    }
);

impl SimMutableDictionary {
    fn change(&self, change: impl FnOnce(&mut Entries)) {
        let dictionary: &SimDictionary = self;
        let mut entries = (*dictionary.entries()).clone();
        change(&mut entries);
        dictionary.ivars().set(entries);
    }

    fn frozen(&self) -> Retained<NSDictionary> {
        let frozen: Retained<SimDictionary> = {
            // SAFETY: NSDictionary's `init` has this signature.
            unsafe { msg_send![SimDictionary::alloc(), init] }
        };
        frozen.ivars().set((*self.entries()).clone());
        // SAFETY: `SimDictionary` is the class `NSDictionary`.
        unsafe { Retained::cast_unchecked(frozen) }
    }
}

fn init(this: Allocated<SimMutableDictionary>) -> Retained<SimMutableDictionary> {
    // SAFETY: NSDictionary's `init` has this signature.
    unsafe { msg_send![super(this.set_ivars(())), init] }
}

/// A new mutable dictionary.
pub(crate) fn new(entries: Entries) -> Retained<NSMutableDictionary> {
    let dictionary = init(SimMutableDictionary::alloc());
    let map: &SimDictionary = &dictionary;
    map.ivars().set(entries);
    // SAFETY: `SimMutableDictionary` is the class `NSMutableDictionary`.
    unsafe { Retained::cast_unchecked(dictionary) }
}
