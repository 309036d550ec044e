//! What is declared where: the functions, records and explicit instantiations of every namespace and record, found by
//! the shape of their heads. Bodies of functions are not looked into.

use std::ops::Range;

use super::{attributes::Attributes, lexer::Source};

/// A namespace or a record.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Scope {
    /// From the outermost; a namespace without a name is left out.
    pub path: Vec<String>,
    pub record: bool,
    /// The word that a record's constructors are called by.
    pub name: String,
}

/// A declaration.
#[derive(Clone, Debug)]
pub(crate) struct Item {
    pub kind: ItemKind,
    pub scope: usize,
    /// All of it.
    pub tokens: Range<usize>,
    /// `<…>` of its template header, without the angle brackets.
    pub template: Option<Range<usize>>,
    /// The first token after the template header.
    pub head: usize,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ItemKind {
    /// `name` is its last word, `parameters` the opening parenthesis; without a body, a prototype or a default.
    Function {
        name: usize,
        parameters: usize,
        body: Option<usize>,
    },
    /// `body` is its opening brace.
    Record { body: usize },
    /// `template kernel void f<float>(…);`
    Instantiation,
    /// A variable, an alias, an enumeration.
    Other,
}

#[derive(Debug, Default)]
pub(crate) struct Outline {
    pub scopes: Vec<Scope>,
    pub items: Vec<Item>,
}

impl Outline {
    pub fn new(source: &Source, attributes: &Attributes) -> Self {
        let mut outline = Self {
            scopes: vec![Scope::default()],
            items: Vec::new(),
        };
        Walk { source, attributes }.scope(&mut outline, 0, 0..source.len());
        outline
    }
}

struct Walk<'a> {
    source: &'a Source,
    attributes: &'a Attributes,
}

