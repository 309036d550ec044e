//! Residency sets: what is kept in the GPU's memory, decided at commit.

use super::cases;
use crate::Expect::Holds;
use crate::{Machine, NotHere};
use objc2::rc::Retained;
use objc2::runtime::ProtocolObject;
use objc2_metal::{
    MTLAllocation, MTLCommandBuffer, MTLCommandQueue, MTLDevice, MTLResidencySet,
    MTLResidencySetDescriptor,
};

cases! {
    "residency set: an allocation is in it once": Holds => once,
    "residency set: its size is decided at commit": Holds => size_at_commit,
    "residency set: it keeps allocations alive until they are removed": Holds => keeps_alive,
    "residency set: a queue and a command buffer take it": Holds => attached,
}

fn set(machine: &Machine) -> Result<Retained<ProtocolObject<dyn MTLResidencySet>>, NotHere> {
    let descriptor = MTLResidencySetDescriptor::new();
    let set = machine
        .device()
        .newResidencySetWithDescriptor_error(&descriptor);
    set.map_err(|_| NotHere("residency sets need macOS 15"))
}

fn once(machine: &Machine) -> Result<(), NotHere> {
    let (set, buffer) = (set(machine)?, machine.shared(64));
    let allocation: &ProtocolObject<dyn MTLAllocation> = ProtocolObject::from_ref(&*buffer);
    set.addAllocation(allocation);
    set.addAllocation(allocation);
    assert!(set.containsAllocation(allocation));
    assert_eq!(set.allocationCount(), 1);
    set.removeAllocation(allocation);
    assert!(!set.containsAllocation(allocation));
    assert_eq!(set.allocationCount(), 0);
    Ok(())
}

fn size_at_commit(machine: &Machine) -> Result<(), NotHere> {
    let (set, buffer) = (set(machine)?, machine.shared(1 << 16));
    set.addAllocation(ProtocolObject::from_ref(&*buffer));
    assert_eq!(set.allocatedSize(), 0);
    set.commit();
    assert!(set.allocatedSize() >= 1 << 16);
    set.removeAllAllocations();
    assert!(set.allocatedSize() >= 1 << 16);
    set.commit();
    assert_eq!(set.allocatedSize(), 0);
    Ok(())
}

fn keeps_alive(machine: &Machine) -> Result<(), NotHere> {
    let set = set(machine)?;
    let before = machine.device().currentAllocatedSize();
    objc2::rc::autoreleasepool(|_| {
        set.addAllocation(ProtocolObject::from_ref(&*machine.shared(1 << 20)));
        set.commit();
    });
    assert!(machine.device().currentAllocatedSize() >= before + (1 << 20));
    set.removeAllAllocations();
    set.commit();
    assert!(machine.device().currentAllocatedSize() < before + (1 << 20));
    Ok(())
}

fn attached(machine: &Machine) -> Result<(), NotHere> {
    let set = set(machine)?;
    set.requestResidency();
    let queue = machine.new_queue();
    queue.addResidencySet(&set);
    let commands = queue.commandBuffer().expect("a command buffer");
    commands.useResidencySet(&set);
    commands.commit();
    commands.waitUntilCompleted();
    queue.removeResidencySet(&set);
    set.endResidency();
    Ok(())
}
