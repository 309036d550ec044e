//! `MTLComputeCommandEncoder`: bindings, barriers and fences. Dispatches are in `dispatch`.

use super::buffer::SimBuffer;
use super::command_buffer::SimCommandBuffer;
use super::dispatch;
use super::encoder::EncoderCore;
use super::heap::SimHeap;
use super::pipeline::SimPipeline;
use super::{Kept, given};
use crate::encoder_class;
use crate::fault::fault;
use crate::lock;
use crate::pass::{Kind, Scope};
use crate::rules::rules;
use objc2::rc::Retained;
use objc2::runtime::{AnyObject, NSObject, NSObjectProtocol};
use objc2::{AnyThread, DefinedClass, Message, msg_send};
use objc2_foundation::{NSRange, NSString};
use objc2_metal::{
    MTLBarrierScope, MTLCommandEncoder, MTLComputeCommandEncoder, MTLDispatchType,
    MTLResourceUsage, MTLSize,
};
use std::ffi::c_void;
use std::ptr::NonNull;
use std::sync::{Arc, Mutex};

/// Argument table slots for buffers.
pub(super) const BUFFER_SLOTS: usize = 31;
/// The most bytes that `setBytes` takes.
const MAX_BYTES: usize = 4096;

/// Bytes that a threadgroup has.
pub(super) const MAX_THREADGROUP_MEMORY: usize = 32 * 1024;

/// What a buffer slot holds.
#[derive(Clone)]
pub(super) enum Binding {
    /// A buffer and an offset into it.
    Buffer(Kept<SimBuffer>, usize),
    /// Bytes copied at the call.
    Bytes(Arc<[u8]>),
}

/// A compute encoder's instance variables.
pub struct Compute {
    encoder: EncoderCore,
    dispatch: MTLDispatchType,
    pipeline: Mutex<Option<Kept<SimPipeline>>>,
    bindings: Mutex<[Option<Binding>; BUFFER_SLOTS]>,
    threadgroup_memory: Mutex<[usize; BUFFER_SLOTS]>,
}

/// The encoder's state at a dispatch.
pub(super) struct Bound {
    pub pipeline: Kept<SimPipeline>,
    pub buffers: [Option<Binding>; BUFFER_SLOTS],
    pub threadgroup_memory: [usize; BUFFER_SLOTS],
}

