//! What bodies work with: the device under test, and shorthands for the calls that most bodies
//! begin with.

use crate::NotHere;
use objc2::rc::{Retained, autoreleasepool};
use objc2::runtime::ProtocolObject;
use objc2_foundation::NSArray;
use objc2_metal::{
    MTLBuffer, MTLCommandBuffer, MTLCommandQueue, MTLCreateSystemDefaultDevice, MTLDevice,
    MTLResourceOptions,
};

pub(crate) type Buffer = Retained<ProtocolObject<dyn MTLBuffer>>;
pub(crate) type Commands = Retained<ProtocolObject<dyn MTLCommandBuffer>>;
pub(crate) type Queue = Retained<ProtocolObject<dyn MTLCommandQueue>>;

/// The device under test with a queue.
#[derive(Debug)]
pub struct Machine {
    device: Retained<ProtocolObject<dyn MTLDevice>>,
    queue: Queue,
}

impl Machine {
    /// The default device, or `None` when there is no Metal.
    pub fn new() -> Option<Self> {
        let device = MTLCreateSystemDefaultDevice()?;
        let queue = device.newCommandQueue()?;
        Some(Self { device, queue })
    }

    pub(crate) fn device(&self) -> &ProtocolObject<dyn MTLDevice> {
        &self.device
    }

    /// Another device than the one under test.
    pub(crate) fn other_device(&self) -> Result<Retained<ProtocolObject<dyn MTLDevice>>, NotHere> {
        // By its C name: the bindings ask for the default device instead, except on macOS.
        unsafe extern "C-unwind" {
            fn MTLCopyAllDevices() -> *mut NSArray<ProtocolObject<dyn MTLDevice>>;
        }
        // SAFETY: the function takes nothing and returns an array that the caller owns.
        let all = unsafe { Retained::from_raw(MTLCopyAllDevices()) };
        let id = self.device.registryID();
        autoreleasepool(|_| {
            let all = all.map(|all| all.to_vec()).unwrap_or_default();
            let other = all.into_iter().find(|device| device.registryID() != id);
            other.ok_or(NotHere("there is only one device"))
        })
    }

    pub(crate) fn new_queue(&self) -> Queue {
        self.device.newCommandQueue().expect("a queue")
    }

    pub(crate) fn commands(&self) -> Commands {
        self.queue.commandBuffer().expect("a command buffer")
    }

    /// A buffer that the CPU can look at.
    pub(crate) fn shared(&self, bytes: usize) -> Buffer {
        self.buffer(bytes, MTLResourceOptions::StorageModeShared)
    }

    /// A buffer that it cannot.
    pub(crate) fn private(&self, bytes: usize) -> Buffer {
        self.buffer(bytes, MTLResourceOptions::StorageModePrivate)
    }

    pub(crate) fn buffer(&self, bytes: usize, options: MTLResourceOptions) -> Buffer {
        self.device
            .newBufferWithLength_options(bytes, options)
            .expect("a buffer")
    }

    /// A shared buffer with contents.
    pub(crate) fn filled<T: Copy>(&self, values: &[T]) -> Buffer {
        let buffer = self.shared(size_of_val(values));
        // SAFETY: the buffer is shared, as long as the values, and nobody uses it yet.
        unsafe {
            let contents = buffer.contents().as_ptr().cast::<T>();
            std::ptr::copy_nonoverlapping(values.as_ptr(), contents, values.len());
        }
        buffer
    }
}

/// The contents of a shared buffer that the GPU has finished with.
pub(crate) fn contents<T: Copy>(buffer: &ProtocolObject<dyn MTLBuffer>) -> Vec<T> {
    let count = buffer.length() / size_of::<T>();
    let start = buffer.contents().as_ptr().cast::<T>();
    // SAFETY: the caller's buffer is shared, at rest, and holds plain numbers.
    (0..count)
        .map(|at| unsafe { start.add(at).read_unaligned() })
        .collect()
}
