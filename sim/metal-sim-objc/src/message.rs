//! Finding the function for a message. The hot path is one load of the receiver's class and
//! one probe of that class's cache; everything else is cold.

use crate::cache::Imp;
use crate::class::{Class, INITIALISED};
use crate::exception;
use crate::fault::fault;
use crate::method::Method;
use crate::object::{self, Object};
use crate::registry;
use crate::selector::Sel;
use std::ffi::c_void;

/// A message to a superclass, as C passes it.
#[repr(C)]
pub struct Super {
    receiver: *mut Object,
    class: *const Class,
}

/// The function that `receiver` answers `sel` with.
///
/// # Safety
/// `receiver` is null or points to an object (live, or freed and still in quarantine).
#[inline]
pub unsafe fn lookup(receiver: *mut Object, sel: Sel) -> Imp {
    if receiver.is_null() {
        return answer_of_nil as Imp;
    }
    // SAFETY: the caller's promise; an object's first word is its class.
    let class = unsafe { &*(*receiver).class() };
    let cached = class.cache.get(sel);
    if !cached.is_null() {
        return cached;
    }
    lookup_uncached(receiver, class, sel)
}

#[cold]
fn lookup_uncached(receiver: *mut Object, class: &'static Class, sel: Sel) -> Imp {
    if object::is_zombie_class(class) {
        return message_to_freed as Imp;
    }
    let named = if class.is_meta() {
        // SAFETY: the instances of a metaclass are classes.
        unsafe { &*receiver.cast::<Class>() }
    } else {
        class
    };
    registry::initialise(named);
    // While `+initialize` runs, only its own thread comes here; a cache entry would let the
    // others past it.
    let find = || match named.has(INITIALISED) {
        true => class.find_and_cache(sel),
        false => class.method(sel).map(Method::imp),
    };
    find()
        .or_else(|| resolve(named, class.is_meta(), sel).then(find).flatten())
        .unwrap_or(unrecognised as Imp)
}

/// Asks a class for a method that it adds only when it is wanted, by
/// `+resolveInstanceMethod:` or `+resolveClassMethod:`.
fn resolve(class: &'static Class, of_class: bool, sel: Sel) -> bool {
    let name = match of_class {
        true => c"resolveClassMethod:",
        false => c"resolveInstanceMethod:",
    };
    let ask = Sel::new(name);
    let Some(method) = class.metaclass().and_then(|meta| meta.method(ask)) else {
        return false;
    };
    // SAFETY: the method has this signature.
    unsafe {
        let answer: unsafe extern "C-unwind" fn(&Class, Sel, Sel) -> u8 =
            std::mem::transmute(method.imp());
        answer(class, ask, sel) != 0
    }
}

/// What every message to nil returns: zero in all result registers.
#[unsafe(naked)]
extern "C" fn answer_of_nil() {
    #[cfg(target_arch = "x86_64")]
    core::arch::naked_asm!(
        "xor eax, eax",
        "xor edx, edx",
        "xorps xmm0, xmm0",
        "xorps xmm1, xmm1",
        "ret"
    );
    #[cfg(target_arch = "aarch64")]
    core::arch::naked_asm!(
        "mov x0, #0",
        "mov x1, #0",
        "movi d0, #0",
        "movi d1, #0",
        "movi d2, #0",
        "movi d3, #0",
        "ret"
    );
}

/// Called in the place of a method that nobody has. The object itself is told, and may end
/// this as it likes; `NSObject` reports it.
unsafe extern "C-unwind" fn unrecognised(receiver: *mut Object, sel: Sel) -> *mut c_void {
    let tell = Sel::new(c"doesNotRecognizeSelector:");
    // SAFETY: called as a method, so the receiver is an object; the method that is sent to
    // it has this signature.
    unsafe {
        let class: &'static Class = &*(*receiver).class();
        if let Some(method) = class.method(tell) {
            let answer: unsafe extern "C-unwind" fn(*mut Object, Sel, Sel) =
                std::mem::transmute(method.imp());
            answer(receiver, tell, sel);
        }
        report_unrecognised(receiver, sel)
    }
}

/// Says that `receiver` has no method `sel`.
///
/// # Safety
/// `receiver` is an object.
pub(crate) unsafe fn report_unrecognised(receiver: *mut Object, sel: Sel) -> ! {
    // SAFETY: the caller's promise.
    let (class, origin) = unsafe { (&*(*receiver).class(), object::origin(receiver)) };
    let sign = if class.is_meta() { '+' } else { '-' };
    let call = format!("{sign}[{} {sel}]", class.name().to_string_lossy());
    exception::raise_or_fault(
        c"NSInvalidArgumentException",
        || format!("{call}: unrecognized selector sent to instance {receiver:p}"),
        "unrecognised selector",
        || format!("{call}{origin}"),
    )
}

unsafe extern "C-unwind" fn message_to_freed(receiver: *mut Object, sel: Sel) -> *mut c_void {
    // SAFETY: the zombie class is only ever set by `object::free`, which leaves the header.
    let (name, origin) = unsafe { (object::freed_class_name(receiver), object::origin(receiver)) };
    fault(
        "message to a freed object",
        format!("-[{name} {sel}] at {receiver:p}{origin}"),
    )
}

#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn objc_msg_lookup(receiver: *mut Object, sel: Sel) -> Imp {
    // SAFETY: the C contract is that of `lookup`.
    unsafe { lookup(receiver, sel) }
}

