//! `device`, `constant`, `thread` and `threadgroup`: on the host there is one address space, so that the words before
//! a pointee go, `constant` becomes `const`, and a variable in threadgroup memory becomes a reference to its place in
//! the memory of the thread's threadgroup. Each word is understood where it stands, or the source is refused.

use super::{
    edits::Edits,
    lexer::{Kind, Source},
    outline::{ItemKind, Outline},
};
use crate::error::Error;

/// Qualifiers of Metal that mean something this crate does not do.
const REFUSED: [&str; 6] = [
    "vertex",
    "fragment",
    "ray_data",
    "object_data",
    "threadgroup_imageblock",
    "coherent",
];

/// What stands after a qualifier, up to the end of its declarator.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Declarator {
    Pointer,
    Array,
    Value,
}

/// Rewrites every word that was not dropped before.
pub(crate) fn erase(source: &Source, outline: &Outline, edits: &mut Edits) -> Result<(), Error> {
    let mut pass = Pass { source, edits };
    let mut open: Vec<usize> = Vec::new();
    for token in 0..source.len() {
        if matches!(source.text(token), "(" | "[" | "{") && source.tokens[token].kind == Kind::Mark
        {
            open.push(token);
        } else if open.last().is_some_and(|&o| source.partner(o) == token) {
            open.pop();
        }
        if source.is_word(token) && !pass.edits.is_dropped(token) {
            pass.word(token, open.last().copied(), outline)?;
        }
    }
    Ok(())
}

struct Pass<'a> {
    source: &'a Source,
    edits: &'a mut Edits,
}

