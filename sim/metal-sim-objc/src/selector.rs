//! Selectors: interned method names. A selector is the address of its own NUL-terminated
//! name, so equality is pointer equality and the name needs no lookup.

use std::collections::HashSet;
use std::ffi::{CStr, c_char};
use std::fmt;
use std::sync::{OnceLock, PoisonError, RwLock};

/// An interned method name.
#[repr(transparent)]
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Sel(*const c_char);

// SAFETY: points at an interned string that is never freed or changed.
unsafe impl Send for Sel {}
// SAFETY: as above.
unsafe impl Sync for Sel {}

impl Sel {
    /// Interns a name.
    pub fn new(name: &CStr) -> Self {
        static NAMES: OnceLock<RwLock<HashSet<&'static CStr>>> = OnceLock::new();
        let names = NAMES.get_or_init(RwLock::default);
        if let Some(known) = names
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(name)
        {
            return Self(known.as_ptr());
        }
        let mut names = names.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = names.get(name) {
            return Self(known.as_ptr());
        }
        let leaked: &'static CStr = Box::leak(name.to_owned().into_boxed_c_str());
        names.insert(leaked);
        Self(leaked.as_ptr())
    }

    /// The selector's name.
    pub fn name(self) -> &'static CStr {
        // SAFETY: every `Sel` comes from `new`, which leaks a NUL-terminated string.
        unsafe { CStr::from_ptr(self.0) }
    }

    /// The selector whose address [`as_ptr`](Self::as_ptr) gave, or `None` for null.
    pub(crate) fn from_cached(address: *const c_char) -> Option<Self> {
        (!address.is_null()).then_some(Self(address))
    }

    pub(crate) fn as_ptr(self) -> *const c_char {
        self.0
    }
}

/// A selector that is looked up once: `known!(c"dealloc")`.
macro_rules! known {
    ($name:literal) => {{
        static SEL: std::sync::OnceLock<$crate::selector::Sel> = std::sync::OnceLock::new();
        *SEL.get_or_init(|| $crate::selector::Sel::new($name))
    }};
}
pub(crate) use known;

impl fmt::Display for Sel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name().to_string_lossy())
    }
}

impl fmt::Debug for Sel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn sel_registerName(name: *const c_char) -> Sel {
    // SAFETY: the caller passes a NUL-terminated string.
    Sel::new(unsafe { CStr::from_ptr(name) })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn sel_getUid(name: *const c_char) -> Sel {
    // SAFETY: as for `sel_registerName`.
    unsafe { sel_registerName(name) }
}

#[unsafe(no_mangle)]
extern "C" fn sel_getName(sel: Sel) -> *const c_char {
    sel.as_ptr()
}

#[unsafe(no_mangle)]
extern "C" fn sel_isEqual(left: Sel, right: Sel) -> u8 {
    u8::from(left == right)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_names_are_one_selector() {
        let first = Sel::new(c"encodeToCommandBuffer:");
        assert_eq!(first, Sel::new(c"encodeToCommandBuffer:"));
        assert_ne!(first, Sel::new(c"encodeToCommandBuffer"));
        assert_eq!(first.to_string(), "encodeToCommandBuffer:");
    }

    #[test]
    fn names_that_are_not_utf8_survive() {
        let name = c"\xff\xfe:";
        assert_eq!(Sel::new(name).name(), name);
    }
}
