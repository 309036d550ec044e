//! `candle-mps report`: what `verify` and `bench` left in a folder, as a page for a browser, as
//! pictures, as `decision.md`, and as one screen of text. Nothing is measured here.

mod colours;
pub mod correct;
pub mod figures;
#[cfg(test)]
pub mod fixture;
mod html;
mod open;
mod plot;
mod png;
mod screen;
mod work;

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use serde::Serialize;

use self::work::Counted;
use crate::decision::{self, Decision};
use crate::results::bench::Bench;
use crate::results::verify::Verify;
use crate::results::{self, BENCH, FOLDER, Machine, VERIFY_CPU, VERIFY_METAL};

/// The page.
pub const PAGE: &str = "report.html";

#[derive(Args)]
pub struct Arguments {
    /// The folder with the results, in which the report is written
    #[arg(long, value_name = "DIR", default_value = FOLDER)]
    pub out: PathBuf,
    /// Print the decision and the paths as JSON
    #[arg(long)]
    pub json: bool,
    /// Whether to show the page in a browser
    #[arg(long, value_enum, default_value = "no", value_name = "WHEN")]
    pub open: Open,
}

/// Whether a browser is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Open {
    Yes,
    No,
}

/// What stopped the report.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file of results cannot be read, or the report not be written.
    #[error(transparent)]
    Results(#[from] results::Error),

    /// The folder has no results.
    #[error(
        "{} has neither {BENCH} nor {VERIFY_CPU} nor {VERIFY_METAL}: make them with `candle-mps \
         verify` and `candle-mps bench`, or name their folder with --out", folder.display()
    )]
    Nothing { folder: PathBuf },

    /// A plot could not be drawn as a picture; the page is written and has it.
    #[error("cannot draw {}: {source}; {PAGE} beside it shows the same plot", path.display())]
    Picture { path: PathBuf, source: png::Error },

    /// There is no browser to show the page.
    #[error("cannot start `{program}` ({source}): open {} by hand, or leave out --open", page.display())]
    Browser {
        program: &'static str,
        page: PathBuf,
        source: io::Error,
    },

    /// The terminal, or what stands in its place, takes no text.
    #[error("cannot write the output: {0}")]
    Output(#[from] io::Error),
}

/// What a folder has.
#[derive(Default)]
pub struct Results {
    pub bench: Option<Bench>,
    pub cpu: Option<Verify>,
    pub metal: Option<Verify>,
    /// What the work of a GPU was counted to be.
    pub work: Vec<Counted>,
}

/// A part that a folder has not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Missing {
    pub file: &'static str,
    /// What makes it.
    pub command: &'static str,
}

impl Results {
    /// Reads what there is.
    pub fn read(folder: &Path) -> Result<Self, Error> {
        let found = Self {
            bench: results::read(folder, BENCH)?,
            cpu: results::read(folder, VERIFY_CPU)?,
            metal: results::read(folder, VERIFY_METAL)?,
            // Nothing is decided by it, so that a file that cannot be read is as good as none.
            work: fs::read_to_string(folder.join(work::FILE))
                .map_or_else(|_| Vec::new(), |text| work::read(&text)),
        };
        match found {
            Self {
                bench: None,
                cpu: None,
                metal: None,
                ..
            } => Err(Error::Nothing {
                folder: folder.to_owned(),
            }),
            found => Ok(found),
        }
    }

    /// The parts that are not there, and how to get them.
    pub fn missing(&self) -> Vec<Missing> {
        let parts = [
            (
                self.cpu.is_none(),
                VERIFY_CPU,
                "candle-mps verify --device cpu",
            ),
            (
                self.metal.is_none(),
                VERIFY_METAL,
                "candle-mps verify --device metal",
            ),
            (self.bench.is_none(), BENCH, "candle-mps bench"),
        ];
        let missing = parts.into_iter().filter(|(missing, ..)| *missing);
        missing
            .map(|(_, file, command)| Missing { file, command })
            .collect()
    }

    /// The machine of the figures, or else of the verification.
    pub fn machine(&self) -> Option<&Machine> {
        let of_bench = self.bench.as_ref().map(|it| &it.machine);
        let of_verify = self.verified().next().map(|it| &it.machine);
        of_bench.or(of_verify)
    }

    /// The version that measured, or else verified.
    pub fn version(&self) -> Option<&str> {
        let of_bench = self.bench.as_ref().map(|it| it.version.as_str());
        of_bench.or(self.verified().next().map(|it| it.version.as_str()))
    }

    /// The verifications there are.
    pub fn verified(&self) -> impl Iterator<Item = &Verify> {
        self.cpu.iter().chain(&self.metal)
    }
}

/// What a script learns.
#[derive(Serialize)]
struct Said<'a> {
    decision: Option<&'a Decision>,
    written: &'a Written,
    missing: Vec<Missing>,
}

/// The paths of what was written.
#[derive(Serialize)]
pub struct Written {
    pub page: PathBuf,
    pub decision: Option<PathBuf>,
    pub pictures: Vec<PathBuf>,
}

/// The command.
pub fn run(arguments: &Arguments) -> Result<(), Error> {
    let results = Results::read(&arguments.out)?;
    let decision = results.bench.as_ref().map(Decision::of);
    let written = write(&arguments.out, &results, decision.as_ref())?;
    // Drops the colours when nobody would see them.
    let mut output = anstream::stdout().lock();
    if arguments.json {
        let said = Said {
            decision: decision.as_ref(),
            written: &written,
            missing: results.missing(),
        };
        serde_json::to_writer_pretty(&mut output, &said).map_err(io::Error::from)?;
        writeln!(output)?;
    } else {
        screen::write(&results, decision.as_ref(), &written.page, &mut output)?;
    }
    output.flush()?;
    match arguments.open {
        Open::Yes => open::browser(&written.page),
        Open::No => Ok(()),
    }
}

/// Writes the files, the page before the pictures, which may fail.
fn write(folder: &Path, results: &Results, decision: Option<&Decision>) -> Result<Written, Error> {
    let page = html::page(results, decision);
    let mut written = Written {
        page: results::write(folder, PAGE, page.as_bytes())?,
        decision: None,
        pictures: Vec::new(),
    };
    let Some((bench, decision)) = results.bench.as_ref().zip(decision) else {
        return Ok(written);
    };
    let text = decision.markdown(bench);
    written.decision = Some(results::write(folder, decision::FILE, text.as_bytes())?);
    let pictures = [
        (
            "ratios.png",
            plot::ratios::draw(bench, decision, plot::Width::Wide),
        ),
        ("sizes.png", plot::sizes::draw(bench, plot::Width::Wide)),
    ];
    for (name, drawing) in pictures {
        let Some(drawing) = drawing else { continue };
        let bytes = png::render(&drawing).map_err(|source| Error::Picture {
            path: folder.join(name),
            source,
        })?;
        written.pictures.push(results::write(folder, name, &bytes)?);
    }
    Ok(written)
}
