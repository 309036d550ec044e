//! Kernels: functions marked `kernel` or `[[kernel]]`, and the explicit instantiations that give templates a
//! `host_name`.

use std::{collections::BTreeSet, ops::Range};

use super::{
    arguments::arguments,
    attributes::{Attribute, Attributes},
    lexer::Source,
    outline::{Item, ItemKind, Outline},
};
use crate::{
    error::Error,
    library::{Argument, Function},
};

/// A kernel that the host can ask for.
#[derive(Clone, Debug)]
pub(crate) struct Kernel {
    pub function: Function,
    /// Its address where its table entry stands, such as `&ns::f<float, 4>`.
    pub pointer: String,
    /// An instantiation that leaves the template arguments to its parameters: the token of the name. It becomes a
    /// prototype called `msl_like_` and the kernel's number.
    pub like: Option<usize>,
    /// The variable that holds `max_total_threads_per_threadgroup`, or `0`.
    pub max_threads: String,
    /// The item that defines or instantiates it; its entry stands there.
    pub item: usize,
    /// The item that has its body.
    pub definition: usize,
}

/// A function marked as a kernel.
#[derive(Debug)]
pub(crate) struct Definition {
    pub name: String,
    pub item: usize,
    /// The word `kernel`, if it was written as a word.
    pub word: Option<usize>,
    /// The argument of `max_total_threads_per_threadgroup`.
    pub max_threads: Option<Range<usize>>,
    arguments: Vec<Argument>,
}

/// What the kernels' pass hands on; `used` are the attributes that it understood, by token.
#[derive(Debug, Default)]
pub(crate) struct Kernels {
    pub definitions: Vec<Definition>,
    pub kernels: Vec<Kernel>,
    pub used: BTreeSet<usize>,
}

impl Kernels {
    pub fn find(
        source: &Source,
        attributes: &Attributes,
        outline: &Outline,
    ) -> Result<Self, Error> {
        let mut found = Self::default();
        let finder = Finder {
            source,
            attributes,
            outline,
        };
        for (index, item) in outline.items.iter().enumerate() {
            if let ItemKind::Function {
                name, parameters, ..
            } = item.kind
            {
                finder.definition(index, item, name, parameters, &mut found)?;
            }
        }
        for (index, item) in outline.items.iter().enumerate() {
            if item.kind == ItemKind::Instantiation {
                finder.instantiation(index, item, &mut found)?;
            }
        }
        for pair in names(&found.kernels).windows(2) {
            if pair[0].0 == pair[1].0 {
                let at = outline.items[found.kernels[pair[1].1].item].tokens.start;
                let what = format!("two kernels are called `{}`", pair[0].0);
                return Err(source.unsupported(at, what, "give one of them another host_name"));
            }
        }
        Ok(found)
    }
}

/// Names with their kernels, sorted.
fn names(kernels: &[Kernel]) -> Vec<(&str, usize)> {
    let mut names: Vec<_> = kernels
        .iter()
        .enumerate()
        .map(|(i, k)| (k.function.name.as_str(), i))
        .collect();
    names.sort_unstable();
    names
}

struct Finder<'a> {
    source: &'a Source,
    attributes: &'a Attributes,
    outline: &'a Outline,
}

