//! Objects: a header in front, the class in the first word, instance variables after it.
//! Ownership is a count in the header; the C functions that change it are in `ownership`. A freed object stays in quarantine for a while with
//! a class of its own, so that a late message or release is named instead of corrupting
//! memory.

use crate::class::{Class, META, UNCOUNTED};
use crate::fault::fault;
use crate::origin::{self, Allocated, Origin};
use crate::selector::known;
use crate::{associated, message, weak};
use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::collections::VecDeque;
use std::ffi::CStr;
use std::ptr;
use std::sync::atomic::{AtomicIsize, AtomicPtr, AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};

/// An object: the class comes first.
#[repr(C)]
pub struct Object {
    pub(crate) isa: AtomicPtr<Class>,
}

impl Object {
    /// The object's class.
    #[inline]
    pub fn class(&self) -> *const Class {
        self.isa.load(Ordering::Relaxed)
    }
}

/// Weak references to the object exist.
const WEAKLY_HELD: u32 = 1;
/// The object has associated objects.
const ASSOCIATED: u32 = 2;
/// `dealloc` is running; late retains and releases are counted and have no effect.
const DEALLOCATING: u32 = 4;
/// The memory is in quarantine.
const FREED: u32 = 8;

#[repr(C, align(16))]
struct Header {
    owners: AtomicIsize,
    flags: AtomicU32,
    /// Bytes behind the header.
    size: u32,
    /// The class the object had when it was freed.
    freed_class: AtomicPtr<Class>,
    /// Where it was allocated.
    origin: Origin,
}

const HEADER: usize = size_of::<Header>();

/// The header of an allocated object.
///
/// # Safety
/// `object` came from [`create`] (not a class, protocol, constant or block).
#[inline]
unsafe fn header<'a>(object: *mut Object) -> &'a Header {
    // SAFETY: the caller's promise: `create` put a header there.
    unsafe { &*object.byte_sub(HEADER).cast::<Header>() }
}

fn layout(size: usize) -> Layout {
    Layout::from_size_align(HEADER + size, 16).expect("an object's size fits the address space")
}

/// Allocates an instance with `extra` bytes at its end, zeroed, with one owner.
pub fn create(class: &'static Class, extra: usize) -> *mut Object {
    let size = class.instance_size() + extra;
    let stored_size = u32::try_from(size).expect("an object is smaller than 4 GiB");
    // SAFETY: the layout is not empty; the writes stay inside it.
    unsafe {
        let start = alloc_zeroed(layout(size));
        if start.is_null() {
            handle_alloc_error(layout(size));
        }
        start.cast::<Header>().write(Header {
            owners: AtomicIsize::new(1),
            flags: AtomicU32::new(0),
            size: stored_size,
            freed_class: AtomicPtr::new(ptr::null_mut()),
            origin: origin::here(),
        });
        let object = start.add(HEADER).cast::<Object>();
        (*object)
            .isa
            .store(ptr::from_ref(class).cast_mut(), Ordering::Relaxed);
        class.live.fetch_add(1, Ordering::Relaxed);
        object
    }
}

static ZOMBIE: Class = Class::unbuilt();

/// Whether this is the class that freed objects have.
pub(crate) fn is_zombie_class(class: &Class) -> bool {
    ptr::eq(class, &ZOMBIE)
}

/// The class name that a freed object had.
///
/// # Safety
/// `object` is in quarantine.
pub(crate) unsafe fn freed_class_name(object: *mut Object) -> String {
    // SAFETY: the caller's promise; classes are never freed.
    let class = unsafe { header(object).freed_class.load(Ordering::Acquire).as_ref() };
    class.map_or_else(
        || "?".to_owned(),
        |class| class.name().to_string_lossy().into_owned(),
    )
}

/// A freed object as a fault names it: its class, and where it was allocated.
///
/// # Safety
/// `object` is in quarantine.
unsafe fn freed(object: *mut Object) -> String {
    // SAFETY: the caller's promise.
    unsafe { format!("{}{}", freed_class_name(object), origin(object)) }
}

/// Where an object was allocated, for the end of a fault's message.
///
/// # Safety
/// `object` is a live object of any kind, or in quarantine.
pub(crate) unsafe fn origin(object: *mut Object) -> Allocated {
    // SAFETY: the caller's promise; a counted object and a freed one have a header.
    unsafe {
        if is_zombie_class(&*(*object).class()) || is_counted(object) {
            Allocated::resolve(header(object).origin)
        } else {
            Allocated(None)
        }
    }
}

/// Ends an object: clears what refers to it and puts its memory into quarantine.
///
/// # Safety
/// `object` came from [`create`] and was not freed.
pub(crate) unsafe fn free(object: *mut Object) {
    // SAFETY: the caller's promise.
    let head = unsafe { header(object) };
    let flags = head.flags.fetch_or(FREED | DEALLOCATING, Ordering::AcqRel);
    if flags & FREED != 0 {
        // SAFETY: freed, so in quarantine.
        fault("object freed twice", unsafe { freed(object) });
    }
    if flags & WEAKLY_HELD != 0 {
        weak::clear(object);
    }
    if flags & ASSOCIATED != 0 {
        associated::remove_all(object);
    }
    // SAFETY: the object is still valid.
    let class = unsafe { &*(*object).class() };
    class.live.fetch_sub(1, Ordering::Relaxed);
    // Every later retain and release finds no owner, however many there are.
    head.owners.store(isize::MIN / 2, Ordering::Relaxed);
    head.freed_class
        .store(ptr::from_ref(class).cast_mut(), Ordering::Release);
    // SAFETY: the first word of the object's memory.
    unsafe {
        (*object)
            .isa
            .store((&raw const ZOMBIE).cast_mut(), Ordering::Release)
    };
    quarantine(object, head.size as usize);
}

