//! `NSDictionary`: a map that copies its keys and owns its values. Looked up by hash and
//! `isEqual:`, in order: Metal's dictionaries hold a handful of entries. Only
//! [`mutable_dictionary`] ever changes one.

use super::list::{self, pointer};
use super::{array, asked, enumerator, mutable_dictionary, string};
use objc2::rc::{Allocated, Retained};
use objc2::runtime::{AnyObject, NSObject, NSObjectProtocol};
use objc2::{AnyThread, DefinedClass, Message, define_class, msg_send};
use objc2_foundation::{
    NSArray, NSCopying, NSDictionary, NSEnumerator, NSFastEnumeration, NSFastEnumerationState,
    NSMutableCopying, NSMutableDictionary, NSString, NSZone,
};
use std::ffi::c_ulong;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

/// Keys and values, in the order they were given.
#[derive(Clone, Default)]
pub struct Entries {
    keys: Vec<Retained<AnyObject>>,
    hashes: Vec<usize>,
    values: Vec<Retained<AnyObject>>,
}

// SAFETY: as for `Objects`.
unsafe impl Send for Entries {}
// SAFETY: as above.
unsafe impl Sync for Entries {}

/// A map, and how often it was changed.
pub struct Map {
    entries: RwLock<Arc<Entries>>,
    changes: AtomicU64,
}

define_class!(
    // SAFETY: NSObject has no requirements on its subclasses, and there is no `Drop`.
    #[unsafe(super(NSObject))]
    #[name = "NSDictionary"]
    #[ivars = Map]
    /// The class behind `NSDictionary`.
    pub struct SimDictionary;

    // SAFETY: no further requirements.
    unsafe impl NSObjectProtocol for SimDictionary {}

    // SAFETY: immutable, so a copy is the same map. The mutable subclass overrides it.
    unsafe impl NSCopying for SimDictionary {
        #[unsafe(method_id(copyWithZone:))]
        fn copy_with_zone(&self, _zone: *mut NSZone) -> Retained<Self> {
            self.retain()
        }
    }

    // SAFETY: the copy is mutable and has the same entries.
    unsafe impl NSMutableCopying for SimDictionary {
        #[unsafe(method_id(mutableCopyWithZone:))]
        fn mutable_copy_with_zone(&self, _zone: *mut NSZone) -> Retained<NSMutableDictionary> {
            mutable_dictionary::new((*self.entries()).clone())
        }
    }

    // SAFETY: the method has the protocol's signature and contract.
    unsafe impl NSFastEnumeration for SimDictionary {
        #[unsafe(method(countByEnumeratingWithState:objects:count:))]
        fn enumerate(
            &self,
            state: NonNull<NSFastEnumerationState>,
            buffer: NonNull<*mut AnyObject>,
            room: usize,
        ) -> usize {
            let changes = self.ivars().changes();
            // SAFETY: the method's contract: a state, and a buffer of `room` objects.
            unsafe { list::enumerate(&self.entries().keys, state, buffer, room, changes) }
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
            // SAFETY: the method's contract: `count` keys and values.
            init_with(this, unsafe { Entries::copied(values, keys, count) })
        }

        #[unsafe(method_id(dictionaryWithObject:forKey:))]
        fn with_object(value: &AnyObject, key: &AnyObject) -> Retained<Self> {
            init_with(Self::alloc(), Entries::one(key, value))
        }

        #[unsafe(method(count))]
        fn count(&self) -> usize {
            self.entries().keys.len()
        }

        #[unsafe(method(objectForKey:))]
        fn object_for_key(&self, key: &AnyObject) -> *mut AnyObject {
            pointer(self.entries().get(key))
        }

        #[unsafe(method(objectForKeyedSubscript:))]
        fn object_for_subscript(&self, key: &AnyObject) -> *mut AnyObject {
            pointer(self.entries().get(key))
        }

        #[unsafe(method_id(allKeys))]
        fn all_keys(&self) -> Retained<NSArray> {
            array::new(self.entries().keys.clone())
        }

        #[unsafe(method_id(allValues))]
        fn all_values(&self) -> Retained<NSArray> {
            array::new(self.entries().values.clone())
        }

        #[unsafe(method_id(keyEnumerator))]
        fn key_enumerator(&self) -> Retained<NSEnumerator> {
            enumerator::new(self.entries().keys.clone())
        }

        #[unsafe(method_id(objectEnumerator))]
        fn object_enumerator(&self) -> Retained<NSEnumerator> {
            enumerator::new(self.entries().values.clone())
        }

        #[unsafe(method(getObjects:andKeys:count:))]
        fn get_objects(&self, values: *mut *mut AnyObject, keys: *mut *mut AnyObject, room: usize) {
            // SAFETY: the method's contract: each is null or has room.
            unsafe { self.entries().copy_out(values, keys, room) };
        }

        #[unsafe(method(getObjects:andKeys:))]
        fn get_all_objects(&self, values: *mut *mut AnyObject, keys: *mut *mut AnyObject) {
            // SAFETY: the method's contract: each is null or has room for every entry.
            unsafe { self.entries().copy_out(values, keys, usize::MAX) };
        }

        #[unsafe(method(isEqualToDictionary:))]
        fn is_equal_to_dictionary(&self, other: &SimDictionary) -> bool {
            self.entries().equals(&other.entries())
        }

        #[unsafe(method(isEqual:))]
        fn is_equal(&self, other: Option<&AnyObject>) -> bool {
            other
                .and_then(|other| other.downcast_ref::<SimDictionary>())
                .is_some_and(|other| self.entries().equals(&other.entries()))
        }

        #[unsafe(method(hash))]
        fn hash(&self) -> usize {
            self.entries().keys.len()
        }

        #[unsafe(method_id(description))]
        fn description(&self) -> Retained<NSString> {
            string::new(&self.entries().shown())
        }
    }
);

