//! `candle-mps doctor`: the report on a machine and what follows from it. The other modules say
//! what is there, which path each op takes and what costs time; this one says what would be used, and what
//! is missing for more.

pub mod costs;
pub mod cpu;
pub mod kernels;
pub mod metal;
pub mod paths;
pub mod system;
pub mod text;

use serde::Serialize;

use crate::bench::python;

use self::costs::Cost;
use self::cpu::Cpu;
use self::kernels::Kernels;
use self::metal::Metal;
use self::paths::Path;
use self::system::System;

/// How to get a build that looks for GPUs.
pub const INSTALL: &str = "run `cargo install candle-mps-cli --features metal`";

/// The report, as `--json` prints it.
#[derive(Debug, Serialize)]
pub struct Report {
    /// The version of this program.
    pub version: &'static str,
    pub system: System,
    pub cpu: Cpu,
    pub metal: Metal,
    /// What our own kernels are like on the GPU, if one is used.
    pub kernels: Option<Kernels>,
    /// What the product would run on here.
    pub uses: Uses,
    /// Which path each op takes here.
    pub paths: Vec<Path>,
    /// What costs time today: things to know, never a problem.
    pub costs: Vec<Cost>,
    /// What is missing, worst first.
    pub findings: Vec<Finding>,
    /// Whether no finding is a problem.
    pub ok: bool,
}

/// What work runs on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "path")]
pub enum Uses {
    /// Candle's CPU backend.
    Cpu,
    /// Candle's Metal backend.
    Metal {
        /// The name of the GPU.
        device: String,
        /// Whether large products go to Metal Performance Shaders.
        mps: bool,
    },
}

/// Something that the reader should know.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    pub severity: Severity,
    /// What is so.
    pub text: String,
    /// What to do about it.
    pub remedy: String,
}

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// This build should have it and cannot get it.
    Problem,
    /// More would be possible.
    Note,
}

impl Report {
    /// Looks at the machine that runs this program.
    pub fn of_this_machine() -> Self {
        let mut report = Self::new(
            System::of_this_machine(),
            Cpu::of_this_machine(),
            Metal::of_this_machine(),
            kernels::of_this_machine(),
        );
        report.costs = costs::of_this_machine(&report.cpu);
        report.findings.extend(peers_finding());
        report
    }

    /// What follows from what is there.
    fn new(system: System, cpu: Cpu, metal: Metal, kernels: Option<Kernels>) -> Self {
        let mut findings: Vec<_> = [metal_finding(&system, &metal), cpu_finding(&system, &cpu)]
            .into_iter()
            .flatten()
            .chain(kernels.iter().flat_map(Kernels::findings))
            .collect();
        findings.sort_by_key(|finding| finding.severity);
        let uses = match metal.first() {
            Some(device) if metal.error.is_none() => Uses::Metal {
                device: device.name.clone(),
                mps: device.mps,
            },
            _ => Uses::Cpu,
        };
        let paths = paths::of(&uses);
        let ok = findings
            .iter()
            .all(|finding| finding.severity != Severity::Problem);
        Self {
            version: env!("CARGO_PKG_VERSION"),
            system,
            cpu,
            metal,
            kernels,
            uses,
            paths,
            costs: Vec::new(),
            findings,
            ok,
        }
    }
}

fn metal_finding(system: &System, metal: &Metal) -> Option<Finding> {
    let (severity, text, remedy) = match (metal.first(), &metal.error) {
        (Some(device), Some(error)) => (
            Severity::Problem,
            format!("Candle cannot open {}: {error}", device.name),
            "update macOS, or report it if it is up to date".to_owned(),
        ),
        (Some(device), None) if !device.mps => (
            Severity::Problem,
            format!(
                "Metal Performance Shaders has no kernels for {}",
                device.name
            ),
            "use a Mac with Apple silicon; Candle's own kernels run on this GPU".to_owned(),
        ),
        (Some(_), None) => return None,
        (None, _) if metal.built => (
            Severity::Problem,
            "this build has Metal, but the system offers no device".to_owned(),
            "run it on a Mac itself, not in a virtual machine without a GPU".to_owned(),
        ),
        (None, _) if system.os == "macos" => (
            Severity::Note,
            "this build does not look for GPUs".to_owned(),
            INSTALL.to_owned(),
        ),
        (None, _) => (
            Severity::Note,
            "Metal needs a Mac".to_owned(),
            format!("on one, {INSTALL}"),
        ),
    };
    Some(Finding {
        severity,
        text,
        remedy,
    })
}

