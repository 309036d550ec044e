//! `[[…]]`: finds every attribute, knows those of kernels and of their arguments, and refuses the rest, because an
//! attribute that is dropped unread may have been the meaning.

use std::ops::Range;

use super::lexer::Source;
use crate::error::Error;

/// One attribute: `buffer(0)`, `kernel`, `host_name("x")`.
#[derive(Clone, Debug)]
pub(crate) struct Attribute {
    pub name: String,
    pub token: usize,
    /// Between its parentheses; empty without them.
    pub arguments: Range<usize>,
}

/// All of them, in the order of the source.
#[derive(Debug, Default)]
pub(crate) struct Attributes {
    /// Each `[[…]]` whole, and what is in it.
    groups: Vec<(Range<usize>, Vec<Attribute>)>,
}

/// What kernels, their arguments and their names carry.
const OF_METAL: [&str; 6] = [
    "kernel",
    "host_name",
    "buffer",
    "threadgroup",
    "function_constant",
    "max_total_threads_per_threadgroup",
];

/// Those of C++ that clang understands; they stay in the source.
const OF_CPP: [&str; 8] = [
    "maybe_unused",
    "unused",
    "nodiscard",
    "fallthrough",
    "likely",
    "unlikely",
    "noreturn",
    "deprecated",
];

impl Attributes {
    pub fn find(source: &Source) -> Result<Self, Error> {
        let mut groups = Vec::new();
        let mut at = 0;
        while at + 1 < source.len() {
            if !(source.is(at, "[") && source.is(at + 1, "[")) {
                at += 1;
                continue;
            }
            let end = source.partner(at) + 1;
            let attributes = read(source, at + 2, source.partner(at + 1))?;
            let cpp = attributes.iter().all(|a| OF_CPP.contains(&a.name.as_str()));
            if !cpp {
                groups.push((at..end, attributes));
            }
            at = end;
        }
        Ok(Self { groups })
    }

    /// Those that begin between two tokens.
    pub fn within(&self, tokens: Range<usize>) -> impl Iterator<Item = &Attribute> {
        let first = self.groups.partition_point(|(g, _)| g.start < tokens.start);
        self.groups[first..]
            .iter()
            .take_while(move |(g, _)| g.start < tokens.end)
            .flat_map(|(_, a)| a)
    }

    /// The groups themselves, to be taken out of the source.
    pub fn ranges(&self) -> impl Iterator<Item = Range<usize>> {
        self.groups.iter().map(|(g, _)| g.clone())
    }

    /// The end of the group that begins here.
    pub fn group_at(&self, token: usize) -> Option<usize> {
        self.groups
            .binary_search_by_key(&token, |(g, _)| g.start)
            .ok()
            .map(|g| self.groups[g].0.end)
    }
}

fn read(source: &Source, mut at: usize, end: usize) -> Result<Vec<Attribute>, Error> {
    let mut attributes = Vec::new();
    while at < end {
        let token = at;
        if source.is(at, ",") {
            at += 1;
            continue;
        }
        let name = source.text(at).to_string();
        at += 1;
        let mut arguments = at..at;
        if source.is(at, "(") {
            arguments = at + 1..source.partner(at);
            at = source.after(at);
        }
        let known = OF_METAL.contains(&name.as_str())
            || OF_CPP.contains(&name.as_str())
            || super::arguments::builtin(&name).is_some();
        if !known {
            let remedy = "compute kernels with buffers, threadgroup memory, function constants and thread positions \
                          are what is simulated";
            return Err(source.unsupported(
                token,
                format!("attribute [[{name}]] is not understood"),
                remedy,
            ));
        }
        attributes.push(Attribute {
            name,
            token,
            arguments,
        });
    }
    Ok(attributes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_found_with_their_arguments() {
        let text = "device float* a [[buffer(0), function_constant(has_a)]], uint i [[ thread_position_in_grid ]]; b[c[0]]";
        let source = Source::new(text.to_string(), "a.metal").unwrap();
        let attributes = Attributes::find(&source).unwrap();
        let found: Vec<_> = attributes
            .within(0..source.len())
            .map(|a| (a.name.as_str(), source.join(a.arguments.clone())))
            .collect();
        let text = |t: &str| t.to_string();
        assert_eq!(
            found,
            [
                ("buffer", text("0")),
                ("function_constant", text("has_a")),
                ("thread_position_in_grid", String::new())
            ]
        );
    }

    #[test]
    fn an_unknown_attribute_is_an_error_with_its_line() {
        let source = Source::new(
            "kernel void f(\n texture2d<float> t [[texture(0)]]) {}".into(),
            "a.metal",
        )
        .unwrap();
        let error = Attributes::find(&source).unwrap_err().to_string();
        assert!(
            error.starts_with("a.metal:2:23: error: attribute [[texture]] is not understood"),
            "{error}"
        );
    }

    #[test]
    fn attributes_of_cpp_stay() {
        let source = Source::new("[[maybe_unused]] int x;".into(), "a.metal").unwrap();
        assert_eq!(Attributes::find(&source).unwrap().ranges().count(), 0);
    }
}
