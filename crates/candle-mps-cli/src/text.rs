//! The report as a reader sees it on a terminal: one topic a line, the answer at the end.

use std::fmt::Display;
use std::io::{self, Write};

use clap::builder::styling::{AnsiColor, Style};

use crate::cpu::Cpu;
use crate::doctor::{Report, Severity, Uses};
use crate::metal::Metal;
use crate::system::System;

pub const TOPIC: Style = Style::new().bold();
pub const FAINT: Style = Style::new().dimmed();
pub const GOOD: Style = AnsiColor::Green.on_default().bold();
pub const BAD: Style = AnsiColor::Red.on_default().bold();
pub const NOTE: Style = AnsiColor::Yellow.on_default().bold();

/// Writes the report with colours; the caller's stream drops those that nobody would see.
pub fn write(report: &Report, out: &mut impl Write) -> io::Result<()> {
    let Report {
        version,
        system,
        cpu,
        metal,
        uses,
        findings,
        ..
    } = report;
    line(out, TOPIC, "candle-mps", version)?;
    line(out, TOPIC, "system", describe_system(system))?;
    line(out, TOPIC, "memory", memory(system))?;
    line(out, TOPIC, "processor", describe_cpu(cpu))?;
    line(out, TOPIC, "  has", list(&cpu.features))?;
    if !cpu.missing_features.is_empty() {
        line(out, FAINT, "  has not", list(&cpu.missing_features))?;
    }
    write_metal(metal, out)?;
    writeln!(out)?;
    line(out, GOOD, "uses", describe_uses(uses))?;
    for finding in findings {
        let (style, topic) = match finding.severity {
            Severity::Problem => (BAD, "problem"),
            Severity::Note => (NOTE, "note"),
        };
        line(
            out,
            style,
            topic,
            format_args!("{}: {}", finding.text, finding.remedy),
        )?;
    }
    Ok(())
}

fn line(out: &mut impl Write, style: Style, topic: &str, text: impl Display) -> io::Result<()> {
    writeln!(out, "{style}{topic:<11}{style:#} {text}")
}

fn write_metal(metal: &Metal, out: &mut impl Write) -> io::Result<()> {
    if metal.devices.is_empty() {
        let text = if metal.built {
            "no device"
        } else {
            "not in this build"
        };
        return line(out, TOPIC, "metal", text);
    }
    for device in &metal.devices {
        let mps = if device.mps {
            "with MPS"
        } else {
            "without MPS"
        };
        let size = gibibytes(device.max_buffer_bytes as u64);
        line(
            out,
            TOPIC,
            "metal",
            format_args!("{}, {mps}, buffers up to {size}", device.name),
        )?;
    }
    Ok(())
}

fn describe_system(system: &System) -> String {
    let System {
        os,
        os_version,
        arch,
        ..
    } = system;
    match os_version {
        Some(version) => format!("{version}, {os} on {arch}"),
        None => format!("{os} on {arch}"),
    }
}

fn memory(system: &System) -> String {
    system.memory_bytes.map_or("unknown".to_owned(), gibibytes)
}

fn gibibytes(bytes: u64) -> String {
    format!("{:.1} GiB", bytes as f64 / f64::from(1 << 30))
}

fn describe_cpu(cpu: &Cpu) -> String {
    let count = |number: Option<usize>, what: &str| {
        number.map(|number| format!("{number} {what}{}", if number == 1 { "" } else { "s" }))
    };
    let parts = [
        cpu.model.clone(),
        count(cpu.physical_cores, "core"),
        count(cpu.logical_cores, "thread"),
    ];
    let parts: Vec<_> = parts.into_iter().flatten().collect();
    if parts.is_empty() {
        "unknown".to_owned()
    } else {
        parts.join(", ")
    }
}

fn list(features: &[&str]) -> String {
    if features.is_empty() {
        "nothing special".to_owned()
    } else {
        features.join(" ")
    }
}

fn describe_uses(uses: &Uses) -> String {
    match uses {
        Uses::Cpu => "the processor, through Candle's CPU backend".to_owned(),
        Uses::Metal { device, mps: true } => format!("{device}, through Metal and MPS"),
        Uses::Metal { device, mps: false } => format!("{device}, through Metal without MPS"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_topic_has_its_line() {
        let mut written = Vec::new();
        write(&Report::of_this_machine(), &mut written).unwrap();
        let text = anstream::adapter::strip_str(std::str::from_utf8(&written).unwrap()).to_string();
        for topic in [
            "candle-mps",
            "system",
            "memory",
            "processor",
            "  has",
            "metal",
            "uses",
        ] {
            assert!(
                text.lines().any(|line| line.starts_with(topic)),
                "{topic} in\n{text}"
            );
        }
    }

    #[test]
    fn what_is_unknown_is_left_out() {
        let mut cpu = Cpu {
            model: None,
            physical_cores: None,
            logical_cores: None,
            features: Vec::new(),
            missing_features: Vec::new(),
        };
        assert_eq!(describe_cpu(&cpu), "unknown");
        cpu.physical_cores = Some(1);
        cpu.logical_cores = Some(2);
        assert_eq!(describe_cpu(&cpu), "1 core, 2 threads");
        assert_eq!(list(&cpu.features), "nothing special");
    }

    #[test]
    fn sizes_are_readable() {
        assert_eq!(gibibytes(24_596_832 * 1024), "23.5 GiB");
    }
}
