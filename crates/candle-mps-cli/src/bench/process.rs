//! A peer that is a program: started once, asked in lines of JSON, stopped with the bench. Whatever it does
//! (end, hang, talk nonsense) is an answer here and no harm to the others.

use std::ffi::OsString;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use serde::de::DeserializeOwned;

use super::protocol::{Answer, Hello, Question};
use super::turns::{Gone, Peer};

/// How long a peer may take to say what it is: Python imports a lot.
const START: Duration = Duration::from_secs(120);

/// How long it may take to answer.
const ANSWER: Duration = Duration::from_secs(120);

/// How to start a peer.
#[derive(Clone, Debug, Default)]
pub struct Program {
    pub program: OsString,
    pub arguments: Vec<OsString>,
    pub set: Vec<(&'static str, String)>,
    pub unset: Vec<&'static str>,
}

/// A peer that runs.
pub struct Process {
    child: Child,
    questions: ChildStdin,
    lines: Receiver<std::io::Result<String>>,
    /// The last thing that it complained of.
    complaint: Arc<Mutex<String>>,
    /// Whether it has been asked: only what it is asked first can be its first call.
    asked: bool,
    /// What it said it is.
    pub title: String,
}

impl Process {
    /// Starts it and waits until it has said what it is.
    pub fn start(program: &Program) -> Result<Self, Gone> {
        let mut command = Command::new(&program.program);
        command
            .args(&program.arguments)
            .envs(program.set.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        for name in &program.unset {
            command.env_remove(name);
        }
        let name = program.program.to_string_lossy().into_owned();
        let mut child = command
            .spawn()
            .map_err(|error| Gone(format!("{name} does not start: {error}")))?;
        let pipes = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let (Some(questions), Some(answers), Some(complaints)) = pipes else {
            return Err(Gone(format!("{name} has no pipes")));
        };
        let (sender, lines) = channel();
        // A thread of its own reads, so that a peer that hangs can be given up.
        thread::spawn(move || {
            for line in BufReader::new(answers).lines() {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        let complaint = Arc::new(Mutex::new(String::new()));
        let last = Arc::clone(&complaint);
        thread::spawn(move || {
            let lines = BufReader::new(complaints).lines().map_while(Result::ok);
            for line in lines.filter(|line| !line.trim().is_empty()) {
                *last.lock().unwrap_or_else(PoisonError::into_inner) = line;
            }
        });
        let mut process = Self {
            child,
            questions,
            lines,
            complaint,
            asked: false,
            title: String::new(),
        };
        process.title = process.hear::<Hello>(START)?.title;
        Ok(process)
    }

    /// Its number on this machine.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    fn hear<T: DeserializeOwned>(&mut self, patience: Duration) -> Result<T, Gone> {
        match self.lines.recv_timeout(patience) {
            Ok(Ok(line)) => serde_json::from_str(&line)
                .map_err(|_| Gone(format!("it said “{}”, which is no answer", cut(&line)))),
            Ok(Err(error)) => Err(Gone(format!("it said what is no text: {error}"))),
            Err(RecvTimeoutError::Timeout) => {
                Err(Gone(format!("no answer within {} s", patience.as_secs())))
            }
            Err(RecvTimeoutError::Disconnected) => Err(self.ended()),
        }
    }

    /// How it ended, with the last thing that it complained of.
    fn ended(&mut self) -> Gone {
        // It has closed its output, but may go on for ever.
        let _ = self.child.kill();
        let status = match self.child.wait() {
            Ok(status) => status.to_string(),
            Err(error) => error.to_string(),
        };
        // What it wrote last may still be on its way to the thread that reads.
        thread::sleep(Duration::from_millis(50));
        let complaint = self.complaint.lock();
        let complaint = complaint.unwrap_or_else(PoisonError::into_inner);
        Gone(match complaint.as_str() {
            "" => format!("it ended ({status})"),
            complaint => format!("it ended ({status}): {}", cut(complaint)),
        })
    }
}

impl Peer for Process {
    fn ask(&mut self, question: &Question) -> Result<Answer, Gone> {
        let mut line = serde_json::to_vec(question).map_err(|error| Gone(error.to_string()))?;
        line.push(b'\n');
        if self.questions.write_all(&line).is_err() {
            return Err(self.ended());
        }
        let mut answer = self.hear(ANSWER)?;
        if let (true, Answer::Done { first, .. }) = (self.asked, &mut answer) {
            *first = None;
        }
        self.asked = true;
        Ok(answer)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It would end with its input; killing it spares the wait.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The beginning of what may be long.
fn cut(text: &str) -> String {
    const LONG: usize = 200;
    match text.char_indices().nth(LONG) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use crate::bench::device::Place;
    use crate::results::Pass;
    use crate::results::bench::Regime;

    fn shell(script: &str) -> Program {
        Program {
            program: "sh".into(),
            arguments: vec!["-c".into(), script.into()],
            ..Program::default()
        }
    }

    fn question() -> Question {
        Question {
            op: "softmax".to_owned(),
            pass: Pass::Forward,
            sizes: vec![1, 8],
            dtype: "f32".to_owned(),
            regime: Regime::Latency,
            device: Place::Cpu,
            results: 1,
        }
    }

    fn gone(script: &str) -> String {
        match Process::start(&shell(script)) {
            Ok(mut process) => process.ask(&question()).unwrap_err().0,
            Err(Gone(why)) => why,
        }
    }

    #[test]
    fn it_answers_what_it_is_asked() {
        let script = r#"echo '{"title":"t"}'; while read -r line; do echo '{"seconds":[1.0],"cpu_seconds":2.0,"first":3.0}'; done"#;
        let mut process = Process::start(&shell(script)).unwrap();
        assert_eq!(process.title, "t");
        for first in [Some(3.), None] {
            let answer = process.ask(&question()).unwrap();
            assert_eq!(
                answer,
                Answer::Done {
                    seconds: vec![1.],
                    cpu_seconds: 2.,
                    first,
                }
            );
        }
    }

    #[test]
    fn however_it_fails_there_is_a_reason() {
        let missing = Program {
            program: "no-such-python".into(),
            ..Program::default()
        };
        let why = Process::start(&missing).map(|_| ()).unwrap_err().0;
        assert!(why.starts_with("no-such-python does not start"), "{why}");
        let why = gone("echo first >&2; echo 'No module named torch' >&2; exit 3");
        assert!(
            why.contains('3') && why.ends_with("No module named torch"),
            "{why}"
        );
        let why = gone("echo hello");
        assert_eq!(why, "it said “hello”, which is no answer");
        let why = gone(r#"echo '{"title":"t"}'; read -r line; kill -9 $$"#);
        assert!(why.contains("signal: 9"), "{why}");
    }
}
