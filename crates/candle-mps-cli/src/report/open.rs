//! Shows the page in the browser of the system.

use std::path::Path;
use std::process::{Command, Stdio};

use super::Error;

#[cfg(target_os = "macos")]
const OPENER: &str = "open";
#[cfg(windows)]
const OPENER: &str = "explorer";
#[cfg(not(any(target_os = "macos", windows)))]
const OPENER: &str = "xdg-open";

/// Starts it and does not wait for it.
pub fn browser(page: &Path) -> Result<(), Error> {
    Command::new(OPENER)
        .arg(page)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .map(|_| ())
        .map_err(|source| Error::Browser {
            program: OPENER,
            page: page.to_owned(),
            source,
        })
}
