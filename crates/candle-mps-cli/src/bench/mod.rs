//! `candle-mps bench`: how fast the ops are beside Candle, PyTorch and MLX, in turns, in one run.
//!
//! `plan` says which rows, `peers` who takes part, `turns` how samples are taken and `stats` what they say.
//! What goes wrong with one peer or one row is noted and the rest goes on; results are written after every
//! row.

mod device;
mod limits;
mod memory;
mod ops;
mod peers;
mod plan;
mod process;
mod protocol;
pub mod python;
mod seats;
pub mod stats;
mod table;
mod turns;
pub mod worker;

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use self::device::{Asked, Place};
use self::peers::Entry;
use self::plan::Planned;
use self::protocol::Question;
use self::seats::Seat;
use self::turns::Effort;
use crate::results::bench::{Bench, Cell, Row};
use crate::results::{self, BENCH, FOLDER, Machine};

pub const EXAMPLES: &str = "\
Examples:
  candle-mps bench                              the usual rows: some 60 of the processor, 75 of a GPU
  candle-mps bench --device metal               only those on the GPU
  candle-mps bench --ops softmax,lora           only these ops
  candle-mps bench --against candle,pytorch     only these peers
  candle-mps bench --shapes mine.toml           rows of one's own; --list shows what can be in them
  candle-mps bench --install-peers              PyTorch and MLX; says first what is downloaded

Environment:
  CANDLE_MPS_PYTORCH, CANDLE_MPS_MLX            a Python that has PyTorch, MLX
  CANDLE_MPS_X86_V4                             this program, built with the feature gemm-x86-v4";

pub const TIME: &str = "\
Time:
  A row takes --seconds, and before that each peer makes operands and shows that it finishes: as long again
  where calls are slow, and on a GPU, where sides start anew and compile for their first calls. The usual rows
  take about three minutes on the processor and, by estimate, five to ten on a GPU.";

pub const EXIT_STATUS: &str = "\
Exit status:
  0  all rows were measured
  1  something failed on the way; the rest is there, and marked
  2  the command line or the shapes file was wrong";

#[derive(clap::Args)]
pub struct Arguments {
    /// Only these ops, separated by commas
    #[arg(long, value_delimiter = ',', value_name = "OP")]
    ops: Vec<String>,
    /// Where to measure [default: cpu, and metal after it where this build finds a GPU]
    #[arg(long, value_enum, value_name = "DEVICE")]
    device: Option<Asked>,
    /// Only these peers, separated by commas; --list shows them
    #[arg(long, value_delimiter = ',', value_name = "PEER")]
    against: Vec<String>,
    /// The rows to measure
    #[arg(long, value_name = "FILE")]
    shapes: Option<PathBuf>,
    /// How long to measure each row
    #[arg(long, default_value_t = 1.0, value_name = "SECONDS", value_parser = positive)]
    seconds: f64,
    /// The folder for the results
    #[arg(long, default_value = FOLDER, value_name = "FOLDER")]
    out: PathBuf,
    /// Print the results as JSON
    #[arg(long)]
    json: bool,
    /// Install PyTorch and MLX into a folder of their own, and measure nothing
    #[arg(long)]
    install_peers: bool,
    /// On a GPU, start PyTorch and MLX anew for their first calls, too; some seconds each time
    #[arg(long)]
    first_calls: bool,
    /// Measure the peak memory of a training step instead, each side in a process of its own
    #[arg(long)]
    memory: bool,
    /// Show the ops, their sizes and the peers, and measure nothing
    #[arg(long)]
    list: bool,
}

fn positive(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(seconds) if (0.0..=3600.).contains(&seconds) => Ok(seconds),
        _ => Err("a number of seconds up to 3600 is needed".to_owned()),
    }
}

/// Why nothing was measured.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No op of that name is left.
    #[error("{0}")]
    Usage(String),
    /// The file cannot be read, or is none of shapes.
    #[error("{}: {why}", path.display())]
    Shapes { path: PathBuf, why: String },
    /// Metal was asked for, and there is none.
    #[error(
        "cannot measure on Metal: {0}. On a Mac, run `cargo install candle-mps-cli --features metal`; \
         --device cpu measures the processor"
    )]
    NoMetal(String),
    /// Python is not there or too old.
    #[error("cannot install the peers: {0}")]
    Install(String),
    /// Nobody reads.
    #[error(transparent)]
    Output(#[from] io::Error),
}

impl Error {
    /// Whether the command line was wrong, rather than the machine.
    pub fn is_usage(&self) -> bool {
        matches!(self, Self::Usage(_) | Self::Shapes { .. })
    }
}

