//! Arguments that must not be nil. The bindings do not let one pass it, so these bodies send the
//! messages themselves.

use super::cases;
use crate::Expect::Ends;
use crate::{Machine, NotHere};
use objc2::rc::{Allocated, Retained};
use objc2::runtime::AnyObject;
use objc2::{AnyThread, msg_send};
use objc2_foundation::NSRange;
use objc2_metal::{MTLCommandBuffer, MTLCommandEncoder};
use objc2_metal_performance_shaders::{MPSDataType, MPSMatrix, MPSMatrixDescriptor};

cases! {
    "nil: a fill of no buffer": Ends("buffer is nil") => fill,
    "nil: a copy from no buffer": Ends("source is nil") => copy_source,
    "nil: a copy to no buffer": Ends("destination is nil") => copy_destination,
    "nil: a wait for no fence": Ends("fence is nil") => fence,
    "nil: a signal of no event": Ends("event is nil") => event,
    "nil: no handler": Ends("block is nil") => handler,
    "nil: a matrix over no buffer": Ends("buffer is nil") => matrix,
    "nil: a product without a matrix": Ends("is nil") => product,
}

const NIL: *const AnyObject = std::ptr::null();

/// Sends to a blit encoder.
fn with_blit(machine: &Machine, send: impl FnOnce(&AnyObject)) {
    let commands = machine.commands();
    let blit = commands.blitCommandEncoder().expect("an encoder");
    send((*blit).as_ref());
    blit.endEncoding();
}

fn fill(machine: &Machine) -> Result<(), NotHere> {
    let range = NSRange {
        location: 0,
        length: 16,
    };
    // SAFETY: the signature is the method's; that there is no buffer is the test.
    with_blit(machine, |blit| unsafe {
        let _: () = msg_send![blit, fillBuffer: NIL, range: range, value: 0u8];
    });
    Ok(())
}

fn copy(machine: &Machine, source: *const AnyObject, destination: *const AnyObject) {
    // SAFETY: the signature is the method's; that a buffer is absent is the test.
    with_blit(machine, |blit| unsafe {
        let _: () = msg_send![
            blit,
            copyFromBuffer: source,
            sourceOffset: 0usize,
            toBuffer: destination,
            destinationOffset: 0usize,
            size: 16usize,
        ];
    });
}

fn copy_source(machine: &Machine) -> Result<(), NotHere> {
    let buffer = machine.shared(16);
    copy(machine, NIL, (*buffer).as_ref());
    Ok(())
}

fn copy_destination(machine: &Machine) -> Result<(), NotHere> {
    let buffer = machine.shared(16);
    copy(machine, (*buffer).as_ref(), NIL);
    Ok(())
}

fn fence(machine: &Machine) -> Result<(), NotHere> {
    // SAFETY: the signature is the method's; that there is no fence is the test.
    with_blit(machine, |blit| unsafe {
        let _: () = msg_send![blit, waitForFence: NIL];
    });
    Ok(())
}

fn event(machine: &Machine) -> Result<(), NotHere> {
    // SAFETY: the signature is the method's; that there is no event is the test.
    unsafe {
        let _: () = msg_send![&*machine.commands(), encodeSignalEvent: NIL, value: 1u64];
    }
    Ok(())
}

fn handler(machine: &Machine) -> Result<(), NotHere> {
    // SAFETY: the pointer is null, which is the test.
    unsafe { machine.commands().addCompletedHandler(std::ptr::null_mut()) };
    Ok(())
}

fn matrix(_: &Machine) -> Result<(), NotHere> {
    // SAFETY: the signature is the method's; that there is no buffer is the test.
    unsafe {
        let descriptor = MPSMatrixDescriptor::matrixDescriptorWithRows_columns_rowBytes_dataType(
            1,
            1,
            4,
            MPSDataType::Float32,
        );
        let new: Allocated<MPSMatrix> = MPSMatrix::alloc();
        let _: Retained<MPSMatrix> = msg_send![new, initWithBuffer: NIL, descriptor: &*descriptor];
    }
    Ok(())
}

fn product(machine: &Machine) -> Result<(), NotHere> {
    use objc2_metal_performance_shaders::MPSMatrixMultiplication;
    // SAFETY: the signatures are the methods'; that there is no matrix is the test.
    unsafe {
        let kernel =
            MPSMatrixMultiplication::initWithDevice_resultRows_resultColumns_interiorColumns(
                MPSMatrixMultiplication::alloc(),
                machine.device(),
                1,
                1,
                1,
            );
        let _: () = msg_send![
            &*kernel,
            encodeToCommandBuffer: &*machine.commands(),
            leftMatrix: NIL,
            rightMatrix: NIL,
            resultMatrix: NIL,
        ];
    }
    Ok(())
}
