//! `MPSMatrixSoftMax`, `MPSMatrixLogSoftMax` and their gradients, row by row (rules 27, 28).
//! Softmax subtracts the row's maximum first; what sources leave open (rows of -inf, NaN)
//! follows IEEE arithmetic.

use super::data_type::Element;
use super::kernel::{SimBinaryKernel, SimKernel, SimUnaryKernel, checked_origin};
use super::matrix::SimMatrix;
use super::view::View;
use crate::fault::fault;
use crate::lock;
use crate::model::command_buffer::SimCommandBuffer;
use crate::model::device::SimDevice;
use crate::model::given;
use crate::pass::Op;
use objc2::rc::{Allocated, Retained};
use objc2::runtime::{AnyObject, NSObject, NSObjectProtocol};
use objc2::{ClassType, DefinedClass, define_class, msg_send};
use objc2_metal::MTLOrigin;
use std::sync::Mutex;

/// How much of the source is used; clipped to what is there.
#[derive(Clone, Copy)]
pub struct Extent {
    rows: usize,
    columns: usize,
}

impl Extent {
    const ALL: Self = Self {
        rows: usize::MAX,
        columns: usize::MAX,
    };
}

macro_rules! extent_class {
    ($class:ident, $name:literal, $super:ident, { $($methods:tt)* }) => {
        define_class!(
            // SAFETY: the superclass has no requirements, and there is no `Drop`.
            #[unsafe(super($super, SimKernel, NSObject))]
            #[name = $name]
            #[ivars = Mutex<Extent>]
            #[doc = concat!("The class behind `", $name, "`.")]
            pub struct $class;

            // SAFETY: no further requirements.
            unsafe impl NSObjectProtocol for $class {}

            impl $class {
                #[unsafe(method_id(initWithDevice:))]
                fn init_with_device(this: Allocated<Self>, device: Option<&SimDevice>) -> Retained<Self> {
                    let device = given(device, "initWithDevice:", "device");
                    let this = this.set_ivars(Mutex::new(Extent::ALL));
                    // SAFETY: the superclass's initialiser has this signature.
                    unsafe { msg_send![super(this), initWithDevice: device] }
                }

                #[unsafe(method(sourceRows))]
                fn source_rows(&self) -> usize {
                    lock(self.ivars()).rows
                }

                #[unsafe(method(setSourceRows:))]
                fn set_source_rows(&self, rows: usize) {
                    lock(self.ivars()).rows = rows;
                }

                #[unsafe(method(sourceColumns))]
                fn source_columns(&self) -> usize {
                    lock(self.ivars()).columns
                }

                #[unsafe(method(setSourceColumns:))]
                fn set_source_columns(&self, columns: usize) {
                    lock(self.ivars()).columns = columns;
                }

                $($methods)*
            }
        );
    };
}

extent_class!(SimSoftMax, "MPSMatrixSoftMax", SimUnaryKernel, {
    #[unsafe(method(encodeToCommandBuffer:inputMatrix:resultMatrix:))]
    fn encode(
        &self,
        buffer: Option<&SimCommandBuffer>,
        input: Option<&SimMatrix>,
        result: Option<&SimMatrix>,
    ) {
        let buffer = given(
            buffer,
            "encodeToCommandBuffer:inputMatrix:resultMatrix:",
            "buffer",
        );
        let input = given(
            input,
            "encodeToCommandBuffer:inputMatrix:resultMatrix:",
            "input",
        );
        let result = given(
            result,
            "encodeToCommandBuffer:inputMatrix:resultMatrix:",
            "result",
        );
        self.encode_to(buffer, input, result);
    }
});

