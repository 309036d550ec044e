//! What it costs to look for hazards: 10,000 small dispatches, in order without the detector, and in every mode with it.
//! `cargo bench -p metal-sim --bench hazards`

// Benchmarks use the raw bindings, as a Metal program would.
#![allow(unsafe_code)]

#[path = "../tests/support/mod.rs"]
mod support;

use metal_sim::{Order, rules};
use objc2::rc::{Retained, autoreleasepool};
use objc2::runtime::ProtocolObject;
use objc2_foundation::NSString;
use objc2_metal::{
    MTLBarrierScope, MTLBuffer, MTLCommandBuffer, MTLCommandEncoder, MTLCommandQueue,
    MTLComputeCommandEncoder, MTLComputePipelineState, MTLCreateSystemDefaultDevice, MTLDevice,
    MTLDispatchType, MTLLibrary, MTLResourceOptions,
};
use std::time::{Duration, Instant};
use support::size;

const DISPATCHES: usize = 10_000;
/// As many as Candle has in a command buffer.
const PER_BUFFER: usize = 50;
const ROUNDS: usize = 5;

const SOURCE: &str = "
#include <metal_stdlib>
using namespace metal;
kernel void add(device float* x, uint i [[thread_position_in_grid]]) { x[i] += 1; }
";

struct Work {
    queue: Retained<ProtocolObject<dyn MTLCommandQueue>>,
    pipeline: Retained<ProtocolObject<dyn MTLComputePipelineState>>,
    buffers: Vec<Retained<ProtocolObject<dyn MTLBuffer>>>,
    fence: Retained<ProtocolObject<dyn objc2_metal::MTLFence>>,
}

impl Work {
    /// The kernel is compiled as the switches say now.
    fn new() -> Self {
        let device = MTLCreateSystemDefaultDevice().unwrap();
        let library = device.newLibraryWithSource_options_error(&NSString::from_str(SOURCE), None);
        let function = library
            .unwrap()
            .newFunctionWithName(&NSString::from_str("add"));
        let pipeline = device.newComputePipelineStateWithFunction_error(&function.unwrap());
        let options = MTLResourceOptions::HazardTrackingModeUntracked;
        let buffer = |_| device.newBufferWithLength_options(256, options).unwrap();
        Self {
            queue: device.newCommandQueue().unwrap(),
            pipeline: pipeline.unwrap(),
            buffers: (0..8).map(buffer).collect(),
            fence: device.newFence().unwrap(),
        }
    }

    /// Concurrent encoders like Candle's: a barrier where a buffer comes again, a fence from one to the next.
    fn run(&self) {
        let (one, group) = (size(64), size(32));
        let mut last = None;
        for _ in 0..DISPATCHES / PER_BUFFER {
            autoreleasepool(|_| {
                let commands = self.queue.commandBuffer().unwrap();
                let encoder = commands
                    .computeCommandEncoderWithDispatchType(MTLDispatchType::Concurrent)
                    .unwrap();
                encoder.waitForFence(&self.fence);
                encoder.setComputePipelineState(&self.pipeline);
                for at in 0..PER_BUFFER {
                    if at > 0 && at % self.buffers.len() == 0 {
                        encoder.memoryBarrierWithScope(MTLBarrierScope::Buffers);
                    }
                    let buffer = &self.buffers[at % self.buffers.len()];
                    // SAFETY: the kernel has one buffer.
                    unsafe { encoder.setBuffer_offset_atIndex(Some(buffer), 0, 0) };
                    encoder.dispatchThreads_threadsPerThreadgroup(one, group);
                }
                encoder.updateFence(&self.fence);
                encoder.endEncoding();
                commands.commit();
                last = Some(commands);
            });
        }
        last.unwrap().waitUntilCompleted();
    }
}

fn median(work: &Work) -> Duration {
    work.run();
    let mut times: Vec<_> = (0..ROUNDS)
        .map(|_| {
            let start = Instant::now();
            work.run();
            start.elapsed()
        })
        .collect();
    times.sort();
    times[ROUNDS / 2]
}

fn main() {
    let plain = median(&Work::new());
    println!("{DISPATCHES} dispatches in order, hazards off: {plain:?}");
    rules::choose(|rules| rules.hazards = true);
    let work = Work::new();
    for order in [Order::InOrder, Order::Apple, Order::Seed(1)] {
        rules::choose(|rules| rules.order = order);
        let time = median(&work);
        let ratio = time.as_secs_f64() / plain.as_secs_f64();
        println!(
            "{DISPATCHES} dispatches, order {order}, hazards on: {time:?}, {ratio:.1} times as long"
        );
    }
}
