//! Methods and instance variables of a class, and the C functions that describe them.
//! Both live as long as the program: their addresses are handed out.

use crate::cache::Imp;
use crate::class::{self, Class};
use crate::registry;
use crate::selector::Sel;
use std::ffi::{CStr, CString, c_char, c_uint};
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};

/// One method of one class.
pub struct Method {
    pub(crate) owner: *const Class,
    pub(crate) sel: Sel,
    pub(crate) types: CString,
    imp: AtomicPtr<std::ffi::c_void>,
}

// SAFETY: everything but `imp` is immutable, and `imp` is atomic; `owner` is never freed.
unsafe impl Send for Method {}
// SAFETY: as above.
unsafe impl Sync for Method {}

impl Method {
    pub(crate) fn new(owner: *const Class, sel: Sel, imp: Imp, types: &CStr) -> &'static Self {
        Box::leak(Box::new(Self {
            owner,
            sel,
            types: types.to_owned(),
            imp: AtomicPtr::new(imp.cast_mut()),
        }))
    }

    /// The method's function.
    pub fn imp(&self) -> Imp {
        self.imp.load(Ordering::Acquire)
    }

    pub(crate) fn swap_imp(&self, imp: Imp) -> Imp {
        let old = self.imp.swap(imp.cast_mut(), Ordering::AcqRel);
        // SAFETY: a method's owner is never freed.
        class::forget_cached(unsafe { &*self.owner });
        old
    }
}

/// One instance variable of one class.
pub struct Ivar {
    pub(crate) name: CString,
    pub(crate) types: CString,
    pub(crate) offset: isize,
}

/// The pieces of a method's type encoding: the return type, then each argument with
/// `self` and `_cmd` first. Frame offsets (digits) are left out.
pub(crate) fn split_types(types: &CStr) -> Vec<String> {
    let text = types.to_string_lossy().into_owned();
    let bytes = text.as_bytes();
    let mut pieces = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let end = type_end(bytes, at);
        pieces.push(text[at..end].to_owned());
        at = end;
        while at < bytes.len() && (bytes[at].is_ascii_digit() || matches!(bytes[at], b'+' | b'-')) {
            at += 1;
        }
    }
    pieces
}

/// Where the type that begins at `at` ends.
fn type_end(bytes: &[u8], mut at: usize) -> usize {
    while at < bytes.len()
        && matches!(
            bytes[at],
            b'^' | b'r' | b'n' | b'N' | b'o' | b'O' | b'R' | b'V' | b'A' | b'j'
        )
    {
        at += 1;
    }
    let Some(&first) = bytes.get(at) else {
        return at;
    };
    let close = match first {
        b'{' => b'}',
        b'[' => b']',
        b'(' => b')',
        b'@' if bytes.get(at + 1) == Some(&b'?') => return at + 2,
        b'@' if bytes.get(at + 1) == Some(&b'"') => {
            let close = bytes[at + 2..].iter().position(|byte| *byte == b'"');
            return close.map_or(bytes.len(), |n| at + 3 + n);
        }
        b'b' => {
            let digits = bytes[at + 1..]
                .iter()
                .take_while(|byte| byte.is_ascii_digit());
            return at + 1 + digits.count();
        }
        _ => return at + 1,
    };
    let mut depth = 0;
    while at < bytes.len() {
        if bytes[at] == first {
            depth += 1;
        } else if bytes[at] == close {
            depth -= 1;
        }
        at += 1;
        if depth == 0 {
            break;
        }
    }
    at
}

/// A copy that the caller frees with `free`.
pub(crate) fn malloc_string(text: &str) -> *mut c_char {
    let text = CString::new(text).unwrap_or_default();
    // SAFETY: `strdup` copies a NUL-terminated string.
    unsafe { libc::strdup(text.as_ptr()) }
}

/// A NULL-terminated array that the caller frees with `free`; null when it is empty.
pub(crate) fn malloc_list<T>(items: &[*const T], count: *mut c_uint) -> *mut *const T {
    if !count.is_null() {
        // SAFETY: the caller passes a valid place for the count, or null.
        unsafe { *count = items.len() as c_uint };
    }
    if items.is_empty() {
        return ptr::null_mut();
    }
    // SAFETY: the allocation has room for the items and the terminating null.
    unsafe {
        let list: *mut *const T = libc::calloc(items.len() + 1, size_of::<*const T>()).cast();
        assert!(!list.is_null(), "out of memory");
        ptr::copy_nonoverlapping(items.as_ptr(), list, items.len());
        list
    }
}

#[unsafe(no_mangle)]
extern "C" fn method_getName(method: Option<&Method>) -> *const c_char {
    method.map_or(ptr::null(), |method| method.sel.as_ptr())
}

