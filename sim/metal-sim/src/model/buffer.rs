//! `MTLBuffer`: memory with a storage mode. Shared memory starts zeroed, as Apple documents;
//! private memory starts poisoned and has no address for the CPU.

use super::Kept;
use super::device::{MAX_BUFFER_LENGTH, SimDevice};
use super::heap::{Placed, SimHeap};
use crate::fault::fault;
use crate::hazards;
use crate::memory::{Memory, POISON};
use crate::rules::rules;
use objc2::rc::Retained;
use objc2::runtime::{NSObject, NSObjectProtocol};
use objc2::{AnyThread, DefinedClass, Message, define_class, msg_send};
use objc2_foundation::{NSRange, NSString};
use objc2_metal::{
    MTLAllocation, MTLBuffer, MTLCPUCacheMode, MTLHazardTrackingMode, MTLPurgeableState,
    MTLResource, MTLResourceOptions, MTLStorageMode,
};
use std::ffi::c_void;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A buffer's instance variables.
pub struct BufferCore {
    memory: Arc<Memory>,
    options: MTLResourceOptions,
    device: Kept<SimDevice>,
    /// Counted as the device's own; a heap counts for its buffers.
    _counted: Option<Counted>,
    placed: Option<Placed>,
}

/// Bytes counted as allocated until this is dropped.
struct Counted(Arc<AtomicUsize>, usize);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(self.1, Ordering::AcqRel);
    }
}

impl Drop for BufferCore {
    fn drop(&mut self) {
        self.memory.abandon();
    }
}

impl BufferCore {
    /// Allocates; `None` for no bytes, too many, or no memory, where Metal answers nil.
    pub(crate) fn allocate(
        device: &SimDevice,
        length: usize,
        options: MTLResourceOptions,
    ) -> Option<Self> {
        if length == 0 || length > MAX_BUFFER_LENGTH || rules().inject.refuses(length) {
            return None;
        }
        let mut memory = Memory::allocate(length)?;
        let private = mode(options) == MTLStorageMode::Private;
        if private && rules().watched().races {
            memory.trace();
        }
        let core = Self::over(device, memory, options);
        if private {
            // SAFETY: the memory is new, so nobody else uses it.
            unsafe { core.memory.fill(0..length, POISON) };
        }
        Some(core)
    }

    /// A buffer over memory that exists.
    pub(crate) fn over(device: &SimDevice, memory: Memory, options: MTLResourceOptions) -> Self {
        let counter = device.allocated().clone();
        counter.fetch_add(memory.len(), Ordering::AcqRel);
        let counted = Counted(counter, memory.len());
        Self::new(device, memory, options, Some(counted), None)
    }

    /// A buffer over a part of a heap.
    pub(crate) fn placed(
        device: &SimDevice,
        memory: Memory,
        options: MTLResourceOptions,
        placed: Placed,
    ) -> Self {
        Self::new(device, memory, options, None, Some(placed))
    }

    fn new(
        device: &SimDevice,
        memory: Memory,
        options: MTLResourceOptions,
        counted: Option<Counted>,
        placed: Option<Placed>,
    ) -> Self {
        let mut core = Self {
            memory: Arc::new(memory),
            options,
            device: Kept::new(device),
            _counted: counted,
            placed,
        };
        if core.hazard_tracking() == MTLHazardTrackingMode::Tracked
            && let Some(memory) = Arc::get_mut(&mut core.memory)
        {
            memory.track();
        }
        core
    }

    /// The bytes.
    pub fn memory(&self) -> &Arc<Memory> {
        &self.memory
    }

    pub(crate) fn storage_mode(&self) -> MTLStorageMode {
        mode(self.options)
    }

    pub(crate) fn is_private(&self) -> bool {
        self.storage_mode() == MTLStorageMode::Private
    }

    fn hazard_tracking(&self) -> MTLHazardTrackingMode {
        match MTLHazardTrackingMode((self.options.0 >> 8) & 0x3) {
            // A buffer outside a heap is tracked unless told otherwise.
            MTLHazardTrackingMode::Default => MTLHazardTrackingMode::Tracked,
            mode => mode,
        }
    }
}

fn mode(options: MTLResourceOptions) -> MTLStorageMode {
    MTLStorageMode((options.0 >> 4) & 0xf)
}

