//! Misuse is named: each fault is provoked here once, and its correct twin is silent.

// Tests of an unsafe ABI.
#![allow(unsafe_code)]

// The runtime; named because nothing here calls it except through its C functions.
use metal_sim_objc as _;
use objc2::rc::{Allocated, Retained, autoreleasepool};
use objc2::runtime::{AnyClass, AnyObject, ClassBuilder, NSObject, NSObjectProtocol};
use objc2::{AnyThread, ClassType, define_class, msg_send, sel};
use objc2_foundation::{NSArray, NSData, NSMutableArray, NSRange, NSString, NSValue};
use std::ffi::c_void;
use std::os::unix::process::ExitStatusExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::Command;

define_class!(
    // SAFETY: NSObject has no requirements on its subclasses, and there is no `Drop`.
    #[unsafe(super(NSObject))]
    #[name = "Victim"]
    struct Victim;

    // SAFETY: no further requirements.
    unsafe impl NSObjectProtocol for Victim {}

    impl Victim {
        #[unsafe(method_id(init))]
        fn init(this: Allocated<Self>) -> Retained<Self> {
            // SAFETY: NSObject's `init` has this signature.
            unsafe { msg_send![super(this.set_ivars(())), init] }
        }

        #[unsafe(method(double:))]
        fn double(&self, value: u32) -> u32 {
            value * 2
        }
    }
);

fn victim() -> Retained<Victim> {
    // SAFETY: `init` is defined above.
    unsafe { msg_send![Victim::alloc(), init] }
}

/// The message of the panic that `misuse` ends with.
fn told(misuse: impl FnOnce()) -> String {
    let panic = catch_unwind(AssertUnwindSafe(misuse)).expect_err("the misuse is caught");
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()))
        .unwrap()
}

#[track_caller]
fn assert_told(message: &str, pieces: &[&str]) {
    for piece in pieces {
        assert!(message.contains(piece), "“{piece}” is not in “{message}”");
    }
}

/// Runs the calling test, whose name is `test`, again in a process of its own, where `misuse`
/// must end it with a message that has the pieces.
#[track_caller]
fn dies(test: &str, pieces: &[&str], misuse: impl FnOnce()) {
    const AGAIN: &str = "METAL_SIM_TEST_AGAIN";
    if std::env::var_os(AGAIN).is_some() {
        misuse();
        std::process::exit(0);
    }
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env(AGAIN, "1")
        .env("METAL_SIM_FAULTS", "abort")
        .output()
        .unwrap();
    assert_eq!(
        output.status.signal(),
        Some(libc::SIGABRT),
        "{test} ended otherwise"
    );
    let told = String::from_utf8_lossy(&output.stderr);
    assert_told(&told, &["metal-sim: "]);
    assert_told(&told, pieces);
}

#[test]
fn an_unknown_selector() {
    let object = victim();
    // By the runtime's own lookup, so that objc2's check in debug builds does not come first.
    let message = told(|| {
        // SAFETY: what the lookup gives takes a receiver and a selector; there is no such
        // method, which is the test.
        unsafe {
            let imp = objc2::ffi::objc_msg_lookup(as_any(&object), sel!(doesNotExist)).unwrap();
            let imp: unsafe extern "C-unwind" fn(*mut AnyObject, objc2::runtime::Sel) =
                std::mem::transmute(imp);
            imp(as_any(&object), sel!(doesNotExist));
        }
    });
    assert_told(
        &message,
        &["unrecognised selector", "-[Victim doesNotExist]"],
    );
}

/// The place of allocation is part of the message in debug builds.
#[test]
#[cfg(debug_assertions)]
fn the_place_of_allocation() {
    let pointer = Retained::into_raw(victim()).cast::<AnyObject>();
    let place = |message: &str| {
        assert_told(
            message,
            &["Victim, allocated at ", "tests/faults.rs:", "victim"],
        );
    };
    // SAFETY: the first release is owed; the rest are the tests.
    unsafe {
        let missing = told(|| {
            let _: *mut AnyObject = msg_send![&*pointer, performSelector: sel!(missing)];
        });
        assert_told(
            &missing,
            &["-[Victim missing], allocated at ", "tests/faults.rs:"],
        );
        objc2::ffi::objc_release(pointer);
        place(&told(|| objc2::ffi::objc_release(pointer)));
        place(&told(|| {
            objc2::ffi::objc_retain(pointer);
        }));
    }
}

