//! How often the ops have run a kernel of ours, each: for programs that got them by way of
//! candle-nn (`candle-mps patch`) and want to see that they did.
//!
//! One addition for each call of an op, without an order among threads.

use std::sync::atomic::{AtomicU64, Ordering};

pub(crate) const NAMES: [&str; 14] = [
    "adamw",
    "attention",
    "cross_entropy",
    "geglu",
    "layer_norm",
    "linear",
    "log_softmax",
    "lora",
    "lora_delta",
    "matmul",
    "rms_norm",
    "rope",
    "softmax",
    "swiglu",
];

static COUNTS: [AtomicU64; NAMES.len()] = [const { AtomicU64::new(0) }; NAMES.len()];

/// The place of an op. In a constant, so that a name that is not in the list does not compile.
pub(super) const fn place(name: &str) -> usize {
    let mut at = 0;
    while !equal(NAMES[at].as_bytes(), name.as_bytes()) {
        at += 1;
    }
    at
}

const fn equal(left: &[u8], right: &[u8]) -> bool {
    let mut at = 0;
    while at < left.len() && at < right.len() && left[at] == right[at] {
        at += 1;
    }
    at == left.len() && at == right.len()
}

/// Counts a call of the op at this place.
pub(super) fn count(place: usize) {
    COUNTS[place].fetch_add(1, Ordering::Relaxed);
}

/// The ops that have run kernels of ours in this process, with the number of calls.
#[doc(hidden)]
pub fn calls() -> Vec<(&'static str, u64)> {
    let counts = NAMES.iter().zip(&COUNTS);
    let counts = counts.map(|(name, count)| (*name, count.load(Ordering::Relaxed)));
    counts.filter(|(_, count)| *count > 0).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_has_its_own_place() {
        for (at, name) in NAMES.iter().enumerate() {
            assert_eq!(place(name), at, "{name}");
        }
    }

    #[test]
    fn a_call_is_counted_where_it_belongs() {
        let of = |name| {
            let calls = calls();
            calls.iter().find(|it| it.0 == name).map_or(0, |it| it.1)
        };
        let before = of("lora_delta");
        count(const { place("lora_delta") });
        assert!(of("lora_delta") > before);
    }
}
