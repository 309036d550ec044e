//! What is changed in a binding crate so that it builds on Linux: one attribute in its source and
//! one dependency in its manifest. Text in, text out; `bindings` does the copying.

/// The crate that every binding crate is made to depend on. It has no code: it only turns on the
/// message ABI of the GNUstep runtime, in objc2 and in block2 at once, because the two must agree.
/// Being a dependency of the binding crates, it holds for every selection of packages.
pub const ABI_CRATE: &str = "gnustep-abi";

/// The manifest of [`ABI_CRATE`].
pub const ABI_MANIFEST: &str = r#"# Written by `cargo xtask bindings`.
[package]
name = "gnustep-abi"
version = "0.0.0"
edition = "2024"
publish = false

[dependencies]
block2 = { version = "0.6.1", default-features = false, features = ["alloc", "gnustep-2-1"] }
objc2 = { version = "0.6.2", default-features = false, features = ["std", "gnustep-2-1"] }
"#;

/// The source of [`ABI_CRATE`].
pub const ABI_SOURCE: &str = "\
//! No code: this crate selects the message ABI in objc2 and block2. See docs/bindings.md.
#![no_std]
";

const ATTRIBUTE: &str = "#[link(";
const START: &str = "#[link(name = \"";
const END: &str = "\", kind = \"framework\")]";

/// How many link attributes a source file has. Those in comments do not count.
pub fn attributes(source: &str) -> usize {
    source
        .lines()
        .filter(|line| line.trim_start().starts_with(ATTRIBUTE))
        .count()
}

/// Makes the one link attribute of `source` hold on Apple's platforms only, which is what rustc
/// insists on (E0455). `None` if there is not exactly one, or it has another form.
pub fn guard(source: &str) -> Option<String> {
    if attributes(source) != 1 {
        return None;
    }
    let line = source.lines().find(|line| line.starts_with(ATTRIBUTE))?;
    let name = line.strip_prefix(START)?.strip_suffix(END)?;
    if name.is_empty() || !name.chars().all(char::is_alphanumeric) {
        return None;
    }
    let guarded = format!(
        "#[cfg_attr(target_vendor = \"apple\", link(name = \"{name}\", kind = \"framework\"))]"
    );
    Some(source.replacen(line, &guarded, 1))
}

/// Makes the crate with this manifest depend on [`ABI_CRATE`].
pub fn depend_on_abi(manifest: &str) -> String {
    format!("{manifest}\n[dependencies.{ABI_CRATE}]\npath = \"../{ABI_CRATE}\"\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOURCE: &str = "\
//! Bindings.
//! #[link(name = \"Other\", kind = \"framework\")]
#[link(name = \"Metal\", kind = \"framework\")]
extern \"C\" {}
";

    #[test]
    fn the_attribute_is_guarded_and_nothing_else_changes() {
        let guarded = guard(SOURCE).unwrap();
        let changed: Vec<_> = SOURCE
            .lines()
            .zip(guarded.lines())
            .filter(|(before, after)| before != after)
            .collect();
        assert_eq!(
            changed,
            [(
                "#[link(name = \"Metal\", kind = \"framework\")]",
                "#[cfg_attr(target_vendor = \"apple\", link(name = \"Metal\", kind = \"framework\"))]"
            )]
        );
        assert_eq!(SOURCE.lines().count(), guarded.lines().count());
    }

    #[test]
    fn a_guarded_source_is_refused() {
        assert_eq!(guard(&guard(SOURCE).unwrap()), None);
    }

    #[test]
    fn none_two_and_other_forms_are_refused() {
        let two = SOURCE.replace(
            "extern",
            "#[link(name = \"B\", kind = \"framework\")]\nextern",
        );
        let dylib = SOURCE.replace(
            "kind = \"framework\")]\nextern",
            "kind = \"dylib\")]\nextern",
        );
        let weak = SOURCE.replace("\")]\nextern", "\", modifiers = \"+verbatim\")]\nextern");
        let unnamed = SOURCE.replace("Metal", "");
        let inner = SOURCE.replace("\n#[link", "\n  #[link");
        for changed in ["", &two, &dylib, &weak, &unnamed, &inner] {
            assert_eq!(guard(changed), None, "{changed}");
        }
    }

    #[test]
    fn attributes_in_comments_do_not_count() {
        assert_eq!(attributes(SOURCE), 1);
        assert_eq!(
            attributes("// #[link(name = \"c\")]\n  #[link(name = \"d\")]\n"),
            1
        );
    }

    #[test]
    fn manifests_stay_toml() {
        let manifest = "[package]\nname = \"a\"\n\n[lints.clippy]\nptr_as_ptr = \"warn\"\n";
        let table: toml::Table = depend_on_abi(manifest).parse().unwrap();
        let path = table["dependencies"][ABI_CRATE]["path"].as_str();
        assert_eq!(path, Some("../gnustep-abi"));
        let abi: toml::Table = ABI_MANIFEST.parse().unwrap();
        assert_eq!(abi["package"]["name"].as_str(), Some(ABI_CRATE));
    }
}
