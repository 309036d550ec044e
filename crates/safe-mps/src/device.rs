//! [`Device`]: a GPU.

#![allow(unsafe_code)] // MPSSupportsMTLDevice is bound as unsafe.

use objc2::Message;
use objc2::rc::{Retained, autoreleasepool};
use objc2::runtime::ProtocolObject;
use objc2_metal::{MTLCopyAllDevices, MTLCreateSystemDefaultDevice, MTLDevice};
use objc2_metal_performance_shaders::MPSSupportsMTLDevice;

use crate::buffer::{Buffer, Storage};
use crate::error::{Error, Result};
use crate::queue::Queue;

// Metal's device functions return nothing unless CoreGraphics is loaded.
#[cfg_attr(
    target_vendor = "apple",
    link(name = "CoreGraphics", kind = "framework")
)]
unsafe extern "C" {}

/// A GPU. Cheap to clone; may be used from any thread.
#[derive(Clone)]
pub struct Device {
    raw: Retained<ProtocolObject<dyn MTLDevice>>,
}

impl Device {
    /// A device that was obtained elsewhere.
    pub fn new(raw: Retained<ProtocolObject<dyn MTLDevice>>) -> Self {
        Self { raw }
    }

    /// A device that somebody else holds, such as a Candle device's.
    pub fn from_metal(raw: &ProtocolObject<dyn MTLDevice>) -> Self {
        Self::new(raw.retain())
    }

    /// Every GPU of this system; none at all is a valid answer.
    pub fn all() -> Vec<Self> {
        autoreleasepool(|_| {
            MTLCopyAllDevices()
                .to_vec()
                .into_iter()
                .map(Self::new)
                .collect()
        })
    }

    /// The GPU that the system prefers.
    pub fn system_default() -> Result<Self> {
        autoreleasepool(|_| MTLCreateSystemDefaultDevice())
            .map(Self::new)
            .or_else(|| Self::all().into_iter().next())
            .ok_or(Error::NoDevice)
    }

    /// The name of the GPU, such as "Apple M2".
    pub fn name(&self) -> String {
        autoreleasepool(|_| self.raw.name().to_string())
    }

    /// Identifies the GPU: two devices with the same id are the same GPU.
    pub fn registry_id(&self) -> u64 {
        self.raw.registryID()
    }

    /// Whether MPS has kernels for this GPU.
    pub fn supports_mps(&self) -> bool {
        // SAFETY: the function only asks the device, which is valid, for what it supports.
        autoreleasepool(|_| unsafe { MPSSupportsMTLDevice(Some(&self.raw)) })
    }

    /// The longest buffer that this GPU allows, in bytes.
    pub fn max_buffer_length(&self) -> usize {
        self.raw.maxBufferLength()
    }

    /// Bytes of GPU memory that this process holds, whoever allocated them.
    pub fn allocated_bytes(&self) -> usize {
        self.raw.currentAllocatedSize()
    }

    /// A buffer of `bytes`. See [`Storage`] for who can see it; shared ones start zeroed.
    pub fn new_buffer(&self, bytes: usize, storage: Storage) -> Result<Buffer> {
        Buffer::allocate(self, bytes, storage)
    }

    /// A queue of its own for command buffers.
    pub fn new_queue(&self) -> Result<Queue> {
        Queue::new(self)
    }

    /// The Metal object.
    pub fn metal(&self) -> &ProtocolObject<dyn MTLDevice> {
        &self.raw
    }

    /// Refuses a GPU that MPS does not support, which would end the process in a kernel's
    /// initialiser.
    pub(crate) fn require_mps(&self, op: &'static str) -> Result<()> {
        if self.supports_mps() {
            Ok(())
        } else {
            Err(Error::UnsupportedDevice {
                op,
                device: self.name(),
            })
        }
    }
}

impl PartialEq for Device {
    fn eq(&self, other: &Self) -> bool {
        self.registry_id() == other.registry_id()
    }
}

impl Eq for Device {}

impl std::fmt::Debug for Device {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Device")
            .field("name", &self.name())
            .field("registry_id", &format_args!("{:#x}", self.registry_id()))
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_device_is_one_of_all() {
        let default = Device::system_default().unwrap();
        assert!(Device::all().contains(&default));
        assert!(!default.name().is_empty());
        assert!(default.supports_mps());
        assert!(default.max_buffer_length() > 0);
    }

    #[test]
    fn devices_cross_threads() {
        fn crosses<T: Send + Sync>() {}
        crosses::<Device>();
    }
}
