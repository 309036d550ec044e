//! Runs models of candle-transformers forward and backward. Without the feature `patched`, on the
//! published candle-nn, it writes what came out; with it, on the patched one, it compares.
//!
//! `drop-in FILE [PART OF A NAME]...`: the file with the outputs, which one program writes and the other
//! one reads, and which models are meant.

mod models;
mod weights;

use std::collections::HashMap;
use std::process::ExitCode;

use candle_core::{Error, Result, Tensor};
use candle_nn::VarMap;

use crate::models::{MODELS, Model};
use crate::weights::{fill, moved, uniform};

/// How far outputs may be from those of the published candle-nn.
const OUTPUT_BOUND: f32 = 1e-4;

/// How far the loss may be from what the gradients say, relative to what they say at random signs.
const SLOPE_BOUND: f64 = 0.02;

/// How far weights are moved for that, relative to their size.
const STEP: f64 = 2e-3;

/// What one model gives.
struct Run {
    /// Each output, in a fixed order.
    outputs: Vec<Tensor>,
    /// The gradients by the weights' names; `None` for those that have none.
    gradients: Vec<(String, Option<Tensor>)>,
}

fn main() -> ExitCode {
    let Some(file) = std::env::args().nth(1) else {
        eprintln!("usage: drop-in FILE [PART OF A NAME]...");
        return ExitCode::from(2);
    };
    let done = if cfg!(feature = "patched") {
        compare(&file)
    } else {
        write(&file).map(|()| true)
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("drop-in: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Writes the outputs of all models, and which weights have a gradient.
fn write(file: &str) -> Result<()> {
    let mut all = HashMap::new();
    for model in MODELS {
        let weights = VarMap::new();
        let run = run(model, &weights)?;
        for (at, output) in run.outputs.into_iter().enumerate() {
            all.insert(format!("{}/output/{at}", model.name), output);
        }
        let got = run
            .gradients
            .into_iter()
            .filter_map(|(name, it)| Some((name, it?)));
        for (name, gradient) in got {
            all.insert(format!("{}/gradient/{name}", model.name), gradient);
        }
    }
    candle_core::safetensors::save(&all, file)
}

/// Compares models with what was written, and prints a line for each. The last line is that of a test
/// program.
fn compare(file: &str) -> Result<bool> {
    let stock = candle_core::safetensors::load(file, &candle_core::Device::Cpu)?;
    println!(
        "model                outputs differ   gradients (stock)   slope off   calls of our ops"
    );
    let filters: Vec<String> = std::env::args().skip(2).collect();
    let named = |model: &&Model| {
        filters.is_empty() || filters.iter().any(|it| model.name.contains(it.as_str()))
    };
    let (mut passed, mut failed) = (0, 0);
    for model in MODELS.iter().filter(named) {
        match compare_one(model, &stock) {
            Ok(()) => passed += 1,
            Err(error) => {
                failed += 1;
                println!("{:<20} FAILED: {error}", model.name);
            }
        }
    }
    let ok = if failed == 0 { "ok" } else { "FAILED" };
    println!("\ntest result: {ok}. {passed} passed; {failed} failed; 0 ignored");
    Ok(failed == 0)
}

fn compare_one(model: &Model, stock: &HashMap<String, Tensor>) -> Result<()> {
    let before = calls();
    let weights = VarMap::new();
    let run = run(model, &weights)?;
    let called: Vec<(&str, u64)> = calls()
        .into_iter()
        .map(|(name, count)| (name, count - of(&before, name)))
        .filter(|(_, count)| *count > 0)
        .collect();
    let mut apart = 0f32;
    for (at, output) in run.outputs.iter().enumerate() {
        let name = format!("{}/output/{at}", model.name);
        let expected = stock
            .get(&name)
            .ok_or_else(|| message(format!("no {name}")))?;
        apart = apart.max(distance(output, expected)?);
    }
    let total = run.gradients.len();
    let prefix = format!("{}/gradient/", model.name);
    let of_stock = stock
        .keys()
        .filter(|name| name.starts_with(&prefix))
        .count();
    let missing: Vec<&str> = run
        .gradients
        .iter()
        .filter(|(_, gradient)| gradient.is_none())
        .map(|(name, _)| name.as_str())
        .collect();
    let slope = if missing.is_empty() {
        slope(model, &weights, &run.gradients)?
    } else {
        f64::NAN
    };
    let sum: u64 = called.iter().map(|(_, count)| count).sum();
    let names: Vec<String> = called
        .iter()
        .map(|(name, count)| format!("{name} {count}"))
        .collect();
    println!(
        "{:<20} {apart:>14.1e}   {:>4} of {total} ({of_stock:>3})   {slope:>9.1e}   {sum:>4}: {}",
        model.name,
        total - missing.len(),
        names.join(", ")
    );
    let expected = model.ops.iter().find(|op| of(&called, op) == 0);
    if let Some(op) = expected {
        return Err(message(format!("our {op} was not called")));
    }
    if !missing.is_empty() {
        return Err(message(format!("no gradient: {}", missing.join(", "))));
    }
    if apart.is_nan() || apart > OUTPUT_BOUND {
        return Err(message(format!("outputs differ by {apart:e}")));
    }
    if slope.is_nan() || slope > SLOPE_BOUND {
        let worst = worst(model, &weights, &run)?;
        return Err(message(format!(
            "the gradients' slope is off by {slope:e}: {worst}"
        )));
    }
    Ok(())
}

/// Forward and backward, with weights that depend on their names only.
fn run(model: &Model, weights: &VarMap) -> Result<Run> {
    // The first run makes the weights.
    (model.outputs)(weights)?;
    fill(weights)?;
    let outputs = (model.outputs)(weights)?;
    let gradients = loss(&outputs[0])?.backward()?;
    let mut named: Vec<_> = weights::sorted(weights)
        .into_iter()
        .map(|(name, var)| (name, gradients.get(&var).cloned()))
        .collect();
    named.sort_by(|left, right| left.0.cmp(&right.0));
    Ok(Run {
        outputs: outputs.iter().map(Tensor::detach).collect(),
        gradients: named,
    })
}

/// A number that depends on every element. That of the first output is trained with: what a model
/// remembers of it for the second one is cut off, in candle-nn by design.
fn loss(output: &Tensor) -> Result<Tensor> {
    let count = output.elem_count();
    let by = uniform("loss", count).map(|it| (it / (count as f64).sqrt()) as f32);
    let by = Tensor::from_iter(by, output.device())?.reshape(output.shape())?;
    (output * by)?.sum_all()
}

/// Moves weights a little, by random signs, and compares the change of the loss with what the gradients
/// say. The error is relative to the change that they say is to be expected.
fn slope(model: &Model, weights: &VarMap, gradients: &[(String, Option<Tensor>)]) -> Result<f64> {
    let (mut said, mut expected) = (0., 0.);
    let with = gradients
        .iter()
        .filter_map(|(name, it)| Some((name, it.as_ref()?)));
    for (name, gradient) in with {
        let gradient = gradient.flatten_all()?.to_vec1::<f32>()?;
        for (gradient, by) in gradient.into_iter().zip(moved(weights, name, 1.)?) {
            said += f64::from(gradient) * by;
            expected += (f64::from(gradient) * by).powi(2);
        }
    }
    let names: Vec<&str> = gradients.iter().map(|(name, _)| name.as_str()).collect();
    let mut seen = 0.;
    for sign in [1., -1.] {
        weights::shift(weights, &names, sign * STEP)?;
        let there = loss(&(model.outputs)(weights)?[0])?.to_scalar::<f32>()?;
        weights::shift(weights, &names, -sign * STEP)?;
        seen += sign * f64::from(there) / (2. * STEP);
    }
    Ok((seen - said).abs() / expected.sqrt())
}

/// The weights whose gradients are off most, each moved alone.
fn worst(model: &Model, weights: &VarMap, run: &Run) -> Result<String> {
    let mut all = Vec::new();
    for one in run.gradients.chunks(1) {
        all.push((slope(model, weights, one)?, one[0].0.as_str()));
    }
    all.sort_by(|left, right| right.0.total_cmp(&left.0));
    let worst: Vec<String> = all
        .iter()
        .take(8)
        .map(|(off, name)| format!("{name} {off:.1e}"))
        .collect();
    Ok(worst.join(", "))
}

fn distance(left: &Tensor, right: &Tensor) -> Result<f32> {
    let apart = (left - right)?.abs()?.flatten_all()?;
    // The maximum of Candle passes over NaN.
    let apart = apart.to_vec1::<f32>()?;
    Ok(apart.into_iter().fold(
        0.,
        |most, it| if it > most || it.is_nan() { it } else { most },
    ))
}

fn message(text: String) -> Error {
    Error::Msg(text)
}

fn of(calls: &[(&str, u64)], name: &str) -> u64 {
    calls.iter().find(|it| it.0 == name).map_or(0, |it| it.1)
}

#[cfg(feature = "patched")]
fn calls() -> Vec<(&'static str, u64)> {
    candle_mps_ops::ops::calls()
}

#[cfg(not(feature = "patched"))]
fn calls() -> Vec<(&'static str, u64)> {
    Vec::new()
}
