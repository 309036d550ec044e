//! An Objective-C runtime written in Rust, so that programs on [`objc2`] run where there is
//! no Apple runtime. It speaks the GNUstep 2.1 ABI: a message is a call of
//! [`objc_msg_lookup`](message) followed by an ordinary call of what it returned, so
//! no assembly is needed on that path.
//!
//! Reasons to exist, beyond running: it counts every live object by class ([`census`]), and
//! it turns misuse (over-release, a message to a freed object, an unknown selector) into one
//! message that names class, selector and, in debug builds, where the object was allocated
//! ([`fault`]).
//!
//! | file | what it holds |
//! |---|---|
//! | `selector` `class` `registry` `method` `property` | what the program is made of |
//! | `protocol` `standard_protocols` | protocols, and those that exist from the start |
//! | `message` `cache` | finding the function for a message |
//! | `object` `ownership` `pool` `weak` `associated` `sync` | objects, ownership and locks |
//! | `block` `imp_block` | blocks as objects and as methods |
//! | `exception` | exceptions, and what of them is refused |
//! | `nsobject` `foundation/` | the root class and the Foundation classes |
//! | `census` `fault` `origin` | what a test asks, and what it is told |
//! | `..._functions` | the C functions of the file without that ending |
//!
//! The exported C symbols are the ABI of `objc2::ffi` with feature `gnustep-2-1`; their
//! contracts are those of the Objective-C runtime reference. Those that objc2 declares as not
//! unwinding do not: a fault in one of them is reported and ends the process.

// The whole crate is the implementation of an unsafe C ABI: house rule 2 names it as such.
#![allow(unsafe_code)]
// Each exported function has the contract of the runtime function of its name.
#![allow(clippy::missing_safety_doc)]

pub mod associated;
pub mod block;
pub mod cache;
pub mod census;
pub mod class;
mod class_functions;
pub mod exception;
pub mod fault;
pub mod foundation;
mod imp_block;
pub mod message;
pub mod method;
mod nsobject;
pub mod object;
mod object_functions;
pub mod origin;
mod ownership;
pub mod pool;
pub mod property;
pub mod protocol;
mod protocol_functions;
pub mod registry;
pub mod selector;
mod standard_protocols;
pub mod sync;
pub mod weak;

use std::sync::Once;

/// Makes the built-in classes usable. Called when the library is loaded; calling it again
/// does nothing.
pub fn start() {
    static START: Once = Once::new();
    START.call_once(|| {
        nsobject::register();
        block::register();
        protocol::register();
        foundation::register();
    });
}

extern "C" fn start_on_load() {
    start();
}

// Programs refer to classes by link-time symbols and send to them without any call into
// the runtime first, so the classes must be ready before `main`.
// SAFETY: `.init_array` holds pointers to functions without arguments, run once at load.
#[used]
#[unsafe(link_section = ".init_array")]
static START_ON_LOAD: extern "C" fn() = start_on_load;
