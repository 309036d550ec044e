//! `MTLResidencySet`: the allocations that are kept resident. Edits take effect at `commit`.

use super::buffer::SimBuffer;
use super::device::SimDevice;
use super::heap::SimHeap;
use super::{Kept, given};
use crate::fault::fault;
use crate::lock;
use metal_sim_objc::foundation::array;
use objc2::rc::Retained;
use objc2::runtime::{AnyObject, NSObject, NSObjectProtocol};
use objc2::{AnyThread, DefinedClass, Message, define_class, msg_send};
use objc2_foundation::{NSArray, NSString};
use objc2_metal::MTLResidencySet;
use std::collections::HashMap;
use std::ptr::NonNull;
use std::sync::{Mutex, MutexGuard};

/// An allocation that was added, and what the commits so far made of it.
struct Member {
    object: Kept<AnyObject>,
    bytes: u64,
    /// The last commit had it in the set.
    resident: bool,
    /// Taken out since; it stays alive until the next commit.
    removed: bool,
}

#[derive(Default)]
struct State {
    members: HashMap<usize, Member>,
    /// Members that were edited since the last commit.
    edited: Vec<usize>,
    /// Bytes that the last commit made resident.
    bytes: u64,
    label: Option<String>,
}

impl State {
    fn contains(&self, allocation: &AnyObject) -> bool {
        let member = self.members.get(&std::ptr::from_ref(allocation).addr());
        member.is_some_and(|member| !member.removed)
    }

    /// What is in the set, edits included.
    fn present(&self) -> impl Iterator<Item = &Member> {
        self.members.values().filter(|member| !member.removed)
    }

    fn add(&mut self, allocation: &AnyObject) {
        let key = std::ptr::from_ref(allocation).addr();
        self.edited.push(key);
        self.members
            .entry(key)
            .and_modify(|member| member.removed = false)
            .or_insert_with(|| {
                // SAFETY: every allocation (buffer, heap) answers `allocatedSize`.
                let bytes: usize = unsafe { msg_send![allocation, allocatedSize] };
                Member {
                    object: Kept(allocation.retain()),
                    bytes: bytes as u64,
                    resident: false,
                    removed: false,
                }
            });
    }

    /// Takes a member out. Returned is what no commit has seen, to be let go without the lock.
    fn remove(&mut self, key: usize) -> Option<Member> {
        let member = self.members.get_mut(&key)?;
        if !member.resident {
            return self.members.remove(&key);
        }
        member.removed = true;
        self.edited.push(key);
        None
    }

    /// Makes the edits effective; returned is what they took out.
    fn commit(&mut self) -> Vec<Member> {
        let mut gone = Vec::new();
        for key in std::mem::take(&mut self.edited) {
            let Some(member) = self.members.get_mut(&key) else {
                continue;
            };
            if member.removed {
                self.bytes -= member.bytes;
                gone.extend(self.members.remove(&key));
            } else if !std::mem::replace(&mut member.resident, true) {
                self.bytes += member.bytes;
            }
        }
        gone
    }
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
        fn add(&self, allocation: Option<&AnyObject>) {
            let allocation = given(allocation, "addAllocation:", "allocation");
            self.add_one("addAllocation:", allocation);
        }

        #[unsafe(method(addAllocations:count:))]
        fn add_many(&self, allocations: *const NonNull<AnyObject>, count: usize) {
            for at in 0..count {
                // SAFETY: the method's contract: `count` allocations.
                self.add_one("addAllocations:count:", unsafe { (*allocations.add(at)).as_ref() });
            }
        }

        #[unsafe(method(removeAllocation:))]
        fn remove(&self, allocation: Option<&AnyObject>) {
            let allocation = given(allocation, "removeAllocation:", "allocation");
            self.remove_one(allocation);
        }

        #[unsafe(method(removeAllocations:count:))]
        fn remove_many(&self, allocations: *const NonNull<AnyObject>, count: usize) {
            for at in 0..count {
                // SAFETY: as above.
                self.remove_one(unsafe { (*allocations.add(at)).as_ref() });
            }
        }

        #[unsafe(method(removeAllAllocations))]
        fn remove_all(&self) {
            self.remove_everything();
        }

        #[unsafe(method(containsAllocation:))]
        fn contains(&self, allocation: Option<&AnyObject>) -> bool {
            let allocation = given(allocation, "containsAllocation:", "allocation");
            self.state().contains(allocation)
        }

        #[unsafe(method(allocationCount))]
        fn count(&self) -> usize {
            self.state().present().count()
        }

        #[unsafe(method_id(allAllocations))]
        fn all(&self) -> Retained<NSArray> {
            array::new(self.state().present().map(|member| member.object.0.clone()).collect())
        }

        #[unsafe(method(allocatedSize))]
        fn allocated_size(&self) -> u64 {
            self.state().bytes
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

    pub(crate) fn on(&self) -> &SimDevice {
        self.ivars().device.get()
    }

    fn add_one(&self, call: &str, allocation: &AnyObject) {
        let device = allocation.downcast_ref::<SimBuffer>().map(SimBuffer::on);
        let device = device.or_else(|| allocation.downcast_ref::<SimHeap>().map(SimHeap::on));
        if device.is_some_and(|device| device.id() != self.on().id()) {
            fault(call, "the allocation is of another device than the set");
        }
        self.state().add(allocation);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.ivars().state)
    }

    // In the three below, the last share in an allocation may go, so the lock is not held.

    fn make_effective(&self) {
        let gone = self.state().commit();
        drop(gone);
    }

    fn remove_one(&self, allocation: &AnyObject) {
        let gone = self.state().remove(std::ptr::from_ref(allocation).addr());
        drop(gone);
    }

    fn remove_everything(&self) {
        let mut state = self.state();
        let keys: Vec<usize> = state.members.keys().copied().collect();
        let gone: Vec<_> = keys
            .into_iter()
            .filter_map(|key| state.remove(key))
            .collect();
        drop(state);
        drop(gone);
    }
}
