//! What is particular to Metal: rows wide enough for several simdgroups, views that take a copy, special values as on the
//! CPU, the routes and what they report.
#![cfg(feature = "metal")]

mod support;

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::process::Command;
use std::sync::{Arc, Mutex};

use candle_core::{D, DType, Device, Result, Tensor};
use candle_mps_ops::ops;
use support::{Operands, close, device, seeded, there, values};
use tracing::field::{Field, Visit};
use tracing::span;

/// Runs an op on both devices, in f32, and compares results and gradients.
fn as_on_the_cpu(what: &str, arguments: &[Tensor], op: impl Fn(&[Tensor]) -> Result<Tensor>) {
    let run = |device: &Device| {
        let vars: Vec<_> = arguments
            .iter()
            .map(|x| {
                let x = x.to_dtype(DType::F32).unwrap().to_device(device).unwrap();
                candle_core::Var::from_tensor(&x).unwrap()
            })
            .collect();
        let tensors: Vec<Tensor> = vars.iter().map(|var| var.as_tensor().clone()).collect();
        let y = op(&tensors).unwrap();
        let gradients = y.sqr().unwrap().sum_all().unwrap().backward().unwrap();
        let of = |var: &candle_core::Var| gradients.get(var).unwrap().clone();
        (y, vars.iter().map(of).collect::<Vec<_>>())
    };
    let ((ours, our_gradients), (cpu, gradients)) = (run(&device()), run(&Device::Cpu));
    close(what, &ours, &cpu, 1e-5);
    for (ours, gradient) in our_gradients.iter().zip(&gradients) {
        close(&format!("gradient of {what}"), ours, gradient, 4e-5);
    }
}

#[test]
fn rows_of_several_simdgroups() {
    seeded("rows_of_several_simdgroups", |random| {
        for width in [256, 257, 300, 1030, 4100] {
            let x = random.tensor(&[3, width], DType::F32);
            let (w, b) = (
                random.tensor(&[width], DType::F32),
                random.tensor(&[width], DType::F32),
            );
            let what = |op: &str| format!("{op}, {width} wide");
            as_on_the_cpu(&what("softmax"), std::slice::from_ref(&x), |x| {
                Ok(ops::softmax_last_dim(&x[0])?)
            });
            as_on_the_cpu(&what("log_softmax"), std::slice::from_ref(&x), |x| {
                Ok(ops::log_softmax(&x[0], D::Minus1)?)
            });
            as_on_the_cpu(&what("rms_norm"), &[x.clone(), w.clone()], |x| {
                Ok(ops::rms_norm(&x[0], &x[1], 1e-5)?)
            });
            as_on_the_cpu(&what("layer_norm"), &[x, w, b], |x| {
                Ok(ops::layer_norm(&x[0], &x[1], Some(&x[2]), 1e-5)?)
            });
        }
    });
}

/// More rows than one threadgroup takes, for the sums over them.
#[test]
fn many_rows() {
    seeded("many_rows", |random| {
        let x = random.tensor(&[2, 150, 33], DType::F32);
        let vectors = [(); 2].map(|()| random.tensor(&[33], DType::F32));
        let [w, b] = vectors;
        as_on_the_cpu("rms_norm of many rows", &[x.clone(), w.clone()], |x| {
            Ok(ops::rms_norm(&x[0], &x[1], 1e-5)?)
        });
        as_on_the_cpu("layer_norm of many rows", &[x, w, b], |x| {
            Ok(ops::layer_norm(&x[0], &x[1], Some(&x[2]), 1e-5)?)
        });
    });
}

/// Above the size up to which one dispatch does all.
#[test]
fn a_large_cross_entropy() {
    seeded("a_large_cross_entropy", |random| {
        for (rows, classes) in [(300, 220), (7, 9400)] {
            let x = random.tensor(&[rows, classes], DType::F32);
            let targets: Vec<i64> = (0..rows)
                .map(|_| random.below(classes) as i64 - 1)
                .collect();
            let targets = Tensor::new(&targets[..], &Device::Cpu).unwrap();
            let what = format!("cross_entropy of {rows} x {classes}");
            as_on_the_cpu(&what, &[x], |x| {
                let targets = targets.to_device(x[0].device())?;
                Ok(ops::cross_entropy_with(&x[0], &targets, Some(-1))?)
            });
        }
    });
}

/// Five dimensions that no stride joins: nothing is lost on the way through copies.
#[test]
fn views_that_take_a_copy() {
    seeded("views_that_take_a_copy", |random| {
        let scattered = |x: &Tensor| x.permute([4, 2, 0, 3, 1, 5])?.narrow(5, 1, 3);
        let x = random.tensor(&[2, 3, 2, 3, 2, 4], DType::F32);
        let y = random.tensor(&[2, 3, 2, 3, 2, 4], DType::F32);
        for dim in 0..6 {
            as_on_the_cpu(
                &format!("softmax over {dim}"),
                std::slice::from_ref(&x),
                |x| Ok(ops::softmax(&scattered(&x[0])?, dim)?),
            );
        }
        as_on_the_cpu("swiglu", &[x, y], |x| {
            Ok(ops::swiglu(&scattered(&x[0])?, &scattered(&x[1])?)?)
        });
    });
}

