//! The program `metal-sim`, run as someone with a `.metal` file would run it: what it prints, what it exits with.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

const SOFTMAX: &str = "#include <metal_stdlib>
using namespace metal;
constant float scale [[function_constant(3)]];
constant bool masked [[function_constant(4)]];
kernel void softmax(device const float *in [[buffer(0)]], device float *out [[buffer(1)]],
                    constant uint &columns [[buffer(2)]],
                    device const float *mask [[buffer(3), function_constant(masked)]],
                    threadgroup float *parts [[threadgroup(0)]],
                    uint me [[thread_index_in_threadgroup]], uint row [[threadgroup_position_in_grid]],
                    uint threads [[threads_per_threadgroup]]) {
  float sum = 0;
  for (uint i = me; i < columns; i += threads) {
    float value = exp(scale * in[row * columns + i] + (masked ? mask[i] : 0.0f));
    out[row * columns + i] = value;
    sum += value;
  }
  parts[me] = sum;
  threadgroup_barrier(mem_flags::mem_threadgroup);
  sum = 0;
  for (uint i = 0; i < threads; i++) sum += parts[i];
  for (uint i = me; i < columns; i += threads) out[row * columns + i] /= sum;
}
kernel void numbers(device uint *out [[buffer(0)]], uint at [[thread_position_in_grid]],
                    uint size [[threads_per_threadgroup]]) {
  out[at] = 100 * size + at;
}
";

/// `wrong` lacks the barrier of `right`; `weak` has one for other memory.
const RACY: &str = "#include <metal_stdlib>
using namespace metal;
template <int barrier> void turn(device float *out, uint me) {
  threadgroup float slots[64];
  slots[me] = me;
  if (barrier == 1) threadgroup_barrier(mem_flags::mem_threadgroup);
  if (barrier == 2) threadgroup_barrier(mem_flags::mem_none);
  out[me] = slots[63 - me];
}
kernel void wrong(device float *out [[buffer(0)]], uint me [[thread_index_in_threadgroup]]) { turn<0>(out, me); }
kernel void right(device float *out [[buffer(0)]], uint me [[thread_index_in_threadgroup]]) { turn<1>(out, me); }
kernel void weak(device float *out [[buffer(0)]], uint me [[thread_index_in_threadgroup]]) { turn<2>(out, me); }
";

const BROKEN: &str = "#include <metal_stdlib>
using namespace metal;
template <typename T> void add(device T *a, uint i) {
  a[i] += missing(a[i]);
}
kernel void broken(device float *a [[buffer(0)]], uint i [[thread_position_in_grid]]) { add(a, i); }
";

/// What a command printed, and its exit status.
struct Said {
    out: String,
    err: String,
    status: i32,
}

impl Said {
    #[track_caller]
    fn exits(self, status: i32) -> Self {
        assert_eq!(self.status, status, "{}{}", self.out, self.err);
        self
    }

    #[track_caller]
    fn has(self, parts: &[&str]) -> Self {
        for part in parts {
            let found = self.out.contains(part) || self.err.contains(part);
            assert!(found, "no `{part}` in\n{}{}", self.out, self.err);
        }
        self
    }

    #[track_caller]
    fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|why| panic!("{why}: {}", self.out))
    }
}

/// A folder with a source, and the program in it.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str, source: &str) -> Self {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("tool-{name}"));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("a.metal"), source).unwrap();
        Self(folder)
    }

    /// Runs a command line, whose words are separated by spaces.
    fn run(&self, line: &str) -> Said {
        self.run_with(line, &[])
    }

    fn run_with(&self, line: &str, variables: &[(&str, &str)]) -> Said {
        let Output {
            status,
            stdout,
            stderr,
        } = Command::new(env!("CARGO_BIN_EXE_metal-sim"))
            .args(line.split_whitespace())
            .current_dir(&self.0)
            .env(
                "METAL_SIM_CACHE",
                Path::new(env!("CARGO_TARGET_TMPDIR")).join("tool-cache"),
            )
            .envs(variables.iter().copied())
            .output()
            .unwrap();
        Said {
            out: String::from_utf8(stdout).unwrap(),
            err: String::from_utf8(stderr).unwrap(),
            status: status.code().unwrap(),
        }
    }
}

