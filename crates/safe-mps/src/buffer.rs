//! [`Buffer`]: memory of a GPU, and the views through which the host sees it.
//!
//! Many handles may exist of one MTLBuffer; they share one record of who is using it. A view of
//! the host is refused while the GPU may touch the memory, and an encode is refused while a view
//! exists, so a slice of GPU memory obeys the rules of any Rust slice.

#![allow(unsafe_code)] // host views are slices of memory that Metal owns

use std::any::Any;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use objc2::Message;
use objc2::rc::autoreleasepool;
use objc2::runtime::ProtocolObject;
use objc2_metal::{MTLBuffer, MTLDevice, MTLResourceOptions};

use crate::data_type::Element;
use crate::device::Device;
use crate::error::{Error, Result};
use crate::in_flight;
use crate::tracker::{HostMemory, Origin, Tracker};

/// Who can see the memory of a buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Storage {
    /// CPU and GPU.
    Shared,
    /// The GPU alone; it may then keep the memory in a form of its own. Contents start undefined.
    Private,
}

/// A handle of GPU memory. Cloning it makes another handle of the same memory.
#[derive(Clone)]
pub struct Buffer {
    tracker: Arc<Tracker>,
    owner: Option<Arc<dyn Any + Send + Sync>>,
    read_only: bool,
}

impl Buffer {
    pub(crate) fn allocate(device: &Device, bytes: usize, storage: Storage) -> Result<Self> {
        if bytes == 0 {
            return Err(Error::ZeroSize {
                op: "new_buffer",
                dimension: "bytes",
            });
        }
        let max = device.max_buffer_length();
        if bytes > max {
            return Err(Error::BufferTooLarge { bytes, max });
        }
        in_flight::sweep();
        let options = match storage {
            Storage::Shared => MTLResourceOptions::StorageModeShared,
            Storage::Private => MTLResourceOptions::StorageModePrivate,
        };
        let tracker = autoreleasepool(|_| {
            let raw = device.metal().newBufferWithLength_options(bytes, options)?;
            Some(Tracker::of(raw, Origin::Ours))
        })
        .ok_or(Error::CreationFailed { what: "buffer" })?;
        if let Ok(HostMemory(start)) = tracker.host() {
            // SAFETY: Metal has just allocated `bytes` of shared memory at `start`, and no other
            // handle of it exists.
            unsafe { start.write_bytes(0, bytes) };
        }
        Ok(Self {
            tracker,
            owner: None,
            read_only: false,
        })
    }

    /// A handle of a buffer that was made elsewhere, such as a Candle tensor's. Nothing is copied.
    ///
    /// Kernels may use it like any other. Host views are refused: this crate cannot know who else
    /// looks at the memory. For the same reason whoever turns `contents()` of that buffer into a
    /// slice, by unsafe code of their own, vouches that no kernel writes to it meanwhile.
    pub fn from_metal(raw: &ProtocolObject<dyn MTLBuffer>) -> Self {
        in_flight::sweep();
        let tracker = autoreleasepool(|_| Tracker::of(raw.retain(), Origin::Foreign));
        Self {
            tracker,
            owner: None,
            read_only: false,
        }
    }

    /// Keeps `owner` alive as long as this handle and all handles and matrices made from it, work
    /// in flight included. For memory that its owner would otherwise hand out again.
    pub fn with_owner(mut self, owner: impl Any + Send + Sync) -> Self {
        let earlier = self.owner.take();
        self.owner = Some(match earlier {
            Some(earlier) => Arc::new((earlier, owner)),
            None => Arc::new(owner),
        });
        self
    }

    /// Makes kernels refuse to write through this handle, and those made from it.
    pub fn read_only(mut self) -> Self {
        self.read_only = true;
        self
    }

    /// Whether kernels may not write through this handle.
    pub fn is_read_only(&self) -> bool {
        self.read_only
    }

    /// Length in bytes.
    pub fn length(&self) -> usize {
        self.tracker.length()
    }

    /// Registry id of the GPU that the memory belongs to.
    pub fn registry_id(&self) -> u64 {
        self.tracker.registry_id()
    }

    /// Whether both are handles of the same memory.
    pub fn is_same(&self, other: &Buffer) -> bool {
        Arc::ptr_eq(&self.tracker, &other.tracker)
    }

    /// A view to read the whole buffer as elements of type `T`; a rest shorter than one element is
    /// left out. Refused while a kernel uses the buffer or a write view exists.
    pub fn read<T: Element>(&self) -> Result<HostRead<T>> {
        let memory = self
            .tracker
            .host()
            .map_err(|why| Error::NotHostVisible { why })?;
        self.tracker.begin_host_read().map_err(|by| Error::Busy {
            op: "read",
            operand: "buffer",
            by,
        })?;
        let length = self.length() / size_of::<T>();
        Ok(HostRead {
            tracker: self.tracker.clone(),
            memory,
            length,
            element: PhantomData,
        })
    }

