//! Kernels: libraries from source, functions and their constants, pipelines with their limits, and what a dispatch
//! gives each thread.

use super::cases;
use crate::Expect::{Ends, Holds};
use crate::machine::{Buffer, contents};
use crate::{Machine, NotHere};
use objc2::rc::Retained;
use objc2::runtime::ProtocolObject;
use objc2_foundation::NSString;
use objc2_metal::{
    MTLCommandBuffer, MTLCommandEncoder, MTLComputeCommandEncoder, MTLComputePipelineState,
    MTLDataType, MTLDevice, MTLFunction, MTLFunctionConstantValues, MTLLibrary, MTLSize,
};
use std::ptr::NonNull;

cases! {
    "kernels: a library lists its functions": Holds => names,
    "kernels: a source that does not compile is an error with the line": Holds => broken_source,
    "kernels: a function that is not there is nil": Holds => no_function,
    "kernels: a pipeline has limits": Holds => limits,
    "kernels: every thread of threadgroups has its numbers": Holds => threadgroups,
    "kernels: a grid of threads has smaller threadgroups at its edges": Holds => threads,
    "kernels: an indirect dispatch reads its size when it runs": Holds => indirect,
    "kernels: threadgroup memory is shared and barriers order it": Holds => shared_memory,
    "kernels: function constants choose": Holds => constants,
    "kernels: a missing function constant is an error": Holds => missing_constant,
    "kernels: nobody looks at what is bound for an argument that a constant turns off": Holds => argument_off,
    "kernels: dispatches of a serial encoder see each other's results": Holds => in_order,
    "kernels: a threadgroup larger than the pipeline allows": Ends("dispatchThreadgroups") => too_large,
    "kernels: an empty threadgroup": Ends("dispatchThreadgroups") => empty,
    "kernels: an argument that is used without a buffer": Ends("not bound") => unbound,
}

const SOURCE: &str = "
#include <metal_stdlib>
using namespace metal;

constant uint factor [[function_constant(0)]];
constant bool doubled [[function_constant(1)]];

kernel void numbers(device uint* out [[buffer(0)]], constant uint& width [[buffer(1)]],
                    uint i [[thread_position_in_grid]], uint in [[thread_position_in_threadgroup]],
                    uint group [[threadgroup_position_in_grid]], uint size [[threads_per_threadgroup]],
                    uint all [[threads_per_grid]]) {
    device uint* mine = out + i * width;
    mine[0] = i;
    mine[1] = in;
    mine[2] = group;
    mine[3] = size;
    mine[4] = all;
}

kernel void reversed(device uint* data [[buffer(0)]], threadgroup uint* shared [[threadgroup(0)]],
                     uint i [[thread_position_in_threadgroup]], uint size [[threads_per_threadgroup]]) {
    shared[i] = data[i];
    threadgroup_barrier(mem_flags::mem_threadgroup);
    data[i] = shared[size - 1 - i];
}

kernel void scaled(device uint* data [[buffer(0)]], uint i [[thread_position_in_grid]]) {
    data[i] = data[i] * factor * (doubled ? 2 : 1);
}

kernel void added(device uint* data [[buffer(0)]], device const uint* more [[buffer(1), function_constant(doubled)]],
                  uint i [[thread_position_in_grid]]) {
    data[i] += doubled ? more[i] : 7;
}

kernel void small(device uint* data [[buffer(0)]], uint i [[thread_position_in_grid]]) {
    data[i] += 1;
}
";

pub(crate) type Library = Retained<ProtocolObject<dyn MTLLibrary>>;
pub(crate) type Pipeline = Retained<ProtocolObject<dyn MTLComputePipelineState>>;
pub(crate) type Encoder = ProtocolObject<dyn MTLComputeCommandEncoder>;

pub(crate) fn library(machine: &Machine) -> Library {
    let source = NSString::from_str(SOURCE);
    let made = machine
        .device()
        .newLibraryWithSource_options_error(&source, None);
    made.unwrap_or_else(|error| panic!("{error}"))
}

pub(crate) fn pipeline(machine: &Machine, name: &str) -> Pipeline {
    let function = library(machine).newFunctionWithName(&NSString::from_str(name));
    let function = function.expect("the function is there");
    let made = machine
        .device()
        .newComputePipelineStateWithFunction_error(&function);
    made.unwrap_or_else(|error| panic!("{error}"))
}

pub(crate) fn size(width: usize) -> MTLSize {
    MTLSize {
        width,
        height: 1,
        depth: 1,
    }
}

/// Encodes with a pipeline, runs, waits.
pub(crate) fn run(
    machine: &Machine,
    pipeline: &Pipeline,
    buffer: &Buffer,
    encode: impl FnOnce(&Encoder),
) {
    let commands = machine.commands();
    let encoder = commands.computeCommandEncoder().expect("an encoder");
    encoder.setComputePipelineState(pipeline);
    // SAFETY: the buffer is there and long enough for the kernel, which every body sees to.
    unsafe { encoder.setBuffer_offset_atIndex(Some(buffer), 0, 0) };
    encode(&encoder);
    encoder.endEncoding();
    commands.commit();
    commands.waitUntilCompleted();
}

