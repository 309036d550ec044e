//! Objects live as long as somebody owns them: counts, pools, weak references, associated
//! objects, overridden ownership, and blocks, seen from a program on objc2.

// Tests of an unsafe ABI.
#![allow(unsafe_code)]

use metal_sim_objc::census::Census;
use objc2::rc::{Allocated, Retained, Weak, autoreleasepool};
use objc2::runtime::{AnyObject, NSObject, NSObjectProtocol};
use objc2::{AnyThread, ClassType, DefinedClass, define_class, msg_send};
use std::cell::Cell;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Live objects of a class. Each test uses a class of its own, so tests may run together.
fn live(class: &str) -> isize {
    Census::take().of(class)
}

macro_rules! plain_class {
    ($class:ident) => {
        define_class!(
            // SAFETY: NSObject has no requirements on its subclasses; there is no `Drop`.
            #[unsafe(super(NSObject))]
            #[name = stringify!($class)]
            struct $class;

            // SAFETY: no further requirements.
            unsafe impl NSObjectProtocol for $class {}
        );

        impl $class {
            #[allow(dead_code)]
            fn new() -> Retained<Self> {
                // SAFETY: NSObject's `init` has this signature.
                unsafe { msg_send![super(Self::alloc().set_ivars(())), init] }
            }
        }
    };
}

#[test]
fn the_last_owner_ends_the_object() {
    plain_class!(Owned);
    let first = Owned::new();
    assert_eq!(live("Owned"), 1);
    let second = first.clone();
    drop(first);
    assert_eq!(live("Owned"), 1);
    drop(second);
    assert_eq!(live("Owned"), 0);
}

#[test]
fn pools_let_go_of_what_was_put_into_them_and_nothing_else() {
    plain_class!(Pooled);
    autoreleasepool(|_| {
        let _ = Retained::autorelease_ptr(Pooled::new());
        autoreleasepool(|_| {
            for _ in 0..100 {
                let _ = Retained::autorelease_ptr(Pooled::new());
            }
            assert_eq!(live("Pooled"), 101);
        });
        assert_eq!(live("Pooled"), 1);
    });
    assert_eq!(live("Pooled"), 0);
}

/// A pool keeps what it was given, even where a Mac would often hand it over: so a program that
/// lacks a pool is found out. (`METAL_SIM_HANDOVER=1` is tested by objc2's own tests.)
#[test]
fn results_stay_in_the_pool_when_their_caller_retains_them() {
    plain_class!(Returned);
    autoreleasepool(|_| {
        let pointer = Retained::autorelease_ptr(Returned::new());
        // SAFETY: the object is in the pool.
        let retained = unsafe { Retained::retain_autoreleased(pointer) }.unwrap();
        assert_eq!(retained.retainCount(), 2);
        drop(retained);
        assert_eq!(live("Returned"), 1);
    });
    assert_eq!(live("Returned"), 0);
}

#[test]
fn what_no_pool_took_goes_with_its_thread() {
    plain_class!(Stray);
    std::thread::spawn(|| {
        let _ = Retained::autorelease_ptr(Stray::new());
        assert_eq!(live("Stray"), 1);
    })
    .join()
    .unwrap();
    assert_eq!(live("Stray"), 0);
}

#[test]
fn weak_references_do_not_own_and_end_with_the_object() {
    plain_class!(Watched);
    let object = Watched::new();
    let weak = Weak::from_retained(&object);
    let copy = weak.clone();
    assert!(
        weak.load()
            .is_some_and(|loaded| std::ptr::eq(&*loaded, &*object))
    );
    assert_eq!(live("Watched"), 1);
    drop(object);
    assert_eq!(live("Watched"), 0);
    assert!(weak.load().is_none() && copy.load().is_none());
}

#[test]
fn weak_references_never_show_an_ending_object_to_another_thread() {
    plain_class!(Raced);
    struct Shared(Weak<Raced>);
    // SAFETY: loading a weak reference is atomic in this runtime.
    unsafe impl Sync for Shared {}
    for _ in 0..200 {
        let object = Raced::new();
        let weak = Shared(Weak::from_retained(&object));
        std::thread::scope(|scope| {
            let weak = &weak;
            for _ in 0..2 {
                scope.spawn(move || {
                    while let Some(object) = weak.0.load() {
                        assert!(object.isKindOfClass(Raced::class()));
                    }
                });
            }
            drop(object);
        });
    }
    assert_eq!(live("Raced"), 0);
}

