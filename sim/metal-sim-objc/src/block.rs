//! Blocks: closures with a C layout. A block begins on the stack and is copied to the heap by
//! `_Block_copy`; a global block is never copied. Their classes are real, so a block can be
//! retained, put into an array or asked for its class. On the heap a block is an object like
//! every other: counted, in the census, and known after its end.

use crate::class::{self, Class, UNCOUNTED};
use crate::object::{self, Object};
use crate::ownership::{objc_release, objc_retain};
use crate::pool;
use crate::selector::Sel;
use std::ffi::{c_char, c_int, c_void};
use std::ptr;
use std::sync::atomic::{AtomicI32, Ordering};

/// A block as compilers lay it out; what it captured follows.
#[repr(C)]
pub(crate) struct Block {
    isa: *const Class,
    pub(crate) flags: c_int,
    reserved: c_int,
    invoke: *const c_void,
    descriptor: *const Descriptor,
}

#[repr(C)]
struct Descriptor {
    reserved: usize,
    size: usize,
    // With `HAS_COPY`: the copy and dispose functions; with `HAS_SIGNATURE`: the types after.
    tail: [*const c_void; 0],
}

const HAS_COPY: c_int = 1 << 25;
/// The result is written to memory whose address is a hidden argument.
pub(crate) const USES_STRET: c_int = 1 << 29;
const HAS_SIGNATURE: c_int = 1 << 30;

/// What a block's helpers say about a captured variable.
const FIELD_IS_OBJECT: c_int = 3;
const FIELD_IS_BLOCK: c_int = 7;
const FIELD_IS_BYREF: c_int = 8;
const FIELD_IS_WEAK: c_int = 16;
const BYREF_CALLER: c_int = 128;

macro_rules! block_class {
    ($constant:ident, $symbol:ident) => {
        // SAFETY: the symbol names this static alone.
        #[unsafe(export_name = stringify!($symbol))]
        static $constant: Class = Class::unbuilt();
    };
}

block_class!(STACK, _NSConcreteStackBlock);
block_class!(GLOBAL, _NSConcreteGlobalBlock);
block_class!(MALLOC, _NSConcreteMallocBlock);
block_class!(AUTO, _NSConcreteAutoBlock);
block_class!(FINALIZING, _NSConcreteFinalizingBlock);
block_class!(WEAK, _NSConcreteWeakBlockVariable);

