//! Dispatches of a compute encoder: checked when they are encoded, run when the GPU gets to them. What Metal's
//! debug layer stops a program for is a fault here; so is what the detector finds in a kernel.

use super::alignment::alignment;
use super::buffer::SimBuffer;
use super::compute::{Binding, Bound, MAX_THREADGROUP_MEMORY, SimComputeEncoder};
use crate::account::Work;
use crate::fault::fault;
use crate::memory::Memory;
use crate::pass::{Access, Deed, Op};
use crate::rules::rules;
use metal_sim_msl::{Argument, ArgumentKind, Dispatch, Grid, Pipeline, Touched};
use objc2::runtime::AnyObject;
use objc2_metal::MTLSize;
use std::sync::Arc;

/// Bytes of the three numbers of an indirect dispatch.
const INDIRECT: usize = 12;

pub(super) fn threadgroups(encoder: &SimComputeEncoder, groups: MTLSize, threads: MTLSize) {
    let grid = Grid::Threadgroups {
        groups: size(groups),
        threads: size(threads),
    };
    const CALL: &str = "dispatchThreadgroups:threadsPerThreadgroup:";
    encode(encoder, CALL, threads, Source::Grid(grid));
}

pub(super) fn threads(encoder: &SimComputeEncoder, grid: MTLSize, threads: MTLSize) {
    let grid = Grid::Threads {
        grid: size(grid),
        threads: size(threads),
    };
    encode(
        encoder,
        "dispatchThreads:threadsPerThreadgroup:",
        threads,
        Source::Grid(grid),
    );
}

pub(super) fn indirect(
    encoder: &SimComputeEncoder,
    groups: &SimBuffer,
    offset: usize,
    threads: MTLSize,
) {
    const CALL: &str = "dispatchThreadgroupsWithIndirectBuffer:";
    if !offset.is_multiple_of(4) {
        fault(CALL, format!("offset {offset} is no multiple of 4"));
    }
    encoder.encoder().buffer().check_device(CALL, groups.on());
    groups.range(CALL, offset, INDIRECT);
    let source = Source::Buffer {
        buffer: groups,
        offset,
        threads: size(threads),
    };
    encode(encoder, CALL, threads, source);
}

/// Where the size of the grid comes from.
enum Source<'a> {
    Grid(Grid),
    /// Read when the GPU gets there.
    Buffer {
        buffer: &'a SimBuffer,
        offset: usize,
        threads: [u32; 3],
    },
}

fn size(size: MTLSize) -> [u32; 3] {
    [size.width, size.height, size.depth].map(|it| u32::try_from(it).unwrap_or(u32::MAX))
}

/// What an operation holds on to until it runs.
enum Held {
    Buffer(Arc<Memory>, usize, String),
    Bytes(Arc<[u8]>),
}

fn encode(encoder: &SimComputeEncoder, call: &str, threads: MTLSize, source: Source) {
    let Bound {
        pipeline,
        buffers,
        threadgroup_memory,
    } = encoder.bound(call);
    let kernel = pipeline.get().kernel().to_owned();
    check_threads(call, &kernel, pipeline.get().pipeline(), threads);
    check_threadgroup_memory(
        call,
        &kernel,
        pipeline.get().pipeline(),
        &threadgroup_memory,
    );
    if let Source::Grid(grid) = &source {
        check_grid(call, &kernel, *grid);
    }
    let watched = pipeline.get().is_watched();
    let counted_later = watched && rules().traffic;
    Work {
        watched: watched.into(),
        ..Work::default()
    }
    .add();
    let mut accesses = Vec::new();
    for argument in pipeline.get().pipeline().arguments() {
        let ArgumentKind::Buffer(index) = argument.kind else {
            continue;
        };
        if let Some(Some(Binding::Buffer(buffer, offset))) = buffers.get(index as usize) {
            check_alignment(call, &kernel, argument, buffer.get(), *offset);
            let memory = buffer.get().core().memory();
            let range = *offset..memory.len();
            let access = match argument.writable {
                true if watched => Access::traced(memory, range),
                true => Access::write(memory, range),
                false => Access::read(memory, range),
            };
            accesses.push(Access {
                counted_later,
                ..access
            });
        }
    }
    let mut uses: Vec<&AnyObject> = vec![pipeline.get()];
    for binding in buffers.iter().flatten() {
        if let Binding::Buffer(buffer, _) = binding {
            uses.push(buffer.get());
        }
    }
    let grid = match source {
        Source::Grid(grid) => Ok(grid),
        Source::Buffer {
            buffer,
            offset,
            threads,
        } => {
            let memory = buffer.core().memory().clone();
            accesses.push(Access::read(&memory, offset..offset + INDIRECT));
            uses.push(buffer);
            Err((memory, offset, threads))
        }
    };
    // Read by the GPU before the kernel runs, which the kernel's own accesses do not show.
    let size_read = match &grid {
        Ok(_) => None,
        Err((memory, offset, _)) => {
            let first = memory.base().addr() + offset;
            Some((first..first + INDIRECT, Deed::plain(false)))
        }
    };
    let held = buffers.each_ref().map(|binding| {
        Some(match binding.as_ref()? {
            Binding::Buffer(buffer, offset) => Held::Buffer(
                buffer.get().core().memory().clone(),
                *offset,
                buffer.get().title(),
            ),
            Binding::Bytes(bytes) => Held::Bytes(bytes.clone()),
        })
    });
    let program = pipeline.get().pipeline().clone();
    let run = Box::new(move || {
        let grid = grid.unwrap_or_else(|(memory, offset, threads)| Grid::Threadgroups {
            // SAFETY: in range as checked at encoding; the GPU's rules order this access.
            groups: unsafe {
                memory
                    .base()
                    .add(offset)
                    .cast::<[u32; 3]>()
                    .read_unaligned()
            },
            threads,
        });
        let touched = run(&program, grid, &held, &threadgroup_memory);
        // Without the detector, what was declared is all that is known.
        watched.then(|| {
            let all = [
                (touched.read, Deed::plain(false)),
                (touched.written, Deed::plain(true)),
                (touched.atomic_read, Deed::atomic(false)),
                (touched.atomic_written, Deed::atomic(true)),
            ];
            let all = all
                .into_iter()
                .flat_map(|(ranges, deed)| ranges.into_iter().map(move |range| (range, deed)));
            all.chain(size_read).collect()
        })
    });
    let op = Op {
        label: kernel,
        accesses,
        run,
    };
    encoder.encoder().push(op, uses);
}