#[test]
fn instance_variables_are_dropped_once() {
    static DROPS: AtomicUsize = AtomicUsize::new(0);
    struct Counts;
    impl Drop for Counts {
        fn drop(&mut self) {
            DROPS.fetch_add(1, Ordering::SeqCst);
        }
    }
    define_class!(
        // SAFETY: NSObject has no requirements on its subclasses; there is no `Drop`.
        #[unsafe(super(NSObject))]
        #[name = "WithVariables"]
        #[ivars = (Counts, Cell<u64>)]
        struct WithVariables;

        impl WithVariables {
            #[unsafe(method_id(init))]
            fn init(this: Allocated<Self>) -> Retained<Self> {
                let this = this.set_ivars((Counts, Cell::new(7)));
                // SAFETY: NSObject's `init` has this signature.
                unsafe { msg_send![super(this), init] }
            }

            #[unsafe(method(next))]
            fn next(&self) -> u64 {
                self.ivars().1.replace(self.ivars().1.get() + 1)
            }
        }
    );
    // SAFETY: the signatures are those defined above.
    unsafe {
        let object: Retained<WithVariables> = msg_send![WithVariables::class(), new];
        let (first, second): (u64, u64) = (msg_send![&object, next], msg_send![&object, next]);
        assert_eq!((first, second), (7, 8));
    }
    assert_eq!(DROPS.load(Ordering::SeqCst), 1);
}

#[test]
fn overridden_ownership_is_asked() {
    static RETAINS: AtomicUsize = AtomicUsize::new(0);
    define_class!(
        // SAFETY: NSObject has no requirements on its subclasses; there is no `Drop`.
        #[unsafe(super(NSObject))]
        #[name = "OwnCounting"]
        struct OwnCounting;

        impl OwnCounting {
            #[unsafe(method(retain))]
            fn retain(&self) -> *mut Self {
                RETAINS.fetch_add(1, Ordering::SeqCst);
                // SAFETY: NSObject's `retain` has this signature.
                unsafe { msg_send![super(self), retain] }
            }
        }
    );
    // SAFETY: NSObject's `init` has this signature.
    let object: Retained<OwnCounting> =
        unsafe { msg_send![super(OwnCounting::alloc().set_ivars(())), init] };
    let before = RETAINS.load(Ordering::SeqCst);
    drop(object.clone());
    assert_eq!(RETAINS.load(Ordering::SeqCst), before + 1);
    drop(object);
    assert_eq!(live("OwnCounting"), 0);
}

#[test]
fn associated_objects_live_as_long_as_their_object() {
    plain_class!(Host);
    plain_class!(Guest);
    static KEY: u8 = 0;
    fn set_associated(host: &Host, key: &'static u8, guest: &Guest) {
        let (host, guest): (&AnyObject, &AnyObject) = (host, guest);
        // SAFETY: both are objects; the policy keeps a strong reference.
        unsafe {
            objc2::ffi::objc_setAssociatedObject(
                std::ptr::from_ref(host).cast_mut(),
                std::ptr::from_ref(key).cast(),
                std::ptr::from_ref(guest).cast_mut(),
                objc2::ffi::OBJC_ASSOCIATION_RETAIN,
            );
        }
    }
    let host = Host::new();
    set_associated(&host, &KEY, &Guest::new());
    assert_eq!(live("Guest"), 1);
    autoreleasepool(|_| {
        let object: &AnyObject = &host;
        // SAFETY: the host is an object.
        let guest = unsafe {
            objc2::ffi::objc_getAssociatedObject(object, std::ptr::from_ref(&KEY).cast())
        };
        assert!(!guest.is_null());
    });
    set_associated(&host, &KEY, &Guest::new());
    assert_eq!(live("Guest"), 1);
    drop(host);
    assert_eq!((live("Host"), live("Guest")), (0, 0));
}

#[test]
fn blocks_own_what_they_capture() {
    plain_class!(Captured);
    use block2::RcBlock;
    let object = Captured::new();
    let block = RcBlock::new(move || i32::from(object.isKindOfClass(Captured::class())));
    let copy = block.clone();
    drop(block);
    assert_eq!(copy.call(()), 1);
    assert_eq!(live("Captured"), 1);
    drop(copy);
    assert_eq!(live("Captured"), 0);
}

#[test]
fn many_threads_share_an_object() {
    plain_class!(Shared);
    struct Sent(Retained<Shared>);
    // SAFETY: retaining and releasing is atomic in this runtime.
    unsafe impl Send for Sent {}
    // SAFETY: as above.
    unsafe impl Sync for Sent {}
    let object = Sent(Shared::new());
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let object = &object;
                for _ in 0..10_000 {
                    drop(object.0.clone());
                }
            });
        }
    });
    assert_eq!(object.0.retainCount(), 1);
    drop(object);
    assert_eq!(live("Shared"), 0);
}
