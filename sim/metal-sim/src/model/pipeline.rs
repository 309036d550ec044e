//! `MTLComputePipelineState`: a kernel, compiled, with its limits.

use super::Kept;
use super::device::SimDevice;
use super::library::{Code, Made, SimFunction, error};
use crate::fault::fault;
use crate::lock;
use metal_sim_msl::{Checks, Pipeline};
use objc2::rc::Retained;
use objc2::runtime::{NSObject, NSObjectProtocol};
use objc2::{AnyThread, DefinedClass, define_class, msg_send};
use objc2_foundation::NSString;
use objc2_metal::{MTLAllocation, MTLComputePipelineState, MTLSize};
use std::sync::Mutex;

/// A pipeline's instance variables.
pub struct PipelineCore {
    device: Kept<SimDevice>,
    name: String,
    checks: Checks,
    pipeline: Pipeline,
    label: Mutex<Option<String>>,
}

define_class!(
    // SAFETY: NSObject has no requirements on its subclasses; there is no `Drop`.
    #[unsafe(super(NSObject))]
    #[name = "SimComputePipeline"]
    #[ivars = PipelineCore]
    /// The class behind `MTLComputePipelineState`.
    pub struct SimPipeline;

    // SAFETY: no further requirements.
    unsafe impl NSObjectProtocol for SimPipeline {}

    // SAFETY: implements the protocol's method below.
    unsafe impl MTLAllocation for SimPipeline {}

    // SAFETY: implements the protocol's methods below.
    unsafe impl MTLComputePipelineState for SimPipeline {}

    impl SimPipeline {
        #[unsafe(method_id(device))]
        fn device(&self) -> Retained<SimDevice> {
            self.ivars().device.0.clone()
        }

        #[unsafe(method_id(label))]
        fn label(&self) -> Option<Retained<NSString>> {
            lock(&self.ivars().label).as_deref().map(NSString::from_str)
        }

        #[unsafe(method(maxTotalThreadsPerThreadgroup))]
        fn max_total_threads(&self) -> usize {
            self.ivars().pipeline.max_total_threads_per_threadgroup() as usize
        }

        #[unsafe(method(threadExecutionWidth))]
        fn thread_execution_width(&self) -> usize {
            self.ivars().pipeline.thread_execution_width() as usize
        }

        #[unsafe(method(staticThreadgroupMemoryLength))]
        fn static_threadgroup_memory(&self) -> usize {
            self.ivars().pipeline.static_threadgroup_memory_length() as usize
        }

        #[unsafe(method(supportIndirectCommandBuffers))]
        fn support_indirect(&self) -> bool {
            false
        }

        #[unsafe(method(imageblockMemoryLengthForDimensions:))]
        fn imageblock_memory(&self, _dimensions: MTLSize) -> usize {
            0
        }

        #[unsafe(method(allocatedSize))]
        fn allocated_size(&self) -> usize {
            0
        }
    }
);

// SAFETY: everything but the label is immutable, and that is behind a lock.
unsafe impl Send for SimPipeline {}
// SAFETY: as above.
unsafe impl Sync for SimPipeline {}

impl SimPipeline {
    /// Compiles a kernel, or takes it from the cache.
    pub(crate) fn of(device: &SimDevice, function: &SimFunction) -> Made<Self> {
        let core = function.core();
        if core.device.get().id() != device.id() {
            fault(
                "newComputePipelineState",
                format!("the function {} is of another device", core.name),
            );
        }
        let pipeline = Pipeline::new(&core.library, &core.name, &core.constants, core.checks)
            .map_err(|why| error(Code::CompileFailure, &why.to_string()))?;
        let core = PipelineCore {
            device: Kept::new(device),
            name: core.name.clone(),
            checks: core.checks,
            pipeline,
            label: Mutex::new(None),
        };
        // SAFETY: NSObject's `init` has this signature.
        Ok(unsafe { msg_send![super(Self::alloc().set_ivars(core)), init] })
    }

    /// The kernel's name.
    pub(crate) fn kernel(&self) -> &str {
        &self.ivars().name
    }

    /// Whether the detector watches it.
    pub(crate) fn is_watched(&self) -> bool {
        self.ivars().checks.races
    }

    /// The kernel.
    pub(crate) fn pipeline(&self) -> &Pipeline {
        &self.ivars().pipeline
    }

    pub(crate) fn on(&self) -> &SimDevice {
        self.ivars().device.get()
    }
}