pub(crate) fn register() {
    let classes: [(&std::ffi::CStr, &'static Class); 6] = [
        (c"__NSStackBlock__", &STACK),
        (c"__NSGlobalBlock__", &GLOBAL),
        (c"__NSMallocBlock__", &MALLOC),
        (c"__NSAutoBlock__", &AUTO),
        (c"__NSFinalizingBlock__", &FINALIZING),
        (c"__NSWeakBlockVariable__", &WEAK),
    ];
    class::declare_statics(&classes);
    let root = class::by_name(c"NSObject").expect("NSObject is registered first");
    let base = class::build(c"NSBlock", Some(root)).expect("registered once");
    class::register(base);
    for (name, symbol) in classes {
        let class = class::build(name, Some(base)).expect("registered once");
        class.add_method(Sel::new(c"copy"), copy as *const c_void, c"@@:");
        if ptr::eq(symbol, &MALLOC) {
            class.add_method(Sel::new(c"dealloc"), dealloc as *const c_void, c"v@:");
        } else {
            class.set(UNCOUNTED);
            for (name, imp, types) in [
                (c"retain", copy as *const c_void, c"@@:"),
                (c"release", release as *const c_void, c"Vv@:"),
                (c"autorelease", autorelease as *const c_void, c"@@:"),
            ] {
                class.add_method(Sel::new(name), imp, types);
            }
        }
        class::register(class);
    }
}

unsafe extern "C-unwind" fn copy(block: *mut Object, _: Sel) -> *mut Object {
    // SAFETY: a method of the block classes, so the receiver is a block.
    unsafe { _Block_copy(block.cast()).cast() }
}

unsafe extern "C-unwind" fn dealloc(block: *mut Object, _: Sel) {
    // SAFETY: sent to a block on the heap when its last owner is gone.
    unsafe {
        let block: *mut Block = block.cast();
        if (*block).flags & HAS_COPY != 0 {
            (helpers(block).1)(block);
        }
        object::free(block.cast());
    }
}

unsafe extern "C-unwind" fn release(block: *mut Object, _: Sel) {
    // SAFETY: as above.
    unsafe { _Block_release(block.cast()) };
}

unsafe extern "C-unwind" fn autorelease(block: *mut Object, _: Sel) -> *mut Object {
    // SAFETY: the caller gives up one ownership, which the pool releases by message.
    unsafe { pool::add(block) };
    block
}

type CopyHelper = unsafe extern "C-unwind" fn(*mut Block, *const Block);
type DisposeHelper = unsafe extern "C-unwind" fn(*mut Block);

/// The copy and dispose functions of a block that has them.
///
/// # Safety
/// `block` is a block with `HAS_COPY`.
unsafe fn helpers(block: *const Block) -> (CopyHelper, DisposeHelper) {
    // SAFETY: the caller's promise: two functions follow the descriptor's fixed part.
    unsafe {
        let tail = (*(*block).descriptor).tail.as_ptr();
        let copy = std::mem::transmute::<*const c_void, CopyHelper>(*tail);
        let dispose = std::mem::transmute::<*const c_void, DisposeHelper>(*tail.add(1));
        (copy, dispose)
    }
}

#[unsafe(no_mangle)]
pub(crate) unsafe extern "C-unwind" fn _Block_copy(block: *const c_void) -> *mut c_void {
    let source: *const Block = block.cast();
    // SAFETY: the C contract: null or a block.
    unsafe {
        let Some(held) = source.as_ref() else {
            return ptr::null_mut();
        };
        if ptr::eq(held.isa, &GLOBAL) {
            return block.cast_mut();
        }
        if is_on_heap(held) {
            object::retain_counted(block.cast_mut().cast());
            return block.cast_mut();
        }
        let size = (*held.descriptor).size;
        let copy: *mut Block = object::create(&MALLOC, size - MALLOC.instance_size()).cast();
        ptr::copy_nonoverlapping(source.cast::<u8>(), copy.cast::<u8>(), size);
        (*copy).isa = &MALLOC;
        if held.flags & HAS_COPY != 0 {
            (helpers(source).0)(copy, source);
        }
        copy.cast()
    }
}

/// Whether a block has a header: it is on the heap, or was.
fn is_on_heap(block: &Block) -> bool {
    // SAFETY: a block's first word is its class, and classes are never freed.
    ptr::eq(block.isa, &MALLOC) || object::is_zombie_class(unsafe { &*block.isa })
}

#[unsafe(no_mangle)]
pub(crate) unsafe extern "C-unwind" fn _Block_release(block: *const c_void) {
    // SAFETY: the C contract: null or a block of which the caller gives up one ownership.
    unsafe {
        if block.cast::<Block>().as_ref().is_some_and(is_on_heap) {
            object::release_counted(block.cast_mut().cast());
        }
    }
}

#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn objc_retainBlock(block: *mut Object) -> *mut Object {
    // SAFETY: the same contract.
    unsafe { _Block_copy(block.cast()).cast() }
}

/// A `__block` variable: shared by the blocks that capture it, and moved to the heap with
/// the first that is copied.
#[repr(C)]
struct ByRef {
    isa: *const c_void,
    forwarding: *mut ByRef,
    flags: AtomicI32,
    size: c_int,
    keep: Option<unsafe extern "C-unwind" fn(*mut ByRef, *mut ByRef)>,
    dispose: Option<unsafe extern "C-unwind" fn(*mut ByRef)>,
}

const BYREF_OWNERS: c_int = 0x00ff_ffff;
const BYREF_ON_HEAP: c_int = 1 << 24;

