//! One test program as cargo built it: what is in it, and how its tests are run.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde::Deserialize;

use crate::counts::Counts;
use crate::error::Error;
use crate::process::Step;

/// How long a test that is expected to fail may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// A test program.
pub struct Program {
    /// `package` for its unit tests, `package/file` for a file of its `tests` folder.
    pub name: String,
    path: PathBuf,
    /// Where it expects to be run.
    folder: PathBuf,
}

/// The environment that a program is run in.
pub type Environment = Vec<(&'static str, OsString)>;

#[derive(Deserialize)]
struct Message {
    reason: String,
    executable: Option<PathBuf>,
    manifest_path: Option<PathBuf>,
    target: Option<Target>,
}

#[derive(Deserialize)]
struct Target {
    name: String,
    kind: Vec<String>,
}

impl Program {
    /// The programs in what `cargo test --no-run --message-format=json` printed.
    pub fn all(messages: &str) -> Vec<Self> {
        let mut programs: Vec<_> = messages.lines().filter_map(Self::from_message).collect();
        programs.sort_by(|left, right| left.name.cmp(&right.name));
        programs
    }

    fn from_message(line: &str) -> Option<Self> {
        let message: Message = serde_json::from_str(line).ok()?;
        if message.reason != "compiler-artifact" {
            return None;
        }
        let folder = message.manifest_path?.parent()?.to_owned();
        let package = folder.file_name()?.to_str()?.to_owned();
        let target = message.target?;
        let name = if target.kind == ["test"] {
            format!("{package}/{}", target.name)
        } else {
            package
        };
        Some(Self {
            name,
            path: message.executable?,
            folder,
        })
    }

    fn step(&self, environment: &Environment) -> Step {
        let path = self.path.to_string_lossy();
        Step::new(&path, &self.folder).envs(environment.iter().cloned())
    }

    /// The names of its tests.
    pub fn list(&self, environment: &Environment) -> Result<Vec<String>, Error> {
        let text = self
            .step(environment)
            .args(["--list", "--format=terse"])
            .output()?;
        let names = text.lines().filter_map(|line| line.strip_suffix(": test"));
        Ok(names.map(str::to_owned).collect())
    }

    /// Runs these tests, those that are marked `#[ignore]`, too.
    pub fn run(&self, tests: &[String], environment: &Environment) -> Result<Counts, Error> {
        let shown = format!("{} ({} tests)", self.name, tests.len());
        self.step(environment)
            .args(["--include-ignored", "--exact"])
            .args(tests)
            .shown_as(shown)
            .count()
    }

    /// Whether a test passes, run alone and silently: it may crash or hang.
    pub fn passes(&self, test: &str, environment: &Environment) -> bool {
        let child = Command::new(&self.path)
            .args(["--include-ignored", "--exact", test])
            .current_dir(&self.folder)
            .envs(environment.iter().cloned())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let Ok(mut child) = child else {
            return false;
        };
        let start = Instant::now();
        while start.elapsed() < PATIENCE {
            match child.try_wait() {
                Ok(Some(status)) => return status.success(),
                Ok(None) => thread::sleep(Duration::from_millis(5)),
                Err(_) => break,
            }
        }
        // Nothing depends on whether the end is orderly.
        let _ = child.kill();
        let _ = child.wait();
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_named_by_package_and_file() {
        let messages = r#"
{"reason":"compiler-artifact","manifest_path":"/s/b/Cargo.toml","target":{"kind":["test"],"name":"t"},"executable":"/t/t-1"}
{"reason":"compiler-artifact","manifest_path":"/s/b/Cargo.toml","target":{"kind":["lib"],"name":"b"},"executable":"/t/b-1"}
{"reason":"compiler-artifact","manifest_path":"/s/b/Cargo.toml","target":{"kind":["lib"],"name":"b"},"executable":null}
{"reason":"build-finished","success":true}
not a message"#;
        let programs = Program::all(messages);
        let places = programs
            .iter()
            .map(|it| (it.name.as_str(), it.path.to_str()));
        let places: Vec<_> = places.collect();
        assert_eq!(places, [("b", Some("/t/b-1")), ("b/t", Some("/t/t-1"))]);
    }

    #[test]
    #[cfg(unix)]
    fn only_success_is_passing() {
        let program = |path: &str| Program {
            name: String::new(),
            path: path.into(),
            folder: ".".into(),
        };
        let none = Environment::new();
        assert!(program("/bin/true").passes("x", &none));
        assert!(!program("/bin/false").passes("x", &none));
        assert!(!program("/no/such/program").passes("x", &none));
    }
}