struct Quarantined(*mut Object);

// SAFETY: nobody owns a quarantined object; the queue alone frees its memory.
unsafe impl Send for Quarantined {}

fn quarantine(object: *mut Object, size: usize) {
    const OBJECTS: usize = 1024;
    const LARGEST: usize = 4096;
    static QUEUE: Mutex<VecDeque<Quarantined>> = Mutex::new(VecDeque::new());
    let oldest = if size > LARGEST {
        Some(Quarantined(object))
    } else {
        let mut queue = QUEUE.lock().unwrap_or_else(PoisonError::into_inner);
        queue.push_back(Quarantined(object));
        if queue.len() > OBJECTS {
            queue.pop_front()
        } else {
            None
        }
    };
    if let Some(Quarantined(object)) = oldest {
        // SAFETY: the object left the queue, so this is the only place that frees it.
        unsafe {
            let (size, origin) = (header(object).size, header(object).origin);
            origin::forget(origin);
            dealloc(object.cast::<u8>().sub(HEADER), layout(size as usize));
        }
    }
}

/// Adds an owner to an allocated object.
///
/// # Safety
/// `object` came from [`create`].
#[inline]
pub(crate) unsafe fn retain_counted(object: *mut Object) {
    // SAFETY: the caller's promise.
    let head = unsafe { header(object) };
    let owners = head.owners.fetch_add(1, Ordering::Relaxed);
    if owners <= 0 && head.flags.load(Ordering::Acquire) & FREED != 0 {
        // SAFETY: freed, so in quarantine.
        fault("retain of a freed object", unsafe { freed(object) });
    }
}

/// Removes an owner from an allocated object and deallocates it with the last.
///
/// # Safety
/// `object` came from [`create`], and the caller gives up one ownership.
#[inline]
pub(crate) unsafe fn release_counted(object: *mut Object) {
    // SAFETY: the caller's promise.
    let head = unsafe { header(object) };
    let owners = head.owners.fetch_sub(1, Ordering::Release);
    if owners > 1 {
        return;
    }
    std::sync::atomic::fence(Ordering::Acquire);
    let flags = head.flags.load(Ordering::Acquire);
    if flags & DEALLOCATING == 0 && owners == 1 {
        // SAFETY: the last owner is gone, so nobody else uses the object.
        unsafe { deallocate(object, head) };
    } else if flags & FREED != 0 {
        // SAFETY: freed, so in quarantine.
        fault("over-release", unsafe { freed(object) });
    }
}

#[cold]
unsafe fn deallocate(object: *mut Object, head: &Header) {
    head.flags.fetch_or(DEALLOCATING, Ordering::AcqRel);
    // SAFETY: the object is whole until its root class's `dealloc` frees it.
    unsafe { message::send(object, known!(c"dealloc")) };
}

/// Adds an owner unless the last one is gone.
///
/// # Safety
/// `object` came from [`create`] and is not freed while this runs (the weak table's lock).
pub(crate) unsafe fn try_retain_counted(object: *mut Object) -> bool {
    // SAFETY: the caller's promise.
    let head = unsafe { header(object) };
    if head.flags.load(Ordering::Acquire) & DEALLOCATING != 0 {
        return false;
    }
    let more = |owners: isize| (owners > 0).then_some(owners + 1);
    head.owners
        .fetch_update(Ordering::AcqRel, Ordering::Acquire, more)
        .is_ok()
}

/// The number of owners.
///
/// # Safety
/// `object` came from [`create`].
pub(crate) unsafe fn owners(object: *mut Object) -> usize {
    // SAFETY: the caller's promise.
    unsafe { header(object) }
        .owners
        .load(Ordering::Relaxed)
        .max(0) as usize
}

/// Whether the object's ownership is counted in a header of ours.
///
/// # Safety
/// `object` points to an object.
pub(crate) unsafe fn is_counted(object: *mut Object) -> bool {
    // SAFETY: the caller's promise.
    !unsafe { &*(*object).class() }.has(META | UNCOUNTED)
}

/// Notes that a weak reference to the object exists.
///
/// # Safety
/// `object` came from [`create`].
pub(crate) unsafe fn note_weak(object: *mut Object) {
    // SAFETY: the caller's promise.
    unsafe { header(object) }
        .flags
        .fetch_or(WEAKLY_HELD, Ordering::AcqRel);
}

/// Notes that the object has associated objects.
///
/// # Safety
/// `object` came from [`create`].
pub(crate) unsafe fn note_associated(object: *mut Object) {
    // SAFETY: the caller's promise.
    unsafe { header(object) }
        .flags
        .fetch_or(ASSOCIATED, Ordering::AcqRel);
}

/// The name of an object's class, for messages.
///
/// # Safety
/// `object` points to an object.
pub unsafe fn class_name(object: *const Object) -> &'static CStr {
    // SAFETY: the caller's promise.
    unsafe { &*(*object).class() }.name()
}
