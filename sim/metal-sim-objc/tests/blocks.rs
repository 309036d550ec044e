//! Blocks as objects and as methods.

// Tests of an unsafe ABI.
#![allow(unsafe_code)]

use block2::{RcBlock, StackBlock};
use metal_sim_objc::census::Census;
use objc2::ffi::{imp_getBlock, imp_implementationWithBlock, imp_removeBlock};
use objc2::rc::{Retained, Weak};
use objc2::runtime::{AnyObject, ClassBuilder, Imp, NSObject, Sel};
use objc2::{ClassType, ffi, msg_send, sel};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;

fn as_object<F: ?Sized>(block: &RcBlock<F>) -> *mut AnyObject {
    RcBlock::as_ptr(block).cast()
}

#[test]
fn a_block_becomes_a_method_and_stops_being_one() {
    let mut builder = ClassBuilder::new(c"AnsweredByBlocks", NSObject::class()).unwrap();
    builder.add_ivar::<u64>(c"_unused");
    let class = builder.register();
    let factor = 3.0;
    let block = RcBlock::new(move |_this: *mut AnyObject, whole: i64, part: f64| {
        whole as f64 + factor * part
    });
    // SAFETY: the block takes the receiver and the method's arguments, and the encoding says so.
    unsafe {
        let imp = imp_implementationWithBlock(as_object(&block));
        let class: *const _ = class;
        let added = ffi::class_addMethod(class.cast_mut(), sel!(mix:with:), imp, c"d@:qd".as_ptr());
        assert!(added.as_bool());
        let object: Retained<NSObject> = msg_send![&*class, new];
        let mixed: f64 = msg_send![&object, mix: 4_i64, with: 0.5_f64];
        assert_eq!(mixed, 5.5);
        assert_eq!(imp_getBlock(imp), as_object(&block));
        assert!(imp_removeBlock(imp).as_bool());
        assert!(imp_getBlock(imp).is_null());
        assert!(!imp_removeBlock(imp).as_bool());
    }
}

#[test]
fn each_block_has_a_function_of_its_own() {
    type Method = unsafe extern "C-unwind" fn(*mut AnyObject, Sel, usize) -> usize;
    let sel = sel!(add:);
    let receiver = ptr::without_provenance_mut(1000);
    let imps: Vec<Imp> = (0..100)
        .map(|n| {
            let block =
                RcBlock::new(move |this: *mut AnyObject, more: usize| this.addr() + more + n);
            // SAFETY: a block that takes the receiver and one argument.
            unsafe { imp_implementationWithBlock(as_object(&block)) }
        })
        .collect();
    for (n, imp) in imps.into_iter().enumerate() {
        // SAFETY: the function's type is the block's with a selector in second place.
        unsafe {
            let method: Method = std::mem::transmute(imp);
            assert_eq!(method(receiver, sel, 10), 1010 + n);
            assert!(imp_removeBlock(imp).as_bool());
        }
    }
}

#[test]
fn functions_that_are_no_blocks_are_not_taken_for_some() {
    extern "C-unwind" fn other() {}
    // SAFETY: any function can be asked about.
    unsafe {
        let imp: Imp = std::mem::transmute(other as extern "C-unwind" fn());
        assert!(imp_getBlock(imp).is_null());
        assert!(!imp_removeBlock(imp).as_bool());
    }
}

#[test]
fn a_block_on_the_heap_is_an_object() {
    let class = "__NSMallocBlock__";
    let block = StackBlock::new(|x: i32| x + 1).copy();
    // SAFETY: a block is an object.
    unsafe {
        let object = &*as_object(&block);
        assert_eq!(object.class().name().to_str(), Ok(class));
        let weak = Weak::new(object);
        let counted: usize = msg_send![object, retainCount];
        let again = weak.load().unwrap();
        let more: usize = msg_send![object, retainCount];
        assert_eq!((counted, more), (1, 2));
        assert!(Census::take().of(class) >= 1);
        drop(again);
        drop(block);
        assert!(weak.load().is_none());
    }
}

#[test]
fn a_block_released_once_too_often_is_named() {
    let block = RcBlock::new(|| 1);
    let pointer = as_object(&block);
    drop(block);
    // SAFETY: the over-release is the test, and the runtime keeps the memory.
    let caught = catch_unwind(AssertUnwindSafe(|| unsafe { ffi::objc_release(pointer) }));
    let message = *caught.unwrap_err().downcast::<String>().unwrap();
    assert!(
        message.contains("over-release: __NSMallocBlock__"),
        "{message}"
    );
}
