//! `MTLFence`: orders one pass after another. Which update a wait is for is settled at
//! submission, so the fence itself only remembers the update submitted last.

use super::Kept;
use super::device::SimDevice;
use crate::lock;
use crate::order::{Node, Part};
use objc2::rc::Retained;
use objc2::runtime::{NSObject, NSObjectProtocol};
use objc2::{AnyThread, DefinedClass, define_class, msg_send};
use objc2_foundation::NSString;
use objc2_metal::MTLFence;
use std::sync::{Arc, Mutex};

/// An update of a fence that was submitted.
#[derive(Clone)]
pub(crate) struct Update {
    /// The pass that it is in.
    pub pass: Arc<Node>,
    /// How much of it comes before the update.
    pub part: Part,
    /// The number of that pass's queue.
    pub queue: usize,
}

/// The state of a fence.
#[derive(Default)]
pub struct FenceCore {
    last_update: Mutex<Option<Update>>,
    label: Mutex<Option<String>>,
}

impl FenceCore {
    /// The update that was submitted last.
    pub(crate) fn last_update(&self) -> Option<Update> {
        lock(&self.last_update).clone()
    }

    pub(crate) fn set_last_update(&self, update: Update) {
        *lock(&self.last_update) = Some(update);
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
