//! Heaps: memory that buffers are cut from, and that they may share.

use super::cases;
use crate::Expect::Holds;
use crate::machine::contents;
use crate::{Machine, NotHere};
use objc2::rc::Retained;
use objc2::runtime::ProtocolObject;
use objc2_metal::{
    MTLBuffer, MTLDevice, MTLHazardTrackingMode, MTLHeap, MTLHeapDescriptor, MTLHeapType,
    MTLResource, MTLResourceOptions, MTLStorageMode,
};

cases! {
    "heap: it gives buffers until it is full": Holds => until_full,
    "heap: a released buffer's memory is given again": Holds => given_again,
    "heap: its buffers are untracked unless asked": Holds => untracked,
    "heap: placed buffers are where they were placed": Holds => placed,
    "heap: aliasable memory may be given to another buffer": Holds => aliasable,
    "heap: sizes and alignments are told beforehand": Holds => size_and_align,
}

type Heap = Retained<ProtocolObject<dyn MTLHeap>>;

const SIZE: usize = 1 << 20;
const SHARED: MTLResourceOptions = MTLResourceOptions::StorageModeShared;

fn heap(machine: &Machine, kind: MTLHeapType) -> Heap {
    let descriptor = MTLHeapDescriptor::new();
    descriptor.setSize(SIZE);
    descriptor.setStorageMode(MTLStorageMode::Shared);
    descriptor.setType(kind);
    machine
        .device()
        .newHeapWithDescriptor(&descriptor)
        .expect("a heap")
}

fn until_full(machine: &Machine) -> Result<(), NotHere> {
    let heap = heap(machine, MTLHeapType::Automatic);
    assert!(heap.size() >= SIZE);
    assert_eq!(heap.usedSize(), 0);
    let mut held = Vec::new();
    while let Some(buffer) = heap.newBufferWithLength_options(SIZE / 4, SHARED) {
        assert_eq!(buffer.length(), SIZE / 4);
        held.push(buffer);
        assert!(held.len() <= 8, "a heap has an end");
    }
    assert!(held.len() >= 4);
    assert!(heap.usedSize() >= SIZE);
    assert!(heap.maxAvailableSizeWithAlignment(256) < SIZE / 4);
    Ok(())
}

fn given_again(machine: &Machine) -> Result<(), NotHere> {
    let heap = heap(machine, MTLHeapType::Automatic);
    for _ in 0..20 {
        let buffer = heap.newBufferWithLength_options(SIZE / 2 + 1, SHARED);
        assert!(buffer.is_some());
    }
    Ok(())
}

fn untracked(machine: &Machine) -> Result<(), NotHere> {
    let heap = heap(machine, MTLHeapType::Automatic);
    let buffer = heap
        .newBufferWithLength_options(1024, SHARED)
        .expect("a buffer");
    assert_eq!(
        buffer.hazardTrackingMode(),
        MTLHazardTrackingMode::Untracked
    );
    assert!(buffer.heap().is_some());
    Ok(())
}

fn placed(machine: &Machine) -> Result<(), NotHere> {
    let heap = heap(machine, MTLHeapType::Placement);
    // SAFETY: the buffers lie apart, inside the heap.
    unsafe {
        let first = heap
            .newBufferWithLength_options_offset(4096, SHARED, 0)
            .expect("a buffer");
        let second = heap
            .newBufferWithLength_options_offset(4096, SHARED, 65536)
            .expect("one");
        assert_eq!((first.heapOffset(), second.heapOffset()), (0, 65536));
        let distance = second.contents().as_ptr().addr() - first.contents().as_ptr().addr();
        assert_eq!(distance, 65536);
    }
    Ok(())
}

fn aliasable(machine: &Machine) -> Result<(), NotHere> {
    let heap = heap(machine, MTLHeapType::Automatic);
    let first = heap
        .newBufferWithLength_options(SIZE * 3 / 4, SHARED)
        .expect("a buffer");
    assert!(heap.newBufferWithLength_options(SIZE / 2, SHARED).is_none());
    assert!(!first.isAliasable());
    // SAFETY: nothing uses the first buffer any more.
    unsafe { first.makeAliasable() };
    assert!(first.isAliasable());
    let second = heap
        .newBufferWithLength_options(SIZE / 2, SHARED)
        .expect("its memory");
    assert_eq!(contents::<u8>(&second).len(), SIZE / 2);
    Ok(())
}

fn size_and_align(machine: &Machine) -> Result<(), NotHere> {
    for length in [1, 100, 4096, 100_000] {
        let told = machine
            .device()
            .heapBufferSizeAndAlignWithLength_options(length, SHARED);
        assert!(told.size >= length && told.align.is_power_of_two());
    }
    Ok(())
}