#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn objc_msg_lookup_super(message: &Super, sel: Sel) -> Imp {
    if message.receiver.is_null() {
        return answer_of_nil as Imp;
    }
    // SAFETY: the C contract: `class` is a built class.
    let class: &'static Class = unsafe { &*message.class };
    let cached = class.cache.get(sel);
    if cached.is_null() {
        class.find_and_cache(sel).unwrap_or(unrecognised as Imp)
    } else {
        cached
    }
}

#[unsafe(no_mangle)]
extern "C-unwind" fn class_getMethodImplementation(class: Option<&'static Class>, sel: Sel) -> Imp {
    class.map_or(std::ptr::null(), |class| {
        let cached = class.cache.get(sel);
        if cached.is_null() {
            class.find_and_cache(sel).unwrap_or(unrecognised as Imp)
        } else {
            cached
        }
    })
}

#[unsafe(no_mangle)]
extern "C-unwind" fn class_getMethodImplementation_stret(
    class: Option<&'static Class>,
    sel: Sel,
) -> Imp {
    class_getMethodImplementation(class, sel)
}

// The Apple-style entry: looks the method up and jumps to it with every argument register
// as it was. Not used by objc2 on this ABI, but part of it.
#[cfg(target_arch = "x86_64")]
macro_rules! message_send {
    ($name:ident, $receiver:literal, $sel:literal) => {
        #[unsafe(naked)]
        #[unsafe(no_mangle)]
        extern "C-unwind" fn $name() {
            core::arch::naked_asm!(
                "push rbp",
                "mov rbp, rsp",
                "sub rsp, 192",
                "mov [rsp], rdi",
                "mov [rsp + 8], rsi",
                "mov [rsp + 16], rdx",
                "mov [rsp + 24], rcx",
                "mov [rsp + 32], r8",
                "mov [rsp + 40], r9",
                "mov [rsp + 48], rax",
                "movaps [rsp + 64], xmm0",
                "movaps [rsp + 80], xmm1",
                "movaps [rsp + 96], xmm2",
                "movaps [rsp + 112], xmm3",
                "movaps [rsp + 128], xmm4",
                "movaps [rsp + 144], xmm5",
                "movaps [rsp + 160], xmm6",
                "movaps [rsp + 176], xmm7",
                concat!("mov rdi, [rsp + ", $receiver, "]"),
                concat!("mov rsi, [rsp + ", $sel, "]"),
                "call {lookup}",
                "mov r11, rax",
                "mov rdi, [rsp]",
                "mov rsi, [rsp + 8]",
                "mov rdx, [rsp + 16]",
                "mov rcx, [rsp + 24]",
                "mov r8, [rsp + 32]",
                "mov r9, [rsp + 40]",
                "mov rax, [rsp + 48]",
                "movaps xmm0, [rsp + 64]",
                "movaps xmm1, [rsp + 80]",
                "movaps xmm2, [rsp + 96]",
                "movaps xmm3, [rsp + 112]",
                "movaps xmm4, [rsp + 128]",
                "movaps xmm5, [rsp + 144]",
                "movaps xmm6, [rsp + 160]",
                "movaps xmm7, [rsp + 176]",
                "mov rsp, rbp",
                "pop rbp",
                "jmp r11",
                lookup = sym objc_msg_lookup,
            );
        }
    };
}

#[cfg(target_arch = "x86_64")]
message_send!(objc_msgSend, "0", "8");
#[cfg(target_arch = "x86_64")]
message_send!(objc_msgSend_fpret, "0", "8");
// A result in memory: its address comes first, the receiver second.
#[cfg(target_arch = "x86_64")]
message_send!(objc_msgSend_stret, "8", "16");

#[cfg(target_arch = "aarch64")]
#[unsafe(naked)]
#[unsafe(no_mangle)]
extern "C-unwind" fn objc_msgSend() {
    core::arch::naked_asm!(
        "stp x29, x30, [sp, #-16]!",
        "mov x29, sp",
        "sub sp, sp, #208",
        "stp x0, x1, [sp]",
        "stp x2, x3, [sp, #16]",
        "stp x4, x5, [sp, #32]",
        "stp x6, x7, [sp, #48]",
        "str x8, [sp, #64]",
        "stp q0, q1, [sp, #80]",
        "stp q2, q3, [sp, #112]",
        "stp q4, q5, [sp, #144]",
        "stp q6, q7, [sp, #176]",
        "bl {lookup}",
        "mov x16, x0",
        "ldp x0, x1, [sp]",
        "ldp x2, x3, [sp, #16]",
        "ldp x4, x5, [sp, #32]",
        "ldp x6, x7, [sp, #48]",
        "ldr x8, [sp, #64]",
        "ldp q0, q1, [sp, #80]",
        "ldp q2, q3, [sp, #112]",
        "ldp q4, q5, [sp, #144]",
        "ldp q6, q7, [sp, #176]",
        "mov sp, x29",
        "ldp x29, x30, [sp], #16",
        "br x16",
        lookup = sym objc_msg_lookup,
    );
}

/// Sends a message without arguments that returns an object or nothing.
///
/// # Safety
/// `receiver` is null or an object, and the method has that signature.
pub unsafe fn send(receiver: *mut Object, sel: Sel) -> *mut Object {
    // SAFETY: the caller's promise.
    let method: unsafe extern "C-unwind" fn(*mut Object, Sel) -> *mut Object =
        unsafe { std::mem::transmute(lookup(receiver, sel)) };
    // SAFETY: as above.
    unsafe { method(receiver, sel) }
}
