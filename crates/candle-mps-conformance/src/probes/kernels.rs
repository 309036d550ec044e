//! Questions about bindings, outside of the debug layer.

use super::{Answer, Probe};
use crate::machine::contents;
use crate::metal::kernels::{Encoder, pipeline, run, size};
use crate::{Machine, NotHere};
use objc2_metal::MTLComputeCommandEncoder;
use std::ptr::NonNull;

pub(super) const PROBES: &[Probe] = &[
    Probe {
        id: "l",
        question: "does setBytes take no bytes?",
        body: no_bytes,
        if_it_ends: Some("METAL_SIM_EMPTY_BYTES=fault"),
    },
    Probe {
        id: "m",
        question: "may a buffer be bound between two elements?",
        body: odd_offset,
        if_it_ends: Some("METAL_SIM_OFFSET_ALIGNMENT=fault"),
    },
    Probe {
        id: "n",
        question: "may a grid be empty?",
        body: empty_grid,
        if_it_ends: Some("METAL_SIM_EMPTY_GRID=fault"),
    },
];

fn dispatch(encoder: &Encoder, groups: usize) {
    encoder.dispatchThreadgroups_threadsPerThreadgroup(size(groups), size(1));
}

/// What one thread of a kernel that adds one makes of zeros, after `bind`.
fn added(
    machine: &Machine,
    groups: usize,
    bind: impl FnOnce(&Encoder, &crate::machine::Buffer),
) -> Vec<u8> {
    let buffer = machine.shared(16);
    run(machine, &pipeline(machine, "small"), &buffer, |encoder| {
        bind(encoder, &buffer);
        dispatch(encoder, groups);
    });
    contents(&buffer)
}

fn no_bytes(machine: &Machine) -> Result<Answer, NotHere> {
    // SAFETY: the pointer is valid, and the kernel has no such argument.
    let bytes = added(machine, 1, |encoder, _| unsafe {
        encoder.setBytes_length_atIndex(NonNull::from(&0u8).cast(), 0, 5);
    });
    Ok(match bytes[0] {
        1 => Answer::new("it does").switch("METAL_SIM_EMPTY_BYTES=accept"),
        _ => Answer::new("the dispatch is skipped").switch("METAL_SIM_EMPTY_BYTES=fault"),
    })
}

fn odd_offset(machine: &Machine) -> Result<Answer, NotHere> {
    // SAFETY: the offset is inside the buffer.
    let bytes = added(machine, 1, |encoder, buffer| unsafe {
        encoder.setBuffer_offset_atIndex(Some(buffer), 2, 0);
    });
    let at = bytes.iter().position(|byte| *byte == 1);
    Ok(match at {
        Some(2) => Answer::new("it may").switch("METAL_SIM_OFFSET_ALIGNMENT=accept"),
        Some(at) => {
            let text = format!("byte {at} is written in place of byte 2");
            Answer::new(text).switch("METAL_SIM_OFFSET_ALIGNMENT=fault")
        }
        None => Answer::new("nothing is written").switch("METAL_SIM_OFFSET_ALIGNMENT=fault"),
    })
}

fn empty_grid(machine: &Machine) -> Result<Answer, NotHere> {
    let bytes = added(machine, 0, |_, _| ());
    Ok(match bytes[0] {
        0 => Answer::new("it may, and nothing runs").switch("METAL_SIM_EMPTY_GRID=accept"),
        _ => Answer::new("something runs").switch("METAL_SIM_EMPTY_GRID=fault"),
    })
}
