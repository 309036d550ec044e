//! Metal's objects, one file per protocol. Each class made with `define_class!` is a thin
//! shell: its methods call a plain Rust type beside it, which holds the behaviour.

mod alignment;
pub mod blit;
pub mod buffer;
pub mod capture;
pub mod command_buffer;
pub mod compute;
pub mod descriptors;
pub mod device;
mod dispatch;
pub mod encoder;
pub mod event;
pub mod fence;
pub mod heap;
pub(crate) mod items;
pub mod library;
mod not_simulated;
pub mod pipeline;
pub mod queue;
pub mod residency;

use metal_sim_objc::{class, protocol};
use objc2::rc::Retained;
use objc2::{ClassType, Message};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// An owned object that may go to another thread.
pub struct Kept<T: ?Sized>(pub(crate) Retained<T>);

// SAFETY: retaining and releasing is atomic in this runtime, and Metal's objects that are
// kept across threads (buffers, fences, events, queues, command buffers) guard their state.
unsafe impl<T: ?Sized> Send for Kept<T> {}
// SAFETY: as above.
unsafe impl<T: ?Sized> Sync for Kept<T> {}

impl<T: Message> Clone for Kept<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T: Message> Kept<T> {
    /// Takes a share in an object.
    pub fn new(object: &T) -> Self {
        Self(object.retain())
    }

    /// The object.
    pub fn get(&self) -> &T {
        &self.0
    }
}

metal_sim_objc::link_class!(
    MTL_BLIT_PASS_DESCRIPTOR = "MTLBlitPassDescriptor",
    MTL_CAPTURE_DESCRIPTOR = "MTLCaptureDescriptor",
    MTL_CAPTURE_MANAGER = "MTLCaptureManager",
    MTL_COMMAND_BUFFER_DESCRIPTOR = "MTLCommandBufferDescriptor",
    MTL_COMPILE_OPTIONS = "MTLCompileOptions",
    MTL_COMPUTE_PASS_DESCRIPTOR = "MTLComputePassDescriptor",
    MTL_FUNCTION_CONSTANT_VALUES = "MTLFunctionConstantValues",
    MTL_HEAP_DESCRIPTOR = "MTLHeapDescriptor",
    MTL_RESIDENCY_SET_DESCRIPTOR = "MTLResidencySetDescriptor",
    MTL_SHARED_EVENT_HANDLE = "MTLSharedEventHandle",
    MTL_SHARED_EVENT_LISTENER = "MTLSharedEventListener",
);

pub(crate) fn register() {
    class::declare_statics(&statics());
    protocol::declare(&[
        (c"MTLAllocation", &[c"NSObject"]),
        (c"MTLResource", &[c"MTLAllocation"]),
        (c"MTLBuffer", &[c"MTLResource"]),
        (c"MTLDevice", &[c"NSObject"]),
        (c"MTLCommandQueue", &[c"NSObject"]),
        (c"MTLCommandBuffer", &[c"NSObject"]),
        (c"MTLCommandEncoder", &[c"NSObject"]),
        (c"MTLBlitCommandEncoder", &[c"MTLCommandEncoder"]),
        (c"MTLComputeCommandEncoder", &[c"MTLCommandEncoder"]),
        (c"MTLFence", &[c"NSObject"]),
        (c"MTLEvent", &[c"NSObject"]),
        (c"MTLSharedEvent", &[c"MTLEvent"]),
        (c"MTLHeap", &[c"MTLAllocation"]),
        (c"MTLResidencySet", &[c"NSObject"]),
        (c"MTLLibrary", &[c"NSObject"]),
        (c"MTLFunction", &[c"NSObject"]),
        (c"MTLComputePipelineState", &[c"MTLAllocation"]),
    ]);
    // Asking for its class is what makes a defined class exist.
    let _ = (blit::SimBlitEncoder::class(), buffer::SimBuffer::class());
    let _ = (
        capture::SimCaptureManager::class(),
        capture::SimCaptureDescriptor::class(),
    );
    let _ = (
        command_buffer::SimCommandBuffer::class(),
        compute::SimComputeEncoder::class(),
    );
    let _ = descriptors::SimCommandBufferDescriptor::class();
    let _ = descriptors::SimCompileOptions::class();
    let _ = descriptors::SimFunctionConstants::class();
    let _ = descriptors::SimResidencySetDescriptor::class();
    let _ = (device::SimDevice::class(), device::SimArchitecture::class());
    let _ = (event::SimEvent::class(), event::SimSharedEvent::class());
    let _ = (fence::SimFence::class(), queue::SimQueue::class());
    let _ = (
        heap::SimHeap::class(),
        descriptors::SimHeapDescriptor::class(),
    );
    let _ = (
        event::SimListener::class(),
        event::SimSharedEventHandle::class(),
    );
    let _ = residency::SimResidencySet::class();
    let _ = (
        library::SimLibrary::class(),
        library::SimFunction::class(),
        pipeline::SimPipeline::class(),
    );
    let _ = (
        descriptors::SimComputePassDescriptor::class(),
        descriptors::SimBlitPassDescriptor::class(),
    );
    not_simulated::register();
    // Devices live as long as the process; made now, they are in every census.
    device::devices();
}

/// Calls a block of the program's on a thread of Metal's. A panic has nowhere to go there: on a Mac it ends the
/// process, and so it does here.
pub(crate) fn call_block(what: &str, call: impl FnOnce()) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(call)) {
        let text = crate::gpu::panic_text(&*panic);
        eprintln!("metal-sim: panic in a {what}: {text}");
        std::process::abort();
    }
}

/// An argument that must not be nil; Metal's debug layer stops the process on one, and so does
/// this, with its name.
pub(crate) fn given<'a, T: ?Sized>(argument: Option<&'a T>, call: &str, name: &str) -> &'a T {
    argument
        .unwrap_or_else(|| crate::fault::fault("nil argument", format!("{call}: {name} is nil")))
}
