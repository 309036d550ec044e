//! Buffers: sizes, storage modes, and who may look at them.

use super::cases;
use crate::Expect::{Ends, Holds};
use crate::machine::contents;
use crate::{Machine, NotHere};
use objc2::msg_send;
use objc2_foundation::NSRange;
use objc2_metal::{
    MTLAllocation, MTLBuffer, MTLDevice, MTLHazardTrackingMode, MTLResource, MTLResourceOptions,
    MTLStorageMode,
};
use std::ffi::c_void;
use std::ptr::NonNull;

cases! {
    "buffer: shared memory starts as zeros": Holds => starts_zeroed,
    "buffer: bytes are copied at creation": Holds => bytes_are_copied,
    "buffer: private memory has no address for the CPU": Holds => private_has_no_contents,
    "buffer: no bytes or too many give nil": Holds => sizes_that_give_nil,
    "buffer: the options are answered as they were given": Holds => options_are_kept,
    "buffer: no-copy memory is page-aligned or nil": Holds => no_copy_alignment,
    "buffer: no-copy memory is the program's own": Holds => no_copy_shares,
    "buffer: only managed memory is told of changes": Ends("didModifyRange") => modify_shared,
    "buffer: changes of managed memory are inside it": Ends("didModifyRange") => modify_outside,
    "buffer: bytes cannot be copied into private memory": Ends("newBufferWithBytes") => bytes_into_private,
}

fn starts_zeroed(machine: &Machine) -> Result<(), NotHere> {
    for bytes in [1, 7, 4096, 100_000] {
        assert!(
            contents::<u8>(&machine.shared(bytes))
                .iter()
                .all(|byte| *byte == 0)
        );
    }
    Ok(())
}

fn bytes_are_copied(machine: &Machine) -> Result<(), NotHere> {
    let mut values = [1u32, 2, 3];
    let buffer = machine.filled(&values);
    values.fill(9);
    assert_eq!(contents::<u32>(&buffer), [1, 2, 3]);
    assert_eq!(buffer.length(), 12);
    assert!(MTLAllocation::allocatedSize(&*buffer) >= 12);
    Ok(())
}

fn private_has_no_contents(machine: &Machine) -> Result<(), NotHere> {
    let buffer = machine.private(64);
    // SAFETY: the method takes nothing and returns a pointer; asked for as one, because the
    // bindings take it to be never null.
    let address: *mut c_void = unsafe { msg_send![&*buffer, contents] };
    assert!(address.is_null());
    Ok(())
}

fn sizes_that_give_nil(machine: &Machine) -> Result<(), NotHere> {
    let options = MTLResourceOptions::StorageModeShared;
    let most = machine.device().maxBufferLength();
    assert!(
        machine
            .device()
            .newBufferWithLength_options(most + 1, options)
            .is_none()
    );
    assert!(
        machine
            .device()
            .newBufferWithLength_options(usize::MAX, options)
            .is_none()
    );
    Ok(())
}

fn options_are_kept(machine: &Machine) -> Result<(), NotHere> {
    let untracked =
        MTLResourceOptions::StorageModePrivate | MTLResourceOptions::HazardTrackingModeUntracked;
    let buffer = machine.buffer(16, untracked);
    assert_eq!(buffer.storageMode(), MTLStorageMode::Private);
    assert_eq!(
        buffer.hazardTrackingMode(),
        MTLHazardTrackingMode::Untracked
    );
    let plain = machine.shared(16);
    assert_eq!(plain.storageMode(), MTLStorageMode::Shared);
    assert_eq!(plain.hazardTrackingMode(), MTLHazardTrackingMode::Tracked);
    Ok(())
}

/// Memory that outlives the buffers over it.
fn pages(count: usize) -> NonNull<c_void> {
    let layout = std::alloc::Layout::from_size_align(count * 16384, 16384).expect("a layout");
    // SAFETY: the layout is not empty. The memory is kept to the end of the process.
    NonNull::new(unsafe { std::alloc::alloc_zeroed(layout) })
        .expect("memory")
        .cast()
}

fn no_copy_alignment(machine: &Machine) -> Result<(), NotHere> {
    let (start, shared) = (pages(2), MTLResourceOptions::StorageModeShared);
    let device = machine.device();
    // SAFETY: the memory is valid for both pages to the end of the process.
    unsafe {
        let make = |start, length| {
            device.newBufferWithBytesNoCopy_length_options_deallocator(start, length, shared, None)
        };
        assert!(make(start, 16384).is_some());
        assert!(
            make(start.byte_add(8), 16384).is_none(),
            "a pointer between pages"
        );
        assert!(
            make(start, 1000).is_none(),
            "a length that is no multiple of the page"
        );
    }
    Ok(())
}

fn no_copy_shares(machine: &Machine) -> Result<(), NotHere> {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    let start = pages(1);
    let ended = Arc::new(AtomicUsize::new(0));
    let counter = ended.clone();
    let at_end = block2::RcBlock::new(move |_: NonNull<c_void>, length: usize| {
        counter.fetch_add(length, Ordering::SeqCst);
    });
    // SAFETY: as above.
    let buffer = unsafe {
        machine
            .device()
            .newBufferWithBytesNoCopy_length_options_deallocator(
                start,
                16384,
                MTLResourceOptions::StorageModeShared,
                Some(&at_end),
            )
    };
    let buffer = buffer.expect("a buffer");
    assert_eq!(buffer.contents(), start);
    drop(buffer);
    assert_eq!(ended.load(Ordering::SeqCst), 16384);
    Ok(())
}

fn modify_shared(machine: &Machine) -> Result<(), NotHere> {
    machine.shared(64).didModifyRange(NSRange {
        location: 0,
        length: 64,
    });
    Ok(())
}

fn modify_outside(machine: &Machine) -> Result<(), NotHere> {
    let buffer = machine.buffer(64, MTLResourceOptions::StorageModeManaged);
    buffer.didModifyRange(NSRange {
        location: 32,
        length: 64,
    });
    Ok(())
}

fn bytes_into_private(machine: &Machine) -> Result<(), NotHere> {
    let bytes = [0u8; 16];
    // SAFETY: the bytes are valid; that they cannot be copied is the test.
    unsafe {
        machine.device().newBufferWithBytes_length_options(
            NonNull::from(&bytes).cast(),
            16,
            MTLResourceOptions::StorageModePrivate,
        );
    }
    Ok(())
}
