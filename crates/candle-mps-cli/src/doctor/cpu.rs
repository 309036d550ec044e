//! What the processor is: its name, its cores, and those of its instruction sets that a matrix
//! kernel can use.

use std::collections::BTreeSet;
use std::fs;
use std::thread;

use serde::Serialize;

use super::system::ask;

/// The processor.
#[derive(Debug, Serialize)]
pub struct Cpu {
    /// Its name, where the system tells it.
    pub model: Option<String>,
    /// Cores that share nothing, where the system tells.
    pub physical_cores: Option<usize>,
    /// Threads that this process may run at once.
    pub logical_cores: Option<usize>,
    /// Instruction sets that are there, narrowest first.
    pub features: Vec<&'static str>,
    /// Instruction sets of the same architecture that are not.
    pub missing_features: Vec<&'static str>,
}

impl Cpu {
    /// The processor that runs this program.
    pub fn of_this_machine() -> Self {
        let (present, missing): (Vec<_>, Vec<_>) =
            detect().into_iter().partition(|(_, present)| *present);
        let names = |features: Vec<(&'static str, bool)>| {
            features.into_iter().map(|(name, _)| name).collect()
        };
        Self {
            model: model(),
            physical_cores: physical_cores(),
            logical_cores: thread::available_parallelism().ok().map(Into::into),
            features: names(present),
            missing_features: names(missing),
        }
    }

    /// Whether an instruction set is there.
    pub fn has(&self, feature: &str) -> bool {
        self.features.contains(&feature)
    }
}

/// Pairs each name with the answer of the standard library's macro of that name's architecture.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
macro_rules! detected {
    ($is_detected:ident: $($name:tt)*) => {
        vec![$(($name, std::arch::$is_detected!($name))),*]
    };
}

#[cfg(target_arch = "x86_64")]
fn detect() -> Vec<(&'static str, bool)> {
    detected!(is_x86_feature_detected:
        "avx" "f16c" "fma" "avx2" "avxvnni"
        "avx512f" "avx512bw" "avx512vl" "avx512vnni" "avx512bf16" "avx512fp16"
    )
}

#[cfg(target_arch = "aarch64")]
fn detect() -> Vec<(&'static str, bool)> {
    detected!(is_aarch64_feature_detected:
        "neon" "dotprod" "fp16" "fhm" "bf16" "i8mm" "sve" "sve2"
    )
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn detect() -> Vec<(&'static str, bool)> {
    Vec::new()
}

fn model() -> Option<String> {
    if cfg!(target_os = "linux") {
        fs::read_to_string("/proc/cpuinfo")
            .ok()
            .and_then(|text| model_in(&text))
    } else if cfg!(target_os = "macos") {
        ask("sysctl", &["-n", "machdep.cpu.brand_string"])
    } else {
        std::env::var("PROCESSOR_IDENTIFIER").ok()
    }
}

/// The name in `/proc/cpuinfo`; ARM machines have none there.
fn model_in(cpuinfo: &str) -> Option<String> {
    let line = cpuinfo
        .lines()
        .find(|line| line.starts_with("model name"))?;
    let (_, name) = line.split_once(':')?;
    Some(name.trim().to_owned())
}

fn physical_cores() -> Option<usize> {
    if cfg!(target_os = "macos") {
        return ask("sysctl", &["-n", "hw.physicalcpu"])?.parse().ok();
    }
    // Threads of one core have the same list of siblings.
    let processors = fs::read_dir("/sys/devices/system/cpu")
        .ok()?
        .filter_map(Result::ok);
    let siblings = processors.filter_map(|processor| {
        fs::read_to_string(processor.path().join("topology/thread_siblings_list")).ok()
    });
    let cores: BTreeSet<_> = siblings.collect();
    (!cores.is_empty()).then_some(cores.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_is_read_from_cpuinfo() {
        let cpuinfo = "processor\t: 0\nmodel\t\t: 17\nmodel name\t: AMD EPYC 9254 24-Core \n\n";
        assert_eq!(model_in(cpuinfo).as_deref(), Some("AMD EPYC 9254 24-Core"));
        assert_eq!(model_in("processor\t: 0\nCPU part\t: 0xd4f\n"), None);
    }

    #[test]
    fn a_feature_is_either_there_or_missing() {
        let cpu = Cpu::of_this_machine();
        assert_eq!(
            cpu.features.len() + cpu.missing_features.len(),
            detect().len()
        );
        assert!(cpu.features.iter().all(|feature| cpu.has(feature)));
        assert!(!cpu.missing_features.iter().any(|feature| cpu.has(feature)));
    }

    #[test]
    #[cfg(target_arch = "x86_64")]
    fn wider_sets_come_with_the_narrower_ones() {
        let cpu = Cpu::of_this_machine();
        assert!(!cpu.has("avx512f") || cpu.has("avx2"), "{cpu:?}");
        assert!(!cpu.has("avx2") || cpu.has("avx"), "{cpu:?}");
    }

    #[test]
    #[cfg(target_arch = "aarch64")]
    fn every_64_bit_arm_has_neon() {
        assert!(Cpu::of_this_machine().has("neon"));
    }
}
