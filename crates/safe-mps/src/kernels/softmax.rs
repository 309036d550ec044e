//! [`SoftMax`] and [`LogSoftMax`]: each row on its own, across its columns.
//!
//! y(i, j) = exp(x(i, j)) / Σ exp(x(i, ·)), and its logarithm. See Apple's pages on
//! [MPSMatrixSoftMax](https://developer.apple.com/documentation/metalperformanceshaders/mpsmatrixsoftmax)
//! and [MPSMatrixLogSoftMax](https://developer.apple.com/documentation/metalperformanceshaders/mpsmatrixlogsoftmax).
//! Whether they work in place is not documented, so here they may not. There is no mask; a row of
//! nothing but −∞ has no defined result.

#![allow(unsafe_code)] // MPS's methods are bound as unsafe

use objc2::AllocAnyThread;
use objc2::rc::{Retained, autoreleasepool};
use objc2_metal_performance_shaders::{MPSMatrixLogSoftMax, MPSMatrixSoftMax};

use super::{Check, types};
use crate::command_buffer::CommandBuffer;
use crate::device::Device;
use crate::error::Result;
use crate::matrix::Matrix;

const SOFTMAX: Check = Check { op: "softmax" };
const LOG_SOFTMAX: Check = Check { op: "log softmax" };

/// y = softmax of each row of x.
///
/// ```
/// use safe_mps::{DataType, Device, Error, Matrix, SoftMax};
///
/// fn main() -> Result<(), Error> {
///     let device = Device::system_default()?;
///     let x = Matrix::from_slice(&device, 2, 2, &[0.0f32, 0.0, 0.0, 3f32.ln()])?;
///     let mut y = Matrix::zeros(&device, 2, 2, DataType::F32)?;
///
///     let commands = device.new_queue()?.command_buffer()?;
///     SoftMax::new(&device)?.encode(&commands, &x, &mut y)?;
///     commands.commit().wait()?;
///
///     for (got, expected) in y.to_vec::<f32>()?.iter().zip([0.5, 0.5, 0.25, 0.75]) {
///         assert!((got - expected).abs() < 1e-6);
///     }
///     Ok(())
/// }
/// ```
pub struct SoftMax {
    raw: Retained<MPSMatrixSoftMax>,
    device: Device,
}

// SAFETY: Apple allows one thread at a time to use a kernel object, not a particular one. There is
// no `Sync`: that is the "one at a time".
unsafe impl Send for SoftMax {}

impl SoftMax {
    /// The kernel, for use on `device`.
    pub fn new(device: &Device) -> Result<Self> {
        device.require_mps(SOFTMAX.op)?;
        // SAFETY: the device is valid and supported, which is all that the initialiser asks.
        let raw = autoreleasepool(|_| unsafe {
            MPSMatrixSoftMax::initWithDevice(MPSMatrixSoftMax::alloc(), device.metal())
        });
        Ok(Self {
            raw,
            device: device.clone(),
        })
    }

    /// Encodes `result` = softmax(`input`): equal sizes, both f32 or both f16, no shared memory.
    pub fn encode(&self, on: &CommandBuffer, input: &Matrix, result: &mut Matrix) -> Result<()> {
        encode(SOFTMAX, &self.raw, &self.device, on, input, result)
    }
}

impl std::fmt::Debug for SoftMax {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SoftMax")
            .field("device", &self.device)
            .finish()
    }
}

/// y = x − ln Σ exp(x) for each row of x.
///
/// ```
/// use safe_mps::{DataType, Device, Error, LogSoftMax, Matrix};
///
/// fn main() -> Result<(), Error> {
///     let device = Device::system_default()?;
///     let x = Matrix::from_slice(&device, 1, 2, &[7.0f32, 7.0])?;
///     let mut y = Matrix::zeros(&device, 1, 2, DataType::F32)?;
///
///     let commands = device.new_queue()?.command_buffer()?;
///     LogSoftMax::new(&device)?.encode(&commands, &x, &mut y)?;
///     commands.commit().wait()?;
///
///     for got in y.to_vec::<f32>()? {
///         assert!((got - 0.5f32.ln()).abs() < 1e-6);
///     }
///     Ok(())
/// }
/// ```
pub struct LogSoftMax {
    raw: Retained<MPSMatrixLogSoftMax>,
    device: Device,
}

// SAFETY: as for `SoftMax`.
unsafe impl Send for LogSoftMax {}

impl LogSoftMax {
    /// The kernel, for use on `device`.
    pub fn new(device: &Device) -> Result<Self> {
        device.require_mps(LOG_SOFTMAX.op)?;
        // SAFETY: the device is valid and supported, which is all that the initialiser asks.
        let raw = autoreleasepool(|_| unsafe {
            MPSMatrixLogSoftMax::initWithDevice(MPSMatrixLogSoftMax::alloc(), device.metal())
        });
        Ok(Self {
            raw,
            device: device.clone(),
        })
    }

    /// Encodes `result` = log softmax(`input`): equal sizes, both f32 or both f16, no shared
    /// memory.
    pub fn encode(&self, on: &CommandBuffer, input: &Matrix, result: &mut Matrix) -> Result<()> {
        encode(LOG_SOFTMAX, &self.raw, &self.device, on, input, result)
    }
}

impl std::fmt::Debug for LogSoftMax {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LogSoftMax")
            .field("device", &self.device)
            .finish()
    }
}

/// The two differ in their class only, and the class of `raw` decides.
fn encode(
    check: Check,
    raw: &MPSMatrixSoftMax,
    device: &Device,
    on: &CommandBuffer,
    input: &Matrix,
    result: &mut Matrix,
) -> Result<()> {
    check.kernel_device(on, device)?;
    types::check_rows(check.op, &[("input", input)], result)?;
    check.size("input", input, result.rows(), result.columns())?;
    check.batch("input", input, result)?;
    check.disjoint("input", input, result)?;
    on.record(
        check.op,
        &[input.input("input"), result.output("result")],
        |commands| {
            // SAFETY: types, sizes, batches, devices and memory have been checked above, and no
            // encoder is open: this crate ends each within one call.
            unsafe {
                raw.encodeToCommandBuffer_inputMatrix_resultMatrix(
                    commands,
                    &input.to_mps(),
                    &result.to_mps(),
                );
            }
            Ok(())
        },
    )
}
