//! What classes can do at run time: methods replaced and exchanged, `super`, conformance,
//! class pairs, and the Apple-style message entry.

// Tests of an unsafe ABI.
#![allow(unsafe_code)]

// The runtime; named because nothing here calls it except through its C functions.
use metal_sim_objc as _;
use objc2::rc::Retained;
use objc2::runtime::{AnyClass, AnyObject, AnyProtocol, Bool, ClassBuilder, Imp, NSObject, Sel};
use objc2::{AnyThread, ClassType, define_class, msg_send, sel};
use objc2_foundation::{NSCopying, NSString};

define_class!(
    // SAFETY: NSObject has no requirements on its subclasses, and there is no `Drop`.
    #[unsafe(super(NSObject))]
    #[name = "Parent"]
    struct Parent;

    impl Parent {
        #[unsafe(method(answer))]
        fn answer(&self) -> i32 {
            1
        }

        #[unsafe(method(other))]
        fn other(&self) -> i32 {
            100
        }
    }
);

define_class!(
    // SAFETY: Parent has no requirements on its subclasses, and there is no `Drop`.
    #[unsafe(super(Parent, NSObject))]
    #[name = "Child"]
    struct Child;

    impl Child {
        #[unsafe(method(answer))]
        fn answer(&self) -> i32 {
            // SAFETY: the superclass's method has this signature.
            let above: i32 = unsafe { msg_send![super(self), answer] };
            above + 10
        }
    }
);

fn child() -> Retained<Child> {
    // SAFETY: NSObject's `init` has this signature.
    unsafe { msg_send![super(Child::alloc().set_ivars(())), init] }
}

fn answer(object: &Child) -> i32 {
    // SAFETY: defined above.
    unsafe { msg_send![object, answer] }
}

/// One test for everything that changes these classes: tests run together.
#[test]
fn methods_are_inherited_replaced_and_exchanged() {
    let object = child();
    assert_eq!(answer(&object), 11);
    extern "C-unwind" fn five(_: &AnyObject, _: Sel) -> i32 {
        5
    }
    let method = Parent::class().instance_method(sel!(answer)).unwrap();
    // SAFETY: the function has the method's signature.
    unsafe {
        let five: extern "C-unwind" fn(&AnyObject, Sel) -> i32 = five;
        let old = method.set_implementation(std::mem::transmute::<
            extern "C-unwind" fn(&AnyObject, Sel) -> i32,
            Imp,
        >(five));
        assert_eq!(
            answer(&object),
            15,
            "a cached lookup must not survive the replacement"
        );
        method.set_implementation(old);
        assert_eq!(answer(&object), 11);
        let other = Parent::class().instance_method(sel!(other)).unwrap();
        method.exchange_implementation(other);
        assert_eq!(answer(&object), 110);
        method.exchange_implementation(other);
        assert_eq!(answer(&object), 11);
    }
}

#[test]
fn a_pair_can_be_built_and_inspected() {
    let mut builder = ClassBuilder::new(c"Built", NSObject::class()).unwrap();
    builder.add_ivar::<u64>(c"_wide");
    builder.add_ivar::<u8>(c"_narrow");
    extern "C-unwind" fn three(_: &AnyObject, _: Sel) -> u16 {
        3
    }
    // SAFETY: the function's signature is what its type says.
    unsafe { builder.add_method(sel!(three), three as extern "C-unwind" fn(_, _) -> _) };
    let class = builder.register();
    assert!(ClassBuilder::new(c"Built", NSObject::class()).is_none());
    assert_eq!(AnyClass::get(c"Built"), Some(class));
    assert_eq!(class.superclass(), Some(NSObject::class()));
    assert_eq!(class.instance_variables().len(), 2);
    assert_eq!(class.instance_variable(c"_wide").unwrap().offset(), 8);
    assert!(class.instance_size() >= 17);
    let method = class.instance_method(sel!(three)).unwrap();
    assert_eq!(
        (method.return_type().to_str(), method.arguments_count()),
        (Ok("S"), 2)
    );
    assert!(class.metaclass().is_metaclass() && !class.is_metaclass());
}

