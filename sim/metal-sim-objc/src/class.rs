//! Classes: what a class is made of, how pairs of class and metaclass are built, and the C
//! functions that inspect them. A class that programs name at link time is a static made by
//! [`link_class!`](crate::link_class); building a class of that name fills the static.

use crate::cache::{Imp, MethodCache};
use crate::fault::fault;
use crate::method::{Ivar, Method, malloc_list};
use crate::property::Property;
use crate::protocol::Protocol;
use crate::selector::Sel;
use std::collections::HashMap;
use std::ffi::{CStr, CString, c_char, c_int, c_uint};
use std::ptr;
use std::sync::atomic::{AtomicIsize, AtomicPtr, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError, RwLock};

/// Set on a metaclass: its instances are classes.
pub(crate) const META: u32 = 1;
/// Set where `retain`, `release` or `autorelease` is overridden: ownership goes by message.
pub(crate) const CUSTOM_OWNERSHIP: u32 = 2;
/// Set where instances are never freed (protocols, constant strings).
pub(crate) const IMMORTAL: u32 = 4;
/// Set once `+initialize` was sent.
const INITIALISED: u32 = 8;
/// Set when the pair was registered: no more instance variables.
const REGISTERED: u32 = 16;

/// A class. The first word is its metaclass, as for every object.
#[repr(C)]
pub struct Class {
    isa: AtomicPtr<Class>,
    superclass: AtomicPtr<Class>,
    name: AtomicPtr<c_char>,
    pub(crate) flags: AtomicU32,
    pub(crate) cache: MethodCache,
    tables: AtomicPtr<RwLock<Tables>>,
    size: AtomicUsize,
    /// Live instances of exactly this class.
    pub(crate) live: AtomicIsize,
}

#[derive(Default)]
struct Tables {
    methods: Vec<&'static Method>,
    by_selector: HashMap<Sel, usize>,
    ivars: Vec<&'static Ivar>,
    protocols: Vec<&'static Protocol>,
    properties: Vec<&'static Property>,
    subclasses: Vec<&'static Class>,
    version: c_int,
    layout: usize,
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