/// Runs it. False if something failed on the way.
pub fn run(arguments: &Arguments) -> Result<bool, Error> {
    if arguments.install_peers {
        return python::install().map_err(Error::Install);
    }
    let mut out = anstream::stdout();
    if arguments.list {
        list(&mut out)?;
        return Ok(true);
    }
    if arguments.memory {
        return memory::run(arguments.json, &mut out).map_err(Error::Output);
    }
    let asked = Asked::or_usual(arguments.device)?;
    let (rows, mut problems) = planned(arguments, asked)?;
    let mut peers = chosen(&arguments.against, &rows, &mut problems)?;
    let mut bench = Bench {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        command: results::command(),
        machine: Machine::of_this_machine(),
        problems,
        ..Bench::default()
    };
    for peer in &mut peers {
        if let Some(problem) = peer.start() {
            bench.problems.push(problem);
        }
    }
    bench.peers = peers.iter().map(|peer| peer.entry.column()).collect();
    bench.limits = limits::measure();
    if !arguments.json {
        table::heading(&bench, &mut out)?;
    }
    measure(arguments, &rows, &mut peers, &mut bench, &mut out)?;
    if arguments.json {
        serde_json::to_writer_pretty(&mut out, &bench).map_err(io::Error::from)?;
        writeln!(out)?;
    }
    for problem in &bench.problems {
        eprintln!("candle-mps: {problem}");
    }
    Ok(bench.problems.is_empty())
}

fn measure(
    arguments: &Arguments,
    rows: &[Planned],
    peers: &mut [Seat],
    bench: &mut Bench,
    out: &mut impl Write,
) -> Result<(), Error> {
    let mut random = fastrand::Rng::with_seed(0);
    let effort = Effort::new(Duration::from_secs_f64(arguments.seconds));
    let progress = progress(rows.len());
    let mut writes = Writes::new(&arguments.out);
    let mut device = None;
    for planned in rows {
        progress.set_message(format!("{} {}", planned.op, planned.shape()));
        if !arguments.json && device.replace(planned.device) != Some(planned.device) {
            progress.suspend(|| table::columns(planned.device, bench, out))?;
        }
        let question = question(planned);
        let takes_part: Vec<_> = peers
            .iter()
            .map(|seat| seat.entry.takes_part(planned))
            .collect();
        if turns::starts_anew(&question) {
            for (at, seat) in peers.iter_mut().enumerate() {
                // Python takes seconds to start.
                let is_python = python::has_peer(seat.entry.id);
                if takes_part[at]
                    && (arguments.first_calls || !is_python)
                    && let Some(problem) = seat.anew()
                {
                    bench.problems.push(problem);
                    bench.peers[at] = seat.entry.column();
                }
            }
        }
        let (mut cells, gone) = {
            let seats = peers.iter_mut().zip(&takes_part);
            let mut at_table: Vec<_> = seats
                .map(|(seat, &takes_part)| seat.peer().filter(|_| takes_part))
                .collect();
            turns::row(&mut at_table, &question, effort, &mut random)
        };
        for (at, _) in gone {
            if let Some(given_up) = peers[at].restart() {
                bench.problems.push(given_up);
                bench.peers[at] = peers[at].entry.column();
            }
        }
        let row = Row {
            op: planned.op.clone(),
            pass: planned.pass,
            shape: planned.shape(),
            dtype: planned.dtype.clone(),
            regime: planned.regime,
            device: planned.device.to_string(),
            bytes: planned.bytes,
            flops: planned.flops,
            cells: Vec::new(),
        };
        for (cell, peer) in cells.iter_mut().zip(&bench.peers) {
            match cell {
                Cell::None => *cell = committed(&row, &peer.id),
                Cell::Failed { why } | Cell::Unfinished { why } => {
                    bench
                        .problems
                        .push(format!("{} in {}: {why}", peer.id, row.name()));
                }
                _ => {}
            }
        }
        let row = Row { cells, ..row };
        if !arguments.json {
            progress.suspend(|| table::line(&row, bench, out))?;
        }
        bench.rows.push(row);
        writes.all(bench);
        progress.inc(1);
    }
    progress.finish_and_clear();
    bench.finished = true;
    writes.all(bench);
    if let (Some(path), false) = (&writes.done, arguments.json) {
        writeln!(
            out,
            "\nresults: {}; `candle-mps report` makes a page of them",
            path.display()
        )?;
    }
    Ok(())
}

fn question(planned: &Planned) -> Question {
    Question {
        op: planned.op.clone(),
        pass: planned.pass,
        sizes: planned.sizes.clone(),
        dtype: planned.dtype.clone(),
        regime: planned.regime,
        device: planned.device,
        results: 1,
    }
}

/// The rows that are wanted, those on the processor first, and what was wrong with others.
fn planned(arguments: &Arguments, asked: Asked) -> Result<(Vec<Planned>, Vec<String>), Error> {
    let (mut rows, mut problems) = match &arguments.shapes {
        None => plan::read(plan::USUAL).map_err(Error::Usage)?,
        Some(path) => {
            let failed = |why: String| Error::Shapes {
                path: path.clone(),
                why,
            };
            let text = std::fs::read_to_string(path).map_err(|error| failed(error.to_string()))?;
            let (rows, problems) = plan::read(&text).map_err(failed)?;
            let named = |problem| format!("{}: {problem}", path.display());
            (rows, problems.into_iter().map(named).collect())
        }
    };
    for op in &arguments.ops {
        if let Err(unknown) = plan::known(op) {
            problems.push(unknown);
        } else if !rows.iter().any(|row| row.op == *op) {
            problems.push(format!("the shapes have no row of {op}"));
        }
    }
    if !arguments.ops.is_empty() {
        rows.retain(|row| arguments.ops.contains(&row.op));
    }
    let elsewhere = rows.iter().find(|row| !asked.has(row.device));
    let elsewhere = elsewhere.map(|row| {
        let device = row.device;
        format!("these rows are on {device}: ask for them by --device {device}, or write another `device` into them")
    });
    rows.retain(|row| asked.has(row.device));
    rows.sort_by_key(|row| row.device != Place::Cpu);
    if rows.is_empty() {
        problems.extend(elsewhere);
        problems.push("nothing is left to measure".to_owned());
        return Err(Error::Usage(problems.join("\n")));
    }
    Ok((rows, problems))
}

