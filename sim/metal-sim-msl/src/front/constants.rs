//! Function constants, and the constants that are derived from them. Both become variables: the host writes the first
//! before a dispatch, a function of the library computes the second from them.

use std::{collections::BTreeSet, ops::Range};

use super::{
    attributes::Attributes,
    edits::Edits,
    lexer::Source,
    outline::{Item, ItemKind, Outline},
};
use crate::{error::Error, library::Constant};

/// A constant, and where it is.
#[derive(Clone, Debug)]
pub(crate) struct FunctionConstant {
    pub constant: Constant,
    pub scope: usize,
    /// Of a derived one: those that its value is computed from.
    from: Vec<String>,
    /// The source asks whether it is defined.
    optional: bool,
}

/// The function of the library that tells whether a value was given.
const DEFINED: &str = "is_function_constant_defined";

/// Rewrites every constant; `used` takes the attributes that were understood.
pub(crate) fn rewrite(
    source: &Source,
    attributes: &Attributes,
    outline: &Outline,
    edits: &mut Edits,
    used: &mut BTreeSet<usize>,
) -> Result<Vec<FunctionConstant>, Error> {
    let mut pass = Pass {
        source,
        edits,
        found: Vec::new(),
    };
    for item in &outline.items {
        let own = attributes
            .within(item.tokens.clone())
            .find(|a| a.name == "function_constant");
        match (&item.kind, own) {
            (ItemKind::Other, Some(attribute)) if !outline.scopes[item.scope].record => {
                used.insert(attribute.token);
                pass.given(item, attribute.token, attribute.arguments.clone())?;
            }
            (ItemKind::Other, None) => pass.derived(item, outline.scopes[item.scope].record)?,
            // `constant bool x(has_mask);` reads like a prototype.
            (
                ItemKind::Function {
                    name,
                    parameters,
                    body: None,
                },
                None,
            ) => {
                let variable = (item.head..*name).any(|t| source.is(t, "constant"));
                if variable && pass.mentions(*parameters..source.partner(*parameters)) {
                    return Err(pass.refuse(*name));
                }
            }
            _ => {}
        }
    }
    pass.definedness()?;
    Ok(pass.found)
}

/// The constants that these tokens need a value of, those behind derived ones in their place.
pub(crate) fn needed(
    source: &Source,
    constants: &[FunctionConstant],
    tokens: Range<usize>,
) -> Vec<String> {
    let mut all = BTreeSet::new();
    for token in tokens.filter(|&t| source.is_word(t)) {
        let member = token > 0 && (source.is(token - 1, ".") || source.is(token - 1, "->"));
        let named = |f: &&FunctionConstant| f.constant.name == source.text(token);
        let Some(found) = constants.iter().find(named).filter(|_| !member) else {
            continue;
        };
        match found.constant.index {
            Some(_) => all.extend([found.constant.name.clone()]),
            None => all.extend(found.from.iter().cloned()),
        }
    }
    let optional = |name: &String| {
        constants
            .iter()
            .any(|f| f.optional && f.constant.name == *name)
    };
    all.into_iter().filter(|name| !optional(name)).collect()
}

struct Pass<'a> {
    source: &'a Source,
    edits: &'a mut Edits,
    found: Vec<FunctionConstant>,
}