#[unsafe(no_mangle)]
extern "C" fn method_getTypeEncoding(method: Option<&Method>) -> *const c_char {
    method.map_or(ptr::null(), |method| method.types.as_ptr())
}

#[unsafe(no_mangle)]
extern "C" fn method_getImplementation(method: Option<&Method>) -> Imp {
    method.map_or(ptr::null(), Method::imp)
}

#[unsafe(no_mangle)]
extern "C" fn method_setImplementation(method: Option<&Method>, imp: Imp) -> Imp {
    method.map_or(ptr::null(), |method| method.swap_imp(imp))
}

#[unsafe(no_mangle)]
extern "C" fn method_exchangeImplementations(left: Option<&Method>, right: Option<&Method>) {
    if let (Some(left), Some(right)) = (left, right) {
        let _serial = registry::structure_lock();
        let imp = left.swap_imp(right.imp());
        right.swap_imp(imp);
    }
}

#[unsafe(no_mangle)]
extern "C" fn method_getNumberOfArguments(method: Option<&Method>) -> c_uint {
    method.map_or(0, |method| {
        split_types(&method.types).len().saturating_sub(1) as c_uint
    })
}

#[unsafe(no_mangle)]
extern "C" fn method_copyReturnType(method: Option<&Method>) -> *mut c_char {
    let pieces = method.map(|method| split_types(&method.types));
    pieces
        .and_then(|pieces| pieces.first().map(|piece| malloc_string(piece)))
        .unwrap_or(ptr::null_mut())
}

#[unsafe(no_mangle)]
extern "C" fn method_copyArgumentType(method: Option<&Method>, index: c_uint) -> *mut c_char {
    let pieces = method.map(|method| split_types(&method.types));
    pieces
        .and_then(|pieces| {
            pieces
                .get(index as usize + 1)
                .map(|piece| malloc_string(piece))
        })
        .unwrap_or(ptr::null_mut())
}

/// Writes `text` into a buffer of `len` bytes: cut short, and padded with zeros.
///
/// # Safety
/// `destination` is valid for `len` bytes, or `len` is zero.
unsafe fn copy_type(text: Option<&String>, destination: *mut c_char, len: usize) {
    let bytes = text.map_or(&b""[..], |text| text.as_bytes());
    for at in 0..len {
        // SAFETY: `at < len`, and the caller vouches for `len` bytes.
        unsafe { *destination.add(at) = bytes.get(at).copied().unwrap_or(0) as c_char };
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn method_getReturnType(method: Option<&Method>, into: *mut c_char, len: usize) {
    let pieces = method
        .map(|method| split_types(&method.types))
        .unwrap_or_default();
    // SAFETY: the runtime's contract for `into` and `len`.
    unsafe { copy_type(pieces.first(), into, len) };
}

#[unsafe(no_mangle)]
unsafe extern "C" fn method_getArgumentType(
    method: Option<&Method>,
    index: c_uint,
    into: *mut c_char,
    len: usize,
) {
    let pieces = method
        .map(|method| split_types(&method.types))
        .unwrap_or_default();
    // SAFETY: the runtime's contract for `into` and `len`.
    unsafe { copy_type(pieces.get(index as usize + 1), into, len) };
}

#[unsafe(no_mangle)]
extern "C" fn ivar_getName(ivar: Option<&Ivar>) -> *const c_char {
    ivar.map_or(ptr::null(), |ivar| ivar.name.as_ptr())
}

#[unsafe(no_mangle)]
extern "C" fn ivar_getTypeEncoding(ivar: Option<&Ivar>) -> *const c_char {
    ivar.map_or(ptr::null(), |ivar| ivar.types.as_ptr())
}

#[unsafe(no_mangle)]
extern "C" fn ivar_getOffset(ivar: Option<&Ivar>) -> isize {
    ivar.map_or(0, |ivar| ivar.offset)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splits_encodings_with_structs_pointers_and_offsets() {
        let split = |text: &str| split_types(&CString::new(text).unwrap());
        assert_eq!(split("v24@0:8Q16"), ["v", "@", ":", "Q"]);
        assert_eq!(
            split("v@:@{_NSRange=QQ}C"),
            ["v", "@", ":", "@", "{_NSRange=QQ}", "C"]
        );
        assert_eq!(
            split("@@:^{a={b=[2i]}}@?r*"),
            ["@", "@", ":", "^{a={b=[2i]}}", "@?", "r*"]
        );
        assert_eq!(
            split("@\"NSString\"@:b3"),
            ["@\"NSString\"", "@", ":", "b3"]
        );
    }
}
