//! `cargo xtask bench gpu-work`: the work that each op gives the GPU, forward and with its backward pass, beside
//! Candle's own, counted on the simulator: dispatches, command buffers, barriers, waits, and the bytes that kernels
//! touch. And what the goals are, and whether they are met.

mod table;

use std::env;
use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use candle_core::{Device, Result};
use clap::Parser;
use metal_sim::rules;
use metal_sim_ops::goal::{Measured, bytes};
use metal_sim_ops::measure::{self, Latency};
use metal_sim_ops::{Op, Scale, ops};
use table::Table;

const ABOUT: &str = "# Work that ops give the GPU

Ours / Candle's, in f32, counted on the simulated GPU by `cargo xtask bench gpu-work`. Bytes are distinct bytes of
buffers that each dispatch reads and writes. Candle's forward pass is its fused function where one is named, and the
unfused composition otherwise; with a backward pass it is the unfused one, since Candle's fused functions have no
gradient. A backward pass has what Candle's graph adds on both sides: a fill with ones, and for each gradient zeros and
a sum. A byte counts once for a dispatch, however often its kernel reads it: the caches of a GPU take most of that, not
all. The layer's goal is held against the layer as candle-transformers' Llama has it, with a matrix of scores; the row
below it is against Candle's own fused attention, which that Llama does not use.
";

const ABOUT_LATENCIES: &str = "## Time until a forward call returns

The first compiles, unless an op further up needed the same kernels; with the simulator's compiler, in a debug build:
for a comparison of the two, and of the first call with later ones. The GPU's part is not in it.
";

const HEADS: [&str; 12] = [
    "op",
    "first operand",
    "Candle's way",
    "dispatches",
    "buffers",
    "barriers",
    "waits",
    "KiB read",
    "KiB written",
    "of the least",
    "goal",
    "met",
];

/// Counts the work that each op gives the GPU, beside Candle's own path, on the simulated GPU.
///
/// Each cell is ours / Candle's. Candle's forward pass is its fused function where there is one, as named; with a
/// backward pass it is the unfused composition, since Candle's fused functions drop gradients. Bytes are distinct bytes
/// of buffers that each dispatch reads and writes, to the byte; the least of an op is what goes in and what comes out.
#[derive(Parser)]
#[command(name = "gpu-work")]
struct Arguments {
    /// Ops whose name contains one of these; otherwise all
    names: Vec<String>,
    /// Writes the tables, in Markdown, to this file as well
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Leaves out how long first and later calls take
    #[arg(long)]
    no_latency: bool,
    /// How long calls take, and nothing else: what this program asks another process for
    #[arg(long, hide = true)]
    latency: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let done = match arguments.latency {
        true => Device::new_metal(0)
            .and_then(|device| latencies(&wanted(&arguments), &device))
            .map(|table| print!("{table}")),
        false => run(&arguments),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("gpu-work: {error}");
            ExitCode::FAILURE
        }
    }
}

fn wanted(arguments: &Arguments) -> Vec<Op> {
    let wanted = |op: &Op| {
        let named = |name: &String| op.name.contains(name.as_str());
        arguments.names.is_empty() || arguments.names.iter().any(named)
    };
    ops().into_iter().filter(wanted).collect()
}

fn run(arguments: &Arguments) -> Result<()> {
    rules::choose(|rules| rules.traffic = true);
    let ops = wanted(arguments);
    let device = Device::new_metal(0)?;
    let mut text = String::new();
    say(&mut text, ABOUT);
    let (mut met, mut goals) = (0, 0);
    for (training, title) in [(false, "Forward"), (true, "Forward and backward")] {
        let mut table = Table::new(&HEADS);
        for op in &ops {
            let measured = measure::measure(op, training, &device)?;
            let missed = op.goal.missed(&measured);
            if let Some(missed) = &missed {
                goals += 1;
                met += usize::from(missed.is_empty());
            }
            table.row(row(op, &measured, missed));
        }
        say(&mut text, &format!("## {title}\n\n{table}"));
    }
    if !arguments.no_latency {
        let latencies = latencies_elsewhere(arguments)?;
        say(&mut text, &format!("{ABOUT_LATENCIES}\n{latencies}"));
    }
    say(&mut text, &format!("gpu-work: {met} of {goals} goals met"));
    match &arguments.out {
        Some(path) => Ok(std::fs::write(path, &text)?),
        None => Ok(()),
    }
}

fn say(text: &mut String, part: &str) {
    println!("{part}");
    text.push_str(part);
    text.push('\n');
}

fn row(op: &Op, measured: &Measured, missed: Option<Vec<String>>) -> Vec<String> {
    let Measured {
        ours,
        candle,
        least,
        training,
    } = *measured;
    let both = |of: fn(metal_sim::Work) -> u64| format!("{} / {}", of(ours), of(candle));
    let kib = |of: fn(metal_sim::Work) -> u64| {
        let kib = |bytes: u64| bytes as f64 / 1024.;
        format!("{:.1} / {:.1}", kib(of(ours)), kib(of(candle)))
    };
    let ratio = |work| bytes(work) as f64 / least as f64;
    let of_least = match training || op.kernels.is_empty() {
        true => String::new(),
        false => format!("{:.2} / {:.2}", ratio(ours), ratio(candle)),
    };
    let way = match op.fused {
        Some((name, _)) if !training => name,
        _ => "unfused",
    };
    let met = match missed {
        None => String::new(),
        Some(missed) if missed.is_empty() => "yes".to_owned(),
        Some(missed) => format!("no: {}", missed.join(", ")),
    };
    vec![
        op.name.to_owned(),
        (op.operands)(Scale::Bench)[0].shape(),
        way.to_owned(),
        both(|work| work.dispatches),
        both(|work| work.command_buffers),
        both(|work| work.barriers),
        both(|work| work.cpu_waits),
        kib(|work| work.bytes_read),
        kib(|work| work.bytes_written),
        of_least,
        op.goal.text(training),
        met,
    ]
}

/// The same in a process without the detector, and with nothing compiled.
fn latencies_elsewhere(arguments: &Arguments) -> Result<String> {
    let folder = env::temp_dir().join(format!("gpu-work-{}", std::process::id()));
    let output = Command::new(env::current_exe()?)
        .args(&arguments.names)
        .arg("--latency")
        .env("METAL_SIM_CACHE", &folder)
        .stderr(Stdio::inherit())
        .output();
    // What is left in a folder for such things harms nobody.
    let _ = std::fs::remove_dir_all(&folder);
    let output = output?;
    match output.status.success() {
        true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        false => candle_core::bail!("measuring how long calls take: {}", output.status),
    }
}

/// First and later calls. The first compiles its kernels, unless an op above it in the table has.
fn latencies(ops: &[Op], device: &Device) -> Result<Table> {
    let mut table = Table::new(&["op", "Candle's way", "first, ms", "later, µs"]);
    for op in ops {
        let (way, call) = op.fused.unwrap_or(("unfused", op.unfused));
        let (ours, candle) = (
            measure::latency(op.ours, op, device)?,
            measure::latency(call, op, device)?,
        );
        let both = |of: fn(Latency) -> Duration, unit: f64| {
            let [ours, candle] = [ours, candle].map(|it| of(it).as_secs_f64() * unit);
            format!("{ours:.1} / {candle:.1}")
        };
        table.row(vec![
            op.name.to_owned(),
            way.to_owned(),
            both(|it| it.first, 1e3),
            both(|it| it.later, 1e6),
        ]);
    }
    Ok(table)
}
