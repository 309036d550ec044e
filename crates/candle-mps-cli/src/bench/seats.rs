//! A place at the table: a peer, started and, if it ends, started once more.

use super::peers::Entry;
use super::process::Process;
use super::turns::{Gone, Peer};

/// A peer and its process, if it has one.
pub struct Seat {
    pub entry: Entry,
    process: Option<Process>,
    /// How often it has ended.
    ends: usize,
}

/// How often a peer may end before it is given up.
const ENDS: usize = 2;

impl Seat {
    pub fn new(entry: Entry) -> Self {
        Self {
            entry,
            process: None,
            ends: 0,
        }
    }

    pub fn peer(&mut self) -> Option<&mut dyn Peer> {
        self.process
            .as_mut()
            .map(|process| process as &mut dyn Peer)
    }

    /// Starts it, or says why it does not. One that is not installed is none to start.
    pub fn start(&mut self) -> Option<String> {
        let Ok(program) = &self.entry.program else {
            return None;
        };
        match Process::start(program) {
            Ok(process) => {
                self.entry.title.clone_from(&process.title);
                self.process = Some(process);
                None
            }
            Err(Gone(why)) => {
                let problem = format!("{}: {why}", self.entry.id);
                self.entry.program = Err(why);
                Some(problem)
            }
        }
    }

    /// Ends its process and starts another, which has compiled nothing yet.
    pub fn anew(&mut self) -> Option<String> {
        self.process = None;
        self.start()
    }

    /// Starts it anew for the next row, or says that it is given up.
    pub fn restart(&mut self) -> Option<String> {
        self.ends += 1;
        if self.ends >= ENDS {
            let why = format!("it ended {ENDS} times and is left out from here on");
            let problem = format!("{}: {why}", self.entry.id);
            self.entry.program = Err(why);
            self.process = None;
            return Some(problem);
        }
        self.anew()
    }
}
