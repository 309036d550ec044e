//! Every promise of Metal and MPS, kept by the simulator; as a checker it also reports what
//! Apple leaves undefined, and names each rule.

use candle_mps_conformance::{Filter, child, harness};
use metal_sim as _;
use std::process::{Command, ExitCode};

/// How many devices the simulator has; read when it is loaded, before `main`.
const DEVICES: &str = "METAL_SIM_DEVICES";

fn main() -> ExitCode {
    child();
    if std::env::var_os(DEVICES).is_some() {
        return harness(Filter { checker: true });
    }
    // Rules about two devices need a second one, so this starts itself again with two.
    let program = std::env::current_exe().expect("the test's own path");
    let again = Command::new(program)
        .args(std::env::args_os().skip(1))
        .env(DEVICES, "2")
        .status();
    match again.expect("the test starts again").success() {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}
