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
    // What is measured differs from run to run.
    let told = |output: &Output| {
        let lines = stdout(output).lines();
        let lines = lines.filter(|line| !line.contains("measured now"));
        lines.map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(told(&output), told(&candle_mps(&["doctor"])));
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
fn every_path_has_a_reason_and_every_cost_a_remedy() {
    let report = json();
    let paths = report["paths"].as_array().unwrap();
    assert!(paths.iter().any(|path| path["device"] == "cpu"), "{report}");
    for path in paths {
        assert!(!path["ops"].as_array().unwrap().is_empty(), "{path}");
        assert!(!path["route"].as_str().unwrap().is_empty(), "{path}");
        assert!(!path["why"].as_str().unwrap().is_empty(), "{path}");
    }
    let metal = paths.iter().any(|path| path["device"] == "metal");
    assert_eq!(metal, cfg!(feature = "metal"));
    for cost in report["costs"].as_array().unwrap() {
        assert!(!cost["text"].as_str().unwrap().is_empty(), "{cost}");
        assert!(!cost["remedy"].as_str().unwrap().is_empty(), "{cost}");
    }
}

#[test]
fn a_cost_is_gone_when_its_remedy_is_taken() {
    let costs = |variables: &[(&str, &str)]| {
        let output = Command::new(env!("CARGO_BIN_EXE_candle-mps"))
            .args(["doctor", "--json"])
            .env_remove("RAYON_NUM_THREADS")
            .env_remove("GLIBC_TUNABLES")
            .env_remove("MALLOC_TRIM_THRESHOLD_")
            .envs(variables.iter().copied())
            .output()
            .unwrap();
        // Costs are no problems.
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        report["costs"].to_string()
    };
    let (threads, memory) = ("RAYON_NUM_THREADS", "MALLOC_TRIM_THRESHOLD_");
    let without = costs(&[]);
    if cfg!(target_os = "linux") {
        assert!(without.contains(threads), "{without}");
    }
    assert_eq!(
        without.contains(memory),
        cfg!(target_env = "gnu"),
        "{without}"
    );
    let with = costs(&[(threads, "1024"), (memory, "1073741824")]);
    assert!(!with.contains(threads) && !with.contains(memory), "{with}");
}

#[test]
fn an_instruction_set_that_is_not_there_is_told_where_it_would_be_used() {
    let output = Command::new(env!("CARGO_BIN_EXE_candle-mps"))
        .args(["doctor", "--json"])
        .env("CANDLE_MPS_ISA", "sse9")
        .output()
        .unwrap();
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let path = &report["paths"][0];
    assert_eq!(path["route"], "an error", "{path}");
    assert!(path["why"].as_str().unwrap().contains("sse9"), "{path}");
}

#[test]
fn lines_fit_a_terminal_but_for_lists_of_features() {
    let output = candle_mps(&["doctor"]);
    let long = stdout(&output).lines().find(|line| {
        let list = line.starts_with("  has") || line.starts_with("processor");
        !list && line.chars().count() > 80
    });
    assert_eq!(long, None);
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
    let kernels = &report["kernels"];
    assert_eq!(kernels["tried"]["is"], "right", "{kernels}");
    assert_eq!(kernels["bf16"], true, "{kernels}");
    let table = kernels["table"].as_array().unwrap();
    assert_eq!(table.last().unwrap()["op"], "*", "{kernels}");
    assert!(stdout(&candle_mps(&[])).contains("every op: "), "{kernels}");
}

#[test]
#[cfg(feature = "metal")]
fn what_overrules_the_table_of_routes_is_shown() {
    let with = |route: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_candle-mps"));
        command.env("CANDLE_MPS_ROUTE", route);
        command.output().unwrap()
    };
    let output = with("softmax=candle");
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let text = stdout(&output);
    assert!(text.contains("overrules it: softmax=candle"), "{text}");
    assert!(text.contains("not tried"), "{text}");
    let output = with("softmax=fast");
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(stdout(&output).contains("`fast`"), "{output:?}");
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