#[test]
fn conformance_has_a_real_answer() {
    let copying = AnyProtocol::get(c"NSCopying").unwrap();
    let coding = AnyProtocol::get(c"NSCoding").unwrap();
    let secure = AnyProtocol::get(c"NSSecureCoding").unwrap();
    assert!(NSString::class().conforms_to(copying));
    assert!(!NSString::class().conforms_to(coding));
    assert!(secure.conforms_to(coding) && !coding.conforms_to(secure));
    fn is_copying<T: NSCopying>() {}
    is_copying::<NSString>();
}

/// The entry that compilers on Apple's systems call: arguments and results of every kind
/// must pass through it unharmed.
#[test]
fn the_apple_style_entry_keeps_every_argument() {
    define_class!(
        // SAFETY: NSObject has no requirements on its subclasses; there is no `Drop`.
        #[unsafe(super(NSObject))]
        #[name = "Adder"]
        struct Adder;

        impl Adder {
            #[unsafe(method(add:b:c:d:e:f:x:y:))]
            fn add(&self, a: u64, b: u64, c: u64, d: u64, e: u64, f: u64, x: f64, y: f32) -> f64 {
                (a + b + c + d + e + f) as f64 + x + f64::from(y)
            }
        }
    );
    // SAFETY: NSObject's `init` has this signature.
    let adder: Retained<Adder> = unsafe { msg_send![super(Adder::alloc().set_ivars(())), init] };
    unsafe extern "C-unwind" {
        fn objc_msgSend();
    }
    type Add = unsafe extern "C-unwind" fn(
        *const Adder,
        Sel,
        u64,
        u64,
        u64,
        u64,
        u64,
        u64,
        f64,
        f32,
    ) -> f64;
    // SAFETY: the type is the method's.
    unsafe {
        let add: Add = std::mem::transmute(objc_msgSend as *const ());
        let sum = add(
            &*adder,
            sel!(add:b:c:d:e:f:x:y:),
            1,
            2,
            4,
            8,
            16,
            32,
            0.5,
            0.25,
        );
        assert_eq!(sum, 63.75);
    }
}

/// A class may add a method at the moment it is wanted.
#[test]
fn methods_are_resolved_when_they_are_wanted() {
    extern "C-unwind" fn seven(_: &AnyObject, _: Sel) -> i32 {
        7
    }
    extern "C-unwind" fn resolve(class: &AnyClass, _: Sel, wanted: Sel) -> Bool {
        let known = wanted == sel!(seven);
        if known {
            let seven: extern "C-unwind" fn(&AnyObject, Sel) -> i32 = seven;
            // SAFETY: the encoding is the function's.
            unsafe {
                let imp =
                    std::mem::transmute::<extern "C-unwind" fn(&AnyObject, Sel) -> i32, Imp>(seven);
                let class = std::ptr::from_ref(class).cast_mut();
                objc2::ffi::class_addMethod(class, wanted, imp, c"i@:".as_ptr());
            }
        }
        known.into()
    }
    let mut builder = ClassBuilder::new(c"Resolving", NSObject::class()).unwrap();
    // SAFETY: the function has the method's signature.
    unsafe {
        builder.add_class_method(
            sel!(resolveInstanceMethod:),
            resolve as extern "C-unwind" fn(_, _, _) -> _,
        );
    }
    let class = builder.register();
    // SAFETY: `seven` is added by the class when it is sent.
    unsafe {
        let object: Retained<NSObject> = msg_send![class, new];
        let method: Imp = msg_send![&object, methodForSelector: sel!(seven)];
        let method: extern "C-unwind" fn(&AnyObject, Sel) -> i32 = std::mem::transmute(method);
        assert_eq!(method(&object, sel!(seven)), 7);
    }
    assert!(class.responds_to(sel!(seven)) && !class.responds_to(sel!(eight)));
}
