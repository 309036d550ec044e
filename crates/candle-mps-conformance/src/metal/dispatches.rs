//! What Metal's debug layer asks of a dispatch: a grid, threadgroup memory and bindings that the kernel can do with.

use super::cases;
use super::kernels::{Encoder, pipeline, run, size};
use crate::Expect::{Ends, Holds, Undefined};
use crate::{Machine, NotHere};
use objc2_metal::{MTLComputeCommandEncoder, MTLDevice, MTLSize};
use std::ptr::NonNull;

cases! {
    "dispatch: a grid may be larger than the device has threads": Holds => many_groups,
    "dispatch: no threadgroups": Ends("is empty") => no_groups,
    "dispatch: no threads": Ends("is empty") => no_threads,
    "dispatch: more threadgroup memory than there is, together": Ends("threadgroup memory") => too_much_memory,
    "dispatch: threadgroup memory without a length": Ends("has no memory") => no_memory,
    "dispatch: fewer bytes than the argument has": Ends("needs 4 bytes") => too_few_bytes,
    "dispatch: a buffer that is too short behind its offset": Ends("needs 4 bytes") => short_buffer,
    "dispatch: an offset between elements": Undefined("offset alignment") => odd_offset,
    "dispatch: an indirect size at an odd offset": Ends("dispatchThreadgroupsWithIndirectBuffer") => odd_indirect,
    "dispatch: an indirect size past the end": Ends("dispatchThreadgroupsWithIndirectBuffer") => indirect_outside,
}

const WIDTH: u32 = 5;

/// Encodes a dispatch of a kernel over a buffer of 64 KiB.
fn encode(machine: &Machine, kernel: &str, encode: impl FnOnce(&Encoder)) {
    let (pipeline, buffer) = (pipeline(machine, kernel), machine.shared(1 << 16));
    run(machine, &pipeline, &buffer, encode);
}

/// Encodes a dispatch of a kernel that has all it needs, on a grid.
fn on_grid(machine: &Machine, dispatch: impl FnOnce(&Encoder)) {
    encode(machine, "small", dispatch);
}

fn dispatch(encoder: &Encoder, groups: usize, threads: usize) {
    encoder.dispatchThreadgroups_threadsPerThreadgroup(size(groups), size(threads));
}

fn many_groups(machine: &Machine) -> Result<(), NotHere> {
    on_grid(machine, |encoder| dispatch(encoder, 512, 32));
    Ok(())
}

fn no_groups(machine: &Machine) -> Result<(), NotHere> {
    on_grid(machine, |encoder| dispatch(encoder, 0, 32));
    Ok(())
}

fn no_threads(machine: &Machine) -> Result<(), NotHere> {
    let grid = MTLSize {
        width: 32,
        height: 0,
        depth: 1,
    };
    on_grid(machine, |encoder| {
        encoder.dispatchThreads_threadsPerThreadgroup(grid, size(32));
    });
    Ok(())
}

fn too_much_memory(machine: &Machine) -> Result<(), NotHere> {
    let most = machine.device().maxThreadgroupMemoryLength();
    // SAFETY: each length is allowed; that both are too much is the test.
    encode(machine, "reversed", |encoder| unsafe {
        encoder.setThreadgroupMemoryLength_atIndex(most, 0);
        encoder.setThreadgroupMemoryLength_atIndex(1024, 1);
        dispatch(encoder, 1, 32);
    });
    Ok(())
}

fn no_memory(machine: &Machine) -> Result<(), NotHere> {
    encode(machine, "reversed", |encoder| dispatch(encoder, 1, 32));
    Ok(())
}

fn too_few_bytes(machine: &Machine) -> Result<(), NotHere> {
    // SAFETY: two bytes are there; that the kernel has four is the test.
    encode(machine, "numbers", |encoder| unsafe {
        encoder.setBytes_length_atIndex(NonNull::from(&WIDTH).cast(), 2, 1);
        dispatch(encoder, 1, 32);
    });
    Ok(())
}

fn short_buffer(machine: &Machine) -> Result<(), NotHere> {
    let short = machine.shared(6);
    // SAFETY: the offset is inside the buffer; that two bytes are left is the test.
    encode(machine, "numbers", |encoder| unsafe {
        encoder.setBuffer_offset_atIndex(Some(&short), 4, 1);
        dispatch(encoder, 1, 32);
    });
    Ok(())
}

fn odd_offset(machine: &Machine) -> Result<(), NotHere> {
    let buffer = machine.shared(1 << 12);
    // SAFETY: the offset is inside the buffer; that it is between two numbers is the test.
    encode(machine, "small", |encoder| unsafe {
        encoder.setBuffer_offset_atIndex(Some(&buffer), 2, 0);
        dispatch(encoder, 1, 32);
    });
    Ok(())
}

/// A dispatch whose size is at an offset into a buffer of 16 bytes.
fn indirect(machine: &Machine, offset: usize) {
    let groups = machine.filled(&[1u32; 4]);
    // SAFETY: the buffer is valid; that the offset is not is the test.
    encode(machine, "small", |encoder| unsafe {
        encoder.dispatchThreadgroupsWithIndirectBuffer_indirectBufferOffset_threadsPerThreadgroup(
            &groups,
            offset,
            size(32),
        );
    });
}

fn odd_indirect(machine: &Machine) -> Result<(), NotHere> {
    indirect(machine, 2);
    Ok(())
}

fn indirect_outside(machine: &Machine) -> Result<(), NotHere> {
    indirect(machine, 8);
    Ok(())
}
