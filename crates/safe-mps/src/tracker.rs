//! Who is using the memory of a buffer right now: one `Tracker` per MTLBuffer, however often that
//! buffer is wrapped.
//!
//! A tracker is a small state machine: idle, read by host views, written by one host view, or in
//! flight on one command buffer. Rust's borrow rules hold for GPU memory because every access goes
//! through it, and no guard needs to be dropped for that: a forgotten one leaves a state behind
//! that refuses, never one that permits.

#![allow(unsafe_code)] // Metal's buffers are thread-safe, which the bindings do not say.

use std::collections::BTreeMap;
use std::ptr::NonNull;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use objc2::rc::Retained;
use objc2::runtime::ProtocolObject;
use objc2_metal::{MTLBuffer, MTLDevice, MTLHazardTrackingMode, MTLResource, MTLStorageMode};

use crate::error::{Holder, HostAccess};
use crate::in_flight::Submission;

/// Trackers by the address of their MTLBuffer. An entry's tracker retains the buffer, so the
/// address cannot belong to another one while the entry is alive.
static REGISTRY: Mutex<BTreeMap<usize, Weak<Tracker>>> = Mutex::new(BTreeMap::new());

/// Locks even if a thread panicked meanwhile: nothing here panics half-way through a change.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Where a buffer came from, which decides about host views.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin {
    /// Allocated by this crate, and its MTLBuffer never handed out.
    Ours,
    /// Made elsewhere; others may hold it too.
    Foreign,
}

/// An MTLBuffer that may be used from any thread.
struct RawBuffer(Retained<ProtocolObject<dyn MTLBuffer>>);

// SAFETY: Metal guarantees that resource objects can be retained, released and asked for their
// properties from any thread. Their contents are guarded by the tracker's state.
unsafe impl Send for RawBuffer {}
// SAFETY: as above.
unsafe impl Sync for RawBuffer {}

/// First byte of memory that CPU and GPU share.
#[derive(Clone, Copy)]
pub(crate) struct HostMemory(pub(crate) NonNull<u8>);

// SAFETY: the address stays valid while the tracker that holds it retains the MTLBuffer, and who
// may go through it is the tracker's state, which is behind a mutex.
unsafe impl Send for HostMemory {}
// SAFETY: as above.
unsafe impl Sync for HostMemory {}

enum State {
    Idle,
    HostReads(usize),
    HostWrite,
    /// Weak, since the submission holds the buffers: once it is gone, so is its work.
    InFlight(Weak<Submission>),
}

pub(crate) struct Tracker {
    raw: RawBuffer,
    length: usize,
    registry_id: u64,
    hazard_tracked: bool,
    host: Result<HostMemory, HostAccess>,
    state: Mutex<State>,
}

impl Tracker {
    /// The tracker of this MTLBuffer, new if there is none.
    pub(crate) fn of(raw: Retained<ProtocolObject<dyn MTLBuffer>>, origin: Origin) -> Arc<Self> {
        let key = address(&raw);
        let mut registry = lock(&REGISTRY);
        if let Some(tracker) = registry.get(&key).and_then(Weak::upgrade) {
            return tracker;
        }
        let host = match origin {
            Origin::Foreign => Err(HostAccess::Foreign),
            Origin::Ours if raw.storageMode() == MTLStorageMode::Private => {
                Err(HostAccess::Private)
            }
            Origin::Ours => Ok(HostMemory(raw.contents().cast())),
        };
        let tracker = Arc::new(Self {
            length: raw.length(),
            registry_id: raw.device().registryID(),
            hazard_tracked: raw.hazardTrackingMode() != MTLHazardTrackingMode::Untracked,
            host,
            state: Mutex::new(State::Idle),
            raw: RawBuffer(raw),
        });
        registry.insert(key, Arc::downgrade(&tracker));
        tracker
    }

    pub(crate) fn metal(&self) -> &ProtocolObject<dyn MTLBuffer> {
        &self.raw.0
    }

    pub(crate) fn length(&self) -> usize {
        self.length
    }

    pub(crate) fn registry_id(&self) -> u64 {
        self.registry_id
    }

    /// Whether Metal itself orders the GPU work that touches this buffer.
    pub(crate) fn hazard_tracked(&self) -> bool {
        self.hazard_tracked
    }

    pub(crate) fn host(&self) -> Result<HostMemory, HostAccess> {
        self.host
    }

    /// The state, with work that has ended since the last look forgotten.
    fn state(&self) -> MutexGuard<'_, State> {
        let mut state = lock(&self.state);
        if let State::InFlight(submission) = &*state
            && submission.upgrade().is_none_or(|s| s.is_over())
        {
            *state = State::Idle;
        }
        state
    }

    /// Marks this buffer as in flight on `submission`. `Ok(true)` if it was not already.
    pub(crate) fn claim(&self, submission: &Arc<Submission>) -> Result<bool, Holder> {
        let mut state = self.state();
        match &*state {
            State::Idle => {
                *state = State::InFlight(Arc::downgrade(submission));
                Ok(true)
            }
            State::InFlight(on) if std::ptr::eq(on.as_ptr(), Arc::as_ptr(submission)) => Ok(false),
            other => Err(other.holder()),
        }
    }

    /// Takes back a claim of `submission`, whose work will not touch this buffer any more.
    pub(crate) fn release(&self, submission: &Submission) {
        let mut state = lock(&self.state);
        if matches!(&*state, State::InFlight(on) if std::ptr::eq(on.as_ptr(), submission)) {
            *state = State::Idle;
        }
    }

    pub(crate) fn begin_host_read(&self) -> Result<(), Holder> {
        let mut state = self.state();
        *state = match &*state {
            State::Idle => State::HostReads(1),
            State::HostReads(count) => State::HostReads(count + 1),
            other => return Err(other.holder()),
        };
        Ok(())
    }

    pub(crate) fn end_host_read(&self) {
        let mut state = lock(&self.state);
        if let State::HostReads(count) = &*state {
            *state = if *count > 1 {
                State::HostReads(count - 1)
            } else {
                State::Idle
            };
        }
    }

    pub(crate) fn begin_host_write(&self) -> Result<(), Holder> {
        let mut state = self.state();
        match &*state {
            State::Idle => *state = State::HostWrite,
            other => return Err(other.holder()),
        }
        Ok(())
    }

    pub(crate) fn end_host_write(&self) {
        let mut state = lock(&self.state);
        if matches!(&*state, State::HostWrite) {
            *state = State::Idle;
        }
    }
}

impl State {
    /// Who is in the way. `Idle` is nobody; callers ask about the other states only, and for it
    /// the answer is the one that tells to wait.
    fn holder(&self) -> Holder {
        match self {
            Self::HostReads(count) => Holder::HostReads(*count),
            Self::HostWrite => Holder::HostWrite,
            Self::InFlight(on) if on.upgrade().is_some_and(|s| s.is_open()) => {
                Holder::OpenCommandBuffer
            }
            Self::InFlight(_) | Self::Idle => Holder::RunningCommandBuffer,
        }
    }
}

impl Drop for Tracker {
    fn drop(&mut self) {
        let mut registry = lock(&REGISTRY);
        let key = address(&self.raw.0);
        // The entry may already be that of a successor, made between the end of the last `Arc`
        // and this line.
        if registry
            .get(&key)
            .is_some_and(|entry| std::ptr::eq(entry.as_ptr(), self))
        {
            registry.remove(&key);
        }
    }
}

fn address(raw: &Retained<ProtocolObject<dyn MTLBuffer>>) -> usize {
    Retained::as_ptr(raw).cast::<()>() as usize
}