fn names(machine: &Machine) -> Result<(), NotHere> {
    let mut names: Vec<String> = library(machine)
        .functionNames()
        .iter()
        .map(|name| name.to_string())
        .collect();
    names.sort();
    assert_eq!(names, ["added", "numbers", "reversed", "scaled", "small"]);
    Ok(())
}

fn broken_source(machine: &Machine) -> Result<(), NotHere> {
    let source = NSString::from_str("#include <metal_stdlib>\n\nkernel void f() { nothing; }\n");
    let made = machine
        .device()
        .newLibraryWithSource_options_error(&source, None);
    let error = made.expect_err("it does not compile").to_string();
    assert!(
        error.contains(":3:") && error.contains("nothing"),
        "{error}"
    );
    Ok(())
}

fn no_function(machine: &Machine) -> Result<(), NotHere> {
    let function = library(machine).newFunctionWithName(&NSString::from_str("other"));
    assert!(function.is_none());
    Ok(())
}

fn limits(machine: &Machine) -> Result<(), NotHere> {
    let pipeline = pipeline(machine, "small");
    assert_eq!(pipeline.threadExecutionWidth(), 32);
    let most = pipeline.maxTotalThreadsPerThreadgroup();
    assert!((32..=1024).contains(&most), "{most}");
    assert_eq!(pipeline.staticThreadgroupMemoryLength(), 0);
    let function = library(machine).newFunctionWithName(&NSString::from_str("small"));
    assert_eq!(function.expect("a function").name().to_string(), "small");
    Ok(())
}

/// What the kernel `numbers` writes for each thread.
const WIDTH: u32 = 5;

fn written(buffer: &Buffer, threads: usize) -> Vec<[u32; WIDTH as usize]> {
    let values = contents::<u32>(buffer);
    let rows = values.chunks_exact(WIDTH as usize).take(threads);
    rows.map(|row| row.try_into().expect("a row")).collect()
}

fn set_width(encoder: &Encoder) {
    // SAFETY: four bytes for a reference to a uint.
    unsafe { encoder.setBytes_length_atIndex(NonNull::from(&WIDTH).cast(), 4, 1) };
}

fn threadgroups(machine: &Machine) -> Result<(), NotHere> {
    let pipeline = pipeline(machine, "numbers");
    let buffer = machine.filled(&[0u32; 3 * 40 * WIDTH as usize]);
    run(machine, &pipeline, &buffer, |encoder| {
        set_width(encoder);
        encoder.dispatchThreadgroups_threadsPerThreadgroup(size(3), size(40));
    });
    for (at, row) in written(&buffer, 120).into_iter().enumerate() {
        let at = at as u32;
        assert_eq!(row, [at, at % 40, at / 40, 40, 120]);
    }
    Ok(())
}

fn threads(machine: &Machine) -> Result<(), NotHere> {
    let pipeline = pipeline(machine, "numbers");
    let buffer = machine.filled(&[0u32; 100 * WIDTH as usize]);
    run(machine, &pipeline, &buffer, |encoder| {
        set_width(encoder);
        encoder.dispatchThreads_threadsPerThreadgroup(size(100), size(32));
    });
    for (at, row) in written(&buffer, 100).into_iter().enumerate() {
        let at = at as u32;
        let here = if at < 96 { 32 } else { 4 };
        assert_eq!(row, [at, at % 32, at / 32, here, 100]);
    }
    Ok(())
}

fn indirect(machine: &Machine) -> Result<(), NotHere> {
    let pipeline = pipeline(machine, "small");
    let buffer = machine.filled(&[0u32; 128]);
    let groups = machine.filled(&[9u32, 2, 1, 1]);
    run(machine, &pipeline, &buffer, |encoder| {
        // SAFETY: three numbers lie at the offset.
        unsafe {
            encoder
                .dispatchThreadgroupsWithIndirectBuffer_indirectBufferOffset_threadsPerThreadgroup(
                    &groups,
                    4,
                    size(32),
                );
        }
    });
    let values = contents::<u32>(&buffer);
    assert!(values[..64].iter().all(|value| *value == 1));
    assert!(values[64..].iter().all(|value| *value == 0));
    Ok(())
}

fn shared_memory(machine: &Machine) -> Result<(), NotHere> {
    let pipeline = pipeline(machine, "reversed");
    let values: Vec<u32> = (0..256).collect();
    let buffer = machine.filled(&values);
    run(machine, &pipeline, &buffer, |encoder| {
        // SAFETY: as much as the kernel uses.
        unsafe { encoder.setThreadgroupMemoryLength_atIndex(1024, 0) };
        encoder.dispatchThreadgroups_threadsPerThreadgroup(size(1), size(256));
    });
    let reversed: Vec<u32> = (0..256).rev().collect();
    assert_eq!(contents::<u32>(&buffer), reversed);
    Ok(())
}

