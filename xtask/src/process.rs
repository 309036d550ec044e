//! Runs other programs: their output stays visible, and a failure names the command.

use std::env;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, BufRead, BufReader, IsTerminal, Write};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use crate::counts::Counts;
use crate::error::Error;

/// A program about to be run.
pub struct Step {
    command: Command,
    /// The command as a reader would type it.
    shown: String,
}

impl Step {
    /// A program by name, run in `folder`.
    pub fn new(program: &str, folder: &Path) -> Self {
        let mut command = Command::new(program);
        command.current_dir(folder);
        Self {
            command,
            shown: program.to_owned(),
        }
    }

    /// The cargo that runs us, so that a `+toolchain` on the command line holds everywhere.
    pub fn cargo(folder: &Path) -> Self {
        let cargo = env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
        let mut step = Self::new(&cargo, folder);
        "cargo".clone_into(&mut step.shown);
        step
    }

    /// Adds arguments.
    pub fn args<A: AsRef<OsStr>>(mut self, arguments: impl IntoIterator<Item = A>) -> Self {
        for argument in arguments {
            self.shown.push(' ');
            self.shown.push_str(&argument.as_ref().to_string_lossy());
            self.command.arg(argument);
        }
        self
    }

    /// Shows `text` instead of the command, which nobody would type.
    pub fn shown_as(mut self, text: String) -> Self {
        self.shown = text;
        self
    }

