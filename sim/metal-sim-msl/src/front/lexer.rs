//! Preprocessed text becomes tokens that know their file, line and column. Brackets are paired here once, so that the
//! other modules can step over a group; angle brackets are not, they depend on what stands around them.

use std::{collections::HashMap, ops::Range};

use crate::error::{Error, Message, Severity};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Word,
    Number,
    /// A string or a character.
    Literal,
    Mark,
    /// A line that begins with `#`, such as a pragma.
    Directive,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Token {
    pub kind: Kind,
    start: usize,
    end: usize,
    pub file: usize,
    pub line: u32,
    pub column: u32,
    /// White space stands before it.
    pub spaced: bool,
}

/// Preprocessed source as tokens.
#[derive(Debug)]
pub(crate) struct Source {
    text: String,
    pub files: Vec<String>,
    pub tokens: Vec<Token>,
    /// For a bracket, its partner; for others, themselves.
    partner: Vec<usize>,
}

/// Marks of more than one character that must not be read as two.
const LONG_MARKS: [&str; 12] = [
    "...", "<<=", "::", "->", "&&", "||", "==", "!=", "<=", ">=", "<<", "##",
];

impl Source {
    /// Reads what `clang -E` printed; `name` is the file of what has no line marker before it.
    pub fn new(text: String, name: &str) -> Result<Self, Error> {
        let mut lexer = Lexer {
            bytes: text.as_bytes(),
            at: 0,
            line: 1,
            line_start: 0,
            file: 0,
            files: vec![name.to_string()],
            numbers: HashMap::from([(name.to_string(), 0)]),
            tokens: Vec::new(),
        };
        lexer.run();
        let (files, tokens) = (lexer.files, lexer.tokens);
        let partner = Vec::new();
        let mut source = Self {
            text,
            files,
            tokens,
            partner,
        };
        source.pair()?;
        Ok(source)
    }

    pub fn len(&self) -> usize {
        self.tokens.len()
    }

    pub fn text(&self, token: usize) -> &str {
        self.tokens
            .get(token)
            .map_or("", |t| &self.text[t.start..t.end])
    }

    pub fn is(&self, token: usize, text: &str) -> bool {
        self.text(token) == text
    }

    pub fn is_word(&self, token: usize) -> bool {
        self.tokens.get(token).is_some_and(|t| t.kind == Kind::Word)
    }

    /// The bracket that closes, or opens, this one.
    pub fn partner(&self, token: usize) -> usize {
        self.partner[token]
    }

    /// The token after this one, or after the group that it opens.
    pub fn after(&self, token: usize) -> usize {
        self.partner[token].max(token) + 1
    }

    /// For `<` as the beginning of template arguments: the token of its `>`.
    pub fn angle(&self, open: usize) -> Option<usize> {
        if !self.is(open, "<") {
            return None;
        }
        let (mut at, mut depth) = (open, 0);
        while at < self.len() {
            match self.text(at) {
                "<" => depth += 1,
                ">" => {
                    depth -= 1;
                    if depth == 0 {
                        return Some(at);
                    }
                }
                ";" | ")" | "]" | "}" => return None,
                _ => {}
            }
            at = self.after(at);
        }
        None
    }

    /// What commas part between two tokens, those inside brackets and template arguments aside.
    pub fn split(&self, tokens: Range<usize>) -> Vec<Range<usize>> {
        let (mut first, mut at) = (tokens.start, tokens.start);
        let mut all = Vec::new();
        while at < tokens.end {
            if self.is(at, ",") {
                all.push(first..at);
                first = at + 1;
            }
            at = self.angle(at).filter(|&a| a < tokens.end).unwrap_or(at);
            at = self.after(at);
        }
        if first < tokens.end {
            all.push(first..tokens.end);
        }
        all
    }

    /// `file:line`, as messages begin.
    pub fn place(&self, token: usize) -> String {
        self.tokens
            .get(token.min(self.len().saturating_sub(1)))
            .map_or_else(
                || self.files[0].clone(),
                |t| format!("{}:{}:{}", self.files[t.file], t.line, t.column),
            )
    }

    pub fn line(&self, token: usize) -> u32 {
        self.tokens.get(token).map_or(0, |t| t.line)
    }