/// Ours and the peers that are wanted.
fn chosen(
    against: &[String],
    rows: &[Planned],
    problems: &mut Vec<String>,
) -> Result<Vec<Seat>, Error> {
    let all = peers::all();
    for name in against {
        if !all.iter().any(|entry| entry.id == name) {
            let names: Vec<_> = all.iter().map(|entry| entry.id).collect();
            problems.push(format!(
                "there is no peer {name}; there are {}",
                names.join(", ")
            ));
        }
    }
    let named = |entry: &Entry| against.iter().any(|name| entry.id == name);
    let takes_part = |entry: &Entry| rows.iter().any(|row| entry.takes_part(row));
    for entry in all.iter().filter(|it| named(it) && !takes_part(it)) {
        problems.push(format!("{} takes no part in any of these rows", entry.id));
    }
    let wanted = |entry: &Entry| match against {
        [] => entry.usual,
        _ => entry.id == "ours" || named(entry),
    };
    let seats = all.into_iter().filter(|it| wanted(it) && takes_part(it));
    let seats: Vec<_> = seats.map(Seat::new).collect();
    if seats.len() < 2 && !against.is_empty() && against != ["ours"] {
        return Err(Error::Usage(problems.join("\n")));
    }
    Ok(seats)
}

/// Keeps the file of results up to date; says once that it cannot.
struct Writes<'a> {
    folder: &'a Path,
    done: Option<PathBuf>,
    failed: bool,
}

impl<'a> Writes<'a> {
    fn new(folder: &'a Path) -> Self {
        Self {
            folder,
            done: None,
            failed: false,
        }
    }

    fn all(&mut self, bench: &mut Bench) {
        match results::write_json(self.folder, BENCH, bench) {
            Ok(path) => self.done = Some(path),
            Err(error) if !self.failed => {
                self.failed = true;
                self.done = None;
                bench
                    .problems
                    .push(format!("the results are not kept: {error}"));
            }
            Err(_) => {}
        }
    }
}

/// The results of the project's machine, which stand where a peer is not installed.
const COMMITTED: &str = include_str!("../../bench/results/bench.json");

fn committed(row: &Row, peer: &str) -> Cell {
    use std::sync::LazyLock;
    static BENCH: LazyLock<Option<Bench>> = LazyLock::new(|| serde_json::from_str(COMMITTED).ok());
    // Candle is in this program: without it, there is nothing to show.
    if !python::has_peer(peer) {
        return Cell::None;
    }
    let found = BENCH.as_ref().and_then(|bench| {
        let column = bench.peers.iter().position(|it| it.id == peer)?;
        let same = bench.rows.iter().find(|it| {
            (&it.op, it.pass, &it.shape, &it.dtype, it.regime, &it.device)
                == (
                    &row.op,
                    row.pass,
                    &row.shape,
                    &row.dtype,
                    row.regime,
                    &row.device,
                )
        });
        same?.cells.get(column)?.times().cloned()
    });
    found.map_or(Cell::None, Cell::AnotherRun)
}

fn list(out: &mut impl Write) -> io::Result<()> {
    writeln!(out, "ops, their sizes and passes:")?;
    for op in ops::all() {
        let passes: Vec<_> = op.passes.iter().map(ToString::to_string).collect();
        let chain = if op.chains { ", chain" } else { "" };
        writeln!(
            out,
            "  {:<17} {:<32} {}{chain}",
            op.name,
            op.sizes.join(" or "),
            passes.join(", ")
        )?;
    }
    writeln!(out, "\npeers:")?;
    for entry in peers::all() {
        let usual = if entry.usual {
            ""
        } else {
            " (only when named)"
        };
        let why = entry
            .program
            .err()
            .map_or(String::new(), |why| format!(": {why}"));
        writeln!(out, "  {:<17} {}{usual}{why}", entry.id, entry.title)?;
    }
    let gpu = device::gpu();
    writeln!(out, "\ndevices, and the regimes there:")?;
    writeln!(out, "  {:<17} latency, chain", Place::Cpu)?;
    writeln!(out, "  {:<17} latency, chain, encode: {gpu}", Place::Metal)
}

fn progress(rows: usize) -> ProgressBar {
    let style =
        ProgressStyle::with_template("{bar:30} {pos}/{len} {msg}, {elapsed} of about {duration}");
    // Hidden unless standard error is a terminal.
    ProgressBar::new(rows as u64).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}
