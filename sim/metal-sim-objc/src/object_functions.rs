//! The C functions that make, end and inspect objects.

use crate::class::Class;
use crate::class_functions::class_getInstanceVariable;
use crate::method::Ivar;
use crate::object::{Object, create, free, is_counted};
use std::ffi::{c_char, c_void};
use std::ptr;
use std::sync::atomic::Ordering;

#[unsafe(no_mangle)]
unsafe extern "C" fn class_createInstance(
    class: Option<&'static Class>,
    extra: usize,
) -> *mut Object {
    class.map_or(ptr::null_mut(), |class| create(class, extra))
}

#[unsafe(no_mangle)]
unsafe extern "C" fn object_dispose(object: *mut Object) -> *mut Object {
    if !object.is_null() {
        // SAFETY: the C contract: an allocated object that nobody uses any more.
        unsafe { free(object) };
    }
    ptr::null_mut()
}

#[unsafe(no_mangle)]
unsafe extern "C" fn object_getClass(object: *const Object) -> *const Class {
    // SAFETY: the C contract: null or an object.
    unsafe { object.as_ref() }.map_or(ptr::null(), Object::class)
}

#[unsafe(no_mangle)]
unsafe extern "C" fn object_getClassName(object: *const Object) -> *const c_char {
    // SAFETY: the C contract.
    unsafe { object.as_ref() }.map_or(c"nil".as_ptr(), |object| {
        // SAFETY: an object's first word is its class.
        unsafe { &*object.class() }.name().as_ptr()
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn object_setClass(object: *mut Object, class: &'static Class) -> *const Class {
    // SAFETY: the C contract: an allocated object whose new class has the same layout.
    unsafe {
        let old = (*object)
            .isa
            .swap(ptr::from_ref(class).cast_mut(), Ordering::AcqRel);
        if is_counted(object) {
            (*old).live.fetch_sub(1, Ordering::Relaxed);
            class.live.fetch_add(1, Ordering::Relaxed);
        }
        old
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn object_getIndexedIvars(object: *const Object) -> *const c_void {
    // SAFETY: the C contract: an allocated object.
    unsafe { object.byte_add((*(*object).class()).instance_size()).cast() }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn object_getIvar(object: *const Object, ivar: Option<&Ivar>) -> *mut Object {
    match (object.is_null(), ivar) {
        // SAFETY: the C contract: the variable belongs to the object's class and holds one.
        (false, Some(ivar)) => unsafe { *object.byte_offset(ivar.offset).cast::<*mut Object>() },
        _ => ptr::null_mut(),
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn object_setIvar(object: *mut Object, ivar: Option<&Ivar>, value: *mut Object) {
    if let (false, Some(ivar)) = (object.is_null(), ivar) {
        // SAFETY: as for `object_getIvar`.
        unsafe { *object.byte_offset(ivar.offset).cast::<*mut Object>() = value };
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn object_getInstanceVariable(
    object: *mut Object,
    name: *const c_char,
    value: *mut *const c_void,
) -> *const Ivar {
    // SAFETY: the C contract: an object, a name and a place for the value (or null).
    unsafe {
        let class = object_getClass(object).as_ref();
        let ivar = class_getInstanceVariable(class, name);
        if let (Some(ivar), false) = (ivar.as_ref(), value.is_null()) {
            *value = *object.byte_offset(ivar.offset).cast::<*const c_void>();
        }
        ivar
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn object_setInstanceVariable(
    object: *mut Object,
    name: *const c_char,
    value: *mut c_void,
) -> *const Ivar {
    // SAFETY: the C contract: an object and the name of a variable that holds a pointer.
    unsafe {
        let class = object_getClass(object).as_ref();
        let ivar = class_getInstanceVariable(class, name);
        if let Some(ivar) = ivar.as_ref() {
            *object.byte_offset(ivar.offset).cast::<*mut c_void>() = value;
        }
        ivar
    }
}
