//! Encoders: one at a time, ended once, not used afterwards.

use super::cases;
use crate::Expect::{Ends, Holds};
use crate::{Machine, NotHere};
use objc2::rc::autoreleasepool;
use objc2_foundation::{NSRange, NSString};
use objc2_metal::{
    MTLBlitCommandEncoder, MTLBuffer, MTLCommandBuffer, MTLCommandEncoder,
    MTLComputeCommandEncoder, MTLDevice, MTLDispatchType,
};

cases! {
    "encoder: one after the other": Holds => one_after_the_other,
    "encoder: it knows its device, its label and its dispatch type": Holds => properties,
    "encoder: a second while one is open": Ends("encoder already open") => second_blit,
    "encoder: a compute encoder while a blit encoder is open": Ends("encoder already open") => compute_in_blit,
    "encoder: a command after endEncoding": Ends("use after endEncoding") => fill_after_end,
    "encoder: a label after endEncoding": Ends("use after endEncoding") => label_after_end,
    "encoder: a binding after endEncoding": Ends("use after endEncoding") => bind_after_end,
    "encoder: ended twice": Ends("endEncoding") => ended_twice,
    "encoder: released without endEncoding": Ends("encoder released without endEncoding") => released_open,
}

fn one_after_the_other(machine: &Machine) -> Result<(), NotHere> {
    let commands = machine.commands();
    for _ in 0..3 {
        commands
            .blitCommandEncoder()
            .expect("a blit encoder")
            .endEncoding();
        commands
            .computeCommandEncoder()
            .expect("a compute encoder")
            .endEncoding();
    }
    commands.commit();
    commands.waitUntilCompleted();
    Ok(())
}

fn properties(machine: &Machine) -> Result<(), NotHere> {
    let commands = machine.commands();
    let blit = commands.blitCommandEncoder().expect("a blit encoder");
    assert_eq!(blit.device().registryID(), machine.device().registryID());
    blit.setLabel(Some(&NSString::from_str("upload")));
    assert_eq!(
        blit.label().map(|label| label.to_string()).as_deref(),
        Some("upload")
    );
    blit.endEncoding();
    for kind in [MTLDispatchType::Serial, MTLDispatchType::Concurrent] {
        let compute = commands
            .computeCommandEncoderWithDispatchType(kind)
            .expect("an encoder");
        assert_eq!(compute.dispatchType(), kind);
        compute.endEncoding();
    }
    let compute = commands.computeCommandEncoder().expect("an encoder");
    assert_eq!(compute.dispatchType(), MTLDispatchType::Serial);
    compute.endEncoding();
    commands.commit();
    commands.waitUntilCompleted();
    Ok(())
}

fn second_blit(machine: &Machine) -> Result<(), NotHere> {
    let commands = machine.commands();
    let _first = commands.blitCommandEncoder();
    commands.blitCommandEncoder();
    Ok(())
}

fn compute_in_blit(machine: &Machine) -> Result<(), NotHere> {
    let commands = machine.commands();
    let _first = commands.blitCommandEncoder();
    commands.computeCommandEncoder();
    Ok(())
}

fn fill_after_end(machine: &Machine) -> Result<(), NotHere> {
    let (commands, buffer) = (machine.commands(), machine.shared(16));
    let blit = commands.blitCommandEncoder().expect("a blit encoder");
    blit.endEncoding();
    blit.fillBuffer_range_value(
        &buffer,
        NSRange {
            location: 0,
            length: buffer.length(),
        },
        0,
    );
    Ok(())
}

fn label_after_end(machine: &Machine) -> Result<(), NotHere> {
    let commands = machine.commands();
    let blit = commands.blitCommandEncoder().expect("a blit encoder");
    blit.endEncoding();
    blit.pushDebugGroup(&NSString::from_str("late"));
    Ok(())
}

fn bind_after_end(machine: &Machine) -> Result<(), NotHere> {
    let (commands, buffer) = (machine.commands(), machine.shared(16));
    let compute = commands.computeCommandEncoder().expect("a compute encoder");
    compute.endEncoding();
    // SAFETY: the buffer and the index are valid; that it comes too late is the test.
    unsafe { compute.setBuffer_offset_atIndex(Some(&buffer), 0, 0) };
    Ok(())
}

fn ended_twice(machine: &Machine) -> Result<(), NotHere> {
    let commands = machine.commands();
    let blit = commands.blitCommandEncoder().expect("a blit encoder");
    blit.endEncoding();
    blit.endEncoding();
    Ok(())
}

fn released_open(machine: &Machine) -> Result<(), NotHere> {
    let commands = machine.commands();
    autoreleasepool(|_| drop(commands.blitCommandEncoder()));
    Ok(())
}
