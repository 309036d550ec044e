//! The rows as a reader sees them while they are measured: a line each.

use std::io::{self, Write};

use clap::builder::styling::Style;

use super::device::Place;
use crate::report::figures::digits;
use crate::results::bench::{Bench, Cell, Limits, Measured, Peer, Regime, Row, Verdict};
use crate::style::{BAD, FAINT, GOOD, PLAIN, TOPIC};

/// What the signs behind a ratio mean.
const SIGNS: &str = "\
ratio: the peer's time by ours, paired within each round; above 1 we are faster. `=` no difference,\n\
`?` unclear, the interval has both sides; `*` another run, on the project's machine.\n\
latency: one call, finished. chain: one call of 16, each on the result of the one before.\n\
encode: until the call returns, its work encoded, not necessarily committed to the GPU.\n\
first: the first call of the process, for functions alone and forward.\n\
of limit: the rate by that of multiply-adds on registers or of a copy, whichever is nearer.\n\
CPU: threads kept busy by ours.";

/// What is measured here and on what.
pub fn heading(bench: &Bench, out: &mut impl Write) -> io::Result<()> {
    let machine = &bench.machine;
    writeln!(
        out,
        "{TOPIC}{}{TOPIC:#}, {} threads, {}",
        machine.processor, machine.threads, machine.system
    )?;
    let copies: Vec<_> = bench
        .limits
        .copies
        .iter()
        .map(|(bytes, rate)| format!("{rate:.0} GB/s at {}", size(*bytes)))
        .collect();
    writeln!(
        out,
        "limits measured: multiply-adds {:.0} GFLOP/s in f32; copies {}",
        bench.limits.gflops,
        copies.join(", ")
    )?;
    for peer in &bench.peers {
        let Peer {
            id, title, absent, ..
        } = peer;
        match absent {
            None => writeln!(out, "  {id:<16} {title}")?,
            Some(why) => writeln!(out, "  {FAINT}{id:<16} {title}: {why}{FAINT:#}")?,
        }
    }
    writeln!(out, "{FAINT}{SIGNS}{FAINT:#}")
}

/// The names of the columns of the rows on a device.
pub fn columns(device: Place, bench: &Bench, out: &mut impl Write) -> io::Result<()> {
    let on = match (device, &bench.machine.gpu) {
        (Place::Metal, Some(gpu)) => format!("on {device}, {gpu}"),
        _ => format!("on {device}"),
    };
    write!(
        out,
        "\n{TOPIC}{on:<37} {:<7} {:>10} {:>6} {:>12} {:>8} {:>4}",
        "regime", "ours", "spread", "rate", "of limit", "CPU"
    )?;
    if device == Place::Metal {
        write!(out, " {:>FIRST$}", "first")?;
    }
    for peer in bench.peers.iter().skip(1) {
        write!(out, " {:>width$}", peer.id, width = column(peer))?;
    }
    writeln!(out, "{TOPIC:#}")
}

/// How wide the times of first calls are.
const FIRST: usize = 8;

fn column(peer: &Peer) -> usize {
    peer.id.len().max(8)
}

fn size(bytes: u64) -> String {
    match bytes {
        0..1_048_576 => format!("{} KiB", bytes >> 10),
        _ => format!("{} MiB", bytes >> 20),
    }
}

fn on_metal(row: &Row) -> bool {
    row.device == Place::Metal.to_string()
}

/// One row.
pub fn line(row: &Row, bench: &Bench, out: &mut impl Write) -> io::Result<()> {
    write!(out, "{:<37} {:<7} ", row.name(), row.regime)?;
    match row.cells.first().and_then(Cell::times) {
        Some(ours) => {
            let (rate, share) = rate(row, ours, &bench.limits);
            let cpu = ours
                .cpu
                .map_or("?".to_owned(), |cpu| format!("{:.1}", cpu / ours.median));
            write!(
                out,
                "{:>10} {:>5.1}% {rate:>12} {share:>8} {cpu:>4}",
                seconds(ours.median),
                100. * ours.spread(),
            )?;
        }
        None => write!(
            out,
            "{:>10} {:>33}",
            row.cells.first().map_or("-", word),
            ""
        )?,
    }
    if on_metal(row) {
        let ours = row.cells.first().and_then(Cell::times);
        let first = ours.and_then(|ours| ours.first).map(seconds);
        write!(out, " {:>FIRST$}", first.as_deref().unwrap_or("-"))?;
    }
    for (cell, peer) in row.cells.iter().zip(&bench.peers).skip(1) {
        let (style, text) = ratio(cell);
        let width = column(peer);
        write!(out, " {style}{text:>width$}{style:#}")?;
    }
    writeln!(out)
}

/// The ratio of a cell with its sign, or what stands in its place.
fn ratio(cell: &Cell) -> (Style, String) {
    let Some(ratio) = cell.times().and_then(|times| times.ratio) else {
        return (FAINT, word(cell).to_owned());
    };
    let (style, sign) = match ratio.verdict {
        Verdict::Faster => (GOOD, " "),
        Verdict::Slower => (BAD, " "),
        Verdict::NoDifference => (PLAIN, "="),
        Verdict::Unclear => (PLAIN, "?"),
    };
    let other = if matches!(cell, Cell::AnotherRun(_)) {
        "*"
    } else {
        ""
    };
    (style, format!("{:.2}{sign}{other}", ratio.times))
}

