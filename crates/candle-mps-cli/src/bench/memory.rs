//! `bench --memory`: the peak memory of a training step, Candle's and ours, each in a process of its own, because
//! a process tells its peak only. On systems that tell it in `/proc`, so far.

use std::fs;
use std::io::{self, Write};

use serde::Serialize;

use super::device::Place;
use super::peers;
use super::process::Process;
use super::protocol::{Answer, Question};
use super::turns::Peer;
use crate::results::Pass;
use crate::results::bench::Regime;

/// The step: long enough that its matrices of scores outgrow the weights.
const SIZES: [usize; 3] = [4, 512, 1024];

/// What was found, in MiB; none where the system does not tell.
#[derive(Debug, Serialize)]
struct Peaks {
    step: &'static str,
    candle_mib: Option<f64>,
    ours_mib: Option<f64>,
    /// Ours by Candle's.
    part: Option<f64>,
}

/// Measures and prints. False if there is no answer.
pub fn run(json: bool, out: &mut impl Write) -> io::Result<bool> {
    let [candle_mib, ours_mib] = ["candle", "ours"].map(peak);
    let part = ours_mib.zip(candle_mib).map(|(ours, candle)| ours / candle);
    let peaks = Peaks {
        step: "llama 4x512x1024",
        candle_mib,
        ours_mib,
        part,
    };
    if json {
        serde_json::to_writer_pretty(&mut *out, &peaks)?;
        writeln!(out)?;
        return Ok(part.is_some());
    }
    let mib = |peak: Option<f64>| peak.map_or("unknown".to_owned(), |mib| format!("{mib:.0} MiB"));
    writeln!(
        out,
        "peak memory of a training step, {}: Candle {}, ours {}: {}",
        peaks.step,
        mib(candle_mib),
        mib(ours_mib),
        part.map_or("this system does not tell".to_owned(), |part| format!(
            "{part:.2}"
        ))
    )?;
    Ok(part.is_some())
}

fn peak(id: &str) -> Option<f64> {
    let entry = peers::all().into_iter().find(|entry| entry.id == id)?;
    let mut process = Process::start(&entry.program.ok()?).ok()?;
    let step = Question {
        op: "llama".to_owned(),
        pass: Pass::Step,
        sizes: SIZES.to_vec(),
        dtype: "f32".to_owned(),
        regime: Regime::Latency,
        device: Place::Cpu,
        results: 1,
    };
    match process.ask(&step).ok()? {
        Answer::Done { .. } => {
            let status = fs::read_to_string(format!("/proc/{}/status", process.id())).ok()?;
            peak_in(&status)
        }
        _ => None,
    }
}

/// The peak in `/proc/PID/status`, in MiB.
fn peak_in(status: &str) -> Option<f64> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: f64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib / 1024.)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_peak_is_read_from_status() {
        let text = "Name:\tcandle-mps\nVmHWM:\t    2048 kB\nVmRSS:\t 1024 kB\n";
        assert_eq!(peak_in(text), Some(2.));
        assert_eq!(peak_in("Name:\tcandle-mps\n"), None);
    }
}
