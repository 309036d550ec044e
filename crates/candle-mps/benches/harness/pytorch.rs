//! PyTorch as a peer of a benchmark: the worker `bench/peers/pytorch.py`, asked in JSON lines.
//!
//! It is used when `CANDLE_MPS_PYTORCH` names a Python that can import torch; without it the
//! benchmark says so and leaves the column empty.

use serde_json::{Value, json};
use std::cell::RefCell;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

/// The variable that names a Python with PyTorch.
pub const VARIABLE: &str = "CANDLE_MPS_PYTORCH";

/// A running worker.
pub struct PyTorch {
    child: Child,
    requests: ChildStdin,
    answers: BufReader<ChildStdout>,
    /// What it is, for the table's heading.
    pub title: String,
}

impl PyTorch {
    /// Starts the worker, if one is wanted. The error says why it did not start.
    pub fn start(threads: usize) -> Result<Option<Self>, String> {
        let Ok(python) = std::env::var(VARIABLE) else {
            return Ok(None);
        };
        let worker = concat!(env!("CARGO_MANIFEST_DIR"), "/../../bench/peers/pytorch.py");
        let mut child = Command::new(&python)
            .args([worker, &threads.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| format!("{python}: {error}"))?;
        let (Some(requests), Some(answers)) = (child.stdin.take(), child.stdout.take()) else {
            return Err("the worker has no pipes".to_owned());
        };
        let mut worker = Self {
            child,
            requests,
            answers: BufReader::new(answers),
            title: String::new(),
        };
        let told = worker.answer()?;
        worker.title = format!(
            "{} {} ({} threads)",
            told["peer"].as_str().unwrap_or("?"),
            told["version"].as_str().unwrap_or("?"),
            told["threads"]
        );
        Ok(Some(worker))
    }

    /// The seconds of each of `calls` calls of an op.
    pub fn time(
        &mut self,
        op: &str,
        sizes: &[usize],
        dtype: &str,
        calls: usize,
    ) -> Result<Vec<f64>, String> {
        let request = json!({"op": op, "sizes": sizes, "dtype": dtype, "calls": calls});
        writeln!(self.requests, "{request}").map_err(|error| format!("the worker: {error}"))?;
        let answer = self.answer()?;
        let seconds = answer["seconds"]
            .as_array()
            .ok_or_else(|| answer["error"].to_string())?;
        Ok(seconds.iter().filter_map(Value::as_f64).collect())
    }

    fn answer(&mut self) -> Result<Value, String> {
        let mut line = String::new();
        match self.answers.read_line(&mut line) {
            Ok(0) => Err(format!(
                "the worker ended; can the Python in {VARIABLE} import torch?"
            )),
            Ok(_) => serde_json::from_str(&line).map_err(|error| format!("the worker: {error}")),
            Err(error) => Err(format!("the worker: {error}")),
        }
    }
}

/// A worker for the rows of a benchmark, or none; says which.
pub fn for_rows(threads: usize) -> RefCell<Option<PyTorch>> {
    let worker = PyTorch::start(threads).unwrap_or_else(|why| {
        eprintln!("PyTorch is left out: {why}");
        None
    });
    match &worker {
        Some(worker) => println!("{}", worker.title),
        None => println!("PyTorch is left out: {VARIABLE} names no Python that has it"),
    }
    RefCell::new(worker)
}

/// The PyTorch side of one row: its samples, taken in turn with the others'.
pub struct Side<'a> {
    worker: &'a RefCell<Option<PyTorch>>,
    request: Option<(String, Vec<usize>, &'static str)>,
    seconds: Vec<f64>,
}

impl<'a> Side<'a> {
    /// The side of the row of this name.
    pub fn new(worker: &'a RefCell<Option<PyTorch>>, name: &str) -> Self {
        Self {
            worker,
            request: request(name),
            seconds: Vec::new(),
        }
    }

    /// Takes a sample: the mean of so many calls.
    pub fn sample(&mut self, calls: usize) {
        let mut worker = self.worker.borrow_mut();
        let (Some(worker), Some((op, sizes, dtype))) = (&mut *worker, &self.request) else {
            return;
        };
        match worker.time(op, sizes, dtype, calls) {
            Ok(seconds) => self
                .seconds
                .push(seconds.iter().sum::<f64>() / seconds.len() as f64),
            Err(why) => {
                eprintln!("PyTorch, {op}: {why}");
                self.request = None;
            }
        }
    }

    /// The median, and how many times ours it is: two columns, empty without samples.
    pub fn columns(mut self, ours: f64) -> String {
        self.seconds.sort_by(f64::total_cmp);
        match self.seconds.get(self.seconds.len() / 2) {
            Some(median) => format!("{:>8.1} us {:>6.2}", median * 1e6, median / ours),
            None => format!("{:>11} {:>6}", "-", "-"),
        }
    }
}

impl Drop for PyTorch {
    fn drop(&mut self) {
        // It ends when its input does; killing it spares the wait.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What to ask a worker for a row of this name: op, sizes and element type.
///
/// Names begin with the op in words; sizes follow as `128x1024`, a rank as `r8`. `None` for rows
/// that PyTorch is not asked for.
pub fn request(name: &str) -> Option<(String, Vec<usize>, &'static str)> {
    const OPS: &[(&str, &str)] = &[
        ("softmax", "softmax"),
        ("log-softmax", "log_softmax"),
        ("RMS norm", "rms_norm"),
        ("layer norm", "layer_norm"),
        ("swiglu", "swiglu"),
        ("geglu", "geglu"),
        ("cross-entropy", "cross_entropy"),
        ("AdamW", "adamw"),
        ("LoRA delta", "lora_delta"),
        ("LoRA full", "lora_full"),
        ("attention", "attention"),
        ("matmul", "matmul"),
        ("linear", "linear"),
        ("llama", "llama"),
    ];
    // f16 is emulated there, at seconds a call.
    let (dtype, rest) = match name.strip_prefix("bf16 ") {
        Some(rest) => ("bf16", rest),
        None => ("f32", name),
    };
    let (op, rest) = OPS
        .iter()
        .find_map(|(words, op)| Some((*op, rest.strip_prefix(words)?)))?;
    let backward = rest.starts_with(" backward ");
    let rest = rest.strip_prefix(" backward").unwrap_or(rest).trim_start();
    let mut words = rest.split(' ');
    let sizes = words.next()?.split('x').map(str::parse);
    let mut sizes = sizes.collect::<Result<Vec<usize>, _>>().ok()?;
    let mut op = op.to_owned();
    for word in words {
        let rank = word.strip_prefix('r').and_then(|rank| rank.parse().ok());
        match (word, rank) {
            (_, Some(rank)) => sizes.push(rank),
            ("causal", _) => op.push_str("_causal"),
            ("forward" | "backward" | "step", _) => op.push_str(&format!("_{word}")),
            ("AdamW", _) => op.push_str("_adamw"),
            ("/", _) => break,
            _ => return None,
        }
    }
    match (op.as_str(), sizes.len()) {
        ("matmul", 1) => sizes = vec![sizes[0]; 3],
        ("matmul" | "linear", 3) => {}
        ("matmul", 4) => op = "batched_matmul".to_owned(),
        ("adamw", _) => sizes = vec![sizes.iter().product()],
        ("attention" | "attention_causal", 4) | ("lora_delta" | "lora_full", 3) => {}
        ("llama_forward" | "llama_backward" | "llama_adamw" | "llama_step", 3) | (_, 2) => {}
        _ => return None,
    }
    if backward {
        op.push_str("_backward");
    }
    Some((op, sizes, dtype))
}