unsafe fn keep_by_ref(source: *mut ByRef) -> *mut ByRef {
    // SAFETY: the caller passes a `__block` variable; the helpers exist with `HAS_COPY`.
    unsafe {
        let shared = (*source).forwarding;
        if (*shared).flags.load(Ordering::Acquire) & BYREF_ON_HEAP != 0 {
            (*shared).flags.fetch_add(1, Ordering::Relaxed);
            return shared;
        }
        let size = (*source).size as usize;
        let copy: *mut ByRef = libc::malloc(size).cast();
        assert!(!copy.is_null(), "out of memory");
        ptr::copy_nonoverlapping(source.cast::<u8>(), copy.cast::<u8>(), size);
        // Two owners: the copied block, and the frame that still forwards to the copy.
        let flags = ((*source).flags.load(Ordering::Relaxed) & !BYREF_OWNERS) | BYREF_ON_HEAP | 2;
        (&raw mut (*copy).flags).write(AtomicI32::new(flags));
        (*copy).forwarding = copy;
        (*source).forwarding = copy;
        if flags & HAS_COPY != 0
            && let Some(keep) = (*source).keep
        {
            keep(copy, source);
        }
        copy
    }
}

unsafe fn dispose_by_ref(variable: *mut ByRef) {
    // SAFETY: the caller passes a `__block` variable of which it gives up one ownership.
    unsafe {
        let shared = (*variable).forwarding;
        if (*shared).flags.load(Ordering::Acquire) & BYREF_ON_HEAP == 0 {
            return;
        }
        if (*shared).flags.fetch_sub(1, Ordering::AcqRel) & BYREF_OWNERS == 1 {
            if (*shared).flags.load(Ordering::Acquire) & HAS_COPY != 0
                && let Some(dispose) = (*shared).dispose
            {
                dispose(shared);
            }
            libc::free(shared.cast());
        }
    }
}

#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn _Block_object_assign(
    place: *mut c_void,
    object: *const c_void,
    flags: c_int,
) {
    // SAFETY: the C contract: `place` is the captured variable in the copy, of the kind that
    // `flags` names.
    unsafe {
        let value = match flags & !FIELD_IS_WEAK {
            FIELD_IS_OBJECT => objc_retain(object.cast_mut().cast()).cast(),
            FIELD_IS_BLOCK => _Block_copy(object),
            FIELD_IS_BYREF => keep_by_ref(object.cast_mut().cast()).cast(),
            // From the helpers of a `__block` variable: moved, not shared.
            _ if flags & BYREF_CALLER != 0 => object.cast_mut(),
            _ => crate::fault::fault("block field", format!("unknown flags {flags:#x}")),
        };
        *place.cast::<*mut c_void>() = value;
    }
}

#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn _Block_object_dispose(object: *const c_void, flags: c_int) {
    // SAFETY: the C contract, as above.
    unsafe {
        match flags & !FIELD_IS_WEAK {
            FIELD_IS_OBJECT => objc_release(object.cast_mut().cast()),
            FIELD_IS_BLOCK => _Block_release(object),
            FIELD_IS_BYREF => dispose_by_ref(object.cast_mut().cast()),
            _ => {}
        }
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn Block_size(block: *const c_void) -> usize {
    // SAFETY: the C contract: a block.
    unsafe { (*(*block.cast::<Block>()).descriptor).size }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn _Block_has_signature(block: *const c_void) -> bool {
    // SAFETY: the C contract: a block.
    unsafe { (*block.cast::<Block>()).flags & HAS_SIGNATURE != 0 }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn _Block_signature(block: *const c_void) -> *const c_char {
    let block: *const Block = block.cast();
    // SAFETY: the C contract: a block. The signature follows the helpers, if there are any.
    unsafe {
        if (*block).flags & HAS_SIGNATURE == 0 {
            return ptr::null();
        }
        let tail = (*(*block).descriptor).tail.as_ptr();
        let at = if (*block).flags & HAS_COPY != 0 { 2 } else { 0 };
        (*tail.add(at)).cast()
    }
}