impl Map {
    fn new(entries: Entries) -> Self {
        Self {
            entries: RwLock::new(Arc::new(entries)),
            changes: AtomicU64::new(0),
        }
    }

    /// Puts other entries in the place of the old ones.
    pub(crate) fn set(&self, entries: Entries) {
        let new = Arc::new(entries);
        let mut held = self.entries.write().unwrap_or_else(PoisonError::into_inner);
        self.changes.fetch_add(1, Ordering::Relaxed);
        let old = std::mem::replace(&mut *held, new);
        // A release may come back here.
        drop(held);
        drop(old);
    }

    fn changes(&self) -> *mut c_ulong {
        self.changes.as_ptr().cast()
    }
}

impl SimDictionary {
    pub(crate) fn entries(&self) -> Arc<Entries> {
        let entries = &self.ivars().entries;
        entries
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

impl Entries {
    /// # Safety
    /// `keys` and `values` point to `count` objects each.
    unsafe fn copied(
        values: *const NonNull<AnyObject>,
        keys: *const NonNull<AnyObject>,
        count: usize,
    ) -> Self {
        let mut entries = Self::default();
        for at in 0..count {
            // SAFETY: the caller's promise.
            unsafe { entries.insert((*keys.add(at)).as_ref(), (*values.add(at)).as_ref()) };
        }
        entries
    }

    fn one(key: &AnyObject, value: &AnyObject) -> Self {
        let mut entries = Self::default();
        entries.insert(key, value);
        entries
    }

    fn position(&self, key: &AnyObject) -> Option<usize> {
        let hash = asked::hash(key);
        let mut entries = self.keys.iter().zip(&self.hashes);
        entries.position(|(held, held_hash)| *held_hash == hash && asked::is_equal(held, key))
    }

    fn get(&self, key: &AnyObject) -> Option<&Retained<AnyObject>> {
        self.position(key).map(|at| &self.values[at])
    }

    /// Adds an entry with a copy of the key, or replaces the value of an equal one.
    pub(crate) fn insert(&mut self, key: &AnyObject, value: &AnyObject) {
        let value = asked::retained(value);
        match self.position(key) {
            Some(at) => self.values[at] = value,
            None => {
                let copy = asked::copy(key);
                self.hashes.push(asked::hash(&copy));
                self.keys.push(copy);
                self.values.push(value);
            }
        }
    }

    /// Removes the entry of a key, if there is one.
    pub(crate) fn remove(&mut self, key: &AnyObject) {
        if let Some(at) = self.position(key) {
            self.keys.remove(at);
            self.hashes.remove(at);
            self.values.remove(at);
        }
    }

    /// # Safety
    /// Each pointer is null or has room for `room` objects or every entry.
    unsafe fn copy_out(&self, values: *mut *mut AnyObject, keys: *mut *mut AnyObject, room: usize) {
        for (list, into) in [(&self.values, values), (&self.keys, keys)] {
            for (at, object) in list.iter().take(room).enumerate() {
                if !into.is_null() {
                    // SAFETY: the caller's promise.
                    unsafe { *into.add(at) = pointer(Some(object)) };
                }
            }
        }
    }

    fn equals(&self, other: &Entries) -> bool {
        self.keys.len() == other.keys.len()
            && self.keys.iter().zip(&self.values).all(|(key, value)| {
                other
                    .get(key)
                    .is_some_and(|held| asked::is_equal(value, held))
            })
    }

    fn shown(&self) -> String {
        let entries = self.keys.iter().zip(&self.values);
        let shown: Vec<String> = entries
            .map(|(key, value)| format!("{key:?} = {value:?};"))
            .collect();
        format!("{{{}}}", shown.join(" "))
    }
}

fn init_with(this: Allocated<SimDictionary>, entries: Entries) -> Retained<SimDictionary> {
    let this = this.set_ivars(Map::new(entries));
    // SAFETY: NSObject's `init` has this signature.
    unsafe { msg_send![super(this), init] }
}

/// A new dictionary with one entry.
pub fn with_entry(key: &AnyObject, value: &AnyObject) -> Retained<NSDictionary> {
    let dictionary = init_with(SimDictionary::alloc(), Entries::one(key, value));
    // SAFETY: `SimDictionary` is the class `NSDictionary`.
    unsafe { Retained::cast_unchecked(dictionary) }
}
