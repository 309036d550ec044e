//! The C functions that make and inspect classes.

use crate::cache::Imp;
use crate::class::Class;
use crate::fault::fault;
use crate::method::{Ivar, Method, malloc_list};
use crate::protocol::Protocol;
use crate::registry;
use crate::selector::Sel;
use std::ffi::{CStr, c_char, c_int, c_uint};
use std::ptr;

/// Borrows the NUL-terminated string a C caller passed.
///
/// # Safety
/// `text` is a valid NUL-terminated string for the duration of the call.
unsafe fn text<'a>(text: *const c_char) -> &'a CStr {
    // SAFETY: the caller's promise.
    unsafe { CStr::from_ptr(text) }
}

fn address<T>(found: Option<&'static T>) -> *const T {
    found.map_or(ptr::null(), ptr::from_ref)
}

#[unsafe(no_mangle)]
unsafe extern "C" fn objc_getClass(name: *const c_char) -> *const Class {
    // SAFETY: the C contract: a NUL-terminated name.
    address(registry::by_name(unsafe { text(name) }))
}

#[unsafe(no_mangle)]
unsafe extern "C" fn objc_lookUpClass(name: *const c_char) -> *const Class {
    // SAFETY: the C contract.
    unsafe { objc_getClass(name) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn objc_getRequiredClass(name: *const c_char) -> *const Class {
    // SAFETY: the C contract.
    let name = unsafe { text(name) };
    match registry::by_name(name) {
        Some(class) => class,
        None => fault("required class not found", name.to_string_lossy()),
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn objc_getMetaClass(name: *const c_char) -> *const Class {
    // SAFETY: the C contract.
    address(registry::by_name(unsafe { text(name) }).and_then(Class::metaclass))
}

#[unsafe(no_mangle)]
extern "C" fn objc_copyClassList(count: *mut c_uint) -> *mut *const Class {
    let classes: Vec<*const Class> = registry::all().into_iter().map(ptr::from_ref).collect();
    malloc_list(&classes, count)
}

#[unsafe(no_mangle)]
unsafe extern "C" fn objc_getClassList(buffer: *mut *const Class, len: c_int) -> c_int {
    let classes = registry::all();
    if !buffer.is_null() {
        for (at, class) in classes.iter().take(len.max(0) as usize).enumerate() {
            // SAFETY: the C contract: room for `len` pointers.
            unsafe { *buffer.add(at) = *class };
        }
    }
    classes.len() as c_int
}

#[unsafe(no_mangle)]
unsafe extern "C" fn objc_allocateClassPair(
    superclass: Option<&'static Class>,
    name: *const c_char,
    _extra: usize,
) -> *const Class {
    // SAFETY: the C contract.
    address(registry::build(unsafe { text(name) }, superclass))
}

#[unsafe(no_mangle)]
extern "C" fn objc_registerClassPair(class: &'static Class) {
    registry::register(class);
}

#[unsafe(no_mangle)]
extern "C" fn objc_disposeClassPair(class: &'static Class) {
    registry::dispose(class);
}

#[unsafe(no_mangle)]
extern "C" fn class_getName(class: Option<&Class>) -> *const c_char {
    class.map_or(c"nil".as_ptr(), |class| class.name().as_ptr())
}

#[unsafe(no_mangle)]
extern "C" fn class_getSuperclass(class: Option<&Class>) -> *const Class {
    address(class.and_then(Class::superclass))
}

#[unsafe(no_mangle)]
extern "C" fn class_isMetaClass(class: Option<&Class>) -> u8 {
    u8::from(class.is_some_and(Class::is_meta))
}

#[unsafe(no_mangle)]
extern "C" fn class_getInstanceSize(class: Option<&Class>) -> usize {
    class.map_or(0, Class::instance_size)
}

#[unsafe(no_mangle)]
extern "C" fn class_getVersion(class: Option<&Class>) -> c_int {
    class.map_or(0, |class| class.read(|tables| tables.version))
}

#[unsafe(no_mangle)]
extern "C" fn class_setVersion(class: Option<&Class>, version: c_int) {
    if let Some(class) = class {
        class.write(|tables| tables.version = version);
    }
}

#[unsafe(no_mangle)]
extern "C" fn class_getIvarLayout(class: Option<&Class>) -> usize {
    class.map_or(0, |class| class.read(|tables| tables.layout))
}

#[unsafe(no_mangle)]
extern "C" fn class_setIvarLayout(class: Option<&Class>, layout: usize) {
    if let Some(class) = class {
        class.write(|tables| tables.layout = layout);
    }
}

#[unsafe(no_mangle)]
extern "C" fn class_getInstanceMethod(class: Option<&'static Class>, sel: Sel) -> *const Method {
    address(class.and_then(|class| class.method(sel)))
}

#[unsafe(no_mangle)]
extern "C" fn class_getClassMethod(class: Option<&'static Class>, sel: Sel) -> *const Method {
    address(
        class
            .and_then(Class::metaclass)
            .and_then(|meta| meta.method(sel)),
    )
}

#[unsafe(no_mangle)]
extern "C" fn class_respondsToSelector(class: Option<&'static Class>, sel: Sel) -> u8 {
    u8::from(class.is_some_and(|class| class.method(sel).is_some()))
}

#[unsafe(no_mangle)]
unsafe extern "C" fn class_addMethod(
    class: &'static Class,
    sel: Sel,
    imp: Imp,
    types: *const c_char,
) -> u8 {
    // SAFETY: the C contract.
    u8::from(class.add_method(sel, imp, unsafe { text(types) }))
}

#[unsafe(no_mangle)]
unsafe extern "C" fn class_replaceMethod(
    class: &'static Class,
    sel: Sel,
    imp: Imp,
    types: *const c_char,
) -> Imp {
    match class.own_method(sel) {
        Some(method) => method.swap_imp(imp),
        None => {
            // SAFETY: the C contract.
            class.add_method(sel, imp, unsafe { text(types) });
            ptr::null()
        }
    }
}

#[unsafe(no_mangle)]
extern "C" fn class_copyMethodList(
    class: Option<&'static Class>,
    count: *mut c_uint,
) -> *mut *const Method {
    let list = class
        .map(|class| class.read(|tables| tables.methods.clone()))
        .unwrap_or_default();
    malloc_list(
        &list.into_iter().map(ptr::from_ref).collect::<Vec<_>>(),
        count,
    )
}

#[unsafe(no_mangle)]
unsafe extern "C" fn class_addIvar(
    class: &'static Class,
    name: *const c_char,
    size: usize,
    align_log2: u8,
    types: *const c_char,
) -> u8 {
    // SAFETY: the C contract.
    u8::from(
        class.add_ivar(unsafe { text(name) }, size, align_log2, unsafe {
            text(types)
        }),
    )
}

#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn class_getInstanceVariable(
    class: Option<&'static Class>,
    name: *const c_char,
) -> *const Ivar {
    // SAFETY: the C contract.
    address(class.and_then(|class| class.ivar(unsafe { text(name) })))
}

#[unsafe(no_mangle)]
unsafe extern "C" fn class_getClassVariable(
    class: Option<&'static Class>,
    name: *const c_char,
) -> *const Ivar {
    // SAFETY: the C contract.
    address(
        class
            .and_then(Class::metaclass)
            .and_then(|meta| meta.ivar(unsafe { text(name) })),
    )
}

#[unsafe(no_mangle)]
extern "C" fn class_copyIvarList(
    class: Option<&'static Class>,
    count: *mut c_uint,
) -> *mut *const Ivar {
    let list = class
        .map(|class| class.read(|tables| tables.ivars.clone()))
        .unwrap_or_default();
    malloc_list(
        &list.into_iter().map(ptr::from_ref).collect::<Vec<_>>(),
        count,
    )
}

#[unsafe(no_mangle)]
extern "C" fn class_addProtocol(class: &'static Class, protocol: Option<&'static Protocol>) -> u8 {
    u8::from(protocol.is_some_and(|protocol| class.adopt(protocol)))
}

#[unsafe(no_mangle)]
extern "C" fn class_conformsToProtocol(
    class: Option<&'static Class>,
    protocol: Option<&Protocol>,
) -> u8 {
    match (class, protocol) {
        (Some(class), Some(protocol)) => u8::from(class.conforms_to(protocol)),
        _ => 0,
    }
}

#[unsafe(no_mangle)]
extern "C" fn class_copyProtocolList(
    class: Option<&'static Class>,
    count: *mut c_uint,
) -> *mut *const Protocol {
    let list = class
        .map(|class| class.read(|tables| tables.protocols.clone()))
        .unwrap_or_default();
    malloc_list(
        &list.into_iter().map(ptr::from_ref).collect::<Vec<_>>(),
        count,
    )
}
