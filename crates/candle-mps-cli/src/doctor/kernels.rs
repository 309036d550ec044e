//! Our own kernels on the first GPU: whether they compile and compute, and which route ops take. A build without the
//! feature `metal` has none.

use serde::Serialize;

use super::paths::PRODUCTS;
use super::{Finding, Severity};

/// What our kernels are like here.
#[derive(Clone, Debug, Serialize)]
pub struct Kernels {
    /// Whether this system's Metal compiles bf16.
    pub bf16: bool,
    /// What became of a small softmax.
    pub tried: Tried,
    /// What `CANDLE_MPS_ROUTE` says of ops, each `OP=ROUTE`.
    pub forced: Vec<String>,
    /// Why that cannot be read, if so: every op on Metal answers with it.
    pub forced_error: Option<String>,
    /// The table of routes, of which the first row that fits decides.
    pub table: Vec<Row>,
}

/// What became of an op that was tried.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "is")]
#[cfg_attr(
    not(any(test, feature = "metal")),
    expect(dead_code, reason = "nothing is tried without Metal")
)]
pub enum Tried {
    /// It compiled, ran, and came out as on the processor.
    Right,
    /// It did not.
    Wrong { why: String },
    /// It would not have been our kernel, by what the environment says.
    Forced,
    /// Nothing was, since what the environment says cannot be read.
    Unreadable,
}

/// A row of the table of routes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Row {
    /// Or `*`.
    pub op: String,
    /// None: all of them.
    pub dtype: Option<&'static str>,
    /// From so many on, of what `unit` says.
    pub from: usize,
    /// What `from` counts.
    pub unit: &'static str,
    /// `ours`, `mps` or `candle`.
    pub route: &'static str,
    pub why: String,
}

/// The op that is tried.
const SMALL: &str = "softmax";

/// What to do when our kernels do not work.
const WITHOUT: &str = "set CANDLE_MPS_ROUTE=candle, which takes Candle's own ops, and report it";

impl Kernels {
    /// What is wrong with them, or missing.
    pub fn findings(&self) -> impl Iterator<Item = Finding> {
        let finding = |severity, text: String, remedy: &str| Finding {
            severity,
            text,
            remedy: remedy.to_owned(),
        };
        let route = self.forced_error.as_ref().map(|why| {
            let remedy = "unset it, or name ours, mps or candle";
            finding(Severity::Problem, why.clone(), remedy)
        });
        let tried = match &self.tried {
            Tried::Wrong { why } => {
                let text = format!("our kernels do not work on this GPU: {why}");
                Some(finding(Severity::Problem, text, WITHOUT))
            }
            // What cannot be read is a finding already.
            Tried::Right | Tried::Forced | Tried::Unreadable => None,
        };
        let bf16 = (!self.bf16).then(|| {
            let text = "this system's Metal has no bf16, so that bf16 goes to Candle's ops";
            finding(Severity::Note, text.to_owned(), "macOS 14 has it")
        });
        [route, tried, bf16].into_iter().flatten()
    }

    /// Whether they work and for which types, in a line.
    pub fn describe(&self) -> String {
        let types = if self.bf16 {
            "f32, f16 and bf16"
        } else {
            "f32 and f16"
        };
        match &self.tried {
            Tried::Right => format!("{types}; a small softmax compiled and came out right"),
            Tried::Wrong { .. } => "they do not work here".to_owned(),
            Tried::Forced => format!("{types}; not tried, since CANDLE_MPS_ROUTE overrules them"),
            Tried::Unreadable => {
                format!("{types}; not tried, since CANDLE_MPS_ROUTE cannot be read")
            }
        }
    }
}

impl Row {
    /// `softmax f16 from 512 elements: mps`.
    pub fn describe(&self) -> String {
        let op = if self.op == "*" { "every op" } else { &self.op };
        let dtype = self.dtype.map_or(String::new(), |it| format!(" {it}"));
        let from = match self.from {
            0 => String::new(),
            from => format!(" from {from} {}", self.unit),
        };
        format!("{op}{dtype}{from}: {}", self.route)
    }
}

/// What the table counts of an op.
#[cfg_attr(
    not(any(test, feature = "metal")),
    expect(dead_code, reason = "there is no table without Metal")
)]
fn unit(op: &str) -> &'static str {
    match op {
        "*" => "elements, or multiplications with 64 rows or more",
        _ if PRODUCTS.contains(&op) => "multiplications, with 64 rows or more",
        _ => "elements",
    }
}

/// Holds what came out on a device against what the processor has. What is no number is not near to any.
#[cfg_attr(
    not(any(test, feature = "metal")),
    expect(dead_code, reason = "nothing is tried without Metal")
)]
fn near(here: &[f32], there: &[f32]) -> Result<(), String> {
    let pairs = here.iter().zip(there);
    let is_near = |(here, there): &(&f32, &f32)| (*here - *there).abs() < 1e-5;
    match pairs.enumerate().find(|(_, pair)| !is_near(pair)) {
        _ if here.len() != there.len() => Err(format!(
            "{SMALL} has {} elements, the processor's {}",
            there.len(),
            here.len()
        )),
        None => Ok(()),
        Some((at, (here, there))) => Err(format!(
            "element {at} of {SMALL} is {there}, the processor's {here}"
        )),
    }
}

