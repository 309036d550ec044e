//! Finds items in Rust source by their first line and the braces after it, without a parser: strings
//! and comments are blanked out, then braces are counted.

use std::ops::Range;

/// A place in a source text.
#[derive(Debug, PartialEq, Eq)]
pub struct Item {
    /// From its first line to its closing brace.
    pub whole: Range<usize>,
    /// Between its braces.
    pub body: Range<usize>,
}

/// Why an item was not found.
#[derive(Debug, PartialEq, Eq)]
pub enum Missing {
    None,
    Several,
}

impl Missing {
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::None => "not there",
            Self::Several => "there more than once",
        }
    }
}

/// The item that the headers lead to, each inside of the one before: `impl Module for Linear`, then
/// `fn forward`. A header stands at the start of a line, attributes aside, and is there once.
pub fn find(source: &str, headers: &[&str]) -> Result<Item, Missing> {
    let blank = blanked(source);
    let mut within = 0..source.len();
    let mut found = Err(Missing::None);
    for header in headers {
        let start = once(&blank, within.clone(), header, true)?;
        let open = start + blank[start..within.end].find('{').ok_or(Missing::None)?;
        let close = closing(&blank, open).ok_or(Missing::None)?;
        within = open + 1..close;
        found = Ok(Item {
            whole: start..close + 1,
            body: within.clone(),
        });
    }
    found
}

/// The start of the line, within a range, that begins with `text`: there is exactly one.
pub fn line(source: &str, within: Range<usize>, text: &str) -> Result<usize, Missing> {
    let at = once(&blanked(source), within, text, true)?;
    Ok(source[..at].rfind('\n').map_or(0, |end| end + 1))
}

/// Where `text` is, as whole words. With `leading`, only white space is before it on its line.
fn once(blank: &str, within: Range<usize>, text: &str, leading: bool) -> Result<usize, Missing> {
    let part = &blank[within.clone()];
    let is_word = |char: char| char.is_alphanumeric() || char == '_';
    let mut places = part.match_indices(text).filter(|(at, _)| {
        let before = part[..*at].rsplit('\n').next().unwrap_or_default();
        let after = part[at + text.len()..].chars().next();
        let ends = !text.ends_with(is_word) || !after.is_some_and(is_word);
        ends && (!leading || before.trim().is_empty())
    });
    match (places.next(), places.next()) {
        (Some((at, _)), None) => Ok(within.start + at),
        (Some(_), Some(_)) => Err(Missing::Several),
        _ => Err(Missing::None),
    }
}

/// The brace that closes the one at `open`.
fn closing(blank: &str, open: usize) -> Option<usize> {
    let mut depth = 0usize;
    for (at, byte) in blank.bytes().enumerate().skip(open) {
        match byte {
            b'{' => depth += 1,
            b'}' => depth = depth.checked_sub(1)?,
            _ => continue,
        }
        if depth == 0 {
            return Some(at);
        }
    }
    None
}

/// The source with spaces for what is in comments, strings and characters; of the same length.
fn blanked(source: &str) -> String {
    let bytes = source.as_bytes();
    let mut blank = bytes.to_vec();
    let mut at = 0;
    while at < bytes.len() {
        let end = match bytes[at] {
            b'/' if bytes[at..].starts_with(b"//") => until(bytes, at, b"\n"),
            b'/' if bytes[at..].starts_with(b"/*") => comment(bytes, at),
            b'"' => string(bytes, at),
            b'r' if !preceded_by_word(bytes, at) => raw_string(bytes, at),
            b'\'' => character(bytes, at),
            _ => at + 1,
        };
        if end > at + 1 {
            for byte in &mut blank[at..end] {
                if *byte != b'\n' {
                    *byte = b' ';
                }
            }
        }
        at = end;
    }
    // Whole tokens were replaced, and those begin and end with ASCII.
    String::from_utf8_lossy(&blank).into_owned()
}

fn preceded_by_word(bytes: &[u8], at: usize) -> bool {
    at > 0
        && (bytes[at - 1].is_ascii_alphanumeric() || bytes[at - 1] == b'_')
        && bytes[at - 1] != b'b'
}

/// Where `text` begins after `at`, or the end.
fn until(bytes: &[u8], at: usize, text: &[u8]) -> usize {
    let rest = bytes[at..].windows(text.len());
    rest.into_iter()
        .position(|window| window == text)
        .map_or(bytes.len(), |found| at + found)
}

