//! The ops that keep their goals. The others are in the table of `cargo xtask bench gpu-work`, with what they miss.

use candle_core::Device;
use metal_sim::rules;
use metal_sim_ops::goal::bytes;
use metal_sim_ops::{measure, ops};

/// Ops whose kernels are written.
const KEPT: [&str; 2] = ["softmax", "log_softmax"];

#[test]
fn goals_that_are_kept_stay_kept() {
    rules::choose(|rules| rules.traffic = true);
    let device = Device::new_metal(0).unwrap();
    let all = ops();
    for name in KEPT {
        let op = all.iter().find(|op| op.name == name).expect("an op");
        for training in [false, true] {
            let measured = measure::measure(op, training, &device).unwrap();
            if !training {
                // Rows are read and written whole, and parameters are no traffic.
                assert_eq!(bytes(measured.ours), measured.least, "{name}");
            }
            if let Some(missed) = op.goal.missed(&measured) {
                assert!(missed.is_empty(), "{name}: {missed:?}: {measured:?}");
            }
        }
    }
}
