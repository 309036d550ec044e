//! [`SoftMaxGradient`] and [`LogSoftMaxGradient`]: from the gradient of the result back to that of
//! the input, row by row.
//!
//! With y the forward result and g its gradient: y · (g − Σ g·y) for softmax, and g − exp(y) · Σ g
//! for log softmax. See Apple's pages on
//! [MPSMatrixSoftMaxGradient](https://developer.apple.com/documentation/metalperformanceshaders/mpsmatrixsoftmaxgradient)
//! and [MPSMatrixLogSoftMaxGradient](https://developer.apple.com/documentation/metalperformanceshaders/mpsmatrixlogsoftmaxgradient);
//! the header prints the second with the sum inside the exponential, which no calculus yields.

#![allow(unsafe_code)] // MPS's methods are bound as unsafe

use objc2::AllocAnyThread;
use objc2::rc::{Retained, autoreleasepool};
use objc2_metal_performance_shaders::{MPSMatrixLogSoftMaxGradient, MPSMatrixSoftMaxGradient};

use super::{Check, types};
use crate::command_buffer::CommandBuffer;
use crate::device::Device;
use crate::error::Result;
use crate::matrix::Matrix;

const SOFTMAX: Check = Check {
    op: "softmax gradient",
};
const LOG_SOFTMAX: Check = Check {
    op: "log softmax gradient",
};

/// The gradient of [`SoftMax`](crate::SoftMax).
///
/// ```
/// use safe_mps::{DataType, Device, Error, Matrix, SoftMaxGradient};
///
/// fn main() -> Result<(), Error> {
///     let device = Device::system_default()?;
///     let y = Matrix::from_slice(&device, 1, 2, &[0.5f32, 0.5])?;
///     let g = Matrix::from_slice(&device, 1, 2, &[1.0f32, 0.0])?;
///     let mut dx = Matrix::zeros(&device, 1, 2, DataType::F32)?;
///
///     let commands = device.new_queue()?.command_buffer()?;
///     SoftMaxGradient::new(&device)?.encode(&commands, &g, &y, &mut dx)?;
///     commands.commit().wait()?;
///
///     for (got, expected) in dx.to_vec::<f32>()?.iter().zip([0.25, -0.25]) {
///         assert!((got - expected).abs() < 1e-6);
///     }
///     Ok(())
/// }
/// ```
pub struct SoftMaxGradient {
    raw: Retained<MPSMatrixSoftMaxGradient>,
    device: Device,
}

// SAFETY: Apple allows one thread at a time to use a kernel object, not a particular one. There is
// no `Sync`: that is the "one at a time".
unsafe impl Send for SoftMaxGradient {}

impl SoftMaxGradient {
    /// The kernel, for use on `device`.
    pub fn new(device: &Device) -> Result<Self> {
        device.require_mps(SOFTMAX.op)?;
        // SAFETY: the device is valid and supported, which is all that the initialiser asks.
        let raw = autoreleasepool(|_| unsafe {
            MPSMatrixSoftMaxGradient::initWithDevice(
                MPSMatrixSoftMaxGradient::alloc(),
                device.metal(),
            )
        });
        Ok(Self {
            raw,
            device: device.clone(),
        })
    }

    /// Encodes `result` = gradient of the input, given the `gradient` of the result and the
    /// result itself, `forward`: equal sizes, all f32 or all f16, no memory shared with `result`.
    pub fn encode(
        &self,
        on: &CommandBuffer,
        gradient: &Matrix,
        forward: &Matrix,
        result: &mut Matrix,
    ) -> Result<()> {
        encode(
            SOFTMAX,
            &self.raw,
            &self.device,
            on,
            gradient,
            forward,
            result,
        )
    }
}

impl std::fmt::Debug for SoftMaxGradient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SoftMaxGradient")
            .field("device", &self.device)
            .finish()
    }
}

/// The gradient of [`LogSoftMax`](crate::LogSoftMax).
///
/// ```
/// use safe_mps::{DataType, Device, Error, LogSoftMaxGradient, Matrix};
///
/// fn main() -> Result<(), Error> {
///     let device = Device::system_default()?;
///     let half = 0.5f32.ln();
///     let y = Matrix::from_slice(&device, 1, 2, &[half, half])?;
///     let g = Matrix::from_slice(&device, 1, 2, &[1.0f32, 0.0])?;
///     let mut dx = Matrix::zeros(&device, 1, 2, DataType::F32)?;
///
///     let commands = device.new_queue()?.command_buffer()?;
///     LogSoftMaxGradient::new(&device)?.encode(&commands, &g, &y, &mut dx)?;
///     commands.commit().wait()?;
///
///     for (got, expected) in dx.to_vec::<f32>()?.iter().zip([0.5, -0.5]) {
///         assert!((got - expected).abs() < 1e-6);
///     }
///     Ok(())
/// }
/// ```
pub struct LogSoftMaxGradient {
    raw: Retained<MPSMatrixLogSoftMaxGradient>,
    device: Device,
}

// SAFETY: as for `SoftMaxGradient`.
unsafe impl Send for LogSoftMaxGradient {}

impl LogSoftMaxGradient {
    /// The kernel, for use on `device`.
    pub fn new(device: &Device) -> Result<Self> {
        device.require_mps(LOG_SOFTMAX.op)?;
        // SAFETY: the device is valid and supported, which is all that the initialiser asks.
        let raw = autoreleasepool(|_| unsafe {
            MPSMatrixLogSoftMaxGradient::initWithDevice(
                MPSMatrixLogSoftMaxGradient::alloc(),
                device.metal(),
            )
        });
        Ok(Self {
            raw,
            device: device.clone(),
        })
    }

    /// Encodes `result` = gradient of the input, given the `gradient` of the result and the
    /// result itself, `forward`: equal sizes, all f32 or all f16, no memory shared with `result`.
    pub fn encode(
        &self,
        on: &CommandBuffer,
        gradient: &Matrix,
        forward: &Matrix,
        result: &mut Matrix,
    ) -> Result<()> {
        encode(
            LOG_SOFTMAX,
            &self.raw,
            &self.device,
            on,
            gradient,
            forward,
            result,
        )
    }
}

impl std::fmt::Debug for LogSoftMaxGradient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LogSoftMaxGradient")
            .field("device", &self.device)
            .finish()
    }
}

/// The two differ in their class only, and the class of `raw` decides.
fn encode(
    check: Check,
    raw: &MPSMatrixSoftMaxGradient,
    device: &Device,
    on: &CommandBuffer,
    gradient: &Matrix,
    forward: &Matrix,
    result: &mut Matrix,
) -> Result<()> {
    check.kernel_device(on, device)?;
    let inputs = [("gradient", gradient), ("forward result", forward)];
    types::check_rows(check.op, &inputs, result)?;
    for (operand, matrix) in inputs {
        check.size(operand, matrix, result.rows(), result.columns())?;
        check.batch(operand, matrix, result)?;
        check.disjoint(operand, matrix, result)?;
    }
    let uses = [
        gradient.input("gradient"),
        forward.input("forward result"),
        result.output("result"),
    ];
    on.record(check.op, &uses, |commands| {
        // SAFETY: types, sizes, batches, devices and memory have been checked above, and no
        // encoder is open: this crate ends each within one call.
        unsafe {
            raw.encodeToCommandBuffer_gradientMatrix_forwardOutputMatrix_resultMatrix(
                commands,
                &gradient.to_mps(),
                &forward.to_mps(),
                &result.to_mps(),
            );
        }
        Ok(())
    })
}
