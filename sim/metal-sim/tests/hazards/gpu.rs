//! A device with two queues, a few kernels, and short words for what litmus tests are made of.

use crate::support::size;
use objc2::rc::Retained;
use objc2::runtime::ProtocolObject;
use objc2_foundation::{NSRange, NSString};
use objc2_metal::{
    MTLBlitCommandEncoder, MTLBuffer, MTLCommandBuffer, MTLCommandEncoder, MTLCommandQueue,
    MTLComputeCommandEncoder, MTLComputePipelineState, MTLCreateSystemDefaultDevice, MTLDevice,
    MTLDispatchType, MTLEvent, MTLFence, MTLLibrary, MTLResource, MTLResourceOptions,
    MTLSharedEvent,
};

pub type Buffer = Retained<ProtocolObject<dyn MTLBuffer>>;
pub type Commands = Retained<ProtocolObject<dyn MTLCommandBuffer>>;
pub type Compute = Retained<ProtocolObject<dyn MTLComputeCommandEncoder>>;
pub type Fence = Retained<ProtocolObject<dyn MTLFence>>;
pub type Pipeline = Retained<ProtocolObject<dyn MTLComputePipelineState>>;
pub type Queue = Retained<ProtocolObject<dyn MTLCommandQueue>>;

const SOURCE: &str = "
#include <metal_stdlib>
using namespace metal;
kernel void fill(device float* x, uint i [[thread_position_in_grid]]) { x[i] = i + 1; }
kernel void twice(device float* x, uint i [[thread_position_in_grid]]) { x[i] = 2 * x[i]; }
kernel void square(device float* to, device const float* from, uint i [[thread_position_in_grid]]) {
  float sum = 0;
  for (uint k = 0; k < 8; k++) sum += from[i / 8 * 8 + k] * from[k * 8 + i % 8];
  to[i] = sum;
}
kernel void count(device atomic_uint* x, uint i [[thread_position_in_grid]]) {
  atomic_fetch_add_explicit(&x[i / 8], 1, memory_order_relaxed);
}
kernel void copy(device float* to, device const float* from, uint i [[thread_position_in_grid]]) { to[i] = from[i]; }
";

/// Floats in a buffer.
pub const COUNT: usize = 64;

pub struct Gpu {
    pub device: Retained<ProtocolObject<dyn MTLDevice>>,
    pub queue: Queue,
    pub other: Queue,
    pub fill: Pipeline,
    pub twice: Pipeline,
    pub copy: Pipeline,
    pub count: Pipeline,
    /// Of a matrix with 8 rows.
    pub square: Pipeline,
}

/// Which buffers Metal orders the users of.
pub const UNTRACKED: MTLResourceOptions = MTLResourceOptions(
    MTLResourceOptions::StorageModeShared.0 | MTLResourceOptions::HazardTrackingModeUntracked.0,
);
pub const TRACKED: MTLResourceOptions = MTLResourceOptions(
    MTLResourceOptions::StorageModeShared.0 | MTLResourceOptions::HazardTrackingModeTracked.0,
);

impl Gpu {
    pub fn new() -> Self {
        let device = MTLCreateSystemDefaultDevice().expect("the simulator has a device");
        let source = NSString::from_str(SOURCE);
        let library = device.newLibraryWithSource_options_error(&source, None);
        let library = library.expect("the source compiles");
        let pipeline = |name: &str| {
            let function = library.newFunctionWithName(&NSString::from_str(name));
            let function = function.expect("the kernel is there");
            let pipeline = device.newComputePipelineStateWithFunction_error(&function);
            pipeline.expect("the kernel compiles")
        };
        Self {
            queue: device.newCommandQueue().unwrap(),
            other: device.newCommandQueue().unwrap(),
            fill: pipeline("fill"),
            twice: pipeline("twice"),
            copy: pipeline("copy"),
            count: pipeline("count"),
            square: pipeline("square"),
            device,
        }
    }