fn cpu_finding(system: &System, cpu: &Cpu) -> Option<Finding> {
    let slow = system.arch == "x86_64" && !(cpu.has("avx2") && cpu.has("fma"));
    slow.then(|| Finding {
        severity: Severity::Note,
        text: "this processor shows no AVX2 and FMA, so matrix products are slow".to_owned(),
        remedy: "if it is a virtual machine, let it pass the host's processor through".to_owned(),
    })
}

/// Frameworks to compare with are never installed unasked.
fn peers_finding() -> Option<Finding> {
    let missing = python::missing();
    (!missing.is_empty()).then(|| Finding {
        severity: Severity::Note,
        text: format!(
            "`bench` has no {} to compare with",
            missing.join(" and no ")
        ),
        remedy:
            "`candle-mps bench --install-peers` installs them, and says first how much it downloads"
                .to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::metal::Device;
    use super::*;

    fn system(os: &'static str, arch: &'static str) -> System {
        System {
            os,
            os_version: None,
            arch,
            memory_bytes: None,
        }
    }

    fn cpu(features: &[&'static str]) -> Cpu {
        Cpu {
            model: None,
            physical_cores: None,
            logical_cores: None,
            features: features.to_vec(),
            missing_features: Vec::new(),
        }
    }

    fn metal(built: bool, devices: Vec<Device>) -> Metal {
        Metal {
            built,
            devices,
            error: None,
        }
    }

    fn on_a_mac(metal: Metal) -> Report {
        Report::new(system("macos", "aarch64"), cpu(&["neon"]), metal, None)
    }

    fn device(mps: bool) -> Device {
        Device {
            name: "Apple M2".to_owned(),
            mps,
            max_buffer_bytes: 1 << 33,
        }
    }

    #[test]
    fn a_gpu_with_mps_is_used_and_nothing_is_found() {
        let report = on_a_mac(metal(true, vec![device(true)]));
        assert_eq!(
            report.uses,
            Uses::Metal {
                device: "Apple M2".to_owned(),
                mps: true
            }
        );
        assert_eq!(report.findings, []);
        assert!(report.ok);
    }

    #[test]
    fn a_gpu_without_mps_is_used_and_a_problem() {
        let report = on_a_mac(metal(true, vec![device(false)]));
        assert_eq!(
            report.uses,
            Uses::Metal {
                device: "Apple M2".to_owned(),
                mps: false
            }
        );
        assert!(report.findings[0].text.contains("Apple M2"), "{report:?}");
        assert!(!report.ok);
    }

    #[test]
    fn a_build_with_metal_and_no_device_is_a_problem() {
        let report = on_a_mac(metal(true, Vec::new()));
        assert_eq!(report.uses, Uses::Cpu);
        assert!(!report.ok);
    }

    #[test]
    fn a_gpu_that_candle_cannot_open_is_not_used_and_a_problem() {
        let error = Some("no queue".to_owned());
        let report = on_a_mac(Metal {
            error,
            ..metal(true, vec![device(true)])
        });
        assert_eq!(report.uses, Uses::Cpu);
        assert!(report.findings[0].text.contains("no queue"), "{report:?}");
        assert!(!report.ok);
    }

    #[test]
    fn a_build_without_metal_says_how_to_get_one() {
        let elsewhere = system("linux", "aarch64");
        let elsewhere = Report::new(elsewhere, cpu(&["neon"]), metal(false, Vec::new()), None);
        for report in [on_a_mac(metal(false, Vec::new())), elsewhere] {
            assert_eq!(report.uses, Uses::Cpu);
            assert_eq!(report.findings.len(), 1);
            assert!(
                report.findings[0].remedy.ends_with("--features metal`"),
                "{report:?}"
            );
            assert!(report.ok);
        }
    }

    #[test]
    fn problems_come_before_notes() {
        let report = Report::new(
            system("macos", "x86_64"),
            cpu(&["avx"]),
            metal(true, Vec::new()),
            None,
        );
        let severities: Vec<_> = report
            .findings
            .iter()
            .map(|finding| finding.severity)
            .collect();
        assert_eq!(severities, [Severity::Problem, Severity::Note]);
    }
}
