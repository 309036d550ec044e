//! The two manifests that are edited, as text that stays as the user formatted it: that of the
//! workspace, and that of the copy.

use std::path::Path;

use toml_edit::{DocumentMut, InlineTable, Item, Table, TomlError, Value};

use crate::patch::workspace::Ops;

/// Where the copy is, seen from the workspace's root.
pub const COPY: &str = "candle-mps-patch/candle-nn";

const REMARK: &str = " # by `candle-mps patch`; `candle-mps patch --undo` takes it back";

/// What a workspace does about candle-nn.
#[derive(Debug, PartialEq, Eq)]
pub enum Patch {
    None,
    Ours,
    /// The line of the user's.
    Other(String),
}

/// The patch of candle-nn in the manifest of a workspace.
pub fn patch(manifest: &str) -> Result<Patch, TomlError> {
    let document: DocumentMut = manifest.parse()?;
    let registries = document.get("patch").and_then(Item::as_table_like);
    for (registry, crates) in registries.into_iter().flat_map(|it| it.iter()) {
        for (key, source) in crates.as_table_like().into_iter().flat_map(|it| it.iter()) {
            let get = |name| source.get(name).and_then(Item::as_str);
            if get("package").unwrap_or(key) != "candle-nn" {
                continue;
            }
            if registry == "crates-io" && get("path") == Some(COPY) {
                return Ok(Patch::Ours);
            }
            let source = source.to_string();
            let source = source.trim();
            return Ok(Patch::Other(format!("[patch.{registry}] {key} = {source}")));
        }
    }
    Ok(Patch::None)
}

/// The workspace's manifest with our patch.
pub fn with_patch(manifest: &str) -> Result<String, TomlError> {
    let mut document: DocumentMut = manifest.parse()?;
    let mut path = InlineTable::new();
    path.insert("path", COPY.into());
    let mut value = Value::InlineTable(path);
    value.decor_mut().set_suffix(REMARK);
    let patch = document.entry("patch").or_insert_with(|| {
        let mut table = Table::new();
        table.set_implicit(true);
        Item::Table(table)
    });
    if let Some(table) = patch.as_table_like_mut() {
        let registry = table.entry("crates-io").or_insert_with(|| {
            let mut table = Table::new();
            // After the rest, not first of the `patch` tables.
            table.decor_mut().set_prefix("\n");
            Item::Table(table)
        });
        if let Some(crates) = registry.as_table_like_mut() {
            crates.insert("candle-nn", Item::Value(value));
        }
    }
    Ok(as_before(manifest, document))
}

/// The workspace's manifest without our patch, and without tables that are empty for that.
pub fn without_patch(manifest: &str) -> Result<String, TomlError> {
    let mut document: DocumentMut = manifest.parse()?;
    if let Some(patch) = document.get_mut("patch").and_then(Item::as_table_like_mut) {
        if let Some(crates) = patch.get_mut("crates-io").and_then(Item::as_table_like_mut) {
            crates.remove("candle-nn");
            if crates.is_empty() {
                patch.remove("crates-io");
            }
        }
        if patch.is_empty() {
            document.remove("patch");
        }
    }
    Ok(as_before(manifest, document))
}

/// The document with the line ends that the text has.
fn as_before(text: &str, document: DocumentMut) -> String {
    let mut document = document.to_string().replace("\r\n", "\n");
    if text.starts_with('\u{feff}') && !document.starts_with('\u{feff}') {
        document.insert(0, '\u{feff}');
    }
    if text.contains("\r\n") {
        document = document.replace('\n', "\r\n");
    }
    document
}

/// The lines that `after` has and `before` has not, for the summary.
pub fn added<'a>(before: &str, after: &'a str) -> Vec<&'a str> {
    let (old, new): (Vec<_>, Vec<_>) = (before.lines().collect(), after.lines().collect());
    // How many lines the rests of both have in common, in order.
    let mut common = vec![vec![0; new.len() + 1]; old.len() + 1];
    for (i, j) in (0..old.len())
        .rev()
        .flat_map(|i| (0..new.len()).rev().map(move |j| (i, j)))
    {
        common[i][j] = match old[i] == new[j] {
            true => common[i + 1][j + 1] + 1,
            false => common[i + 1][j].max(common[i][j + 1]),
        };
    }
    let mut added = Vec::new();
    let (mut i, mut j) = (0, 0);
    while j < new.len() {
        if i < old.len() && old[i] == new[j] {
            (i, j) = (i + 1, j + 1);
        } else if i < old.len() && common[i + 1][j] >= common[i][j + 1] {
            i += 1;
        } else {
            added.push(new[j]);
            j += 1;
        }
    }
    added
}