impl Finder<'_> {
    fn definition(
        &self,
        index: usize,
        item: &Item,
        name: usize,
        parameters: usize,
        found: &mut Kernels,
    ) -> Result<(), Error> {
        let s = self.source;
        let head = item.head..name;
        let word = head
            .clone()
            .find(|&t| s.is(t, "kernel") && !self.in_attribute(t, &head));
        let mut host_name = None;
        let mut max_threads = None;
        let mut marked = word.is_some();
        let mut own: Vec<&Attribute> = self.attributes.within(head.clone()).collect();
        // `[[…]]` after the parameters belongs to the function as well.
        if let ItemKind::Function {
            body: Some(body), ..
        } = item.kind
        {
            own.extend(self.attributes.within(s.after(parameters)..body));
        }
        for attribute in own {
            match attribute.name.as_str() {
                "kernel" => marked = true,
                "host_name" => host_name = Some(self.string(attribute)?),
                "max_total_threads_per_threadgroup" => {
                    max_threads = Some(attribute.arguments.clone())
                }
                _ => continue,
            }
            found.used.insert(attribute.token);
        }
        if !marked {
            return Ok(());
        }
        if self.outline.scopes[item.scope].record {
            return Err(s.unsupported(
                name,
                "a kernel inside a record",
                "declare it in a namespace",
            ));
        }
        if !s.is(name - 1, "void") {
            let what = format!("kernel `{}` does not return void", s.text(name));
            return Err(s.unsupported(name, what, "declare it `kernel void`"));
        }
        let parameters_end = s.partner(parameters);
        let of_arguments = self.attributes.within(parameters..parameters_end);
        found.used.extend(of_arguments.map(|a| a.token));
        let arguments = arguments(s, self.attributes, parameters)?;
        let definition = Definition {
            name: s.text(name).into(),
            item: index,
            word,
            max_threads,
            arguments,
        };
        let body = matches!(item.kind, ItemKind::Function { body: Some(_), .. });
        if item.template.is_none() && body {
            // With its whole path: `dot` alone would be the standard library's, too.
            let mut path = self.outline.scopes[item.scope].path.clone();
            path.push(definition.name.clone());
            let expression = format!("::{}", path.join("::"));
            let name = host_name.unwrap_or_else(|| definition.name.clone());
            let kernel = self.kernel(&definition, name, expression, index);
            found.kernels.push(kernel);
        }
        found.definitions.push(definition);
        Ok(())
    }

    fn in_attribute(&self, token: usize, within: &Range<usize>) -> bool {
        self.attributes
            .within(within.clone())
            .any(|a| a.token == token || a.arguments.contains(&token))
    }

    fn kernel(
        &self,
        definition: &Definition,
        name: String,
        expression: String,
        item: usize,
    ) -> Kernel {
        let max_threads = match definition.max_threads {
            Some(_) => {
                let (path, arguments) =
                    expression.split_at(expression.find('<').unwrap_or(expression.len()));
                let (path, own) = path.rsplit_once("::").map_or(("", path), |(p, n)| (p, n));
                let path = if path.is_empty() {
                    String::new()
                } else {
                    format!("{path}::")
                };
                format!(
                    "{path}msl_max_threads_{}_{}{arguments}",
                    own.trim(),
                    definition.item
                )
            }
            None => "0".to_string(),
        };
        let line = self.source.line(self.outline.items[definition.item].head);
        let function = Function {
            name,
            arguments: definition.arguments.clone(),
            constants: Vec::new(),
            line,
        };
        Kernel {
            function,
            pointer: format!("&{expression}"),
            like: None,
            max_threads,
            item,
            definition: definition.item,
        }
    }

    /// `template [[host_name("x")]] [[kernel]] decltype(f<int>) f<int>;`, `… kernel void f<int>(…);`, or with the name
    /// of a function type in place of `void`.
    fn instantiation(&self, index: usize, item: &Item, found: &mut Kernels) -> Result<(), Error> {
        let s = self.source;
        let mut host_name = None;
        let mut at = item.head + 1;
        let mut marked = false;
        loop {
            if let Some(end) = self.attributes.group_at(at) {
                for attribute in self.attributes.within(at..end) {
                    match attribute.name.as_str() {
                        "host_name" => host_name = Some(self.string(attribute)?),
                        "kernel" => marked = true,
                        "max_total_threads_per_threadgroup" => {}
                        _ => continue,
                    }
                    found.used.insert(attribute.token);
                }
                at = end;
            } else if s.is(at, "kernel") {
                marked = true;
                at += 1;
            } else {
                break;
            }
        }
        if !marked {
            // `template struct S<int>;` is C++.
            return Ok(());
        }
        for attribute in self.attributes.within(at..item.tokens.end) {
            found.used.insert(attribute.token);
        }
        at += usize::from(s.is(at, "const"));
        let declared = if s.is(at, "decltype") && s.is(at + 1, "(") {
            s.after(at + 1)
        } else {
            self.name_end(at)
        };
        let end = self.name_end(declared);
        let word = (declared..end)
            .take_while(|&t| !s.is(t, "<"))
            .filter(|&t| s.is_word(t))
            .last();
        let Some(word) = word else {
            let what = "an explicit instantiation of a kernel without a name";
            return Err(s.unsupported(item.head, what, "name the kernel: `f<float>`"));
        };
        let deduced = !s.is(end - 1, ">");
        let scope = &self.outline.scopes[item.scope].path;
        let given = (!deduced).then(|| {
            let open = (word + 1..end).find(|&t| s.angle(t) == Some(end - 1));
            open.map_or(0, |open| s.split(open + 1..end - 1).len())
        });
        let candidates: Vec<&Definition> = found
            .definitions
            .iter()
            .filter(|d| d.name == s.text(word) && self.takes(d, given))
            .collect();
        // The one of the innermost namespace around, if several have the name.
        let near = |d: &Definition| {
            let path = &self.outline.scopes[self.outline.items[d.item].scope].path;
            path.iter().zip(scope).take_while(|(a, b)| a == b).count()
        };
        let nearest = candidates.iter().map(|d| near(d)).max();
        if candidates
            .iter()
            .filter(|d| Some(near(d)) == nearest)
            .count()
            > 1
        {
            let what = format!("several kernel templates `{}` could be meant", s.text(word));
            return Err(s.unsupported(word, what, "give them different names"));
        }
        let Some(definition) = candidates.iter().max_by_key(|d| near(d)) else {
            let what = format!("no kernel template `{}` to instantiate", s.text(word));
            return Err(s.unsupported(
                word,
                what,
                "define it before, marked `kernel` or `[[kernel]]`",
            ));
        };
        if let Some(host_name) = host_name {
            let mut kernel = self.kernel(definition, host_name, s.join(declared..end), index);
            if deduced && (!s.is(end, "(") || definition.max_threads.is_some()) {
                let what = "an explicit instantiation of a kernel without template arguments";
                return Err(s.unsupported(item.head, what, "write them out: `f<float>`"));
            } else if deduced {
                let number = found.kernels.len();
                kernel.like = Some(word);
                kernel.pointer = format!(
                    "static_cast<decltype(&msl_like_{number})>({})",
                    kernel.pointer
                );
            }
            found.kernels.push(kernel);
        }
        Ok(())
    }

    /// Whether a template takes so many arguments.
    fn takes(&self, definition: &Definition, given: Option<usize>) -> bool {
        let s = self.source;
        let template = &self.outline.items[definition.item].template;
        let (Some(given), Some(tokens)) = (given, template) else {
            return true;
        };
        let parameters = s.split(tokens.clone());
        let has = |p: &Range<usize>, mark: &str| p.clone().any(|t| s.is(t, mark));
        let optional = |p: &&Range<usize>| has(p, "=") || has(p, "...");
        let most = match parameters.iter().any(|p| has(p, "...")) {
            true => usize::MAX,
            false => parameters.len(),
        };
        (parameters.len() - parameters.iter().filter(optional).count()..=most).contains(&given)
    }

    /// The end of `a::b<c>`.
    fn name_end(&self, mut at: usize) -> usize {
        let s = self.source;
        loop {
            if s.is(at, "::") || s.is(at, "typename") {
                at += 1;
            }
            if !s.is_word(at) {
                return at;
            }
            at += 1;
            if let Some(close) = s.angle(at) {
                at = close + 1;
            }
            if !s.is(at, "::") {
                return at;
            }
        }
    }

    /// The strings of `host_name("a" "b")` as one.
    fn string(&self, attribute: &Attribute) -> Result<String, Error> {
        let mut name = String::new();
        for token in attribute.arguments.clone() {
            match self
                .source
                .text(token)
                .strip_prefix('"')
                .and_then(|t| t.strip_suffix('"'))
            {
                Some(text) => name.push_str(text),
                None => {
                    let what = format!("`{}` in host_name", self.source.text(token));
                    return Err(self.source.unsupported(token, what, "write a string"));
                }
            }
        }
        Ok(name)
    }
}
