//! Protocols: names with adopted protocols, method descriptions and properties. Each is an
//! object of class `Protocol`, whose first owner never lets go.

use crate::class::{self, Class};
use crate::fault::fault;
use crate::object;
use crate::property::Property;
use crate::selector::Sel;
use std::collections::HashMap;
use std::ffi::{CStr, CString, c_char, c_void};
use std::ptr;
use std::sync::atomic::Ordering;
use std::sync::{OnceLock, PoisonError, RwLock};

/// A protocol; the first word is its class, as for every object.
#[repr(C)]
pub struct Protocol {
    isa: *const Class,
    pub(crate) name: CString,
    content: RwLock<Content>,
}

// SAFETY: the isa is a class, which is `Sync` and never freed; the rest is behind a lock.
unsafe impl Send for Protocol {}
// SAFETY: as above.
unsafe impl Sync for Protocol {}

/// What a protocol declares, behind its lock.
#[derive(Default)]
pub(crate) struct Content {
    pub(crate) adopted: Vec<&'static Protocol>,
    pub(crate) methods: Vec<(Description, Kind)>,
    pub(crate) properties: Vec<(&'static Property, Kind)>,
}

/// Whether a method or property must be there, and whether instances or the class have it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Kind {
    pub(crate) required: bool,
    pub(crate) instance: bool,
}

impl Kind {
    /// From the two flags as C passes them.
    pub(crate) fn new(required: u8, instance: u8) -> Self {
        Self {
            required: required != 0,
            instance: instance != 0,
        }
    }
}

/// A method as C describes it.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Description {
    pub(crate) name: *const c_char,
    pub(crate) types: *const c_char,
}

// SAFETY: both strings are leaked and never change.
unsafe impl Send for Description {}
// SAFETY: as above.
unsafe impl Sync for Description {}

crate::link_class!(PROTOCOL = "Protocol");

impl Protocol {
    /// A new protocol, which lives as long as the program.
    pub(crate) fn leaked(name: &CStr) -> &'static Self {
        let content = size_of::<Self>() - size_of::<*const Class>();
        let place: *mut Self = object::create(&PROTOCOL, content).cast();
        // Not something that a program owns and could leak.
        PROTOCOL.live.fetch_sub(1, Ordering::Relaxed);
        // SAFETY: the object has room for the class, which stays, and the content.
        unsafe {
            place.write(Self {
                isa: &PROTOCOL,
                name: name.to_owned(),
                content: RwLock::default(),
            });
            &*place
        }
    }

    pub(crate) fn read<R>(&self, look: impl FnOnce(&Content) -> R) -> R {
        look(&self.content.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn write<R>(&self, change: impl FnOnce(&mut Content) -> R) -> R {
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

    /// Declares a method; the strings live as long as the program.
    pub(crate) fn describe(&self, sel: Sel, types: &'static CStr, kind: Kind) {
        let description = Description {
            name: sel.as_ptr(),
            types: types.as_ptr(),
        };
        self.write(|content| content.methods.push((description, kind)));
    }

    /// The description of a method, in adopted protocols, too.
    pub(crate) fn description(&self, sel: Sel, wanted: Kind) -> Option<Description> {
        self.read(|content| {
            let mut methods = content.methods.iter();
            let own = methods.find(|(description, kind)| {
                *kind == wanted && ptr::eq(description.name, sel.as_ptr())
            });
            own.map(|(description, _)| *description).or_else(|| {
                let mut adopted = content.adopted.iter();
                adopted.find_map(|it| it.description(sel, wanted))
            })
        })
    }
}

pub(crate) fn registry() -> &'static RwLock<HashMap<CString, &'static Protocol>> {
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

/// Makes the class of protocols. `NSObject` exists, and adopts its protocol here.
pub(crate) fn register() {
    class::declare_statics(&statics());
    let root = class::by_name(c"NSObject").expect("NSObject is registered first");
    let class = class::build(c"Protocol", Some(root)).expect("registered once");
    class.add_method(Sel::new(c"dealloc"), dealloc as *const c_void, c"v@:");
    class::register(class);
    crate::standard_protocols::register();
    root.adopt(by_name(c"NSObject").expect("declared above"));
}

unsafe extern "C-unwind" fn dealloc(protocol: &Protocol, _: Sel) {
    fault(
        "over-release",
        format!("protocol {}", protocol.name.to_string_lossy()),
    )
}
