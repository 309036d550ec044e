//! PyTorch and MLX: workers in Python (`bench/peers/`), in an environment of their own that only
//! `bench --install-peers` makes, or in a Python that the user names.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::process::Program;
use crate::results;

/// A peer in Python.
pub struct Python {
    pub id: &'static str,
    pub title: &'static str,
    /// Names a Python that has it.
    pub variable: &'static str,
    script: &'static str,
    /// What pip is asked for.
    package: &'static str,
}

pub const PEERS: &[Python] = &[
    Python {
        id: "pytorch",
        title: "PyTorch",
        variable: "CANDLE_MPS_PYTORCH",
        script: "pytorch.py",
        package: "torch",
    },
    Python {
        id: "mlx",
        title: "MLX",
        variable: "CANDLE_MPS_MLX",
        // Not `mlx.py`, which Python would import in the place of MLX.
        script: "mlx_peer.py",
        package: if cfg!(target_os = "macos") {
            "mlx"
        } else {
            "mlx[cpu]"
        },
    },
];

/// Whether a peer is one of these.
pub fn has_peer(id: &str) -> bool {
    PEERS.iter().any(|it| it.id == id)
}

/// The scripts, which this program writes where Python can read them.
const SCRIPTS: [(&str, &str); 4] = [
    ("worker.py", include_str!("../../bench/peers/worker.py")),
    ("pytorch.py", include_str!("../../bench/peers/pytorch.py")),
    ("mlx_peer.py", include_str!("../../bench/peers/mlx_peer.py")),
    ("install.py", include_str!("../../bench/peers/install.py")),
];

impl Python {
    /// How to start it, or why it cannot be.
    pub fn program(&self, threads: usize) -> Result<Program, String> {
        let named = env::var_os(self.variable).filter(|value| !value.is_empty());
        let python = match named {
            Some(python) => PathBuf::from(python),
            None => self.installed()?,
        };
        let folder = write_scripts()?;
        Ok(Program {
            program: python.into(),
            arguments: vec![folder.join(self.script).into(), threads.to_string().into()],
            set: vec![("OMP_NUM_THREADS", threads.to_string())],
            ..Program::default()
        })
    }

    fn installed(&self) -> Result<PathBuf, String> {
        let venv = folder()?.join("venv");
        let module = self.package.split('[').next().unwrap_or(self.package);
        match has(&venv, module) {
            true => Ok(interpreter(&venv)),
            false => Err(format!(
                "not installed: run `candle-mps bench --install-peers`, or set {} to a Python that has it",
                self.variable
            )),
        }
    }
}

/// The peers that are neither installed nor named, for those who would like to know.
pub fn missing() -> Vec<&'static str> {
    let is_there = |peer: &Python| env::var_os(peer.variable).is_some() || peer.installed().is_ok();
    PEERS
        .iter()
        .filter(|peer| !is_there(peer))
        .map(|peer| peer.title)
        .collect()
}

/// Installs the peers; what is downloaded is said before it is. False if one could not be.
pub fn install() -> Result<bool, String> {
    let folder = write_scripts()?;
    let mut tried = Vec::new();
    for python in ["python3", "python"] {
        let run = Command::new(python)
            .arg(folder.join("install.py"))
            .arg(&folder)
            .args(PEERS.iter().map(|peer| peer.package))
            .status();
        match run {
            Ok(status) => return Ok(status.success()),
            Err(error) => tried.push(format!("{python}: {error}")),
        }
    }
    Err(format!(
        "the peers need Python 3.10 or later with its module venv ({}): install it, or set {} to a \
         Python that has PyTorch",
        tried.join("; "),
        PEERS[0].variable
    ))
}

/// Where the peers live.
fn folder() -> Result<PathBuf, String> {
    let variable = |name: &str| {
        env::var_os(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    let home = || {
        variable(if cfg!(windows) {
            "LOCALAPPDATA"
        } else {
            "HOME"
        })
    };
    let caches = match () {
        () if cfg!(target_os = "macos") => home().map(|home| home.join("Library/Caches")),
        () if cfg!(windows) => home(),
        () => variable("XDG_CACHE_HOME").or_else(|| home().map(|home| home.join(".cache"))),
    };
    let caches = caches.ok_or("there is no cache folder: set HOME")?;
    Ok(caches.join("candle-mps").join("peers"))
}

fn write_scripts() -> Result<PathBuf, String> {
    let folder = folder()?;
    for (name, text) in SCRIPTS {
        let same = std::fs::read_to_string(folder.join(name)).is_ok_and(|there| there == text);
        if !same {
            results::write(&folder, name, text.as_bytes()).map_err(|error| error.to_string())?;
        }
    }
    Ok(folder)
}

fn interpreter(venv: &Path) -> PathBuf {
    venv.join(if cfg!(windows) {
        "Scripts/python.exe"
    } else {
        "bin/python"
    })
}

/// Whether a module is installed, without the seconds that its import takes.
fn has(venv: &Path, module: &str) -> bool {
    let libraries = match cfg!(windows) {
        true => vec![venv.join("Lib")],
        false => std::fs::read_dir(venv.join("lib"))
            .into_iter()
            .flatten()
            .filter_map(|entry| Some(entry.ok()?.path()))
            .collect(),
    };
    libraries
        .iter()
        .any(|library| library.join("site-packages").join(module).is_dir())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_module_is_there_when_its_folder_is() {
        let venv = env::temp_dir().join(format!("candle-mps-venv-{}", std::process::id()));
        assert!(!has(&venv, "torch"));
        let library = if cfg!(windows) {
            "Lib"
        } else {
            "lib/python3.11"
        };
        std::fs::create_dir_all(venv.join(library).join("site-packages/torch")).unwrap();
        assert!(has(&venv, "torch"));
        assert!(!has(&venv, "mlx"));
        std::fs::remove_dir_all(venv).unwrap();
    }

    #[test]
    fn every_peer_has_its_script() {
        for peer in PEERS {
            assert!(
                SCRIPTS.iter().any(|(name, _)| *name == peer.script),
                "{}",
                peer.id
            );
        }
    }
}
