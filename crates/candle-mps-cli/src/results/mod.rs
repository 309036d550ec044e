//! What a run leaves behind: a folder of JSON files that `verify` and `bench` write and `report` reads.
//! The types are the format; `version` in each file says which candle-mps wrote it.

pub mod bench;
pub mod verify;

use std::fmt;
use std::path::{Path, PathBuf};
use std::{fs, io};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::doctor::cpu::Cpu;
use crate::doctor::metal::Metal;
use crate::doctor::system::System;

/// The folder that the commands use unless they are told another.
pub const FOLDER: &str = "candle-mps-report";

/// What `verify --device cpu` writes.
pub const VERIFY_CPU: &str = "verify-cpu.json";
/// What `verify --device metal` writes.
pub const VERIFY_METAL: &str = "verify-metal.json";
/// What `bench` writes.
pub const BENCH: &str = "bench.json";

/// The machine of a run, as far as results depend on it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Machine {
    /// As the system names itself.
    pub system: String,
    /// As the processor names itself.
    pub processor: String,
    /// Threads that run at once.
    pub threads: usize,
    pub memory_bytes: Option<u64>,
    /// Instruction sets that a kernel can use.
    pub features: Vec<String>,
    /// The GPU, if this build looks for one and found it.
    pub gpu: Option<String>,
}

impl Machine {
    /// The machine that runs this program.
    pub fn of_this_machine() -> Self {
        let (system, cpu) = (System::of_this_machine(), Cpu::of_this_machine());
        let gpu = Metal::of_this_machine().first().map(|it| it.name.clone());
        Self {
            system: system.to_string(),
            processor: cpu.model.unwrap_or_else(|| "unknown".to_owned()),
            threads: cpu.logical_cores.unwrap_or(1),
            memory_bytes: system.memory_bytes,
            features: cpu.features.iter().map(ToString::to_string).collect(),
            gpu,
        }
    }
}

/// Which part of an op ran.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Pass {
    Forward,
    Backward,
    /// Forward, backward and optimizer of a model, or an optimizer alone.
    Step,
}

impl fmt::Display for Pass {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.pad(match self {
            Self::Forward => "forward",
            Self::Backward => "backward",
            Self::Step => "step",
        })
    }
}

/// Why a file of results could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file system refused.
    #[error("cannot {action} {}: {source}; choose another folder with --out", path.display())]
    File {
        action: &'static str,
        path: PathBuf,
        source: io::Error,
    },
    /// It is not what such a file holds.
    #[error("{} is not a file of results of this version ({source}); make it again", path.display())]
    Format {
        path: PathBuf,
        source: serde_json::Error,
    },
}

/// The command line that makes such results again; where they went is of this machine only.
pub fn command() -> String {
    shown(std::env::args().skip(1))
}

fn shown(arguments: impl Iterator<Item = String>) -> String {
    let mut words = vec!["candle-mps".to_owned()];
    let mut folder = false;
    for argument in arguments {
        if folder || argument.starts_with("--out=") {
            folder = false;
        } else if argument == "--out" {
            folder = true;
        } else {
            words.push(argument);
        }
    }
    words.join(" ")
}

/// Reads a file of a folder; `None` if it is not there.
pub fn read<T: DeserializeOwned>(folder: &Path, name: &str) -> Result<Option<T>, Error> {
    let path = folder.join(name);
    match fs::read(&path) {
        Ok(text) => serde_json::from_slice(&text)
            .map(Some)
            .map_err(|source| Error::Format { path, source }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(Error::File {
            action: "read",
            path,
            source,
        }),
    }
}

/// Writes a file of a folder, which is made if need be. The file is replaced in one step.
pub fn write(folder: &Path, name: &str, text: &[u8]) -> Result<PathBuf, Error> {
    let failed = |action, path: &Path| {
        let path = path.to_owned();
        move |source| Error::File {
            action,
            path,
            source,
        }
    };
    fs::create_dir_all(folder).map_err(failed("create", folder))?;
    let path = folder.join(name);
    let fresh = folder.join(format!(".{name}.new"));
    fs::write(&fresh, text).map_err(failed("write", &path))?;
    fs::rename(&fresh, &path).map_err(failed("replace", &path))?;
    Ok(path)
}

/// Writes a value as a JSON file of a folder.
pub fn write_json(folder: &Path, name: &str, value: &impl Serialize) -> Result<PathBuf, Error> {
    let mut text = serde_json::to_vec_pretty(value).map_err(|source| Error::Format {
        path: folder.join(name),
        source,
    })?;
    text.push(b'\n');
    write(folder, name, &text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_shown_without_its_folder() {
        let shown = |line: &str| super::shown(line.split(' ').map(str::to_owned));
        assert_eq!(
            shown("bench --out /a --ops softmax"),
            "candle-mps bench --ops softmax"
        );
        assert_eq!(shown("verify --out=/a --json"), "candle-mps verify --json");
    }

    #[test]
    fn files_are_written_read_and_refused() {
        let folder =
            std::env::temp_dir().join(format!("candle-mps-results-{}", std::process::id()));
        assert_eq!(read::<Machine>(&folder, "a.json").unwrap(), None);
        let machine = Machine {
            threads: 2,
            ..Machine::default()
        };
        write_json(&folder, "a.json", &machine).unwrap();
        assert_eq!(read(&folder, "a.json").unwrap(), Some(machine));
        write(&folder, "a.json", b"{").unwrap();
        let refused = read::<Machine>(&folder, "a.json").unwrap_err().to_string();
        assert!(refused.contains("make it again"), "{refused}");
        let below = write(&folder.join("a.json"), "b.json", b"").unwrap_err();
        assert!(below.to_string().contains("--out"), "{below}");
        fs::remove_dir_all(folder).unwrap();
    }
}
