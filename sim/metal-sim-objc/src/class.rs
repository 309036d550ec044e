//! Classes: what a class is made of, and what it knows about its methods, variables,
//! protocols and properties. How pairs are built is in [`registry`](crate::registry), the C
//! functions that inspect them are in `class_functions`. A class that
//! programs name at link time is a static made by [`link_class!`](crate::link_class); building
//! a class of that name fills the static.

use crate::cache::{Imp, MethodCache};
use crate::fault::fault;
use crate::method::{Ivar, Method};
use crate::property::Property;
use crate::protocol::Protocol;
use crate::selector::Sel;
use std::collections::HashMap;
use std::ffi::{CStr, c_char, c_int};
use std::ptr;
use std::sync::atomic::{AtomicIsize, AtomicPtr, AtomicU32, AtomicUsize, Ordering};
use std::sync::{PoisonError, RwLock};

pub use crate::registry::{all, build, by_name, declare_statics, register};

/// Set on a metaclass: its instances are classes.
pub(crate) const META: u32 = 1;
/// Set where `retain`, `release` or `autorelease` is overridden: ownership goes by message.
pub(crate) const CUSTOM_OWNERSHIP: u32 = 2;
/// Set where instances have no header and are not counted: blocks that are not on the heap.
pub(crate) const UNCOUNTED: u32 = 4;
/// Set once `+initialize` has returned.
pub(crate) const INITIALISED: u32 = 8;
/// Set when the pair was registered: no more instance variables.
pub(crate) const REGISTERED: u32 = 16;

/// A class. The first word is its metaclass, as for every object.
#[repr(C)]
pub struct Class {
    pub(crate) isa: AtomicPtr<Class>,
    pub(crate) superclass: AtomicPtr<Class>,
    pub(crate) name: AtomicPtr<c_char>,
    pub(crate) flags: AtomicU32,
    pub(crate) cache: MethodCache,
    pub(crate) tables: AtomicPtr<RwLock<Tables>>,
    pub(crate) size: AtomicUsize,
    /// Live instances of exactly this class.
    pub(crate) live: AtomicIsize,
}

/// What a class knows, behind its lock.
#[derive(Default)]
pub(crate) struct Tables {
    pub(crate) methods: Vec<&'static Method>,
    by_selector: HashMap<Sel, usize>,
    pub(crate) ivars: Vec<&'static Ivar>,
    pub(crate) protocols: Vec<&'static Protocol>,
    properties: Vec<&'static Property>,
    pub(crate) subclasses: Vec<&'static Class>,
    pub(crate) version: c_int,
    pub(crate) layout: usize,
}

impl Class {
    /// A class that has not been built: the content of a link-time static.
    pub const fn unbuilt() -> Self {
        Self {
            isa: AtomicPtr::new(ptr::null_mut()),
            superclass: AtomicPtr::new(ptr::null_mut()),
            name: AtomicPtr::new(ptr::null_mut()),
            flags: AtomicU32::new(0),
            cache: MethodCache::empty(),
            tables: AtomicPtr::new(ptr::null_mut()),
            size: AtomicUsize::new(0),
            live: AtomicIsize::new(0),
        }
    }