    /// A view to write the whole buffer as elements of type `T`; a rest shorter than one element
    /// is left out. Refused while a kernel uses the buffer or any other view exists.
    pub fn write<T: Element>(&self) -> Result<HostWrite<T>> {
        let memory = self
            .tracker
            .host()
            .map_err(|why| Error::NotHostVisible { why })?;
        self.tracker.begin_host_write().map_err(|by| Error::Busy {
            op: "write",
            operand: "buffer",
            by,
        })?;
        let length = self.length() / size_of::<T>();
        Ok(HostWrite {
            tracker: self.tracker.clone(),
            memory,
            length,
            element: PhantomData,
        })
    }

    pub(crate) fn tracker(&self) -> &Tracker {
        &self.tracker
    }

    pub(crate) fn metal(&self) -> &ProtocolObject<dyn MTLBuffer> {
        self.tracker.metal()
    }
}

impl std::fmt::Debug for Buffer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Buffer")
            .field("length", &self.length())
            .field("read_only", &self.read_only)
            .finish_non_exhaustive()
    }
}

/// Elements of a buffer, for the host to read. While it exists, no kernel can be encoded that uses
/// the buffer.
pub struct HostRead<T: Element> {
    tracker: Arc<Tracker>,
    memory: HostMemory,
    length: usize,
    element: PhantomData<T>,
}

impl<T: Element> Deref for HostRead<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        // SAFETY: the tracker retains the MTLBuffer, whose memory starts on a page and has at
        // least `length` elements, all of whose bit patterns are valid (`Element`). Its state says
        // that the host reads, so neither a kernel nor a write view exists until `drop`.
        unsafe { std::slice::from_raw_parts(self.memory.0.as_ptr().cast(), self.length) }
    }
}

impl<T: Element> Drop for HostRead<T> {
    fn drop(&mut self) {
        self.tracker.end_host_read();
    }
}

/// Elements of a buffer, for the host to write. While it exists, it is the only access to the
/// buffer.
pub struct HostWrite<T: Element> {
    tracker: Arc<Tracker>,
    memory: HostMemory,
    length: usize,
    element: PhantomData<T>,
}

impl<T: Element> Deref for HostWrite<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        // SAFETY: as in `HostRead`, with the state saying that this view is the only access.
        unsafe { std::slice::from_raw_parts(self.memory.0.as_ptr().cast(), self.length) }
    }
}

impl<T: Element> DerefMut for HostWrite<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as above; `&mut self` makes this slice the only one of this view.
        unsafe { std::slice::from_raw_parts_mut(self.memory.0.as_ptr().cast(), self.length) }
    }
}

impl<T: Element> Drop for HostWrite<T> {
    fn drop(&mut self) {
        self.tracker.end_host_write();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::HostAccess;

    fn device() -> Device {
        Device::system_default().unwrap()
    }

    /// A buffer that this crate did not allocate.
    fn foreign(bytes: usize) -> objc2::rc::Retained<ProtocolObject<dyn MTLBuffer>> {
        let options = MTLResourceOptions::StorageModeShared;
        device()
            .metal()
            .newBufferWithLength_options(bytes, options)
            .unwrap()
    }

    #[test]
    fn private_and_foreign_memory_has_no_host_views() {
        let private = device().new_buffer(4, Storage::Private).unwrap();
        let why = HostAccess::Private;
        assert_eq!(
            private.read::<u8>().err(),
            Some(Error::NotHostVisible { why })
        );
        let foreign = Buffer::from_metal(&foreign(4));
        let why = HostAccess::Foreign;
        assert_eq!(
            foreign.write::<u8>().err(),
            Some(Error::NotHostVisible { why })
        );
    }

    #[test]
    fn one_tracker_however_often_a_buffer_is_wrapped() {
        let raw = foreign(4);
        let (one, two) = (Buffer::from_metal(&raw), Buffer::from_metal(&raw));
        assert!(one.is_same(&two));
        assert!(!one.is_same(&Buffer::from_metal(&foreign(4))));
    }

    #[test]
    fn owners_live_as_long_as_the_handles() {
        let owner = Arc::new(());
        let buffer = Buffer::from_metal(&foreign(4)).with_owner(owner.clone());
        let again = buffer.clone().with_owner(owner.clone());
        assert_eq!(Arc::strong_count(&owner), 3);
        drop(buffer);
        assert_eq!(Arc::strong_count(&owner), 3);
        drop(again);
        assert_eq!(Arc::strong_count(&owner), 1);
    }
}
