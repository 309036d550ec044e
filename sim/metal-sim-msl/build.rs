//! Embeds the prelude, every file of it, and a number that changes with the rewriter, so that neither a new header nor
//! a changed rewriter can meet libraries compiled with the old ones.

use std::{
    collections::hash_map::DefaultHasher,
    env, fs,
    hash::{Hash, Hasher},
    path::{Path, PathBuf},
};

fn main() {
    let root = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it"));
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets it"));
    let mut files = Vec::new();
    list(&root.join("prelude"), &mut files);
    let rows: Vec<String> = files
        .iter()
        .map(|file| {
            let name = file
                .strip_prefix(root.join("prelude"))
                .expect("it was listed below")
                .display()
                .to_string();
            format!(
                "({name:?}, include_str!({:?})),\n",
                file.display().to_string()
            )
        })
        .collect();
    fs::write(out.join("prelude.rs"), format!("&[\n{}]", rows.concat()))
        .expect("OUT_DIR is writable");

    let mut rewriter = Vec::new();
    list(&root.join("src/front"), &mut rewriter);
    let mut hasher = DefaultHasher::new();
    for file in &rewriter {
        fs::read(file).expect("it was listed").hash(&mut hasher);
    }
    println!("cargo::rustc-env=MSL_REWRITER={:016x}", hasher.finish());
    for folder in ["prelude", "prelude/pp", "src/front"] {
        println!("cargo::rerun-if-changed={folder}");
    }
}

/// All files below a folder, sorted.
fn list(folder: &Path, files: &mut Vec<PathBuf>) {
    let entries = fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    for entry in entries {
        let path = entry.expect("a folder that was opened").path();
        if path.is_dir() {
            list(&path, files);
        } else {
            files.push(path);
        }
    }
    files.sort();
}