    /// The class's name.
    pub fn name(&self) -> &'static CStr {
        let name = self.name.load(Ordering::Acquire);
        if name.is_null() {
            return c"(a class that was never built)";
        }
        // SAFETY: `build` stores a leaked string.
        unsafe { CStr::from_ptr(name) }
    }

    /// The class whose instance this class is.
    pub fn metaclass(&self) -> Option<&'static Class> {
        // SAFETY: null or a class; classes are never freed.
        unsafe { self.isa.load(Ordering::Acquire).as_ref() }
    }

    /// The superclass; a root class has none.
    pub fn superclass(&self) -> Option<&'static Class> {
        // SAFETY: null or a class; classes are never freed.
        unsafe { self.superclass.load(Ordering::Acquire).as_ref() }
    }

    /// Whether this is a metaclass.
    pub fn is_meta(&self) -> bool {
        self.has(META)
    }

    /// Bytes of an instance: a whole number of words, whatever its variables end at.
    pub fn instance_size(&self) -> usize {
        let size = self.size.load(Ordering::Acquire);
        size.next_multiple_of(size_of::<usize>())
    }

    /// This class and its superclasses, nearest first.
    pub fn lineage(&'static self) -> impl Iterator<Item = &'static Class> {
        std::iter::successors(Some(self), |class| class.superclass())
    }

    #[inline]
    pub(crate) fn has(&self, flag: u32) -> bool {
        self.flags.load(Ordering::Relaxed) & flag != 0
    }

    pub(crate) fn set(&self, flag: u32) {
        self.flags.fetch_or(flag, Ordering::AcqRel);
    }

    fn tables(&self) -> &'static RwLock<Tables> {
        let tables = self.tables.load(Ordering::Acquire);
        // SAFETY: null, or leaked by `build`.
        match unsafe { tables.as_ref() } {
            Some(tables) => tables,
            None => fault("class never built", self.name().to_string_lossy()),
        }
    }

    pub(crate) fn read<R>(&self, look: impl FnOnce(&Tables) -> R) -> R {
        look(&self.tables().read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn write<R>(&self, change: impl FnOnce(&mut Tables) -> R) -> R {
        change(
            &mut self
                .tables()
                .write()
                .unwrap_or_else(PoisonError::into_inner),
        )
    }

    /// The method of this class itself.
    pub(crate) fn own_method(&self, sel: Sel) -> Option<&'static Method> {
        self.read(|tables| tables.by_selector.get(&sel).map(|at| tables.methods[*at]))
    }

    /// The method for `sel`, inherited ones included.
    pub fn method(&'static self, sel: Sel) -> Option<&'static Method> {
        self.lineage().find_map(|class| class.own_method(sel))
    }

    /// Finds a function and remembers it for this class. The lock is held over both, so
    /// that a method replaced meanwhile cannot leave a stale entry behind.
    pub(crate) fn find_and_cache(&'static self, sel: Sel) -> Option<Imp> {
        self.write(|tables| {
            let own = tables.by_selector.get(&sel).map(|at| tables.methods[*at]);
            let method = own.or_else(|| self.superclass().and_then(|class| class.method(sel)))?;
            self.cache.insert(sel, method.imp());
            Some(method.imp())
        })
    }

    /// Adds a method; false when this class already has one of that name.
    pub fn add_method(&'static self, sel: Sel, imp: Imp, types: &CStr) -> bool {
        let added = self.write(|tables| {
            if tables.by_selector.contains_key(&sel) {
                return false;
            }
            tables.by_selector.insert(sel, tables.methods.len());
            tables.methods.push(Method::new(self, sel, imp, types));
            true
        });
        if added {
            forget_cached(self);
            if !self.is_meta() && is_ownership(sel) {
                mark_custom_ownership(self);
            }
        }
        added
    }

    /// Whether this class or a superclass adopted `protocol`, directly or through another.
    pub fn conforms_to(&'static self, protocol: &Protocol) -> bool {
        self.lineage().any(|class| {
            class.read(|tables| {
                tables
                    .protocols
                    .iter()
                    .any(|adopted| adopted.conforms_to(protocol))
            })
        })
    }

    /// Adopts a protocol; false when it conforms to that already.
    pub(crate) fn adopt(&'static self, protocol: &'static Protocol) -> bool {
        let new = !self.conforms_to(protocol);
        if new {
            self.write(|tables| tables.protocols.push(protocol));
        }
        new
    }

    /// Adds an instance variable before the class is registered.
    pub fn add_ivar(&self, name: &CStr, size: usize, align_log2: u8, types: &CStr) -> bool {
        if self.has(REGISTERED) {
            return false;
        }
        self.write(|tables| {
            if tables.ivars.iter().any(|ivar| *ivar.name == *name) {
                return false;
            }
            let end = self.size.load(Ordering::Acquire);
            let offset = end.next_multiple_of(1 << align_log2);
            self.size.store(offset + size, Ordering::Release);
            tables.ivars.push(Box::leak(Box::new(Ivar {
                name: name.to_owned(),
                types: types.to_owned(),
                offset: offset as isize,
            })));
            true
        })
    }

    /// Describes the class pointer, which a root class has without it being added.
    pub(crate) fn add_ivar_at_start(&self, name: &CStr, types: &CStr) {
        let ivar = Ivar {
            name: name.to_owned(),
            types: types.to_owned(),
            offset: 0,
        };
        self.write(|tables| tables.ivars.push(Box::leak(Box::new(ivar))));
    }

    /// The instance variable of that name, inherited ones included.
    pub(crate) fn ivar(&'static self, name: &CStr) -> Option<&'static Ivar> {
        self.lineage().find_map(|class| {
            class.read(|tables| {
                tables
                    .ivars
                    .iter()
                    .find(|ivar| *ivar.name == *name)
                    .copied()
            })
        })
    }

    /// The property of that name, inherited ones included.
    pub(crate) fn property(&'static self, name: &CStr) -> Option<&'static Property> {
        self.lineage().find_map(|class| {
            class.read(|tables| {
                tables
                    .properties
                    .iter()
                    .find(|property| *property.name == *name)
                    .copied()
            })
        })
    }

    /// Adds a property, or replaces this class's own of that name when asked to.
    pub(crate) fn add_property(&self, property: &'static Property, replace: bool) -> bool {
        self.write(|tables| {
            let held = tables
                .properties
                .iter()
                .position(|other| other.name == property.name);
            match held {
                Some(at) if replace => tables.properties[at] = property,
                Some(_) => return false,
                None => tables.properties.push(property),
            }
            true
        })
    }

    /// The properties of this class itself.
    pub(crate) fn own_properties(&self) -> Vec<&'static Property> {
        self.read(|tables| tables.properties.clone())
    }
}

fn is_ownership(sel: Sel) -> bool {
    [c"retain", c"release", c"autorelease", c"_tryRetain"].contains(&sel.name())
}

/// `NSObject`'s own ownership methods are the ones that need no message.
pub(crate) fn ownership_is_counted(root: &'static Class) {
    root.flags.fetch_and(!CUSTOM_OWNERSHIP, Ordering::AcqRel);
}

fn mark_custom_ownership(class: &'static Class) {
    class.set(CUSTOM_OWNERSHIP);
    for subclass in class.read(|tables| tables.subclasses.clone()) {
        mark_custom_ownership(subclass);
    }
}

/// Empties the method caches of a class and everything below it.
pub(crate) fn forget_cached(class: &'static Class) {
    let subclasses = class.write(|tables| {
        class.cache.clear();
        tables.subclasses.clone()
    });
    for subclass in subclasses {
        forget_cached(subclass);
    }
}

/// Declares link-time class statics: `link_class!(NS_STRING = "NSString")` exports the
/// symbol that `objc2` refers to, and `statics()` lists them for [`declare_statics`].
#[macro_export]
macro_rules! link_class {
    ($($constant:ident = $name:literal),* $(,)?) => {
        $(
            // SAFETY: the symbol is this class's alone; a class is `Sync` and never moves.
            #[unsafe(export_name = concat!("._OBJC_CLASS_", $name))]
            static $constant: $crate::class::Class = $crate::class::Class::unbuilt();
        )*

        /// The link-time statics of this module, for `declare_statics`.
        pub(crate) fn statics() -> Vec<(&'static std::ffi::CStr, &'static $crate::class::Class)> {
            vec![$((
                const {
                    match std::ffi::CStr::from_bytes_with_nul(concat!($name, "\0").as_bytes()) {
                        Ok(name) => name,
                        Err(_) => panic!("a class name holds a NUL"),
                    }
                },
                &$constant,
            )),*]
        }
    };
}
