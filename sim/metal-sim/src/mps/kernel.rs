//! `MPSKernel` and its abstract children: options, label, origins and the batch range.

use super::matrix::SimMatrix;
use super::view::View;
use crate::fault::{fault, warn};
use crate::lock;
use crate::model::command_buffer::SimCommandBuffer;
use crate::model::device::SimDevice;
use crate::model::{Kept, given};
use crate::rules::rules;
use objc2::rc::{Allocated, Retained};
use objc2::runtime::{NSObject, NSObjectProtocol};
use objc2::{DefinedClass, Message, define_class, msg_send};
use objc2_foundation::NSString;
use objc2_metal::MTLOrigin;
use objc2_metal_performance_shaders::MPSKernelOptions;
use std::sync::Mutex;

/// What every kernel has.
pub struct Kernel {
    device: Kept<SimDevice>,
    options: Mutex<MPSKernelOptions>,
    label: Mutex<Option<String>>,
}

define_class!(
    // SAFETY: NSObject has no requirements on its subclasses, and there is no `Drop`.
    #[unsafe(super(NSObject))]
    #[name = "MPSKernel"]
    #[ivars = Kernel]
    /// The class behind `MPSKernel`.
    pub struct SimKernel;

    // SAFETY: no further requirements.
    unsafe impl NSObjectProtocol for SimKernel {}

    impl SimKernel {
        #[unsafe(method_id(initWithDevice:))]
        fn init_with_device(this: Allocated<Self>, device: Option<&SimDevice>) -> Retained<Self> {
            let device = given(device, "initWithDevice:", "device");
            let kernel = Kernel {
                device: Kept::new(device),
                options: Mutex::new(MPSKernelOptions::None),
                label: Mutex::new(None),
            };
            // SAFETY: NSObject's `init` has this signature.
            unsafe { msg_send![super(this.set_ivars(kernel)), init] }
        }

        #[unsafe(method_id(device))]
        fn device(&self) -> Retained<SimDevice> {
            self.on().retain()
        }

        #[unsafe(method(options))]
        fn options(&self) -> MPSKernelOptions {
            *lock(&self.ivars().options)
        }

        #[unsafe(method(setOptions:))]
        fn set_options(&self, options: MPSKernelOptions) {
            *lock(&self.ivars().options) = options;
        }

        #[unsafe(method_id(label))]
        fn label(&self) -> Option<Retained<NSString>> {
            lock(&self.ivars().label).as_deref().map(NSString::from_str)
        }

        #[unsafe(method(setLabel:))]
        fn set_label(&self, label: Option<&NSString>) {
            *lock(&self.ivars().label) = label.map(ToString::to_string);
        }
    }
);

impl SimKernel {
    pub(crate) fn on(&self) -> &SimDevice {
        self.ivars().device.get()
    }

    /// Apple's assertion that kernel, matrices and command buffer share a device.
    pub(crate) fn check_devices(
        &self,
        call: &str,
        buffer: &SimCommandBuffer,
        matrices: &[&SimMatrix],
    ) {
        buffer.check_device(call, self.on());
        for matrix in matrices {
            buffer.check_device(call, matrix.on());
        }
    }
}

/// Which matrices of a batch a kernel works on.
#[derive(Clone, Copy, Debug)]
pub struct Batch {
    /// The first.
    pub start: usize,
    /// How many; `None` for all that are there.
    pub size: Option<usize>,
}

impl Batch {
    pub(crate) const ALL: Self = Self {
        start: 0,
        size: None,
    };

    pub(crate) fn size_or_all(self) -> usize {
        self.size.unwrap_or(usize::MAX)
    }

    /// The batch indices for operands with this many matrices each: one with a single matrix
    /// serves every index. Doubtful settings are told (rule 17).
    pub(crate) fn indices(self, call: &str, operands: &[&View]) -> std::ops::Range<usize> {
        let all = operands
            .iter()
            .map(|view| view.matrices())
            .max()
            .unwrap_or(0);
        for view in operands {
            if view.matrices() != all {
                fault(
                    call,
                    format!("operands hold {all} and {} matrices", view.matrices()),
                );
            }
        }
        if self.start != 0 || self.size.is_some_and(|size| size != all) {
            warn(
                call,
                "batchStart and batchSize are reported to be ignored by some systems: use offsets",
            );
        }
        let start = match rules().ignore_batch_start {
            true => 0,
            false => self.start.min(all),
        };
        start..start.saturating_add(self.size_or_all()).min(all)
    }
}

/// A region's start; z has no meaning for matrices.
pub(crate) fn checked_origin(
    call: &str,
    operand: &str,
    origin: MTLOrigin,
    matrix: &SimMatrix,
) -> MTLOrigin {
    let shape = matrix.shape();
    if origin.z != 0 {
        fault(
            call,
            format!("the origin of {operand} has z = {}; it must be 0", origin.z),
        );
    }
    if origin.x >= shape.rows || origin.y >= shape.columns {
        fault(
            call,
            format!(
                "the origin of {operand} ({}, {}) is outside {} x {}",
                origin.x, origin.y, shape.rows, shape.columns
            ),
        );
    }
    origin
}

pub(crate) const ORIGIN: MTLOrigin = MTLOrigin { x: 0, y: 0, z: 0 };

/// Settings of a kernel with one source.
#[derive(Clone, Copy)]
pub struct Unary {
    /// Where the source region starts.
    pub source: MTLOrigin,
    /// Where the result region starts.
    pub result: MTLOrigin,
    /// Which matrices.
    pub batch: Batch,
}

