//! The root class. Its methods are plain functions with hand-written encodings, because
//! there is nothing to define them with before it exists.

use crate::class::{self, Class};
use crate::object::{self, Object};
use crate::protocol::Protocol;
use crate::selector::{Sel, known};
use crate::{foundation, message, pool};
use std::ffi::{CStr, c_void};

crate::link_class!(NS_OBJECT = "NSObject");

type Table<'a> = &'a [(&'a CStr, *const c_void, &'a CStr)];

pub(crate) fn register() {
    class::declare_statics(&statics());
    let root = class::build(c"NSObject", None).expect("registered once");
    let meta = root.metaclass().expect("a built class has a metaclass");
    let class_methods: Table = &[
        (c"alloc", alloc as _, c"@@:"),
        (c"allocWithZone:", alloc_with_zone as _, c"@@:^{_NSZone=}"),
        (c"new", new as _, c"@@:"),
        (c"initialize", do_nothing as _, c"v@:"),
        (c"load", do_nothing as _, c"v@:"),
        (c"class", own as _, c"#@:"),
        (c"superclass", class_superclass as _, c"#@:"),
        (c"isSubclassOfClass:", is_subclass_of as _, c"C@:#"),
        (
            c"instancesRespondToSelector:",
            instances_respond as _,
            c"C@::",
        ),
        (
            c"instanceMethodForSelector:",
            instance_method as _,
            c"^?@::",
        ),
        (c"conformsToProtocol:", class_conforms as _, c"C@:@"),
        (c"resolveClassMethod:", resolve_nothing as _, c"C@::"),
        (c"resolveInstanceMethod:", resolve_nothing as _, c"C@::"),
        (c"description", class_description as _, c"@@:"),
        (c"debugDescription", class_description as _, c"@@:"),
    ];
    let instance_methods: Table = &[
        (c"init", own as _, c"@@:"),
        (c"dealloc", dealloc as _, c"v@:"),
        (c"self", own as _, c"@@:"),
        (c"class", class_of as _, c"#@:"),
        (c"superclass", superclass_of as _, c"#@:"),
        (c"copy", copy as _, c"@@:"),
        (c"mutableCopy", mutable_copy as _, c"@@:"),
        (c"isEqual:", is_equal as _, c"C@:@"),
        (c"hash", hash as _, c"Q@:"),
        (c"isKindOfClass:", is_kind_of as _, c"C@:#"),
        (c"isMemberOfClass:", is_member_of as _, c"C@:#"),
        (c"isProxy", is_proxy as _, c"C@:"),
        (c"respondsToSelector:", responds as _, c"C@::"),
        (c"conformsToProtocol:", conforms as _, c"C@:@"),
        (c"methodForSelector:", method_for as _, c"^?@::"),
        (
            c"doesNotRecognizeSelector:",
            does_not_recognise as _,
            c"v@::",
        ),
        (c"performSelector:", perform as _, c"@@::"),
        (c"performSelector:withObject:", perform_with as _, c"@@::@"),
        (
            c"performSelector:withObject:withObject:",
            perform_with_two as _,
            c"@@::@@",
        ),
        (c"description", description as _, c"@@:"),
        (c"debugDescription", description as _, c"@@:"),
        (c"retain", retain as _, c"@@:"),
        (c"release", release as _, c"Vv@:"),
        (c"autorelease", autorelease as _, c"@@:"),
        (c"retainCount", retain_count as _, c"Q@:"),
        (c"_tryRetain", try_retain as _, c"C@:"),
        (c"zone", zone as _, c"^{_NSZone=}@:"),
    ];
    root.add_ivar_at_start(c"isa", c"#");
    for (name, imp, types) in class_methods {
        meta.add_method(Sel::new(name), *imp, types);
    }
    for (name, imp, types) in instance_methods {
        root.add_method(Sel::new(name), *imp, types);
    }
    class::ownership_is_counted(root);
    class::register(root);
}

unsafe extern "C-unwind" fn do_nothing(_: *mut Object, _: Sel) {}

unsafe extern "C-unwind" fn own(this: *mut Object, _: Sel) -> *mut Object {
    this
}

unsafe extern "C-unwind" fn alloc(class: &'static Class, _: Sel) -> *mut Object {
    // Through the message, so that an overridden allocator is used.
    let sel = known!(c"allocWithZone:");
    // SAFETY: the receiver is a class, and the method has this signature.
    unsafe {
        let class: *mut Object = std::ptr::from_ref(class).cast_mut().cast();
        let method: unsafe extern "C-unwind" fn(*mut Object, Sel, *mut c_void) -> *mut Object =
            std::mem::transmute(message::lookup(class, sel));
        method(class, sel, std::ptr::null_mut())
    }
}

