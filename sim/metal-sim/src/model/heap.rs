//! `MTLHeap`: a stretch of memory that buffers are cut from. Memory of a released or aliasable
//! buffer is given again, poisoned if the CPU cannot look at it, so that whoever still counts
//! on the old contents reads NaN.

use super::Kept;
use super::buffer::{BufferCore, SimBuffer};
use super::descriptors::SimHeapDescriptor;
use super::device::SimDevice;
use crate::fault::fault;
use crate::lock;
use crate::memory::{Memory, POISON};
use crate::rules::rules;
use objc2::rc::Retained;
use objc2::runtime::{AnyObject, NSObject, NSObjectProtocol};
use objc2::{AnyThread, DefinedClass, define_class, msg_send};
use objc2_foundation::NSString;
use objc2_metal::{
    MTLAllocation, MTLCPUCacheMode, MTLHazardTrackingMode, MTLHeap, MTLHeapType, MTLPurgeableState,
    MTLResourceOptions, MTLStorageMode,
};
use std::ops::Range;
use std::sync::{Arc, Mutex};

/// Where buffers of a heap begin, and what their sizes are rounded up to.
pub(crate) const ALIGN: usize = 256;

/// A heap's instance variables.
pub struct Heap {
    device: Kept<SimDevice>,
    memory: Arc<Memory>,
    options: MTLResourceOptions,
    kind: MTLHeapType,
    taken: Arc<Mutex<Vec<Range<usize>>>>,
    label: Mutex<Option<String>>,
}

define_class!(
    // SAFETY: NSObject has no requirements on its subclasses, and there is no `Drop`.
    #[unsafe(super(NSObject))]
    #[name = "SimHeap"]
    #[ivars = Heap]
    /// The class behind `MTLHeap`.
    pub struct SimHeap;

    // SAFETY: no further requirements.
    unsafe impl NSObjectProtocol for SimHeap {}

    // SAFETY: implements the protocol's methods below.
    unsafe impl MTLAllocation for SimHeap {}

    // SAFETY: implements the protocol's methods below.
    unsafe impl MTLHeap for SimHeap {}

    impl SimHeap {
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

        #[unsafe(method(size))]
        fn size(&self) -> usize {
            self.ivars().memory.len()
        }

        #[unsafe(method(allocatedSize))]
        fn allocated_size(&self) -> usize {
            self.ivars().memory.len()
        }

        #[unsafe(method(currentAllocatedSize))]
        fn current_allocated_size(&self) -> usize {
            self.ivars().memory.len()
        }

        #[unsafe(method(usedSize))]
        fn used_size(&self) -> usize {
            lock(&self.ivars().taken).iter().map(Range::len).sum()
        }

        #[unsafe(method(maxAvailableSizeWithAlignment:))]
        fn max_available_size(&self, alignment: usize) -> usize {
            self.largest_gap(alignment)
        }

        #[unsafe(method(storageMode))]
        fn storage_mode(&self) -> MTLStorageMode {
            MTLStorageMode((self.ivars().options.0 >> 4) & 0xf)
        }

        #[unsafe(method(cpuCacheMode))]
        fn cpu_cache_mode(&self) -> MTLCPUCacheMode {
            MTLCPUCacheMode(self.ivars().options.0 & 0xf)
        }

        #[unsafe(method(hazardTrackingMode))]
        fn hazard_tracking_mode(&self) -> MTLHazardTrackingMode {
            heap_tracking(self.ivars().options)
        }

        #[unsafe(method(resourceOptions))]
        fn resource_options(&self) -> MTLResourceOptions {
            self.ivars().options
        }

        #[unsafe(method(type))]
        fn kind(&self) -> MTLHeapType {
            self.ivars().kind
        }

        #[unsafe(method(setPurgeableState:))]
        fn set_purgeable_state(&self, _state: MTLPurgeableState) -> MTLPurgeableState {
            MTLPurgeableState::NonVolatile
        }

        #[unsafe(method_id(newBufferWithLength:options:))]
        fn new_buffer(
            &self,
            length: usize,
            options: MTLResourceOptions,
        ) -> Option<Retained<SimBuffer>> {
            self.cut(length, options, None)
        }

        #[unsafe(method_id(newBufferWithLength:options:offset:))]
        fn new_buffer_at(
            &self,
            length: usize,
            options: MTLResourceOptions,
            offset: usize,
        ) -> Option<Retained<SimBuffer>> {
            self.cut(length, options, Some(offset))
        }

        #[unsafe(method_id(newTextureWithDescriptor:))]
        fn new_texture(&self, _descriptor: Option<&AnyObject>) -> Option<Retained<AnyObject>> {
            fault("not simulated", "-[MTLHeap newTextureWithDescriptor:]: there are no textures")
        }
    }
);

// SAFETY: the state is behind locks.
unsafe impl Send for SimHeap {}
// SAFETY: as above.
unsafe impl Sync for SimHeap {}

