//! Protocols: names with adopted protocols and method descriptions. Each is an object of
//! class `Protocol` that is never freed. The protocols of the simulated frameworks are
//! declared here by name, so that conformance has a real answer.

use crate::class::{self, Class, IMMORTAL};
use crate::method::malloc_list;
use crate::property::{Attribute, Property};
use crate::selector::Sel;
use std::collections::HashMap;
use std::ffi::{CStr, CString, c_char, c_uint};
use std::ptr;
use std::sync::{OnceLock, PoisonError, RwLock};

/// A protocol; the first word is its class, as for every object.
#[repr(C)]
pub struct Protocol {
    isa: *const Class,
    name: CString,
    content: RwLock<Content>,
}

// SAFETY: the isa is a class, which is `Sync` and never freed; the rest is behind a lock.
unsafe impl Send for Protocol {}
// SAFETY: as above.
unsafe impl Sync for Protocol {}

#[derive(Default)]
struct Content {
    adopted: Vec<&'static Protocol>,
    methods: Vec<(Description, Kind)>,
    properties: Vec<(&'static Property, Kind)>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
struct Kind {
    required: bool,
    instance: bool,
}

/// A method as C describes it.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Description {
    name: *const c_char,
    types: *const c_char,
}

// SAFETY: both strings are leaked and never change.
unsafe impl Send for Description {}
// SAFETY: as above.
unsafe impl Sync for Description {}

crate::link_class!(PROTOCOL = "Protocol");

impl Protocol {
    fn leaked(name: &CStr) -> &'static Self {
        let class: &'static Class = &PROTOCOL;
        Box::leak(Box::new(Self {
            isa: class,
            name: name.to_owned(),
            content: RwLock::default(),
        }))
    }

    fn read<R>(&self, look: impl FnOnce(&Content) -> R) -> R {
        look(&self.content.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn write<R>(&self, change: impl FnOnce(&mut Content) -> R) -> R {
        change(&mut self.content.write().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether both are the same protocol. Two with one name are: the linker may have
    /// brought one per library.
    pub(crate) fn is(&self, other: &Protocol) -> bool {
        ptr::eq(self, other) || self.name == other.name
    }

    /// Whether this is `other` or adopts it.
    pub fn conforms_to(&self, other: &Protocol) -> bool {
        self.is(other)
            || self.read(|content| content.adopted.iter().any(|it| it.conforms_to(other)))
    }
}

fn registry() -> &'static RwLock<HashMap<CString, &'static Protocol>> {
    static REGISTRY: OnceLock<RwLock<HashMap<CString, &'static Protocol>>> = OnceLock::new();
    REGISTRY.get_or_init(RwLock::default)
}

/// Looks a registered protocol up by name.
pub fn by_name(name: &CStr) -> Option<&'static Protocol> {
    registry()
        .read()
        .unwrap_or_else(PoisonError::into_inner)
        .get(name)
        .copied()
}

/// Declares protocols: each name with the names it adopts, which come earlier in the list.
pub fn declare(protocols: &[(&CStr, &[&CStr])]) {
    for (name, adopted) in protocols {
        let protocol = Protocol::leaked(name);
        for parent in *adopted {
            let parent = by_name(parent).expect("a protocol is declared after those it adopts");
            protocol.write(|content| content.adopted.push(parent));
        }
        let mut registry = registry().write().unwrap_or_else(PoisonError::into_inner);
        registry.insert((*name).to_owned(), protocol);
    }
}

pub(crate) fn register() {
    class::declare_statics(&statics());
    let root = class::by_name(c"NSObject").expect("NSObject is registered first");
    let class = class::build(c"Protocol", Some(root)).expect("registered once");
    class.set(IMMORTAL);
    class::register(class);
    declare(&[
        (c"NSObject", &[]),
        (c"NSCopying", &[]),
        (c"NSMutableCopying", &[]),
        (c"NSCoding", &[]),
        (c"NSSecureCoding", &[c"NSCoding"]),
        (c"NSFastEnumeration", &[]),
    ]);
    let object = by_name(c"NSObject").expect("declared above");
    // The required methods of the NSObject protocol.
    for (name, types) in [
        (c"isEqual:", c"C@:@"),
        (c"hash", c"Q@:"),
        (c"superclass", c"#@:"),
        (c"class", c"#@:"),
        (c"self", c"@@:"),
        (c"performSelector:", c"@@::"),
        (c"performSelector:withObject:", c"@@::@"),
        (c"performSelector:withObject:withObject:", c"@@::@@"),
        (c"isProxy", c"C@:"),
        (c"isKindOfClass:", c"C@:#"),
        (c"isMemberOfClass:", c"C@:#"),
        (c"conformsToProtocol:", c"C@:@"),
        (c"respondsToSelector:", c"C@::"),
        (c"retain", c"@@:"),
        (c"release", c"Vv@:"),
        (c"autorelease", c"@@:"),
        (c"retainCount", c"Q@:"),
        (c"zone", c"^{_NSZone=}@:"),
        (c"description", c"@@:"),
    ] {
        let description = Description {
            name: Sel::new(name).as_ptr(),
            types: types.as_ptr(),
        };
        let kind = Kind {
            required: true,
            instance: true,
        };
        object.write(|content| content.methods.push((description, kind)));
    }
    for (name, method, types) in [
        (c"NSCopying", c"copyWithZone:", c"@@:^{_NSZone=}"),
        (
            c"NSMutableCopying",
            c"mutableCopyWithZone:",
            c"@@:^{_NSZone=}",
        ),
    ] {
        let protocol = by_name(name).expect("declared above");
        let description = Description {
            name: Sel::new(method).as_ptr(),
            types: types.as_ptr(),
        };
        let kind = Kind {
            required: true,
            instance: true,
        };
        protocol.write(|content| content.methods.push((description, kind)));
    }
    root.adopt(object);
}

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
    let types = Box::leak(types.into_boxed_c_str()).as_ptr();
    let kind = Kind {
        required: required != 0,
        instance: instance != 0,
    };
    protocol.write(|content| {
        content.methods.push((
            Description {
                name: name.as_ptr(),
                types,
            },
            kind,
        ));
    });
}

#[unsafe(no_mangle)]
extern "C" fn protocol_copyMethodDescriptionList(
    protocol: &Protocol,
    required: u8,
    instance: u8,
    count: *mut c_uint,
) -> *mut Description {
    let wanted = Kind {
        required: required != 0,
        instance: instance != 0,
    };
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
    let wanted = Kind {
        required: required != 0,
        instance: instance != 0,
    };
    find_description(protocol, sel, wanted).unwrap_or(Description {
        name: ptr::null(),
        types: ptr::null(),
    })
}

fn find_description(protocol: &Protocol, sel: Sel, wanted: Kind) -> Option<Description> {
    protocol.read(|content| {
        let own = content
            .methods
            .iter()
            .find(|(description, kind)| *kind == wanted && ptr::eq(description.name, sel.as_ptr()));
        own.map(|(description, _)| *description).or_else(|| {
            content
                .adopted
                .iter()
                .find_map(|it| find_description(it, sel, wanted))
        })
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
    let kind = Kind {
        required: required != 0,
        instance: instance != 0,
    };
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
    let wanted = Kind {
        required: required != 0,
        instance: instance != 0,
    };
    protocol.read(|content| {
        let mut properties = content.properties.iter();
        properties
            .find(|(property, kind)| *kind == wanted && *property.name == *name)
            .map_or(ptr::null(), |(property, _)| ptr::from_ref(*property))
    })
}