/// A wrong selector and a wrong encoding are caught where the message is sent, because
/// objc2 holds every message against the encodings of the class that the simulator gives.
#[test]
#[cfg(debug_assertions)]
fn a_wrong_selector_and_a_wrong_encoding() {
    let object = victim();
    let message = told(|| {
        // SAFETY: never sent: there is no such method, which is the test.
        let _: u32 = unsafe { msg_send![&object, dubble: 1u32] };
    });
    assert_told(&message, &["Victim", "dubble:", "method not found"]);
    let message = told(|| {
        // SAFETY: never sent: the argument's type is wrong, which is the test.
        let _: u32 = unsafe { msg_send![&object, double: 1u64] };
    });
    assert_told(&message, &["Victim double:", "type code 'I'", "'Q'"]);
    // The correct twin.
    // SAFETY: the signature is the one defined above.
    let doubled: u32 = unsafe { msg_send![&object, double: 21u32] };
    assert_eq!(doubled, 42);
}

fn as_any(object: &Victim) -> *mut AnyObject {
    std::ptr::from_ref(object).cast_mut().cast()
}

#[test]
fn releasing_once_too_often() {
    let pointer = Retained::into_raw(victim()).cast::<AnyObject>();
    // SAFETY: one release is owed; the second is the test, and the runtime keeps the memory.
    unsafe {
        objc2::ffi::objc_release(pointer);
        let message = told(|| objc2::ffi::objc_release(pointer));
        assert_told(&message, &["over-release", "Victim"]);
    }
}

#[test]
fn a_message_to_a_freed_object() {
    let pointer = Retained::into_raw(victim()).cast::<AnyObject>();
    // SAFETY: the release is owed; the message after it is the test.
    unsafe {
        objc2::ffi::objc_release(pointer);
        let message = told(|| {
            let imp = objc2::ffi::objc_msg_lookup(pointer, sel!(hash)).unwrap();
            let imp: unsafe extern "C-unwind" fn(*mut AnyObject, objc2::runtime::Sel) -> usize =
                std::mem::transmute(imp);
            imp(pointer, sel!(hash));
        });
        assert_told(&message, &["freed object", "-[Victim hash]"]);
    }
}

#[test]
fn retaining_a_freed_object() {
    let pointer = Retained::into_raw(victim()).cast::<AnyObject>();
    // SAFETY: the release is owed; the retain after it is the test.
    unsafe {
        objc2::ffi::objc_release(pointer);
        let message = told(|| {
            objc2::ffi::objc_retain(pointer);
        });
        assert_told(&message, &["retain of a freed object", "Victim"]);
    }
}

#[test]
#[allow(deprecated)] // Not deprecated as a mistake.
fn an_object_freed_twice() {
    let end = |times| {
        // SAFETY: one end is owed; more are the test.
        unsafe {
            let object = objc2::ffi::class_createInstance(Victim::class(), 0);
            for _ in 0..times {
                objc2::ffi::object_dispose(object);
            }
        }
    };
    dies(
        "an_object_freed_twice",
        &["object freed twice: Victim"],
        || end(2),
    );
    end(1);
}

#[test]
fn a_class_disposed_while_it_has_instances() {
    let class = ClassBuilder::new(c"Disposed", NSObject::class())
        .unwrap()
        .register();
    // SAFETY: `new` has this signature; nobody uses the class after it was disposed.
    unsafe {
        let dispose = || objc2::ffi::objc_disposeClassPair(std::ptr::from_ref(class).cast_mut());
        let object: Retained<NSObject> = msg_send![class, new];
        dies(
            "a_class_disposed_while_it_has_instances",
            &["class disposed with instances: Disposed has 1"],
            dispose,
        );
        drop(object);
        dispose();
    }
    assert!(AnyClass::get(c"Disposed").is_none());
}

#[test]
fn a_protocol_released_once_too_often() {
    // SAFETY: the retain is given back; the release after it is the test.
    unsafe {
        let protocol = objc2::ffi::objc_allocateProtocol(c"Overreleased".as_ptr());
        objc2::ffi::objc_registerProtocol(protocol);
        let protocol: *mut AnyObject = protocol.cast();
        objc2::ffi::objc_retain(protocol);
        objc2::ffi::objc_release(protocol);
        let message = told(|| objc2::ffi::objc_release(protocol));
        assert_told(&message, &["over-release: protocol Overreleased"]);
    }
}

