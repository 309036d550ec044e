//! `NSArray`: a list that owns its elements. Only [`mutable_array`] ever
//! changes one.

use super::list::{Elements, List, copy_out, enumerate, pointer};
use super::string::out_of_range;
use super::{asked, enumerator, mutable_array, string};
use objc2::rc::{Allocated, Retained};
use objc2::runtime::{AnyObject, NSObject, NSObjectProtocol};
use objc2::{AnyThread, DefinedClass, Message, define_class, msg_send};
use objc2_foundation::{
    NSArray, NSCopying, NSEnumerator, NSFastEnumeration, NSFastEnumerationState, NSMutableArray,
    NSMutableCopying, NSNotFound, NSRange, NSString, NSZone,
};
use std::ptr::NonNull;

define_class!(
    // SAFETY: NSObject has no requirements on its subclasses, and there is no `Drop`.
    #[unsafe(super(NSObject))]
    #[name = "NSArray"]
    #[ivars = List]
    /// The class behind `NSArray`.
    pub struct SimArray;

    // SAFETY: no further requirements.
    unsafe impl NSObjectProtocol for SimArray {}

    // SAFETY: immutable, so a copy is the same array. The mutable subclass overrides it.
    unsafe impl NSCopying for SimArray {
        #[unsafe(method_id(copyWithZone:))]
        fn copy_with_zone(&self, _zone: *mut NSZone) -> Retained<Self> {
            self.retain()
        }
    }

    // SAFETY: the copy is mutable and has the same elements.
    unsafe impl NSMutableCopying for SimArray {
        #[unsafe(method_id(mutableCopyWithZone:))]
        fn mutable_copy_with_zone(&self, _zone: *mut NSZone) -> Retained<NSMutableArray> {
            mutable_array::new(self.elements().to_vec())
        }
    }

    // SAFETY: the method has the protocol's signature and contract.
    unsafe impl NSFastEnumeration for SimArray {
        #[unsafe(method(countByEnumeratingWithState:objects:count:))]
        fn enumerate(
            &self,
            state: NonNull<NSFastEnumerationState>,
            buffer: NonNull<*mut AnyObject>,
            room: usize,
        ) -> usize {
            // SAFETY: the method's contract: a state, and a buffer of `room` objects.
            unsafe { enumerate(&self.elements(), state, buffer, room, self.ivars().changes()) }
        }
    }

    impl SimArray {
        #[unsafe(method_id(init))]
        fn init(this: Allocated<Self>) -> Retained<Self> {
            init_with(this, Vec::new())
        }

        #[unsafe(method_id(array))]
        fn array() -> Retained<Self> {
            init_with(Self::alloc(), Vec::new())
        }

        #[unsafe(method_id(initWithObjects:count:))]
        fn init_with_objects(
            this: Allocated<Self>,
            objects: *const NonNull<AnyObject>,
            count: usize,
        ) -> Retained<Self> {
            // SAFETY: the method's contract: `count` objects.
            init_with(this, unsafe { retained(objects, count) })
        }

        #[unsafe(method_id(initWithArray:))]
        fn init_with_array(this: Allocated<Self>, other: &SimArray) -> Retained<Self> {
            init_with(this, other.elements().to_vec())
        }

        #[unsafe(method_id(arrayWithObjects:count:))]
        fn with_objects(objects: *const NonNull<AnyObject>, count: usize) -> Retained<Self> {
            // SAFETY: the method's contract: `count` objects.
            init_with(Self::alloc(), unsafe { retained(objects, count) })
        }

        #[unsafe(method_id(arrayWithObject:))]
        fn with_object(object: &AnyObject) -> Retained<Self> {
            init_with(Self::alloc(), vec![asked::retained(object)])
        }

        #[unsafe(method_id(arrayWithArray:))]
        fn with_array(other: &SimArray) -> Retained<Self> {
            init_with(Self::alloc(), other.elements().to_vec())
        }

        #[unsafe(method(count))]
        fn count(&self) -> usize {
            self.elements().len()
        }

        #[unsafe(method(objectAtIndex:))]
        fn object_at(&self, index: usize) -> *mut AnyObject {
            self.at(index)
        }

        #[unsafe(method(objectAtIndexedSubscript:))]
        fn object_at_subscript(&self, index: usize) -> *mut AnyObject {
            self.at(index)
        }

        #[unsafe(method(firstObject))]
        fn first(&self) -> *mut AnyObject {
            pointer(self.elements().first())
        }

        #[unsafe(method(lastObject))]
        fn last(&self) -> *mut AnyObject {
            pointer(self.elements().last())
        }

        #[unsafe(method(getObjects:range:))]
        fn get_objects(&self, into: *mut *mut AnyObject, range: NSRange) {
            // SAFETY: the method's contract: room for the range's length.
            unsafe { copy_out(&self.part(range), into) };
        }

        #[unsafe(method(getObjects:))]
        fn get_all_objects(&self, into: *mut *mut AnyObject) {
            // SAFETY: the method's contract: room for every element.
            unsafe { copy_out(&self.elements(), into) };
        }

        #[unsafe(method_id(subarrayWithRange:))]
        fn subarray(&self, range: NSRange) -> Retained<NSArray> {
            new(self.part(range))
        }

        #[unsafe(method_id(arrayByAddingObject:))]
        fn adding(&self, object: &AnyObject) -> Retained<NSArray> {
            new([self.elements().to_vec(), vec![asked::retained(object)]].concat())
        }

        #[unsafe(method(containsObject:))]
        fn contains(&self, object: &AnyObject) -> bool {
            self.position(object).is_some()
        }

        #[unsafe(method(indexOfObject:))]
        fn index_of(&self, object: &AnyObject) -> usize {
            self.position(object).unwrap_or(NSNotFound as usize)
        }

        #[unsafe(method(isEqualToArray:))]
        fn is_equal_to_array(&self, other: &SimArray) -> bool {
            equal(&self.elements(), &other.elements())
        }

        #[unsafe(method(isEqual:))]
        fn is_equal(&self, other: Option<&AnyObject>) -> bool {
            other
                .and_then(|other| other.downcast_ref::<SimArray>())
                .is_some_and(|other| equal(&self.elements(), &other.elements()))
        }

        #[unsafe(method(hash))]
        fn hash(&self) -> usize {
            self.elements().len()
        }

        #[unsafe(method_id(objectEnumerator))]
        fn object_enumerator(&self) -> Retained<NSEnumerator> {
            enumerator::new(self.elements().to_vec())
        }

        #[unsafe(method_id(reverseObjectEnumerator))]
        fn reverse_object_enumerator(&self) -> Retained<NSEnumerator> {
            enumerator::new(self.elements().iter().rev().cloned().collect())
        }

        #[unsafe(method_id(description))]
        fn description(&self) -> Retained<NSString> {
            let shown: Vec<String> = self.elements().iter().map(|it| format!("{it:?}")).collect();
            string::new(&format!("({})", shown.join(", ")))
        }
    }
);

