//! Two routes onto the GPU.
//!
//! *Inline*, for our own kernels: a dispatch on Candle's own encoder, as if it were one of Candle's. Every
//! operand is set by Candle's `set_input_buffer` or `set_output_buffer`, so that its tracker orders the dispatch with
//! those before and after it, on this encoder and on others. Nobody waits. Nothing has to be kept alive either: a
//! buffer that goes back to Candle's pool is handed out to work that the same tracker puts behind ours, and one that the
//! pool gives up is retained by the command buffer. What a command buffer reports when it fails is Candle's to say,
//! where it waits: `Device::synchronize`.
//!
//! *Blocking*, for MPS, which encodes on command buffers of its own: wait for Candle's work, run ours on a queue of
//! our own, wait for that. Candle's buffers are hazard-untracked and its queue is its own, so nothing but the CPU
//! orders work of another queue with Candle's. Two rules make it sound. Outputs are allocated before the wait:
//! Candle hands out a pooled buffer as soon as its last tensor is gone, and only work committed before the wait is
//! known to have left it. And operands are kept alive until our work has completed, or the pool would hand theirs out.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use candle_core::backend::BackendStorage;
use candle_core::{DType, MetalDevice, MetalStorage};
use objc2_metal::MTLSize;
use safe_mps::{Buffer, CommandBuffer, Device, Queue};

use super::library::{self, Kernel};
use crate::error::{Error, Result};

/// An argument of a kernel, in the order of its buffers.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Argument<'a> {
    Read(&'a MetalStorage),
    /// Written, and perhaps read.
    Write(&'a MetalStorage),
    /// Not there: its function constant is off.
    Absent,
}

/// How many threads work on a dispatch.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Grid {
    /// Threadgroups in each direction.
    pub(crate) groups: [usize; 3],
    /// Threads of each, in a line.
    pub(crate) threads: usize,
}

impl Grid {
    /// Threadgroups in a line.
    pub(crate) fn line(groups: usize, threads: usize) -> Self {
        Self {
            groups: [groups, 1, 1],
            threads,
        }
    }
}

/// The inline route: encodes a dispatch of `kernel` on Candle's encoder. `parameters`, a `#[repr(C)]` struct without
/// gaps, follows the arguments.
pub(crate) fn dispatch<P: Copy>(
    device: &MetalDevice,
    kernel: &Kernel,
    arguments: &[Argument<'_>],
    parameters: &P,
    grid: Grid,
) -> Result<()> {
    if grid.groups.contains(&0) {
        return Ok(());
    }
    let pipeline = library::pipeline(device, kernel)?;
    if grid.threads > pipeline.most_threads {
        return Err(Error::Threads {
            kernel: kernel.function,
            threads: grid.threads,
            most: pipeline.most_threads,
        });
    }
    let guard = device.command_encoder()?;
    let encoder: &candle_metal_kernels::metal::ComputeCommandEncoder = guard.as_ref();
    encoder.set_compute_pipeline_state(&pipeline.raw);
    for (index, argument) in arguments.iter().enumerate() {
        match argument {
            Argument::Read(storage) => encoder.set_input_buffer(index, Some(storage.buffer()), 0),
            Argument::Write(storage) => encoder.set_output_buffer(index, Some(storage.buffer()), 0),
            Argument::Absent => {}
        }
    }
    encoder.set_bytes(arguments.len(), parameters);
    let [width, height, depth] = grid.groups;
    let groups = MTLSize {
        width,
        height,
        depth,
    };
    let threads = MTLSize {
        width: grid.threads,
        height: 1,
        depth: 1,
    };
    encoder.dispatch_thread_groups(groups, threads);
    Ok(())
}

/// A GPU with the queue that this process uses for MPS.
pub(crate) struct Gpu {
    pub(crate) device: Device,
    queue: Queue,
    /// Held from the first encode until the work is over: two threads may use the same weights,
    /// and a buffer can be in flight on one command buffer only.
    turn: Mutex<()>,
}

/// By registry id, of which there are as many as GPUs, however many Candle devices come and go.
static GPUS: Mutex<BTreeMap<u64, Arc<Gpu>>> = Mutex::new(BTreeMap::new());

impl Gpu {
    fn of(op: &'static str, device: &MetalDevice) -> Result<Arc<Self>> {
        let device = Device::from_metal(device.device().as_ref());
        let mut gpus = GPUS.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(gpu) = gpus.get(&device.registry_id()) {
            return Ok(gpu.clone());
        }
        let queue = device.new_queue().map_err(Error::mps(op))?;
        let gpu = Arc::new(Self {
            device,
            queue,
            turn: Mutex::new(()),
        });
        gpus.insert(gpu.device.registry_id(), gpu.clone());
        Ok(gpu)
    }
}

/// The result of an op, from Candle's pool, with undefined contents.
pub(crate) fn output(device: &MetalDevice, count: usize, dtype: DType) -> Result<MetalStorage> {
    let buffer = device.new_buffer(count, dtype, "candle-mps")?;
    Ok(MetalStorage::new(buffer, device.clone(), count, dtype))
}

/// A tensor's buffer for MPS; Candle does not hand it out again while this handle lives.
pub(crate) fn buffer(storage: &MetalStorage) -> Buffer {
    Buffer::from_metal(storage.buffer().as_ref()).with_owner(storage.clone())
}

/// Runs what `encode` encodes, after all of Candle's work so far and before any that follows. The
/// buffers it uses must exist already, outputs included.
pub(crate) fn blocking(
    op: &'static str,
    device: &MetalDevice,
    encode: impl FnOnce(&Device, &CommandBuffer) -> safe_mps::Result<()>,
) -> Result<()> {
    let gpu = Gpu::of(op, device)?;
    device.flush_and_wait_current()?;
    let _turn = gpu.turn.lock().unwrap_or_else(PoisonError::into_inner);
    let run = || {
        let commands = gpu.queue.command_buffer()?;
        encode(&gpu.device, &commands)?;
        commands.commit().wait()
    };
    run().map_err(Error::mps(op))?;
    Ok(())
}

/// Waits until the contents of `storage` are there.
pub(crate) fn settle(storage: &MetalStorage) -> Result<()> {
    Ok(storage.device().flush_and_wait_current()?)
}
