//! `NSException`: a name, a reason and a dictionary. Thrown by [`exception`](crate::exception).

use super::string;
use crate::exception::objc_exception_throw;
use crate::object::Object;
use objc2::rc::{Allocated, Retained};
use objc2::runtime::{AnyObject, NSObject, NSObjectProtocol};
use objc2::{AnyThread, DefinedClass, Message, define_class, msg_send};
use objc2_foundation::{NSCopying, NSDictionary, NSString, NSZone};

/// What an exception says.
pub struct Content {
    name: Retained<NSString>,
    reason: Option<Retained<NSString>>,
    user_info: Option<Retained<NSDictionary>>,
}

define_class!(
    // SAFETY: NSObject has no requirements on its subclasses, and there is no `Drop`.
    #[unsafe(super(NSObject))]
    #[name = "NSException"]
    #[ivars = Content]
    /// The class behind `NSException`.
    pub struct SimException;

    // SAFETY: no further requirements.
    unsafe impl NSObjectProtocol for SimException {}

    // SAFETY: immutable, so a copy is the same exception.
    unsafe impl NSCopying for SimException {
        #[unsafe(method_id(copyWithZone:))]
        fn copy_with_zone(&self, _zone: *mut NSZone) -> Retained<Self> {
            self.retain()
        }
    }

    impl SimException {
        #[unsafe(method_id(initWithName:reason:userInfo:))]
        fn init(
            this: Allocated<Self>,
            name: &NSString,
            reason: Option<&NSString>,
            user_info: Option<&NSDictionary>,
        ) -> Retained<Self> {
            init_with(this, name, reason, user_info)
        }

        #[unsafe(method_id(exceptionWithName:reason:userInfo:))]
        fn exception(
            name: &NSString,
            reason: Option<&NSString>,
            user_info: Option<&NSDictionary>,
        ) -> Retained<Self> {
            init_with(Self::alloc(), name, reason, user_info)
        }

        #[unsafe(method_id(name))]
        fn name(&self) -> Retained<NSString> {
            self.ivars().name.clone()
        }

        #[unsafe(method_id(reason))]
        fn reason(&self) -> Option<Retained<NSString>> {
            self.ivars().reason.clone()
        }

        #[unsafe(method_id(userInfo))]
        fn user_info(&self) -> Option<Retained<NSDictionary>> {
            self.ivars().user_info.clone()
        }

        #[unsafe(method(raise))]
        fn raise(&self) {
            raise(self)
        }

        #[unsafe(method_id(description))]
        fn description(&self) -> Retained<NSString> {
            let Content { name, reason, .. } = self.ivars();
            reason.clone().unwrap_or_else(|| name.clone())
        }
    }
);

fn raise(exception: &SimException) -> ! {
    let exception: &AnyObject = exception;
    // SAFETY: the exception is an object.
    unsafe { objc_exception_throw(std::ptr::from_ref(exception).cast_mut().cast()) }
}

fn init_with(
    this: Allocated<SimException>,
    name: &NSString,
    reason: Option<&NSString>,
    user_info: Option<&NSDictionary>,
) -> Retained<SimException> {
    let this = this.set_ivars(Content {
        name: name.retain(),
        reason: reason.map(Message::retain),
        user_info: user_info.map(Message::retain),
    });
    // SAFETY: NSObject's `init` has this signature.
    unsafe { msg_send![super(this), init] }
}

/// A new exception, owned by the caller.
pub(crate) fn new(name: &str, reason: &str) -> *mut Object {
    let (name, reason) = (string::new(name), string::new(reason));
    Retained::into_raw(init_with(SimException::alloc(), &name, Some(&reason), None)).cast()
}

/// Name and reason of an exception, if it is an `NSException`.
///
/// # Safety
/// `exception` is an object.
pub(crate) unsafe fn told(exception: *mut Object) -> Option<String> {
    // SAFETY: the caller's promise.
    let exception = unsafe { &*exception.cast::<AnyObject>() };
    let Content { name, reason, .. } = exception.downcast_ref::<SimException>()?.ivars();
    Some(match reason {
        Some(reason) => format!("{name}: {reason}"),
        None => name.to_string(),
    })
}
