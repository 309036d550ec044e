//! Panics as answers: an op that panics has failed, and the rest goes on.

use std::fmt::Display;
use std::panic::{self, AssertUnwindSafe};
use std::sync::{Mutex, PoisonError};

static LAST: Mutex<Option<String>> = Mutex::new(None);

/// Runs `f` while panics are kept rather than printed, and afterwards restores what was done with them.
pub fn kept<R>(f: impl FnOnce() -> R) -> R {
    struct Restore;
    impl Drop for Restore {
        fn drop(&mut self) {
            if !std::thread::panicking() {
                drop(panic::take_hook());
            } else if let Some(said) = last() {
                // Nobody has caught it, so it is not an op's but ours. The hook cannot be changed now.
                eprintln!("{said}");
            }
        }
    }
    panic::set_hook(Box::new(|info| {
        *LAST.lock().unwrap_or_else(PoisonError::into_inner) = Some(info.to_string());
    }));
    let _restore = Restore;
    f()
}

/// What the last panic said, once.
pub fn last() -> Option<String> {
    LAST.lock().unwrap_or_else(PoisonError::into_inner).take()
}

/// What `f` returns, or what it said when it panicked.
pub fn caught<R>(f: impl FnOnce() -> R) -> Result<R, String> {
    panic::catch_unwind(AssertUnwindSafe(f)).map_err(|payload| {
        let said = payload
            .downcast_ref::<&str>()
            .map(ToString::to_string)
            .or_else(|| payload.downcast_ref::<String>().cloned());
        last().or(said).unwrap_or_else(|| "a panic".to_owned())
    })
}

/// The same of what may also fail.
pub fn answer<R, E: Display>(f: impl FnOnce() -> Result<R, E>) -> Result<R, String> {
    caught(f)?.map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_an_answer() {
        assert_eq!(caught(|| 3), Ok(3));
        let said = caught(|| panic!("no such row")).unwrap_err();
        assert!(said.contains("no such row"), "{said}");
        assert_eq!(
            answer(|| Err::<(), _>("refused")),
            Err("refused".to_owned())
        );
    }
}