/// Resources of a heap are untracked unless the heap asks for tracking.
fn heap_tracking(options: MTLResourceOptions) -> MTLHazardTrackingMode {
    match MTLHazardTrackingMode((options.0 >> 8) & 0x3) {
        MTLHazardTrackingMode::Default => MTLHazardTrackingMode::Untracked,
        mode => mode,
    }
}

/// Which bytes of which heap a buffer has, until it is released or made aliasable.
pub(crate) struct Placed {
    heap: Kept<SimHeap>,
    range: Range<usize>,
    aliasable: Mutex<bool>,
}

impl Placed {
    pub(crate) fn heap(&self) -> &SimHeap {
        self.heap.get()
    }

    pub(crate) fn offset(&self) -> usize {
        self.range.start
    }

    pub(crate) fn is_aliasable(&self) -> bool {
        *lock(&self.aliasable)
    }

    /// Gives the bytes back, once.
    pub(crate) fn make_aliasable(&self) {
        if !std::mem::replace(&mut *lock(&self.aliasable), true) {
            let mut taken = lock(&self.heap().ivars().taken);
            if let Some(at) = taken.iter().position(|range| *range == self.range) {
                taken.remove(at);
            }
        }
    }
}

impl Drop for Placed {
    fn drop(&mut self) {
        self.make_aliasable();
    }
}

impl SimHeap {
    /// A heap as described; `None` without size or memory, where Metal answers nil.
    pub(crate) fn new(
        device: &SimDevice,
        descriptor: &SimHeapDescriptor,
    ) -> Option<Retained<Self>> {
        let (size, options, kind) = descriptor.settings();
        if size == 0 || rules().inject.refuses(size) {
            return None;
        }
        let mut memory = Memory::allocate(size.next_multiple_of(ALIGN))?;
        if heap_tracking(options) == MTLHazardTrackingMode::Tracked {
            memory.track();
        }
        let memory = Arc::new(memory);
        let heap = Heap {
            device: Kept::new(device),
            memory,
            options,
            kind,
            taken: Arc::default(),
            label: Mutex::new(None),
        };
        // SAFETY: NSObject's `init` has this signature.
        Some(unsafe { msg_send![super(Self::alloc().set_ivars(heap)), init] })
    }

    pub(crate) fn on(&self) -> &SimDevice {
        self.ivars().device.get()
    }

    fn gaps(&self, taken: &[Range<usize>]) -> Vec<Range<usize>> {
        let mut gaps = Vec::new();
        let mut at = 0;
        for range in taken {
            if at < range.start {
                gaps.push(at..range.start);
            }
            at = at.max(range.end);
        }
        if at < self.ivars().memory.len() {
            gaps.push(at..self.ivars().memory.len());
        }
        gaps
    }

    fn largest_gap(&self, alignment: usize) -> usize {
        let taken = lock(&self.ivars().taken);
        let alignment = alignment.max(1);
        let sizes = self.gaps(&taken).into_iter().map(|gap| {
            gap.end
                .saturating_sub(gap.start.next_multiple_of(alignment))
        });
        sizes.max().unwrap_or(0)
    }

    fn cut(
        &self,
        length: usize,
        options: MTLResourceOptions,
        offset: Option<usize>,
    ) -> Option<Retained<SimBuffer>> {
        let heap = self.ivars();
        let mode = |options: MTLResourceOptions| (options.0 >> 4) & 0xf;
        if mode(options) != mode(heap.options) {
            fault(
                "heap storage mode",
                "a buffer of a heap has the heap's storage mode",
            );
        }
        if offset.is_some() != (heap.kind == MTLHeapType::Placement) {
            fault(
                "heap type",
                "an offset is for placement heaps, which need one",
            );
        }
        let size = length
            .checked_next_multiple_of(ALIGN)
            .filter(|size| *size > 0 && !rules().inject.refuses(length))?;
        let start = {
            let mut taken = lock(&heap.taken);
            let start = match offset {
                // Placed buffers may overlap: that is the program's business.
                Some(offset) => {
                    if !offset.is_multiple_of(ALIGN) {
                        fault("heap offset", format!("{offset} is no multiple of {ALIGN}"));
                    }
                    offset
                        .checked_add(size)
                        .filter(|end| *end <= heap.memory.len())?;
                    offset
                }
                None => {
                    self.gaps(&taken)
                        .into_iter()
                        .find(|gap| gap.len() >= size)?
                        .start
                }
            };
            taken.push(start..start + size);
            taken.sort_by_key(|range| range.start);
            start
        };
        let placed = Placed {
            heap: Kept::new(self),
            range: start..start + size,
            aliasable: Mutex::new(false),
        };
        let memory = Memory::part(&heap.memory, start..start + length);
        let tracking = heap_tracking(heap.options).0 << 8;
        let options = MTLResourceOptions((options.0 & !0x300) | tracking);
        let core = BufferCore::placed(self.ivars().device.get(), memory, options, placed);
        if core.is_private() {
            // SAFETY: the bytes are this buffer's now. Work that still uses them breaks the rule, and the byte that it
            // finds is what it deserves: no reference to them exists, and any byte is a value.
            unsafe { core.memory().fill(0..length, POISON) };
        }
        Some(SimBuffer::new(core))
    }
}
