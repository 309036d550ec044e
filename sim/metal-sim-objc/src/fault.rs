//! What happens when a program does something that Apple's runtime, Metal's debug layer or
//! MPS would stop it for. One line says which rule was broken by which object and call;
//! then the thread panics (the default, so that a test can assert it) or the process
//! aborts, as a Mac would, when `METAL_SIM_FAULTS=abort`.

use std::sync::OnceLock;

/// How a fault ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Unwind: a test can catch it and look at the message.
    Panic,
    /// End the process, as Apple's frameworks do.
    Abort,
}

/// How faults end in this process: `METAL_SIM_FAULTS` is read once.
pub fn ending() -> Ending {
    static ENDING: OnceLock<Ending> = OnceLock::new();
    *ENDING.get_or_init(|| match std::env::var("METAL_SIM_FAULTS").as_deref() {
        Ok("abort") => Ending::Abort,
        Ok("panic") | Err(_) => Ending::Panic,
        Ok(other) => {
            eprintln!(
                "metal-sim: METAL_SIM_FAULTS={other} is neither `panic` nor `abort`; using panic"
            );
            Ending::Panic
        }
    })
}

/// Reports a broken rule and does not return.
///
/// `rule` is a short name to search for ("over-release", "commit twice"); `detail` names
/// the object and the call.
#[cold]
pub fn fault(rule: &str, detail: impl std::fmt::Display) -> ! {
    let message = format!("metal-sim: {rule}: {detail}");
    if ending() == Ending::Abort {
        eprintln!("{message}");
        std::process::abort();
    }
    panic!("{message}");
}

/// Reports something doubtful that Apple's frameworks accept, once per text.
pub fn warn(rule: &str, detail: impl std::fmt::Display) {
    use std::collections::HashSet;
    use std::sync::{Mutex, PoisonError};
    static SEEN: OnceLock<Mutex<HashSet<String>>> = OnceLock::new();
    let line = format!("metal-sim: warning: {rule}: {detail}");
    let mut seen = SEEN
        .get_or_init(Mutex::default)
        .lock()
        .unwrap_or_else(PoisonError::into_inner);
    if seen.insert(line.clone()) {
        eprintln!("{line}");
    }
}
