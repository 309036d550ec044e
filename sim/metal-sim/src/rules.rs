//! Switches for behaviour that the sources about Apple's frameworks leave open or
//! contradict each other on. Each is an environment variable, read once; the default is the
//! reading that lets correct programs pass and incorrect ones be seen.

use std::sync::OnceLock;

/// The switches of this process.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// `METAL_SIM_READ_C`: an MPS product with beta = 0 reads C all the same, so that
    /// garbage in an output buffer shows (NaN × 0 is NaN). Default off, as BLAS reads.
    pub read_c_when_beta_is_zero: bool,
    /// `METAL_SIM_DEVICES`: how many devices there are. Default 1.
    pub devices: usize,
    /// `METAL_SIM_WATCHDOG_MS`: after how long a command buffer that waits for an event is
    /// ended with a timeout. Default 10000.
    pub watchdog_ms: u64,
    /// `METAL_SIM_LARGE_PRODUCT_DEFECT`: products with `(row + 2K) * resultRowBytes` of this
    /// many bytes or more come out wrong, as on M1 and M2 from 2³¹ on. Default off.
    pub large_product_defect: Option<u64>,
}

/// The switches of this process.
pub fn rules() -> &'static Rules {
    static RULES: OnceLock<Rules> = OnceLock::new();
    RULES.get_or_init(|| Rules {
        read_c_when_beta_is_zero: number("METAL_SIM_READ_C").is_some_and(|on| on != 0),
        devices: number("METAL_SIM_DEVICES").unwrap_or(1).max(1) as usize,
        watchdog_ms: number("METAL_SIM_WATCHDOG_MS").unwrap_or(10_000),
        large_product_defect: number("METAL_SIM_LARGE_PRODUCT_DEFECT"),
    })
}

/// A switch's number; a value that is none is told once and counts as absent.
fn number(name: &str) -> Option<u64> {
    let value = std::env::var(name).ok()?;
    let number = value.trim().parse().ok();
    if number.is_none() {
        crate::fault::warn(
            "switch",
            format!("{name}={value} is not a number; the default is used"),
        );
    }
    number
}
