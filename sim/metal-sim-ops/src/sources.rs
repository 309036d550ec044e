//! The product's kernels as they are in their folder, and the barriers in them.

use std::fs;
use std::path::Path;

use metal_sim::mutant;

/// One `.metal` file.
#[derive(Clone, Debug)]
pub struct File {
    /// Without `.metal`.
    pub name: String,
    /// All of it.
    pub text: String,
}

impl File {
    /// Its first line, which no other file contains: what the switch that takes barriers away knows it by.
    pub fn mark(&self) -> &str {
        self.text.lines().next().unwrap_or_default()
    }

    /// How many barriers it has.
    pub fn barriers(&self) -> usize {
        mutant::barriers(&self.text).len()
    }

    /// The line of one of them.
    pub fn line(&self, barrier: usize) -> usize {
        let places = mutant::barriers(&self.text);
        places.get(barrier).map_or(0, |place| {
            self.text[..place.start].matches('\n').count() + 1
        })
    }

    /// It has no kernels of its own: others are compiled behind it.
    pub fn is_shared(&self) -> bool {
        !self.text.contains("[[buffer(0)]]")
    }
}

/// All of them, by name.
pub fn files() -> Vec<File> {
    let folder =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../crates/candle-mps-ops/src/metal/kernels");
    let entries = fs::read_dir(&folder).unwrap_or_else(|why| panic!("{}: {why}", folder.display()));
    let paths = entries.map(|entry| entry.expect("a folder that was opened").path());
    let mut files: Vec<_> = paths
        .filter(|path| path.extension().is_some_and(|it| it == "metal"))
        .map(|path| File {
            name: path
                .file_stem()
                .unwrap_or_default()
                .to_string_lossy()
                .into(),
            text: fs::read_to_string(&path)
                .unwrap_or_else(|why| panic!("{}: {why}", path.display())),
        })
        .collect();
    files.sort_by(|left, right| left.name.cmp(&right.name));
    files
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_tells_a_file_from_all_others() {
        let files = files();
        assert!(!files.is_empty());
        for file in &files {
            let with = files
                .iter()
                .filter(|it| it.text.contains(file.mark()))
                .count();
            assert!(
                with == 1 && file.mark().len() > 20,
                "{}: {}",
                file.name,
                file.mark()
            );
        }
    }
}