/// The end of a comment that may contain others.
fn comment(bytes: &[u8], start: usize) -> usize {
    let (mut at, mut depth) = (start, 0);
    while at < bytes.len() {
        if bytes[at..].starts_with(b"/*") {
            (at, depth) = (at + 2, depth + 1);
        } else if bytes[at..].starts_with(b"*/") {
            (at, depth) = (at + 2, depth - 1);
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    at
}

fn string(bytes: &[u8], start: usize) -> usize {
    let mut at = start + 1;
    while at < bytes.len() {
        match bytes[at] {
            b'\\' => at += 2,
            b'"' => return at + 1,
            _ => at += 1,
        }
    }
    bytes.len()
}

fn raw_string(bytes: &[u8], start: usize) -> usize {
    let hashes = bytes[start + 1..].iter().take_while(|it| **it == b'#');
    let hashes = hashes.count();
    let quote = start + 1 + hashes;
    if bytes.get(quote) != Some(&b'"') {
        return start + 1;
    }
    let end = [b"\"".as_slice(), &b"#".repeat(hashes)].concat();
    (until(bytes, quote + 1, &end) + end.len()).min(bytes.len())
}

/// The end of a character, or of the quote of a lifetime.
fn character(bytes: &[u8], start: usize) -> usize {
    if bytes.get(start + 1) == Some(&b'\\') {
        // What is escaped may be a quote.
        return (until(bytes, (start + 3).min(bytes.len()), b"'") + 1).min(bytes.len());
    }
    let text = std::str::from_utf8(&bytes[start + 1..]).unwrap_or_default();
    let width = text.chars().next().map_or(0, char::len_utf8);
    match bytes.get(start + 1 + width) {
        Some(b'\'') if width > 0 => start + width + 2,
        _ => start + 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOURCE: &str = r##"
// fn one() { in a comment
/* fn one() { /* deeper */ */
impl A for B {
    fn one<'a>(x: &'a str) -> char {
        let brace = ['{', '\'', '\u{7b}', 'é'];
        let text = "} \" {" ;
        let raw = r#"} " fn two() {"#;
        for x in y { z(); }
        'q'
    }
    fn one_more() {}
}
fn one() {}
"##;

    fn text(headers: &[&str]) -> Result<&'static str, Missing> {
        find(SOURCE, headers).map(|item| &SOURCE[item.whole])
    }

    #[test]
    fn braces_in_strings_characters_and_comments_do_not_count() {
        let one = text(&["impl A for B", "fn one<"]).unwrap();
        assert!(one.starts_with("fn one<'a>(x"), "{one}");
        assert!(one.ends_with("'q'\n    }"), "{one}");
        assert_eq!(
            text(&["impl A for B", "fn one_more"]).unwrap(),
            "fn one_more() {}"
        );
        assert!(
            text(&["impl A for B"])
                .unwrap()
                .ends_with("fn one_more() {}\n}")
        );
    }

    #[test]
    fn what_is_not_there_and_what_is_there_twice_are_told_apart() {
        assert_eq!(text(&["fn two"]), Err(Missing::None));
        assert_eq!(text(&["impl A for B", "fn three"]), Err(Missing::None));
        assert_eq!(text(&["fn one"]), Err(Missing::Several));
        assert_eq!(text(&["one()"]), Err(Missing::None));
        assert_eq!(
            text(&["impl A for"]).map(str::len),
            text(&["impl A for B"]).map(str::len)
        );
    }

    #[test]
    fn a_body_is_what_is_between_the_braces() {
        let item = find("fn f() -> A { b }", &["fn f("]).unwrap();
        assert_eq!(
            item,
            Item {
                whole: 0..17,
                body: 13..16
            }
        );
        assert_eq!(find("fn f() { {", &["fn f("]), Err(Missing::None));
    }

    #[test]
    fn lines_are_found_at_their_start() {
        let source = "fn f() {\n    a(b);\n    c(a(b));\n}";
        assert_eq!(line(source, 0..source.len(), "a("), Ok(9));
        assert_eq!(line(source, 0..source.len(), "b"), Err(Missing::None));
        assert_eq!(line(source, 0..9, "a("), Err(Missing::None));
    }

    #[test]
    fn blanking_keeps_every_position() {
        for source in [
            SOURCE,
            "'",
            "\"",
            "r#\"",
            "/*",
            "'\\",
            "\"\\",
            "br\"{\" b'{'",
            "é'é'",
        ] {
            assert_eq!(blanked(source).len(), source.len(), "{source}");
        }
        assert!(!blanked("br\"{\" b'{' \"{\" // {").contains('{'));
    }
}