/// The copy's manifest: it depends on candle-mps-ops, and the compiler is as quiet about it as about
/// any crate of the registry. `folder` is where the copy will be.
pub fn of_copy(manifest: &str, folder: &Path, ops: &Ops) -> Result<String, TomlError> {
    let mut document: DocumentMut = manifest.parse()?;
    document["dependencies"]["candle-mps-ops"] =
        Item::Value(ops.dependency(folder).parse::<Value>()?);
    for name in ["accelerate", "metal"] {
        let all = document.get_mut("features");
        let Some(features) = all.and_then(|it| it.get_mut(name)?.as_array_mut()) else {
            continue;
        };
        let mut ours = Value::from(format!("candle-mps-ops/{name}"));
        if let Some(last) = features.iter().last() {
            // On a line of its own, if the others are.
            *ours.decor_mut() = last.decor().clone();
        }
        features.push_formatted(ours);
    }
    let mut quiet = Table::new();
    quiet.set_implicit(true);
    for (tool, lint) in [("rust", "warnings"), ("clippy", "all")] {
        let mut lints = Table::new();
        lints.insert(lint, "allow".into());
        quiet.insert(tool, Item::Table(lints));
    }
    document["lints"] = Item::Table(quiet);
    Ok(document.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str = "candle-nn = { path = \"candle-mps-patch/candle-nn\" } # by `candle-mps patch`; \
                        `candle-mps patch --undo` takes it back\n";

    /// Patches and takes back, and returns the patched text.
    fn there_and_back(manifest: &str) -> String {
        assert_eq!(patch(manifest).unwrap(), Patch::None);
        let patched = with_patch(manifest).unwrap();
        assert_eq!(patch(&patched).unwrap(), Patch::Ours, "{patched}");
        assert_eq!(without_patch(&patched).unwrap(), manifest);
        patched
    }

    #[test]
    fn one_line_is_added_and_the_rest_stays_as_it_was() {
        let plain = "# mine\n[package]\nname   =  'a' # odd\n\n[dependencies]\nb = {version='1'}\n";
        assert_eq!(
            there_and_back(plain),
            format!("{plain}\n[patch.crates-io]\n{LINE}")
        );
        let patches = format!("{plain}\n[patch.crates-io]\n# why\nhalf = {{ path = 'x' }}\n");
        assert_eq!(there_and_back(&patches), format!("{patches}{LINE}"));
        let dos = plain.replace('\n', "\r\n");
        let patched = there_and_back(&dos);
        assert!(!patched.replace("\r\n", "").contains('\n'), "{patched:?}");
        there_and_back("[patch]\n[patch.\"https://example.com\"]\na = { path = 'a' }\n");
        there_and_back("[patch.crates-io]\nhalf = { path = 'x' }\n\n[profile.dev]\ndebug = 0\n");
        there_and_back("patch.crates-io.half = { path = 'x' }\n[package]\nname = 'a'\n");
    }

    #[test]
    fn patches_of_the_user_are_told_from_ours() {
        for own in [
            "[patch.crates-io]\ncandle-nn = { path = '../candle/candle-nn' }\n",
            "[patch.crates-io.candle-nn]\ngit = 'https://example.com'\n",
            "[patch.crates-io]\nnn = { package = 'candle-nn', path = 'x' }\n",
            "[patch.'https://github.com/rust-lang/crates.io-index']\ncandle-nn = { path = 'x' }\n",
        ] {
            assert!(matches!(patch(own).unwrap(), Patch::Other(_)), "{own}");
        }
        let Patch::Other(line) = patch("[patch.crates-io]\ncandle-nn = { path = 'x' }").unwrap()
        else {
            panic!("not found");
        };
        assert_eq!(line, "[patch.crates-io] candle-nn = { path = 'x' }");
        let other = "[patch.crates-io]\ncandle-core = { path = 'x' }\n";
        assert_eq!(patch(other).unwrap(), Patch::None);
    }

    #[test]
    fn the_copy_depends_on_our_ops_and_is_quiet() {
        let published = "[package]\nname = \"candle-nn\"\n\n[features]\nmetal = [\n    \"candle/metal\",\n]\n\n\
                         [dependencies.half]\nversion = \"2\"\n\n[lints.rust]\nmissing_docs = \"warn\"\n";
        let ops = Ops::Path("/a/ops".into());
        let text = of_copy(published, Path::new("/a/b"), &ops).unwrap();
        let document: DocumentMut = text.parse().unwrap();
        let path = &document["dependencies"]["candle-mps-ops"]["path"];
        assert_eq!(path.as_str(), Some("../ops"), "{text}");
        assert_eq!(
            document["dependencies"]["half"]["version"].as_str(),
            Some("2")
        );
        assert_eq!(document["features"]["metal"].as_array().unwrap().len(), 2);
        assert_eq!(
            document["lints"]["rust"]["warnings"].as_str(),
            Some("allow")
        );
        assert_eq!(document["lints"]["rust"].as_table().unwrap().len(), 1);
        let lines = added(published, &text).join("\n");
        assert!(lines.contains("candle-mps-ops"), "{lines}");
        assert!(!lines.contains("half"), "{lines}");
    }
}