extent_class!(
    SimSoftMaxGradient,
    "MPSMatrixSoftMaxGradient",
    SimBinaryKernel,
    {
        #[unsafe(method(encodeToCommandBuffer:gradientMatrix:forwardOutputMatrix:resultMatrix:))]
        fn encode(
            &self,
            buffer: Option<&SimCommandBuffer>,
            gradient: Option<&SimMatrix>,
            output: Option<&SimMatrix>,
            result: Option<&SimMatrix>,
        ) {
            let buffer = given(
                buffer,
                "encodeToCommandBuffer:gradientMatrix:forwardOutputMatrix:resultMatrix:",
                "buffer",
            );
            let gradient = given(
                gradient,
                "encodeToCommandBuffer:gradientMatrix:forwardOutputMatrix:resultMatrix:",
                "gradient",
            );
            let output = given(
                output,
                "encodeToCommandBuffer:gradientMatrix:forwardOutputMatrix:resultMatrix:",
                "output",
            );
            let result = given(
                result,
                "encodeToCommandBuffer:gradientMatrix:forwardOutputMatrix:resultMatrix:",
                "result",
            );
            self.encode_to(buffer, gradient, output, result);
        }
    }
);

macro_rules! log_class {
    ($class:ident, $name:literal, $super:ident, $base:ident) => {
        define_class!(
            // SAFETY: the superclass has no requirements, and there is no `Drop`.
            #[unsafe(super($super, $base, SimKernel, NSObject))]
            #[name = $name]
            #[doc = concat!("The class behind `", $name, "`.")]
            pub struct $class;

            // SAFETY: no further requirements.
            unsafe impl NSObjectProtocol for $class {}

            impl $class {
                #[unsafe(method_id(initWithDevice:))]
                fn init_with_device(this: Allocated<Self>, device: Option<&SimDevice>) -> Retained<Self> {
                    let device = given(device, "initWithDevice:", "device");
                    // SAFETY: the superclass's initialiser has this signature.
                    unsafe { msg_send![super(this.set_ivars(())), initWithDevice: device] }
                }
            }
        );
    };
}

log_class!(
    SimLogSoftMax,
    "MPSMatrixLogSoftMax",
    SimSoftMax,
    SimUnaryKernel
);
log_class!(
    SimLogSoftMaxGradient,
    "MPSMatrixLogSoftMaxGradient",
    SimSoftMaxGradient,
    SimBinaryKernel
);

/// The float type that all operands share; Apple takes f32 and f16.
fn check_types(call: &str, operands: &[&SimMatrix]) {
    let first = operands[0].shape().element();
    for matrix in operands {
        let element = matrix.shape().element();
        if element != first || !matches!(element, Element::F32 | Element::F16) {
            fault(
                call,
                format!("data types must all be f32 or all f16, not {first:?} and {element:?}"),
            );
        }
    }
}

/// The result's region; too small is undefined on a Mac, and so a fault here.
fn result_region(call: &str, matrix: &SimMatrix, origin: MTLOrigin, like: &View) -> View {
    let view = matrix
        .view()
        .from(checked_origin(call, "resultMatrix", origin, matrix));
    if view.rows() < like.rows() || view.columns() < like.columns() {
        fault(
            call,
            format!(
                "resultMatrix has {} x {} from its origin, the source has {} x {}",
                view.rows(),
                view.columns(),
                like.rows(),
                like.columns()
            ),
        );
    }
    view.cut(like.rows(), like.columns())
}

impl SimSoftMax {
    fn encode_to(&self, buffer: &SimCommandBuffer, input: &SimMatrix, result: &SimMatrix) {
        const CALL: &str = "MPSMatrixSoftMax encode";
        let unary: &SimUnaryKernel = self;
        let kernel: &SimKernel = unary;
        kernel.check_devices(CALL, buffer, &[input, result]);
        check_types(CALL, &[input, result]);
        let settings = unary.settings();
        let extent = *lock(self.ivars());
        let origin = checked_origin(CALL, "inputMatrix", settings.source, input);
        let x = input.view().from(origin).cut(extent.rows, extent.columns);
        let y = result_region(CALL, result, settings.result, &x);
        let batch = settings.batch.indices(CALL, &[&x, &y]);
        let log = self.isKindOfClass(SimLogSoftMax::class());
        let name = if log {
            "MPSMatrixLogSoftMax"
        } else {
            "MPSMatrixSoftMax"
        };
        let op = Op {
            label: format!("{name} {}x{}", x.rows(), x.columns()),
            accesses: [x.accesses(false), y.accesses(true)].concat(),
            run: Box::new(move || {
                for index in batch {
                    for row in 0..x.rows() {
                        // SAFETY: the GPU's rules order these accesses. A row is read
                        // before it is written, so in place is fine.
                        unsafe { softmax_row(&x, &y, index, row, log) };
                    }
                }
                None
            }),
        };
        let uses: [&AnyObject; 2] = [input.buffer(), result.buffer()];
        buffer.encode_own(CALL, op, uses);
    }
}

