//! What the machine is apart from its processors: the operating system and the memory.

use std::env::consts::{ARCH, OS};
use std::fmt;
use std::fs;
use std::process::Command;

use serde::Serialize;

/// The operating system and the memory.
#[derive(Debug, Serialize)]
pub struct System {
    /// As Rust names it: `macos`, `linux`, ...
    pub os: &'static str,
    /// As the system names itself.
    pub os_version: Option<String>,
    /// As Rust names it: `aarch64`, `x86_64`, ...
    pub arch: &'static str,
    /// All memory; a GPU that shares it with the processor has no other.
    pub memory_bytes: Option<u64>,
}

impl System {
    /// The system that runs this program.
    pub fn of_this_machine() -> Self {
        Self {
            os: OS,
            os_version: os_version(),
            arch: ARCH,
            memory_bytes: memory_bytes(),
        }
    }
}

/// `Debian GNU/Linux 12 (bookworm), linux on x86_64`.
impl fmt::Display for System {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let Self {
            os,
            os_version,
            arch,
            ..
        } = self;
        match os_version {
            Some(version) => write!(f, "{version}, {os} on {arch}"),
            None => write!(f, "{os} on {arch}"),
        }
    }
}

/// What another program answers: its trimmed output, or `None` if it is missing, fails or says
/// nothing.
pub fn ask(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).output().ok()?;
    let answer = String::from_utf8(output.stdout).ok()?;
    let answer = answer.trim();
    (output.status.success() && !answer.is_empty()).then(|| answer.to_owned())
}

fn os_version() -> Option<String> {
    if cfg!(target_os = "macos") {
        return Some(format!("macOS {}", ask("sw_vers", &["-productVersion"])?));
    }
    fs::read_to_string("/etc/os-release")
        .ok()
        .and_then(|text| name_in(&text))
}

/// The name in `/etc/os-release`.
fn name_in(os_release: &str) -> Option<String> {
    let name = os_release
        .lines()
        .find_map(|line| line.strip_prefix("PRETTY_NAME="))?;
    Some(name.trim_matches(['"', '\'']).to_owned())
}

fn memory_bytes() -> Option<u64> {
    if cfg!(target_os = "macos") {
        return ask("sysctl", &["-n", "hw.memsize"])?.parse().ok();
    }
    fs::read_to_string("/proc/meminfo")
        .ok()
        .and_then(|text| total_in(&text))
}

/// The total in `/proc/meminfo`.
fn total_in(meminfo: &str) -> Option<u64> {
    let total = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kibibytes: u64 = total.trim().strip_suffix(" kB")?.trim().parse().ok()?;
    kibibytes.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_is_read_from_os_release() {
        let text = "ID=debian\nPRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\nVERSION_ID=\"12\"\n";
        assert_eq!(
            name_in(text).as_deref(),
            Some("Debian GNU/Linux 12 (bookworm)")
        );
        assert_eq!(name_in("ID=other\n"), None);
    }

    #[test]
    fn the_total_is_read_from_meminfo() {
        let text = "MemTotal:       24596832 kB\nMemFree:        21000000 kB\n";
        assert_eq!(total_in(text), Some(24_596_832 * 1024));
        assert_eq!(total_in("MemTotal: many kB\n"), None);
        assert_eq!(total_in(""), None);
    }

    #[test]
    fn programs_that_are_missing_or_fail_have_no_answer() {
        assert_eq!(ask("no-such-program", &[]), None);
        assert_eq!(ask("false", &[]), None);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn linux_tells_its_memory() {
        assert!(
            System::of_this_machine()
                .memory_bytes
                .is_some_and(|bytes| bytes > 0)
        );
    }
}
