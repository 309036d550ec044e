//! Fences: order between passes of one queue.

use super::cases;
use crate::Expect::{Ends, Holds, Undefined};
use crate::machine::contents;
use crate::{Machine, NotHere};
use objc2_foundation::NSRange;
use objc2_metal::{
    MTLBlitCommandEncoder, MTLCommandBuffer, MTLCommandEncoder, MTLComputeCommandEncoder,
    MTLDevice, MTLFence, MTLResourceOptions,
};

cases! {
    "fence: a wait orders a pass after the update": Holds => orders,
    "fence: it knows its device": Holds => device,
    "fence: a wait that no update was submitted for is no wait": Holds => never_updated,
    "fence: waiting for one's own update": Undefined("waitForFence") => own_update,
    "fence: of another device": Ends("another device") => other_device,
}

fn orders(machine: &Machine) -> Result<(), NotHere> {
    let untracked =
        MTLResourceOptions::StorageModeShared | MTLResourceOptions::HazardTrackingModeUntracked;
    let buffer = machine.buffer(4096, untracked);
    let fence = machine.device().newFence().expect("a fence");
    for value in 1..=20u8 {
        let commands = machine.commands();
        let whole = NSRange {
            location: 0,
            length: 4096,
        };
        let blit = commands.blitCommandEncoder().expect("an encoder");
        blit.waitForFence(&fence);
        blit.fillBuffer_range_value(&buffer, whole, value);
        blit.updateFence(&fence);
        blit.endEncoding();
        let compute = commands.computeCommandEncoder().expect("an encoder");
        compute.waitForFence(&fence);
        compute.updateFence(&fence);
        compute.endEncoding();
        commands.commit();
        if value == 20 {
            commands.waitUntilCompleted();
        }
    }
    assert!(contents::<u8>(&buffer).iter().all(|byte| *byte == 20));
    Ok(())
}

fn device(machine: &Machine) -> Result<(), NotHere> {
    let fence = machine.device().newFence().expect("a fence");
    assert_eq!(fence.device().registryID(), machine.device().registryID());
    Ok(())
}

fn never_updated(machine: &Machine) -> Result<(), NotHere> {
    let fence = machine.device().newFence().expect("a fence");
    let commands = machine.commands();
    let blit = commands.blitCommandEncoder().expect("an encoder");
    blit.waitForFence(&fence);
    blit.endEncoding();
    commands.commit();
    commands.waitUntilCompleted();
    Ok(())
}

fn own_update(machine: &Machine) -> Result<(), NotHere> {
    let fence = machine.device().newFence().expect("a fence");
    let commands = machine.commands();
    let blit = commands.blitCommandEncoder().expect("an encoder");
    blit.updateFence(&fence);
    blit.waitForFence(&fence);
    Ok(())
}

fn other_device(machine: &Machine) -> Result<(), NotHere> {
    let fence = machine.other_device()?.newFence().expect("a fence");
    let commands = machine.commands();
    let blit = commands.blitCommandEncoder().expect("an encoder");
    blit.updateFence(&fence);
    Ok(())
}
