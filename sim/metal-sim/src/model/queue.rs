//! `MTLCommandQueue`: where command buffers come from, in what order they run, and how many
//! may be under way.

use super::command_buffer::SimCommandBuffer;
use super::descriptors::SimCommandBufferDescriptor;
use super::device::SimDevice;
use super::residency::SimResidencySet;
use super::{Kept, given};
use crate::fault::fault;
use crate::gpu::Gpu;
use crate::lock;
use objc2::rc::Retained;
use objc2::runtime::{NSObject, NSObjectProtocol};
use objc2::{AnyThread, DefinedClass, define_class, msg_send};
use objc2_foundation::NSString;
use objc2_metal::MTLCommandQueue;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

/// How many command buffers of a queue have been made and have not ended.
pub struct Slots {
    limit: usize,
    taken: Mutex<usize>,
    freed: Condvar,
}

/// One taken slot; free again when dropped.
pub struct Slot(Arc<Slots>);

impl Slots {
    /// Waits for a free slot, as Metal does. A program whose own thread holds them all would
    /// wait for ever; it is told after a while.
    fn take(self: &Arc<Self>, gpu: &Gpu) -> Slot {
        const PATIENCE: Duration = Duration::from_secs(30);
        let mut taken = lock(&self.taken);
        if *taken < self.limit {
            *taken += 1;
            return Slot(Arc::clone(self));
        }
        drop(taken);
        let _waiting = gpu.hurry();
        let taken = lock(&self.taken);
        let waited = self
            .freed
            .wait_timeout_while(taken, PATIENCE, |taken| *taken >= self.limit);
        let (mut taken, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
        if timeout.timed_out() {
            fault(
                "command buffer limit",
                format!(
                    "{} command buffers of this queue are uncompleted, and none completes; \
                         another one would wait for ever",
                    self.limit
                ),
            );
        }
        *taken += 1;
        Slot(Arc::clone(self))
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        *lock(&self.0.taken) -= 1;
        self.0.freed.notify_one();
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        self.device.get().gpu().forget(self.id);
    }
}

/// A queue's instance variables.
pub struct Queue {
    id: usize,
    device: Kept<SimDevice>,
    slots: Arc<Slots>,
    label: Mutex<Option<String>>,
    resident: Mutex<Vec<Kept<SimResidencySet>>>,
}

define_class!(
    // SAFETY: NSObject has no requirements on its subclasses, and there is no `Drop`.
    #[unsafe(super(NSObject))]
    #[name = "SimQueue"]
    #[ivars = Queue]
    /// The class behind `MTLCommandQueue`.
    pub struct SimQueue;

    // SAFETY: no further requirements.
    unsafe impl NSObjectProtocol for SimQueue {}

    // SAFETY: implements the protocol's methods below.
    unsafe impl MTLCommandQueue for SimQueue {}

    impl SimQueue {
        #[unsafe(method_id(device))]
        fn device(&self) -> Retained<SimDevice> {
            self.ivars().device.0.clone()
        }

        #[unsafe(method_id(label))]
        fn label(&self) -> Option<Retained<NSString>> {
            lock(&self.ivars().label).as_deref().map(NSString::from_str)
        }

        #[unsafe(method(setLabel:))]
        fn set_label(&self, label: Option<&NSString>) {
            *lock(&self.ivars().label) = label.map(ToString::to_string);
        }

        #[unsafe(method_id(commandBuffer))]
        fn command_buffer(&self) -> Option<Retained<SimCommandBuffer>> {
            Some(self.new_command_buffer(true))
        }

        #[unsafe(method_id(commandBufferWithUnretainedReferences))]
        fn command_buffer_unretained(&self) -> Option<Retained<SimCommandBuffer>> {
            Some(self.new_command_buffer(false))
        }

        #[unsafe(method_id(commandBufferWithDescriptor:))]
        fn command_buffer_with(
            &self,
            descriptor: Option<&SimCommandBufferDescriptor>,
        ) -> Option<Retained<SimCommandBuffer>> {
            let descriptor = given(descriptor, "commandBufferWithDescriptor:", "descriptor");
            Some(self.new_command_buffer(descriptor.retains()))
        }

        #[unsafe(method(addResidencySet:))]
        fn add_residency_set(&self, set: Option<&SimResidencySet>) {
            let set = given(set, "addResidencySet:", "set");
            self.check_set(set);
            lock(&self.ivars().resident).push(Kept::new(set));
        }

        #[unsafe(method(removeResidencySet:))]
        fn remove_residency_set(&self, set: Option<&SimResidencySet>) {
            let set = given(set, "removeResidencySet:", "set");
            lock(&self.ivars().resident).retain(|held| !std::ptr::eq(held.get(), set));
        }
    }
);

// SAFETY: the state is behind locks.
unsafe impl Send for SimQueue {}
// SAFETY: as above.
unsafe impl Sync for SimQueue {}

impl SimQueue {
    pub(crate) fn new(device: &SimDevice, id: usize, limit: usize) -> Retained<Self> {
        if limit == 0 {
            fault(
                "newCommandQueueWithMaxCommandBufferCount:",
                "a queue for 0 command buffers has none to give",
            );
        }
        let slots = Slots {
            limit,
            taken: Mutex::new(0),
            freed: Condvar::new(),
        };
        let queue = Queue {
            id,
            device: Kept::new(device),
            slots: Arc::new(slots),
            label: Mutex::new(None),
            resident: Mutex::new(Vec::new()),
        };
        // SAFETY: NSObject's `init` has this signature.
        unsafe { msg_send![super(Self::alloc().set_ivars(queue)), init] }
    }

    fn check_set(&self, set: &SimResidencySet) {
        if set.on().id() != self.on().id() {
            fault(
                "addResidencySet:",
                "the set is of another device than the queue",
            );
        }
    }

    fn new_command_buffer(&self, retains: bool) -> Retained<SimCommandBuffer> {
        SimCommandBuffer::new(self, self.ivars().slots.take(self.on().gpu()), retains)
    }

    /// What tells a device's queues apart.
    pub fn id(&self) -> usize {
        self.ivars().id
    }

    pub(crate) fn on(&self) -> &SimDevice {
        self.ivars().device.get()
    }
}
