//! Compute encoders, as far as no kernel is needed: bindings and what a dispatch has to have.

use super::cases;
use crate::Expect::{Ends, Holds};
use crate::{Machine, NotHere};
use objc2::runtime::ProtocolObject;
use objc2_metal::{
    MTLBarrierScope, MTLCommandBuffer, MTLCommandEncoder, MTLComputeCommandEncoder, MTLDevice,
    MTLDispatchType, MTLResourceUsage, MTLSize,
};
use std::ptr::NonNull;

cases! {
    "compute: bindings and barriers without a dispatch do nothing": Holds => bindings,
    "compute: setBytes takes at most 4096 bytes": Ends("setBytes") => too_many_bytes,
    "compute: setBytes takes at least one": Ends("setBytes") => no_bytes,
    "compute: a buffer offset past the end": Ends("setBuffer") => offset_outside,
    "compute: a moved offset past the end": Ends("setBufferOffset") => moved_outside,
    "compute: moving the offset of nothing": Ends("setBufferOffset") => moved_nothing,
    "compute: there are 31 buffer slots": Ends("buffer slots") => slot_32,
    "compute: threadgroup memory comes in 16 bytes": Ends("setThreadgroupMemoryLength") => odd_memory,
    "compute: a threadgroup has so much memory": Ends("setThreadgroupMemoryLength") => too_much_memory,
    "compute: a dispatch without a pipeline": Ends("no compute pipeline") => no_pipeline,
}

type Compute = ProtocolObject<dyn MTLComputeCommandEncoder>;

fn compute(machine: &Machine, encode: impl FnOnce(&Compute)) {
    let commands = machine.commands();
    let kind = MTLDispatchType::Concurrent;
    let encoder = commands
        .computeCommandEncoderWithDispatchType(kind)
        .expect("an encoder");
    encode(&encoder);
    encoder.endEncoding();
    commands.commit();
    commands.waitUntilCompleted();
}

fn bindings(machine: &Machine) -> Result<(), NotHere> {
    let buffer = machine.shared(64);
    compute(machine, |encoder| {
        // SAFETY: the buffer, the bytes and the indices are valid.
        unsafe {
            encoder.setBuffer_offset_atIndex(Some(&buffer), 32, 0);
            encoder.setBufferOffset_atIndex(63, 0);
            encoder.setBuffer_offset_atIndex(None, 0, 0);
            encoder.setBytes_length_atIndex(NonNull::from(&[0u8; 4096]).cast(), 4096, 30);
            encoder.setThreadgroupMemoryLength_atIndex(1024, 0);
        }
        encoder.useResource_usage(ProtocolObject::from_ref(&*buffer), MTLResourceUsage::Read);
        encoder.memoryBarrierWithScope(MTLBarrierScope::Buffers);
    });
    Ok(())
}

fn too_many_bytes(machine: &Machine) -> Result<(), NotHere> {
    let bytes = [0u8; 4097];
    // SAFETY: the bytes are valid; that they are too many is the test.
    compute(machine, |encoder| unsafe {
        encoder.setBytes_length_atIndex(NonNull::from(&bytes).cast(), bytes.len(), 0);
    });
    Ok(())
}

fn no_bytes(machine: &Machine) -> Result<(), NotHere> {
    // SAFETY: the pointer is valid; that there is nothing behind it is the test.
    compute(machine, |encoder| unsafe {
        encoder.setBytes_length_atIndex(NonNull::from(&0u8).cast(), 0, 0);
    });
    Ok(())
}

fn offset_outside(machine: &Machine) -> Result<(), NotHere> {
    let buffer = machine.shared(64);
    // SAFETY: the buffer is valid; that the offset is not is the test.
    compute(machine, |encoder| unsafe {
        encoder.setBuffer_offset_atIndex(Some(&buffer), 64, 0)
    });
    Ok(())
}

fn moved_outside(machine: &Machine) -> Result<(), NotHere> {
    let buffer = machine.shared(64);
    // SAFETY: as above.
    compute(machine, |encoder| unsafe {
        encoder.setBuffer_offset_atIndex(Some(&buffer), 0, 0);
        encoder.setBufferOffset_atIndex(64, 0);
    });
    Ok(())
}

fn moved_nothing(machine: &Machine) -> Result<(), NotHere> {
    // SAFETY: nothing is bound, which is the test.
    compute(machine, |encoder| unsafe {
        encoder.setBufferOffset_atIndex(0, 3)
    });
    Ok(())
}

fn slot_32(machine: &Machine) -> Result<(), NotHere> {
    let buffer = machine.shared(64);
    // SAFETY: the buffer is valid; that the slot is not is the test.
    compute(machine, |encoder| unsafe {
        encoder.setBuffer_offset_atIndex(Some(&buffer), 0, 31)
    });
    Ok(())
}

fn odd_memory(machine: &Machine) -> Result<(), NotHere> {
    // SAFETY: the length is the test.
    compute(machine, |encoder| unsafe {
        encoder.setThreadgroupMemoryLength_atIndex(20, 0)
    });
    Ok(())
}

fn too_much_memory(machine: &Machine) -> Result<(), NotHere> {
    let most = machine.device().maxThreadgroupMemoryLength();
    // SAFETY: the length is the test.
    compute(machine, |encoder| unsafe {
        encoder.setThreadgroupMemoryLength_atIndex(most + 16, 0);
    });
    Ok(())
}

fn no_pipeline(machine: &Machine) -> Result<(), NotHere> {
    let one = MTLSize {
        width: 1,
        height: 1,
        depth: 1,
    };
    compute(machine, |encoder| {
        encoder.dispatchThreadgroups_threadsPerThreadgroup(one, one)
    });
    Ok(())
}