fn check_threads(call: &str, kernel: &str, pipeline: &Pipeline, threads: MTLSize) {
    let asked = [threads.width, threads.height, threads.depth];
    let total = asked
        .iter()
        .try_fold(1usize, |total, side| total.checked_mul(*side));
    let most = pipeline.max_total_threads_per_threadgroup() as usize;
    match total {
        Some(0) => fault(
            call,
            format!("{kernel}: a threadgroup of {asked:?} threads is empty"),
        ),
        Some(total) if total <= most => {}
        _ => fault(
            call,
            format!(
                "{kernel}: a threadgroup of {asked:?} threads; maxTotalThreadsPerThreadgroup of the \
                 pipeline is {most}"
            ),
        ),
    }
}

/// The debug layer stops on an empty grid; without it nothing runs.
fn check_grid(call: &str, kernel: &str, grid: Grid) {
    let (what, sides) = match grid {
        Grid::Threadgroups { groups, .. } => ("threadgroupsPerGrid", groups),
        Grid::Threads { grid, .. } => ("threadsPerGrid", grid),
    };
    if sides.contains(&0) {
        let told = format!("{kernel}: {what} {sides:?} is empty, each side must be > 0");
        rules().empty_grid.on(call, told);
    }
}

fn check_threadgroup_memory(call: &str, kernel: &str, pipeline: &Pipeline, given: &[usize]) {
    let given: usize = given.iter().map(|bytes| bytes.next_multiple_of(16)).sum();
    let own = pipeline.static_threadgroup_memory_length() as usize;
    if given + own > MAX_THREADGROUP_MEMORY {
        fault(
            call,
            format!(
                "{kernel}: threadgroup memory of {given} bytes by setThreadgroupMemoryLength and {own} of its own; \
                 maxThreadgroupMemoryLength is {MAX_THREADGROUP_MEMORY}"
            ),
        );
    }
}

fn check_alignment(
    call: &str,
    kernel: &str,
    argument: &Argument,
    buffer: &SimBuffer,
    offset: usize,
) {
    let Some(align) = alignment(&argument.type_name) else {
        return;
    };
    if !offset.is_multiple_of(align) {
        let told = format!(
            "{kernel}: argument {} ({}) has {} at offset {offset}, which is not a multiple of {align}: \
             offset alignment",
            argument.name,
            argument.type_name,
            buffer.title()
        );
        rules().offset_alignment.on(call, told);
    }
}

fn run(
    pipeline: &Pipeline,
    grid: Grid,
    held: &[Option<Held>],
    threadgroup_memory: &[usize],
) -> Touched {
    let binding = |held: &Option<Held>| {
        Some(match held.as_ref()? {
            Held::Buffer(memory, offset, label) => metal_sim_msl::Binding {
                address: memory.base().wrapping_add(*offset),
                length: memory.len() - offset,
                label: label.clone(),
                written: memory.written().cloned(),
            },
            // A kernel that writes to it is found out by the detector, as by nobody on a Mac.
            Held::Bytes(bytes) => metal_sim_msl::Binding {
                address: bytes.as_ptr().cast_mut(),
                length: bytes.len(),
                label: "setBytes".to_owned(),
                written: None,
            },
        })
    };
    let buffers: Vec<_> = held.iter().map(binding).collect();
    let dispatch = Dispatch {
        grid,
        buffers: &buffers,
        threadgroup_memory,
        schedule: rules().schedule,
        threads: std::thread::available_parallelism().map_or(1, usize::from),
    };
    let outcome = if rules().traffic || rules().hazards {
        // What `setBytes` gives travels with the command.
        let counts = |index: usize| matches!(held[index], Some(Held::Buffer(..)));
        pipeline.dispatch_counted(&dispatch, &counts)
    } else {
        pipeline.dispatch(&dispatch)
    };
    if let Ok(outcome) = &outcome
        && rules().traffic
    {
        Work {
            bytes_read: outcome.traffic.bytes_read,
            bytes_written: outcome.traffic.bytes_written,
            ..Work::default()
        }
        .add();
    }
    match outcome {
        Err(error) => fault("dispatch", error),
        Ok(outcome) if outcome.findings.is_empty() || !rules().checks.races => outcome.touched,
        Ok(outcome) => {
            let findings: Vec<_> = outcome.findings.iter().map(ToString::to_string).collect();
            fault("kernel", findings.join("\n"))
        }
    }
}
