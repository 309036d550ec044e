//! `NSDictionary`: an immutable map that copies its keys and owns its values. Looked up by
//! `isEqual:`, in order: Metal's dictionaries hold a handful of entries.

use super::array;
use objc2::rc::{Allocated, Retained};
use objc2::runtime::{AnyObject, NSObject, NSObjectProtocol};
use objc2::{AnyThread, DefinedClass, Message, define_class, msg_send};
use objc2_foundation::{NSArray, NSCopying, NSDictionary, NSFastEnumerationState, NSZone};
use std::ptr::NonNull;

/// Keys and values, in the order they were given.
#[derive(Default)]
pub struct Entries {
    keys: Vec<Retained<AnyObject>>,
    values: Vec<Retained<AnyObject>>,
}

define_class!(
    // SAFETY: NSObject has no requirements on its subclasses, and there is no `Drop`.
    #[unsafe(super(NSObject))]
    #[name = "NSDictionary"]
    #[ivars = Entries]
    /// The class behind `NSDictionary`.
    pub struct SimDictionary;

    // SAFETY: no further requirements.
    unsafe impl NSObjectProtocol for SimDictionary {}

    // SAFETY: immutable, so a copy is the same dictionary.
    unsafe impl NSCopying for SimDictionary {
        #[unsafe(method_id(copyWithZone:))]
        fn copy_with_zone(&self, _zone: *mut NSZone) -> Retained<Self> {
            self.retain()
        }
    }

    impl SimDictionary {
        #[unsafe(method_id(init))]
        fn init(this: Allocated<Self>) -> Retained<Self> {
            init_with(this, Entries::default())
        }

        #[unsafe(method_id(dictionary))]
        fn dictionary() -> Retained<Self> {
            init_with(Self::alloc(), Entries::default())
        }

        #[unsafe(method_id(initWithObjects:forKeys:count:))]
        fn init_with_objects(
            this: Allocated<Self>,
            values: *const NonNull<AnyObject>,
            keys: *const NonNull<AnyObject>,
            count: usize,
        ) -> Retained<Self> {
            let mut entries = Entries::default();
            for at in 0..count {
                // SAFETY: the method's contract: `count` keys, which can be copied, and values.
                unsafe {
                    let key: Retained<AnyObject> = msg_send![(*keys.add(at)).as_ref(), copy];
                    entries.insert(key, (*values.add(at)).as_ref().retain());
                }
            }
            init_with(this, entries)
        }

        #[unsafe(method(count))]
        fn count(&self) -> usize {
            self.ivars().keys.len()
        }

        #[unsafe(method(objectForKey:))]
        fn object_for_key(&self, key: &AnyObject) -> *mut AnyObject {
            self.ivars().value(key)
        }

        #[unsafe(method(objectForKeyedSubscript:))]
        fn object_for_subscript(&self, key: &AnyObject) -> *mut AnyObject {
            self.ivars().value(key)
        }

        #[unsafe(method_id(allKeys))]
        fn all_keys(&self) -> Retained<NSArray> {
            array::new(self.ivars().keys.clone())
        }

        #[unsafe(method_id(allValues))]
        fn all_values(&self) -> Retained<NSArray> {
            array::new(self.ivars().values.clone())
        }

        #[unsafe(method(getObjects:andKeys:count:))]
        fn get_objects(&self, values: *mut *mut AnyObject, keys: *mut *mut AnyObject, room: usize) {
            // SAFETY: the method's contract: each is null or has room.
            unsafe { self.ivars().copy_out(values, keys, room) };
        }

        #[unsafe(method(getObjects:andKeys:))]
        fn get_all_objects(&self, values: *mut *mut AnyObject, keys: *mut *mut AnyObject) {
            // SAFETY: the method's contract: each is null or has room for every entry.
            unsafe { self.ivars().copy_out(values, keys, usize::MAX) };
        }

        #[unsafe(method(isEqual:))]
        fn is_equal(&self, other: Option<&AnyObject>) -> bool {
            other
                .and_then(|other| other.downcast_ref::<SimDictionary>())
                .is_some_and(|other| self.ivars().equals(other.ivars()))
        }

        #[unsafe(method(hash))]
        fn hash(&self) -> usize {
            self.ivars().keys.len()
        }

        #[unsafe(method(countByEnumeratingWithState:objects:count:))]
        fn enumerate(
            &self,
            state: NonNull<NSFastEnumerationState>,
            buffer: NonNull<*mut AnyObject>,
            room: usize,
        ) -> usize {
            // SAFETY: the method's contract: a state, and a buffer of `room` objects.
            unsafe { array::enumerate(&self.ivars().keys, state, buffer, room) }
        }
    }
);

impl Entries {
    fn position(&self, key: &AnyObject) -> Option<usize> {
        self.keys.iter().position(|held| {
            // SAFETY: every object answers `isEqual:`.
            unsafe { msg_send![held, isEqual: key] }
        })
    }

    fn get(&self, key: &AnyObject) -> Option<&Retained<AnyObject>> {
        self.position(key).map(|at| &self.values[at])
    }

    fn value(&self, key: &AnyObject) -> *mut AnyObject {
        self.get(key).map_or(std::ptr::null_mut(), |value| {
            Retained::as_ptr(value).cast_mut()
        })
    }

    /// # Safety
    /// Each pointer is null or has room for `room` objects or every entry.
    unsafe fn copy_out(&self, values: *mut *mut AnyObject, keys: *mut *mut AnyObject, room: usize) {
        for (list, into) in [(&self.values, values), (&self.keys, keys)] {
            for (at, object) in list.iter().take(room).enumerate() {
                if !into.is_null() {
                    // SAFETY: the caller's promise.
                    unsafe { *into.add(at) = Retained::as_ptr(object).cast_mut() };
                }
            }
        }
    }

    fn equals(&self, other: &Entries) -> bool {
        self.keys.len() == other.keys.len()
            && self.keys.iter().zip(&self.values).all(|(key, value)| {
                other.get(key).is_some_and(|held| {
                    // SAFETY: every object answers `isEqual:`.
                    unsafe { msg_send![value, isEqual: &**held] }
                })
            })
    }

    fn insert(&mut self, key: Retained<AnyObject>, value: Retained<AnyObject>) {
        match self.position(&key) {
            Some(at) => self.values[at] = value,
            None => {
                self.keys.push(key);
                self.values.push(value);
            }
        }
    }
}

fn init_with(this: Allocated<SimDictionary>, entries: Entries) -> Retained<SimDictionary> {
    let this = this.set_ivars(entries);
    // SAFETY: NSObject's `init` has this signature.
    unsafe { msg_send![super(this), init] }
}

/// A new dictionary with one entry.
pub fn with_entry(key: Retained<AnyObject>, value: Retained<AnyObject>) -> Retained<NSDictionary> {
    let mut entries = Entries::default();
    entries.insert(key, value);
    let dictionary = init_with(SimDictionary::alloc(), entries);
    // SAFETY: `SimDictionary` is the class `NSDictionary`.
    unsafe { Retained::cast_unchecked(dictionary) }
}
