//! `metal-sim run`: one dispatch of one kernel, with the detector unless told otherwise.

use std::io::Write;

use metal_sim_msl::finding::{Access, AccessKind};
use metal_sim_msl::{Checks, Constants, Dispatch, Finding, Grid, Pipeline, Schedule};
use serde::Serialize;

use super::buffers::Buffer;
use super::numbers::{Number, Type};
use super::{Error, Preprocessor, count, library};

pub const EXAMPLES: &str = "\
Examples:
  metal-sim run softmax.metal --kernel softmax_f32 --grid 4 --group 256 \\
      --buffer 0=u32:4096 --buffer 1=u32:1024 --buffer 2=count:4096:f32 --buffer 3=zeros:16384 --print 3:f32:8
  metal-sim run mine.metal --kernel scan --threads 1000 --group 128 --buffer 0=file:in.bin --save 0=out.bin \\
      --schedule 7
  metal-sim run mine.metal --kernel gemm --grid 2,2 --group 32,2 --constant 200=bool:1 --strict

A finding names the kernel, both lines, both threads and the ordering that is missing.";

#[derive(clap::Args)]
pub struct Arguments {
    /// The `.metal` file
    file: String,
    /// The kernel, by its host_name if it has one
    #[arg(long, value_name = "NAME")]
    kernel: String,
    /// Threadgroups, as X, X,Y or X,Y,Z
    #[arg(long, value_name = "SIZE", value_parser = size, required_unless_present = "threads", conflicts_with = "threads")]
    grid: Option<[u32; 3]>,
    /// Threads instead of threadgroups: those at the edges are smaller
    #[arg(long, value_name = "SIZE", value_parser = size)]
    threads: Option<[u32; 3]>,
    /// Threads of a threadgroup
    #[arg(long, value_name = "SIZE", value_parser = size)]
    group: [u32; 3],
    /// A buffer: INDEX=zeros:BYTES, INDEX=count:N:TYPE, INDEX=random:N:TYPE, INDEX=TYPE:VALUE,… or INDEX=file:PATH.
    /// Among values, TYPE: changes the type: INDEX=i32:4,2,f32:0.5
    #[arg(long, value_name = "INDEX=WHAT")]
    buffer: Vec<String>,
    /// Bytes of a threadgroup argument
    #[arg(long, value_name = "INDEX=BYTES", value_parser = memory)]
    threadgroup: Vec<(usize, usize)>,
    /// A function constant, by index or name
    #[arg(long, value_name = "INDEX=TYPE:VALUE")]
    constant: Vec<String>,
    /// Print elements of a buffer afterwards
    #[arg(long, value_name = "INDEX:TYPE[:COUNT]")]
    print: Vec<String>,
    /// Write a buffer to a file afterwards
    #[arg(long, value_name = "INDEX=PATH")]
    save: Vec<String>,
    /// The order of threads: fifo, reverse, lifo, or the number of a seed
    #[arg(long, default_value = "fifo")]
    schedule: Schedule,
    /// A barrier orders only the memory that its mem_flags name
    #[arg(long)]
    strict: bool,
    /// Without the detector
    #[arg(long, conflicts_with = "strict")]
    unchecked: bool,
    #[command(flatten)]
    preprocessor: Preprocessor,
    /// Print findings and buffers as JSON
    #[arg(long)]
    json: bool,
}

fn size(text: &str) -> Result<[u32; 3], String> {
    let mut size = [1; 3];
    let parts: Vec<_> = text.split(',').collect();
    if parts.len() > 3 {
        return Err("at most three numbers".to_owned());
    }
    for (size, part) in size.iter_mut().zip(parts) {
        *size = part
            .parse()
            .ok()
            .filter(|it| *it > 0)
            .ok_or("numbers above 0 are needed")?;
    }
    Ok(size)
}

fn memory(text: &str) -> Result<(usize, usize), String> {
    let parsed = text
        .split_once('=')
        .and_then(|(index, bytes)| Some((index.parse().ok()?, bytes.parse().ok()?)));
    parsed
        .filter(|(index, _)| *index < 31)
        .ok_or("INDEX=BYTES is needed, with an index below 31".to_owned())
}

#[derive(Serialize)]
struct Printed {
    index: usize,
    values: Vec<Number>,
}

#[derive(Serialize)]
struct Done {
    kernel: String,
    findings: Vec<Told>,
    printed: Vec<Printed>,
}

