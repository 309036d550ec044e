//! What the compiler printed, as messages with their file and line. The rewritten source says which line of which file
//! each of its lines is, so these are the `.metal` file's.

use std::process::Output;

use crate::error::{Error, Message, Severity};

/// The messages of a compiler that failed.
pub(crate) fn failure(output: &Output, name: &str) -> Error {
    let text = String::from_utf8_lossy(&output.stderr);
    let mut messages: Vec<Message> = text.lines().filter_map(message).collect();
    if !messages.iter().any(|m| m.severity == Severity::Error) {
        // The linker's, or a crash.
        let text = format!("the compiler failed ({}): {}", output.status, text.trim());
        messages.push(Message {
            file: name.to_string(),
            line: 0,
            column: 0,
            severity: Severity::Error,
            text,
        });
    }
    Error::Compile { messages }
}

/// `file:line:column: error: text`
fn message(line: &str) -> Option<Message> {
    let kinds = [
        (": fatal error: ", Severity::Error),
        (": error: ", Severity::Error),
        (": warning: ", Severity::Warning),
        (": note: ", Severity::Note),
    ];
    let (place, severity, text) = kinds.iter().find_map(|(mark, severity)| {
        let (place, text) = line.split_once(mark)?;
        Some((place, *severity, text))
    })?;
    let mut parts = place.rsplitn(3, ':');
    let column = parts.next()?.parse().ok()?;
    let line = parts.next()?.parse().ok()?;
    Some(Message {
        file: parts.next()?.to_string(),
        line,
        column,
        severity,
        text: text.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_have_file_line_and_column() {
        let found = message("a:b.metal:12:7: fatal error: 'x.h' file not found").unwrap();
        assert_eq!(
            (found.file.as_str(), found.line, found.column),
            ("a:b.metal", 12, 7)
        );
        assert_eq!(found.severity, Severity::Error);
        assert_eq!(
            found.to_string(),
            "a:b.metal:12:7: error: 'x.h' file not found"
        );
        assert_eq!(message("2 errors generated."), None);
    }
}