/// The same numbers, infinities and NaN as on the CPU.
#[test]
fn special_values() {
    let (inf, nan) = (f32::INFINITY, f32::NAN);
    let rows = [
        [-inf, -inf, -inf, -inf],
        [inf, 0., 0., 0.],
        [nan, 0., 1., -inf],
        [-inf, 0., 1., 2.],
        [88., -88., 1e30, -1e30],
        [0., -0., 1e-38, 1e-45],
    ];
    type Op = fn(&Tensor) -> candle_mps_ops::Result<Tensor>;
    let ops: [(&str, Op); 6] = [
        ("softmax", |x| ops::softmax_last_dim(x)),
        ("log_softmax", |x| ops::log_softmax(x, 1)),
        ("softmax over rows", |x| ops::softmax(x, 0)),
        ("swiglu", |x| ops::swiglu(x, &x.ones_like()?)),
        ("geglu", |x| ops::geglu(x, &x.ones_like()?)),
        ("geglu_erf", |x| ops::geglu_erf(x, &x.ones_like()?)),
    ];
    for (name, op) in ops {
        for row in &rows {
            let on = |device: &Device| {
                let x = Tensor::new(&[*row], device).unwrap();
                values(&op(&x).unwrap())
            };
            for (ours, cpu) in on(&device()).into_iter().zip(on(&Device::Cpu)) {
                let same = ours == cpu
                    || (ours.is_nan() && cpu.is_nan())
                    || (ours - cpu).abs() <= 1e-5 * cpu.abs().max(1.);
                assert!(same, "{name} of {row:?}: {ours}, on the CPU {cpu}");
            }
        }
    }
}

/// Nobody waits for the targets to look at them: one that is no class shows in the loss.
#[test]
fn a_target_that_is_no_class_makes_the_loss_nan() {
    let x = Tensor::zeros((2, 3), DType::F32, &device()).unwrap();
    for targets in [[0i64, 3], [-1, 0]] {
        let targets = Tensor::new(&targets, &device()).unwrap();
        let loss = ops::cross_entropy(&x, &targets).unwrap();
        assert!(loss.to_scalar::<f32>().unwrap().is_nan());
        let loss = ops::cross_entropy_with(&x, &targets, Some(-1)).unwrap();
        let ignored = targets.to_vec1::<i64>().unwrap()[0] == -1;
        assert_eq!(loss.to_scalar::<f32>().unwrap().is_nan(), !ignored);
    }
}

/// Events of one target, as maps of their fields.
#[derive(Clone, Default)]
struct Events(Arc<Mutex<Vec<BTreeMap<&'static str, String>>>>);

struct Fields(BTreeMap<&'static str, String>);

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.0.insert(field.name(), format!("{value:?}"));
    }
}

impl tracing::Subscriber for Events {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        metadata.target() == "candle_mps::route"
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        let mut fields = Fields(BTreeMap::new());
        event.record(&mut fields);
        self.0.lock().unwrap().push(fields.0);
    }

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

#[test]
fn every_choice_is_an_event_with_its_reason() {
    let events = Events::default();
    let x = there(
        &Tensor::zeros((2, 8), DType::F32, &Device::Cpu).unwrap(),
        DType::F32,
    );
    let empty = x.narrow(0, 0, 0).unwrap();
    tracing::subscriber::with_default(events.clone(), || {
        ops::softmax_last_dim(&x).unwrap();
        ops::softmax_last_dim(&empty).unwrap();
    });
    let events = events.0.lock().unwrap();
    let of = |at: usize, field: &str| events[at][field].trim_matches('"').to_owned();
    assert_eq!(events.len(), 2, "{events:?}");
    assert_eq!(
        (of(0, "op"), of(0, "route")),
        ("softmax".into(), "Ours".into())
    );
    assert_eq!(
        (of(0, "dtype"), of(0, "size")),
        ("F32".into(), "Elements(16)".into())
    );
    assert!(of(0, "why").contains("one dispatch"), "{events:?}");
    assert_eq!(of(1, "route"), "Candle");
    assert_eq!(of(1, "why"), "an operand is empty");
}

/// Set in the processes that the next test starts.
const PART: &str = "CANDLE_MPS_TEST_ROUTES";

/// The variable is read once, so each value takes a process.
#[test]
fn the_variable_forces_a_route() {
    if let Ok(expected) = std::env::var(PART) {
        let x = there(
            &Tensor::ones((2, 8), DType::F32, &Device::Cpu).unwrap(),
            DType::F32,
        );
        let events = Events::default();
        let y = tracing::subscriber::with_default(events.clone(), || ops::softmax_last_dim(&x));
        match expected.as_str() {
            "no op" => {
                let error = y.unwrap_err().to_string();
                assert!(
                    error.contains("no op with routes is called `softmx`"),
                    "{error}"
                );
            }
            "error" => {
                let error = y.unwrap_err().to_string();
                assert!(
                    error.contains("CANDLE_MPS_ROUTE") && error.contains("fast"),
                    "{error}"
                );
            }
            route => {
                assert_eq!(y.unwrap().to_vec2::<f32>().unwrap(), [[0.125; 8]; 2]);
                let events = events.0.lock().unwrap();
                assert_eq!(events.last().unwrap()["route"], route);
            }
        }
        return;
    }
    for (variable, expected) in [
        ("candle", "Candle"),
        ("mps", "Mps"),
        ("softmax=candle", "Candle"),
        ("candle,softmax=ours", "Ours"),
        ("matmul=candle", "Ours"),
        ("fast", "error"),
        ("softmx=candle", "no op"),
    ] {
        let output = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "the_variable_forces_a_route"])
            .env("CANDLE_MPS_ROUTE", variable)
            .env(PART, expected)
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{variable}: {text}");
    }
}
