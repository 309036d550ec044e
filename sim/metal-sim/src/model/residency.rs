//! `MTLResidencySet`: the allocations that are kept resident. Edits take effect at `commit`.

use super::Kept;
use super::device::SimDevice;
use crate::lock;
use objc2::rc::Retained;
use objc2::runtime::{AnyObject, NSObject, NSObjectProtocol};
use objc2::{AnyThread, DefinedClass, Message, define_class, msg_send};
use objc2_foundation::NSString;
use objc2_metal::MTLResidencySet;
use std::sync::Mutex;

#[derive(Default)]
struct State {
    edited: Vec<Kept<AnyObject>>,
    committed: usize,
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
            lock(&self.ivars().state).edited.retain(|held| !std::ptr::eq(held.get(), allocation));
        }

        #[unsafe(method(removeAllAllocations))]
        fn remove_all(&self) {
            lock(&self.ivars().state).edited.clear();
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

        #[unsafe(method(commit))]
        fn commit(&self) {
            let mut state = lock(&self.ivars().state);
            state.committed = state.edited.len();
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