define_class!(
    // SAFETY: NSObject has no requirements on its subclasses, and there is no `Drop`.
    #[unsafe(super(NSObject))]
    #[name = "SimBuffer"]
    #[ivars = BufferCore]
    /// The class behind `MTLBuffer`.
    pub struct SimBuffer;

    // SAFETY: no further requirements.
    unsafe impl NSObjectProtocol for SimBuffer {}

    // SAFETY: implements the protocol's methods below.
    unsafe impl MTLAllocation for SimBuffer {}

    // SAFETY: implements the protocol's methods below.
    unsafe impl MTLResource for SimBuffer {}

    // SAFETY: implements the protocol's methods below.
    unsafe impl MTLBuffer for SimBuffer {}

    impl SimBuffer {
        #[unsafe(method(length))]
        fn length(&self) -> usize {
            self.ivars().memory.len()
        }

        #[unsafe(method(contents))]
        fn contents(&self) -> *mut c_void {
            if self.ivars().is_private() {
                hazards::private_for_cpu(&self.ivars().memory);
                std::ptr::null_mut()
            } else {
                hazards::touched_by_cpu(&self.ivars().memory);
                self.ivars().memory.base().cast()
            }
        }

        #[unsafe(method(didModifyRange:))]
        fn did_modify_range(&self, range: NSRange) {
            self.check_modified(range);
        }

        #[unsafe(method(gpuAddress))]
        fn gpu_address(&self) -> u64 {
            self.ivars().memory.base().addr() as u64
        }

        #[unsafe(method_id(device))]
        fn device(&self) -> Retained<SimDevice> {
            self.ivars().device.0.clone()
        }

        #[unsafe(method_id(label))]
        fn label(&self) -> Option<Retained<NSString>> {
            self.ivars().memory.label().as_deref().map(NSString::from_str)
        }

        #[unsafe(method(setLabel:))]
        fn set_label(&self, label: Option<&NSString>) {
            self.ivars().memory.set_label(label.map(ToString::to_string));
        }

        #[unsafe(method(cpuCacheMode))]
        fn cpu_cache_mode(&self) -> MTLCPUCacheMode {
            MTLCPUCacheMode(self.ivars().options.0 & 0xf)
        }

        #[unsafe(method(storageMode))]
        fn storage_mode(&self) -> MTLStorageMode {
            self.ivars().storage_mode()
        }

        #[unsafe(method(hazardTrackingMode))]
        fn hazard_tracking_mode(&self) -> MTLHazardTrackingMode {
            self.ivars().hazard_tracking()
        }

        #[unsafe(method(resourceOptions))]
        fn resource_options(&self) -> MTLResourceOptions {
            self.ivars().options
        }

        #[unsafe(method(setPurgeableState:))]
        fn set_purgeable_state(&self, _state: MTLPurgeableState) -> MTLPurgeableState {
            MTLPurgeableState::NonVolatile
        }

        #[unsafe(method(allocatedSize))]
        fn allocated_size(&self) -> usize {
            self.ivars().memory.len()
        }

        #[unsafe(method_id(heap))]
        fn heap(&self) -> Option<Retained<SimHeap>> {
            self.ivars().placed.as_ref().map(|placed| placed.heap().retain())
        }

        #[unsafe(method(heapOffset))]
        fn heap_offset(&self) -> usize {
            self.ivars().placed.as_ref().map_or(0, Placed::offset)
        }

        #[unsafe(method(makeAliasable))]
        fn make_aliasable(&self) {
            if let Some(placed) = &self.ivars().placed {
                placed.make_aliasable();
            }
        }

        #[unsafe(method(isAliasable))]
        fn is_aliasable(&self) -> bool {
            self.ivars().placed.as_ref().is_some_and(Placed::is_aliasable)
        }

        #[unsafe(method(addDebugMarker:range:))]
        fn add_debug_marker(&self, _marker: Option<&NSString>, _range: NSRange) {}

        #[unsafe(method(removeAllDebugMarkers))]
        fn remove_all_debug_markers(&self) {}
    }
);

// SAFETY: the memory is reached by raw pointers under the GPU's rules, the rest is locked.
unsafe impl Send for SimBuffer {}
// SAFETY: as above.
unsafe impl Sync for SimBuffer {}

impl SimBuffer {
    pub(crate) fn new(core: BufferCore) -> Retained<Self> {
        // SAFETY: NSObject's `init` has this signature.
        unsafe { msg_send![super(Self::alloc().set_ivars(core)), init] }
    }

    /// The buffer's state.
    pub fn core(&self) -> &BufferCore {
        self.ivars()
    }

    pub(crate) fn on(&self) -> &SimDevice {
        self.ivars().device.get()
    }

    /// The buffer's name in a message.
    pub(crate) fn title(&self) -> String {
        self.ivars().memory.title()
    }

    /// The byte range of an access, or a fault that names the rule and the buffer.
    pub(crate) fn range(&self, rule: &str, start: usize, length: usize) -> Range<usize> {
        let held = self.ivars().memory.len();
        match start.checked_add(length) {
            Some(end) if end <= held => start..end,
            _ => fault(
                rule,
                format!("{length} bytes at {start} are not inside {}", self.title()),
            ),
        }
    }

    fn check_modified(&self, range: NSRange) {
        if self.ivars().storage_mode() != MTLStorageMode::Managed {
            fault("didModifyRange", format!("{} is not managed", self.title()));
        }
        self.range("didModifyRange", range.location, range.length);
    }
}
