//! Lets objc2's `-lobjc`, `-lgnustep-base` and `-ldispatch` link: the runtime itself is
//! in this crate, so an empty archive satisfies each of them.

use std::{env, fs, path::PathBuf};

fn main() {
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    for library in ["objc", "gnustep-base", "dispatch", "BlocksRuntime"] {
        let archive = out.join(format!("lib{library}.a"));
        fs::write(archive, b"!<arch>\n").expect("OUT_DIR is writable");
    }
    println!("cargo::rustc-link-search=native={}", out.display());
    println!("cargo::rerun-if-changed=build.rs");
}
