//! The changes to a source, token by token, and the text that comes of them. Every token stays on its line of its
//! file, so what the compiler says and what the debug information names is the `.metal` file.

use std::{collections::BTreeMap, fmt::Write, ops::Range};

use super::lexer::{Kind, Source};

/// What happens to a token; without an entry it stays.
#[derive(Clone, Debug, Default)]
pub(crate) struct Edits {
    replaced: BTreeMap<usize, String>,
    /// Text to stand before a token, on its line.
    before: BTreeMap<usize, String>,
}

impl Edits {
    pub fn replace(&mut self, token: usize, text: impl Into<String>) {
        self.replaced.insert(token, text.into());
    }

    pub fn drop(&mut self, token: usize) {
        self.replaced.insert(token, String::new());
    }

    pub fn drop_all(&mut self, tokens: Range<usize>) {
        for token in tokens {
            self.drop(token);
        }
    }

    /// Drops tokens and what was to stand before them.
    pub fn remove(&mut self, tokens: Range<usize>) {
        self.before.retain(|t, _| !tokens.contains(t));
        self.drop_all(tokens);
    }

    /// Several texts before one token stand in the order they were given.
    pub fn before(&mut self, token: usize, text: &str) {
        let slot = self.before.entry(token).or_default();
        slot.push_str(text);
        slot.push(' ');
    }

    pub fn is_dropped(&self, token: usize) -> bool {
        self.replaced.get(&token).is_some_and(String::is_empty)
    }

    /// The token as it will be.
    pub fn text<'a>(&'a self, source: &'a Source, token: usize) -> &'a str {
        self.replaced
            .get(&token)
            .map_or_else(|| source.text(token), String::as_str)
    }

    /// The whole source after the changes. A text `before` the end of the tokens comes last.
    pub fn apply(&self, source: &Source) -> String {
        let mut out = Writer {
            text: String::new(),
            file: usize::MAX,
            line: 0,
            column: 1,
        };
        for token in 0..source.len() {
            let before = self.before.get(&token);
            let text = self.text(source, token);
            if before.is_none() && text.is_empty() {
                continue;
            }
            let t = source.tokens[token];
            out.go(&source.files, t.file, t.line, t.column);
            if let Some(before) = before {
                out.put(before);
            }
            if t.spaced {
                out.space();
            }
            out.put(text);
            if t.kind == Kind::Directive {
                out.newline();
            }
        }
        out.newline();
        if let Some(last) = self.before.get(&source.len()) {
            out.put(last);
            out.newline();
        }
        out.text
    }
}

struct Writer {
    text: String,
    file: usize,
    line: u32,
    column: u32,
}

impl Writer {
    /// To a place in a file, and to a column if it is not passed yet.
    fn go(&mut self, files: &[String], file: usize, line: u32, column: u32) {
        let same = self.file == file && line >= self.line;
        if same && line - self.line < 8 {
            while self.line < line {
                self.newline();
            }
        } else {
            if !self.text.is_empty() && !self.text.ends_with('\n') {
                self.text.push('\n');
            }
            let name = files[file].replace('\\', "\\\\").replace('"', "\\\"");
            writeln!(self.text, "#line {line} \"{name}\"").expect("a String takes everything");
            (self.file, self.line, self.column) = (file, line, 1);
        }
        while self.column < column {
            self.put(" ");
        }
    }

    fn put(&mut self, text: &str) {
        // Two words with something dropped between them are still two.
        let joins = |c: char| c.is_alphanumeric() || c == '_';
        if text.starts_with(joins) && self.text.ends_with(joins) {
            self.text.push(' ');
            self.column += 1;
        }
        self.text.push_str(text);
        self.column += text.len() as u32;
    }

    /// What stood apart stays apart.
    fn space(&mut self) {
        if !self.text.is_empty() && !self.text.ends_with(char::is_whitespace) {
            self.text.push(' ');
            self.column += 1;
        }
    }

    fn newline(&mut self) {
        self.text.push('\n');
        self.line += 1;
        self.column = 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_and_columns_stay() {
        let text = "# 1 \"a.metal\"\nint a;\n\n  int b;\n# 90 \"a.metal\"\nint c;\n";
        let source = Source::new(text.to_string(), "a.metal").unwrap();
        let mut edits = Edits::default();
        edits.drop(1);
        edits.before(3, "static");
        assert_eq!(
            edits.apply(&source),
            "#line 1 \"a.metal\"\nint  ;\n\n  static int b;\n#line 90 \"a.metal\"\nint c;\n"
        );
    }

    #[test]
    fn words_never_grow_together() {
        let source = Source::new("device/**/ x".replace("/**/", ""), "a.metal").unwrap();
        let mut edits = Edits::default();
        edits.replace(0, "const_float_that_is_long");
        assert!(edits.apply(&source).contains("const_float_that_is_long x"));
    }
}
