//! Objective-C exceptions, through the function that objc2's feature `exception` calls.

// Tests of an unsafe ABI.
#![allow(unsafe_code)]

// The runtime; named because nothing here calls it except through its C functions.
use metal_sim_objc as _;
use objc2::rc::Retained;
use objc2::runtime::{AnyObject, NSObject, NSObjectProtocol};
use objc2::{msg_send, sel};
use objc2_foundation::{NSArray, NSException, NSString};
use std::ffi::c_void;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;

unsafe extern "C-unwind" {
    fn objc2_exception_helper_0_1_try_catch(
        body: extern "C-unwind" fn(*mut c_void),
        context: *mut c_void,
        error: *mut *mut AnyObject,
    ) -> u8;
}

/// `@try`: the exception that `body` ended with, if it did.
fn caught(body: impl FnOnce()) -> Option<Retained<AnyObject>> {
    extern "C-unwind" fn call<F: FnOnce()>(context: *mut c_void) {
        // SAFETY: the context is the closure below.
        let body = unsafe { &mut *context.cast::<Option<F>>() };
        body.take().unwrap()();
    }
    fn call_of<F: FnOnce()>(_: &Option<F>) -> extern "C-unwind" fn(*mut c_void) {
        call::<F>
    }
    let mut body = Some(body);
    let mut error = ptr::null_mut();
    // SAFETY: `call` gets the closure that it expects; the exception comes owned.
    unsafe {
        let context = ptr::from_mut(&mut body).cast();
        match objc2_exception_helper_0_1_try_catch(call_of(&body), context, &mut error) {
            0 => None,
            _ => Retained::from_raw(error),
        }
    }
}

fn exception(reason: &str) -> Retained<NSException> {
    NSException::new(
        &NSString::from_str("Test"),
        Some(&NSString::from_str(reason)),
        None,
    )
    .unwrap()
}

/// The reason of a caught exception.
fn reason(exception: Option<Retained<AnyObject>>) -> String {
    let exception = exception.expect("an exception").downcast::<NSException>();
    exception.unwrap().reason().unwrap().to_string()
}

#[test]
fn what_is_raised_is_caught_and_let_go() {
    let raised = exception("because");
    let copy = raised.clone();
    let got = caught(move || copy.raise()).unwrap();
    assert!(ptr::eq(&*got, (&*raised as &AnyObject) as *const _));
    drop(got);
    assert_eq!(raised.retainCount(), 1);
}

#[test]
fn the_innermost_try_catches() {
    let inner = |text: &'static str| caught(|| exception(text).raise());
    let outer = caught(|| {
        assert_eq!(reason(inner("inner")), "inner");
        exception("outer").raise();
    });
    assert_eq!(reason(outer), "outer");
}

#[test]
fn without_an_exception_there_is_none() {
    let mut ran = false;
    assert!(caught(|| ran = true).is_none());
    assert!(ran);
}

#[test]
fn a_panic_is_not_an_exception() {
    let panic = catch_unwind(AssertUnwindSafe(|| caught(|| panic!("a panic"))));
    assert_eq!(*panic.unwrap_err().downcast::<&str>().unwrap(), "a panic");
}

#[test]
fn an_exception_that_nobody_catches_is_a_fault() {
    let panic = catch_unwind(AssertUnwindSafe(|| exception("lost").raise()));
    let message = *panic.unwrap_err().downcast::<String>().unwrap();
    assert!(
        message.contains("uncaught exception: Test: lost"),
        "{message}"
    );
}

/// What Apple's frameworks throw for is thrown where a program catches it.
#[test]
fn faults_of_foundation_are_exceptions_where_they_are_caught() {
    let empty = NSArray::<NSObject>::new();
    let text = reason(caught(|| {
        let _ = empty.objectAtIndex(3);
    }));
    assert!(
        text.contains("[NSArray objectAtIndex: 3] of 0 objects"),
        "{text}"
    );
    let object = NSObject::new();
    let text = reason(caught(|| {
        // SAFETY: `performSelector:` has this signature; the selector does not exist, which
        // is the test.
        let _: *mut AnyObject = unsafe { msg_send![&object, performSelector: sel!(nothing)] };
    }));
    assert!(
        text.starts_with("-[NSObject nothing]: unrecognized selector sent to instance 0x"),
        "{text}"
    );
}
