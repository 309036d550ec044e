//! The C functions that make and inspect protocols.

use crate::method::malloc_list;
use crate::property::{Attribute, Property};
use crate::protocol::{Description, Kind, Protocol, by_name, registry};
use crate::selector::Sel;
use std::ffi::{CStr, c_char, c_uint};
use std::ptr;
use std::sync::PoisonError;

#[unsafe(no_mangle)]
unsafe extern "C" fn objc_getProtocol(name: *const c_char) -> *const Protocol {
    // SAFETY: the C contract: a NUL-terminated name.
    by_name(unsafe { CStr::from_ptr(name) }).map_or(ptr::null(), ptr::from_ref)
}

#[unsafe(no_mangle)]
unsafe extern "C" fn objc_allocateProtocol(name: *const c_char) -> *const Protocol {
    // SAFETY: the C contract.
    let name = unsafe { CStr::from_ptr(name) };
    if by_name(name).is_some() {
        return ptr::null();
    }
    Protocol::leaked(name)
}

#[unsafe(no_mangle)]
extern "C" fn objc_registerProtocol(protocol: &'static Protocol) {
    let mut registry = registry().write().unwrap_or_else(PoisonError::into_inner);
    registry.entry(protocol.name.clone()).or_insert(protocol);
}

#[unsafe(no_mangle)]
extern "C" fn objc_copyProtocolList(count: *mut c_uint) -> *mut *const Protocol {
    let registry = registry().read().unwrap_or_else(PoisonError::into_inner);
    let list: Vec<*const Protocol> = registry.values().map(|it| ptr::from_ref(*it)).collect();
    malloc_list(&list, count)
}

#[unsafe(no_mangle)]
extern "C" fn protocol_getName(protocol: &Protocol) -> *const c_char {
    protocol.name.as_ptr()
}

#[unsafe(no_mangle)]
extern "C" fn protocol_isEqual(left: Option<&Protocol>, right: Option<&Protocol>) -> u8 {
    match (left, right) {
        (Some(left), Some(right)) => u8::from(left.is(right)),
        (None, None) => 1,
        _ => 0,
    }
}

#[unsafe(no_mangle)]
extern "C" fn protocol_conformsToProtocol(
    protocol: Option<&Protocol>,
    other: Option<&Protocol>,
) -> u8 {
    match (protocol, other) {
        (Some(protocol), Some(other)) => u8::from(protocol.conforms_to(other)),
        _ => 0,
    }
}

#[unsafe(no_mangle)]
extern "C" fn protocol_addProtocol(protocol: &Protocol, addition: &'static Protocol) {
    protocol.write(|content| content.adopted.push(addition));
}

#[unsafe(no_mangle)]
extern "C" fn protocol_copyProtocolList(
    protocol: &Protocol,
    count: *mut c_uint,
) -> *mut *const Protocol {
    let list = protocol.read(|content| content.adopted.clone());
    malloc_list(
        &list.into_iter().map(ptr::from_ref).collect::<Vec<_>>(),
        count,
    )
}

#[unsafe(no_mangle)]
unsafe extern "C" fn protocol_addMethodDescription(
    protocol: &Protocol,
    name: Sel,
    types: *const c_char,
    required: u8,
    instance: u8,
) {
    // SAFETY: the C contract; the copy is leaked because descriptions are handed out.
    let types = unsafe { CStr::from_ptr(types) }.to_owned();
    let types = Box::leak(types.into_boxed_c_str());
    protocol.describe(name, types, Kind::new(required, instance));
}

#[unsafe(no_mangle)]
extern "C" fn protocol_copyMethodDescriptionList(
    protocol: &Protocol,
    required: u8,
    instance: u8,
    count: *mut c_uint,
) -> *mut Description {
    let wanted = Kind::new(required, instance);
    let list: Vec<Description> = protocol.read(|content| {
        let methods = content.methods.iter().filter(|(_, kind)| *kind == wanted);
        methods.map(|(description, _)| *description).collect()
    });
    if !count.is_null() {
        // SAFETY: the C contract: a valid place for the count.
        unsafe { *count = list.len() as c_uint };
    }
    if list.is_empty() {
        return ptr::null_mut();
    }
    // SAFETY: the allocation has room for one record more than is copied.
    unsafe {
        let copy: *mut Description = libc::calloc(list.len() + 1, size_of::<Description>()).cast();
        assert!(!copy.is_null(), "out of memory");
        ptr::copy_nonoverlapping(list.as_ptr(), copy, list.len());
        copy
    }
}

#[unsafe(no_mangle)]
extern "C" fn protocol_getMethodDescription(
    protocol: &Protocol,
    sel: Sel,
    required: u8,
    instance: u8,
) -> Description {
    let wanted = Kind::new(required, instance);
    protocol.description(sel, wanted).unwrap_or(Description {
        name: ptr::null(),
        types: ptr::null(),
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn protocol_addProperty(
    protocol: &Protocol,
    name: *const c_char,
    attributes: *const Attribute,
    count: c_uint,
    required: u8,
    instance: u8,
) {
    // SAFETY: the C contract.
    let property = unsafe { Property::copied(name, attributes, count) };
    let kind = Kind::new(required, instance);
    protocol.write(|content| content.properties.push((property, kind)));
}

#[unsafe(no_mangle)]
extern "C" fn protocol_copyPropertyList(
    protocol: &Protocol,
    count: *mut c_uint,
) -> *mut *const Property {
    let list = protocol.read(|content| {
        content
            .properties
            .iter()
            .map(|(property, _)| ptr::from_ref(*property))
            .collect::<Vec<_>>()
    });
    malloc_list(&list, count)
}

#[unsafe(no_mangle)]
unsafe extern "C" fn protocol_getProperty(
    protocol: &Protocol,
    name: *const c_char,
    required: u8,
    instance: u8,
) -> *const Property {
    // SAFETY: the C contract.
    let name = unsafe { CStr::from_ptr(name) };
    let wanted = Kind::new(required, instance);
    protocol.read(|content| {
        let mut properties = content.properties.iter();
        properties
            .find(|(property, kind)| *kind == wanted && *property.name == *name)
            .map_or(ptr::null(), |(property, _)| ptr::from_ref(*property))
    })
}
