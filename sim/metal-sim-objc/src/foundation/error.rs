//! `NSError`: a domain, a code and a dictionary whose localised description is the message.

use super::constants::{NSCocoaErrorDomain, NSLocalizedDescriptionKey};
use super::{dictionary, string};
use objc2::rc::{Allocated, Retained};
use objc2::runtime::{NSObject, NSObjectProtocol};
use objc2::{AnyThread, DefinedClass, Message, define_class, msg_send};
use objc2_foundation::{NSCopying, NSDictionary, NSError, NSString, NSZone};

/// What an error says.
pub struct Content {
    domain: Retained<NSString>,
    code: isize,
    user_info: Option<Retained<NSDictionary>>,
}

define_class!(
    // SAFETY: NSObject has no requirements on its subclasses, and there is no `Drop`.
    #[unsafe(super(NSObject))]
    #[name = "NSError"]
    #[ivars = Content]
    /// The class behind `NSError`.
    pub struct SimError;

    // SAFETY: no further requirements.
    unsafe impl NSObjectProtocol for SimError {}

    // SAFETY: immutable, so a copy is the same error.
    unsafe impl NSCopying for SimError {
        #[unsafe(method_id(copyWithZone:))]
        fn copy_with_zone(&self, _zone: *mut NSZone) -> Retained<Self> {
            self.retain()
        }
    }

    impl SimError {
        #[unsafe(method_id(initWithDomain:code:userInfo:))]
        fn init(
            this: Allocated<Self>,
            domain: &NSString,
            code: isize,
            user_info: Option<&NSDictionary>,
        ) -> Retained<Self> {
            init_with(this, domain.retain(), code, user_info.map(Message::retain))
        }

        #[unsafe(method_id(errorWithDomain:code:userInfo:))]
        fn error(
            domain: &NSString,
            code: isize,
            user_info: Option<&NSDictionary>,
        ) -> Retained<Self> {
            init_with(Self::alloc(), domain.retain(), code, user_info.map(Message::retain))
        }

        #[unsafe(method_id(domain))]
        fn domain(&self) -> Retained<NSString> {
            self.ivars().domain.clone()
        }

        #[unsafe(method(code))]
        fn code(&self) -> isize {
            self.ivars().code
        }

        #[unsafe(method_id(userInfo))]
        fn user_info(&self) -> Retained<NSDictionary> {
            self.ivars().user_info.clone().unwrap_or_default()
        }

        #[unsafe(method_id(localizedDescription))]
        fn localised_description(&self) -> Retained<NSString> {
            string::new(&self.ivars().message())
        }

        #[unsafe(method_id(description))]
        fn description(&self) -> Retained<NSString> {
            let Content { domain, code, .. } = self.ivars();
            let message = self.ivars().message();
            string::new(&format!("Error Domain={domain} Code={code} \"{message}\""))
        }
    }
);

impl Content {
    fn message(&self) -> String {
        let told: Option<Retained<NSString>> = self.user_info.as_ref().and_then(|info| {
            // SAFETY: a dictionary answers `objectForKey:`, and the value is a string.
            unsafe { msg_send![info, objectForKey: NSLocalizedDescriptionKey.get()] }
        });
        match told {
            Some(message) => message.to_string(),
            // Apple's words, with its short name for its own domain.
            None => {
                let domain = match &*self.domain {
                    domain if domain == NSCocoaErrorDomain.get() => "Cocoa".to_owned(),
                    domain => domain.to_string(),
                };
                let code = self.code;
                format!("The operation couldn\u{2019}t be completed. ({domain} error {code}.)")
            }
        }
    }
}

fn init_with(
    this: Allocated<SimError>,
    domain: Retained<NSString>,
    code: isize,
    user_info: Option<Retained<NSDictionary>>,
) -> Retained<SimError> {
    let this = this.set_ivars(Content {
        domain,
        code,
        user_info,
    });
    // SAFETY: NSObject's `init` has this signature.
    unsafe { msg_send![super(this), init] }
}

/// A new error with a message.
pub fn new(domain: &str, code: isize, message: &str) -> Retained<NSError> {
    let value = string::new(message);
    let info = dictionary::with_entry(NSLocalizedDescriptionKey.get(), &value);
    let error = init_with(SimError::alloc(), string::new(domain), code, Some(info));
    // SAFETY: `SimError` is the class `NSError`.
    unsafe { Retained::cast_unchecked(error) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_message_is_the_localised_description() {
        let error = new("MTLLibraryErrorDomain", 3, "no such function");
        assert_eq!(error.localizedDescription().to_string(), "no such function");
        assert_eq!(
            (error.code(), error.domain().to_string()),
            (3, "MTLLibraryErrorDomain".into())
        );
        let plain = NSError::new(7, &NSString::from_str("Here"));
        assert_eq!(
            plain.to_string(),
            "The operation couldn\u{2019}t be completed. (Here error 7.)"
        );
    }
}
