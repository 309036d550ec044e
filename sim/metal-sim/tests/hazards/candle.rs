//! Candle's device with its queue, and the queue route in both forms, as the product could take it. Each of its
//! orderings can be left out.

use crate::gpu::{Fence as RawFence, Gpu, Queue};
use crate::support::size;
use candle_core::op::BackpropOp;
use candle_core::{DType, Device, MetalDevice, MetalStorage, Storage, Tensor};
use candle_metal_kernels::metal::{Buffer, ComputePipeline, Fence};
use objc2::rc::Retained;
use objc2::runtime::{AnyClass, AnyObject, Imp, ProtocolObject, Sel};
use objc2::{AnyThread, Message, sel};
use objc2_foundation::NSRange;
use objc2_metal::{
    MTLBlitCommandEncoder, MTLBuffer, MTLCommandBuffer, MTLCommandEncoder, MTLCommandQueue,
    MTLComputeCommandEncoder, MTLSharedEvent,
};
use objc2_metal_performance_shaders::{
    MPSDataType, MPSMatrix, MPSMatrixDescriptor, MPSMatrixMultiplication,
};
use std::cell::{Cell, RefCell};
use std::sync::Arc;

/// Rows and columns of the matrices.
pub const SIDE: usize = 8;
/// After so many encoders Candle commits.
const PER_BUFFER: usize = 50;

pub type MetalBuffer = ProtocolObject<dyn MTLBuffer>;

/// How our work gets between Candle's.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// Our own encoder, which waits for a fence and updates one.
    Fenced,
    /// An encoder that MPS opens, between pairs of events.
    Events,
}

/// Candle's device, and its queue.
pub struct Stream {
    pub device: Device,
    pub queue: Queue,
    pub gpu: Gpu,
}

type NewQueue = unsafe extern "C-unwind" fn(&AnyObject, Sel) -> *mut AnyObject;

thread_local! {
    static ORIGINAL: Cell<Option<NewQueue>> = const { Cell::new(None) };
    static CAPTURED: RefCell<Vec<Queue>> = const { RefCell::new(Vec::new()) };
}

unsafe extern "C-unwind" fn capture(device: &AnyObject, name: Sel) -> *mut AnyObject {
    let original = ORIGINAL.get().expect("set before this");
    // SAFETY: the method that this stands for, with its own arguments.
    let queue = unsafe { original(device, name) };
    // SAFETY: a queue, or nil.
    let held = unsafe { Retained::retain(queue.cast::<ProtocolObject<dyn MTLCommandQueue>>()) };
    CAPTURED.with_borrow_mut(|all| all.extend(held));
    queue
}

impl Stream {
    /// Makes Candle's device, and sees the queue that it makes.
    pub fn new() -> Self {
        let gpu = Gpu::new();
        let object: &AnyObject = gpu.device.as_ref();
        let class: &AnyClass = object.class();
        let method = class
            .instance_method(sel!(newCommandQueue))
            .expect("a device has it");
        // SAFETY: an implementation with the method's signature, for as long as the device is made on this thread.
        unsafe {
            let original = method.implementation();
            ORIGINAL.set(Some(std::mem::transmute::<Imp, NewQueue>(original)));
            method.set_implementation(std::mem::transmute::<NewQueue, Imp>(capture));
            let device = Device::new_metal(0);
            method.set_implementation(original);
            let queue = CAPTURED.with_borrow_mut(|all| all.pop()).expect("a queue");
            Self {
                device: device.expect("a device"),
                queue,
                gpu,
            }
        }
    }

    pub fn metal(&self) -> &MetalDevice {
        match &self.device {
            Device::Metal(device) => device,
            _ => unreachable!("made as one"),
        }
    }

    /// A matrix that Candle computes on the GPU.
    pub fn matrix(&self) -> Tensor {
        let values: Vec<f32> = (0..SIDE * SIDE).map(|at| (at % 5) as f32).collect();
        let given = Tensor::from_slice(&values, (SIDE, SIDE), &self.device).unwrap();
        (given * 2.0).unwrap()
    }

    /// Memory from Candle's pool.
    pub fn output(&self) -> Arc<Buffer> {
        self.metal()
            .new_buffer(SIDE * SIDE, DType::F32, "output")
            .unwrap()
    }

    /// The tensor in a buffer.
    pub fn tensor(&self, buffer: Arc<Buffer>) -> Tensor {
        let storage = MetalStorage::new(buffer, self.metal().clone(), SIDE * SIDE, DType::F32);
        Tensor::from_storage(
            Storage::Metal(storage),
            (SIDE, SIDE),
            BackpropOp::none(),
            false,
        )
    }

    /// Has Candle commit what it has, without waiting.
    pub fn flush(&self) {
        for _ in 0..=PER_BUFFER {
            drop(self.metal().command_encoder().unwrap());
        }
    }

    /// The same, with a fence updated by Candle's encoder.
    pub fn update_and_flush(&self, fence: &Fence) {
        let guard = self.metal().command_encoder().unwrap();
        guard.as_ref().update_fence(fence);
        drop(guard);
        self.flush();
    }

