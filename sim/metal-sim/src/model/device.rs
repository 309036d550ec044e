//! `MTLDevice`: what the simulated GPU can do, and where everything else is made. Its
//! answers are those of an M2, the most common kind of machine among users.

use super::buffer::{BufferCore, SimBuffer};
use super::compute::MAX_THREADGROUP_MEMORY;
use super::descriptors;
use super::descriptors::SimHeapDescriptor;
use super::event::{SimEvent, SimSharedEvent, SimSharedEventHandle};
use super::fence::SimFence;
use super::given;
use super::heap::{self, SimHeap};
use super::library::{self, SimFunction, SimLibrary};
use super::pipeline::SimPipeline;
use super::queue::SimQueue;
use super::residency::SimResidencySet;
use crate::fault::fault;
use crate::gpu::Gpu;
use crate::memory::{Memory, PAGE};
use crate::rules::rules;
use block2::{DynBlock, RcBlock};
use objc2::rc::Retained;
use objc2::runtime::{AnyObject, NSObject, NSObjectProtocol};
use objc2::{AnyThread, DefinedClass, Message, define_class, msg_send};
use objc2_foundation::{NSArray, NSError, NSString, NSURL};
use objc2_metal::{
    MTLDevice, MTLGPUFamily, MTLPipelineOption, MTLResourceOptions, MTLSize, MTLSizeAndAlign,
};
use std::ffi::c_void;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

/// The largest buffer, as on an M2 with 24 GiB.
pub const MAX_BUFFER_LENGTH: usize = 13 << 30;
const WORKING_SET: u64 = 16 << 30;
/// Uncompleted command buffers that a queue has room for unless told otherwise.
const COMMAND_BUFFERS: usize = 64;

/// What messages call a source that came without a file, as Apple's compiler does.
const SOURCE: &str = "program_source";

/// What ends the memory of a no-copy buffer.
type Deallocator = DynBlock<dyn Fn(NonNull<c_void>, usize)>;

/// A device's instance variables.
pub struct DeviceCore {
    ordinal: usize,
    gpu: Arc<Gpu>,
    allocated: Arc<AtomicUsize>,
    next_queue: AtomicUsize,
}

