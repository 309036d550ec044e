//! The edits that make a copy of candle-nn call candle-mps-ops. What they are is data, in
//! `candle_nn/redirects.toml`; this file reads it and applies it to source texts.

use std::ops::Range;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::patch::error::{Error, Result};
use crate::patch::files;
use crate::patch::items::{self, Item, Missing};

const REDIRECTS: &str = include_str!("candle_nn/redirects.toml");

/// The module that the edits call.
pub const MODULE: (&str, &str) = ("src/candle_mps.rs", include_str!("candle_nn/redirect.rs"));

/// Tells the redirects of one version of this program from those of another.
pub fn fingerprint() -> String {
    files::hash([REDIRECTS.as_bytes(), MODULE.1.as_bytes()])
}

/// What is changed, and in which versions.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Redirects {
    pub versions: Vec<String>,
    #[serde(rename = "edit")]
    edits: Vec<Edit>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Edit {
    file: PathBuf,
    /// The first lines of the item and of those around it; none means the whole file.
    #[serde(default)]
    item: Vec<String>,
    /// What the item's text is in the versions.
    #[serde(default)]
    hashes: Vec<String>,
    /// How the line begins that the text is put before.
    before: Option<String>,
    #[serde(flatten)]
    text: Text,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Text {
    Call(String),
    Line(String),
    Body(String),
}

/// A part of a file and what is there instead, for the apply and the summary alike.
#[derive(Debug, PartialEq, Eq)]
pub struct Change {
    /// Where it is, for a reader.
    pub place: String,
    pub range: Range<usize>,
    pub text: String,
}

/// A file that becomes another.
#[derive(Debug)]
pub struct Edited {
    pub file: PathBuf,
    pub before: String,
    pub changes: Vec<Change>,
}

impl Redirects {
    pub fn read() -> Self {
        // Part of this program: a test reads it.
        toml_edit::de::from_str(REDIRECTS).unwrap_or_else(|_| Self {
            versions: Vec::new(),
            edits: Vec::new(),
        })
    }

    /// The files of `package`, a candle-nn of this version, that change.
    pub fn apply(&self, version: &str, package: &Path) -> Result<Vec<Edited>> {
        let mut edited: Vec<Edited> = Vec::new();
        for edit in &self.edits {
            let file = match edited.iter_mut().find(|it| it.file == edit.file) {
                Some(file) => file,
                None => {
                    edited.push(Edited {
                        file: edit.file.clone(),
                        before: files::read(&package.join(&edit.file))?,
                        changes: Vec::new(),
                    });
                    // Just pushed.
                    let last = edited.len() - 1;
                    &mut edited[last]
                }
            };
            let change = edit.change(&file.before).map_err(|found| Error::Changed {
                version: version.to_owned(),
                item: edit.place(),
                file: package.join(&edit.file),
                found,
            })?;
            file.changes.push(change);
        }
        Ok(edited)
    }
}

impl Edit {
    fn place(&self) -> String {
        match self.item.is_empty() {
            true => self.before.clone().unwrap_or_default(),
            false => {
                let names = self.item.iter().map(|it| it.trim_end_matches(['(', '<']));
                names.collect::<Vec<_>>().join(" / ")
            }
        }
    }

    fn item(&self, source: &str) -> Result<Item, Missing> {
        if self.item.is_empty() {
            let all = 0..source.len();
            return Ok(Item {
                whole: all.clone(),
                body: all,
            });
        }
        let headers: Vec<&str> = self.item.iter().map(String::as_str).collect();
        items::find(source, &headers)
    }

    /// The change, or what is wrong with the place.
    fn change(&self, source: &str) -> Result<Change, String> {
        let missing = |missing: Missing| missing.as_str().to_owned();
        let item = self.item(source).map_err(missing)?;
        let hash = files::hash([source[item.whole].as_bytes()]);
        if !self.item.is_empty() && !self.hashes.contains(&hash) {
            return Err(format!("not the text that was published, but {hash}"));
        }
        let start = match &self.before {
            Some(before) => items::line(source, item.body.clone(), before).map_err(missing)?,
            // The line after the opening brace.
            None => source[item.body.clone()]
                .find('\n')
                .map_or(item.body.end, |end| item.body.start + end + 1),
        };
        let indent: String = source[start..]
            .chars()
            .take_while(|it| *it == ' ')
            .collect();
        let (range, text) = match &self.text {
            Text::Line(line) => (start..start, format!("{indent}{line}\n")),
            Text::Call(call) => {
                let call = format!(
                    "{indent}if let Some(done) = crate::candle_mps::{call} {{\n\
                     {indent}    return done;\n{indent}}}\n"
                );
                (start..start, call)
            }
            // TOML drops the first line break.
            Text::Body(body) => (item.body, format!("\n{body}")),
        };
        Ok(Change {
            place: self.place(),
            range,
            text,
        })
    }
}

impl Edited {
    /// The file with its changes.
    pub fn after(&self) -> String {
        let mut changes: Vec<&Change> = self.changes.iter().collect();
        changes.sort_by_key(|change| change.range.start);
        let mut text = String::new();
        let mut at = 0;
        for change in changes {
            text.push_str(&self.before[at..change.range.start]);
            text.push_str(&change.text);
            at = change.range.end;
        }
        text.push_str(&self.before[at..]);
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edit(toml: &str) -> Edit {
        toml_edit::de::from_str(&format!("file = 'a.rs'\n{toml}")).unwrap()
    }

    fn applied(source: &str, toml: &str) -> Result<String, String> {
        let mut edit = edit(toml);
        if let Ok(item) = edit.item(source) {
            edit.hashes = vec![files::hash([source[item.whole].as_bytes()])];
        }
        let change = edit.change(source)?;
        Ok(Edited {
            file: edit.file.clone(),
            before: source.to_owned(),
            changes: vec![change],
        }
        .after())
    }

    #[test]
    fn the_redirects_are_read_and_each_has_a_hash() {
        let redirects = Redirects::read();
        assert!(redirects.versions.contains(&"0.11.1".to_owned()));
        assert!(redirects.edits.len() > 10);
        for edit in &redirects.edits {
            assert_eq!(edit.hashes.is_empty(), edit.item.is_empty(), "{edit:?}");
        }
    }

    #[test]
    fn every_call_is_a_function_of_the_module() {
        for edit in Redirects::read().edits {
            if let Text::Call(call) = edit.text {
                let name = call.split('(').next().unwrap();
                assert!(
                    MODULE.1.contains(&format!("pub(crate) fn {name}(")),
                    "{call}"
                );
            }
        }
    }

    const SOURCE: &str = "fn f(x: A) -> B {\n    check(x);\n    run(x)\n}\n";

    #[test]
    fn calls_lines_and_bodies_are_put_where_they_belong() {
        let first =
            "    if let Some(done) = crate::candle_mps::g(x) {\n        return done;\n    }\n";
        assert_eq!(
            applied(SOURCE, "item = ['fn f(']\ncall = 'g(x)'").unwrap(),
            SOURCE.replace("    check", &format!("{first}    check"))
        );
        assert_eq!(
            applied(SOURCE, "item = ['fn f(']\nbefore = 'run('\ncall = 'g(x)'").unwrap(),
            SOURCE.replace("    run", &format!("{first}    run"))
        );
        assert_eq!(
            applied(SOURCE, "item = ['fn f(']\nbody = '''\n    y\n'''").unwrap(),
            "fn f(x: A) -> B {\n    y\n}\n"
        );
        assert_eq!(
            applied(SOURCE, "before = 'fn f('\nline = 'mod m;'").unwrap(),
            format!("mod m;\n{SOURCE}")
        );
    }

    #[test]
    fn other_sources_are_refused_with_the_reason() {
        let call = "item = ['fn f(']\nbefore = 'run('\ncall = 'g(x)'";
        let refused = |source: &str| applied(source, call).unwrap_err();
        let twice = SOURCE.replace("check(x);", "run(y);");
        assert_eq!(refused(&twice), "there more than once");
        assert_eq!(refused("fn g() {}"), "not there");
        assert_eq!(refused(&SOURCE.repeat(2)), "there more than once");
        let unknown = edit(call).change(SOURCE).unwrap_err();
        assert!(unknown.starts_with("not the text"), "{unknown}");
    }
}
