//! `MTLCaptureManager`: traces for Xcode. There is none to open them here, so starting one is
//! an error, and the rest answers that nothing is captured.

use crate::lock;
use objc2::rc::{Allocated, Retained};
use objc2::runtime::{AnyObject, NSObject, NSObjectProtocol};
use objc2::{AnyThread, DefinedClass, define_class, msg_send};
use objc2_foundation::{NSError, NSURL};
use objc2_metal::MTLCaptureDestination;
use std::sync::{Mutex, OnceLock};

define_class!(
    // SAFETY: NSObject has no requirements on its subclasses, and there is no `Drop`.
    #[unsafe(super(NSObject))]
    #[name = "MTLCaptureManager"]
    /// The class behind `MTLCaptureManager`.
    pub struct SimCaptureManager;

    // SAFETY: no further requirements.
    unsafe impl NSObjectProtocol for SimCaptureManager {}

    impl SimCaptureManager {
        #[unsafe(method_id(sharedCaptureManager))]
        fn shared() -> Retained<Self> {
            shared_manager().clone()
        }

        #[unsafe(method(supportsDestination:))]
        fn supports(&self, _destination: MTLCaptureDestination) -> bool {
            false
        }

        #[unsafe(method(isCapturing))]
        fn is_capturing(&self) -> bool {
            false
        }

        #[unsafe(method(startCaptureWithDescriptor:error:))]
        fn start(&self, _descriptor: Option<&SimCaptureDescriptor>, error: *mut *mut NSError) -> bool {
            // SAFETY: the method's contract: null or a place for an error.
            unsafe { refuse(error) }
        }

        #[unsafe(method(stopCapture))]
        fn stop(&self) {}
    }
);

// SAFETY: there is no state.
unsafe impl Send for SimCaptureManager {}
// SAFETY: as above.
unsafe impl Sync for SimCaptureManager {}

fn shared_manager() -> &'static Retained<SimCaptureManager> {
    static SHARED: OnceLock<Retained<SimCaptureManager>> = OnceLock::new();
    SHARED.get_or_init(|| {
        // SAFETY: NSObject's `init` has this signature.
        unsafe { msg_send![super(SimCaptureManager::alloc().set_ivars(())), init] }
    })
}

/// # Safety
/// `error` is null or a place for an error.
unsafe fn refuse(error: *mut *mut NSError) -> bool {
    const NOT_SUPPORTED: isize = 1;
    if !error.is_null() {
        let message = "the simulator writes no GPU traces";
        let told =
            metal_sim_objc::foundation::error::new("MTLCaptureError", NOT_SUPPORTED, message);
        // SAFETY: the caller's promise; errors are handed out autoreleased.
        unsafe { *error = Retained::autorelease_ptr(told) };
    }
    false
}

/// What a capture descriptor was told.
#[derive(Default)]
pub struct Settings {
    object: Mutex<Option<super::Kept<AnyObject>>>,
    url: Mutex<Option<super::Kept<NSURL>>>,
    destination: Mutex<isize>,
}

define_class!(
    // SAFETY: NSObject has no requirements on its subclasses, and there is no `Drop`.
    #[unsafe(super(NSObject))]
    #[name = "MTLCaptureDescriptor"]
    #[ivars = Settings]
    /// The class behind `MTLCaptureDescriptor`.
    pub struct SimCaptureDescriptor;

    // SAFETY: no further requirements.
    unsafe impl NSObjectProtocol for SimCaptureDescriptor {}

    impl SimCaptureDescriptor {
        #[unsafe(method_id(init))]
        fn init(this: Allocated<Self>) -> Retained<Self> {
            let settings = Settings { destination: Mutex::new(1), ..Settings::default() };
            // SAFETY: NSObject's `init` has this signature.
            unsafe { msg_send![super(this.set_ivars(settings)), init] }
        }

        #[unsafe(method(setCaptureObject:))]
        fn set_object(&self, object: Option<&AnyObject>) {
            *lock(&self.ivars().object) = object.map(super::Kept::new);
        }

        #[unsafe(method_id(captureObject))]
        fn object(&self) -> Option<Retained<AnyObject>> {
            lock(&self.ivars().object).as_ref().map(|kept| kept.0.clone())
        }

        #[unsafe(method(setOutputURL:))]
        fn set_url(&self, url: Option<&NSURL>) {
            *lock(&self.ivars().url) = url.map(super::Kept::new);
        }

        #[unsafe(method_id(outputURL))]
        fn url(&self) -> Option<Retained<NSURL>> {
            lock(&self.ivars().url).as_ref().map(|kept| kept.0.clone())
        }

        #[unsafe(method(setDestination:))]
        fn set_destination(&self, destination: MTLCaptureDestination) {
            *lock(&self.ivars().destination) = destination.0;
        }

        #[unsafe(method(destination))]
        fn destination(&self) -> MTLCaptureDestination {
            MTLCaptureDestination(*lock(&self.ivars().destination))
        }
    }
);
