//! What Apple leaves open, asked of the machine: each probe answers in words, and names the switch of the simulator that
//! the answer would set. A probe runs in a process of its own, so that one which ends it has answered, too. The
//! questions are those of `docs/open-questions.md`.

mod by_name;
mod kernels;
mod matrices;
mod stream;

use crate::{Machine, NotHere};
use objc2::rc::autoreleasepool;
use std::io::Read;
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// A question.
#[derive(Clone, Copy, Debug)]
pub struct Probe {
    /// A letter, and a number where there are several.
    pub id: &'static str,
    /// In words.
    pub question: &'static str,
    /// Looks for the answer.
    pub body: fn(&Machine) -> Result<Answer, NotHere>,
    /// The switch that is set by a process that ends, where that is an answer.
    pub if_it_ends: Option<&'static str>,
}

/// What a machine answers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// In words that are the same for the same answer.
    pub text: String,
    /// The simulator's switch that would be set, if there is one.
    pub switch: Option<String>,
    /// Figures that are others each time.
    pub detail: Option<String>,
}

/// How asking went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Asked {
    /// There is an answer.
    Answer(Answer),
    /// The machine cannot be asked, and why.
    NotHere(String),
    /// The process ended without an answer, or did not end at all.
    Broken(String),
}

/// Every question.
pub fn probes() -> impl Iterator<Item = &'static Probe> {
    [
        matrices::PROBES,
        by_name::PROBES,
        stream::PROBES,
        kernels::PROBES,
    ]
    .into_iter()
    .flatten()
}

impl Answer {
    fn new(text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            ..Self::default()
        }
    }

    fn switch(self, switch: impl Into<String>) -> Self {
        Self {
            switch: Some(switch.into()),
            ..self
        }
    }

    fn detail(self, detail: impl Into<String>) -> Self {
        Self {
            detail: Some(detail.into()),
            ..self
        }
    }
}

/// The id of the probe that a child process is to run.
const PROBE: &str = "CANDLE_MPS_CONFORMANCE_PROBE";
/// What a child's line begins with.
const ANSWER: &str = "candle-mps-probe: answer\t";
const NOT_HERE: &str = "candle-mps-probe: not here\t";
/// A probe takes seconds at most; a GPU that hangs is killed by its watchdog long before.
const PATIENCE: Duration = Duration::from_secs(60);

/// In a child: answers and ends here. See [`child`](crate::child).
pub(crate) fn child() {
    let Ok(id) = std::env::var(PROBE) else {
        return;
    };
    let probe = probes().find(|probe| probe.id == id);
    let answer = match (probe, Machine::new()) {
        (Some(probe), Some(machine)) => autoreleasepool(|_| (probe.body)(&machine)),
        _ => Err(NotHere("there is no such probe, or no Metal device")),
    };
    match answer {
        Ok(it) => println!(
            "{ANSWER}{}\t{}\t{}",
            it.text,
            it.switch.unwrap_or_default(),
            it.detail.unwrap_or_default()
        ),
        Err(NotHere(why)) => println!("{NOT_HERE}{why}"),
    }
    std::process::exit(0);
}

/// Asks, in a child process with these variables besides its own.
pub fn ask(probe: &'static Probe, variables: &[(&str, &str)]) -> Asked {
    match run(probe, variables) {
        Ok(ended) => ended.asked(probe),
        Err(error) => Asked::Broken(format!("no child process: {error}")),
    }
}

/// A child that has ended.
struct Ended {
    status: Option<ExitStatus>,
    out: String,
    told: String,
}

fn run(probe: &Probe, variables: &[(&str, &str)]) -> std::io::Result<Ended> {
    let mut child = Command::new(std::env::current_exe()?)
        .env(PROBE, probe.id)
        .envs(variables.iter().copied())
        // Programs run without it, and theirs are the answers.
        .env_remove("MTL_DEBUG_LAYER")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let (out, told) = (read(child.stdout.take()), read(child.stderr.take()));
    let start = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break Some(status);
        }
        if start.elapsed() > PATIENCE {
            child.kill()?;
            child.wait()?;
            break None;
        }
        std::thread::sleep(Duration::from_millis(2));
    };
    let text = |thread: std::thread::JoinHandle<String>| thread.join().unwrap_or_default();
    Ok(Ended {
        status,
        out: text(out),
        told: text(told),
    })
}

/// Reads to the end, on a thread, so that a child never waits for its reader.
fn read(pipe: Option<impl Read + Send + 'static>) -> std::thread::JoinHandle<String> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut pipe) = pipe {
            let _ = pipe.read_to_end(&mut bytes);
        }
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

impl Ended {
    fn asked(&self, probe: &Probe) -> Asked {
        let line = |start| self.out.lines().find_map(|line| line.strip_prefix(start));
        if let Some(why) = line(NOT_HERE) {
            return Asked::NotHere(why.to_owned());
        }
        if let Some(line) = line(ANSWER) {
            let mut parts = line.split('\t').map(str::to_owned);
            let mut part = || parts.next().unwrap_or_default();
            let text = part();
            let mut some = || Some(part()).filter(|it| !it.is_empty());
            return Asked::Answer(Answer {
                text,
                switch: some(),
                detail: some(),
            });
        }
        // Where a panic was says less than what it said.
        let says = |line: &&str| !line.is_empty() && !line.starts_with("thread '");
        let said = self.told.lines().find(says);
        let said = said.unwrap_or("it said nothing").trim();
        match (self.status, probe.if_it_ends) {
            (None, _) => Asked::Broken(format!("no answer within {PATIENCE:?}")),
            (Some(_), Some(switch)) => {
                let answer = Answer::new("the process ends").switch(switch);
                Asked::Answer(answer.detail(said))
            }
            (Some(status), None) => Asked::Broken(format!("{status}: {said}")),
        }
    }
}

/// What an answer says of rounds in which something came too early.
fn early(count: usize, of: usize) -> String {
    match count {
        0 => "never too early".to_owned(),
        _ => format!("{count} of {of} too early"),
    }
}
