//! Metal Performance Shaders: the matrix family. Kernels encode as Apple's do: each opens
//! and closes its own encoder on the command buffer, takes a snapshot of its own state, and
//! aborts (a fault here) on what Apple asserts.

pub mod data_type;
pub mod kernel;
pub mod matrix;
pub mod multiplication;
pub mod softmax;
pub mod view;

use crate::model::device::SimDevice;
use metal_sim_objc::class;
use objc2::ClassType;
use objc2::runtime::Bool;

metal_sim_objc::link_class!(
    MPS_KERNEL = "MPSKernel",
    MPS_MATRIX = "MPSMatrix",
    MPS_MATRIX_BINARY_KERNEL = "MPSMatrixBinaryKernel",
    MPS_MATRIX_DESCRIPTOR = "MPSMatrixDescriptor",
    MPS_MATRIX_LOG_SOFT_MAX = "MPSMatrixLogSoftMax",
    MPS_MATRIX_LOG_SOFT_MAX_GRADIENT = "MPSMatrixLogSoftMaxGradient",
    MPS_MATRIX_MULTIPLICATION = "MPSMatrixMultiplication",
    MPS_MATRIX_SOFT_MAX = "MPSMatrixSoftMax",
    MPS_MATRIX_SOFT_MAX_GRADIENT = "MPSMatrixSoftMaxGradient",
    MPS_MATRIX_UNARY_KERNEL = "MPSMatrixUnaryKernel",
);

pub(crate) fn register() {
    class::declare_statics(&statics());
    // Asking for its class is what makes a defined class exist.
    let _ = (
        matrix::SimMatrixDescriptor::class(),
        matrix::SimMatrix::class(),
    );
    let _ = (kernel::SimKernel::class(), kernel::SimUnaryKernel::class());
    let _ = (
        kernel::SimBinaryKernel::class(),
        multiplication::SimMultiplication::class(),
    );
    let _ = (
        softmax::SimSoftMax::class(),
        softmax::SimLogSoftMax::class(),
    );
    let _ = (
        softmax::SimSoftMaxGradient::class(),
        softmax::SimLogSoftMaxGradient::class(),
    );
}

#[unsafe(no_mangle)]
extern "C-unwind" fn MPSSupportsMTLDevice(device: Option<&SimDevice>) -> Bool {
    Bool::new(device.is_some())
}