fn specialised(
    machine: &Machine,
    kernel: &str,
    set: impl FnOnce(&MTLFunctionConstantValues),
) -> Result<Pipeline, String> {
    let values = MTLFunctionConstantValues::new();
    set(&values);
    let name = NSString::from_str(kernel);
    let function = library(machine).newFunctionWithName_constantValues_error(&name, &values);
    let function = function.map_err(|error| error.to_string())?;
    let made = machine
        .device()
        .newComputePipelineStateWithFunction_error(&function);
    made.map_err(|error| error.to_string())
}

fn constants(machine: &Machine) -> Result<(), NotHere> {
    let of = |factor: u32, doubled: bool| {
        let made = specialised(machine, "scaled", |values| {
            // SAFETY: values of the types that are named.
            unsafe {
                let factor = NonNull::from(&factor).cast();
                values.setConstantValue_type_atIndex(factor, MTLDataType::UInt, 0);
                let doubled = NonNull::from(&doubled).cast();
                values.setConstantValue_type_atIndex(doubled, MTLDataType::Bool, 1);
            }
        });
        made.unwrap_or_else(|error| panic!("{error}"))
    };
    // Two pipelines of one function, each with its own.
    let (three, ten) = (of(3, false), of(5, true));
    let buffer = machine.filled(&[1u32; 32]);
    for (pipeline, expected) in [(&three, 3), (&ten, 30), (&three, 90)] {
        run(machine, pipeline, &buffer, |encoder| {
            encoder.dispatchThreadgroups_threadsPerThreadgroup(size(1), size(32));
        });
        assert_eq!(contents::<u32>(&buffer), [expected; 32]);
    }
    Ok(())
}

fn missing_constant(machine: &Machine) -> Result<(), NotHere> {
    let made = specialised(machine, "scaled", |values| {
        let doubled = true;
        // SAFETY: a value of that type.
        unsafe {
            let doubled = NonNull::from(&doubled).cast();
            values.setConstantValue_type_atIndex(doubled, MTLDataType::Bool, 1);
        }
    });
    assert!(made.is_err());
    Ok(())
}

fn argument_off(machine: &Machine) -> Result<(), NotHere> {
    for doubled in [false, true] {
        let made = specialised(machine, "added", |values| {
            // SAFETY: a value of that type.
            unsafe {
                let doubled = NonNull::from(&doubled).cast();
                values.setConstantValue_type_atIndex(doubled, MTLDataType::Bool, 1);
            }
        });
        let pipeline = made.unwrap_or_else(|error| panic!("{error}"));
        let (buffer, more) = (machine.filled(&[1u32; 32]), machine.filled(&[3u32; 33]));
        run(machine, &pipeline, &buffer, |encoder| {
            // What somebody else left there need not fit.
            let offset = if doubled { 4 } else { 2 };
            // SAFETY: as many numbers as there are threads, if the argument is there.
            unsafe { encoder.setBuffer_offset_atIndex(Some(&more), offset, 1) };
            encoder.dispatchThreadgroups_threadsPerThreadgroup(size(1), size(32));
        });
        let expected = if doubled { 4 } else { 8 };
        assert_eq!(contents::<u32>(&buffer), [expected; 32]);
    }
    Ok(())
}

fn in_order(machine: &Machine) -> Result<(), NotHere> {
    let pipeline = pipeline(machine, "small");
    let buffer = machine.filled(&[0u32; 64]);
    run(machine, &pipeline, &buffer, |encoder| {
        for _ in 0..10 {
            encoder.dispatchThreadgroups_threadsPerThreadgroup(size(2), size(32));
        }
    });
    assert_eq!(contents::<u32>(&buffer), [10; 64]);
    Ok(())
}

fn too_large(machine: &Machine) -> Result<(), NotHere> {
    let pipeline = pipeline(machine, "small");
    let buffer = machine.shared(1 << 16);
    let too_many = pipeline.maxTotalThreadsPerThreadgroup() + 1;
    run(machine, &pipeline, &buffer, |encoder| {
        encoder.dispatchThreadgroups_threadsPerThreadgroup(size(1), size(too_many));
    });
    Ok(())
}

fn empty(machine: &Machine) -> Result<(), NotHere> {
    let pipeline = pipeline(machine, "small");
    let buffer = machine.shared(64);
    run(machine, &pipeline, &buffer, |encoder| {
        encoder.dispatchThreadgroups_threadsPerThreadgroup(size(1), size(0));
    });
    Ok(())
}

fn unbound(machine: &Machine) -> Result<(), NotHere> {
    let pipeline = pipeline(machine, "small");
    let buffer = machine.shared(64);
    run(machine, &pipeline, &buffer, |encoder| {
        // SAFETY: nothing is bound, which is the test.
        unsafe { encoder.setBuffer_offset_atIndex(None, 0, 0) };
        encoder.dispatchThreadgroups_threadsPerThreadgroup(size(1), size(1));
    });
    Ok(())
}
