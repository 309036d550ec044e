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
    use crate::error::Holder;
    use crate::queue::Queue;

    fn device() -> Device {
        Device::system_default().unwrap()
    }

    fn pair(device: &Device) -> [Buffer; 2] {
        std::array::from_fn(|_| device.new_buffer(16, Storage::Shared).unwrap())
    }

    fn holder(result: Result<impl Sized>) -> Holder {
        match result.err() {
            Some(Error::Busy { by, .. }) => by,
            other => panic!("expected Busy, got {other:?}"),
        }
    }

    #[test]
    fn from_encode_to_completion_the_host_has_no_view() {
        let device = device();
        let [from, to] = pair(&device);
        let commands = device.new_queue().unwrap().command_buffer().unwrap();
        commands.copy(&from, 0, &to, 0, 16).unwrap();
        assert_eq!(holder(from.read::<u8>()), Holder::OpenCommandBuffer);
        assert_eq!(holder(to.write::<u8>()), Holder::OpenCommandBuffer);
        let completed = commands.commit().wait().unwrap();
        assert_eq!(completed.operations(), 1);
        assert!(from.read::<u8>().is_ok() && to.write::<u8>().is_ok());
    }

    #[test]
    fn encode_is_refused_while_the_host_has_a_view() {
        let device = device();
        let [from, to] = pair(&device);
        let commands = device.new_queue().unwrap().command_buffer().unwrap();
        let view = to.read::<u8>().unwrap();
        let refused = commands.copy(&from, 0, &to, 0, 16);
        let by = Holder::HostReads(1);
        assert_eq!(
            refused,
            Err(Error::Busy {
                op: "copy",
                operand: "destination",
                by
            })
        );
        // The refusal has left nothing behind, neither here nor on the other operand.
        assert_eq!(commands.operations(), 0);
        assert!(from.write::<u8>().is_ok());
        drop(view);
        commands.copy(&from, 0, &to, 0, 16).unwrap();
        commands.commit().wait().unwrap();
    }

    #[test]
    fn one_command_buffer_at_a_time() {
        let device = device();
        let queue = device.new_queue().unwrap();
        let [from, to] = pair(&device);
        let (first, second) = (
            queue.command_buffer().unwrap(),
            queue.command_buffer().unwrap(),
        );
        first.copy(&from, 0, &to, 0, 16).unwrap();
        first.copy(&from, 0, &to, 0, 16).unwrap();
        assert_eq!(
            holder(second.copy(&from, 0, &to, 0, 16)),
            Holder::OpenCommandBuffer
        );
        first.commit().wait().unwrap();
        second.copy(&from, 0, &to, 0, 16).unwrap();
        second.commit().wait().unwrap();
    }

    #[test]
    fn dropping_without_commit_cancels_and_releases() {
        let device = device();
        let [from, to] = pair(&device);
        from.write::<u32>().unwrap().fill(9);
        let commands = device.new_queue().unwrap().command_buffer().unwrap();
        commands.copy(&from, 0, &to, 0, 16).unwrap();
        drop(commands);
        assert_eq!(to.read::<u32>().unwrap()[..], [0; 4]);
    }

    #[test]
    fn a_forgotten_command_buffer_keeps_what_it_uses() {
        let device = device();
        let [from, to] = pair(&device);
        let commands = device.new_queue().unwrap().command_buffer().unwrap();
        commands.copy(&from, 0, &to, 0, 16).unwrap();
        std::mem::forget(commands);
        assert_eq!(holder(to.read::<u8>()), Holder::OpenCommandBuffer);
    }

    /// Waits for the queue by other means than the `Pending` in question.
    fn drain(queue: &Queue) {
        queue.command_buffer().unwrap().commit().wait().unwrap();
    }

    #[test]
    fn dropped_and_forgotten_pendings_release_when_the_work_is_over() {
        let device = device();
        let queue = device.new_queue().unwrap();
        for forget in [false, true] {
            let owner = Arc::new(());
            let [from, to] = pair(&device);
            from.write::<u32>().unwrap().fill(9);
            let commands = queue.command_buffer().unwrap();
            commands
                .copy(&from.clone().with_owner(owner.clone()), 0, &to, 0, 16)
                .unwrap();
            drop(from);
            let pending = commands.commit();
            assert_eq!(Arc::strong_count(&owner), 2);
            if forget {
                std::mem::forget(pending);
            } else {
                drop(pending);
            }
            drain(&queue);
            assert_eq!(Arc::strong_count(&owner), 1);
            assert_eq!(to.read::<u32>().unwrap()[..], [9; 4]);
        }
    }

    #[test]
    fn is_done_follows_the_gpu() {
        let device = device();
        let queue = device.new_queue().unwrap();
        let [from, to] = pair(&device);
        let commands = queue.command_buffer().unwrap();
        commands.copy(&from, 0, &to, 0, 16).unwrap();
        let pending = commands.commit();
        drain(&queue);
        assert!(pending.is_done());
        pending.wait().unwrap();
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
    fn tracked_buffers_may_depend_on_each_other() {
        let device = device();
        let [first, second] = pair(&device);
        let third = device.new_buffer(16, Storage::Private).unwrap();
        first.write::<u32>().unwrap().copy_from_slice(&[1, 2, 3, 4]);
        let commands = device.new_queue().unwrap().command_buffer().unwrap();
        commands.copy(&first, 0, &third, 0, 16).unwrap();
        commands.copy(&third, 0, &second, 0, 16).unwrap();
        assert_eq!(commands.commit().wait().unwrap().operations(), 2);
        assert_eq!(second.read::<u32>().unwrap()[..], [1, 2, 3, 4]);
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

    #[test]
    fn command_buffers_and_pendings_may_move_to_another_thread() {
        fn moves<T: Send>() {}
        moves::<CommandBuffer>();
        moves::<Pending>();
    }
}