/// A finding, in parts and as text.
#[derive(Serialize)]
struct Told {
    kind: String,
    what: String,
    first: Option<Side>,
    second: Side,
    missing: String,
    text: String,
}

/// One of two accesses.
#[derive(Serialize)]
struct Side {
    does: &'static str,
    file: String,
    line: u32,
    threadgroup: [u32; 3],
    thread: [u32; 3],
    simdgroup: u32,
    lane: u32,
    offset: i64,
    size: u64,
}

impl From<&Finding> for Told {
    fn from(finding: &Finding) -> Self {
        Self {
            kind: finding.kind.to_string(),
            what: finding.what.clone(),
            first: finding.first.as_ref().map(Side::from),
            second: (&finding.second).into(),
            missing: finding.missing.clone(),
            text: finding.to_string(),
        }
    }
}

impl From<&Access> for Side {
    fn from(access: &Access) -> Self {
        Self {
            does: match access.kind {
                AccessKind::Read => "read",
                AccessKind::Write => "write",
                AccessKind::Atomic => "atomic",
                AccessKind::Meets => "wait",
            },
            file: access.place.file.clone(),
            line: access.place.line,
            threadgroup: access.thread.threadgroup,
            thread: access.thread.in_threadgroup,
            simdgroup: access.thread.simdgroup,
            lane: access.thread.lane,
            offset: access.offset,
            size: access.size,
        }
    }
}

/// Runs it. False if the detector found something.
pub fn run(arguments: &Arguments) -> Result<bool, Error> {
    // The command line first: what is wrong there need not wait for the compiler.
    let mut buffers = Buffer::read_all(&arguments.buffer)?;
    let constants = constants(&arguments.constant)?;
    let wanted = arguments
        .print
        .iter()
        .map(|it| wanted(it, &buffers))
        .collect::<Result<Vec<_>, _>>()?;
    let saved = arguments
        .save
        .iter()
        .map(|it| place(it, &buffers))
        .collect::<Result<Vec<_>, _>>()?;
    let library = library(&arguments.file, &arguments.preprocessor)?;
    let function = super::find(&library, &arguments.file, &arguments.kernel)?;
    let checks = Checks {
        races: !arguments.unchecked,
        strict_flags: arguments.strict,
    };
    let pipeline = Pipeline::new(&library, &function.name, &constants, checks)?;
    let mut threadgroup_memory = vec![0; 31];
    for (index, bytes) in &arguments.threadgroup {
        threadgroup_memory[*index] = *bytes;
    }
    let grid = match (arguments.grid, arguments.threads) {
        (Some(groups), _) => Grid::Threadgroups {
            groups,
            threads: arguments.group,
        },
        (None, grid) => Grid::Threads {
            grid: grid.unwrap_or([1; 3]),
            threads: arguments.group,
        },
    };
    let outcome = pipeline.dispatch(&Dispatch {
        grid,
        buffers: &Buffer::bindings(&mut buffers),
        threadgroup_memory: &threadgroup_memory,
        schedule: arguments.schedule,
        threads: std::thread::available_parallelism().map_or(1, usize::from),
    })?;
    for (at, path) in saved {
        std::fs::write(&path, buffers[at].bytes())
            .map_err(|source| Error::File { path, source })?;
    }
    let done = Done {
        kernel: arguments.kernel.clone(),
        findings: outcome.findings.iter().map(Told::from).collect(),
        printed: wanted.iter().map(|it| it.values(&buffers)).collect(),
    };
    print(&done, arguments)?;
    Ok(done.findings.is_empty())
}

fn print(done: &Done, arguments: &Arguments) -> Result<(), Error> {
    let mut out = std::io::stdout().lock();
    if arguments.json {
        serde_json::to_writer_pretty(&mut out, done).map_err(std::io::Error::from)?;
        writeln!(out)?;
        return Ok(());
    }
    for printed in &done.printed {
        let values: Vec<_> = printed.values.iter().map(Number::to_string).collect();
        writeln!(out, "buffer {}: {}", printed.index, values.join(" "))?;
    }
    for finding in &done.findings {
        writeln!(out, "{}", finding.text)?;
    }
    let found = match done.findings.len() {
        0 if arguments.unchecked => "ran, unchecked".to_owned(),
        0 => "nothing found".to_owned(),
        some => count(some, "finding"),
    };
    writeln!(out, "{}: {found}", done.kernel)?;
    Ok(())
}

