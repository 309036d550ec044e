//! The scripts in `findings/`: each still shows what it says, in Candle's own files.

#[path = "support/candle.rs"]
mod candle;

use std::path::Path;
use std::process::Command;
use std::{env, fs};

#[test]
fn every_finding_can_be_shown() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("findings");
    let readme = fs::read_to_string(folder.join("README.md")).unwrap();
    let tool = Path::new(env!("CARGO_BIN_EXE_metal-sim")).parent().unwrap();
    let mut path = vec![tool.to_owned()];
    path.extend(env::split_paths(&env::var_os("PATH").unwrap()));
    let path = env::join_paths(path).unwrap();
    let mut count = 0;
    for entry in fs::read_dir(&folder).unwrap() {
        let script = entry.unwrap().path();
        if script.extension().is_none_or(|it| it != "sh") {
            continue;
        }
        let name = script.file_name().unwrap().to_str().unwrap();
        let output = Command::new("sh")
            .arg(&script)
            .env("KERNELS", candle::kernels())
            .env("PATH", &path)
            .output()
            .unwrap();
        let out = String::from_utf8(output.stdout).unwrap();
        let err = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{name}: {out}{err}");
        let text = fs::read_to_string(&script).unwrap();
        let shows: Vec<_> = text
            .lines()
            .filter_map(|it| it.strip_prefix("# shows: "))
            .collect();
        assert!(!shows.is_empty(), "{name} says nothing");
        for part in shows {
            assert!(out.contains(part), "{name}: no `{part}` in\n{out}");
        }
        assert!(
            readme.contains(&format!("`{name}`")),
            "{name} is not in the README"
        );
        count += 1;
    }
    assert_eq!(readme.matches(".sh` |").count(), count);
}
