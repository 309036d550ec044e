//! The front end: preprocessed Metal Shading Language becomes C++ for the host. It works on tokens and knows the shape
//! of declarations, not their types; whatever it does not understand it refuses, with file and line.
//!
//! | module | what it does |
//! |---|---|
//! | `lexer` | tokens with their lines, brackets paired |
//! | `attributes` | `[[…]]`: known, or refused |
//! | `outline` | functions, records and instantiations by namespace and record |
//! | `kernels` | kernels and their instantiations |
//! | `arguments` | where the arguments of a kernel come from |
//! | `constants` | function constants, and those derived from them |
//! | `overloads` | what is the same without address spaces |
//! | `address_spaces` | erases them, places threadgroup variables |
//! | `numbers` | literals and casts of small floats |
//! | `table` | the rows of `msl_library` |
//! | `edits` | the changed tokens as text, each on its line |

mod address_spaces;
mod arguments;
mod attributes;
mod constants;
mod edits;
mod kernels;
mod lexer;
mod numbers;
mod outline;
mod overloads;
mod table;

#[cfg(test)]
mod tests;

use std::collections::HashMap;

use attributes::Attributes;
use constants::FunctionConstant;
use edits::Edits;
use kernels::{Kernel, Kernels};
use lexer::{Kind, Source};
use outline::{ItemKind, Outline};

use crate::{
    error::Error,
    library::{Constant, Function},
};

/// A source, understood: every kernel of it can be written as C++.
#[derive(Debug)]
pub(crate) struct Unit {
    source: Source,
    outline: Outline,
    kernels: Vec<Kernel>,
    constants: Vec<FunctionConstant>,
    /// The changes that do not depend on which kernels are compiled.
    edits: Edits,
}

/// Pragmas that change nothing here: hints, and those of Apple's compiler.
const IDLE_PRAGMAS: [&str; 6] = [
    "clang loop",
    "unroll",
    "nounroll",
    "mark",
    "METAL",
    "clang diagnostic",
];

impl Unit {
    /// Understands what `clang -E` printed of the file called `name`.
    pub fn parse(preprocessed: String, name: &str) -> Result<Self, Error> {
        let source = Source::new(preprocessed, name)?;
        let attributes = Attributes::find(&source)?;
        let outline = Outline::new(&source, &attributes);
        let mut edits = Edits::default();
        let Kernels {
            definitions,
            mut kernels,
            mut used,
        } = Kernels::find(&source, &attributes, &outline)?;
        let constants = constants::rewrite(&source, &attributes, &outline, &mut edits, &mut used)?;
        for attribute in attributes.within(0..source.len()) {
            let placed = arguments::builtin(&attribute.name).is_some()
                || ["buffer", "threadgroup"].contains(&attribute.name.as_str())
                || used.contains(&attribute.token);
            if !placed {
                let what = format!("[[{}]] where it means nothing", attribute.name);
                return Err(source.unsupported(
                    attribute.token,
                    what,
                    "it belongs to a kernel or its arguments",
                ));
            }
        }
        for group in attributes.ranges() {
            edits.drop_all(group);
        }
        for definition in &definitions {
            let item = &outline.items[definition.item];
            definition.word.into_iter().for_each(|w| edits.drop(w));
            table::max_threads(&source, item, definition, &mut edits);
            let specialisation = item.template.as_ref().is_some_and(|t| t.is_empty());
            edits.before(item.head, if specialisation { "inline" } else { "static" });
        }
        for (index, item) in outline.items.iter().enumerate() {
            // What no kernel calls is not compiled.
            let function = matches!(item.kind, ItemKind::Function { body: Some(_), .. });
            let member = outline.scopes[item.scope].record;
            if function && !member && !definitions.iter().any(|d| d.item == index) {
                edits.before(item.head, "inline");
            }
            let instantiation = item.kind == ItemKind::Instantiation
                && (item.tokens.clone().any(|t| source.is(t, "kernel"))
                    || kernels.iter().any(|k| k.item == index));
            let like = kernels
                .iter()
                .position(|k| k.item == index && k.like.is_some());
            if let Some((number, name)) = like.and_then(|n| Some((n, kernels[n].like?))) {
                edits.drop_all(item.tokens.start..name);
                edits.replace(name, format!("static void msl_like_{number}"));
            } else if instantiation {
                edits.drop_all(item.tokens.clone());
            }
        }
        for token in 0..source.len() {
            if source.tokens[token].kind == Kind::Directive {
                pragma(&source, token, &mut edits)?;
            }
        }
        overloads::drop_duplicates(&source, &outline, &mut edits)?;
        numbers::rewrite(&source, &mut edits);
        address_spaces::erase(&source, &outline, &mut edits)?;
        for kernel in &mut kernels {
            let tokens = outline.items[kernel.definition].tokens.clone();
            kernel.function.constants = constants::needed(&source, &constants, tokens);
        }
        let unit = Self {
            source,
            outline,
            kernels,
            constants,
            edits,
        };
        unit.check_constants()?;
        Ok(unit)
    }