fn constants(texts: &[String]) -> Result<Constants, Error> {
    let mut constants = Constants::default();
    for text in texts {
        let usage = |why: &str| {
            Error::Usage(format!(
                "--constant {text}: {why}; it is INDEX=TYPE:VALUE or NAME=TYPE:VALUE"
            ))
        };
        let (name, value) = text.split_once('=').ok_or_else(|| usage("no `=`"))?;
        let (kind, value) = value.split_once(':').ok_or_else(|| usage("no `:`"))?;
        let kind: Type = kind.parse().map_err(|why: String| usage(&why))?;
        let bytes = kind.parse(value).map_err(|why| usage(&why))?;
        match name.parse() {
            Ok(index) => constants.set_index(index, kind.in_metal(), &bytes),
            Err(_) => constants.set_name(name, kind.in_metal(), &bytes),
        }
    }
    Ok(constants)
}

/// Elements to print.
struct Wanted {
    at: usize,
    index: usize,
    kind: Type,
    count: usize,
}

impl Wanted {
    fn values(&self, buffers: &[Buffer]) -> Printed {
        let chunks = buffers[self.at].bytes().chunks_exact(self.kind.size());
        Printed {
            index: self.index,
            values: chunks
                .take(self.count)
                .filter_map(|it| self.kind.number(it))
                .collect(),
        }
    }
}

fn wanted(text: &str, buffers: &[Buffer]) -> Result<Wanted, Error> {
    let usage = |why: &str| {
        Error::Usage(format!(
            "--print {text}: {why}; it is INDEX:TYPE or INDEX:TYPE:COUNT"
        ))
    };
    let parts: Vec<_> = text.split(':').collect();
    let (index, kind, count) = match parts[..] {
        [index, kind] => (index, kind, None),
        [index, kind, count] => (index, kind, Some(count)),
        _ => return Err(usage("two or three parts are needed")),
    };
    let index = index.parse().map_err(|_| usage("no index"))?;
    Ok(Wanted {
        at: find(index, buffers).ok_or_else(|| usage("no such buffer is given"))?,
        index,
        kind: kind.parse().map_err(|why: String| usage(&why))?,
        count: count.map_or(Ok(usize::MAX), |it| {
            it.parse().map_err(|_| usage("no count"))
        })?,
    })
}

fn place(text: &str, buffers: &[Buffer]) -> Result<(usize, String), Error> {
    let usage = |why: &str| Error::Usage(format!("--save {text}: {why}; it is INDEX=PATH"));
    let (index, path) = text.split_once('=').ok_or_else(|| usage("no `=`"))?;
    let index = index.parse().map_err(|_| usage("no index"))?;
    let at = find(index, buffers).ok_or_else(|| usage("no such buffer is given"))?;
    Ok((at, path.to_owned()))
}

fn find(index: usize, buffers: &[Buffer]) -> Option<usize> {
    buffers.iter().position(|it| it.index == index)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_up_to_three_numbers() {
        assert_eq!(size("4"), Ok([4, 1, 1]));
        assert_eq!(size("4,2,3"), Ok([4, 2, 3]));
        for wrong in ["", "0", "1,2,3,4", "x"] {
            assert!(size(wrong).is_err(), "{wrong}");
        }
        assert_eq!(memory("1=64"), Ok((1, 64)));
        assert!(memory("31=64").is_err());
    }

    #[test]
    fn what_is_asked_for_must_be_there() {
        let buffers = [Buffer::read("1=u8:1,2,3").unwrap()];
        let printed = wanted("1:u8:2", &buffers).unwrap().values(&buffers);
        assert_eq!(printed.values, [1, 2].map(Number::Natural));
        for wrong in ["0:u8", "1", "1:u9", "1:u8:x", "1:u8:1:1"] {
            assert!(wanted(wrong, &buffers).is_err(), "{wrong}");
        }
        assert!(place("0=a", &buffers).is_err());
        assert_eq!(place("1=a", &buffers).unwrap(), (0, "a".to_owned()));
        for wrong in ["1", "1=bool", "1=b:1", "1=f32:x", "1=bool:2"] {
            assert!(constants(&[wrong.to_owned()]).is_err(), "{wrong}");
        }
    }
}
