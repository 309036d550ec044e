//! `candle-mps verify` as a user or a script sees it: its table, its JSON, its exit status.

use std::path::PathBuf;
use std::process::{Command, Output};

use serde_json::Value;

fn verify(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_candle-mps"))
        .arg("verify")
        .args(arguments)
        .env_remove("CLICOLOR_FORCE")
        // Nothing is left behind where nothing was asked for.
        .current_dir(std::env::temp_dir())
        .output()
        .unwrap()
}

fn stdout(output: &Output) -> &str {
    std::str::from_utf8(&output.stdout).unwrap()
}

fn json(arguments: &[&str]) -> Value {
    let output = verify(&[&["--json"], arguments].concat());
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

/// A folder of this process's, which is not there yet.
fn folder(name: &str) -> PathBuf {
    let folder =
        std::env::temp_dir().join(format!("candle-mps-verify-{name}-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&folder);
    folder
}

const OPS: [&str; 22] = [
    "softmax",
    "softmax_last_dim",
    "log_softmax",
    "rms_norm",
    "rms_norm_no_weight",
    "layer_norm",
    "rope",
    "rope_i",
    "rope_thd",
    "attention",
    "flash_attention",
    "swiglu",
    "geglu",
    "geglu_erf",
    "matmul",
    "linear",
    "linear_with",
    "linear_add",
    "lora",
    "lora_delta",
    "cross_entropy",
    "cross_entropy_with",
];

fn row<'a>(results: &'a Value, op: &str, dtype: &str, pass: &str) -> &'a Value {
    let rows = results["rows"].as_array().unwrap();
    let row = rows
        .iter()
        .find(|row| row["op"] == op && row["dtype"] == dtype && row["pass"] == pass);
    row.unwrap_or_else(|| panic!("no {op} {dtype} {pass}"))
}

#[test]
fn every_op_is_right_in_every_type_forward_and_backward() {
    let results = json(&["--seeds", "1"]);
    assert_eq!(results["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(results["device"], "cpu");
    assert_eq!(results["ok"], true);
    assert!(results["machine"]["threads"].as_u64().unwrap() > 0);
    assert_eq!(results["command"], "candle-mps verify --json --seeds 1");
    for dtype in ["f32", "f64", "f16", "bf16"] {
        for op in OPS {
            for pass in ["forward", "backward"] {
                within_bounds(row(&results, op, dtype, pass));
            }
        }
        within_bounds(row(&results, "AdamW", dtype, "step"));
    }
    let rows = results["rows"].as_array().unwrap();
    assert_eq!(rows.len(), 4 * (2 * OPS.len() + 1));
}

fn within_bounds(row: &Value) {
    assert_eq!(row["outcome"]["is"], "ok", "{row}");
    assert!(row["cases"].as_u64().unwrap() > 0, "{row}");
    let (error, bound) = (
        row["error"].as_f64().unwrap(),
        row["bound"].as_f64().unwrap(),
    );
    assert!(error <= bound, "{row}");
}

#[test]
fn gradients_arrive_through_our_ops_and_not_through_candles() {
    let results = json(&["--seeds", "1"]);
    let training = results["training"].as_array().unwrap();
    assert_eq!(training.len(), 5);
    for row in training {
        assert_eq!(row["through_ours"], true, "{row}");
        // If one arrives one day, the text of many pages is to be changed.
        assert_eq!(row["through_candles"], false, "{row}");
    }
}

#[test]
fn the_table_fits_a_terminal_and_ends_with_the_answer() {
    let output = verify(&["--seeds", "1"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let text = stdout(&output);
    assert!(!text.contains('\x1b'), "{text}");
    assert!(
        text.lines().all(|line| line.chars().count() <= 80),
        "{text}"
    );
    let mut lines = text.lines().rev();
    let last = lines.next().unwrap();
    assert!(
        last.starts_with("verify: 23 ops x 4 dtypes, forward and backward, "),
        "{last}"
    );
    assert!(last.ends_with(" cases: all within bounds"), "{last}");
    assert_eq!(
        lines.next().unwrap(),
        "gradients through Candle's fused ops: 0 of 5; through ours: 5 of 5"
    );
    assert!(
        output.stderr.is_empty(),
        "a progress bar where nobody sees it"
    );
}

#[test]
fn a_seed_gives_the_same_numbers_again_also_for_one_op_and_in_another_round() {
    let arguments = [
        "--ops",
        "rms_norm,matmul,AdamW",
        "--seeds",
        "2",
        "--seed",
        "7",
    ];
    let once = json(&arguments);
    assert_eq!(once["rows"], json(&arguments)["rows"]);
    let other = json(&[
        "--ops",
        "rms_norm,matmul,AdamW",
        "--seeds",
        "2",
        "--seed",
        "70",
    ]);
    assert_ne!(once["rows"], other["rows"]);
    // The second round of seed 7 is the first of seed 8, as the line to replay says.
    let error = |seed: &str| {
        let results = json(&["--ops", "matmul", "--seeds", "1", "--seed", seed]);
        let row = row(&results, "matmul", "f16", "forward");
        row["error"].as_f64().unwrap()
    };
    let both = row(&once, "matmul", "f16", "forward")["error"].as_f64();
    assert_eq!(both, Some(error("7").max(error("8"))));
}

#[test]
fn the_results_are_kept_where_they_are_wanted() {
    let folder = folder("out");
    let out = folder.to_str().unwrap();
    let output = verify(&["--ops", "softmax", "--seeds", "1", "--out", out]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let path = folder.join("verify-cpu.json");
    assert!(
        stdout(&output).contains(path.to_str().unwrap()),
        "{output:?}"
    );
    let results: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    assert_eq!(row(&results, "softmax", "bf16", "backward")["mps"], false);
    // A file in the way of the folder.
    let inside = path.to_str().unwrap();
    let output = verify(&["--ops", "softmax", "--seeds", "1", "--out", inside]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        String::from_utf8_lossy(&output.stderr).contains("--out"),
        "{output:?}"
    );
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn an_unknown_op_is_wrong_usage_and_the_known_ones_are_named() {
    let output = verify(&["--ops", "softmax,softmin"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stdout(&output).is_empty());
    let why = String::from_utf8_lossy(&output.stderr);
    assert!(why.contains("`softmin`"), "{why}");
    assert!(OPS.iter().all(|op| why.contains(op)), "{why}");
    for wrong in [
        &["--seeds", "0"][..],
        &["--device", "tpu"],
        &["--seed", "x"],
    ] {
        assert_eq!(verify(wrong).status.code(), Some(2), "{wrong:?}");
    }
}

#[test]
fn an_op_that_fails_is_told_with_its_replay_and_the_rest_goes_on() {
    // Every kernel refuses an instruction set that is not there.
    let output = Command::new(env!("CARGO_BIN_EXE_candle-mps"))
        .args([
            "verify",
            "--ops",
            "softmax,AdamW",
            "--seeds",
            "2",
            "--seed",
            "5",
        ])
        .env("CANDLE_MPS_ISA", "sse9")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let text = stdout(&output);
    assert!(
        text.contains("softmax in f32, forward, failed: over the last dimension, x ["),
        "{text}"
    );
    assert!(text.contains("sse9"), "{text}");
    assert!(
        text.contains("again: candle-mps verify --ops softmax --seed 5 --seeds 1"),
        "{text}"
    );
    assert!(text.contains("AdamW in bf16, step, failed"), "{text}");
    assert!(text.contains(": 12 failed\n"), "{text}");
}

#[test]
#[cfg(not(feature = "metal"))]
fn metal_in_a_build_without_it_is_refused_with_the_remedy() {
    let output = verify(&["--device", "metal"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stdout(&output).is_empty());
    let why = String::from_utf8_lossy(&output.stderr);
    assert!(why.contains("--features metal"), "{why}");
    assert!(!why.contains("panicked"), "{why}");
}

#[test]
#[cfg(feature = "metal")]
fn all_ops_are_right_on_metal() {
    let folder = folder("metal");
    let out = folder.to_str().unwrap();
    let output = verify(&["--device", "metal", "--seeds", "4", "--out", out]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let path = folder.join("verify-metal.json");
    assert!(
        stdout(&output).contains(path.to_str().unwrap()),
        "{output:?}"
    );
    assert!(
        stdout(&output).contains("attach that file to an issue"),
        "{output:?}"
    );
    let results: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    assert_eq!(results["device"], "metal");
    assert_eq!(results["ok"], true);
    assert!(results["machine"]["gpu"].is_string(), "{results}");
    for op in ["matmul_mps", "softmax_mps", "log_softmax_mps"] {
        for dtype in ["f32", "f16"] {
            for pass in ["forward", "backward"] {
                let row = row(&results, op, dtype, pass);
                within_bounds(row);
                assert_eq!(row["mps"], true, "{row}");
                assert!(row["error"].as_f64().unwrap() > 0., "{row}");
            }
        }
    }
    for op in OPS {
        for dtype in ["f32", "f16", "bf16"] {
            for pass in ["forward", "backward"] {
                within_bounds(row(&results, op, dtype, pass));
            }
        }
    }
    // A composition of Candle's ops: nothing of ours to verify.
    let adamw = row(&results, "AdamW", "f32", "step");
    assert_eq!(adamw["outcome"]["is"], "not_built", "{adamw}");
    assert_eq!(adamw["error"], Value::Null, "{adamw}");
    let conformance = &results["conformance"];
    assert_eq!(conformance["broken"], serde_json::json!([]));
    assert!(conformance["kept"].as_u64().unwrap() > 20, "{conformance}");
    let probes = results["probes"].as_array().unwrap();
    let answered = probes.iter().filter(|probe| probe["answer"].is_string());
    assert!(answered.count() >= 10, "{probes:?}");
    assert!(probes.iter().all(|probe| probe["question"].is_string()));
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
#[cfg(feature = "metal")]
fn one_op_of_mps_is_replayed_without_the_rest() {
    let results = json(&["--device", "metal", "--ops", "softmax_mps", "--seeds", "2"]);
    assert_eq!(results["rows"].as_array().unwrap().len(), 4);
    assert_eq!(results["conformance"], Value::Null);
    let unknown = verify(&["--device", "metal", "--ops", "softmin"]);
    assert_eq!(unknown.status.code(), Some(2));
    let known = String::from_utf8_lossy(&unknown.stderr).into_owned();
    assert!(
        known.contains("matmul_mps") && known.contains("rms_norm"),
        "{known}"
    );
}

#[test]
fn the_help_has_examples_and_the_exit_status() {
    let output = verify(&["--help"]);
    assert_eq!(output.status.code(), Some(0));
    for part in ["Examples:", "--device metal", "Exit status:", "--seeds"] {
        assert!(stdout(&output).contains(part), "{part}");
    }
}