    pub fn functions(&self) -> impl Iterator<Item = &Function> {
        self.kernels.iter().map(|k| &k.function)
    }

    pub fn constants(&self) -> impl Iterator<Item = &Constant> {
        self.constants.iter().map(|c| &c.constant)
    }

    /// C++ with a table of these kernels. Of the others there are only templates and prototypes, so that the compiler
    /// does not look into what it is not asked for.
    pub fn emit(&self, wanted: impl Fn(&str) -> bool) -> String {
        let mut edits = self.edits.clone();
        let mut numbers = Vec::new();
        // How often each name stands before a parenthesis: once, if a function is never called.
        let mut calls: HashMap<&str, u32> = HashMap::new();
        for token in 0..self.source.len() {
            if self.source.is_word(token) && self.source.is(token + 1, "(") {
                *calls.entry(self.source.text(token)).or_default() += 1;
            }
        }
        for (number, kernel) in self.kernels.iter().enumerate() {
            if wanted(&kernel.function.name) {
                table::entry(self, number, &mut edits);
                numbers.push(number);
                continue;
            }
            let item = &self.outline.items[kernel.item];
            if let ItemKind::Function {
                name,
                body: Some(body),
                ..
            } = item.kind
                && calls[self.source.text(name)] == 1
            {
                edits.remove(body..item.tokens.end);
                edits.replace(body, ";");
            }
        }
        self.print(&edits, &table::table(self, &numbers))
    }

    /// C++ with the bodies of all kernels and no table, for the compiler to look for errors in.
    pub fn emit_unused(&self) -> String {
        self.print(&self.edits, "")
    }

    fn print(&self, edits: &Edits, table: &str) -> String {
        format!(
            "#include \"metal.h\"\n#include \"table.h\"\n{}{table}",
            edits.apply(&self.source)
        )
    }

    /// Arguments can only depend on constants that are there.
    fn check_constants(&self) -> Result<(), Error> {
        for kernel in &self.kernels {
            for argument in &kernel.function.arguments {
                let Some(name) = &argument.constant else {
                    continue;
                };
                let own = name.rsplit("::").next().unwrap_or(name).trim();
                if !self.constants.iter().any(|c| c.constant.name == own) {
                    let item = &self.outline.items[kernel.item];
                    let what = format!(
                        "[[function_constant({name})]] of argument `{}` is not one",
                        argument.name
                    );
                    let remedy = "declare it with [[function_constant(index)]], or derive it from one that is";
                    return Err(self.source.unsupported(item.head, what, remedy));
                }
            }
        }
        Ok(())
    }
}

fn pragma(source: &Source, token: usize, edits: &mut Edits) -> Result<(), Error> {
    let text = source.text(token).trim_start_matches('#').trim_start();
    let Some(text) = text.strip_prefix("pragma") else {
        return Err(source.unsupported(
            token,
            format!("directive `{}`", source.text(token)),
            "remove it",
        ));
    };
    if IDLE_PRAGMAS
        .iter()
        .any(|p| text.trim_start().starts_with(p))
    {
        edits.drop(token);
    }
    Ok(())
}