unsafe extern "C-unwind" fn alloc_with_zone(
    class: &'static Class,
    _: Sel,
    _zone: *mut c_void,
) -> *mut Object {
    object::create(class, 0)
}

unsafe extern "C-unwind" fn new(class: *mut Object, _: Sel) -> *mut Object {
    // SAFETY: the receiver is a class.
    unsafe { message::send(message::send(class, known!(c"alloc")), known!(c"init")) }
}

unsafe extern "C-unwind" fn class_superclass(class: &Class, _: Sel) -> *const Class {
    class
        .superclass()
        .map_or(std::ptr::null(), std::ptr::from_ref)
}

unsafe extern "C-unwind" fn is_subclass_of(
    class: &'static Class,
    _: Sel,
    other: *const Class,
) -> u8 {
    u8::from(
        class
            .lineage()
            .any(|ancestor| std::ptr::eq(ancestor, other)),
    )
}

unsafe extern "C-unwind" fn instances_respond(class: &'static Class, _: Sel, sel: Sel) -> u8 {
    u8::from(class.method(sel).is_some())
}

unsafe extern "C-unwind" fn instance_method(
    class: &'static Class,
    _: Sel,
    sel: Sel,
) -> *const c_void {
    class
        .method(sel)
        .map_or(std::ptr::null(), |method| method.imp())
}

unsafe extern "C-unwind" fn class_conforms(
    class: &'static Class,
    _: Sel,
    protocol: Option<&Protocol>,
) -> u8 {
    u8::from(protocol.is_some_and(|protocol| class.conforms_to(protocol)))
}

unsafe extern "C-unwind" fn class_description(class: &Class, _: Sel) -> *mut Object {
    foundation::autoreleased_string(&class.name().to_string_lossy())
}

/// The class of the receiver of an instance method.
unsafe fn class_of_receiver(this: *mut Object) -> &'static Class {
    // SAFETY: a method's receiver is an object, and classes are never freed.
    unsafe { &*(*this).class() }
}

unsafe extern "C-unwind" fn dealloc(this: *mut Object, _: Sel) {
    // SAFETY: sent once, when the last owner is gone.
    unsafe {
        if object::is_counted(this) {
            object::free(this);
        }
    }
}

unsafe extern "C-unwind" fn class_of(this: *mut Object, _: Sel) -> *const Class {
    // SAFETY: the receiver is an object.
    unsafe { class_of_receiver(this) }
}

unsafe extern "C-unwind" fn superclass_of(this: *mut Object, _: Sel) -> *const Class {
    // SAFETY: the receiver is an object.
    unsafe { class_of_receiver(this) }
        .superclass()
        .map_or(std::ptr::null(), std::ptr::from_ref)
}

/// Sends `copyWithZone:` or `mutableCopyWithZone:`.
unsafe fn copy_by(this: *mut Object, sel: &CStr) -> *mut Object {
    let sel = Sel::new(sel);
    // SAFETY: the receiver is an object, and the method has this signature.
    unsafe {
        let method: unsafe extern "C-unwind" fn(*mut Object, Sel, *mut c_void) -> *mut Object =
            std::mem::transmute(message::lookup(this, sel));
        method(this, sel, std::ptr::null_mut())
    }
}

unsafe extern "C-unwind" fn copy(this: *mut Object, _: Sel) -> *mut Object {
    // SAFETY: the receiver is an object.
    unsafe { copy_by(this, c"copyWithZone:") }
}

unsafe extern "C-unwind" fn mutable_copy(this: *mut Object, _: Sel) -> *mut Object {
    // SAFETY: the receiver is an object.
    unsafe { copy_by(this, c"mutableCopyWithZone:") }
}

unsafe extern "C-unwind" fn is_equal(this: *mut Object, _: Sel, other: *mut Object) -> u8 {
    u8::from(std::ptr::eq(this, other))
}

unsafe extern "C-unwind" fn hash(this: *mut Object, _: Sel) -> usize {
    this.addr()
}

unsafe extern "C-unwind" fn is_kind_of(this: *mut Object, _: Sel, other: *const Class) -> u8 {
    // SAFETY: the receiver is an object.
    let class = unsafe { class_of_receiver(this) };
    u8::from(
        class
            .lineage()
            .any(|ancestor| std::ptr::eq(ancestor, other)),
    )
}