    /// Holds back the completion of what Candle commits from now on: buffers of a queue complete in order. Otherwise a
    /// handler of Candle's may show, by chance, that its work is over, which orders all that comes after.
    pub fn gate(&self) -> Gate {
        let event = self.gpu.shared_event();
        let commands = self.queue.commandBuffer().unwrap();
        commands.encodeWaitForEvent_value(ProtocolObject::from_ref(&*event), 1);
        commands.commit();
        Gate(event)
    }

    /// Does something with Candle's encoder, and has it keep that encoder.
    fn on_encoder(&self, work: impl FnOnce(&candle_metal_kernels::metal::ComputeCommandEncoder)) {
        let guard = self.metal().command_encoder().unwrap();
        work(guard.as_ref());
        let pipeline = ComputePipeline::new(self.gpu.fill.clone());
        let scratch = self.gpu.untracked("scratch");
        let encoder = guard.as_ref();
        encoder.set_compute_pipeline_state(&pipeline);
        encoder.set_output_buffer(0, Some(&Buffer::new(scratch)), 0);
        encoder.dispatch_threads(size(1), size(1));
    }

    /// The square of a matrix by the queue route. Without one of its parts it is wrong.
    pub fn square(&self, matrix: &Tensor, form: Form, without: &str) -> Tensor {
        let has = |part: &str| part != without;
        let output = self.output();
        let device = self.metal().device();
        let (before, after) = (Fence::new(device), Fence::new(device));
        self.on_encoder(|encoder| {
            if has("update F1") {
                encoder.update_fence(&before);
            }
        });
        self.flush();
        let held = storage(matrix);
        let left: &MetalBuffer = held.buffer().as_ref();
        let commands = self.queue.commandBuffer().unwrap();
        match form {
            Form::Fenced => {
                let encoder = commands.computeCommandEncoder().unwrap();
                if has("wait F1") {
                    encoder.waitForFence(before.raw());
                }
                self.gpu.dispatch(
                    &encoder,
                    &self.gpu.square,
                    &[&(*output).as_ref().retain(), &left.retain()],
                    SIDE * SIDE,
                );
                if has("update F2") {
                    encoder.updateFence(after.raw());
                }
                encoder.endEncoding();
            }
            Form::Events => {
                let event = self.gpu.event();
                empty(&self.gpu, &commands, |blit| {
                    if has("wait F1") {
                        blit.waitForFence(before.raw());
                    }
                });
                let pair = |signal, wait, value| {
                    if has(signal) {
                        commands.encodeSignalEvent_value(&event, value);
                    }
                    if has(wait) {
                        commands.encodeWaitForEvent_value(&event, value);
                    }
                };
                pair("first signal", "first wait", 1);
                product(&self.gpu, &commands, left, (*output).as_ref());
                pair("second signal", "second wait", 2);
                empty(&self.gpu, &commands, |blit| {
                    if has("update F2") {
                        blit.updateFence(after.raw());
                    }
                });
            }
        }
        commands.commit();
        self.on_encoder(|encoder| {
            if has("wait F2") {
                encoder.wait_for_fence(&after);
            }
            encoder.set_output_buffer(0, Some(&output), 0);
        });
        self.tensor(output)
    }
}

/// Open when this is dropped.
pub struct Gate(Retained<ProtocolObject<dyn MTLSharedEvent>>);

impl Drop for Gate {
    fn drop(&mut self) {
        self.0.setSignaledValue(1);
    }
}

/// The tensor's memory, which lives as long as this.
pub fn storage(tensor: &Tensor) -> MetalStorage {
    match &*tensor.storage_and_layout().0 {
        Storage::Metal(storage) => storage.clone(),
        _ => unreachable!("it is on the GPU"),
    }
}

/// An encoder for the sake of its fences.
pub fn empty(
    gpu: &Gpu,
    commands: &ProtocolObject<dyn MTLCommandBuffer>,
    fences: impl FnOnce(&ProtocolObject<dyn MTLBlitCommandEncoder>),
) {
    let blit = commands.blitCommandEncoder().unwrap();
    fences(&blit);
    let four = NSRange {
        location: 0,
        length: 4,
    };
    blit.fillBuffer_range_value(&gpu.untracked("four bytes"), four, 0);
    blit.endEncoding();
}

/// The square of a matrix, by MPS.
pub fn product(
    gpu: &Gpu,
    commands: &ProtocolObject<dyn MTLCommandBuffer>,
    matrix: &MetalBuffer,
    result: &MetalBuffer,
) {
    // SAFETY: both buffers hold a matrix of this shape.
    unsafe {
        let shape = MPSMatrixDescriptor::matrixDescriptorWithRows_columns_rowBytes_dataType(
            SIDE,
            SIDE,
            SIDE * 4,
            MPSDataType::Float32,
        );
        let view = |buffer: &MetalBuffer| {
            MPSMatrix::initWithBuffer_descriptor(MPSMatrix::alloc(), buffer, &shape)
        };
        let kernel =
            MPSMatrixMultiplication::initWithDevice_resultRows_resultColumns_interiorColumns(
                MPSMatrixMultiplication::alloc(),
                &gpu.device,
                SIDE,
                SIDE,
                SIDE,
            );
        let (from, into) = (view(matrix), view(result));
        kernel.encodeToCommandBuffer_leftMatrix_rightMatrix_resultMatrix(
            commands, &from, &from, &into,
        );
    }
}

/// A fence that is nobody else's.
pub fn raw(fence: &Fence) -> RawFence {
    fence.raw().retain()
}