define_class!(
    // SAFETY: NSObject has no requirements on its subclasses, and there is no `Drop`.
    #[unsafe(super(NSObject))]
    #[name = "SimDevice"]
    #[ivars = DeviceCore]
    /// The class behind `MTLDevice`.
    pub struct SimDevice;

    // SAFETY: no further requirements.
    unsafe impl NSObjectProtocol for SimDevice {}

    // SAFETY: implements the protocol's methods below.
    unsafe impl MTLDevice for SimDevice {}

    impl SimDevice {
        #[unsafe(method_id(name))]
        fn name(&self) -> Retained<NSString> {
            NSString::from_str(&self.display_name())
        }

        #[unsafe(method(registryID))]
        fn registry_id(&self) -> u64 {
            self.id()
        }

        #[unsafe(method_id(architecture))]
        fn architecture(&self) -> Retained<SimArchitecture> {
            SimArchitecture::new()
        }

        #[unsafe(method(supportsFamily:))]
        fn supports_family(&self, family: MTLGPUFamily) -> bool {
            supports(family)
        }

        #[unsafe(method(hasUnifiedMemory))]
        fn has_unified_memory(&self) -> bool {
            true
        }

        #[unsafe(method(isLowPower))]
        fn is_low_power(&self) -> bool {
            false
        }

        #[unsafe(method(isHeadless))]
        fn is_headless(&self) -> bool {
            false
        }

        #[unsafe(method(isRemovable))]
        fn is_removable(&self) -> bool {
            false
        }

        #[unsafe(method(maxThreadsPerThreadgroup))]
        fn max_threads_per_threadgroup(&self) -> MTLSize {
            MTLSize { width: 1024, height: 1024, depth: 1024 }
        }

        #[unsafe(method(maxThreadgroupMemoryLength))]
        fn max_threadgroup_memory_length(&self) -> usize {
            MAX_THREADGROUP_MEMORY
        }

        #[unsafe(method(maxBufferLength))]
        fn max_buffer_length(&self) -> usize {
            MAX_BUFFER_LENGTH
        }

        #[unsafe(method(recommendedMaxWorkingSetSize))]
        fn recommended_max_working_set_size(&self) -> u64 {
            WORKING_SET
        }

        #[unsafe(method(currentAllocatedSize))]
        fn current_allocated_size(&self) -> usize {
            self.ivars().allocated.load(Ordering::Acquire)
        }

        #[unsafe(method_id(newCommandQueue))]
        fn new_command_queue(&self) -> Option<Retained<SimQueue>> {
            Some(self.new_queue(COMMAND_BUFFERS))
        }

        #[unsafe(method_id(newCommandQueueWithMaxCommandBufferCount:))]
        fn new_command_queue_with_count(&self, count: usize) -> Option<Retained<SimQueue>> {
            Some(self.new_queue(count))
        }

        #[unsafe(method_id(newFence))]
        fn new_fence(&self) -> Option<Retained<SimFence>> {
            Some(SimFence::new(self))
        }

        #[unsafe(method_id(newEvent))]
        fn new_event(&self) -> Option<Retained<SimEvent>> {
            Some(SimEvent::new(self))
        }

        #[unsafe(method_id(newSharedEvent))]
        fn new_shared_event(&self) -> Option<Retained<SimSharedEvent>> {
            Some(SimSharedEvent::new(self))
        }

        #[unsafe(method_id(newSharedEventWithHandle:))]
        fn new_shared_event_with(
            &self,
            handle: Option<&SimSharedEventHandle>,
        ) -> Option<Retained<SimSharedEvent>> {
            let handle = given(handle, "newSharedEventWithHandle:", "handle");
            Some(handle.event().retain())
        }

        #[unsafe(method_id(newBufferWithLength:options:))]
        fn new_buffer(
            &self,
            length: usize,
            options: MTLResourceOptions,
        ) -> Option<Retained<SimBuffer>> {
            BufferCore::allocate(self, length, options).map(SimBuffer::new)
        }

        #[unsafe(method_id(newBufferWithBytes:length:options:))]
        fn new_buffer_with_bytes(
            &self,
            bytes: NonNull<c_void>,
            length: usize,
            options: MTLResourceOptions,
        ) -> Option<Retained<SimBuffer>> {
            // SAFETY: the method's contract: `length` readable bytes.
            unsafe { self.buffer_with_bytes(bytes, length, options) }
        }

        #[unsafe(method_id(newBufferWithBytesNoCopy:length:options:deallocator:))]
        fn new_buffer_no_copy(
            &self,
            bytes: NonNull<c_void>,
            length: usize,
            options: MTLResourceOptions,
            deallocator: Option<&Deallocator>,
        ) -> Option<Retained<SimBuffer>> {
            // SAFETY: the method's contract: valid until the deallocator was called.
            unsafe { self.buffer_no_copy(bytes, length, options, deallocator) }
        }

        #[unsafe(method_id(newHeapWithDescriptor:))]
        fn new_heap(&self, descriptor: Option<&SimHeapDescriptor>) -> Option<Retained<SimHeap>> {
            let descriptor = given(descriptor, "newHeapWithDescriptor:", "descriptor");
            SimHeap::new(self, descriptor)
        }

        #[unsafe(method(heapBufferSizeAndAlignWithLength:options:))]
        fn heap_size_and_align(
            &self,
            length: usize,
            _options: MTLResourceOptions,
        ) -> MTLSizeAndAlign {
            MTLSizeAndAlign { size: length.next_multiple_of(heap::ALIGN), align: heap::ALIGN }
        }

        #[unsafe(method_id(newResidencySetWithDescriptor:error:))]
        fn new_residency_set(
            &self,
            descriptor: Option<&descriptors::SimResidencySetDescriptor>,
            _error: *mut *mut NSError,
        ) -> Option<Retained<SimResidencySet>> {
            let descriptor = given(descriptor, "newResidencySetWithDescriptor:error:", "descriptor");
            Some(SimResidencySet::new(self, descriptor.label_text()))
        }

        #[unsafe(method_id(newLibraryWithSource:options:error:))]
        fn new_library_with_source(
            &self,
            source: Option<&NSString>,
            options: Option<&descriptors::SimCompileOptions>,
            place: *mut *mut NSError,
        ) -> Option<Retained<SimLibrary>> {
            let source = given(source, "newLibraryWithSource:options:error:", "source");
            let made = SimLibrary::from_source(self, SOURCE, &source.to_string(), options);
            // SAFETY: the method's contract: null or a place for an error.
            unsafe { library::answer(made, place) }
        }

        #[unsafe(method(newLibraryWithSource:options:completionHandler:))]
        fn new_library_with_source_later(
            &self,
            source: Option<&NSString>,
            options: Option<&descriptors::SimCompileOptions>,
            handler: &library::Handler,
        ) {
            let call = "newLibraryWithSource:options:completionHandler:";
            let source = given(source, call, "source").to_string();
            library::tell(SimLibrary::from_source(self, SOURCE, &source, options), handler);
        }

        #[unsafe(method_id(newLibraryWithURL:error:))]
        fn new_library_with_url(
            &self,
            url: Option<&NSURL>,
            place: *mut *mut NSError,
        ) -> Option<Retained<SimLibrary>> {
            let url = given(url, "newLibraryWithURL:error:", "url");
            // SAFETY: as above.
            unsafe { library::answer(SimLibrary::from_file(self, url), place) }
        }

        #[unsafe(method_id(newComputePipelineStateWithFunction:error:))]
        fn new_pipeline(
            &self,
            function: Option<&SimFunction>,
            place: *mut *mut NSError,
        ) -> Option<Retained<SimPipeline>> {
            let function = given(function, "newComputePipelineStateWithFunction:error:", "function");
            // SAFETY: as above.
            unsafe { library::answer(SimPipeline::of(self, function), place) }
        }

        #[unsafe(method_id(newComputePipelineStateWithFunction:options:reflection:error:))]
        fn new_pipeline_with_reflection(
            &self,
            function: Option<&SimFunction>,
            _options: MTLPipelineOption,
            reflection: *mut *mut AnyObject,
            place: *mut *mut NSError,
        ) -> Option<Retained<SimPipeline>> {
            const CALL: &str = "newComputePipelineStateWithFunction:options:reflection:error:";
            if !reflection.is_null() {
                fault("not simulated", format!("{CALL} with a place for a reflection"));
            }
            let function = given(function, CALL, "function");
            // SAFETY: as above.
            unsafe { library::answer(SimPipeline::of(self, function), place) }
        }

        #[unsafe(method(newComputePipelineStateWithFunction:completionHandler:))]
        fn new_pipeline_later(&self, function: Option<&SimFunction>, handler: &library::Handler) {
            let call = "newComputePipelineStateWithFunction:completionHandler:";
            let function = given(function, call, "function");
            library::tell(SimPipeline::of(self, function), handler);
        }

        #[unsafe(method_id(newDefaultLibrary))]
        fn new_default_library(&self) -> Option<Retained<AnyObject>> {
            None
        }

        #[unsafe(method_id(description))]
        fn description(&self) -> Retained<NSString> {
            NSString::from_str(&format!("<SimDevice: {}>", self.display_name()))
        }
    }
);