encoder_class!(
    SimComputeEncoder,
    "SimComputeEncoder",
    MTLComputeCommandEncoder,
    Compute,
    encoder,
    {
        #[unsafe(method(dispatchType))]
        fn dispatch_type(&self) -> MTLDispatchType {
            self.ivars().dispatch
        }

        #[unsafe(method(setComputePipelineState:))]
        fn set_pipeline(&self, pipeline: Option<&SimPipeline>) {
            let pipeline = given(pipeline, "setComputePipelineState:", "state");
            self.bind_pipeline(pipeline);
        }

        #[unsafe(method(setBuffer:offset:atIndex:))]
        fn set_buffer(&self, buffer: Option<&SimBuffer>, offset: usize, index: usize) {
            self.bind_buffer(buffer, offset, index);
        }

        #[unsafe(method(setBuffers:offsets:withRange:))]
        fn set_buffers(
            &self,
            buffers: *const *const SimBuffer,
            offsets: *const usize,
            range: NSRange,
        ) {
            for at in 0..range.length {
                // SAFETY: the method's contract: as many buffers (or null) and offsets.
                let (buffer, offset) = unsafe { ((*buffers.add(at)).as_ref(), *offsets.add(at)) };
                self.bind_buffer(buffer, offset, range.location + at);
            }
        }

        #[unsafe(method(setBufferOffset:atIndex:))]
        fn set_buffer_offset(&self, offset: usize, index: usize) {
            self.move_buffer(offset, index);
        }

        #[unsafe(method(setBytes:length:atIndex:))]
        fn set_bytes(&self, bytes: *const c_void, length: usize, index: usize) {
            // SAFETY: the method's contract: `length` readable bytes.
            unsafe { self.bind_bytes(bytes, length, index) };
        }

        #[unsafe(method(setThreadgroupMemoryLength:atIndex:))]
        fn set_threadgroup_memory(&self, length: usize, index: usize) {
            self.reserve_threadgroup_memory(length, index);
        }

        #[unsafe(method(useResource:usage:))]
        fn use_resource(&self, resource: Option<&AnyObject>, _usage: MTLResourceUsage) {
            let resource = given(resource, "useResource:usage:", "resource");
            self.keep_used("useResource:usage:", resource);
        }

        #[unsafe(method(useResources:count:usage:))]
        fn use_resources(
            &self,
            resources: *const NonNull<AnyObject>,
            count: usize,
            _usage: MTLResourceUsage,
        ) {
            // SAFETY: the method's contract: `count` resources.
            unsafe { self.keep_all("useResources:count:usage:", resources, count) };
        }

        #[unsafe(method(useHeap:))]
        fn use_heap(&self, heap: Option<&AnyObject>) {
            let heap = given(heap, "useHeap:", "heap");
            self.keep_used("useHeap:", heap);
        }

        #[unsafe(method(useHeaps:count:))]
        fn use_heaps(&self, heaps: *const NonNull<AnyObject>, count: usize) {
            // SAFETY: the method's contract: `count` heaps.
            unsafe { self.keep_all("useHeaps:count:", heaps, count) };
        }

        #[unsafe(method(memoryBarrierWithScope:))]
        fn memory_barrier(&self, scope: MTLBarrierScope) {
            // One about textures orders no buffers.
            let scope = match scope.contains(MTLBarrierScope::Buffers) {
                true => Scope::Buffers,
                false => Scope::Resources(Vec::new()),
            };
            self.encoder().barrier("memoryBarrierWithScope:", scope);
        }

        #[unsafe(method(memoryBarrierWithResources:count:))]
        fn memory_barrier_with_resources(
            &self,
            resources: *const NonNull<AnyObject>,
            count: usize,
        ) {
            // SAFETY: the method's contract: `count` resources.
            let all = (0..count).map(|at| unsafe { (*resources.add(at)).as_ref() });
            let buffers = all.filter_map(|object| object.downcast_ref::<SimBuffer>());
            let memories = buffers.map(|buffer| buffer.core().memory().clone());
            let scope = Scope::Resources(memories.collect());
            self.encoder()
                .barrier("memoryBarrierWithResources:count:", scope);
        }

        #[unsafe(method(dispatchThreadgroups:threadsPerThreadgroup:))]
        fn dispatch_threadgroups(&self, groups: MTLSize, threads: MTLSize) {
            dispatch::threadgroups(self, groups, threads);
        }

        #[unsafe(method(dispatchThreadgroupsWithIndirectBuffer:indirectBufferOffset:threadsPerThreadgroup:))]
        fn dispatch_indirect(&self, groups: Option<&SimBuffer>, offset: usize, threads: MTLSize) {
            let call = "dispatchThreadgroupsWithIndirectBuffer:indirectBufferOffset:threadsPerThreadgroup:";
            let groups = given(groups, call, "indirectBuffer");
            dispatch::indirect(self, groups, offset, threads);
        }

        #[unsafe(method(dispatchThreads:threadsPerThreadgroup:))]
        fn dispatch_threads(&self, grid: MTLSize, threads: MTLSize) {
            dispatch::threads(self, grid, threads);
        }
    }
);

// SAFETY: the recorded pass and the bindings are behind locks.
unsafe impl Send for SimComputeEncoder {}
// SAFETY: as above.
unsafe impl Sync for SimComputeEncoder {}

impl SimComputeEncoder {
    pub(crate) fn new(buffer: &SimCommandBuffer, dispatch: MTLDispatchType) -> Retained<Self> {
        let kind = match dispatch {
            MTLDispatchType::Concurrent => Kind::ConcurrentCompute,
            _ => Kind::SerialCompute,
        };
        let compute = Compute {
            encoder: EncoderCore::new(buffer, kind),
            dispatch,
            pipeline: Mutex::new(None),
            bindings: Mutex::new([const { None }; BUFFER_SLOTS]),
            threadgroup_memory: Mutex::new([0; BUFFER_SLOTS]),
        };
        // SAFETY: NSObject's `init` has this signature.
        unsafe { msg_send![super(Self::alloc().set_ivars(compute)), init] }
    }

    pub(super) fn encoder(&self) -> &EncoderCore {
        &self.ivars().encoder
    }

    fn bind(&self, call: &str, index: usize, binding: Option<Binding>) {
        self.encoder().record(call, |_| ());
        match lock(&self.ivars().bindings).get_mut(index) {
            Some(slot) => *slot = binding,
            None => fault(
                call,
                format!("index {index}: a compute encoder has {BUFFER_SLOTS} buffer slots"),
            ),
        }
    }