const RUN: &str = "run a.metal --kernel softmax --grid 2 --group 32 --threadgroup 0=128 --constant 3=f32:0.5 \
                   --constant masked=bool:false --buffer 0=count:80:f32 --buffer 1=zeros:320 --buffer 2=u32:40";

#[test]
fn check_lists_kernels_arguments_and_constants() {
    let folder = Folder::new("check", SOFTMAX);
    folder.run("check a.metal").exits(0).has(&[
        "a.metal:5: softmax\n",
        "buffer(0)                            device const float * in\n",
        "buffer(3)                            device const float * mask, if masked\n",
        "threadgroup(0)                       threadgroup float * parts\n",
        "threads_per_threadgroup              uint threads\n",
        "a.metal:23: numbers\n",
        "function_constant(3): float scale\n",
        "2 kernels, 2 function constants\n",
    ]);
    let one = folder
        .run("check a.metal --kernel numbers --list --json")
        .exits(0)
        .json();
    assert_eq!(one["kernels"].as_array().unwrap().len(), 1);
    assert_eq!(one["kernels"][0]["name"], "numbers");
    assert_eq!(one["kernels"][0]["arguments"][0]["at"], "buffer(0)");
    assert_eq!(one["constants"][1]["index"], 4);
    assert_eq!(one["error"], Value::Null);
}

#[test]
fn a_source_that_does_not_compile_is_told_with_file_and_line() {
    let folder = Folder::new("broken", BROKEN);
    let said = folder.run("check a.metal").exits(1);
    assert!(said.err.starts_with("a.metal:4:"), "{}", said.err);
    let said = said.has(&["error: ", "'missing'"]);
    assert_eq!(said.out, "");
    let listed = folder.run("check a.metal --json").exits(1).json();
    assert!(
        listed["error"].as_str().unwrap().contains("a.metal:4:"),
        "{listed}"
    );
    assert_eq!(listed["kernels"][0]["name"], "broken");
    // Nothing is compiled.
    folder
        .run("check a.metal --list")
        .exits(0)
        .has(&["1 kernel, 0 function constants"]);
    let run = "run a.metal --kernel broken --grid 1 --group 1 --buffer 0=zeros:4";
    folder.run(run).exits(1).has(&["a.metal:4:"]);
}

