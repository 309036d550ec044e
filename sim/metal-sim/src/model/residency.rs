//! `MTLResidencySet`: the allocations that are kept resident. Edits take effect at `commit`.

use super::Kept;
use super::device::SimDevice;
use crate::lock;
use metal_sim_objc::foundation::array;
use objc2::rc::Retained;
use objc2::runtime::{AnyObject, NSObject, NSObjectProtocol};
use objc2::{AnyThread, DefinedClass, Message, define_class, msg_send};
use objc2_foundation::{NSArray, NSString};
use objc2_metal::MTLResidencySet;
use std::ptr::NonNull;
use std::sync::Mutex;

#[derive(Default)]
struct State {
    /// With the edits that no commit has made effective.
    edited: Vec<Kept<AnyObject>>,
    /// What the last commit made resident, and its bytes.
    resident: Vec<Kept<AnyObject>>,
    bytes: u64,
    label: Option<String>,
}

/// A residency set's instance variables.
pub struct Set {
    state: Mutex<State>,
    device: Kept<SimDevice>,
}

define_class!(
    // SAFETY: NSObject has no requirements on its subclasses, and there is no `Drop`.
    #[unsafe(super(NSObject))]
    #[name = "SimResidencySet"]
    #[ivars = Set]
    /// The class behind `MTLResidencySet`.
    pub struct SimResidencySet;

    // SAFETY: no further requirements.
    unsafe impl NSObjectProtocol for SimResidencySet {}

    // SAFETY: implements the protocol's methods below.
    unsafe impl MTLResidencySet for SimResidencySet {}

    impl SimResidencySet {
        #[unsafe(method_id(device))]
        fn device(&self) -> Retained<SimDevice> {
            self.ivars().device.0.clone()
        }

        #[unsafe(method_id(label))]
        fn label(&self) -> Option<Retained<NSString>> {
            lock(&self.ivars().state).label.as_deref().map(NSString::from_str)
        }

        #[unsafe(method(requestResidency))]
        fn request_residency(&self) {}

        #[unsafe(method(endResidency))]
        fn end_residency(&self) {}

        #[unsafe(method(addAllocation:))]
        fn add(&self, allocation: &AnyObject) {
            self.add_one(allocation);
        }

        #[unsafe(method(removeAllocation:))]
        fn remove(&self, allocation: &AnyObject) {
            self.remove_one(allocation);
        }

        #[unsafe(method(removeAllAllocations))]
        fn remove_all(&self) {
            let removed = std::mem::take(&mut lock(&self.ivars().state).edited);
            drop(removed);
        }

        #[unsafe(method(containsAllocation:))]
        fn contains(&self, allocation: &AnyObject) -> bool {
            let state = lock(&self.ivars().state);
            state.edited.iter().any(|held| std::ptr::eq(held.get(), allocation))
        }

        #[unsafe(method(allocationCount))]
        fn count(&self) -> usize {
            lock(&self.ivars().state).edited.len()
        }

        #[unsafe(method(allocatedSize))]
        fn allocated_size(&self) -> u64 {
            lock(&self.ivars().state).bytes
        }

        #[unsafe(method_id(allAllocations))]
        fn all(&self) -> Retained<NSArray> {
            let state = lock(&self.ivars().state);
            array::new(state.edited.iter().map(|held| held.0.clone()).collect())
        }

        #[unsafe(method(addAllocations:count:))]
        fn add_many(&self, allocations: *const NonNull<AnyObject>, count: usize) {
            for at in 0..count {
                // SAFETY: the method's contract: `count` allocations.
                self.add_one(unsafe { (*allocations.add(at)).as_ref() });
            }
        }

        #[unsafe(method(removeAllocations:count:))]
        fn remove_many(&self, allocations: *const NonNull<AnyObject>, count: usize) {
            for at in 0..count {
                // SAFETY: as above.
                self.remove_one(unsafe { (*allocations.add(at)).as_ref() });
            }
        }

        #[unsafe(method(commit))]
        fn commit(&self) {
            self.make_effective();
        }
    }
);

// SAFETY: the state is behind a lock.
unsafe impl Send for SimResidencySet {}
// SAFETY: as above.
unsafe impl Sync for SimResidencySet {}

impl SimResidencySet {
    pub(crate) fn new(device: &SimDevice, label: Option<String>) -> Retained<Self> {
        let state = Mutex::new(State {
            label,
            ..State::default()
        });
        let set = Set {
            state,
            device: Kept::new(device),
        };
        // SAFETY: NSObject's `init` has this signature.
        unsafe { msg_send![super(Self::alloc().set_ivars(set)), init] }
    }

    fn make_effective(&self) {
        let mut state = lock(&self.ivars().state);
        let kept: Vec<_> = state
            .edited
            .iter()
            .map(|held| Kept::new(held.get()))
            .collect();
        let size = |held: &Kept<AnyObject>| -> usize {
            // SAFETY: every allocation (buffer, heap) answers `allocatedSize`.
            unsafe { msg_send![held.get(), allocatedSize] }
        };
        state.bytes = kept.iter().map(|held| size(held) as u64).sum();
        let before = std::mem::replace(&mut state.resident, kept);
        drop(state);
        // The last share in an allocation may go here, so the lock is not held.
        drop(before);
    }

    fn remove_one(&self, allocation: &AnyObject) {
        let mut state = lock(&self.ivars().state);
        let at = state
            .edited
            .iter()
            .position(|held| std::ptr::eq(held.get(), allocation));
        let removed = at.map(|at| state.edited.remove(at));
        drop(state);
        drop(removed);
    }

    fn add_one(&self, allocation: &AnyObject) {
        let mut state = lock(&self.ivars().state);
        if !state
            .edited
            .iter()
            .any(|held| std::ptr::eq(held.get(), allocation))
        {
            state.edited.push(Kept(allocation.retain()));
        }
    }
}
