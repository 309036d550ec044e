//! Results for tests: those of the fixtures' folder, and a row small enough to reason about.

use crate::results::bench::{Bench, Cell, Measured, Peer, Ratio, Regime, Row, Verdict};
use crate::results::verify::Verify;
use crate::results::{Machine, Pass};

/// Every kind of cell and many rows.
pub fn bench() -> Bench {
    serde_json::from_str(include_str!("../../tests/fixtures/report/bench.json")).unwrap()
}

/// Of the CPU.
pub fn verify() -> Verify {
    serde_json::from_str(include_str!("../../tests/fixtures/report/verify-cpu.json")).unwrap()
}

/// Of a GPU, with a miss and with ops that are not built.
pub fn verify_metal() -> Verify {
    serde_json::from_str(include_str!(
        "../../tests/fixtures/report/verify-metal.json"
    ))
    .unwrap()
}

/// One row: ours, Candle as it comes, two baselines that are 6 and 4 times slower, PyTorch.
pub fn small() -> Bench {
    let peer = |id: &str, baseline| Peer {
        id: id.to_owned(),
        title: format!("The {id}"),
        baseline,
        absent: None,
    };
    Bench {
        version: "0.0.0".to_owned(),
        command: "candle-mps bench".to_owned(),
        machine: Machine::default(),
        peers: vec![
            peer("ours", false),
            peer("candle-installed", false),
            peer("candle", true),
            peer("candle-v4", true),
            peer("pytorch", false),
        ],
        rows: vec![Row {
            op: "softmax".to_owned(),
            pass: Pass::Forward,
            shape: "1x8".to_owned(),
            dtype: "f32".to_owned(),
            regime: Regime::Latency,
            device: "cpu".to_owned(),
            bytes: 64.0,
            flops: 40.0,
            cells: vec![
                Cell::Measured(Measured {
                    ratio: None,
                    ..times(1.0, 1.0)
                }),
                measured(1.0, 8.0),
                measured(1.0, 6.0),
                measured(1.0, 4.0),
                Cell::None,
            ],
        }],
        finished: true,
        ..Bench::default()
    }
}

/// A peer's times in a row where ours takes `ours`.
pub fn times(ours: f64, ratio: f64) -> Measured {
    let (low, high) = (ratio * 0.99, ratio * 1.01);
    Measured {
        median: ours * ratio,
        quartiles: [ours * low, ours * high],
        samples: 9,
        cpu: None,
        first: None,
        ratio: Some(Ratio {
            times: ratio,
            low,
            high,
            verdict: match ratio {
                ratio if ratio > 1.05 => Verdict::Faster,
                ratio if ratio < 0.95 => Verdict::Slower,
                _ => Verdict::NoDifference,
            },
        }),
    }
}

/// The same as a cell of this run.
pub fn measured(ours: f64, ratio: f64) -> Cell {
    Cell::Measured(times(ours, ratio))
}