/// What a cell without a ratio is called.
fn word(cell: &Cell) -> &'static str {
    match cell {
        Cell::Measured(_) => "measured",
        Cell::AnotherRun(_) => "other",
        Cell::Unfinished { .. } => "unfinish",
        Cell::Failed { .. } => "failed",
        Cell::None => "-",
        Cell::NotBuilt => "not built",
    }
}

/// GB/s or GFLOP/s, whichever is nearer to its limit, and how near. The limits are the processor's; of a GPU, what is
/// larger is shown.
fn rate(row: &Row, ours: &Measured, limits: &Limits) -> (String, String) {
    let bytes = row.bytes / ours.median / 1e9;
    let flops = row.flops / ours.median / 1e9;
    if row.regime == Regime::Encode {
        return ("-".to_owned(), "-".to_owned());
    }
    if on_metal(row) {
        let rate = match flops > bytes {
            true => format!("{flops:.0} GFLOP/s"),
            false => format!("{bytes:.1} GB/s"),
        };
        return (rate, "-".to_owned());
    }
    let of_copy = limits.bandwidth(row.bytes).map(|limit| bytes / limit);
    let of_registers = (limits.gflops > 0.).then(|| flops / limits.gflops);
    let (text, share) = if of_registers > of_copy {
        (format!("{flops:.0} GFLOP/s"), of_registers)
    } else {
        (format!("{bytes:.1} GB/s"), of_copy)
    };
    let share = share.map_or("?".to_owned(), |share| format!("{:.0}%", 100. * share));
    (text, share)
}

/// A time with three digits.
pub fn seconds(seconds: f64) -> String {
    let (value, unit) = match seconds {
        0.0..1e-3 => (seconds * 1e6, "us"),
        1e-3..1. => (seconds * 1e3, "ms"),
        _ => (seconds, "s"),
    };
    format!("{} {unit}", digits(value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::Pass;
    use crate::results::bench::Ratio;

    fn measured(median: f64, ratio: Option<(f64, Verdict)>) -> Measured {
        Measured {
            median,
            quartiles: [0.9 * median, 1.1 * median],
            samples: 9,
            cpu: Some(2. * median),
            first: Some(0.5),
            ratio: ratio.map(|(times, verdict)| Ratio {
                times,
                low: times - 0.1,
                high: times + 0.1,
                verdict,
            }),
        }
    }

    fn words(row: &Row, bench: &Bench) -> Vec<String> {
        let mut out = Vec::new();
        line(row, bench, &mut out).unwrap();
        let text = anstream::adapter::strip_str(std::str::from_utf8(&out).unwrap()).to_string();
        text.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn a_row_shows_rate_limit_and_every_peer() {
        let peer = |id: &str| Peer {
            id: id.to_owned(),
            title: id.to_owned(),
            baseline: false,
            absent: None,
        };
        let bench = Bench {
            limits: Limits {
                gflops: 100.,
                copies: vec![(1 << 20, 50.)],
            },
            peers: ["ours", "a", "b", "c", "d", "e"].map(peer).to_vec(),
            ..Bench::default()
        };
        let row = Row {
            op: "softmax".to_owned(),
            pass: Pass::Backward,
            shape: "128x1024".to_owned(),
            dtype: "f32".to_owned(),
            regime: Regime::Latency,
            device: "cpu".to_owned(),
            bytes: 1e6,
            flops: 0.,
            cells: vec![
                Cell::Measured(measured(40e-6, None)),
                Cell::Measured(measured(80e-6, Some((2., Verdict::Faster)))),
                Cell::Measured(measured(40e-6, Some((1., Verdict::NoDifference)))),
                Cell::AnotherRun(measured(20e-6, Some((0.5, Verdict::Slower)))),
                Cell::Unfinished { why: String::new() },
                Cell::None,
            ],
        };
        assert_eq!(
            words(&row, &bench),
            [
                "softmax", "backward", "128x1024", "latency", "40.0", "us", "10.0%", "25.0",
                "GB/s", "50%", "2.0", "2.00", "1.00=", "0.50", "*", "unfinish", "-"
            ]
        );
        // The limits are the processor's; a GPU compiles, and may only be handed the work.
        let metal = Row {
            device: "metal".to_owned(),
            ..row
        };
        let shown = words(&metal, &bench).join(" ");
        assert!(shown.contains("25.0 GB/s - 2.0 500 ms 2.00"), "{shown}");
        let encode = Row {
            regime: Regime::Encode,
            ..metal
        };
        let shown = words(&encode, &bench).join(" ");
        assert!(shown.contains("10.0% - - 2.0 500 ms 2.00"), "{shown}");
        let mut out = Vec::new();
        columns(Place::Metal, &bench, &mut out).unwrap();
        assert!(String::from_utf8(out).unwrap().contains("first"));
        let mut out = Vec::new();
        heading(&bench, &mut out).unwrap();
        assert!(String::from_utf8(out).unwrap().contains("50 GB/s at 1 MiB"));
    }

    #[test]
    fn times_have_three_digits() {
        assert_eq!(seconds(4.2e-7), "0.42 us");
        assert_eq!(seconds(31.44e-6), "31.4 us");
        assert_eq!(seconds(0.2531), "253 ms");
        assert_eq!(seconds(2.), "2.00 s");
    }
}