    /// The tokens from `first` up to `end`, with single spaces where there was white space.
    pub fn join(&self, tokens: impl IntoIterator<Item = usize>) -> String {
        let mut out = String::new();
        for token in tokens {
            if !out.is_empty() && self.tokens[token].spaced {
                out.push(' ');
            }
            out.push_str(self.text(token));
        }
        out
    }

    /// A refusal at a token.
    pub fn unsupported(&self, token: usize, what: impl Into<String>, remedy: &str) -> Error {
        Error::Unsupported {
            place: self.place(token),
            what: what.into(),
            remedy: remedy.to_string(),
        }
    }

    fn pair(&mut self) -> Result<(), Error> {
        self.partner = (0..self.len()).collect();
        let mut open: Vec<usize> = Vec::new();
        for token in 0..self.len() {
            if self.tokens[token].kind != Kind::Mark {
                continue;
            }
            let opener = match self.text(token) {
                "(" | "[" | "{" => {
                    open.push(token);
                    continue;
                }
                ")" => "(",
                "]" => "[",
                "}" => "{",
                _ => continue,
            };
            let Some(other) = open.pop().filter(|&o| self.is(o, opener)) else {
                let text = format!("`{}` without `{opener}`", self.text(token));
                return Err(self.syntax(token, text));
            };
            self.partner[other] = token;
            self.partner[token] = other;
        }
        match open.last() {
            Some(&token) => {
                Err(self.syntax(token, format!("`{}` is never closed", self.text(token))))
            }
            None => Ok(()),
        }
    }

    fn syntax(&self, token: usize, text: String) -> Error {
        let t = self.tokens[token];
        let (file, severity) = (self.files[t.file].clone(), Severity::Error);
        Error::Compile {
            messages: vec![Message {
                file,
                line: t.line,
                column: t.column,
                severity,
                text,
            }],
        }
    }
}

struct Lexer<'a> {
    bytes: &'a [u8],
    at: usize,
    line: u32,
    line_start: usize,
    file: usize,
    files: Vec<String>,
    numbers: HashMap<String, usize>,
    tokens: Vec<Token>,
}