unsafe extern "C-unwind" fn is_member_of(this: *mut Object, _: Sel, other: *const Class) -> u8 {
    // SAFETY: the receiver is an object.
    u8::from(std::ptr::eq(unsafe { class_of_receiver(this) }, other))
}

unsafe extern "C-unwind" fn is_proxy(_: *mut Object, _: Sel) -> u8 {
    0
}

unsafe extern "C-unwind" fn responds(this: *mut Object, _: Sel, sel: Sel) -> u8 {
    // SAFETY: the receiver is an object.
    u8::from(unsafe { class_of_receiver(this) }.method(sel).is_some())
}

unsafe extern "C-unwind" fn conforms(this: *mut Object, _: Sel, protocol: Option<&Protocol>) -> u8 {
    // SAFETY: the receiver is an object.
    let class = unsafe { class_of_receiver(this) };
    u8::from(protocol.is_some_and(|protocol| class.conforms_to(protocol)))
}

unsafe extern "C-unwind" fn method_for(this: *mut Object, _: Sel, sel: Sel) -> *const c_void {
    // SAFETY: the receiver is an object.
    unsafe { message::lookup(this, sel) }
}

unsafe extern "C-unwind" fn does_not_recognise(this: *mut Object, _: Sel, sel: Sel) {
    // SAFETY: the receiver is an object.
    unsafe { message::report_unrecognised(this, sel) }
}

unsafe extern "C-unwind" fn resolve_nothing(_: &Class, _: Sel, _: Sel) -> u8 {
    0
}

unsafe extern "C-unwind" fn perform(this: *mut Object, _: Sel, sel: Sel) -> *mut Object {
    // SAFETY: the caller vouches for a method without arguments.
    unsafe { message::send(this, sel) }
}

unsafe extern "C-unwind" fn perform_with(
    this: *mut Object,
    _: Sel,
    sel: Sel,
    with: *mut Object,
) -> *mut Object {
    // SAFETY: the caller vouches for a method with one object argument.
    unsafe {
        let method: unsafe extern "C-unwind" fn(*mut Object, Sel, *mut Object) -> *mut Object =
            std::mem::transmute(message::lookup(this, sel));
        method(this, sel, with)
    }
}

unsafe extern "C-unwind" fn perform_with_two(
    this: *mut Object,
    _: Sel,
    sel: Sel,
    first: *mut Object,
    second: *mut Object,
) -> *mut Object {
    type Two =
        unsafe extern "C-unwind" fn(*mut Object, Sel, *mut Object, *mut Object) -> *mut Object;
    // SAFETY: the caller vouches for a method with two object arguments.
    unsafe {
        let method: Two = std::mem::transmute(message::lookup(this, sel));
        method(this, sel, first, second)
    }
}

unsafe extern "C-unwind" fn description(this: *mut Object, _: Sel) -> *mut Object {
    // SAFETY: the receiver is an object.
    let class = unsafe { class_of_receiver(this) };
    foundation::autoreleased_string(&format!("<{}: {this:p}>", class.name().to_string_lossy()))
}

unsafe extern "C-unwind" fn retain(this: *mut Object, _: Sel) -> *mut Object {
    // SAFETY: the receiver is an object.
    unsafe {
        if object::is_counted(this) {
            object::retain_counted(this);
        }
    }
    this
}

unsafe extern "C-unwind" fn release(this: *mut Object, _: Sel) {
    // SAFETY: the receiver is an object of which the caller gives up one ownership.
    unsafe {
        if object::is_counted(this) {
            object::release_counted(this);
        }
    }
}

unsafe extern "C-unwind" fn autorelease(this: *mut Object, _: Sel) -> *mut Object {
    // SAFETY: as above; the pool takes the ownership.
    unsafe {
        if object::is_counted(this) {
            pool::add(this);
        }
    }
    this
}

unsafe extern "C-unwind" fn retain_count(this: *mut Object, _: Sel) -> usize {
    // SAFETY: the receiver is an object.
    unsafe {
        if object::is_counted(this) {
            object::owners(this)
        } else {
            // Never freed. The number is the ABI's.
            u32::MAX as usize
        }
    }
}

unsafe extern "C-unwind" fn try_retain(this: *mut Object, _: Sel) -> u8 {
    // SAFETY: sent with the weak table locked.
    u8::from(unsafe { !object::is_counted(this) || object::try_retain_counted(this) })
}

unsafe extern "C-unwind" fn zone(_: *mut Object, _: Sel) -> *mut c_void {
    std::ptr::null_mut()
}
