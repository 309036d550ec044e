//! `NSArray`: an immutable list that owns its elements.

use crate::fault::fault;
use objc2::rc::{Allocated, Retained};
use objc2::runtime::{AnyObject, NSObject, NSObjectProtocol};
use objc2::{AnyThread, DefinedClass, Message, define_class, msg_send};
use objc2_foundation::{NSArray, NSCopying, NSFastEnumerationState, NSRange, NSZone};
use std::ptr::NonNull;

/// An array's elements.
pub type Elements = Vec<Retained<AnyObject>>;

define_class!(
    // SAFETY: NSObject has no requirements on its subclasses, and there is no `Drop`.
    #[unsafe(super(NSObject))]
    #[name = "NSArray"]
    #[ivars = Elements]
    /// The class behind `NSArray`.
    pub struct SimArray;

    // SAFETY: no further requirements.
    unsafe impl NSObjectProtocol for SimArray {}

    // SAFETY: immutable, so a copy is the same array.
    unsafe impl NSCopying for SimArray {
        #[unsafe(method_id(copyWithZone:))]
        fn copy_with_zone(&self, _zone: *mut NSZone) -> Retained<Self> {
            self.retain()
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

        #[unsafe(method_id(arrayWithObjects:count:))]
        fn with_objects(objects: *const NonNull<AnyObject>, count: usize) -> Retained<Self> {
            // SAFETY: the method's contract: `count` objects.
            init_with(Self::alloc(), unsafe { retained(objects, count) })
        }

        #[unsafe(method_id(arrayWithObject:))]
        fn with_object(object: &AnyObject) -> Retained<Self> {
            init_with(Self::alloc(), vec![object.retain()])
        }

        #[unsafe(method(count))]
        fn count(&self) -> usize {
            self.ivars().len()
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
            self.ivars().first().map_or(std::ptr::null_mut(), |it| Retained::as_ptr(it).cast_mut())
        }

        #[unsafe(method(lastObject))]
        fn last(&self) -> *mut AnyObject {
            self.ivars().last().map_or(std::ptr::null_mut(), |it| Retained::as_ptr(it).cast_mut())
        }

        #[unsafe(method(getObjects:range:))]
        fn get_objects(&self, into: *mut *mut AnyObject, range: NSRange) {
            for (at, object) in self.part(range).iter().enumerate() {
                // SAFETY: the method's contract: room for the range's length.
                unsafe { *into.add(at) = Retained::as_ptr(object).cast_mut() };
            }
        }

        #[unsafe(method(getObjects:))]
        fn get_all_objects(&self, into: *mut *mut AnyObject) {
            for (at, object) in self.ivars().iter().enumerate() {
                // SAFETY: the method's contract: room for every element.
                unsafe { *into.add(at) = Retained::as_ptr(object).cast_mut() };
            }
        }

        #[unsafe(method(containsObject:))]
        fn contains(&self, object: &AnyObject) -> bool {
            self.ivars().iter().any(|held| {
                // SAFETY: every object answers `isEqual:`.
                unsafe { msg_send![held, isEqual: object] }
            })
        }

        #[unsafe(method(isEqual:))]
        fn is_equal(&self, other: Option<&AnyObject>) -> bool {
            other
                .and_then(|other| other.downcast_ref::<SimArray>())
                .is_some_and(|other| equal(self.ivars(), other.ivars()))
        }

        #[unsafe(method(hash))]
        fn hash(&self) -> usize {
            self.ivars().len()
        }

        #[unsafe(method(countByEnumeratingWithState:objects:count:))]
        fn enumerate(
            &self,
            state: NonNull<NSFastEnumerationState>,
            buffer: NonNull<*mut AnyObject>,
            room: usize,
        ) -> usize {
            // SAFETY: the method's contract: a state, and a buffer of `room` objects.
            unsafe { enumerate(self.ivars(), state, buffer, room) }
        }
    }
);

impl SimArray {
    fn at(&self, index: usize) -> *mut AnyObject {
        let elements = self.ivars();
        let Some(object) = elements.get(index) else {
            let count = elements.len();
            fault(
                "index out of range",
                format!("-[NSArray objectAtIndex: {index}] of {count} objects"),
            );
        };
        Retained::as_ptr(object).cast_mut()
    }

    fn part(&self, range: NSRange) -> &[Retained<AnyObject>] {
        let end = range.location.checked_add(range.length);
        end.and_then(|end| self.ivars().get(range.location..end))
            .unwrap_or_else(|| {
                fault(
                    "index out of range",
                    format!("{range:?} of {} objects", self.ivars().len()),
                )
            })
    }
}

fn equal(left: &[Retained<AnyObject>], right: &[Retained<AnyObject>]) -> bool {
    left.len() == right.len()
        && left.iter().zip(right).all(|(left, right)| {
            // SAFETY: every object answers `isEqual:`.
            unsafe { msg_send![left, isEqual: &**right] }
        })
}

/// Hands out the next elements of a list that is being enumerated.
///
/// # Safety
/// `state` is valid, and `buffer` has room for `room` objects.
pub(crate) unsafe fn enumerate(
    elements: &[Retained<AnyObject>],
    state: NonNull<NSFastEnumerationState>,
    buffer: NonNull<*mut AnyObject>,
    room: usize,
) -> usize {
    // The list never changes while it is enumerated.
    static UNCHANGED: std::ffi::c_ulong = 0;
    // SAFETY: the caller's promise.
    unsafe {
        let state = state.as_ptr();
        let done = (*state).state as usize;
        let next = elements.iter().skip(done).take(room);
        let count = next.len();
        for (at, object) in next.enumerate() {
            *buffer.add(at).as_ptr() = Retained::as_ptr(object).cast_mut();
        }
        (*state).state = (done + count) as std::ffi::c_ulong;
        (*state).itemsPtr = buffer.as_ptr().cast();
        (*state).mutationsPtr = (&raw const UNCHANGED).cast_mut();
        count
    }
}

/// # Safety
/// `objects` points to `count` objects.
unsafe fn retained(objects: *const NonNull<AnyObject>, count: usize) -> Elements {
    // SAFETY: the caller's promise.
    (0..count)
        .map(|at| unsafe { (*objects.add(at)).as_ref().retain() })
        .collect()
}

fn init_with(this: Allocated<SimArray>, elements: Elements) -> Retained<SimArray> {
    let this = this.set_ivars(elements);
    // SAFETY: NSObject's `init` has this signature.
    unsafe { msg_send![super(this), init] }
}

/// A new array.
pub fn new(elements: Elements) -> Retained<NSArray> {
    let array = init_with(SimArray::alloc(), elements);
    // SAFETY: `SimArray` is the class `NSArray`.
    unsafe { Retained::cast_unchecked(array) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::census::Census;
    use objc2::rc::autoreleasepool;
    use objc2_foundation::NSString;

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
