//! What is under way on the GPU: one `Submission` per command buffer, and the list of those that
//! have been committed.
//!
//! A submission owns handles of every buffer its work touches, until the MTLCommandBuffer itself
//! says that the work is over. Because the list is here and not in `Pending`, a `Pending` that is
//! dropped or forgotten neither frees memory early nor keeps it: the next call into this crate
//! finds the work completed and lets go.

#![allow(unsafe_code)] // a committed MTLCommandBuffer may be asked for its status by any thread

use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex};

use objc2::rc::{Retained, autoreleasepool};
use objc2::runtime::ProtocolObject;
use objc2_metal::{MTLCommandBuffer, MTLCommandBufferStatus};

use crate::buffer::Buffer;
use crate::error::{Error, Result};
use crate::tracker::lock;

/// Committed submissions whose end has not been noticed yet.
static IN_FLIGHT: Mutex<Vec<Arc<Submission>>> = Mutex::new(Vec::new());

/// Forgets the submissions that are over, and with them the memory they held.
pub(crate) fn sweep() {
    let over: Vec<_> = lock(&IN_FLIGHT).extract_if(.., |s| s.is_over()).collect();
    for submission in over {
        submission.release_operands();
    }
}

const OPEN: u8 = 0;
const COMMITTED: u8 = 1;
const ABANDONED: u8 = 2;

pub(crate) struct Submission {
    raw: Retained<ProtocolObject<dyn MTLCommandBuffer>>,
    phase: AtomicU8,
    operands: Mutex<Vec<Buffer>>,
}

// SAFETY: while a submission is open, `raw` is used by the one thread that has the `CommandBuffer`
// (which is not Sync). Afterwards it is only asked for status and error or waited for, which Metal
// allows from any thread; `phase` orders the two.
unsafe impl Send for Submission {}
// SAFETY: as above.
unsafe impl Sync for Submission {}

impl Submission {
    pub(crate) fn new(raw: Retained<ProtocolObject<dyn MTLCommandBuffer>>) -> Arc<Self> {
        Arc::new(Self {
            raw,
            phase: AtomicU8::new(OPEN),
            operands: Mutex::new(Vec::new()),
        })
    }

    /// The MTLCommandBuffer, for the `CommandBuffer` that encodes into it.
    pub(crate) fn metal(&self) -> &ProtocolObject<dyn MTLCommandBuffer> {
        &self.raw
    }

    pub(crate) fn is_open(&self) -> bool {
        self.phase.load(Ordering::Acquire) == OPEN
    }

    /// Whether the GPU will not touch the operands any more.
    pub(crate) fn is_over(&self) -> bool {
        match self.phase.load(Ordering::Acquire) {
            OPEN => false,
            COMMITTED => self.raw.status() >= MTLCommandBufferStatus::Completed,
            _ => true,
        }
    }

    /// Marks all of `buffers` as in flight here, or none of them.
    pub(crate) fn claim(
        self: &Arc<Self>,
        op: &'static str,
        buffers: &[(&'static str, &Buffer)],
    ) -> Result<()> {
        let mut claimed: Vec<&Buffer> = Vec::with_capacity(buffers.len());
        for &(operand, buffer) in buffers {
            match buffer.tracker().claim(self) {
                Ok(true) => claimed.push(buffer),
                Ok(false) => {}
                Err(by) => {
                    for buffer in claimed {
                        buffer.tracker().release(self);
                    }
                    return Err(Error::Busy { op, operand, by });
                }
            }
        }
        // Every handle is kept, not one per MTLBuffer: each may keep another owner alive.
        lock(&self.operands).extend(buffers.iter().map(|&(_, buffer)| buffer.clone()));
        Ok(())
    }

    /// Hands the work to the GPU.
    pub(crate) fn commit(self: &Arc<Self>) {
        sweep();
        autoreleasepool(|_| self.raw.commit());
        self.phase.store(COMMITTED, Ordering::Release);
        lock(&IN_FLIGHT).push(self.clone());
    }

    /// Notes that this will never be committed.
    pub(crate) fn abandon(&self) {
        self.phase.store(ABANDONED, Ordering::Release);
        self.release_operands();
    }

    /// Blocks until the GPU is done.
    pub(crate) fn wait(&self) -> Result<()> {
        let result = autoreleasepool(|_| {
            self.raw.waitUntilCompleted();
            if self.raw.status() != MTLCommandBufferStatus::Error {
                return Ok(());
            }
            let error = self.raw.error();
            Err(Error::CommandBufferFailed {
                code: error.as_ref().map_or(0, |e| e.code()),
                description: error.map_or_else(
                    || "no description".to_owned(),
                    |e| e.localizedDescription().to_string(),
                ),
            })
        });
        sweep();
        result
    }

    fn release_operands(&self) {
        let operands = std::mem::take(&mut *lock(&self.operands));
        for buffer in &operands {
            buffer.tracker().release(self);
        }
    }
}
