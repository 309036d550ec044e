//! What Metal writes about small floats and the host's compiler does not know: literals such as `1.0bf` and `1.0H`,
//! and casts between halves and bfloats.

use super::{
    edits::Edits,
    lexer::{Kind, Source},
};

/// Rewrites literals and casts.
pub(crate) fn rewrite(source: &Source, edits: &mut Edits) {
    for token in 0..source.len() {
        if source.tokens[token].kind == Kind::Number {
            if let Some(text) = literal(source.text(token)) {
                edits.replace(token, text);
            }
        } else if source.is(token, "static_cast") && !edits.is_dropped(token) {
            cast(source, token, edits);
        } else if ["half", "bfloat"].contains(&source.text(token)) && called(source, token) {
            edits.replace(token, format!("::msl_cast<{}>", source.text(token)));
        }
    }
}

/// `1.5bf` as `bfloat(1.5f)`.
fn literal(text: &str) -> Option<String> {
    if text.starts_with("0x") || text.starts_with("0X") {
        return None;
    }
    let (digits, name) = [("bf", "bfloat"), ("BF", "bfloat"), ("H", "half")]
        .iter()
        .find_map(|(suffix, name)| Some((text.strip_suffix(suffix)?, name)))?;
    let float = digits.contains(['.', 'e', 'E']);
    Some(format!("{name}({digits}{})", if float { "f" } else { "" }))
}

/// `half(x)`, but not `operator half(…)`, `half (*f)(…)` or `half()`.
fn called(source: &Source, token: usize) -> bool {
    let open = token + 1;
    let declares = ["*", "&", "&&", ")", "^"]
        .iter()
        .any(|m| source.is(open + 1, m));
    let operator = token > 0 && source.is(token - 1, "operator");
    source.is(open, "(") && !declares && !operator
}

/// The prelude's cast knows all ways between numbers; casts of pointers and references stay.
fn cast(source: &Source, token: usize, edits: &mut Edits) {
    let Some(close) = source.angle(token + 1) else {
        return;
    };
    let pointer = |t: usize| ["*", "&", "&&"].iter().any(|m| source.is(t, m));
    if !(token + 2..close).any(pointer) {
        edits.replace(token, "::msl_cast");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rewritten(text: &str) -> Vec<String> {
        let source = Source::new(text.to_string(), "a.metal").unwrap();
        let mut edits = Edits::default();
        rewrite(&source, &mut edits);
        (0..source.len())
            .map(|t| edits.text(&source, t).to_string())
            .collect()
    }

    #[test]
    fn literals_of_small_floats_are_conversions() {
        assert_eq!(
            rewritten("1.5bf 2BF 1e-3H 0x1bf 1.0h 2.0f"),
            [
                "bfloat(1.5f)",
                "bfloat(2)",
                "half(1e-3f)",
                "0x1bf",
                "1.0h",
                "2.0f"
            ]
        );
    }

    #[test]
    fn casts_of_numbers_are_the_preludes() {
        assert_eq!(rewritten("static_cast<bfloat>(x)")[0], "::msl_cast");
        assert_eq!(rewritten("static_cast<device float*>(x)")[0], "static_cast");
        assert_eq!(rewritten("static_cast<vec<T, 2>>(x)")[0], "::msl_cast");
        assert_eq!(rewritten("bfloat(x)")[0], "::msl_cast<bfloat>");
        assert_eq!(rewritten("operator half(x)")[1], "half");
        assert_eq!(rewritten("half (*f)(int)")[0], "half");
    }
}