impl SimArray {
    pub(crate) fn elements(&self) -> Elements {
        self.ivars().get()
    }

    fn at(&self, index: usize) -> *mut AnyObject {
        let elements = self.elements();
        match elements.get(index) {
            Some(object) => pointer(Some(object)),
            None => {
                let count = elements.len();
                out_of_range(format!(
                    "-[NSArray objectAtIndex: {index}] of {count} objects"
                ))
            }
        }
    }

    fn part(&self, range: NSRange) -> Vec<Retained<AnyObject>> {
        let elements = self.elements();
        let end = range.location.checked_add(range.length);
        match end.and_then(|end| elements.get(range.location..end)) {
            Some(part) => part.to_vec(),
            None => out_of_range(format!("{range:?} of {} objects", elements.len())),
        }
    }

    fn position(&self, object: &AnyObject) -> Option<usize> {
        let elements = self.elements();
        elements
            .iter()
            .position(|held| asked::is_equal(held, object))
    }
}

fn equal(left: &Elements, right: &Elements) -> bool {
    left.len() == right.len()
        && left
            .iter()
            .zip(right.iter())
            .all(|(left, right)| asked::is_equal(left, right))
}

/// # Safety
/// `objects` points to `count` objects.
unsafe fn retained(objects: *const NonNull<AnyObject>, count: usize) -> Vec<Retained<AnyObject>> {
    // SAFETY: the caller's promise.
    (0..count)
        .map(|at| asked::retained(unsafe { (*objects.add(at)).as_ref() }))
        .collect()
}

fn init_with(this: Allocated<SimArray>, elements: Vec<Retained<AnyObject>>) -> Retained<SimArray> {
    let this = this.set_ivars(List::new(elements));
    // SAFETY: NSObject's `init` has this signature.
    unsafe { msg_send![super(this), init] }
}

/// A new array.
pub fn new(elements: Vec<Retained<AnyObject>>) -> Retained<NSArray> {
    let array = init_with(SimArray::alloc(), elements);
    // SAFETY: `SimArray` is the class `NSArray`.
    unsafe { Retained::cast_unchecked(array) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::census::Census;
    use objc2::rc::autoreleasepool;

    #[test]
    fn owns_its_elements_and_lets_them_go() {
        let before = Census::take().of("NSArray");
        autoreleasepool(|_| {
            let texts: Vec<_> = (0..40)
                .map(|n| NSString::from_str(&n.to_string()))
                .collect();
            let array = NSArray::from_retained_slice(&texts);
            drop(texts);
            assert_eq!(array.len(), 40);
            let read: Vec<String> = array.iter().map(|text| text.to_string()).collect();
            assert_eq!(read[39], "39");
        });
        assert_eq!(Census::take().of("NSArray"), before);
    }
}
