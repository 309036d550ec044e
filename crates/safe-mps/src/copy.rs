//! [`CommandBuffer::copy`]: bytes from one buffer to another, on the GPU.
//!
//! The way into and out of memory that the host cannot see. Metal's blit encoder does the work.

#![allow(unsafe_code)] // the blit encoder's methods are bound as unsafe

use objc2_metal::{MTLBlitCommandEncoder, MTLCommandBuffer, MTLCommandEncoder};

use crate::buffer::Buffer;
use crate::command_buffer::{CommandBuffer, Use};
use crate::error::{Error, Result};

const OP: &str = "copy";

impl CommandBuffer {
    /// Encodes a copy of `bytes` bytes. Offsets and length are multiples of 4, as macOS requires,
    /// and the two ranges do not overlap.
    ///
    /// ```
    /// use safe_mps::{Device, Error, Storage};
    ///
    /// fn main() -> Result<(), Error> {
    ///     let device = Device::system_default()?;
    ///     let private = device.new_buffer(16, Storage::Private)?;
    ///     let (from, to) =
    ///         (device.new_buffer(16, Storage::Shared)?, device.new_buffer(16, Storage::Shared)?);
    ///     from.write::<u32>()?.copy_from_slice(&[1, 2, 3, 4]);
    ///
    ///     let commands = device.new_queue()?.command_buffer()?;
    ///     commands.copy(&from, 0, &private, 0, 16)?;
    ///     commands.copy(&private, 8, &to, 0, 8)?;
    ///     commands.commit().wait()?;
    ///
    ///     assert_eq!(to.read::<u32>()?[..], [3, 4, 0, 0]);
    ///     Ok(())
    /// }
    /// ```
    pub fn copy(
        &self,
        source: &Buffer,
        source_offset: usize,
        destination: &Buffer,
        destination_offset: usize,
        bytes: usize,
    ) -> Result<()> {
        if bytes == 0 {
            return Err(Error::ZeroSize {
                op: OP,
                dimension: "bytes",
            });
        }
        let numbers = [
            ("source offset", source_offset),
            ("destination offset", destination_offset),
            ("length", bytes),
        ];
        for (what, value) in numbers {
            if !value.is_multiple_of(4) {
                return Err(Error::CopyAlignment { what, value });
            }
        }
        let range = |what, buffer: &Buffer, offset: usize| {
            let length = buffer.length();
            match offset.checked_add(bytes) {
                Some(end) if end <= length => Ok(offset..end),
                _ => Err(Error::OutOfBounds {
                    what,
                    offset,
                    bytes,
                    length,
                }),
            }
        };
        let from = range("the source of a copy", source, source_offset)?;
        let to = range("the destination of a copy", destination, destination_offset)?;
        if source.is_same(destination) && from.start < to.end && to.start < from.end {
            return Err(Error::Overlap {
                op: OP,
                operand: "source",
            });
        }
        let uses = [
            Use {
                operand: "source",
                buffer: source,
                range: from,
                writes: false,
            },
            Use {
                operand: "destination",
                buffer: destination,
                range: to,
                writes: true,
            },
        ];
        self.record(OP, &uses, |commands| {
            let encoder = commands.blitCommandEncoder().ok_or(Error::CreationFailed {
                what: "blit encoder",
            })?;
            // SAFETY: both ranges are inside their buffers, apart, and on this GPU, as checked.
            unsafe {
                encoder.copyFromBuffer_sourceOffset_toBuffer_destinationOffset_size(
                    source.metal(),
                    source_offset,
                    destination.metal(),
                    destination_offset,
                    bytes,
                );
            }
            encoder.endEncoding();
            Ok(())
        })
    }
}
