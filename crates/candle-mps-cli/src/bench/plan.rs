//! Which rows there are: the shapes file (`bench/shapes.toml`, or the user's).
//! A row that makes no sense is a message and not the end of the others.

use serde::Deserialize;
use toml_edit::de::from_str;

use super::device::Place;
use super::ops::{self, Op, Work};
use crate::results::Pass;
use crate::results::bench::Regime;

/// The rows of a run without `--shapes`.
pub const USUAL: &str = include_str!("../../bench/shapes.toml");

/// The file: a list of tables.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    rows: Vec<Entry>,
}

/// An op at several sizes.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    op: String,
    shapes: Vec<String>,
    /// The first of the op's without it.
    pass: Option<Pass>,
    #[serde(default = "latency")]
    regime: Regime,
    #[serde(default = "f32")]
    dtype: String,
    #[serde(default)]
    device: Place,
}

fn latency() -> Regime {
    Regime::Latency
}

fn f32() -> String {
    "f32".to_owned()
}

/// A row to measure.
#[derive(Clone, Debug, PartialEq)]
pub struct Planned {
    pub op: String,
    pub pass: Pass,
    pub sizes: Vec<usize>,
    pub dtype: String,
    pub regime: Regime,
    pub device: Place,
    pub bytes: f64,
    pub flops: f64,
}

/// The rows, and what was wrong with others. The error is that nothing of the file can be read.
pub fn read(text: &str) -> Result<(Vec<Planned>, Vec<String>), String> {
    let file: File = from_str(text).map_err(|error| error.to_string())?;
    let (mut rows, mut problems) = (Vec::new(), Vec::new());
    for entry in file.rows {
        for shape in &entry.shapes {
            match planned(&entry, shape) {
                Ok(row) => rows.push(row),
                Err(why) => problems.push(format!("{} {shape}: {why}", entry.op)),
            }
        }
    }
    Ok((rows, problems))
}

fn planned(entry: &Entry, shape: &str) -> Result<Planned, String> {
    let op = known(&entry.op)?;
    let sizes: Vec<usize> = shape
        .split('x')
        .map(|size| size.parse().ok().filter(|size| *size > 0))
        .collect::<Option<_>>()
        .filter(|sizes: &Vec<usize>| op.takes(sizes.len()))
        .ok_or_else(|| {
            format!(
                "a shape of this op is {}, such as 2x8",
                op.sizes.join(" or ")
            )
        })?;
    // Far above what any machine holds, and below what a usize overflows at.
    if sizes.iter().map(|size| *size as f64).product::<f64>() > 1e12 {
        return Err("that is more than a machine holds".to_owned());
    }
    let dtype = ops::dtype(&entry.dtype)
        .ok_or_else(|| format!("the type {} is none of f32, f16, bf16, f64", entry.dtype))?;
    let pass = entry.pass.unwrap_or(op.passes[0]);
    if !op.passes.contains(&pass) {
        let has: Vec<_> = op.passes.iter().map(Pass::to_string).collect();
        return Err(format!("it has no {pass} pass; it has {}", has.join(", ")));
    }
    match entry.regime {
        Regime::Chain if !op.chains => {
            return Err("its result cannot be its next argument, so it has no chain".to_owned());
        }
        Regime::Chain if pass != Pass::Forward => {
            return Err("only forward passes can be chained".to_owned());
        }
        Regime::Encode if entry.device == Place::Cpu => {
            return Err("encode is of a GPU: it needs device = \"metal\"".to_owned());
        }
        _ => {}
    }
    let Work { elements, flops } = Work::of(op, pass, &sizes);
    Ok(Planned {
        op: entry.op.clone(),
        pass,
        sizes,
        dtype: entry.dtype.clone(),
        regime: entry.regime,
        device: entry.device,
        bytes: elements * dtype.size_in_bytes() as f64,
        flops,
    })
}

/// The op of this name, or a message that names all.
pub fn known(name: &str) -> Result<&'static Op, String> {
    ops::find(name).ok_or_else(|| {
        let all: Vec<_> = ops::all().map(|op| op.name).collect();
        format!("there is no op {name}; there are {}", all.join(", "))
    })
}

impl Planned {
    /// The sizes as a reader is told them.
    pub fn shape(&self) -> String {
        let sizes: Vec<_> = self.sizes.iter().map(usize::to_string).collect();
        sizes.join("x")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_usual_rows_are_all_right() {
        let (rows, problems) = read(USUAL).unwrap();
        assert_eq!(problems, [""; 0]);
        assert!(rows.len() > 30);
        let there = |device, regime| {
            let has = |row: &Planned| row.device == device && row.regime == regime;
            rows.iter().any(has)
        };
        for regime in [Regime::Latency, Regime::Chain] {
            assert!(there(Place::Cpu, regime) && there(Place::Metal, regime));
        }
        assert!(there(Place::Metal, Regime::Encode));
        for (at, row) in rows.iter().enumerate() {
            assert!(!rows[..at].contains(row), "{row:?} twice");
        }
        for op in ops::all() {
            for device in [Place::Cpu, Place::Metal] {
                assert!(
                    rows.iter()
                        .any(|row| row.op == op.name && row.device == device),
                    "{} is never measured on {device}",
                    op.name
                );
            }
        }
    }

    #[test]
    fn wrong_rows_are_named_and_the_others_stay() {
        let (rows, problems) = read(
            r#"
            [[rows]]
            op = "softmax"
            shapes = ["2x8", "2", "2xa", "0x8", "4096x99999999999"]
            [[rows]]
            op = "softmin"
            shapes = ["2x8"]
            [[rows]]
            op = "cross_entropy"
            shapes = ["2x8"]
            regime = "chain"
            [[rows]]
            op = "softmax"
            shapes = ["2x8"]
            pass = "step"
            [[rows]]
            op = "softmax"
            shapes = ["2x8"]
            dtype = "i8"
            [[rows]]
            op = "softmax"
            shapes = ["2x8"]
            regime = "encode"
            [[rows]]
            op = "softmax"
            shapes = ["2x8"]
            regime = "encode"
            device = "metal"
            "#,
        )
        .unwrap();
        assert_eq!(rows.len(), 2);
        assert_eq!(
            (rows[1].regime, rows[1].device),
            (Regime::Encode, Place::Metal)
        );
        assert_eq!((rows[0].bytes, rows[0].shape().as_str()), (128., "2x8"));
        let expected = [
            "softmax 2: a shape of this op is ROWSxWIDTH",
            "softmax 2xa: ",
            "softmax 0x8: ",
            "softmax 4096x99999999999: that is more",
            "softmin 2x8: there is no op softmin; there are softmax, ",
            "cross_entropy 2x8: its result cannot",
            "softmax 2x8: it has no step pass; it has forward, backward",
            "softmax 2x8: the type i8 is none",
            "softmax 2x8: encode",
        ];
        assert_eq!(problems.len(), expected.len(), "{problems:#?}");
        for (problem, expected) in problems.iter().zip(expected) {
            assert!(problem.starts_with(expected), "{problem}");
        }
    }

    #[test]
    fn what_is_no_such_file_is_refused_with_its_line() {
        let error = read("[[rows]]\nop = 3\nshapes = []\n").unwrap_err();
        assert!(error.contains("line 2"), "{error}");
        assert!(read("[[rows]]\nop = \"softmax\"\nshape = [\"1x2\"]\n").is_err());
        assert!(read("rows").is_err());
    }
}
