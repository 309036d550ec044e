//! Every promise, against the Metal of this machine.

use candle_mps_conformance::{Filter, child, harness};

fn main() -> std::process::ExitCode {
    child();
    harness(Filter::default())
}
