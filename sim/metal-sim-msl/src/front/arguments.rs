//! The arguments of a kernel: where each comes from and its index, given or assigned as Metal assigns them, in order the
//! lowest that is free, those under a function constant counted in.

use std::{collections::BTreeSet, ops::Range};

use super::{attributes::Attributes, lexer::Source};
use crate::{
    error::Error,
    library::{Argument, ArgumentKind, Builtin},
};

/// The builtin of an attribute's name.
pub(crate) fn builtin(name: &str) -> Option<Builtin> {
    Some(match name {
        "thread_position_in_grid" => Builtin::ThreadPositionInGrid,
        "thread_position_in_threadgroup" => Builtin::ThreadPositionInThreadgroup,
        "threadgroup_position_in_grid" => Builtin::ThreadgroupPositionInGrid,
        "threads_per_threadgroup" => Builtin::ThreadsPerThreadgroup,
        "dispatch_threads_per_threadgroup" => Builtin::DispatchThreadsPerThreadgroup,
        "threadgroups_per_grid" => Builtin::ThreadgroupsPerGrid,
        "threads_per_grid" => Builtin::ThreadsPerGrid,
        "thread_index_in_threadgroup" => Builtin::ThreadIndexInThreadgroup,
        "thread_index_in_simdgroup" => Builtin::ThreadIndexInSimdgroup,
        "simdgroup_index_in_threadgroup" => Builtin::SimdgroupIndexInThreadgroup,
        "simdgroups_per_threadgroup" => Builtin::SimdgroupsPerThreadgroup,
        "threads_per_simdgroup" | "thread_execution_width" => Builtin::ThreadsPerSimdgroup,
        "thread_index_in_quadgroup" => Builtin::ThreadIndexInQuadgroup,
        "quadgroup_index_in_threadgroup" => Builtin::QuadgroupIndexInThreadgroup,
        "quadgroups_per_threadgroup" => Builtin::QuadgroupsPerThreadgroup,
        _ => return None,
    })
}

/// The arguments in the parentheses that open here.
pub(crate) fn arguments(
    source: &Source,
    attributes: &Attributes,
    open: usize,
) -> Result<Vec<Argument>, Error> {
    Reader { source, attributes }.arguments(open)
}

struct Reader<'a> {
    source: &'a Source,
    attributes: &'a Attributes,
}

impl Reader<'_> {
    fn arguments(&self, open: usize) -> Result<Vec<Argument>, Error> {
        let mut arguments = Vec::new();
        let close = self.source.partner(open);
        let nothing = close == open + 2 && self.source.is(open + 1, "void");
        let parameters = if nothing {
            Vec::new()
        } else {
            self.source.split(open + 1..close)
        };
        for tokens in parameters {
            arguments.push(self.argument(tokens)?);
        }
        assign(&mut arguments);
        let mut taken = BTreeSet::new();
        let mut all = Vec::new();
        for (argument, token) in arguments {
            if !matches!(argument.kind, ArgumentKind::Builtin(_))
                && !taken.insert(format!("{:?}", argument.kind))
            {
                let what = format!("argument `{}` has the index of another", argument.name);
                return Err(self.source.unsupported(token, what, "give each its own"));
            }
            all.push(argument);
        }
        Ok(all)
    }

    /// An argument and its first token; [`u32::MAX`] for an index to be assigned.
    fn argument(&self, tokens: Range<usize>) -> Result<(Argument, usize), Error> {
        let s = self.source;
        let mut plain = Vec::new();
        let mut at = tokens.start;
        while at < tokens.end {
            match self.attributes.group_at(at) {
                Some(end) => at = end,
                None => {
                    plain.push(at);
                    at += 1;
                }
            }
        }
        let array = plain
            .iter()
            .position(|&t| s.is(t, "["))
            .unwrap_or(plain.len());
        let name = (array >= 2 && s.is_word(plain[array - 1])).then(|| plain[array - 1]);
        let pointer = plain
            .iter()
            .find(|&&t| s.is(t, "*") || s.is(t, "&"))
            .copied();
        let has = |word: &str| plain.iter().any(|&t| s.is(t, word));
        let pointee_const = plain
            .iter()
            .take_while(|&&t| Some(t) != pointer)
            .any(|&t| s.is(t, "const") || s.is(t, "constant"));
        let mut argument = Argument {
            name: name.map_or_else(String::new, |n| s.text(n).to_string()),
            kind: ArgumentKind::Buffer(u32::MAX),
            type_name: s.join(plain.iter().copied().filter(|&t| Some(t) != name)),
            writable: has("device") && !pointee_const,
            line: s.line(tokens.start),
            constant: None,
        };
        let refuse = |what: &str, remedy: &str| {
            Err(s.unsupported(
                tokens.start,
                format!("kernel argument `{}` {what}", s.join(tokens.clone())),
                remedy,
            ))
        };
        let mut decided = false;
        for attribute in self.attributes.within(tokens.clone()) {
            let index = || -> Result<u32, Error> {
                let text = s.join(attribute.arguments.clone());
                let remedy = "write a number";
                text.parse()
                    .map_err(|_| s.unsupported(attribute.token, format!("index `{text}`"), remedy))
            };
            match attribute.name.as_str() {
                "buffer" => (argument.kind, decided) = (ArgumentKind::Buffer(index()?), true),
                "threadgroup" => {
                    (argument.kind, decided) = (ArgumentKind::Threadgroup(index()?), true)
                }
                "function_constant" => {
                    argument.constant = Some(s.join(attribute.arguments.clone()))
                }
                other => match builtin(other) {
                    Some(builtin) => {
                        (argument.kind, decided) = (ArgumentKind::Builtin(builtin), true)
                    }
                    None => {
                        return refuse(
                            &format!("has [[{other}]]"),
                            "that is of functions, not of arguments",
                        );
                    }
                },
            }
        }
        if !decided && has("threadgroup") {
            argument.kind = ArgumentKind::Threadgroup(u32::MAX);
        } else if !decided && !has("device") && !has("constant") {
            return refuse(
                "has neither an address space nor an attribute",
                "say where its value comes from",
            );
        }
        let builtin = matches!(argument.kind, ArgumentKind::Builtin(_));
        if builtin && pointer.is_some() {
            return refuse("is a thread's position by reference", "take it by value");
        }
        if !builtin && pointer.is_none() && array == plain.len() {
            return refuse(
                "is a buffer by value",
                "take it as a pointer or a reference",
            );
        }
        Ok((argument, tokens.start))
    }
}

/// Gives the lowest free index to each that has none.
fn assign(arguments: &mut [(Argument, usize)]) {
    let free = |arguments: &[(Argument, usize)], make: fn(u32) -> ArgumentKind| {
        (0..)
            .map(make)
            .find(|k| arguments.iter().all(|(a, _)| a.kind != *k))
            .expect("kernels have few arguments")
    };
    for index in 0..arguments.len() {
        match arguments[index].0.kind {
            ArgumentKind::Buffer(u32::MAX) => {
                arguments[index].0.kind = free(arguments, ArgumentKind::Buffer)
            }
            ArgumentKind::Threadgroup(u32::MAX) => {
                arguments[index].0.kind = free(arguments, ArgumentKind::Threadgroup)
            }
            _ => {}
        }
    }
}