/// Settings of a kernel with two sources.
#[derive(Clone, Copy)]
pub struct Binary {
    /// Where the first source region starts.
    pub primary: MTLOrigin,
    /// Where the second source region starts.
    pub secondary: MTLOrigin,
    /// Where the result region starts.
    pub result: MTLOrigin,
    /// Which matrices.
    pub batch: Batch,
}

define_class!(
    // SAFETY: SimKernel has no requirements on its subclasses, and there is no `Drop`.
    #[unsafe(super(SimKernel, NSObject))]
    #[name = "MPSMatrixUnaryKernel"]
    #[ivars = Mutex<Unary>]
    /// The class behind `MPSMatrixUnaryKernel`.
    pub struct SimUnaryKernel;

    // SAFETY: no further requirements.
    unsafe impl NSObjectProtocol for SimUnaryKernel {}

    impl SimUnaryKernel {
        #[unsafe(method_id(initWithDevice:))]
        fn init_with_device(this: Allocated<Self>, device: Option<&SimDevice>) -> Retained<Self> {
            let device = given(device, "initWithDevice:", "device");
            let settings = Unary { source: ORIGIN, result: ORIGIN, batch: Batch::ALL };
            // SAFETY: MPSKernel's designated initialiser has this signature.
            unsafe { msg_send![super(this.set_ivars(Mutex::new(settings))), initWithDevice: device] }
        }

        #[unsafe(method(sourceMatrixOrigin))]
        fn source_origin(&self) -> MTLOrigin {
            lock(self.ivars()).source
        }

        #[unsafe(method(setSourceMatrixOrigin:))]
        fn set_source_origin(&self, origin: MTLOrigin) {
            lock(self.ivars()).source = origin;
        }

        #[unsafe(method(resultMatrixOrigin))]
        fn result_origin(&self) -> MTLOrigin {
            lock(self.ivars()).result
        }

        #[unsafe(method(setResultMatrixOrigin:))]
        fn set_result_origin(&self, origin: MTLOrigin) {
            lock(self.ivars()).result = origin;
        }

        #[unsafe(method(batchStart))]
        fn batch_start(&self) -> usize {
            lock(self.ivars()).batch.start
        }

        #[unsafe(method(setBatchStart:))]
        fn set_batch_start(&self, start: usize) {
            lock(self.ivars()).batch.start = start;
        }

        #[unsafe(method(batchSize))]
        fn batch_size(&self) -> usize {
            lock(self.ivars()).batch.size_or_all()
        }

        #[unsafe(method(setBatchSize:))]
        fn set_batch_size(&self, size: usize) {
            lock(self.ivars()).batch.size = Some(size);
        }
    }
);

impl SimUnaryKernel {
    pub(crate) fn settings(&self) -> Unary {
        *lock(self.ivars())
    }
}

define_class!(
    // SAFETY: SimKernel has no requirements on its subclasses, and there is no `Drop`.
    #[unsafe(super(SimKernel, NSObject))]
    #[name = "MPSMatrixBinaryKernel"]
    #[ivars = Mutex<Binary>]
    /// The class behind `MPSMatrixBinaryKernel`.
    pub struct SimBinaryKernel;

    // SAFETY: no further requirements.
    unsafe impl NSObjectProtocol for SimBinaryKernel {}

    impl SimBinaryKernel {
        #[unsafe(method_id(initWithDevice:))]
        fn init_with_device(this: Allocated<Self>, device: Option<&SimDevice>) -> Retained<Self> {
            let device = given(device, "initWithDevice:", "device");
            let settings =
                Binary { primary: ORIGIN, secondary: ORIGIN, result: ORIGIN, batch: Batch::ALL };
            // SAFETY: MPSKernel's designated initialiser has this signature.
            unsafe { msg_send![super(this.set_ivars(Mutex::new(settings))), initWithDevice: device] }
        }

        #[unsafe(method(primarySourceMatrixOrigin))]
        fn primary_origin(&self) -> MTLOrigin {
            lock(self.ivars()).primary
        }

        #[unsafe(method(setPrimarySourceMatrixOrigin:))]
        fn set_primary_origin(&self, origin: MTLOrigin) {
            lock(self.ivars()).primary = origin;
        }

        #[unsafe(method(secondarySourceMatrixOrigin))]
        fn secondary_origin(&self) -> MTLOrigin {
            lock(self.ivars()).secondary
        }

        #[unsafe(method(setSecondarySourceMatrixOrigin:))]
        fn set_secondary_origin(&self, origin: MTLOrigin) {
            lock(self.ivars()).secondary = origin;
        }

        #[unsafe(method(resultMatrixOrigin))]
        fn result_origin(&self) -> MTLOrigin {
            lock(self.ivars()).result
        }

        #[unsafe(method(setResultMatrixOrigin:))]
        fn set_result_origin(&self, origin: MTLOrigin) {
            lock(self.ivars()).result = origin;
        }

        #[unsafe(method(batchStart))]
        fn batch_start(&self) -> usize {
            lock(self.ivars()).batch.start
        }

        #[unsafe(method(setBatchStart:))]
        fn set_batch_start(&self, start: usize) {
            lock(self.ivars()).batch.start = start;
        }

        #[unsafe(method(batchSize))]
        fn batch_size(&self) -> usize {
            lock(self.ivars()).batch.size_or_all()
        }

        #[unsafe(method(setBatchSize:))]
        fn set_batch_size(&self, size: usize) {
            lock(self.ivars()).batch.size = Some(size);
        }
    }
);

impl SimBinaryKernel {
    pub(crate) fn settings(&self) -> Binary {
        *lock(self.ivars())
    }
}
