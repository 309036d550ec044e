//! [`CommandBuffer`] → [`Pending`] → [`Completed`]: the life of a piece of GPU work.
//!
//! Kernels encode into a command buffer; what they use is in flight from then on. Committing turns
//! it into a `Pending`, waiting for that into a `Completed`. Dropping a command buffer without
//! committing it cancels its work; dropping a `Pending` does not.

use std::cell::{Cell, RefCell};
use std::ops::Range;
use std::sync::Arc;

use objc2::rc::{Retained, autoreleasepool};
use objc2::runtime::ProtocolObject;
use objc2_metal::MTLCommandBuffer;

use crate::buffer::Buffer;
use crate::device::Device;
use crate::error::{Error, Result};
use crate::in_flight::Submission;
use crate::queue::Slot;

/// Work for the GPU that is being put together, by one thread at a time.
///
/// Operations on it run one after the other where one depends on the other. The exception are
/// hazard-untracked buffers made elsewhere, whose order Metal does not keep: a dependence through
/// one of those is [`Error::Unordered`].
///
/// Not to be shared between threads:
///
/// ```compile_fail,E0277
/// fn shared<T: Sync>() {}
/// shared::<safe_mps::CommandBuffer>();
/// ```
#[must_use = "a command buffer that is dropped without commit does nothing"]
pub struct CommandBuffer {
    submission: Arc<Submission>,
    device: Device,
    operations: Cell<usize>,
    untracked: RefCell<Vec<Access>>,
    _slot: Slot,
}

/// What one operation does with one of its operands.
pub(crate) struct Use<'a> {
    pub(crate) operand: &'static str,
    pub(crate) buffer: &'a Buffer,
    /// The bytes from the first to the last that is touched.
    pub(crate) range: Range<usize>,
    pub(crate) writes: bool,
}

/// An access to an untracked buffer by an operation that was encoded earlier.
struct Access {
    buffer: Buffer,
    range: Range<usize>,
    writes: bool,
}

impl Access {
    fn conflicts(&self, later: &Use<'_>) -> bool {
        (self.writes || later.writes)
            && self.buffer.is_same(later.buffer)
            && self.range.start < later.range.end
            && later.range.start < self.range.end
    }
}

impl CommandBuffer {
    pub(crate) fn new(
        raw: Retained<ProtocolObject<dyn MTLCommandBuffer>>,
        device: Device,
        slot: Slot,
    ) -> Self {
        Self {
            submission: Submission::new(raw),
            device,
            operations: Cell::new(0),
            untracked: RefCell::default(),
            _slot: slot,
        }
    }

    /// The GPU that this will run on.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// How many operations have been encoded.
    pub fn operations(&self) -> usize {
        self.operations.get()
    }

    /// Hands the work to the GPU, which starts on it when it gets there.
    pub fn commit(self) -> Pending {
        self.submission.commit();
        Pending {
            submission: self.submission.clone(),
            operations: self.operations(),
        }
    }

    /// Refuses what lives on another GPU than this command buffer.
    pub(crate) fn check_device(
        &self,
        op: &'static str,
        operand: &'static str,
        got: u64,
    ) -> Result<()> {
        let expected = self.device.registry_id();
        if got == expected {
            Ok(())
        } else {
            Err(Error::DeviceMismatch {
                op,
                operand,
                expected,
                got,
            })
        }
    }

