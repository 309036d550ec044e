//! The command as a user or a script sees it: its output, its JSON, its exit status.

use std::process::{Command, Output};

use serde_json::Value;

fn candle_mps(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_candle-mps"))
        .args(arguments)
        .env_remove("CLICOLOR_FORCE")
        .output()
        .unwrap()
}

fn stdout(output: &Output) -> &str {
    std::str::from_utf8(&output.stdout).unwrap()
}

fn json() -> Value {
    serde_json::from_slice(&candle_mps(&["doctor", "--json"]).stdout).unwrap()
}

#[test]
fn doctor_is_what_runs_without_arguments() {
    let output = candle_mps(&[]);
    assert!(stdout(&output).starts_with("candle-mps"), "{output:?}");
    assert_eq!(stdout(&output), stdout(&candle_mps(&["doctor"])));
}

#[test]
fn output_that_is_not_a_terminal_has_no_colours() {
    assert!(!stdout(&candle_mps(&["doctor"])).contains('\x1b'));
}

#[test]
fn the_json_has_every_part_of_the_report() {
    let report = json();
    assert_eq!(report["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(report["system"]["os"], std::env::consts::OS);
    assert_eq!(report["system"]["arch"], std::env::consts::ARCH);
    assert!(
        report["cpu"]["logical_cores"].as_u64().unwrap() >= 1,
        "{report}"
    );
    assert!(report["cpu"]["features"].is_array(), "{report}");
    assert!(report["cpu"]["missing_features"].is_array(), "{report}");
    assert_eq!(report["metal"]["built"], cfg!(feature = "metal"));
    assert!(report["findings"].is_array(), "{report}");
    assert!(report["ok"].is_boolean(), "{report}");
}

#[test]
fn the_exit_status_says_whether_a_problem_was_found() {
    let problems = |report: &Value| {
        let findings = report["findings"].as_array().unwrap();
        findings
            .iter()
            .filter(|finding| finding["severity"] == "problem")
            .count()
    };
    let report = json();
    let expected = if problems(&report) == 0 { 0 } else { 1 };
    assert_eq!(report["ok"], expected == 0);
    assert_eq!(candle_mps(&["doctor"]).status.code(), Some(expected));
    assert_eq!(candle_mps(&["--json"]).status.code(), Some(expected));
}

#[test]
fn every_finding_has_a_remedy() {
    for finding in json()["findings"].as_array().unwrap() {
        assert!(!finding["text"].as_str().unwrap().is_empty(), "{finding}");
        assert!(!finding["remedy"].as_str().unwrap().is_empty(), "{finding}");
    }
}

#[test]
#[cfg(not(feature = "metal"))]
fn without_metal_the_cpu_is_used() {
    let report = json();
    assert_eq!(report["uses"]["path"], "cpu");
    assert_eq!(report["metal"]["devices"], serde_json::json!([]));
    assert_eq!(candle_mps(&[]).status.code(), Some(0));
}

#[test]
#[cfg(feature = "metal")]
fn with_metal_the_gpu_is_used() {
    let report = json();
    assert_eq!(report["uses"]["path"], "metal", "{report}");
    assert_eq!(
        report["uses"]["device"],
        report["metal"]["devices"][0]["name"]
    );
    assert_eq!(report["uses"]["mps"], true, "{report}");
    assert_eq!(candle_mps(&[]).status.code(), Some(0));
}

#[test]
fn wrong_usage_is_exit_status_2() {
    for arguments in [&["--no-such-flag"][..], &["cure"], &["doctor", "extra"]] {
        let output = candle_mps(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(stdout(&output).is_empty(), "{arguments:?}");
        assert!(!output.stderr.is_empty(), "{arguments:?}");
    }
}

#[test]
fn help_and_version_are_there() {
    for arguments in [&["--help"][..], &["doctor", "--help"]] {
        let output = candle_mps(arguments);
        assert_eq!(output.status.code(), Some(0));
        assert!(stdout(&output).contains("Exit status:"), "{arguments:?}");
    }
    let version = candle_mps(&["--version"]);
    assert!(stdout(&version).contains(env!("CARGO_PKG_VERSION")));
}
