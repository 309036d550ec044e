//! `MTLFence`: orders one pass after another. Which update a wait is for is settled at
//! submission, so the fence itself only remembers the update submitted last.

use super::Kept;
use super::device::SimDevice;
use crate::lock;
use crate::order::Node;
use objc2::rc::Retained;
use objc2::runtime::{NSObject, NSObjectProtocol};
use objc2::{AnyThread, DefinedClass, define_class, msg_send};
use objc2_foundation::NSString;
use objc2_metal::MTLFence;
use std::sync::{Arc, Mutex};

/// The state of a fence.
#[derive(Default)]
pub struct FenceCore {
    last_update: Mutex<Option<(Arc<Node>, usize)>>,
    label: Mutex<Option<String>>,
}

impl FenceCore {
    /// The pass that updates it, and the number of that pass's queue.
    pub(crate) fn last_update(&self) -> Option<(Arc<Node>, usize)> {
        lock(&self.last_update).clone()
    }

    pub(crate) fn set_last_update(&self, update: Arc<Node>, queue: usize) {
        *lock(&self.last_update) = Some((update, queue));
    }
}

/// A fence's instance variables.
pub struct Fence {
    core: Arc<FenceCore>,
    device: Kept<SimDevice>,
}

define_class!(
    // SAFETY: NSObject has no requirements on its subclasses, and there is no `Drop`.
    #[unsafe(super(NSObject))]
    #[name = "SimFence"]
    #[ivars = Fence]
    /// The class behind `MTLFence`.
    pub struct SimFence;

    // SAFETY: no further requirements.
    unsafe impl NSObjectProtocol for SimFence {}

    // SAFETY: implements the protocol's methods below.
    unsafe impl MTLFence for SimFence {}

    impl SimFence {
        #[unsafe(method_id(device))]
        fn device(&self) -> Retained<SimDevice> {
            self.ivars().device.0.clone()
        }

        #[unsafe(method_id(label))]
        fn label(&self) -> Option<Retained<NSString>> {
            lock(&self.ivars().core.label).as_deref().map(NSString::from_str)
        }

        #[unsafe(method(setLabel:))]
        fn set_label(&self, label: Option<&NSString>) {
            *lock(&self.ivars().core.label) = label.map(ToString::to_string);
        }
    }
);

// SAFETY: the state is behind locks.
unsafe impl Send for SimFence {}
// SAFETY: as above.
unsafe impl Sync for SimFence {}

impl SimFence {
    pub(crate) fn new(device: &SimDevice) -> Retained<Self> {
        let fence = Fence {
            core: Arc::default(),
            device: Kept::new(device),
        };
        // SAFETY: NSObject's `init` has this signature.
        unsafe { msg_send![super(Self::alloc().set_ivars(fence)), init] }
    }

    /// The fence's state.
    pub fn core(&self) -> &Arc<FenceCore> {
        &self.ivars().core
    }

    pub(crate) fn on(&self) -> &SimDevice {
        self.ivars().device.get()
    }
}
