//! `cargo xtask test candle`: Candle's own tests of its Metal backend on the simulator.

use crate::suites::{Copied, Suite};

/// Candle's tests of other backends are not what is tested here, so they are left out.
pub const SUITE: Suite = Suite {
    name: "candle",
    crates: &[
        Copied {
            name: "candle-core",
            added: "",
            removed: &["criterion"],
        },
        Copied {
            name: "candle-metal-kernels",
            added: "",
            removed: &[],
        },
        Copied {
            name: "candle-nn",
            added: "",
            removed: &["criterion"],
        },
    ],
    stand_ins: &[],
    features: &["candle-core/metal", "candle-nn/metal"],
    environment: &[],
    wanted: is_metal,
    described_in: include_str!("candle.rs"),
};

/// Whether a test is one of the Metal backend.
fn is_metal(program: &str, test: &str) -> bool {
    program.contains("metal") || test.contains("metal")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metal_tests_are_known_by_their_names() {
        assert!(is_metal("candle-core/tensor_tests", "add_mul_metal"));
        assert!(is_metal(
            "candle-core/metal_concurrent_tests",
            "concurrent_readback"
        ));
        assert!(is_metal("candle-core", "metal_backend::device::tests::x"));
        assert!(is_metal("candle-metal-kernels", "tests::softmax"));
        assert!(is_metal("candle-nn/sdpa", "metal_sdpa_tests::sdpa_full"));
        assert!(!is_metal("candle-core/tensor_tests", "add_mul_cpu"));
    }
}