    /// Sets environment variables.
    pub fn envs<V: AsRef<OsStr>>(
        mut self,
        variables: impl IntoIterator<Item = (&'static str, V)>,
    ) -> Self {
        self.command.envs(variables);
        self
    }

    /// Runs the program with its output on the terminal.
    pub fn run(mut self) -> Result<(), Error> {
        self.show();
        let status = self
            .command
            .status()
            .map_err(|source| self.not_started(source))?;
        if status.success() {
            Ok(())
        } else {
            Err(Error::Failed {
                command: self.shown,
                status,
            })
        }
    }

    /// Runs the program with what it says in a file, and tells whether it was successful. What it complains of
    /// and its progress stay on the terminal.
    pub fn run_into(mut self, file: &Path) -> Result<bool, Error> {
        self.show();
        let output = File::create(file).map_err(Error::file("create", file))?;
        let status = self
            .command
            .stdout(output)
            .status()
            .map_err(|source| self.not_started(source))?;
        Ok(status.success())
    }

    /// Runs the program and returns what it wrote to standard output.
    pub fn output(mut self) -> Result<String, Error> {
        let output = self
            .command
            .stderr(Stdio::inherit())
            .output()
            .map_err(|source| self.not_started(source))?;
        if !output.status.success() {
            return Err(Error::Failed {
                command: self.shown,
                status: output.status,
            });
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Runs the program and returns what it wrote, whether it failed or not.
    pub fn captured(mut self) -> Result<Output, Error> {
        self.command
            .output()
            .map_err(|source| self.not_started(source))
    }

    /// Whether the program fails and says `why` on standard error.
    pub fn fails_with(self, why: &str) -> Result<bool, Error> {
        let output = self.captured()?;
        Ok(!output.status.success() && String::from_utf8_lossy(&output.stderr).contains(why))
    }

    /// Runs tests: their output is passed on as it comes, and their results are summed.
    ///
    /// A program that fails without a failing test (it does not compile, it crashes) is one
    /// failure.
    pub fn count(mut self) -> Result<Counts, Error> {
        self.show();
        if io::stderr().is_terminal() && env::var_os("CARGO_TERM_COLOR").is_none() {
            // Cargo sees our pipe instead of the terminal.
            self.command.env("CARGO_TERM_COLOR", "always");
        }
        self.count_into(&mut io::stdout().lock())
    }

    fn count_into(mut self, terminal: &mut impl Write) -> Result<Counts, Error> {
        let spawned = self.command.stdout(Stdio::piped()).spawn();
        let mut child = spawned.map_err(|source| self.not_started(source))?;
        let output = child.stdout.take().map(BufReader::new);
        let counts = output.map_or(Ok(Counts::default()), |output| pass_on(output, terminal));
        let mut counts = counts.map_err(|source| self.not_started(source))?;
        let status = child.wait().map_err(|source| self.not_started(source))?;
        if !status.success() && counts.failed == 0 {
            counts.failed = 1;
            eprintln!("`{}` failed ({status}) without a failing test", self.shown);
        }
        Ok(counts)
    }

    fn show(&self) {
        eprintln!("   $ {}", self.shown);
    }

    fn not_started(&self, source: io::Error) -> Error {
        Error::Start {
            program: self.command.get_program().to_string_lossy().into_owned(),
            source,
        }
    }
}

/// Copies `from` to `to` line by line and sums the results in it.
fn pass_on(mut from: impl BufRead, to: &mut impl Write) -> io::Result<Counts> {
    let mut counts = Counts::default();
    let mut line = Vec::new();
    while from.read_until(b'\n', &mut line)? > 0 {
        to.write_all(&line)?;
        to.flush()?;
        counts += Counts::from_line(&String::from_utf8_lossy(&line)).unwrap_or_default();
        line.clear();
    }
    Ok(counts)
}

/// Announces a part of the work on standard error.
pub fn heading(text: &str) {
    if io::stderr().is_terminal() {
        eprintln!("\n\x1b[1m== {text}\x1b[0m");
    } else {
        eprintln!("\n== {text}");
    }
}

/// A duration as a reader wants it: `4.2 s`, `3 min 07 s`.
pub fn duration(time: Duration) -> String {
    let seconds = time.as_secs();
    if seconds < 60 {
        format!("{:.1} s", time.as_secs_f64())
    } else {
        format!("{} min {:02} s", seconds / 60, seconds % 60)
    }
}

/// `first` and `rest` joined as a search path such as `LD_LIBRARY_PATH`.
pub fn search_path(first: &[&Path], rest: Option<OsString>) -> OsString {
    let mut joined = OsString::new();
    let parts = first
        .iter()
        .map(|path| path.as_os_str())
        .chain(rest.as_deref());
    // An empty part would mean the current folder.
    for part in parts.filter(|part| !part.is_empty()) {
        if !joined.is_empty() {
            joined.push(":");
        }
        joined.push(part);
    }
    joined
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_is_passed_on_unchanged_and_counted() {
        let text = "running 2 tests\ntest result: ok. 2 passed; 0 failed; 1 ignored;\n\
                    caf\u{e9} without a newline";
        let mut shown = Vec::new();
        let counts = pass_on(text.as_bytes(), &mut shown).unwrap();
        assert_eq!(shown, text.as_bytes());
        assert_eq!(
            counts,
            Counts {
                passed: 2,
                failed: 0,
                ignored: 1
            }
        );
    }

    #[test]
    #[cfg(unix)]
    fn a_crash_without_a_failing_test_is_one_failure() {
        let counts = |script| {
            let step = Step::new("sh", Path::new(".")).args(["-c", script]);
            // Not to the terminal, where whoever runs this test would count it again.
            step.count_into(&mut io::sink()).unwrap()
        };
        assert_eq!(counts("exit 101").failed, 1);
        assert_eq!(
            counts("echo 'test result: FAILED. 1 passed; 2 failed; 0 ignored'; exit 1").failed,
            2
        );
        assert_eq!(counts("echo hello").failed, 0);
    }

    #[test]
    #[cfg(unix)]
    fn a_failure_is_told_from_another() {
        let step = |script| Step::new("sh", Path::new(".")).args(["-c", script]);
        assert!(
            step("echo overflow >&2; exit 1")
                .fails_with("overflow")
                .unwrap()
        );
        assert!(!step("echo overflow >&2").fails_with("overflow").unwrap());
        assert!(!step("exit 1").fails_with("overflow").unwrap());
    }

    #[test]
    fn a_missing_program_is_named() {
        let error = Step::new("no-such-program", Path::new("."))
            .run()
            .unwrap_err();
        assert_eq!(error.to_string(), "cannot start `no-such-program`");
    }

    #[test]
    fn durations_are_short() {
        assert_eq!(duration(Duration::from_millis(4200)), "4.2 s");
        assert_eq!(duration(Duration::from_secs(187)), "3 min 07 s");
    }

    #[test]
    fn search_paths_have_no_empty_parts() {
        let first = [Path::new("/a"), Path::new("/b")];
        assert_eq!(search_path(&first, None), "/a:/b");
        assert_eq!(search_path(&first, Some("/c".into())), "/a:/b:/c");
        assert_eq!(search_path(&first, Some(OsString::new())), "/a:/b");
    }
}
