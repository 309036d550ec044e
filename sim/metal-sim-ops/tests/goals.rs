//! Every op keeps what the table of `cargo xtask bench gpu-work` promises of it.

use candle_core::Device;
use metal_sim::rules;
use metal_sim_ops::{Goal, measure, ops};

#[test]
fn goals_are_kept() {
    rules::choose(|rules| rules.traffic = true);
    let device = Device::new_metal(0).unwrap();
    let mut promised = 0;
    let mut broken = Vec::new();
    for op in ops().iter().filter(|op| op.goal != Goal::None) {
        // Only the layer promises something of its training.
        for training in [false, true] {
            if training && op.goal != Goal::HalfOfCandle {
                continue;
            }
            let measured = measure::measure(op, training, &device).unwrap();
            let missed = op.goal.missed(&measured).expect("a promise");
            promised += 1;
            if !missed.is_empty() {
                broken.push(format!("{}, training {training}: {missed:?}", op.name));
            }
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
    assert!(promised >= 20, "{promised}");
}
