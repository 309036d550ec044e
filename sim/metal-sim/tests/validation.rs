//! The switches of validation: what each lets through, and what it stops.

// These tests use the raw bindings, as a Metal program would.
#![allow(unsafe_code)]

mod support;

use candle_core::{DType, Device, Tensor};
use metal_sim::rules::{self, Rules, Verdict};
use objc2::rc::{Retained, autoreleasepool};
use objc2::runtime::ProtocolObject;
use objc2_foundation::NSString;
use objc2_metal::{
    MTLBlitCommandEncoder, MTLBuffer, MTLCommandBuffer, MTLCommandEncoder, MTLCommandQueue,
    MTLComputeCommandEncoder, MTLCreateSystemDefaultDevice, MTLDevice, MTLLibrary,
    MTLResourceOptions,
};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::NonNull;
use std::sync::{Mutex, MutexGuard, PoisonError};
use support::size;

/// The switches are of the process, so the tests take turns.
fn alone() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

const SOURCE: &str = "
#include <metal_stdlib>
using namespace metal;
kernel void one(device float* data [[buffer(0)]], uint i [[thread_position_in_grid]]) {
    data[i] = 1;
}
template <typename T> kernel void any(device T* data [[buffer(0)]], uint i [[thread_position_in_grid]]) {
    data[i] = 1;
}
template [[host_name(\"any_half\")]] kernel void any<half>(device half*, uint);
";

type Compute = ProtocolObject<dyn MTLComputeCommandEncoder>;
type Buffer = ProtocolObject<dyn MTLBuffer>;

/// Encodes with a kernel and a buffer of 64 bytes, and runs it.
fn compute(kernel: &str, encode: impl FnOnce(&Compute, &Buffer)) {
    let device = MTLCreateSystemDefaultDevice().unwrap();
    let source = NSString::from_str(SOURCE);
    let library = device.newLibraryWithSource_options_error(&source, None);
    let function = library
        .unwrap()
        .newFunctionWithName(&NSString::from_str(kernel));
    let pipeline = device.newComputePipelineStateWithFunction_error(&function.unwrap());
    let shared = MTLResourceOptions::StorageModeShared;
    let buffer = device.newBufferWithLength_options(64, shared).unwrap();
    let commands = device.newCommandQueue().unwrap().commandBuffer().unwrap();
    let encoder = commands.computeCommandEncoder().unwrap();
    let open = Open(encoder);
    open.0.setComputePipelineState(&pipeline.unwrap());
    encode(&open.0, &buffer);
    drop(open);
    commands.commit();
    commands.waitUntilCompleted();
    assert!(commands.error().is_none());
}

/// Ends its encoder, also when a fault goes through.
struct Open(Retained<Compute>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.endEncoding();
    }
}

/// Accepted and warned of it goes on; as a fault it stops with these words.
fn switched(choose: fn(&mut Rules, Verdict), says: &str, misuse: impl Fn()) {
    let _alone = alone();
    let run = |verdict| {
        rules::choose(|rules| choose(rules, verdict));
        catch_unwind(AssertUnwindSafe(|| autoreleasepool(|_| misuse())))
    };
    let before = rules::rules();
    let outcomes = [Verdict::Accept, Verdict::Warn, Verdict::Fault].map(run);
    rules::choose(|rules| *rules = before.clone());
    let [accepted, warned, fault] = outcomes;
    assert!(accepted.is_ok() && warned.is_ok());
    let panic = fault.expect_err("a fault");
    let text = panic.downcast_ref::<String>().expect("a fault's text");
    assert!(text.contains(says), "{text}");
}

#[test]
fn no_bytes() {
    let choose = |rules: &mut Rules, verdict| rules.empty_bytes = verdict;
    // SAFETY: bindings that the kernel can do with.
    switched(choose, "setBytes:length:atIndex:", || unsafe {
        compute("one", |encoder, _| {
            encoder.setBytes_length_atIndex(NonNull::from(&0u8).cast(), 0, 0);
        });
    });
}

#[test]
fn an_empty_grid() {
    let choose = |rules: &mut Rules, verdict| rules.empty_grid = verdict;
    // SAFETY: as above.
    switched(
        choose,
        "threadgroupsPerGrid [0, 1, 1] is empty",
        || unsafe {
            compute("one", |encoder, buffer| {
                encoder.setBuffer_offset_atIndex(Some(buffer), 0, 0);
                encoder.dispatchThreadgroups_threadsPerThreadgroup(size(0), size(4));
            });
        },
    );
}

#[test]
fn an_offset_between_elements() {
    let choose = |rules: &mut Rules, verdict| rules.offset_alignment = verdict;
    let at = |kernel: &'static str, offset: usize| {
        // SAFETY: as above.
        move || unsafe {
            compute(kernel, |encoder, buffer| {
                encoder.setBuffer_offset_atIndex(Some(buffer), offset, 0);
                encoder.dispatchThreadgroups_threadsPerThreadgroup(size(1), size(4));
            });
        }
    };
    switched(
        choose,
        "not a multiple of 4: offset alignment",
        at("one", 6),
    );
    // Right ones, and what the name of the type does not tell.
    let _alone = alone();
    at("one", 8)();
    at("any_half", 6)();
}

#[test]
fn a_copy_of_odd_bytes() {
    let choose = |rules: &mut Rules, verdict| rules.copy_alignment = verdict;
    switched(choose, "copyFromBuffer alignment", || {
        let device = MTLCreateSystemDefaultDevice().unwrap();
        let shared = MTLResourceOptions::StorageModeShared;
        let buffer = || device.newBufferWithLength_options(64, shared).unwrap();
        let commands = device.newCommandQueue().unwrap().commandBuffer().unwrap();
        let blit = commands.blitCommandEncoder().unwrap();
        let (from, into) = (buffer(), buffer());
        let copied = catch_unwind(AssertUnwindSafe(|| {
            // SAFETY: inside both buffers.
            unsafe {
                blit.copyFromBuffer_sourceOffset_toBuffer_destinationOffset_size(
                    &from, 0, &into, 0, 7,
                );
            }
        }));
        blit.endEncoding();
        if let Err(fault) = copied {
            std::panic::resume_unwind(fault);
        }
    });
}

/// Of no empty grid: Candle stops before it. To be reported to Candle; this test tells when it changes.
#[test]
fn candle_panics_for_tensors_without_elements() {
    let _alone = alone();
    type Call = fn(&Tensor) -> candle_core::Result<Tensor>;
    let calls: [Call; 3] = [|x| x.sum(1), |x| x.to_dtype(DType::F16), |x| x.gt(0.)];
    for call in calls {
        let device = Device::new_metal(0).unwrap();
        let empty = Tensor::zeros((0, 3), DType::F32, &device).unwrap();
        let called = catch_unwind(AssertUnwindSafe(|| call(&empty).map(drop)));
        assert!(called.is_err());
        // What it leaves has an encoder that nobody can end.
        std::mem::forget((device, empty));
    }
}
