//! Functions, members and specialisations that differ only in address spaces are one once these are erased. Of such a
//! set the first stays, if the others do the same; if they do not, no choice is right and the source is refused.

use std::collections::HashMap;

use super::{
    edits::Edits,
    lexer::Source,
    outline::{Item, ItemKind, Outline},
};
use crate::error::Error;

const SPACES: [&str; 4] = ["device", "constant", "thread", "threadgroup"];

/// Drops every duplicate.
pub(crate) fn drop_duplicates(
    source: &Source,
    outline: &Outline,
    edits: &mut Edits,
) -> Result<(), Error> {
    let mut kept: HashMap<(Vec<String>, String), &Item> = HashMap::new();
    for item in &outline.items {
        // What is inside a dropped record went with it.
        if edits.is_dropped(item.tokens.start) && edits.is_dropped(item.tokens.end - 1) {
            continue;
        }
        let constructor = constructor(source, outline, item);
        if let ItemKind::Function { parameters, .. } = item.kind
            && constructor
        {
            // Which memory it may construct in; `const` would mean something else.
            let qualifiers = source.partner(parameters) + 1..item.tokens.end;
            let space = |t: &usize| SPACES.contains(&source.text(*t));
            qualifiers
                .take_while(|t| source.is_word(*t))
                .filter(space)
                .for_each(|t| edits.drop(t));
        }
        let Some((head, spaced)) = head(source, item, constructor) else {
            continue;
        };
        let key = (outline.scopes[item.scope].path.clone(), head);
        let Some(first) = kept.get(&key) else {
            kept.insert(key, item);
            continue;
        };
        let spaced = spaced || self::head(source, first, constructor).is_some_and(|(_, s)| s);
        if !spaced {
            // A real redefinition, or a prototype: the compiler's to judge.
            continue;
        }
        let bodies = [body(source, first), body(source, item)];
        if bodies[0] != bodies[1] && bodies.iter().all(|b| b != "= default ;") {
            let what = format!(
                "overloads that differ only in address space do different things (the other is at {})",
                source.place(first.head)
            );
            return Err(source.unsupported(
                item.head,
                what,
                "address spaces are erased: give them different names",
            ));
        }
        edits.remove(item.tokens.clone());
    }
    Ok(())
}

fn constructor(source: &Source, outline: &Outline, item: &Item) -> bool {
    let scope = &outline.scopes[item.scope];
    matches!(item.kind, ItemKind::Function { name, .. } if scope.record && source.is(name, &scope.name))
}

/// Where the head of a definition ends: at its body, or at what initialises the members before it.
fn head_end(source: &Source, item: &Item) -> Option<usize> {
    let parameters = match item.kind {
        ItemKind::Function { parameters, .. } => parameters,
        ItemKind::Record { body } => return Some(body),
        _ => return None,
    };
    let mut at = source.after(parameters);
    while at < item.tokens.end && !["{", "=", ":", ";"].iter().any(|m| source.is(at, m)) {
        at = source.after(at);
    }
    // A prototype defines nothing.
    (at < item.tokens.end && !source.is(at, ";")).then_some(at)
}

/// The head of a definition without address spaces, and whether there were any.
fn head(source: &Source, item: &Item, constructor: bool) -> Option<(String, bool)> {
    let end = head_end(source, item)?;
    let qualifiers = match item.kind {
        ItemKind::Function { parameters, .. } => source.after(parameters),
        _ => end,
    };
    let mut spaced = false;
    let mut words: Vec<&str> = Vec::new();
    // Within a declarator, `const` before the pointer stands first, wherever it was written.
    let mut begin = 0;
    let mut constant = false;
    for token in item.tokens.start..end {
        let text = source.text(token);
        match text {
            _ if SPACES.contains(&text) => {
                spaced = true;
                constant |= text == "constant" && !(constructor && token >= qualifiers);
            }
            "const" => constant = true,
            "(" | ")" | "," | "*" | "&" | "<" | ">" | ":" => {
                if constant {
                    words.insert(begin, "const");
                }
                words.push(text);
                begin = words.len();
                constant = false;
            }
            _ => words.push(text),
        }
    }
    if constant {
        words.push("const");
    }
    if let ItemKind::Function { parameters, .. } = item.kind {
        return Some((without_names(source, item, parameters, &words), spaced));
    }
    Some((words.join(" "), spaced))
}

/// Parameters may be named differently: their last word goes, unless it is all there is.
fn without_names(source: &Source, item: &Item, parameters: usize, words: &[&str]) -> String {
    let before = (item.tokens.start..parameters)
        .filter(|&t| source.is(t, "("))
        .count();
    let open = words
        .iter()
        .enumerate()
        .filter(|(_, w)| **w == "(")
        .nth(before)
        .map_or(0, |(i, _)| i);
    let is_word = |w: &str| w.starts_with(|c: char| c.is_alphabetic() || c == '_');
    let mut out: Vec<&str> = Vec::new();
    let (mut depth, mut angle) = (0, 0);
    let mut first = 0;
    for (index, word) in words.iter().enumerate() {
        let inside = index > open;
        match *word {
            "(" => depth += i32::from(index >= open),
            ")" => depth -= i32::from(inside),
            "<" => angle += i32::from(inside),
            ">" => angle -= i32::from(inside),
            _ => {}
        }
        let ends =
            inside && angle == 0 && (*word == "," && depth == 1 || *word == ")" && depth == 0);
        if ends && out.len() - first > 1 && out.last().is_some_and(|w| is_word(w)) {
            out.pop();
        }
        out.push(word);
        if ends || index == open {
            first = out.len();
        }
    }
    out.join(" ")
}

/// What a definition does, without address spaces.
fn body(source: &Source, item: &Item) -> String {
    let begin = head_end(source, item).unwrap_or(item.tokens.start);
    let words: Vec<&str> = (begin..item.tokens.end)
        .map(|t| source.text(t))
        .filter(|w| !SPACES.contains(w) && *w != "const")
        .collect();
    words.join(" ")
}
