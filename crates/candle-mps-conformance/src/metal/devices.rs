//! What belongs to one device is of no use to another.

use super::cases;
use super::kernels::{library, size};
use crate::Expect::Ends;
use crate::machine::Buffer;
use crate::{Machine, NotHere};
use objc2::rc::Retained;
use objc2::runtime::ProtocolObject;
use objc2_foundation::NSString;
use objc2_metal::{
    MTLCommandBuffer, MTLCommandEncoder, MTLCommandQueue, MTLComputeCommandEncoder, MTLDevice,
    MTLLibrary, MTLResidencySet, MTLResidencySetDescriptor, MTLResource, MTLResourceOptions,
    MTLResourceUsage,
};

cases! {
    "devices: a binding of another device's buffer": Ends("another device") => binding,
    "devices: an indirect size in another device's buffer": Ends("another device") => indirect,
    "devices: a use of another device's buffer": Ends("another device") => used,
    "devices: a pipeline of another device's function": Ends("another device") => pipeline,
    "devices: another device's buffer in a residency set": Ends("another device") => in_set,
    "devices: a queue with another device's residency set": Ends("another device") => set_of_queue,
}

type Compute = ProtocolObject<dyn MTLComputeCommandEncoder>;

fn foreign(machine: &Machine) -> Result<Buffer, NotHere> {
    let shared = MTLResourceOptions::StorageModeShared;
    let buffer = machine
        .other_device()?
        .newBufferWithLength_options(64, shared);
    Ok(buffer.expect("a buffer"))
}

fn encode(machine: &Machine, encode: impl FnOnce(&Compute)) {
    let commands = machine.commands();
    let encoder = commands.computeCommandEncoder().expect("an encoder");
    encode(&encoder);
    encoder.endEncoding();
    commands.commit();
    commands.waitUntilCompleted();
}

fn binding(machine: &Machine) -> Result<(), NotHere> {
    let foreign = foreign(machine)?;
    // SAFETY: offset and index are valid; whose the buffer is, is the test.
    encode(machine, |encoder| unsafe {
        encoder.setBuffer_offset_atIndex(Some(&foreign), 0, 0);
    });
    Ok(())
}

fn indirect(machine: &Machine) -> Result<(), NotHere> {
    let foreign = foreign(machine)?;
    // SAFETY: the offset is valid; whose the buffer is, is the test.
    encode(machine, |encoder| unsafe {
        encoder.dispatchThreadgroupsWithIndirectBuffer_indirectBufferOffset_threadsPerThreadgroup(
            &foreign,
            0,
            size(32),
        );
    });
    Ok(())
}

fn used(machine: &Machine) -> Result<(), NotHere> {
    let foreign = foreign(machine)?;
    let resource: &ProtocolObject<dyn MTLResource> = ProtocolObject::from_ref(&*foreign);
    encode(machine, |encoder| {
        encoder.useResource_usage(resource, MTLResourceUsage::Read);
    });
    Ok(())
}

fn pipeline(machine: &Machine) -> Result<(), NotHere> {
    let other = machine.other_device()?;
    let function = library(machine).newFunctionWithName(&NSString::from_str("small"));
    let function = function.expect("the function is there");
    let _ = other.newComputePipelineStateWithFunction_error(&function);
    Ok(())
}

fn set(
    device: &ProtocolObject<dyn MTLDevice>,
) -> Result<Retained<ProtocolObject<dyn MTLResidencySet>>, NotHere> {
    let set = device.newResidencySetWithDescriptor_error(&MTLResidencySetDescriptor::new());
    set.map_err(|_| NotHere("residency sets need macOS 15"))
}

fn in_set(machine: &Machine) -> Result<(), NotHere> {
    let (foreign, set) = (foreign(machine)?, set(machine.device())?);
    set.addAllocation(ProtocolObject::from_ref(&*foreign));
    set.commit();
    Ok(())
}

fn set_of_queue(machine: &Machine) -> Result<(), NotHere> {
    let other = machine.other_device()?;
    machine.new_queue().addResidencySet(&*set(&other)?);
    Ok(())
}