    fn bind_buffer(&self, buffer: Option<&SimBuffer>, offset: usize, index: usize) {
        const CALL: &str = "setBuffer:offset:atIndex:";
        if let Some(buffer) = buffer {
            self.encoder().buffer().check_device(CALL, buffer.on());
            if offset >= buffer.core().memory().len() {
                fault(
                    CALL,
                    format!("offset {offset} is not inside {}", buffer.title()),
                );
            }
        }
        let binding = buffer.map(|buffer| Binding::Buffer(Kept::new(buffer), offset));
        self.bind(CALL, index, binding);
    }

    fn move_buffer(&self, offset: usize, index: usize) {
        const CALL: &str = "setBufferOffset:atIndex:";
        self.encoder().record(CALL, |_| ());
        match lock(&self.ivars().bindings).get_mut(index) {
            Some(Some(Binding::Buffer(buffer, held))) => {
                if offset >= buffer.get().core().memory().len() {
                    fault(
                        CALL,
                        format!("offset {offset} is not inside {}", buffer.get().title()),
                    );
                }
                *held = offset;
            }
            Some(Some(Binding::Bytes(bytes))) => fault(
                CALL,
                format!("index {index} holds {} bytes, not a buffer", bytes.len()),
            ),
            _ => fault(CALL, format!("no buffer is bound at index {index}")),
        }
    }

    /// # Safety
    /// `bytes` is readable for `length` bytes.
    unsafe fn bind_bytes(&self, bytes: *const c_void, length: usize, index: usize) {
        const CALL: &str = "setBytes:length:atIndex:";
        if length > MAX_BYTES {
            fault(
                CALL,
                format!("{length} bytes: at most {MAX_BYTES} are allowed; use a buffer"),
            );
        }
        if length == 0 {
            let told = "length 0: Metal's debug layer stops on it";
            rules().empty_bytes.on(CALL, told);
            return self.bind(CALL, index, Some(Binding::Bytes(Arc::new([]))));
        }
        // SAFETY: the caller's promise.
        let bytes = unsafe { std::slice::from_raw_parts(bytes.cast::<u8>(), length) };
        self.bind(CALL, index, Some(Binding::Bytes(bytes.into())));
    }

    fn bind_pipeline(&self, pipeline: &SimPipeline) {
        const CALL: &str = "setComputePipelineState:";
        self.encoder().record(CALL, |_| ());
        self.encoder().buffer().check_device(CALL, pipeline.on());
        *lock(&self.ivars().pipeline) = Some(Kept::new(pipeline));
    }

    fn reserve_threadgroup_memory(&self, length: usize, index: usize) {
        const CALL: &str = "setThreadgroupMemoryLength:atIndex:";
        self.encoder().record(CALL, |_| ());
        if !length.is_multiple_of(16) {
            fault(
                CALL,
                format!("{length} bytes at index {index} are no multiple of 16"),
            );
        }
        if length > MAX_THREADGROUP_MEMORY {
            fault(
                CALL,
                format!("{length} bytes: maxThreadgroupMemoryLength is {MAX_THREADGROUP_MEMORY}"),
            );
        }
        match lock(&self.ivars().threadgroup_memory).get_mut(index) {
            Some(held) => *held = length,
            None => fault(CALL, format!("index {index}: there are {BUFFER_SLOTS}")),
        }
    }

    /// What a dispatch runs and on what, as it is bound now.
    pub(super) fn bound(&self, call: &str) -> Bound {
        self.encoder().record(call, |_| ());
        let Some(pipeline) = lock(&self.ivars().pipeline)
            .as_ref()
            .map(|it| Kept::new(it.get()))
        else {
            fault(
                call,
                "no compute pipeline is set: call setComputePipelineState: first",
            );
        };
        Bound {
            pipeline,
            buffers: lock(&self.ivars().bindings).clone(),
            threadgroup_memory: *lock(&self.ivars().threadgroup_memory),
        }
    }

    /// # Safety
    /// `objects` points to `count` objects.
    unsafe fn keep_all(&self, call: &str, objects: *const NonNull<AnyObject>, count: usize) {
        for at in 0..count {
            // SAFETY: the caller's promise.
            self.keep_used(call, unsafe { (*objects.add(at)).as_ref() });
        }
    }

    /// Keeps what a kernel uses without a binding.
    fn keep_used(&self, call: &str, object: &AnyObject) {
        self.encoder().record(call, |_| ());
        let buffer = self.encoder().buffer();
        let device = object.downcast_ref::<SimBuffer>().map(SimBuffer::on);
        let device = device.or_else(|| object.downcast_ref::<SimHeap>().map(SimHeap::on));
        if let Some(device) = device {
            buffer.check_device(call, device);
        }
        buffer.core().keep(object);
    }
}