impl Pass<'_> {
    fn word(&mut self, token: usize, open: Option<usize>, outline: &Outline) -> Result<(), Error> {
        let s = self.source;
        let word = s.text(token);
        if REFUSED.contains(&word)
            && (s.is_word(token + 1) || word == "coherent" && s.is(token + 1, "("))
        {
            return Err(s.unsupported(
                token,
                format!("qualifier `{word}`"),
                "only compute kernels are simulated",
            ));
        }
        let parameter = open.is_some_and(|o| s.is(o, "("));
        match word {
            "thread" => self.edits.drop(token),
            "device" | "constant" | "threadgroup" if self.qualifies_method(token) => {
                self.pointee(token)
            }
            "device" | "threadgroup" => match self.declarator(token) {
                Declarator::Pointer => self.edits.drop(token),
                Declarator::Array if parameter => self.edits.drop(token),
                _ if word == "threadgroup" && !parameter && in_function(s, token, outline) => {
                    self.variable(token)?
                }
                _ => {
                    let what = format!("`{word}` that is neither of a pointer nor of a reference");
                    let remedy =
                        "declare threadgroup variables in a function, and point at device memory";
                    return Err(s.unsupported(token, what, remedy));
                }
            },
            "constant" => self.pointee(token),
            _ => {}
        }
        Ok(())
    }

    /// `constant` is `const`, unless it is said beside it; the others go.
    fn pointee(&mut self, token: usize) {
        let s = self.source;
        let beside = (token > 0 && s.is(token - 1, "const")) || s.is(token + 1, "const");
        if s.is(token, "constant") && !beside {
            self.edits.replace(token, "const");
        } else {
            self.edits.drop(token);
        }
    }

    /// `T get() const threadgroup {`.
    fn qualifies_method(&self, token: usize) -> bool {
        let s = self.source;
        let qualifier = |t: usize| {
            [
                "const",
                "volatile",
                "noexcept",
                "device",
                "constant",
                "thread",
                "threadgroup",
            ]
            .iter()
            .any(|q| s.is(t, q))
        };
        let before = (0..token).rev().find(|&t| !qualifier(t));
        let after = (token + 1..s.len()).find(|&t| !qualifier(t));
        before.is_some_and(|t| s.is(t, ")"))
            && after.is_some_and(|t| ["{", ";", "=", ":", "->"].iter().any(|m| s.is(t, m)))
    }

    fn declarator(&self, token: usize) -> Declarator {
        let s = self.source;
        let mut at = token + 1;
        while at < s.len() {
            match s.text(at) {
                "*" | "&" | "&&" => return Declarator::Pointer,
                "[" if s.is(at + 1, "[") => {}
                "[" => return Declarator::Array,
                "decltype" | "alignas" | "__attribute__" if s.is(at + 1, "(") => at += 1,
                // `float (*p)[4]`
                "(" => {
                    let pointer = (at + 1..s.partner(at)).any(|t| s.is(t, "*") || s.is(t, "&"));
                    return if pointer {
                        Declarator::Pointer
                    } else {
                        Declarator::Value
                    };
                }
                "<" => match s.angle(at) {
                    Some(close) => at = close,
                    None => return Declarator::Value,
                },
                ";" | "," | ")" | "=" | "{" | "}" | ">" | ":" => return Declarator::Value,
                _ => {}
            }
            at = s.after(at);
        }
        Declarator::Value
    }

    /// `threadgroup T a[4], b;` becomes `typedef T msl_type_a[4], msl_type_b;` and for each its descriptor and a
    /// reference. The descriptors stand in a section of their own, so that the library can list those that its
    /// kernels really have.
    fn variable(&mut self, token: usize) -> Result<(), Error> {
        let s = self.source;
        let refuse = |at: usize, what: &str, remedy: &str| {
            Err(s.unsupported(at, format!("a threadgroup variable {what}"), remedy))
        };
        let first = self.statement(token);
        let mut end = token;
        while end < s.len() && !s.is(end, ";") {
            end = s.after(end);
        }
        let mut align = None;
        for at in first..token {
            match s.text(at) {
                "static" => self.edits.drop(at),
                "constexpr" => {
                    return refuse(
                        at,
                        "that is constexpr",
                        "its value is not known before it runs",
                    );
                }
                "alignas" => {
                    align = Some(s.join(at + 1..s.after(at + 1)));
                    self.edits.drop_all(at..s.after(at + 1));
                }
                _ => {}
            }
        }
        // The names: the last word before the dimensions, and after each comma.
        let (mut names, mut at, mut last) = (Vec::new(), token + 1, None);
        while at <= end && at < s.len() {
            match s.text(at) {
                "alignas" => {
                    align = Some(s.join(at + 1..s.after(at + 1)));
                    self.edits.drop_all(at..s.after(at + 1));
                    at += 1;
                }
                "<" => at = s.angle(at).unwrap_or(at),
                "decltype" | "__attribute__" => at += 1,
                // It begins with no value, and zeros are what nobody relies on.
                "=" if self.zeros(at + 1) => {
                    let value = at..s.after(at + 1);
                    self.edits.drop_all(value.clone());
                    at = value.end - 1;
                }
                "{" if self.zeros(at) => self.edits.drop_all(at..s.after(at)),
                "=" | "{" | "(" => {
                    let remedy = "threadgroup memory begins without any: assign it";
                    return refuse(at, "with a value", remedy);
                }
                "*" | "&" => {
                    return refuse(
                        at,
                        "beside a pointer in one declaration",
                        "declare them apart",
                    );
                }
                "," | ";" => names.extend(last.take()),
                "[" => {}
                _ if s.is_word(at) => last = Some(at),
                _ => {}
            }
            at = s.after(at);
        }
        if names.is_empty() {
            return refuse(token, "without a name", "name it");
        }
        self.edits.replace(token, "");
        self.edits.before(first, "typedef");
        let mut tail = String::from(";");
        for name in names {
            let own = s.text(name);
            self.edits.replace(name, format!("msl_type_{own}"));
            let line = s.line(name);
            let alignment = match &align {
                Some(more) => {
                    format!("{more} > alignof(msl_type_{own}) ? {more} : alignof(msl_type_{own})")
                }
                None => format!("alignof(msl_type_{own})"),
            };
            tail.push_str(&format!(
                " static const ::msl_variable msl_variable_{own} __attribute__((section(\"msl_variables\"))) = \
                 {{\"{own}\", sizeof(msl_type_{own}), {alignment}, {line}}}; msl_type_{own}& {own} = \
                 *static_cast<msl_type_{own}*>(::msl_detail::threadgroup_variable(&msl_variable_{own}));"
            ));
        }
        self.edits.replace(end, tail);
        Ok(())
    }

    /// `{0}` or `{}`.
    fn zeros(&self, open: usize) -> bool {
        let s = self.source;
        s.is(open, "{")
            && (open + 1..s.partner(open)).all(|t| ["0", "0.0", "0.0f", ","].contains(&s.text(t)))
    }

    /// The first token of the statement that a word stands in.
    fn statement(&self, token: usize) -> usize {
        let s = self.source;
        let mut at = token;
        while at > 0 {
            let before = at - 1;
            if s.tokens[before].kind == Kind::Directive
                || matches!(s.text(before), ";" | "{" | "}" | ":" | "]")
            {
                break;
            }
            if s.is(before, ")") {
                let open = s.partner(before);
                if open == 0
                    || !matches!(s.text(open - 1), "alignas" | "decltype" | "__attribute__")
                {
                    break;
                }
                at = open - 1;
            } else {
                at = before;
            }
        }
        at
    }
}

/// Whether a token stands in the body of a function.
fn in_function(source: &Source, token: usize, outline: &Outline) -> bool {
    outline.items.iter().any(|i| match i.kind {
        ItemKind::Function {
            body: Some(body), ..
        } => body < token && token < source.partner(body),
        _ => false,
    })
}
