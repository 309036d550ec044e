//! [`Queue`]: where command buffers come from and run in order.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use objc2::rc::{Retained, autoreleasepool};
use objc2::runtime::ProtocolObject;
use objc2_metal::{MTLCommandQueue, MTLDevice};

use crate::command_buffer::CommandBuffer;
use crate::device::Device;
use crate::error::{Error, Result};
use crate::in_flight;

/// Metal lets this many command buffers of a queue be uncompleted, and blocks on the next. If
/// they are all still open, nobody can end that wait.
const MAX_OPEN: usize = 64;

/// A queue of command buffers. Cheap to clone; may be used from any thread.
#[derive(Clone)]
pub struct Queue {
    raw: Retained<ProtocolObject<dyn MTLCommandQueue>>,
    device: Device,
    open: Arc<AtomicUsize>,
}

impl Queue {
    pub(crate) fn new(device: &Device) -> Result<Self> {
        let raw =
            autoreleasepool(|_| device.metal().newCommandQueue()).ok_or(Error::CreationFailed {
                what: "command queue",
            })?;
        Ok(Self {
            raw,
            device: device.clone(),
            open: Arc::default(),
        })
    }

    /// The GPU that this queue feeds.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// An empty command buffer. Blocks while 64 of this queue are uncompleted, unless all of them
    /// are still open, which is an error.
    pub fn command_buffer(&self) -> Result<CommandBuffer> {
        in_flight::sweep();
        let slot = Slot::take(&self.open)?;
        let raw = autoreleasepool(|_| self.raw.commandBuffer()).ok_or(Error::CreationFailed {
            what: "command buffer",
        })?;
        Ok(CommandBuffer::new(raw, self.device.clone(), slot))
    }
}

impl std::fmt::Debug for Queue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Queue")
            .field("device", &self.device)
            .finish_non_exhaustive()
    }
}

/// One of the places for open command buffers, free again when dropped.
pub(crate) struct Slot(Arc<AtomicUsize>);

impl Slot {
    fn take(open: &Arc<AtomicUsize>) -> Result<Self> {
        open.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| {
            (n < MAX_OPEN).then_some(n + 1)
        })
        .map_err(|open| Error::TooManyCommandBuffers { open })?;
        Ok(Self(open.clone()))
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_65th_open_command_buffer_is_an_error_and_no_deadlock() {
        let queue = Device::system_default().unwrap().new_queue().unwrap();
        let mut open: Vec<_> = (0..MAX_OPEN)
            .map(|_| queue.command_buffer().unwrap())
            .collect();
        let error = queue.command_buffer().err();
        assert_eq!(error, Some(Error::TooManyCommandBuffers { open: MAX_OPEN }));
        drop(open.pop());
        let another = queue.command_buffer().unwrap();
        another.commit().wait().unwrap();
        queue.command_buffer().unwrap().commit().wait().unwrap();
    }
}