#[test]
fn a_kernel_runs_on_counts_zeros_and_files() {
    let folder = Folder::new("run", SOFTMAX);
    let wanted = |at: usize, add: &dyn Fn(usize) -> f64| {
        let power = |at: usize| (0.5 * at as f64 + add(at % 40)).exp();
        let row = at / 40 * 40;
        power(at) / (row..row + 40).map(power).sum::<f64>()
    };
    let close = |is: f64, wanted: f64| (is - wanted).abs() < 1e-5;

    let said = folder
        .run(&format!("{RUN} --print 1:f32 --save 1=out.bin"))
        .exits(0);
    let said = said.has(&["softmax: nothing found\n"]);
    let line = said
        .out
        .lines()
        .next()
        .unwrap()
        .strip_prefix("buffer 1: ")
        .unwrap();
    let values: Vec<f64> = line.split(' ').map(|it| it.parse().unwrap()).collect();
    assert_eq!(values.len(), 80);
    for (at, value) in values.iter().enumerate() {
        assert!(close(*value, wanted(at, &|_| 0.)), "{at}: {value}");
    }
    let saved = fs::read(folder.0.join("out.bin")).unwrap();
    let numbers = saved
        .chunks_exact(4)
        .map(|it| f32::from_le_bytes(it.try_into().unwrap()));
    assert_eq!(
        numbers
            .map(|it| it.to_string())
            .collect::<Vec<_>>()
            .join(" "),
        line
    );

    // With the mask, which is read from a file; the constant is named by its index.
    let mask: Vec<u8> = (0..40)
        .flat_map(|at| (0.25 * (at % 3) as f32).to_le_bytes())
        .collect();
    fs::write(folder.0.join("mask.bin"), mask).unwrap();
    let masked = RUN.replace("masked=bool:false", "4=bool:1");
    let line = format!("{masked} --buffer 3=file:mask.bin --print 1:f32:40 --print 2:u32 --json");
    let done = folder.run(&line).exits(0).json();
    let values = done["printed"][0]["values"].as_array().unwrap();
    assert_eq!(values.len(), 40);
    for (at, value) in values.iter().enumerate() {
        let is = value.as_f64().unwrap();
        assert!(
            close(is, wanted(at, &|at| 0.25 * (at % 3) as f64)),
            "{at}: {is}"
        );
    }
    assert_eq!(done["printed"][1]["values"][0], 40);
    assert_eq!(done["findings"].as_array().unwrap().len(), 0);
    // The results are the same without the detector, and that nothing was checked is said.
    folder
        .run(&format!("{RUN} --unchecked"))
        .exits(0)
        .has(&["softmax: ran, unchecked"]);
}

#[test]
fn a_grid_of_threads_ends_in_a_smaller_threadgroup() {
    let folder = Folder::new("ragged", SOFTMAX);
    let line = "run a.metal --kernel numbers --threads 6 --group 4 --buffer 0=u32:7,7,7,7,7,7,7 --print 0:u32";
    folder
        .run(line)
        .exits(0)
        .has(&["buffer 0: 400 401 402 403 204 205 7\n"]);
}

#[test]
fn a_race_is_told_in_all_its_parts_and_its_twin_is_silent() {
    let folder = Folder::new("racy", RACY);
    let line = |kernel: &str, more: &str| {
        format!("run a.metal --kernel {kernel} --grid 1 --group 64 --buffer 0=zeros:256 {more}")
    };
    for schedule in ["fifo", "reverse", "lifo", "7"] {
        let schedule = format!("--schedule {schedule}");
        folder.run(&line("wrong", &schedule)).exits(1).has(&[
            "race in kernel `wrong`, threadgroup variable `slots`",
            "a.metal:5: thread (",
            "writes 4 bytes at offset ",
            "a.metal:8: thread (",
            "reads 4 bytes at offset ",
            "of threadgroup (0,0,0), simdgroup ",
            "threadgroup_barrier",
            "wrong: 1 finding\n",
        ]);
        folder
            .run(&line("right", &schedule))
            .exits(0)
            .has(&["right: nothing found\n"]);
    }
    let done = folder.run(&line("wrong", "--json")).exits(1).json();
    let finding = &done["findings"][0];
    assert_eq!(finding["kind"], "race");
    assert_eq!(finding["what"], "threadgroup variable `slots`");
    let mut lines = [&finding["first"], &finding["second"]].map(|it| it["line"].as_u64().unwrap());
    lines.sort_unstable();
    assert_eq!(lines, [5, 8]);
    assert_ne!(finding["first"]["thread"], finding["second"]["thread"]);
    assert_eq!(finding["first"]["file"], "a.metal");
    assert_eq!(finding["second"]["size"], 4);
    assert!(
        finding["missing"].as_str().unwrap().contains("barrier"),
        "{finding}"
    );
    // What orders nothing by the letter counts when it is asked for.
    folder.run(&line("weak", "")).exits(0);
    folder
        .run(&line("weak", "--strict"))
        .exits(1)
        .has(&["race", "mem_"]);
    folder.run(&line("right", "--strict")).exits(0);
    folder.run(&line("wrong", "--unchecked")).exits(0);
}

