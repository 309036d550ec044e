//! The report as a reader sees it on a terminal: one topic a line, the answer at the end.

use std::fmt::Display;
use std::io::{self, Write};

use clap::builder::styling::Style;

use super::cpu::Cpu;
use super::kernels::Kernels;
use super::metal::Metal;
use super::paths::Path;
use super::system::System;
use super::{Report, Severity, Uses};
use crate::style::{BAD, FAINT, GOOD, NOTE, TOPIC};

/// Writes the report with colours; the caller's stream drops those that nobody would see.
pub fn write(report: &Report, out: &mut impl Write) -> io::Result<()> {
    let Report {
        version,
        system,
        cpu,
        metal,
        kernels,
        uses,
        paths,
        costs,
        findings,
        ..
    } = report;
    line(out, TOPIC, "candle-mps", version)?;
    line(out, TOPIC, "system", system)?;
    line(out, TOPIC, "memory", memory(system))?;
    line(out, TOPIC, "processor", describe_cpu(cpu))?;
    line(out, TOPIC, "  has", list(&cpu.features))?;
    if !cpu.missing_features.is_empty() {
        line(out, FAINT, "  has not", list(&cpu.missing_features))?;
    }
    write_metal(metal, out)?;
    if let Some(kernels) = kernels {
        paragraph(out, TOPIC, "  kernels", &kernels.describe())?;
    }
    writeln!(out)?;
    line(out, GOOD, "uses", describe_uses(uses))?;
    for (at, path) in paths.iter().enumerate() {
        write_path(path, &paths[..at], out)?;
    }
    if let Some(kernels) = kernels {
        write_routes(kernels, out)?;
    }
    writeln!(out)?;
    for cost in costs {
        paragraph(out, NOTE, "cost", &cost.text)?;
        if let Some(microseconds) = cost.microseconds {
            let each = format!("{microseconds:.1} us each time, measured now");
            paragraph(out, NOTE, "", &each)?;
        }
        arrow(out, &cost.remedy)?;
    }
    for finding in findings {
        let (style, topic) = match finding.severity {
            Severity::Problem => (BAD, "problem"),
            Severity::Note => (NOTE, "note"),
        };
        paragraph(out, style, topic, &finding.text)?;
        arrow(out, &finding.remedy)?;
    }
    Ok(())
}

fn arrow(out: &mut impl Write, text: &str) -> io::Result<()> {
    paragraph(out, FAINT, "", &format!("-> {text}"))
}

/// The ops of a path, unless a path before has named the same ones.
fn write_path(path: &Path, before: &[Path], out: &mut impl Write) -> io::Result<()> {
    let sorted = |path: &Path| {
        let mut ops = path.ops.clone();
        ops.sort_unstable();
        ops
    };
    let same = before.iter().find(|it| sorted(it) == sorted(path));
    let ops = match same {
        Some(same) => format!("the same ops as on the {}", same.device),
        None => path.ops.join(" "),
    };
    paragraph(out, TOPIC, &format!("  {}", path.device), &ops)?;
    arrow(out, &format!("{}: {}", path.route, path.why))
}

/// The table of routes on Metal, and what overrules it.
fn write_routes(kernels: &Kernels, out: &mut impl Write) -> io::Result<()> {
    let mut topic = "  routes";
    for row in &kernels.table {
        paragraph(out, TOPIC, topic, &row.describe())?;
        arrow(out, &row.why)?;
        topic = "";
    }
    if !kernels.forced.is_empty() {
        let forced = format!(
            "CANDLE_MPS_ROUTE overrules it: {}",
            kernels.forced.join(" ")
        );
        paragraph(out, NOTE, topic, &forced)?;
    }
    Ok(())
}

/// A line, folded where a terminal of 80 columns ends.
fn paragraph(out: &mut impl Write, style: Style, topic: &str, text: &str) -> io::Result<()> {
    const WIDTH: usize = 80 - 12;
    let mut topic = topic;
    let mut folded = String::new();
    for word in text.split(' ') {
        if !folded.is_empty() && folded.chars().count() + word.chars().count() >= WIDTH {
            line(out, style, topic, &folded)?;
            topic = "";
            folded.clear();
        }
        if !folded.is_empty() {
            folded.push(' ');
        }
        folded.push_str(word);
    }
    line(out, style, topic, folded)
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
    fn paragraphs_fit_a_terminal() {
        let mut written = Vec::new();
        paragraph(
            &mut written,
            Style::new(),
            "cost",
            &"seven words in a row make this ".repeat(9),
        )
        .unwrap();
        let text = String::from_utf8(written).unwrap();
        assert!(text.lines().count() > 3, "{text}");
        assert!(text.lines().all(|line| line.len() <= 80), "{text}");
        assert_eq!(text.matches("cost").count(), 1, "{text}");
    }

    #[test]
    fn sizes_are_readable() {
        assert_eq!(gibibytes(24_596_832 * 1024), "23.5 GiB");
    }
}
