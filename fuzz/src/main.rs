//! One program for all fuzz targets: `FUZZ_TARGET` names the op, libFuzzer invents the bytes.
//!
//! The property is the same for each: an op returns a result or an error and never panics; arguments
//! that fit give a result; it is that of plain loops in f64 where the numbers are tame. The sanitizer
//! watches for accesses outside of the arguments, which are allocated to the element.

#![no_main]

mod attention;
mod input;
mod pointwise;
mod products;
mod rows;
mod tensors;

use std::sync::OnceLock;

use candle_mps_cpu::{simd, threads};
use half::{bf16, f16};
use libfuzzer_sys::fuzz_target;

use crate::input::Input;

type Target = fn(&mut Input);

macro_rules! targets {
    ($($module:ident: $($name:ident)*;)*) => {
        [$($((stringify!($name), [
            $module::$name::<f32>,
            $module::$name::<f64>,
            $module::$name::<f16>,
            $module::$name::<bf16>,
        ]),)*)*]
    };
}

/// Each target for the four types.
const TARGETS: &[(&str, [Target; 4])] = &targets! {
    rows: softmax log_softmax rms_norm layer_norm cross_entropy;
    pointwise: rope swiglu geglu adamw;
    products: matmul lora;
    attention: attention;
    tensors: tensors;
};

static CHOSEN: OnceLock<[Target; 4]> = OnceLock::new();

/// Finds the target. With a name that there is not, lists those there are: so asks `cargo xtask fuzz`.
fn choose() {
    let name = std::env::var("FUZZ_TARGET").unwrap_or_default();
    if let Some((_, types)) = TARGETS.iter().find(|target| target.0 == name) {
        CHOSEN.get_or_init(|| *types);
        return;
    }
    for (name, _) in TARGETS {
        println!("{name}");
    }
    std::process::exit(0);
}

fuzz_target!(init: choose(), |bytes: &[u8]| {
    let Some(types) = CHOSEN.get() else { return };
    let mut input = Input::new(bytes);
    let all = simd::available();
    let isa = all[input.below(all.len())];
    let count = [1, 1, 3][input.below(3)];
    let run = types[input.below(4)];
    simd::with_isa(isa, || threads::with_count(count, || run(&mut input)));
});
