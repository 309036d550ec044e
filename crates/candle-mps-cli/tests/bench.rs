//! `candle-mps bench` as a user or a script sees it: what it writes, and what it does about peers, ops, files
//! and folders that are not as they should be.

mod support;

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use support::{Place, ROWS, cell, text};

#[test]
fn rows_have_times_and_ratios_and_are_kept() {
    let place = Place::new("rows");
    let output = place.bench(&[
        "--shapes",
        "rows.toml",
        "--against",
        "candle,candle-installed",
    ]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let table = text(&output.stdout);
    for wanted in [
        "softmax 2x64",
        "chain",
        "rms_norm backward 2x64",
        "limits measured",
        "bench.json",
    ] {
        assert!(table.contains(wanted), "{wanted} in\n{table}");
    }
    assert!(!table.contains('\x1b'));
    let results = place.results("candle-mps-report");
    assert_eq!(results["finished"], true);
    assert_eq!(results["rows"].as_array().unwrap().len(), 4);
    for row in 0..4 {
        let ours = cell(&results, row, "ours");
        assert_eq!(ours["is"], "measured");
        assert!(ours["ratio"].is_null());
        for peer in ["candle", "candle-installed"] {
            let theirs = cell(&results, row, peer);
            let (median, ratio) = (theirs["median"].as_f64().unwrap(), &theirs["ratio"]);
            assert!(
                median > 0. && theirs["samples"].as_u64().unwrap() >= 5,
                "{theirs}"
            );
            let at = |name: &str| ratio[name].as_f64().unwrap();
            assert!(
                at("low") <= at("times") && at("times") <= at("high"),
                "{theirs}"
            );
        }
    }
    assert!(results["limits"]["gflops"].as_f64().unwrap() > 0.);
    let baseline = |id: &str| {
        let peers = results["peers"].as_array().unwrap();
        peers.iter().find(|it| it["id"] == id).unwrap()["baseline"].clone()
    };
    assert_eq!(baseline("candle"), true);
    assert_eq!(baseline("candle-installed"), false);
}

#[test]
fn json_is_all_that_is_printed() {
    let place = Place::new("json");
    let output = place.bench(&[
        "--shapes",
        "rows.toml",
        "--against",
        "candle",
        "--ops",
        "rms_norm",
        "--json",
    ]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let printed: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(printed, place.results("candle-mps-report"));
    assert_eq!(printed["rows"].as_array().unwrap().len(), 1);
}

#[test]
fn peers_that_are_not_installed_have_a_column_and_the_figures_of_another_run() {
    let place = Place::new("another");
    let shapes = place.write(
        "usual.toml",
        "[[rows]]\nop = \"softmax\"\nshapes = [\"1x1024\"]\n",
    );
    let shapes = shapes.to_str().unwrap();
    let output = place.bench(&["--shapes", shapes, "--against", "candle,pytorch,mlx"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert!(
        text(&output.stdout).contains("--install-peers"),
        "{}",
        text(&output.stdout)
    );
    let results = place.results("candle-mps-report");
    for peer in ["pytorch", "mlx"] {
        let cell = cell(&results, 0, peer);
        assert_eq!(cell["is"], "another_run", "{cell}");
        assert!(cell["median"].as_f64().unwrap() > 0.);
    }
}

#[test]
#[cfg(unix)]
fn a_broken_python_is_named_and_the_others_are_measured() {
    let place = Place::new("broken");
    let missing = PathBuf::from("/no/such/python");
    let broken = place.write(
        "python",
        "#!/bin/sh\necho \"No module named 'mlx'\" >&2\nexit 1\n",
    );
    executable(&broken);
    let output = place.with(
        &[
            ("CANDLE_MPS_PYTORCH", &missing),
            ("CANDLE_MPS_MLX", &broken),
        ],
        &["--shapes", "rows.toml", "--ops", "softmax"],
    );
    let table = text(&output.stdout);
    assert!(table.contains("/no/such/python does not start"), "{table}");
    assert!(table.contains("No module named 'mlx'"), "{table}");
    let results = place.results("candle-mps-report");
    assert_eq!(cell(&results, 0, "candle")["is"], "measured");
    // Asked for and not to be had is something wrong.
    assert_eq!(output.status.code(), Some(1));
}

#[test]
#[cfg(unix)]
fn a_peer_that_crashes_half_way_is_marked_and_the_others_go_on() {
    let place = Place::new("crash");
    // Answers ten times at the speed of light, and crashes.
    let script = r#"#!/bin/sh
echo '{"title": "Mortal 1.0"}'
asked=0
while read -r question; do
  asked=$((asked + 1))
  [ $asked -gt 11 ] && { echo "out of memory" >&2; kill -9 $$; }
  n=$(echo "$question" | sed 's/.*"results":\([0-9]*\).*/\1/')
  times=1e-3; i=1
  while [ $i -lt "$n" ]; do times="$times,1e-3"; i=$((i + 1)); done
  echo "{\"seconds\": [$times], \"cpu_seconds\": 1e-3}"
done
"#;
    let mortal = place.write("mortal", script);
    executable(&mortal);
    let output = place.with(
        &[("CANDLE_MPS_PYTORCH", &mortal)],
        &["--shapes", "rows.toml", "--against", "candle,pytorch"],
    );
    assert_eq!(output.status.code(), Some(1));
    let problems = text(&output.stderr);
    assert!(
        problems.contains("pytorch in softmax 2x64: it ended (signal: 9"),
        "{problems}"
    );
    assert!(problems.contains("out of memory"), "{problems}");
    assert!(
        problems.contains("it ended 2 times and is left out"),
        "{problems}"
    );
    let results = place.results("candle-mps-report");
    assert_eq!(results["finished"], true);
    assert_eq!(cell(&results, 0, "pytorch")["is"], "failed");
    assert!(
        cell(&results, 0, "pytorch")["why"]
            .as_str()
            .unwrap()
            .contains("samples of")
    );
    for row in 0..4 {
        assert_eq!(cell(&results, row, "candle")["is"], "measured");
    }
}

#[test]
#[cfg(unix)]
fn a_folder_that_cannot_be_written_does_not_stop_the_run() {
    let place = Place::new("folder");
    place.write("file", "");
    let output = place.bench(&[
        "--shapes",
        "rows.toml",
        "--against",
        "candle",
        "--out",
        "file/below",
    ]);
    assert_eq!(output.status.code(), Some(1));
    let problems = text(&output.stderr);
    assert!(
        problems.contains("the results are not kept: cannot create"),
        "{problems}"
    );
    assert_eq!(problems.matches("not kept").count(), 1, "{problems}");
    assert!(text(&output.stdout).contains("rms_norm backward 2x64"));
}

#[test]
fn unknown_ops_and_peers_are_named_beside_those_there_are() {
    let place = Place::new("unknown");
    let output = place.bench(&["--ops", "softmin"]);
    assert_eq!(output.status.code(), Some(2));
    let said = text(&output.stderr);
    assert!(
        said.contains("there is no op softmin; there are softmax, "),
        "{said}"
    );
    let output = place.bench(&["--against", "tensorflow"]);
    assert_eq!(output.status.code(), Some(2));
    let said = text(&output.stderr);
    assert!(
        said.contains("there is no peer tensorflow; there are ours, "),
        "{said}"
    );
    // Beside others they are a message.
    let arguments = [
        "--shapes",
        "rows.toml",
        "--ops",
        "softmin,rms_norm",
        "--against",
        "candle,jax",
    ];
    let output = place.bench(&arguments);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(
        place.results("candle-mps-report")["rows"]
            .as_array()
            .unwrap()
            .len(),
        1
    );
    assert_eq!(
        place.results("candle-mps-report")["problems"]
            .as_array()
            .unwrap()
            .len(),
        2
    );
}

#[test]
fn errors_of_the_shapes_file_are_named() {
    let place = Place::new("shapes");
    for (text_of, wanted) in [
        ("[[rows]]\nop = 3\n", "line 2"),
        (
            "[[rows]]\nop = \"softmax\"\nshapes = [\"2\"]\n",
            "ROWSxWIDTH",
        ),
        ("rows = []\n", "nothing is left to measure"),
    ] {
        place.write("bad.toml", text_of);
        let output = place.bench(&["--shapes", "bad.toml"]);
        assert_eq!(output.status.code(), Some(2));
        assert!(
            text(&output.stderr).contains(wanted),
            "{}",
            text(&output.stderr)
        );
    }
    let output = place.bench(&["--shapes", "no-such.toml"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(
        text(&output.stderr).contains("no-such.toml: "),
        "{}",
        text(&output.stderr)
    );
    // A row that is wrong leaves the others.
    place.write(
        "some.toml",
        &format!("{ROWS}\n[[rows]]\nop = \"softmax\"\nshapes = [\"0x1\"]\n"),
    );
    let output = place.bench(&["--shapes", "some.toml", "--against", "candle"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        text(&output.stderr).contains("some.toml: softmax 0x1: "),
        "{}",
        text(&output.stderr)
    );
    assert_eq!(
        place.results("candle-mps-report")["rows"]
            .as_array()
            .unwrap()
            .len(),
        4
    );
}

#[test]
fn what_can_be_asked_for_is_listed() {
    let place = Place::new("list");
    let output = place.bench(&["--list"]);
    assert_eq!(output.status.code(), Some(0));
    let list = text(&output.stdout);
    for wanted in [
        "softmax",
        "ROWSxWIDTH",
        "MxKxN or BATCHxMxKxN",
        "candle-installed",
        "devices, and",
        "metal ",
    ] {
        assert!(list.contains(wanted), "{wanted} in\n{list}");
    }
    let help = place.bench(&["--help"]);
    assert!(text(&help.stdout).contains("Exit status:"));
    assert!(text(&help.stdout).contains("CANDLE_MPS_PYTORCH"));
    let wrong = place.bench(&["--seconds", "never"]);
    assert_eq!(wrong.status.code(), Some(2));
}

#[cfg(unix)]
fn executable(path: &Path) {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}