#[cfg(not(feature = "metal"))]
pub fn of_this_machine() -> Option<Kernels> {
    None
}

/// None without a device that opens.
#[cfg(feature = "metal")]
pub fn of_this_machine() -> Option<Kernels> {
    use candle_mps::metal;

    let device = metal::device(0).ok()?;
    let metal::Routes { forced, table } = metal::routes();
    let row = |row: metal::TableRow| Row {
        op: row.op.to_owned(),
        dtype: row.dtype,
        from: row.from,
        unit: unit(row.op),
        route: row.route,
        why: row.why.to_owned(),
    };
    let (forced, forced_error) = match forced {
        Ok(forced) => (forced, None),
        Err(error) => (Vec::new(), Some(error)),
    };
    let elsewhere = |(op, route): &(String, &str)| *route != "ours" && (op == "*" || op == SMALL);
    let tried = if forced_error.is_some() {
        Tried::Unreadable
    } else if forced.iter().any(elsewhere) {
        Tried::Forced
    } else {
        try_one(&device).map_or_else(|why| Tried::Wrong { why }, |()| Tried::Right)
    };
    Some(Kernels {
        bf16: matches!(&device, candle_core::Device::Metal(gpu) if metal::knows_bf16(gpu)),
        tried,
        forced: forced
            .into_iter()
            .map(|(op, route)| format!("{op}={route}"))
            .collect(),
        forced_error,
        table: table.into_iter().map(row).collect(),
    })
}

/// Runs it on both devices and compares.
#[cfg(feature = "metal")]
fn try_one(device: &candle_core::Device) -> Result<(), String> {
    use candle_core::{Device, Tensor};
    use candle_mps::ops;

    let run = |device: &Device| -> Result<Vec<f32>, candle_mps::Error> {
        let x: Vec<f32> = (0u8..64).map(|it| f32::from(it % 7) - 3.).collect();
        let x = Tensor::from_vec(x, (4, 16), device)?;
        Ok(ops::softmax_last_dim(&x)?.flatten_all()?.to_vec1()?)
    };
    let run = |device: &Device| run(device).map_err(|error| error.to_string());
    near(&run(&Device::Cpu)?, &run(device)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kernels() -> Kernels {
        Kernels {
            bf16: true,
            tried: Tried::Right,
            forced: Vec::new(),
            forced_error: None,
            table: Vec::new(),
        }
    }

    #[test]
    fn what_works_is_no_finding() {
        assert_eq!(kernels().findings().count(), 0);
        let overruled = Kernels {
            tried: Tried::Forced,
            ..kernels()
        };
        assert_eq!(overruled.findings().count(), 0);
        assert!(overruled.describe().contains("overrules"));
        let unreadable = Kernels {
            tried: Tried::Unreadable,
            forced_error: Some("no such route".to_owned()),
            ..kernels()
        };
        assert_eq!(unreadable.findings().count(), 1);
        assert!(unreadable.describe().contains("cannot be read"));
    }

    #[test]
    fn what_does_not_is_one_with_a_remedy() {
        let wrong = Kernels {
            bf16: false,
            tried: Tried::Wrong {
                why: "no compiler".to_owned(),
            },
            forced_error: Some("no such route".to_owned()),
            ..kernels()
        };
        let findings: Vec<_> = wrong.findings().collect();
        let severities: Vec<_> = findings.iter().map(|it| it.severity).collect();
        let (problem, note) = (Severity::Problem, Severity::Note);
        assert_eq!(severities, [problem, problem, note]);
        assert!(findings[1].text.contains("no compiler"), "{findings:?}");
        assert!(findings[2].remedy.contains("macOS 14"), "{findings:?}");
    }

    #[test]
    fn a_row_says_what_it_is_about() {
        let row = |op: &str, dtype, from| Row {
            op: op.to_owned(),
            dtype,
            from,
            unit: unit(op),
            route: "mps",
            why: String::new(),
        };
        assert_eq!(row("*", None, 0).describe(), "every op: mps");
        assert_eq!(
            row("softmax", Some("f16"), 512).describe(),
            "softmax f16 from 512 elements: mps"
        );
        assert_eq!(
            row("matmul", None, 512).describe(),
            "matmul from 512 multiplications, with 64 rows or more: mps"
        );
    }

    #[test]
    fn what_is_no_number_is_never_right() {
        let right = [0.25, 0.75];
        assert_eq!(near(&right, &right), Ok(()));
        assert_eq!(near(&right, &[0.25 + 1e-6, 0.75]), Ok(()));
        for wrong in [
            [f32::NAN; 2],
            [0.25, f32::NAN],
            [0.25, f32::INFINITY],
            [0.25, 0.76],
        ] {
            assert!(near(&right, &wrong).is_err(), "{wrong:?}");
        }
        assert!(near(&right, &right[..1]).is_err());
        let why = near(&right, &[0.25, f32::NAN]).unwrap_err();
        assert_eq!(why, "element 1 of softmax is NaN, the processor's 0.75");
    }
}