impl Walk<'_> {
    fn scope(&self, outline: &mut Outline, scope: usize, tokens: Range<usize>) {
        let s = self.source;
        let mut at = tokens.start;
        while at < tokens.end {
            let access = ["public", "private", "protected"]
                .iter()
                .any(|a| s.is(at, a))
                && s.is(at + 1, ":");
            if access {
                at += 2;
            } else if s.is(at, ";") || s.tokens[at].kind == super::lexer::Kind::Directive {
                at += 1;
            } else if let Some((open, path)) = self.namespace(at, &outline.scopes[scope].path) {
                outline.scopes.push(Scope {
                    path,
                    ..Scope::default()
                });
                let inner = outline.scopes.len() - 1;
                self.scope(outline, inner, open + 1..s.partner(open));
                at = s.after(open);
            } else {
                let item = self.item(at, scope, tokens.end);
                at = item.tokens.end.max(at + 1);
                let body = match item.kind {
                    ItemKind::Record { body } => Some(body),
                    _ => None,
                };
                let mut path = outline.scopes[scope].path.clone();
                if let Some(open) = body {
                    path.push(s.join(item.head..open));
                    let name = self.record_name(item.head, open);
                    outline.items.push(item);
                    outline.scopes.push(Scope {
                        path,
                        record: true,
                        name,
                    });
                    let inner = outline.scopes.len() - 1;
                    self.scope(outline, inner, open + 1..s.partner(open));
                } else {
                    outline.items.push(item);
                }
            }
        }
    }

    /// `struct alignas(8) Name<T*> final : Base {`
    fn record_name(&self, head: usize, open: usize) -> String {
        let s = self.source;
        let keyword =
            (head..open).find(|&t| ["struct", "class", "union"].iter().any(|k| s.is(t, k)));
        let mut at = keyword.map_or(open, |k| k + 1);
        let mut name = "";
        while at < open && !s.is(at, ":") && !s.is(at, "<") && !s.is(at, "final") {
            if s.is_word(at) && !s.is(at + 1, "(") {
                name = s.text(at);
            }
            at = s.after(at);
        }
        name.to_string()
    }

    /// `namespace a::b {`, `inline namespace a {`, `extern "C" {`: the brace and the path inside.
    fn namespace(&self, mut at: usize, path: &[String]) -> Option<(usize, Vec<String>)> {
        let s = self.source;
        let mut path = path.to_vec();
        if s.is(at, "extern") && s.text(at + 1).starts_with('"') && s.is(at + 2, "{") {
            return Some((at + 2, path));
        }
        at += usize::from(s.is(at, "inline"));
        if !s.is(at, "namespace") {
            return None;
        }
        at += 1;
        while s.is_word(at) {
            path.push(s.text(at).to_string());
            at += 1 + usize::from(s.is(at + 1, "::"));
        }
        s.is(at, "{").then_some((at, path))
    }

    fn item(&self, first: usize, scope: usize, end: usize) -> Item {
        let s = self.source;
        let mut head = first;
        let mut template = None;
        while s.is(head, "template") && s.is(head + 1, "<") {
            let Some(close) = s.angle(head + 1) else {
                break;
            };
            template = Some(head + 2..close);
            head = close + 1;
        }
        let done = |kind, end| Item {
            kind,
            scope,
            tokens: first..end,
            template: template.clone(),
            head,
        };
        if s.is(head, "template") {
            return done(ItemKind::Instantiation, self.semicolon(head, end));
        }
        let alias = ["using", "enum", "static_assert", "friend"]
            .iter()
            .any(|w| s.is(head, w));
        if alias && !(s.is(head, "friend") && self.has_body(head, end)) {
            return done(ItemKind::Other, self.semicolon(head, end));
        }
        let typedef = s.is(head, "typedef");
        let mut record = false;
        let mut at = head;
        while at < end {
            match s.text(at) {
                "struct" | "class" | "union" => record = true,
                "operator" => {
                    let name = at;
                    at += 1;
                    if s.is(at, "(") {
                        at = s.after(at);
                    }
                    while at < end && !s.is(at, "(") {
                        at += 1;
                    }
                    return self.function(name, at, end, done);
                }
                "alignas" | "decltype" | "__attribute__" | "explicit" | "noexcept"
                    if s.is(at + 1, "(") =>
                {
                    at += 1
                }
                "<" if at > head && s.is_word(at - 1) => at = s.angle(at).unwrap_or(at),
                "(" if typedef => {}
                "(" => return self.function(at - 1, at, end, done),
                "{" if record => {
                    return done(ItemKind::Record { body: at }, self.semicolon(at, end));
                }
                "{" | "=" => return done(ItemKind::Other, self.semicolon(at, end)),
                ";" => return done(ItemKind::Other, at + 1),
                _ => {}
            }
            at = s.after(at);
        }
        done(ItemKind::Other, end)
    }

    fn function(
        &self,
        name: usize,
        open: usize,
        end: usize,
        done: impl Fn(ItemKind, usize) -> Item,
    ) -> Item {
        let s = self.source;
        let mut name = name;
        // An explicit specialisation: `f<float>(`.
        if s.is(name, ">") {
            name = (0..name)
                .rev()
                .find(|&n| s.is_word(n) && s.angle(n + 1) == Some(name))
                .unwrap_or(name);
        }
        let mut at = s.after(open.min(s.len() - 1));
        let mut members = false;
        while at < end {
            if let Some(next) = self.attributes.group_at(at) {
                at = next;
                continue;
            }
            match s.text(at) {
                ":" => members = true,
                // `X() : a{1} {`: a brace after a member's name initialises it.
                "{" if !(members && (s.is_word(at - 1) || s.is(at - 1, ">"))) => {
                    let kind = ItemKind::Function {
                        name,
                        parameters: open,
                        body: Some(at),
                    };
                    return done(kind, s.after(at));
                }
                ";" | "=" => {
                    let kind = ItemKind::Function {
                        name,
                        parameters: open,
                        body: None,
                    };
                    return done(kind, self.semicolon(at, end));
                }
                _ => {}
            }
            at = s.after(at);
        }
        done(ItemKind::Other, end)
    }

    fn has_body(&self, first: usize, end: usize) -> bool {
        let mut at = first;
        while at < end && !self.source.is(at, ";") {
            if self.source.is(at, "{") {
                return true;
            }
            at = self.source.after(at);
        }
        false
    }

    /// The end of what a semicolon ends.
    fn semicolon(&self, mut at: usize, end: usize) -> usize {
        while at < end && !self.source.is(at, ";") {
            at = self.source.after(at);
        }
        (at + 1).min(end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outline(text: &str) -> Vec<String> {
        let source = Source::new(text.to_string(), "a.metal").unwrap();
        let attributes = Attributes::find(&source).unwrap();
        let outline = Outline::new(&source, &attributes);
        let describe = |i: &Item| {
            let path = outline.scopes[i.scope].path.join("/");
            match i.kind {
                ItemKind::Function { name, body, .. } => {
                    format!(
                        "{path}: {}{}",
                        source.text(name),
                        if body.is_some() { " {}" } else { "" }
                    )
                }
                ItemKind::Record { .. } => format!("{path}: record"),
                ItemKind::Instantiation => format!("{path}: instantiation"),
                ItemKind::Other => format!("{path}: other to {}", source.text(i.tokens.end - 1)),
            }
        };
        outline.items.iter().map(describe).collect()
    }

    #[test]
    fn declarations_are_told_apart() {
        assert_eq!(
            outline(
                "using namespace metal; constant int a[2] = {1, 2}; typedef void (f_t)(int); \
                 template <typename T, int N = (2 > 1)> METAL_FUNC vec<T, 2> f(T x = T{1}) { return {x, x}; } \
                 void g(); namespace a::b { kernel void k() {} } enum class E { A };"
            ),
            [
                ": other to ;",
                ": other to ;",
                ": other to ;",
                ": f {}",
                ": g",
                "a/b: k {}",
                ": other to ;"
            ]
        );
    }

    #[test]
    fn members_of_records_are_found() {
        assert_eq!(
            outline(
                "template <typename T> struct S : B<(1 > 0)> { T v; S() thread = default; \
                 S(T x) : v{x}, B<1>{2} { } T operator()(int i) const { return v; } \
                 bool operator<(S o) { return v < o.v; } private: alignas(16) T w; };"
            ),
            [
                ": record",
                "struct S : B<(1 > 0)>: other to ;",
                "struct S : B<(1 > 0)>: S",
                "struct S : B<(1 > 0)>: S {}",
                "struct S : B<(1 > 0)>: operator {}",
                "struct S : B<(1 > 0)>: operator {}",
                "struct S : B<(1 > 0)>: other to ;"
            ]
        );
    }

    #[test]
    fn explicit_instantiations_are_items() {
        assert_eq!(
            outline("template [[host_name(\"x\")]] [[kernel]] decltype(f<int>) f<int>; int y;"),
            [": instantiation", ": other to ;"]
        );
    }
}
