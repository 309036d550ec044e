//! How much work a call gives the GPU, and how long the CPU takes to give it.

use std::time::{Duration, Instant};

use candle_core::{DType, Device, Result, Tensor};
use metal_sim::Work;
use objc2::rc::autoreleasepool;

use super::goal::Measured;
use super::operand::{self, Scale};
use super::table::{Call, Op};

/// Calls whose time is looked at.
const CALLS: usize = 21;

/// A pass of an op: ours, and Candle's.
pub fn measure(op: &Op, training: bool, device: &Device) -> Result<Measured> {
    let operands = (op.operands)(Scale::Bench);
    let x = operand::tensors(&operands, DType::F32, device, training)?;
    let candle = match op.fused {
        Some((_, fused)) if !training => fused,
        _ => op.unfused,
    };
    let result = (op.ours)(&x)?;
    let least: u64 = operands.iter().map(|it| it.bytes(DType::F32)).sum();
    Ok(Measured {
        ours: work(op.ours, &x, training, device)?,
        candle: work(candle, &x, training, device)?,
        least: least + (result.elem_count() * result.dtype().size_in_bytes()) as u64,
        training,
    })
}

/// A forward pass, and a backward pass if these are trained.
pub fn pass(call: Call, x: &[Tensor], training: bool) -> Result<()> {
    autoreleasepool(|_| {
        let y = call(x)?;
        if training {
            y.backward()?;
        }
        Ok(())
    })
}

/// The work of one pass, when the kernels are compiled and the pool has its buffers.
fn work(call: Call, x: &[Tensor], training: bool, device: &Device) -> Result<Work> {
    for _ in 0..2 {
        pass(call, x, training)?;
        autoreleasepool(|_| device.synchronize())?;
    }
    // Bytes are counted when kernels run. Waits for that are not the op's.
    let (all, own) = Work::of(|| -> Result<Work> {
        let (own, done) = Work::of(|| pass(call, x, training));
        done?;
        autoreleasepool(|_| device.synchronize())?;
        Ok(own)
    });
    Ok(Work {
        cpu_waits: own?.cpu_waits,
        ..all
    })
}

/// How long calls take until they return: the first, with the compilation of its kernels, and the middle one of some
/// later ones. The GPU's part is not in it.
#[derive(Clone, Copy, Debug)]
pub struct Latency {
    /// With the compilation.
    pub first: Duration,
    /// The middle one.
    pub later: Duration,
}

/// Of a forward pass.
pub fn latency(call: Call, op: &Op, device: &Device) -> Result<Latency> {
    let x = operand::tensors(&(op.operands)(Scale::Bench), DType::F32, device, false)?;
    let timed = || -> Result<Duration> {
        let start = Instant::now();
        pass(call, &x, false)?;
        let time = start.elapsed();
        autoreleasepool(|_| device.synchronize())?;
        Ok(time)
    };
    let first = timed()?;
    let mut later = (0..CALLS).map(|_| timed()).collect::<Result<Vec<_>>>()?;
    later.sort_unstable();
    Ok(Latency {
        first,
        later: later[CALLS / 2],
    })
}