    /// Bytes of an instance.
    pub fn instance_size(&self) -> usize {
        self.size.load(Ordering::Acquire)
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

    fn read<R>(&self, look: impl FnOnce(&Tables) -> R) -> R {
        look(&self.tables().read().unwrap_or_else(PoisonError::into_inner))
    }

    fn write<R>(&self, change: impl FnOnce(&mut Tables) -> R) -> R {
        change(
            &mut self
                .tables()
                .write()
                .unwrap_or_else(PoisonError::into_inner),
        )
    }

    /// The method of this class itself.
    fn own_method(&self, sel: Sel) -> Option<&'static Method> {
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
            if self.superclass().is_some() && !self.is_meta() && is_ownership(sel) {
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

    /// Adopts a protocol; false when this class itself already did.
    pub(crate) fn adopt(&self, protocol: &'static Protocol) -> bool {
        self.write(|tables| {
            let known = tables.protocols.iter().any(|adopted| adopted.is(protocol));
            if !known {
                tables.protocols.push(protocol);
            }
            !known
        })
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
            let offset = self.instance_size().next_multiple_of(1 << align_log2);
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

    fn ivar(&'static self, name: &CStr) -> Option<&'static Ivar> {
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
}

fn is_ownership(sel: Sel) -> bool {
    [c"retain", c"release", c"autorelease", c"_tryRetain"].contains(&sel.name())
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

/// Held while classes are made or methods exchanged.
pub(crate) fn structure_lock() -> MutexGuard<'static, ()> {
    static STRUCTURE: Mutex<()> = Mutex::new(());
    STRUCTURE.lock().unwrap_or_else(PoisonError::into_inner)
}

#[derive(Default)]
struct Registry {
    by_name: HashMap<CString, &'static Class>,
    order: Vec<&'static Class>,
    statics: HashMap<CString, &'static Class>,
}

fn registry() -> &'static RwLock<Registry> {
    static REGISTRY: OnceLock<RwLock<Registry>> = OnceLock::new();
    REGISTRY.get_or_init(RwLock::default)
}

/// Looks a registered class up by name.
pub fn by_name(name: &CStr) -> Option<&'static Class> {
    let registry = registry().read().unwrap_or_else(PoisonError::into_inner);
    registry.by_name.get(name).copied()
}

/// Every registered class.
pub fn all() -> Vec<&'static Class> {
    registry()
        .read()
        .unwrap_or_else(PoisonError::into_inner)
        .order
        .clone()
}

/// Declares link-time statics for classes that are built later under these names.
pub fn declare_statics(statics: &[(&CStr, &'static Class)]) {
    let mut registry = registry().write().unwrap_or_else(PoisonError::into_inner);
    for (name, class) in statics {
        registry.statics.insert((*name).to_owned(), class);
    }
}

/// Builds an unregistered pair. `None` when the name is taken.
pub fn build(name: &CStr, superclass: Option<&'static Class>) -> Option<&'static Class> {
    let _serial = structure_lock();
    if by_name(name).is_some() {
        return None;
    }
    let place = {
        let registry = registry().read().unwrap_or_else(PoisonError::into_inner);
        registry.statics.get(name).copied()
    };
    let class = place.unwrap_or_else(|| Box::leak(Box::new(Class::unbuilt())));
    let meta: &'static Class = Box::leak(Box::new(Class::unbuilt()));
    let leaked_name = Box::leak(name.to_owned().into_boxed_c_str())
        .as_ptr()
        .cast_mut();
    for half in [class, meta] {
        half.name.store(leaked_name, Ordering::Release);
        half.tables
            .store(Box::into_raw(Box::default()), Ordering::Release);
    }
    let address = |class: &'static Class| ptr::from_ref(class).cast_mut();
    class.isa.store(address(meta), Ordering::Release);
    meta.set(META | REGISTERED | INITIALISED);
    meta.size.store(size_of::<Class>(), Ordering::Release);
    match superclass {
        Some(parent) => {
            let parent_meta = parent.metaclass().expect("a built class has a metaclass");
            class.superclass.store(address(parent), Ordering::Release);
            class.size.store(parent.instance_size(), Ordering::Release);
            let inherited = parent.flags.load(Ordering::Acquire) & (CUSTOM_OWNERSHIP | IMMORTAL);
            class.flags.store(inherited, Ordering::Release);
            meta.superclass
                .store(address(parent_meta), Ordering::Release);
            // The metaclass of every metaclass is the root's.
            meta.isa
                .store(parent_meta.isa.load(Ordering::Acquire), Ordering::Release);
            parent.write(|tables| tables.subclasses.push(class));
            parent_meta.write(|tables| tables.subclasses.push(meta));
        }
        None => {
            // A root class: class methods are looked for among its instance methods, last.
            class
                .size
                .store(size_of::<*const Class>(), Ordering::Release);
            meta.superclass.store(address(class), Ordering::Release);
            meta.isa.store(address(meta), Ordering::Release);
            class.write(|tables| tables.subclasses.push(meta));
        }
    }
    Some(class)
}

/// Registers a built pair under its name.
pub fn register(class: &'static Class) {
    let mut registry = registry().write().unwrap_or_else(PoisonError::into_inner);
    class.set(REGISTERED);
    registry.by_name.insert(class.name().to_owned(), class);
    registry.order.push(class);
}

/// Sends `+initialize` to the class and its superclasses, each once, superclasses first.
pub(crate) fn initialise(class: &'static Class) {
    if class.has(INITIALISED) {
        return;
    }
    if let Some(parent) = class.superclass() {
        initialise(parent);
    }
    if class.flags.fetch_or(INITIALISED, Ordering::AcqRel) & INITIALISED != 0 {
        return;
    }
    let sel = Sel::new(c"initialize");
    let method = class.metaclass().and_then(|meta| meta.method(sel));
    if let Some(method) = method {
        // SAFETY: `+initialize` takes no arguments and returns nothing.
        let send: unsafe extern "C-unwind" fn(*const Class, Sel) =
            unsafe { std::mem::transmute(method.imp()) };
        // SAFETY: as above; the receiver is a class.
        unsafe { send(class, sel) };
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
    address(by_name(unsafe { text(name) }))
}

#[unsafe(no_mangle)]
unsafe extern "C" fn objc_lookUpClass(name: *const c_char) -> *const Class {
    // SAFETY: the C contract.
    unsafe { objc_getClass(name) }
}

#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn objc_getRequiredClass(name: *const c_char) -> *const Class {
    // SAFETY: the C contract.
    let name = unsafe { text(name) };
    match by_name(name) {
        Some(class) => class,
        None => fault("required class not found", name.to_string_lossy()),
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn objc_getMetaClass(name: *const c_char) -> *const Class {
    // SAFETY: the C contract.
    address(by_name(unsafe { text(name) }).and_then(Class::metaclass))
}

#[unsafe(no_mangle)]
extern "C" fn objc_copyClassList(count: *mut c_uint) -> *mut *const Class {
    let classes: Vec<*const Class> = all().into_iter().map(ptr::from_ref).collect();
    malloc_list(&classes, count)
}

#[unsafe(no_mangle)]
unsafe extern "C" fn objc_getClassList(buffer: *mut *const Class, len: c_int) -> c_int {
    let classes = all();
    if !buffer.is_null() {
        for (at, class) in classes.iter().take(len.max(0) as usize).enumerate() {
            // SAFETY: the C contract: room for `len` pointers.
            unsafe { *buffer.add(at) = *class };
        }
    }
    classes.len() as c_int
}

#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn objc_allocateClassPair(
    superclass: Option<&'static Class>,
    name: *const c_char,
    _extra: usize,
) -> *const Class {
    // SAFETY: the C contract.
    address(build(unsafe { text(name) }, superclass))
}

#[unsafe(no_mangle)]
extern "C" fn objc_registerClassPair(class: &'static Class) {
    register(class);
}

#[unsafe(no_mangle)]
extern "C-unwind" fn objc_disposeClassPair(class: &'static Class) {
    let live = class.live.load(Ordering::Acquire);
    if live != 0 {
        fault(
            "class disposed with instances",
            format!("{} has {live}", class.name().to_string_lossy()),
        );
    }
    let mut registry = registry().write().unwrap_or_else(PoisonError::into_inner);
    registry.order.retain(|other| !ptr::eq(*other, class));
    registry.by_name.retain(|_, other| !ptr::eq(*other, class));
    if let Some(parent) = class.superclass() {
        parent.write(|tables| tables.subclasses.retain(|other| !ptr::eq(*other, class)));
    }
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
unsafe extern "C-unwind" fn class_addMethod(
    class: &'static Class,
    sel: Sel,
    imp: Imp,
    types: *const c_char,
) -> u8 {
    // SAFETY: the C contract.
    u8::from(class.add_method(sel, imp, unsafe { text(types) }))
}

#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn class_replaceMethod(
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

impl Class {
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
