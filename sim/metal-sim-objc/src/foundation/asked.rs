//! What collections ask of the objects they hold. Asked by the runtime's own lookup: an object
//! without the method is told so, whatever its root class, as it would be on a Mac.

use crate::message;
use crate::object::Object;
use crate::ownership::objc_retain;
use crate::selector::{Sel, known};
use objc2::rc::Retained;
use objc2::runtime::AnyObject;
use std::ffi::c_void;
use std::mem::transmute;
use std::ptr;

fn address(object: &AnyObject) -> *mut Object {
    ptr::from_ref(object).cast_mut().cast()
}

/// A new ownership of `object`.
pub(crate) fn retained(object: &AnyObject) -> Retained<AnyObject> {
    // SAFETY: `objc_retain` gives back its argument with one owner more.
    unsafe { Retained::from_raw(objc_retain(address(object)).cast()) }
        .expect("made from a reference")
}

/// `[object copyWithZone: nil]`.
pub(crate) fn copy(object: &AnyObject) -> Retained<AnyObject> {
    let (object, sel) = (address(object), known!(c"copyWithZone:"));
    // SAFETY: the method has this signature, and its result is owned.
    let copy = unsafe {
        let method: unsafe extern "C-unwind" fn(*mut Object, Sel, *mut c_void) -> *mut AnyObject =
            transmute(message::lookup(object, sel));
        Retained::from_raw(method(object, sel, ptr::null_mut()))
    };
    copy.expect("`copyWithZone:` gives an object")
}

/// `[object hash]`.
pub(crate) fn hash(object: &AnyObject) -> usize {
    let (object, sel) = (address(object), known!(c"hash"));
    // SAFETY: the method has this signature.
    unsafe {
        let method: unsafe extern "C-unwind" fn(*mut Object, Sel) -> usize =
            transmute(message::lookup(object, sel));
        method(object, sel)
    }
}

/// `[left isEqual: right]`.
pub(crate) fn is_equal(left: &AnyObject, right: &AnyObject) -> bool {
    let (left, right, sel) = (address(left), address(right), known!(c"isEqual:"));
    // SAFETY: the method has this signature.
    unsafe {
        let method: unsafe extern "C-unwind" fn(*mut Object, Sel, *mut Object) -> u8 =
            transmute(message::lookup(left, sel));
        left == right || method(left, sel, right) != 0
    }
}
