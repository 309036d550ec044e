//! `NSMutableArray`: an array whose elements can be added, replaced and removed.

use super::array::{self, SimArray};
use super::asked;
use super::list::List;
use super::string::out_of_range;
use objc2::rc::{Allocated, Retained};
use objc2::runtime::{AnyObject, NSObject, NSObjectProtocol};
use objc2::{AnyThread, DefinedClass, define_class, msg_send};
use objc2_foundation::{NSArray, NSCopying, NSMutableArray, NSZone};
use std::ffi::c_void;
use std::ptr::NonNull;

/// How elements are compared: negative, zero or positive, with a context of the caller's.
type Compare =
    unsafe extern "C-unwind" fn(NonNull<AnyObject>, NonNull<AnyObject>, *mut c_void) -> isize;

define_class!(
    // SAFETY: initialised by NSArray's initialisers, and there is no `Drop`.
    #[unsafe(super(SimArray, NSObject))]
    #[name = "NSMutableArray"]
    /// The class behind `NSMutableArray`.
    pub struct SimMutableArray;

    // SAFETY: no further requirements.
    unsafe impl NSObjectProtocol for SimMutableArray {}

    // SAFETY: the copy is immutable and has the same elements.
    unsafe impl NSCopying for SimMutableArray {
        #[unsafe(method_id(copyWithZone:))]
        fn copy_with_zone(&self, _zone: *mut NSZone) -> Retained<NSArray> {
            array::new(self.elements().to_vec())
        }
    }

    impl SimMutableArray {
        #[unsafe(method_id(array))]
        fn array() -> Retained<NSMutableArray> {
            new(Vec::new())
        }

        #[unsafe(method_id(arrayWithCapacity:))]
        fn with_capacity(_capacity: usize) -> Retained<NSMutableArray> {
            new(Vec::new())
        }

        #[unsafe(method_id(initWithCapacity:))]
        fn init_with_capacity(this: Allocated<Self>, _capacity: usize) -> Retained<Self> {
            init(this)
        }

        #[unsafe(method(addObject:))]
        fn add(&self, object: &AnyObject) {
            let object = asked::retained(object);
            self.list().change(|elements| elements.push(object));
        }

        #[unsafe(method(insertObject:atIndex:))]
        fn insert(&self, object: &AnyObject, index: usize) {
            self.check(index, "insertObject:atIndex:", 1);
            let object = asked::retained(object);
            self.list().change(|elements| elements.insert(index, object));
        }

        #[unsafe(method(replaceObjectAtIndex:withObject:))]
        fn replace(&self, index: usize, object: &AnyObject) {
            self.check(index, "replaceObjectAtIndex:withObject:", 0);
            let object = asked::retained(object);
            drop(self.list().change(|elements| std::mem::replace(&mut elements[index], object)));
        }

        #[unsafe(method(removeObjectAtIndex:))]
        fn remove_at(&self, index: usize) {
            self.check(index, "removeObjectAtIndex:", 0);
            drop(self.list().change(|elements| elements.remove(index)));
        }

        #[unsafe(method(removeLastObject))]
        fn remove_last(&self) {
            drop(self.list().change(Vec::pop));
        }

        #[unsafe(method(removeObject:))]
        fn remove(&self, object: &AnyObject) {
            self.remove_equal(object);
        }

        #[unsafe(method(removeAllObjects))]
        fn remove_all(&self) {
            drop(self.list().change(std::mem::take));
        }

        #[unsafe(method(addObjectsFromArray:))]
        fn add_all(&self, other: &SimArray) {
            let added = other.elements().to_vec();
            self.list().change(|elements| elements.extend(added));
        }

        #[unsafe(method(setArray:))]
        fn set(&self, other: &SimArray) {
            let new = other.elements().to_vec();
            drop(self.list().change(|elements| std::mem::replace(elements, new)));
        }

        #[unsafe(method(sortUsingFunction:context:))]
        fn sort(&self, compare: Compare, context: *mut c_void) {
            // SAFETY: the method's contract: a comparison of elements, and its context.
            unsafe { self.sort_by(compare, context) };
        }
    }
);

impl SimMutableArray {
    fn list(&self) -> &List {
        let array: &SimArray = self;
        array.ivars()
    }

    /// Reports an index that is not below the number of elements and `more`.
    fn check(&self, index: usize, method: &str, more: usize) {
        let count = self.elements().len();
        if index >= count + more {
            out_of_range(format!(
                "-[NSMutableArray {method}] at {index} of {count} objects"
            ));
        }
    }

    fn remove_equal(&self, object: &AnyObject) {
        // Asked outside the lock, since `isEqual:` may be the program's.
        let equal: Vec<_> = self
            .elements()
            .iter()
            .filter(|held| asked::is_equal(held, object))
            .map(Retained::as_ptr)
            .collect();
        let removed: Vec<_> = self.list().change(|elements| {
            let (gone, kept) = std::mem::take(elements)
                .into_iter()
                .partition(|held| equal.contains(&Retained::as_ptr(held)));
            *elements = kept;
            gone
        });
        drop(removed);
    }

    /// # Safety
    /// `compare` may be called with elements and `context`.
    unsafe fn sort_by(&self, compare: Compare, context: *mut c_void) {
        let mut sorted = self.elements().to_vec();
        let pointer = |object: &Retained<AnyObject>| NonNull::from(&**object);
        sorted.sort_by(|left, right| {
            // SAFETY: the caller's promise.
            unsafe { compare(pointer(left), pointer(right), context) }.cmp(&0)
        });
        drop(
            self.list()
                .change(|elements| std::mem::replace(elements, sorted)),
        );
    }
}

fn init(this: Allocated<SimMutableArray>) -> Retained<SimMutableArray> {
    // SAFETY: NSArray's `init` has this signature.
    unsafe { msg_send![super(this.set_ivars(())), init] }
}

/// A new mutable array.
pub(crate) fn new(elements: Vec<Retained<AnyObject>>) -> Retained<NSMutableArray> {
    let array = init(SimMutableArray::alloc());
    array.list().change(|held| *held = elements);
    // SAFETY: `SimMutableArray` is the class `NSMutableArray`.
    unsafe { Retained::cast_unchecked(array) }
}
