//! `candle-mps report` on folders of results: its screen, its files, its exit status. The results are
//! those of `tests/fixtures/report`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

const FILES: [&str; 3] = ["bench.json", "verify-cpu.json", "verify-metal.json"];

/// A folder of its own for a test, with some of the results.
struct Folder(PathBuf);

impl Folder {
    fn with(test: &str, files: &[&str]) -> Self {
        let folder = std::env::temp_dir().join(format!("candle-mps-{test}-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/report");
        for file in files {
            fs::copy(fixtures.join(file), folder.join(file)).unwrap();
        }
        Self(folder)
    }

    fn report(&self, arguments: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_candle-mps"))
            .args(["report", "--out"])
            .arg(&self.0)
            .args(arguments)
            .env_remove("CLICOLOR_FORCE")
            .output()
            .unwrap()
    }

    fn text(&self, file: &str) -> String {
        fs::read_to_string(self.0.join(file)).unwrap()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn stdout(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// What a failed run says.
fn refused(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(output.stdout.is_empty(), "{output:?}");
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[test]
fn the_screen_fits_and_leads_to_the_report() {
    let folder = Folder::with("report-all", &FILES);
    let screen = stdout(&folder.report(&[]));
    assert!(screen.lines().count() <= 24, "{screen}");
    assert!(!screen.contains('\x1b'), "{screen}");
    let page = folder.0.join("report.html");
    let last = screen.lines().last().unwrap();
    assert!(last.ends_with(page.to_str().unwrap()), "{last}");
    let lines = screen.lines().filter(|line| *line != last);
    assert!(
        lines.clone().all(|line| line.chars().count() <= 80),
        "{screen}"
    );
    assert!(folder.text("report.html").starts_with("<!doctype html>"));
    assert!(
        folder
            .text("decision.md")
            .contains("undecided: run this on a Mac")
    );
    for picture in ["ratios.png", "sizes.png"] {
        let bytes = fs::read(folder.0.join(picture)).unwrap();
        assert!(bytes.starts_with(b"\x89PNG\r\n"), "{picture}");
    }
}

#[test]
fn scripts_get_the_decision_and_the_paths() {
    let folder = Folder::with("report-json", &FILES);
    let said: Value =
        serde_json::from_str(&stdout(&folder.report(&["--json", "--open", "no"]))).unwrap();
    let counts = &said["decision"]["counts"];
    let sum = |names: &[&str]| {
        names
            .iter()
            .map(|it| counts[it].as_u64().unwrap())
            .sum::<u64>()
    };
    assert_eq!(
        sum(&["go", "worthwhile", "no_go"]),
        sum(&["faster", "no_difference", "unclear", "slower"])
    );
    let rows = said["decision"]["rows"].as_array().unwrap();
    assert!(
        rows.iter()
            .any(|row| row["answer"]["ratio"]["verdict"] == "slower"),
        "losing rows stay"
    );
    for path in [
        &said["written"]["page"],
        &said["written"]["decision"],
        &said["written"]["pictures"][1],
    ] {
        assert!(Path::new(path.as_str().unwrap()).is_file(), "{path}");
    }
    assert_eq!(said["missing"], serde_json::json!([]));
}

#[test]
fn parts_that_are_missing_are_named_and_do_not_stop_it() {
    let folder = Folder::with("report-parts", &["verify-cpu.json"]);
    let screen = stdout(&folder.report(&[]));
    for command in ["candle-mps verify --device metal", "candle-mps bench"] {
        assert!(screen.contains(command), "{screen}");
        assert!(folder.text("report.html").contains(command));
    }
    assert!(!folder.0.join("decision.md").exists());
    let said: Value = serde_json::from_str(&stdout(&folder.report(&["--json"]))).unwrap();
    assert_eq!(said["decision"], Value::Null);
    assert_eq!(said["missing"][1]["file"], "bench.json");
}

#[test]
fn a_run_that_did_not_end_is_marked() {
    let folder = Folder::with("report-partial", &FILES);
    let text = folder
        .text("bench.json")
        .replace("\"finished\": true", "\"finished\": false");
    fs::write(folder.0.join("bench.json"), text).unwrap();
    assert!(stdout(&folder.report(&[])).contains("\npartial "));
    assert!(
        folder
            .text("report.html")
            .contains("<strong>Partial:</strong>")
    );
    assert!(folder.text("decision.md").contains("The run did not end"));
}

#[test]
fn no_results_are_an_error_that_says_what_makes_them() {
    let folder = Folder::with("report-none", &[]);
    let said = refused(&folder.report(&[]));
    for part in [
        "candle-mps verify",
        "candle-mps bench",
        "--out",
        folder.0.to_str().unwrap(),
    ] {
        assert!(said.contains(part), "{said}");
    }
    assert!(!folder.0.join("report.html").exists());
}

#[test]
fn a_file_that_is_no_result_is_named() {
    let folder = Folder::with("report-broken", &FILES);
    for text in ["{", "[]", "{\"version\": 1}", ""] {
        fs::write(folder.0.join("bench.json"), text).unwrap();
        let said = refused(&folder.report(&["--json"]));
        assert!(
            said.contains("bench.json") && said.contains("make it again"),
            "{said}"
        );
    }
}

#[test]
fn a_page_that_cannot_be_written_is_an_error() {
    let folder = Folder::with("report-blocked", &FILES);
    fs::create_dir_all(folder.0.join("report.html/in-the-way")).unwrap();
    let said = refused(&folder.report(&[]));
    assert!(
        said.contains("report.html") && said.contains("--out"),
        "{said}"
    );
}

#[test]
#[cfg(unix)]
fn without_a_browser_the_page_is_named() {
    let folder = Folder::with("report-open", &["verify-cpu.json"]);
    let output = Command::new(env!("CARGO_BIN_EXE_candle-mps"))
        .args(["report", "--open", "yes", "--out"])
        .arg(&folder.0)
        .env("PATH", &folder.0)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(
        said.contains("report.html") && said.contains("by hand"),
        "{said}"
    );
}