// SAFETY: the state is atomic or behind locks.
unsafe impl Send for SimDevice {}
// SAFETY: as above.
unsafe impl Sync for SimDevice {}

impl SimDevice {
    fn new(ordinal: usize) -> Retained<Self> {
        let core = DeviceCore {
            ordinal,
            gpu: Arc::default(),
            allocated: Arc::default(),
            next_queue: AtomicUsize::new(0),
        };
        // SAFETY: NSObject's `init` has this signature.
        unsafe { msg_send![super(Self::alloc().set_ivars(core)), init] }
    }

    fn display_name(&self) -> String {
        match self.ivars().ordinal {
            0 => "Simulated M2".to_owned(),
            n => format!("Simulated M2 #{n}"),
        }
    }

    /// The device's executor.
    pub fn gpu(&self) -> &Arc<Gpu> {
        &self.ivars().gpu
    }

    /// What tells devices apart.
    pub fn id(&self) -> u64 {
        0x5100 + self.ivars().ordinal as u64
    }

    /// Bytes in live buffers.
    pub(crate) fn allocated(&self) -> &Arc<AtomicUsize> {
        &self.ivars().allocated
    }

    fn new_queue(&self, count: usize) -> Retained<SimQueue> {
        let id = self.ivars().next_queue.fetch_add(1, Ordering::Relaxed);
        SimQueue::new(self, id, count)
    }