/// # Safety
/// Nobody else writes the row of x, or accesses the row of y, meanwhile.
unsafe fn softmax_row(x: &View, y: &View, batch: usize, row: usize, log: bool) {
    // SAFETY: the caller's promise.
    let values = unsafe { x.row(batch, row) };
    let largest = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let sum: f64 = values.iter().map(|value| (value - largest).exp()).sum();
    for (column, value) in values.iter().enumerate() {
        let shifted = value - largest;
        let result = if log {
            shifted - sum.ln()
        } else {
            shifted.exp() / sum
        };
        // SAFETY: the caller's promise.
        unsafe { y.set(batch, row, column, result) };
    }
}

impl SimSoftMaxGradient {
    fn encode_to(
        &self,
        buffer: &SimCommandBuffer,
        gradient: &SimMatrix,
        output: &SimMatrix,
        result: &SimMatrix,
    ) {
        const CALL: &str = "MPSMatrixSoftMaxGradient encode";
        let binary: &SimBinaryKernel = self;
        let kernel: &SimKernel = binary;
        kernel.check_devices(CALL, buffer, &[gradient, output, result]);
        check_types(CALL, &[gradient, output, result]);
        let settings = binary.settings();
        let extent = *lock(self.ivars());
        let origin = checked_origin(CALL, "gradientMatrix", settings.primary, gradient);
        let dy = gradient
            .view()
            .from(origin)
            .cut(extent.rows, extent.columns);
        let origin = checked_origin(CALL, "forwardOutputMatrix", settings.secondary, output);
        let y = output.view().from(origin).cut(extent.rows, extent.columns);
        if (y.rows(), y.columns()) != (dy.rows(), dy.columns()) {
            fault(
                CALL,
                "gradientMatrix and forwardOutputMatrix differ in size",
            );
        }
        let dx = result_region(CALL, result, settings.result, &dy);
        let batch = settings.batch.indices(CALL, &[&dy, &y, &dx]);
        let log = self.isKindOfClass(SimLogSoftMaxGradient::class());
        let name = if log {
            "MPSMatrixLogSoftMaxGradient"
        } else {
            "MPSMatrixSoftMaxGradient"
        };
        let op = Op {
            label: format!("{name} {}x{}", dy.rows(), dy.columns()),
            accesses: [dy.accesses(false), y.accesses(false), dx.accesses(true)].concat(),
            run: Box::new(move || {
                for index in batch {
                    for row in 0..dy.rows() {
                        // SAFETY: the GPU's rules order these accesses.
                        unsafe { gradient_row(&dy, &y, &dx, index, row, log) };
                    }
                }
                None
            }),
        };
        let uses: [&AnyObject; 3] = [gradient.buffer(), output.buffer(), result.buffer()];
        buffer.encode_own(CALL, op, uses);
    }
}

/// dX = Y (dY - sum(dY Y)) for softmax, dY - exp(Y) sum(dY) for its logarithm.
///
/// # Safety
/// Nobody else writes the rows of dy and y, or accesses the row of dx, meanwhile.
unsafe fn gradient_row(dy: &View, y: &View, dx: &View, batch: usize, row: usize, log: bool) {
    // SAFETY: the caller's promise.
    let (gradient, output) = unsafe { (dy.row(batch, row), y.row(batch, row)) };
    let pairs = || gradient.iter().zip(&output);
    let total: f64 = if log {
        gradient.iter().sum()
    } else {
        pairs().map(|(g, y)| g * y).sum()
    };
    for (column, (g, y)) in pairs().enumerate() {
        let result = if log {
            g - y.exp() * total
        } else {
            y * (g - total)
        };
        // SAFETY: the caller's promise.
        unsafe { dx.set(batch, row, column, result) };
    }
}
