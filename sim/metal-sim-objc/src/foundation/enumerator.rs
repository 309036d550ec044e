//! `NSEnumerator`: hands out the elements of a collection one by one. It holds the elements as
//! they were when it was made.

use super::array;
use super::list::{self, Objects};
use objc2::rc::Retained;
use objc2::runtime::{AnyObject, NSObject, NSObjectProtocol};
use objc2::{AnyThread, DefinedClass, define_class, msg_send};
use objc2_foundation::{NSArray, NSEnumerator, NSFastEnumeration, NSFastEnumerationState};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Elements, and how many were handed out.
pub struct Position {
    elements: Objects,
    done: AtomicUsize,
}

define_class!(
    // SAFETY: NSObject has no requirements on its subclasses, and there is no `Drop`.
    #[unsafe(super(NSObject))]
    #[name = "NSEnumerator"]
    #[ivars = Position]
    /// The class behind `NSEnumerator`.
    pub struct SimEnumerator;

    // SAFETY: no further requirements.
    unsafe impl NSObjectProtocol for SimEnumerator {}

    // SAFETY: the method has the protocol's signature and contract.
    unsafe impl NSFastEnumeration for SimEnumerator {
        #[unsafe(method(countByEnumeratingWithState:objects:count:))]
        fn enumerate(
            &self,
            state: NonNull<NSFastEnumerationState>,
            buffer: NonNull<*mut AnyObject>,
            room: usize,
        ) -> usize {
            let next = self.ivars().take(room);
            // SAFETY: the method's contract: a state, and a buffer of `room` objects.
            unsafe { list::hand_out(next, state, buffer, list::never_changes()) }
        }
    }

    impl SimEnumerator {
        #[unsafe(method(nextObject))]
        fn next_object(&self) -> *mut AnyObject {
            list::pointer(self.ivars().take(1).first())
        }

        #[unsafe(method_id(allObjects))]
        fn all_objects(&self) -> Retained<NSArray> {
            array::new(self.ivars().take(usize::MAX).to_vec())
        }
    }
);

impl Position {
    /// The next `count` elements, or as many as there are.
    fn take(&self, count: usize) -> &[Retained<AnyObject>] {
        let length = self.elements.len();
        let step = |done: usize| Some(done.saturating_add(count).min(length));
        let done = self
            .done
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, step)
            .unwrap_or(length);
        &self.elements[done..done.saturating_add(count).min(length)]
    }
}

/// A new enumerator over `elements`.
pub(crate) fn new(elements: Vec<Retained<AnyObject>>) -> Retained<NSEnumerator> {
    let this = SimEnumerator::alloc().set_ivars(Position {
        elements: Objects(elements),
        done: AtomicUsize::new(0),
    });
    // SAFETY: NSObject's `init` has this signature; `SimEnumerator` is the class
    // `NSEnumerator`.
    unsafe {
        let enumerator: Retained<SimEnumerator> = msg_send![super(this), init];
        Retained::cast_unchecked(enumerator)
    }
}