    /// # Safety
    /// `bytes` is readable for `length` bytes.
    unsafe fn buffer_with_bytes(
        &self,
        bytes: NonNull<c_void>,
        length: usize,
        options: MTLResourceOptions,
    ) -> Option<Retained<SimBuffer>> {
        let core = BufferCore::allocate(self, length, options)?;
        if core.is_private() {
            fault(
                "newBufferWithBytes",
                "a private buffer has no CPU side to copy the bytes to; use a shared one and a blit",
            );
        }
        // SAFETY: the caller's promise; the buffer is new, so nobody else uses it.
        unsafe {
            std::ptr::copy_nonoverlapping(
                bytes.as_ptr().cast::<u8>(),
                core.memory().base(),
                length,
            );
        }
        Some(SimBuffer::new(core))
    }

    /// # Safety
    /// `bytes` is valid for `length` bytes until the deallocator was called.
    unsafe fn buffer_no_copy(
        &self,
        bytes: NonNull<c_void>,
        length: usize,
        options: MTLResourceOptions,
        deallocator: Option<&Deallocator>,
    ) -> Option<Retained<SimBuffer>> {
        if !bytes.addr().get().is_multiple_of(PAGE) || !length.is_multiple_of(PAGE) || length == 0 {
            return None;
        }
        if rules().inject.refuses(length) {
            return None;
        }
        struct AtEnd(
            RcBlock<dyn Fn(NonNull<c_void>, usize)>,
            NonNull<c_void>,
            usize,
        );
        // SAFETY: the method's contract has the program pass a block that may run anywhere.
        unsafe impl Send for AtEnd {}
        impl AtEnd {
            fn call(self) {
                self.0.call((self.1, self.2));
            }
        }
        let at_end = deallocator.map(|block| {
            let at_end = AtEnd(block.copy(), bytes, length);
            Box::new(move || at_end.call()) as Box<dyn FnOnce() + Send>
        });
        // SAFETY: the caller's promise.
        let memory = unsafe { Memory::foreign(bytes.cast(), length, at_end) };
        Some(SimBuffer::new(BufferCore::over(self, memory, options)))
    }
}

fn supports(family: MTLGPUFamily) -> bool {
    let apple = (MTLGPUFamily::Apple1.0..=MTLGPUFamily::Apple8.0).contains(&family.0);
    let common = (MTLGPUFamily::Common1.0..=MTLGPUFamily::Common3.0).contains(&family.0);
    let mac = family == MTLGPUFamily::Mac2;
    apple || common || mac || family == MTLGPUFamily::Metal3
}

define_class!(
    // SAFETY: NSObject has no requirements on its subclasses, and there is no `Drop`.
    #[unsafe(super(NSObject))]
    #[name = "SimArchitecture"]
    /// What `MTLDevice` answers `architecture` with.
    pub struct SimArchitecture;

    // SAFETY: no further requirements.
    unsafe impl NSObjectProtocol for SimArchitecture {}

    impl SimArchitecture {
        #[unsafe(method_id(name))]
        fn name(&self) -> Retained<NSString> {
            NSString::from_str("applegpu_g14g")
        }
    }
);

impl SimArchitecture {
    fn new() -> Retained<Self> {
        // SAFETY: NSObject's `init` has this signature.
        unsafe { msg_send![super(Self::alloc().set_ivars(())), init] }
    }
}

/// The devices of this process; they live as long as it does.
pub fn devices() -> &'static [Retained<SimDevice>] {
    static DEVICES: OnceLock<Vec<Retained<SimDevice>>> = OnceLock::new();
    DEVICES.get_or_init(|| (0..rules().devices).map(SimDevice::new).collect())
}

#[unsafe(no_mangle)]
extern "C-unwind" fn MTLCreateSystemDefaultDevice() -> *mut SimDevice {
    Retained::into_raw(devices()[0].clone())
}

#[unsafe(no_mangle)]
extern "C-unwind" fn MTLCopyAllDevices() -> *mut NSArray<AnyObject> {
    let all: Vec<Retained<AnyObject>> = devices()
        .iter()
        .map(|device| {
            let object: &AnyObject = device;
            object.retain()
        })
        .collect();
    Retained::into_raw(metal_sim_objc::foundation::array::new(all))
}
