//! The files in `xtask/skips`: tests of other people that are not run, each with the reason. They
//! stay true because a skip that no longer exists, or that passes, is an error.

use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::error::Error;

/// What is skipped in one suite.
pub struct Skips {
    path: PathBuf,
    groups: Vec<Group>,
}

/// Tests of one program with one reason.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Group {
    program: String,
    reason: String,
    tests: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    skip: Vec<Group>,
}

impl Skips {
    /// Reads the skips of a suite.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let text = fs::read_to_string(path).map_err(Error::file("read", path))?;
        let File { skip } = toml::from_str(&text).map_err(|source| Error::Toml {
            path: path.to_owned(),
            source,
        })?;
        Ok(Self {
            path: path.to_owned(),
            groups: skip,
        })
    }

    /// Whether a test is skipped.
    pub fn contains(&self, program: &str, test: &str) -> bool {
        self.all().any(|skip| skip == (program, test))
    }

    /// Programs and their skipped tests.
    pub fn all(&self) -> impl Iterator<Item = (&str, &str)> {
        self.groups.iter().flat_map(|group| {
            let tests = group.tests.iter().map(String::as_str);
            tests.map(|test| (group.program.as_str(), test))
        })
    }

    /// What is wrong with the file itself, one line each: two skips of one test, or none of a
    /// reason.
    pub fn mistakes(&self) -> Vec<String> {
        let mut mistakes = Vec::new();
        let mut seen = Vec::new();
        for skip in self.all() {
            if seen.contains(&skip) {
                mistakes.push(self.about(skip.0, skip.1, "is there twice"));
            }
            seen.push(skip);
        }
        for group in &self.groups {
            if group.reason.trim().is_empty() {
                let test = group.tests.first().map_or("", String::as_str);
                mistakes.push(self.about(&group.program, test, "has no reason"));
            }
        }
        mistakes
    }

    /// A line about one skip.
    pub fn about(&self, program: &str, test: &str, what: &str) -> String {
        let file = self.path.file_name().unwrap_or_default().display();
        format!("xtask/skips/{file}: {program}: {test} {what}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn skips(text: &str) -> Result<Skips, Error> {
        let path = std::env::temp_dir().join(format!("skips-{:p}.toml", text.as_ptr()));
        fs::write(&path, text).unwrap();
        let skips = Skips::read(&path);
        fs::remove_file(path).unwrap();
        skips
    }

    #[test]
    fn a_skip_is_a_program_and_a_test() {
        let text = "[[skip]]\nprogram = 'a'\nreason = 'r'\ntests = ['x', 'm::y']\n";
        let skips = skips(text).unwrap();
        assert!(skips.contains("a", "m::y") && skips.contains("a", "x"));
        assert!(!skips.contains("a", "y") && !skips.contains("b", "x"));
        assert!(skips.mistakes().is_empty());
    }

    #[test]
    fn repeated_and_unexplained_skips_are_mistakes() {
        let text = "[[skip]]\nprogram = 'a'\nreason = ' '\ntests = ['x', 'x']\n";
        let mistakes = skips(text).unwrap().mistakes();
        assert_eq!(mistakes.len(), 2);
        assert!(mistakes[0].ends_with("a: x is there twice"), "{mistakes:?}");
        assert!(mistakes[1].ends_with("a: x has no reason"), "{mistakes:?}");
    }

    #[test]
    fn misspelt_keys_are_refused() {
        assert!(skips("[[skip]]\nprogram = 'a'\ntest = 'x'\nreason = 'r'\ntests = []\n").is_err());
    }
}