#[test]
fn indices_and_ranges_outside() {
    let array = NSArray::from_retained_slice(&[victim()]);
    assert_eq!(array.objectAtIndex(0).class(), Victim::class());
    let message = told(|| {
        let _ = array.objectAtIndex(1);
    });
    assert_told(
        &message,
        &[
            "index out of range",
            "[NSArray objectAtIndex: 1] of 1 objects",
        ],
    );

    let mutable = NSMutableArray::from_retained_slice(&[victim()]);
    mutable.insertObject_atIndex(&victim(), 1);
    let message = told(|| mutable.insertObject_atIndex(&victim(), 3));
    assert_told(
        &message,
        &["[NSMutableArray insertObject:atIndex:] at 3 of 2 objects"],
    );
    mutable.removeObjectAtIndex(1);
    let message = told(|| mutable.removeObjectAtIndex(1));
    assert_told(
        &message,
        &["[NSMutableArray removeObjectAtIndex:] at 1 of 1 objects"],
    );

    let text = NSString::from_str("ab");
    assert_eq!(text.characterAtIndex(1), u16::from(b'b'));
    let message = told(|| {
        text.characterAtIndex(2);
    });
    assert_told(&message, &["[NSString characterAtIndex: 2] of \"ab\""]);

    let data = NSData::with_bytes(b"abc");
    assert_eq!(data.subdataWithRange(NSRange::from(1..3)).to_vec(), b"bc");
    let message = told(|| {
        data.subdataWithRange(NSRange::from(1..4));
    });
    assert_told(&message, &["of 3 bytes"]);
}

#[test]
fn encodings_that_are_not_simulated() {
    let bytes: *const c_void = b"ab".as_ptr().cast();
    let utf16: std::ffi::c_int = 10;
    let message = told(|| {
        // SAFETY: the initialiser has this signature, and there are two bytes.
        let _: Option<Retained<NSString>> = unsafe {
            msg_send![NSString::alloc(), initWithBytes: bytes, length: 2_usize, encoding: utf16]
        };
    });
    assert_told(&message, &["string encoding: NSStringEncoding 10"]);
    let message = told(|| {
        // SAFETY: the initialiser has this signature; the type is refused before it is read.
        let _: Retained<NSValue> =
            unsafe { msg_send![NSValue::alloc(), initWithBytes: bytes, objCType: c"b3".as_ptr()] };
    });
    assert_told(&message, &["value encoding: “b3”"]);
}

#[test]
fn a_compiled_catch() {
    dies(
        "a_compiled_catch",
        &["compiled @try is not simulated: objc_begin_catch"],
        || {
            // SAFETY: refused before anything is looked at.
            unsafe { objc2::ffi::objc_begin_catch(std::ptr::null_mut()) };
        },
    );
}

#[test]
fn a_required_class_that_does_not_exist() {
    // SAFETY: both are names.
    unsafe {
        dies(
            "a_required_class_that_does_not_exist",
            &["required class not found: NSNoSuchClass"],
            || {
                objc2::ffi::objc_getRequiredClass(c"NSNoSuchClass".as_ptr());
            },
        );
        assert!(!objc2::ffi::objc_getRequiredClass(c"NSObject".as_ptr()).is_null());
    }
}

/// With `METAL_SIM_FAULTS=abort` a fault ends the process.
#[test]
fn faults_end_the_process_when_asked_to() {
    dies(
        "faults_end_the_process_when_asked_to",
        &["over-release: Victim"],
        || {
            let pointer = Retained::into_raw(victim()).cast::<AnyObject>();
            // SAFETY: one release is owed; the second is the test.
            unsafe {
                objc2::ffi::objc_release(pointer);
                objc2::ffi::objc_release(pointer);
            }
        },
    );
}

#[test]
fn a_pool_that_is_popped_twice() {
    let message = told(|| {
        // SAFETY: the first pop is owed; the second is the test.
        unsafe {
            let pool = objc2::ffi::objc_autoreleasePoolPush();
            objc2::ffi::objc_autoreleasePoolPop(pool);
            objc2::ffi::objc_autoreleasePoolPop(pool);
        }
    });
    assert_told(&message, &["pool popped twice"]);
}

#[test]
fn correct_use_is_silent() {
    autoreleasepool(|_| {
        let object = victim();
        let copy = object.clone();
        let _ = Retained::autorelease_ptr(copy);
        assert_eq!(object.class(), Victim::class());
        assert!(object.respondsToSelector(sel!(double:)));
        assert!(!object.respondsToSelector(sel!(dubble:)));
    });
}

#[test]
fn messages_to_nil_answer_zero() {
    // SAFETY: a message to nil is defined; debug builds of objc2 check receivers, so this
    // goes through the lookup.
    unsafe {
        let imp = objc2::ffi::objc_msg_lookup(std::ptr::null_mut(), sel!(hash)).unwrap();
        let hash: unsafe extern "C-unwind" fn(*mut AnyObject, objc2::runtime::Sel) -> usize =
            std::mem::transmute(imp);
        assert_eq!(hash(std::ptr::null_mut(), sel!(hash)), 0);
        let float: unsafe extern "C-unwind" fn(*mut AnyObject, objc2::runtime::Sel) -> f64 =
            std::mem::transmute(imp);
        assert_eq!(float(std::ptr::null_mut(), sel!(hash)), 0.0);
    }
}