#[test]
fn the_next_buffer_is_not_what_lies_past_the_end() {
    let folder = Folder::new("bounds", SOFTMAX);
    let short = RUN.replace("1=zeros:320", "1=zeros:312");
    folder.run(&short).exits(1).has(&[
        "access out of bounds in kernel `softmax`, buffer 1 `out` (zeros:312)",
        "at offset 312",
        "the buffer has 312 bytes",
    ]);
}

#[test]
fn what_is_wrong_on_the_command_line_is_said() {
    let folder = Folder::new("wrong", SOFTMAX);
    let without = |part: &str| RUN.replace(part, "");
    for (line, parts) in [
        (
            RUN.replace("softmax", "hardmax"),
            &["no kernel hardmax", "softmax, numbers"][..],
        ),
        (
            RUN.replace("count:80:f32", "count:80"),
            &["--buffer 0=count:80", "no type"],
        ),
        (format!("{RUN} --buffer 1=zeros:4"), &["two buffers 1"]),
        (
            format!("{RUN} --print 5:f32"),
            &["--print 5:f32", "no such buffer"],
        ),
        (
            format!("{RUN} --save 5=x"),
            &["--save 5=x", "no such buffer"],
        ),
        (
            RUN.replace("0=count:80:f32", "0=file:none.bin"),
            &["none.bin", "No such file"],
        ),
        (
            RUN.replace("a.metal", "b.metal"),
            &["b.metal", "No such file"],
        ),
        (RUN.replace("--grid 2", "--grid 0"), &["--grid", "above 0"]),
        (
            RUN.replace("--group 32", "--group 2048"),
            &["2048 threads", "1024"],
        ),
        (format!("{RUN} --schedule soon"), &["fifo, reverse, lifo"]),
        (
            without("--constant 3=f32:0.5"),
            &["`scale`", "--constant 3=TYPE:VALUE"],
        ),
        (RUN.replace("3=f32:0.5", "3=u8:1"), &["scale", "float"]),
        (
            without("--threadgroup 0=128"),
            &["`parts`", "--threadgroup 0=BYTES"],
        ),
        (
            without("--buffer 1=zeros:320"),
            &["`out`", "--buffer 1=zeros:BYTES"],
        ),
        (
            RUN.replace("2=u32:40", "2=u8:40"),
            &["`columns`", "4 bytes"],
        ),
        ("check b.metal".to_owned(), &["b.metal", "No such file"]),
        (
            "check a.metal --kernel hardmax".to_owned(),
            &["no kernel hardmax"],
        ),
        ("walk a.metal".to_owned(), &["walk"]),
    ] {
        let said = folder.run(&line).exits(2).has(parts);
        assert_eq!(said.out, "", "{line}");
    }
}

#[test]
fn without_a_compiler_the_remedy_is_said() {
    let folder = Folder::new("no-compiler", SOFTMAX);
    let none = [("METAL_SIM_CLANG", "/nonexistent")];
    for line in ["check a.metal", RUN] {
        let said = folder.run_with(line, &none).exits(2);
        said.has(&[
            "/nonexistent",
            "apt-get install clang-19",
            "METAL_SIM_CLANG",
        ]);
    }
}

#[test]
fn help_has_examples_and_the_exit_status() {
    let folder = Folder::new("help", SOFTMAX);
    folder
        .run("--help")
        .exits(0)
        .has(&["check", "run", "Exit status:"]);
    for command in ["check", "run"] {
        let said = folder.run(&format!("{command} --help")).exits(0);
        said.has(&[
            "Examples:",
            &format!("  metal-sim {command} "),
            "Exit status:",
            "--json",
        ]);
    }
    // What the examples of `run` say is understood.
    folder.run("run a.metal --kernel numbers --threads 10 --group 4 --buffer 0=zeros:40 --save 0=o --schedule 7").exits(0);
}