impl Pass<'_> {
    /// `constant bool name [[function_constant(10)]];`
    fn given(&mut self, item: &Item, attribute: usize, index: Range<usize>) -> Result<(), Error> {
        let s = self.source;
        let text = s.join(index);
        let index = text.parse().map_err(|_| {
            s.unsupported(
                attribute,
                format!("function constant index `{text}`"),
                "write a number",
            )
        })?;
        let name = (item.head..attribute)
            .take_while(|&t| !s.is(t, "["))
            .filter(|&t| s.is_word(t))
            .last()
            .ok_or_else(|| {
                s.unsupported(attribute, "a function constant without a name", "name it")
            })?;
        self.declare(item, name, Some(index))
    }

    /// Leaves `static TYPE name;` and whether it is defined, and drops the rest up to the initialiser, if there is one.
    fn declare(&mut self, item: &Item, name: usize, index: Option<u32>) -> Result<(), Error> {
        let s = self.source;
        let plain = s.is(name + 1, "[") && s.is(name + 2, "[")
            || s.is(name + 1, "=")
            || s.is(name + 1, "{");
        if item.template.is_some() || !plain {
            return Err(self.refuse(name));
        }
        let qualifier = |t: &usize| {
            ["constant", "const", "static", "constexpr", "inline"]
                .iter()
                .any(|q| s.is(*t, q))
        };
        let words: Vec<usize> = (item.head..name).filter(|t| !qualifier(t)).collect();
        let type_name = s.join(words);
        let own = s.text(name).to_string();
        let declaration =
            format!("static {type_name} {own}; static unsigned char msl_defined_{own};");
        if index.is_some() {
            self.edits.drop_all(item.tokens.clone());
            self.edits.replace(name, declaration);
        } else {
            self.edits.drop_all(item.head..name);
            let begin = format!(
                "{declaration} static inline void msl_derive_{own}() {{ {type_name} msl_value"
            );
            self.edits.replace(name, begin);
            self.edits
                .replace(item.tokens.end - 1, format!("; {own} = msl_value; }}"));
        }
        let constant = Constant {
            name: own,
            type_name,
            index,
            line: s.line(name),
        };
        let from = match index {
            Some(_) => Vec::new(),
            None => needed(s, &self.found, name..item.tokens.end),
        };
        self.found.push(FunctionConstant {
            constant,
            scope: item.scope,
            from,
            optional: false,
        });
        Ok(())
    }

    /// `constant bool name = other && another;`
    fn derived(&mut self, item: &Item, member: bool) -> Result<(), Error> {
        let s = self.source;
        let alias = ["using", "typedef", "enum", "static_assert"]
            .iter()
            .any(|w| s.is(item.head, w));
        let mut at = item.head;
        while at < item.tokens.end && !s.is(at, "=") && !s.is(at, "{") {
            at = s.angle(at).unwrap_or(at);
            at = s.after(at);
        }
        if alias || !self.mentions(at..item.tokens.end) {
            return Ok(());
        }
        if member || !s.is_word(at - 1) {
            return Err(self.refuse(at - 1));
        }
        self.declare(item, at - 1, None)
    }

    fn mentions(&self, tokens: Range<usize>) -> bool {
        let s = self.source;
        tokens
            .into_iter()
            .any(|t| s.is_word(t) && self.found.iter().any(|f| f.constant.name == s.text(t)))
    }

    fn refuse(&self, token: usize) -> Error {
        let what = format!(
            "`{}` is initialised from a function constant",
            self.source.text(token)
        );
        let remedy = "declare it as `constant T name = …;` in a namespace, not as a template, a member or an array";
        self.source.unsupported(token, what, remedy)
    }

    /// `is_function_constant_defined(a::name)` reads the flag beside the variable.
    fn definedness(&mut self) -> Result<(), Error> {
        let s = self.source;
        for at in 0..s.len() {
            if !(s.is(at, DEFINED) && s.is(at + 1, "(")) {
                continue;
            }
            let name = s.partner(at + 1) - 1;
            let given = |f: &&mut FunctionConstant| {
                f.constant.index.is_some() && f.constant.name == s.text(name)
            };
            let Some(asked) = self.found.iter_mut().find(given) else {
                let what = format!(
                    "{DEFINED} of `{}`, which is not a function constant",
                    s.text(name)
                );
                let remedy = "name one with [[function_constant(index)]]";
                return Err(s.unsupported(name, what, remedy));
            };
            asked.optional = true;
            self.edits.drop(at);
            self.edits
                .replace(name, format!("msl_defined_{}", s.text(name)));
        }
        Ok(())
    }
}