impl Lexer<'_> {
    fn run(&mut self) {
        let mut spaced = true;
        while let Some(&byte) = self.bytes.get(self.at) {
            let start = self.at;
            let kind = match byte {
                b'\n' => {
                    self.at += 1;
                    self.line += 1;
                    self.line_start = self.at;
                    spaced = true;
                    continue;
                }
                b' ' | b'\t' | b'\r' | 0x0b | 0x0c | b'\\' => {
                    self.at += 1;
                    spaced = true;
                    continue;
                }
                b'#' if self.bytes[self.line_start..start]
                    .iter()
                    .all(u8::is_ascii_whitespace) =>
                {
                    self.end_of_line();
                    if self.marker(start) {
                        continue;
                    }
                    Kind::Directive
                }
                b'"' | b'\'' => {
                    self.literal(byte);
                    Kind::Literal
                }
                b'0'..=b'9' => {
                    self.number();
                    Kind::Number
                }
                b'.' if self.bytes.get(start + 1).is_some_and(u8::is_ascii_digit) => {
                    self.number();
                    Kind::Number
                }
                b'A'..=b'Z' | b'a'..=b'z' | b'_' | b'$' | 0x80.. => {
                    let word =
                        |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'$' | 0x80..);
                    self.at += self.bytes[start..].iter().take_while(|b| word(b)).count();
                    Kind::Word
                }
                _ => {
                    let rest = &self.bytes[start..];
                    let long = LONG_MARKS.iter().find(|m| rest.starts_with(m.as_bytes()));
                    self.at += long.map_or(1, |m| m.len());
                    Kind::Mark
                }
            };
            let column = (start - self.line_start + 1) as u32;
            let (end, file, line) = (self.at, self.file, self.line);
            self.tokens.push(Token {
                kind,
                start,
                end,
                file,
                line,
                column,
                spaced,
            });
            spaced = false;
        }
    }

    fn end_of_line(&mut self) {
        self.at += self.bytes[self.at..]
            .iter()
            .take_while(|&&b| b != b'\n')
            .count();
    }

    /// `# 12 "file" 1 3`: the next line is line 12 of that file.
    fn marker(&mut self, start: usize) -> bool {
        let text = String::from_utf8_lossy(&self.bytes[start + 1..self.at]).into_owned();
        let text = text.trim_start();
        let text = text.strip_prefix("line ").unwrap_or(text);
        let Some((number, rest)) = text.split_once(' ') else {
            return false;
        };
        let Ok(line) = number.parse::<u32>() else {
            return false;
        };
        let Some(name) = rest
            .trim_start()
            .strip_prefix('"')
            .and_then(|r| r.rsplit_once('"'))
        else {
            return false;
        };
        let name = name.0.replace("\\\\", "\\").replace("\\\"", "\"");
        let next = self.files.len();
        self.file = *self.numbers.entry(name.clone()).or_insert(next);
        if self.file == next {
            self.files.push(name);
        }
        // The end of the marker's own line counts one up.
        self.line = line.wrapping_sub(1);
        true
    }

    fn literal(&mut self, quote: u8) {
        self.at += 1;
        while let Some(&byte) = self.bytes.get(self.at) {
            match byte {
                b'\\' => self.at += 2,
                b'\n' => return,
                _ => self.at += 1,
            }
            if byte == quote {
                break;
            }
        }
        self.at = self.at.min(self.bytes.len());
    }

    fn number(&mut self) {
        while let Some(&byte) = self.bytes.get(self.at) {
            let sign = matches!(byte, b'+' | b'-')
                && matches!(self.bytes[self.at - 1], b'e' | b'E' | b'p' | b'P')
                && (!self.hexadecimal() || matches!(self.bytes[self.at - 1], b'p' | b'P'));
            if !(byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'\'') || sign) {
                break;
            }
            self.at += 1;
        }
    }

    /// Whether the number that ends here began with `0x`, where `e` is a digit.
    fn hexadecimal(&self) -> bool {
        let begin = self.bytes[..self.at]
            .iter()
            .rposition(|b| !(b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'\'')))
            .map_or(0, |p| p + 1);
        self.bytes[begin..].starts_with(b"0x") || self.bytes[begin..].starts_with(b"0X")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        let source = Source::new(text.to_string(), "a.metal").unwrap();
        (0..source.len())
            .map(|t| source.text(t).to_string())
            .collect()
    }

    #[test]
    fn marks_that_close_template_arguments_stay_apart() {
        assert_eq!(words("a<b<c>>d"), ["a", "<", "b", "<", "c", ">", ">", "d"]);
        assert_eq!(words("p->q<<2"), ["p", "->", "q", "<<", "2"]);
    }

    #[test]
    fn numbers_and_literals_are_one_token() {
        assert_eq!(
            words("1.0e-5f 0x1e+2 0x1p-3 .5h"),
            ["1.0e-5f", "0x1e", "+", "2", "0x1p-3", ".5h"]
        );
        assert_eq!(words(r#""a\"b" 'x' "//""#), [r#""a\"b""#, "'x'", "\"//\""]);
    }

    #[test]
    fn line_markers_name_file_and_line() {
        let text =
            "# 1 \"a.metal\"\nx\n# 40 \"b.h\" 1\ny\n\nz\n# 3 \"a.metal\" 2\nw\n#pragma unroll\n";
        let source = Source::new(text.to_string(), "a.metal").unwrap();
        let places: Vec<_> = (0..source.len()).map(|t| source.place(t)).collect();
        assert_eq!(
            places,
            [
                "a.metal:1:1",
                "b.h:40:1",
                "b.h:42:1",
                "a.metal:3:1",
                "a.metal:4:1"
            ]
        );
        assert_eq!(source.tokens[4].kind, Kind::Directive);
    }

    #[test]
    fn brackets_that_do_not_match_name_their_line() {
        let error = Source::new("void f() {\n (a];\n}".to_string(), "a.metal").unwrap_err();
        assert_eq!(error.to_string(), "a.metal:2:4: error: `]` without `[`");
        let error = Source::new("void f()\n {".to_string(), "a.metal").unwrap_err();
        assert_eq!(error.to_string(), "a.metal:2:2: error: `{` is never closed");
    }
}
