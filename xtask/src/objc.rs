//! `cargo xtask test objc`: the tests of objc2, block2 and objc2-foundation on the simulator's
//! Objective-C runtime.

use crate::suites::{Copied, Suite};

/// Foundation's features are the classes that the simulator has: tests of the others are not
/// built. objc2 is tested with exceptions.
pub const SUITE: Suite = Suite {
    name: "objc",
    crates: &[
        Copied {
            name: "objc2",
            added: OBJC2,
            removed: &["backtrace", "iai"],
        },
        Copied {
            name: "block2",
            added: BLOCK2,
            removed: &[],
        },
        Copied {
            name: "objc2-foundation",
            added: "",
            removed: &[],
        },
    ],
    stand_ins: &[("objc2-exception-helper", EXCEPTION_HELPER)],
    features: &[
        "objc2/std",
        "objc2/exception",
        "objc2/gnustep-2-1",
        "block2/std",
        "block2/gnustep-2-1",
        "objc2-foundation/std",
        "objc2-foundation/block2",
        "objc2-foundation/NSArray",
        "objc2-foundation/NSData",
        "objc2-foundation/NSDate",
        "objc2-foundation/NSDictionary",
        "objc2-foundation/NSEnumerator",
        "objc2-foundation/NSError",
        "objc2-foundation/NSException",
        "objc2-foundation/NSGeometry",
        "objc2-foundation/NSObjCRuntime",
        "objc2-foundation/NSObject",
        "objc2-foundation/NSPathUtilities",
        "objc2-foundation/NSRange",
        "objc2-foundation/NSString",
        "objc2-foundation/NSThread",
        "objc2-foundation/NSURL",
        "objc2-foundation/NSValue",
        "objc2-foundation/NSZone",
    ],
    // What the tests of optimised autoreleasing expect of a runtime with this ABI.
    environment: &[("METAL_SIM_HANDOVER", "1")],
    wanted: |_, _| true,
    described_in: include_str!("objc.rs"),
};

/// The development dependencies of objc2 on crates of its own repository.
const OBJC2: &str = r#"
[dev-dependencies.block2]
version = "0.6"

[dev-dependencies.objc2-core-foundation]
version = "0.3"
default-features = false
features = ["CFCGTypes"]

[dev-dependencies.objc2-foundation]
version = "0.3"
default-features = false
features = [
    "std", "NSArray", "NSDate", "NSDictionary", "NSEnumerator", "NSError", "NSException",
    "NSKeyValueObserving", "NSNotification", "NSNumberFormatter", "NSObjCRuntime", "NSObject",
    "NSRunLoop", "NSString", "NSURL", "NSValue", "NSZone",
]
"#;

/// The same of block2.
const BLOCK2: &str = r#"
[dev-dependencies.objc2-foundation]
version = "0.3"
default-features = false
features = ["std", "NSError"]
"#;

/// Declares what the published crate compiles with clang: `@try`, which the simulator's runtime
/// has as a function of that name.
const EXCEPTION_HELPER: &str = r#"//! Written by `cargo xtask test objc`.
#![no_std]
use core::ffi::c_void;

unsafe extern "C-unwind" {
    #[link_name = "objc2_exception_helper_0_1_try_catch"]
    pub fn try_catch(
        body: extern "C-unwind" fn(*mut c_void),
        context: *mut c_void,
        error: *mut *mut c_void,
    ) -> u8;
}
"#;
