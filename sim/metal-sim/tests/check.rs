//! An encoder that reads what another one has written: with the fence between them, and without.

#![allow(unsafe_code)]

use metal_sim::Check;
use objc2::rc::{Retained, autoreleasepool};
use objc2::runtime::ProtocolObject;
use objc2_foundation::NSString;
use objc2_metal::{
    MTLBuffer, MTLCommandBuffer, MTLCommandEncoder, MTLCommandQueue, MTLComputeCommandEncoder,
    MTLCreateSystemDefaultDevice, MTLDevice, MTLLibrary, MTLResource, MTLResourceOptions, MTLSize,
};

const SOURCE: &str = "
#include <metal_stdlib>
using namespace metal;
kernel void fill(device float* x, uint i [[thread_position_in_grid]]) { x[i] = i; }
kernel void twice(device float* x, uint i [[thread_position_in_grid]]) { x[i] = 2 * x[i]; }
";

/// Floats in the buffer, and threads of a kernel.
const COUNT: usize = 64;

/// What is under test: two encoders and a buffer that Metal does not track.
fn program(fenced: bool) -> Vec<f32> {
    let device = MTLCreateSystemDefaultDevice().expect("a device");
    let queue = device.newCommandQueue().expect("a queue");
    let fence = device.newFence().expect("a fence");
    let shared = MTLResourceOptions::StorageModeShared;
    let untracked = shared | MTLResourceOptions::HazardTrackingModeUntracked;
    let data = device.newBufferWithLength_options(COUNT * 4, untracked);
    let data = data.expect("memory");
    data.setLabel(Some(&NSString::from_str("data")));
    let library = device.newLibraryWithSource_options_error(&NSString::from_str(SOURCE), None);
    let library = library.expect("the source compiles");

    let commands = queue.commandBuffer().expect("a command buffer");
    let begin = |label: &str| -> Retained<ProtocolObject<dyn MTLComputeCommandEncoder>> {
        let encoder = commands.computeCommandEncoder().expect("an encoder");
        encoder.setLabel(Some(&NSString::from_str(label)));
        encoder
    };
    let run = |encoder: &ProtocolObject<dyn MTLComputeCommandEncoder>, kernel: &str| {
        let function = library.newFunctionWithName(&NSString::from_str(kernel));
        let function = function.expect("the kernel is there");
        let pipeline = device.newComputePipelineStateWithFunction_error(&function);
        encoder.setComputePipelineState(&pipeline.expect("a pipeline"));
        // SAFETY: the kernels have one buffer, of as many floats as there are threads.
        unsafe { encoder.setBuffer_offset_atIndex(Some(&data), 0, 0) };
        let [threads, group] = [COUNT, 32].map(|width| MTLSize {
            width,
            height: 1,
            depth: 1,
        });
        encoder.dispatchThreads_threadsPerThreadgroup(threads, group);
    };
    let encoder = begin("A");
    run(&encoder, "fill");
    encoder.updateFence(&fence);
    encoder.endEncoding();
    let encoder = begin("B");
    if fenced {
        encoder.waitForFence(&fence);
    }
    run(&encoder, "twice");
    encoder.endEncoding();
    commands.commit();
    commands.waitUntilCompleted();

    let contents = data.contents().as_ptr().cast::<f32>();
    // SAFETY: shared, of so many floats, and the GPU is done with them.
    unsafe { std::slice::from_raw_parts(contents, COUNT) }.to_vec()
}

#[test]
fn with_the_fence_nothing_is_found() {
    metal_sim::check(|| autoreleasepool(|_| assert_eq!(program(true)[3], 6.0)));
}

#[test]
fn without_the_fence_it_is_found() {
    let missing = "no fence, event or barrier orders encoder “B” after encoder “A”";
    let check = Check::new().expect(missing);
    check.run(|| autoreleasepool(|_| drop(program(false))));
}
