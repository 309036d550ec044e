//! Declared properties: a name and attributes, kept for classes and protocols that ask.

use crate::class::Class;
use crate::method::{malloc_list, malloc_string};
use std::ffi::{CStr, CString, c_char, c_uint};
use std::ptr;

/// A declared property.
pub struct Property {
    pub(crate) name: CString,
    attributes: Vec<(CString, CString)>,
    text: CString,
}

/// One attribute as C passes it.
#[repr(C)]
pub struct Attribute {
    name: *const c_char,
    value: *const c_char,
}

impl Property {
    /// Copies what C passed.
    ///
    /// # Safety
    /// `name` and the `count` attributes are valid NUL-terminated strings.
    pub(crate) unsafe fn copied(
        name: *const c_char,
        attributes: *const Attribute,
        count: c_uint,
    ) -> &'static Self {
        let mut list = Vec::new();
        for at in 0..count as usize {
            // SAFETY: the caller's promise.
            let pair = unsafe {
                let attribute = &*attributes.add(at);
                (
                    CStr::from_ptr(attribute.name).to_owned(),
                    CStr::from_ptr(attribute.value).to_owned(),
                )
            };
            list.push(pair);
        }
        let joined: Vec<Vec<u8>> = list
            .iter()
            .map(|(name, value)| [name.as_bytes(), value.as_bytes()].concat())
            .collect();
        let text = CString::new(joined.join(&b',')).expect("pieces of C strings hold no NUL");
        // SAFETY: the caller's promise.
        let name = unsafe { CStr::from_ptr(name) }.to_owned();
        Box::leak(Box::new(Self {
            name,
            attributes: list,
            text,
        }))
    }
}

#[unsafe(no_mangle)]
extern "C" fn property_getName(property: &Property) -> *const c_char {
    property.name.as_ptr()
}

#[unsafe(no_mangle)]
extern "C" fn property_getAttributes(property: &Property) -> *const c_char {
    property.text.as_ptr()
}

#[unsafe(no_mangle)]
unsafe extern "C" fn property_copyAttributeValue(
    property: &Property,
    name: *const c_char,
) -> *mut c_char {
    // SAFETY: the C contract: a NUL-terminated name.
    let name = unsafe { CStr::from_ptr(name) };
    let found = property.attributes.iter().find(|(held, _)| **held == *name);
    found.map_or(ptr::null_mut(), |(_, value)| {
        malloc_string(&value.to_string_lossy())
    })
}

#[unsafe(no_mangle)]
extern "C" fn property_copyAttributeList(
    property: &Property,
    count: *mut c_uint,
) -> *mut Attribute {
    if !count.is_null() {
        // SAFETY: the C contract: a valid place for the count.
        unsafe { *count = property.attributes.len() as c_uint };
    }
    if property.attributes.is_empty() {
        return ptr::null_mut();
    }
    // SAFETY: the allocation has room for one record more than is written. The strings
    // belong to the property, which is never freed.
    unsafe {
        let list: *mut Attribute =
            libc::calloc(property.attributes.len() + 1, size_of::<Attribute>()).cast();
        assert!(!list.is_null(), "out of memory");
        for (at, (name, value)) in property.attributes.iter().enumerate() {
            list.add(at).write(Attribute {
                name: name.as_ptr(),
                value: value.as_ptr(),
            });
        }
        list
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn class_addProperty(
    class: &'static Class,
    name: *const c_char,
    attributes: *const Attribute,
    count: c_uint,
) -> u8 {
    // SAFETY: the C contract.
    u8::from(class.add_property(unsafe { Property::copied(name, attributes, count) }, false))
}

#[unsafe(no_mangle)]
unsafe extern "C" fn class_replaceProperty(
    class: &'static Class,
    name: *const c_char,
    attributes: *const Attribute,
    count: c_uint,
) {
    // SAFETY: the C contract.
    class.add_property(unsafe { Property::copied(name, attributes, count) }, true);
}

#[unsafe(no_mangle)]
unsafe extern "C" fn class_getProperty(
    class: Option<&'static Class>,
    name: *const c_char,
) -> *const Property {
    // SAFETY: the C contract.
    let found = class.and_then(|class| class.property(unsafe { CStr::from_ptr(name) }));
    found.map_or(ptr::null(), ptr::from_ref)
}

#[unsafe(no_mangle)]
extern "C" fn class_copyPropertyList(
    class: Option<&'static Class>,
    count: *mut c_uint,
) -> *mut *const Property {
    let list = class.map(Class::own_properties).unwrap_or_default();
    malloc_list(
        &list.into_iter().map(ptr::from_ref).collect::<Vec<_>>(),
        count,
    )
}