    pub fn buffer(&self, label: &str, options: MTLResourceOptions) -> Buffer {
        let buffer = self.device.newBufferWithLength_options(COUNT * 4, options);
        let buffer = buffer.expect("memory");
        buffer.setLabel(Some(&NSString::from_str(label)));
        buffer
    }

    pub fn untracked(&self, label: &str) -> Buffer {
        self.buffer(label, UNTRACKED)
    }

    pub fn commands(&self) -> Commands {
        self.queue.commandBuffer().unwrap()
    }

    pub fn fence(&self) -> Fence {
        self.device.newFence().unwrap()
    }

    pub fn event(&self) -> Retained<ProtocolObject<dyn MTLEvent>> {
        self.device.newEvent().unwrap()
    }

    pub fn shared_event(&self) -> Retained<ProtocolObject<dyn MTLSharedEvent>> {
        self.device.newSharedEvent().unwrap()
    }

    /// A kernel on the first `count` floats of these buffers.
    pub fn dispatch(
        &self,
        encoder: &Compute,
        kernel: &Pipeline,
        buffers: &[&Buffer],
        count: usize,
    ) {
        encoder.setComputePipelineState(kernel);
        for (index, buffer) in buffers.iter().enumerate() {
            // SAFETY: the kernels have so many buffers.
            unsafe { encoder.setBuffer_offset_atIndex(Some(buffer), 0, index) };
        }
        encoder.dispatchThreads_threadsPerThreadgroup(size(count), size(32));
    }

    /// Writes to a buffer.
    pub fn fill(&self, encoder: &Compute, buffer: &Buffer) {
        self.dispatch(encoder, &self.fill, &[buffer], COUNT);
    }

    /// Reads and writes a buffer.
    pub fn twice(&self, encoder: &Compute, buffer: &Buffer) {
        self.dispatch(encoder, &self.twice, &[buffer], COUNT);
    }

    /// Counts in the first elements of a buffer, by atomic functions.
    pub fn count(&self, encoder: &Compute, buffer: &Buffer) {
        self.dispatch(encoder, &self.count, &[buffer], COUNT);
    }

    /// Reads a buffer into another.
    pub fn copy(&self, encoder: &Compute, to: &Buffer, from: &Buffer) {
        self.dispatch(encoder, &self.copy, &[to, from], COUNT);
    }

    /// An encoder with one thing in it.
    pub fn pass(&self, commands: &Commands, label: &str, work: impl FnOnce(&Compute)) {
        let encoder = commands.computeCommandEncoder().unwrap();
        encoder.setLabel(Some(&NSString::from_str(label)));
        work(&encoder);
        encoder.endEncoding();
    }
}

/// An encoder whose dispatches may overlap.
pub fn concurrent(commands: &Commands) -> Compute {
    let encoder = commands.computeCommandEncoderWithDispatchType(MTLDispatchType::Concurrent);
    encoder.unwrap()
}

/// Fills a buffer by a blit encoder.
pub fn blit_fill(commands: &Commands, buffer: &Buffer, wait: Option<&Fence>) {
    let blit = commands.blitCommandEncoder().unwrap();
    if let Some(fence) = wait {
        blit.waitForFence(fence);
    }
    blit.fillBuffer_range_value(buffer, whole(buffer), 0);
    blit.endEncoding();
}

pub fn whole(buffer: &Buffer) -> NSRange {
    NSRange {
        location: 0,
        length: buffer.length(),
    }
}

pub fn finish(commands: &Commands) {
    commands.commit();
    commands.waitUntilCompleted();
}

/// Two buffers of the queue, of which the first is committed before the second is encoded.
pub fn two(gpu: &Gpu, first: impl FnOnce(&Commands), second: impl FnOnce(&Commands)) {
    let both = [gpu.commands(), gpu.commands()];
    first(&both[0]);
    both[0].commit();
    second(&both[1]);
    finish(&both[1]);
}

/// What is in a shared buffer.
pub fn floats(buffer: &Buffer) -> Vec<f32> {
    let start = buffer.contents().as_ptr().cast::<f32>();
    // SAFETY: shared, and as long as this.
    (0..COUNT)
        .map(|at| unsafe { start.add(at).read() })
        .collect()
}