    /// Encodes one operation: claims its operands, then lets `encode` talk to Metal. A refusal of
    /// the claim leaves everything as it was.
    pub(crate) fn record(
        &self,
        op: &'static str,
        uses: &[Use<'_>],
        encode: impl FnOnce(&ProtocolObject<dyn MTLCommandBuffer>) -> Result<()>,
    ) -> Result<()> {
        for used in uses {
            self.check_device(op, used.operand, used.buffer.registry_id())?;
            if used.writes && used.buffer.is_read_only() {
                return Err(Error::ReadOnly {
                    op,
                    operand: used.operand,
                });
            }
        }
        let mut untracked = self.untracked.borrow_mut();
        if let Some(second) = uses
            .iter()
            .find(|used| untracked.iter().any(|earlier| earlier.conflicts(used)))
        {
            return Err(Error::Unordered {
                op,
                operand: second.operand,
            });
        }
        let buffers: Vec<_> = uses
            .iter()
            .map(|used| (used.operand, used.buffer))
            .collect();
        self.submission.claim(op, &buffers)?;
        autoreleasepool(|_| encode(self.submission.metal()))?;
        untracked.extend(
            uses.iter()
                .filter(|u| !u.buffer.tracker().hazard_tracked())
                .map(|used| Access {
                    buffer: used.buffer.clone(),
                    range: used.range.clone(),
                    writes: used.writes,
                }),
        );
        self.operations.set(self.operations.get() + 1);
        Ok(())
    }
}

impl Drop for CommandBuffer {
    fn drop(&mut self) {
        if self.submission.is_open() {
            self.submission.abandon();
        }
    }
}

impl std::fmt::Debug for CommandBuffer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CommandBuffer")
            .field("operations", &self.operations())
            .finish_non_exhaustive()
    }
}

/// Work that the GPU has been given. Its operands stay in flight until it is over, whether or not
/// anybody waits.
#[must_use = "the results are there once wait() has returned"]
pub struct Pending {
    submission: Arc<Submission>,
    operations: usize,
}

impl Pending {
    /// Blocks until the GPU is done, and says whether it succeeded. Afterwards the operands are
    /// free again.
    pub fn wait(self) -> Result<Completed> {
        self.submission.wait()?;
        Ok(Completed {
            operations: self.operations,
        })
    }

    /// Whether the GPU is done, well or badly. Does not block.
    pub fn is_done(&self) -> bool {
        self.submission.is_over()
    }
}

impl std::fmt::Debug for Pending {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pending")
            .field("is_done", &self.is_done())
            .finish_non_exhaustive()
    }
}

/// Proof that a command buffer has run to its end without an error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Completed {
    operations: usize,
}

impl Completed {
    /// How many operations ran.
    pub fn operations(&self) -> usize {
        self.operations
    }
}

#[cfg(test)]
mod tests {
    use objc2_metal::{MTLDevice, MTLResourceOptions};

    use super::*;
    use crate::buffer::Storage;

    fn device() -> Device {
        Device::system_default().unwrap()
    }

    fn pair(device: &Device) -> [Buffer; 2] {
        std::array::from_fn(|_| device.new_buffer(16, Storage::Shared).unwrap())
    }

    #[test]
    fn dependence_through_an_untracked_buffer_is_refused() {
        let device = device();
        let options = MTLResourceOptions::StorageModePrivate
            | MTLResourceOptions::HazardTrackingModeUntracked;
        let raw = device
            .metal()
            .newBufferWithLength_options(32, options)
            .unwrap();
        let untracked = Buffer::from_metal(&raw);
        let [from, to] = pair(&device);
        let queue = device.new_queue().unwrap();

        let commands = queue.command_buffer().unwrap();
        commands.copy(&from, 0, &untracked, 0, 16).unwrap();
        let second = commands.copy(&untracked, 8, &to, 0, 8);
        assert_eq!(
            second,
            Err(Error::Unordered {
                op: "copy",
                operand: "source"
            })
        );
        // Another part of the buffer does not depend on the first copy.
        commands.copy(&from, 0, &untracked, 16, 16).unwrap();
        commands.commit().wait().unwrap();

        let commands = queue.command_buffer().unwrap();
        commands.copy(&untracked, 0, &to, 0, 16).unwrap();
        commands.copy(&untracked, 0, &from, 0, 16).unwrap();
        let overwrite = commands.copy(&to, 0, &untracked, 0, 16);
        assert_eq!(
            overwrite,
            Err(Error::Unordered {
                op: "copy",
                operand: "destination"
            })
        );
        commands.commit().wait().unwrap();
    }

    #[test]
    fn operands_of_another_gpu_are_refused() {
        let device = device();
        let commands = device.new_queue().unwrap().command_buffer().unwrap();
        let (expected, got) = (device.registry_id(), device.registry_id() ^ 1);
        assert_eq!(commands.check_device("op", "left", expected), Ok(()));
        assert_eq!(
            commands.check_device("op", "left", got),
            Err(Error::DeviceMismatch {
                op: "op",
                operand: "left",
                expected,
                got
            })
        );
    }
}
