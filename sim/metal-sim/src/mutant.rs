//! Kernels with a barrier taken away: whether the detector misses it says whether it is needed, and whether the
//! tests would notice.

use std::ops::Range;
use std::str::FromStr;

/// One barrier of a source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WithoutBarrier {
    /// Which of those behind the text, from 0.
    pub number: usize,
    /// Sources that do not contain this stay as they are.
    pub text: String,
}

impl FromStr for WithoutBarrier {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (number, text) = text.split_once(':').unwrap_or((text, ""));
        match number.parse() {
            Ok(number) => Ok(Self {
                number,
                text: text.to_owned(),
            }),
            Err(_) => Err(format!("N or N:TEXT, and `{number}` is not a number")),
        }
    }
}

impl WithoutBarrier {
    /// The source without it, if it is one of those. Every line stays where it is. A source with the text and without
    /// so many barriers behind it is an error: it would pass for one that nobody misses.
    pub(crate) fn taken_from(&self, source: &str) -> Result<Option<String>, String> {
        let Some(start) = source.find(&self.text) else {
            return Ok(None);
        };
        let behind = barriers(source);
        let mut behind = behind.into_iter().filter(|it| it.start >= start);
        let Some(place) = behind.nth(self.number) else {
            let Self { number, text } = self;
            return Err(format!("there is no barrier {number} behind `{text}`"));
        };
        let mut mutant = source.to_owned();
        let blanks = source[place.clone()].replace(|it| it != '\n', " ");
        mutant.replace_range(place, &blanks);
        Ok(Some(mutant))
    }
}

/// The calls of `threadgroup_barrier` and `simdgroup_barrier` in a source, without their semicolons.
pub fn barriers(source: &str) -> Vec<Range<usize>> {
    let code = without_comments(source);
    let mut found = Vec::new();
    for name in ["threadgroup_barrier", "simdgroup_barrier"] {
        for (start, _) in code.match_indices(name) {
            let before = code[..start].chars().next_back();
            let part_of_a_name = before.is_some_and(|it| it.is_alphanumeric() || it == '_');
            let arguments = &code[start + name.len()..];
            if part_of_a_name || !arguments.trim_start().starts_with('(') {
                continue;
            }
            if let Some(length) = arguments.find(')') {
                found.push(start..start + name.len() + length + 1);
            }
        }
    }
    found.sort_by_key(|place| place.start);
    found
}

/// Blanks in place of comments, byte by byte.
fn without_comments(source: &str) -> String {
    let mut code = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(start) = rest.find("//").into_iter().chain(rest.find("/*")).min() {
        let comment = &rest[start..];
        let length = match comment.starts_with("//") {
            true => comment.find('\n').unwrap_or(comment.len()),
            false => comment.find("*/").map_or(comment.len(), |end| end + 2),
        };
        code.push_str(&rest[..start]);
        code.extend(std::iter::repeat_n(' ', length));
        rest = &comment[length..];
    }
    code + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOURCE: &str = "// No threadgroup_barrier(here).\nkernel void k() {\n  \
        threadgroup_barrier(mem_flags::mem_none);\n  my_simdgroup_barrier(x);\n  /* simdgroup_barrier(no) */ \
        simdgroup_barrier(\n mem_flags::mem_device);\n}";

    #[test]
    fn barriers_are_calls_outside_of_comments() {
        let texts: Vec<_> = barriers(SOURCE).into_iter().map(|it| &SOURCE[it]).collect();
        let expected = [
            "threadgroup_barrier(mem_flags::mem_none)",
            "simdgroup_barrier(\n mem_flags::mem_device)",
        ];
        assert_eq!(texts, expected);
    }

    #[test]
    fn one_is_taken_and_the_lines_stay() {
        let second: WithoutBarrier = "1:void k".parse().unwrap();
        let mutant = second.taken_from(SOURCE).unwrap().unwrap();
        assert_eq!(barriers(&mutant), barriers(SOURCE)[..1]);
        assert_eq!(mutant.lines().count(), SOURCE.lines().count());
        let behind: WithoutBarrier = "0:my_".parse().unwrap();
        assert_eq!(behind.taken_from(SOURCE), Ok(Some(mutant)));
        let other: WithoutBarrier = "1:void other".parse().unwrap();
        assert_eq!(other.taken_from(SOURCE), Ok(None));
        let none: WithoutBarrier = "2".parse().unwrap();
        assert!(
            none.taken_from(SOURCE)
                .unwrap_err()
                .contains("no barrier 2")
        );
        assert!("x:y".parse::<WithoutBarrier>().is_err());
    }
}
