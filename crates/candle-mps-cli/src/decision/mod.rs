//! Whether to switch: a decision for each op and shape, by the thresholds that this project began
//! with, and beside it the plain ratio, since a program that runs twice as fast is no failure.
//!
//! Decided is against the fastest peer that is marked as a baseline and ran in turns with ours.
//! Figures of another run never decide.

mod words;

use serde::Serialize;

use crate::results::bench::{Bench, Cell, Ratio, Regime, Row, Verdict};

pub use words::meanings;

/// From so many times on, it is a go.
pub const GO: f64 = 5.0;
/// From so many times on, it is worthwhile.
pub const WORTHWHILE: f64 = 3.0;
/// Its file, which `report` writes.
pub const FILE: &str = "decision.md";
/// What decides the rows of a GPU.
pub const ON_A_MAC: &str = "cargo install candle-mps-cli --features metal && candle-mps bench";

/// What all rows say, and each of them.
#[derive(Debug, Serialize)]
pub struct Decision {
    pub counts: Counts,
    /// The counts as sentences.
    pub summary: String,
    pub rows: Vec<Decided>,
}

/// How many rows say what.
#[derive(Debug, Default, Serialize)]
pub struct Counts {
    pub go: usize,
    pub worthwhile: usize,
    pub no_go: usize,
    pub undecided: usize,
    pub faster: usize,
    pub no_difference: usize,
    pub unclear: usize,
    pub slower: usize,
}

/// An op at a size, or an op on a GPU that nobody asked yet.
#[derive(Debug, Serialize)]
pub struct Decided {
    /// The index in the results; none for an op on a GPU.
    pub row: Option<usize>,
    pub name: String,
    pub regime: Option<Regime>,
    pub device: String,
    pub answer: Answer,
}

/// What a row says.
#[derive(Debug, Serialize)]
#[serde(rename_all = "snake_case", tag = "is")]
pub enum Answer {
    Decided {
        choice: Choice,
        ratio: Ratio,
        /// The id of the peer.
        against: String,
    },
    Undecided {
        why: String,
        /// What would decide it.
        command: Option<&'static str>,
    },
}

/// By the thresholds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Choice {
    Go,
    Worthwhile,
    NoGo,
}

impl Choice {
    /// What a ratio stands for.
    pub fn of(ratio: f64) -> Self {
        if ratio >= GO {
            Self::Go
        } else if ratio >= WORTHWHILE {
            Self::Worthwhile
        } else {
            Self::NoGo
        }
    }

    /// As tables show it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Go => "go",
            Self::Worthwhile => "worthwhile",
            Self::NoGo => "no-go",
        }
    }
}

impl Decision {
    /// Decides every row, and lists the ops that no GPU was asked about.
    pub fn of(bench: &Bench) -> Self {
        let on_gpu = |row: &Row| row.device == "metal";
        let ran = |row: &Row| row.cells.iter().any(|it| matches!(it, Cell::Measured(_)));
        let mut rows = Vec::new();
        let mut ops = Vec::new();
        for (index, row) in bench.rows.iter().enumerate() {
            if !ops.contains(&&row.op) {
                ops.push(&row.op);
            }
            if !on_gpu(row) || ran(row) {
                rows.push(Decided {
                    row: Some(index),
                    name: row.name(),
                    regime: Some(row.regime),
                    device: row.device.clone(),
                    answer: decide(bench, row),
                });
            }
        }
        let asked = |op: &String| {
            bench
                .rows
                .iter()
                .any(|it| on_gpu(it) && &it.op == op && ran(it))
        };
        rows.extend(ops.into_iter().filter(|op| !asked(op)).map(|op| Decided {
            row: None,
            name: op.clone(),
            regime: None,
            device: "metal".to_owned(),
            answer: on_a_gpu(bench),
        }));
        let counts = Counts::of(&rows);
        Self {
            summary: counts.summary(bench),
            counts,
            rows,
        }
    }
}

impl Decided {
    /// Whether a Mac would decide it.
    pub fn asks_for_a_mac(&self) -> bool {
        matches!(
            self.answer,
            Answer::Undecided {
                command: Some(_),
                ..
            }
        )
    }
}

fn decide(bench: &Bench, row: &Row) -> Answer {
    let undecided = |why| Answer::Undecided { why, command: None };
    match row.cells.first() {
        Some(Cell::Measured(_)) => {}
        other => return undecided(missing("ours", other)),
    }
    let peers = bench.peers.iter().zip(&row.cells).skip(1);
    let baselines: Vec<_> = peers.filter(|(peer, _)| peer.baseline).collect();
    let ratios = baselines.iter().filter_map(|(peer, cell)| match cell {
        Cell::Measured(measured) => Some((peer, measured.ratio?)),
        _ => None,
    });
    // The fastest has the smallest ratio, since all are by the same times of ours.
    match ratios.min_by(|(_, a), (_, b)| a.times.total_cmp(&b.times)) {
        Some((peer, ratio)) => Answer::Decided {
            choice: Choice::of(ratio.times),
            ratio,
            against: peer.id.clone(),
        },
        None if baselines.is_empty() => undecided("no baseline was asked to run".to_owned()),
        None => {
            let why = baselines
                .iter()
                .map(|(peer, cell)| missing(&peer.id, Some(cell)));
            undecided(why.collect::<Vec<_>>().join("; "))
        }
    }
}

/// Why a cell decides nothing.
fn missing(peer: &str, cell: Option<&Cell>) -> String {
    match cell {
        Some(Cell::Measured(_)) => format!("{peer} was not paired with ours"),
        Some(Cell::AnotherRun(_)) => format!("{peer} is from another run"),
        Some(Cell::Unfinished { why }) => format!("{peer} did not finish its work: {why}"),
        Some(Cell::Failed { why }) => format!("{peer} failed: {why}"),
        Some(Cell::NotBuilt) => format!("{peer} is not built yet"),
        Some(Cell::None) | None => format!("{peer} has no such op"),
    }
}

fn on_a_gpu(bench: &Bench) -> Answer {
    match bench.machine.gpu {
        Some(_) => Answer::Undecided {
            why: "this GPU was not measured: `candle-mps bench --device metal` does".to_owned(),
            command: None,
        },
        None => Answer::Undecided {
            why: "run this on a Mac".to_owned(),
            command: Some(ON_A_MAC),
        },
    }
}

impl Counts {
    fn of(rows: &[Decided]) -> Self {
        let mut counts = Self::default();
        for row in rows {
            let Answer::Decided { choice, ratio, .. } = &row.answer else {
                counts.undecided += 1;
                continue;
            };
            *match choice {
                Choice::Go => &mut counts.go,
                Choice::Worthwhile => &mut counts.worthwhile,
                Choice::NoGo => &mut counts.no_go,
            } += 1;
            *match ratio.verdict {
                Verdict::Faster => &mut counts.faster,
                Verdict::NoDifference => &mut counts.no_difference,
                Verdict::Unclear => &mut counts.unclear,
                Verdict::Slower => &mut counts.slower,
            } += 1;
        }
        counts
    }

    /// The rows that are decided.
    pub fn decided(&self) -> usize {
        self.go + self.worthwhile + self.no_go
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::fixture;

    fn answer(decision: &Decision, name: &str) -> String {
        let row = decision.rows.iter().find(|row| row.name == name);
        match &row.unwrap_or_else(|| panic!("no {name}")).answer {
            Answer::Decided {
                choice, against, ..
            } => format!("{} against {against}", choice.word()),
            Answer::Undecided { why, .. } => format!("undecided: {why}"),
        }
    }

    #[test]
    fn thresholds_include_their_edges() {
        for (ratio, choice) in [
            (5.0, Choice::Go),
            (4.999_999, Choice::Worthwhile),
            (3.0, Choice::Worthwhile),
            (2.999_999, Choice::NoGo),
            (0.5, Choice::NoGo),
            (1000.0, Choice::Go),
        ] {
            assert_eq!(Choice::of(ratio), choice, "{ratio}");
        }
    }

    #[test]
    fn the_fastest_baseline_of_this_run_decides() {
        let mut bench = fixture::small();
        assert_eq!(
            answer(&Decision::of(&bench), "softmax 1x8"),
            "worthwhile against candle-v4"
        );
        // The installed one is faster in this run, and PyTorch in another: neither is a baseline.
        bench.rows[0].cells[1] = fixture::measured(1.0, 0.5);
        bench.rows[0].cells[4] = Cell::AnotherRun(fixture::times(1.0, 0.2));
        assert_eq!(
            answer(&Decision::of(&bench), "softmax 1x8"),
            "worthwhile against candle-v4"
        );
        bench.rows[0].cells[3] = Cell::AnotherRun(fixture::times(1.0, 0.2));
        assert_eq!(
            answer(&Decision::of(&bench), "softmax 1x8"),
            "go against candle"
        );
    }

    #[test]
    fn what_decides_nothing_says_why() {
        let mut bench = fixture::small();
        let broken = Cell::Failed {
            why: "no memory".to_owned(),
        };
        bench.rows[0].cells[2] = broken.clone();
        bench.rows[0].cells[3] = Cell::Unfinished {
            why: "lazy".to_owned(),
        };
        let why = answer(&Decision::of(&bench), "softmax 1x8");
        assert_eq!(
            why,
            "undecided: candle failed: no memory; candle-v4 did not finish its work: lazy"
        );
        bench.rows[0].cells[0] = broken;
        assert_eq!(
            answer(&Decision::of(&bench), "softmax 1x8"),
            "undecided: ours failed: no memory"
        );
        let mut bench = fixture::small();
        bench
            .peers
            .iter_mut()
            .for_each(|peer| peer.baseline = false);
        let decision = Decision::of(&bench);
        assert_eq!(
            answer(&decision, "softmax 1x8"),
            "undecided: no baseline was asked to run"
        );
        assert!(
            decision.summary.starts_with("No baseline"),
            "{}",
            decision.summary
        );
        assert_eq!(decision.counts.decided(), 0);
    }

    #[test]
    fn a_gpu_decides_for_itself_or_is_undecided() {
        let mut bench = fixture::small();
        let decision = Decision::of(&bench);
        assert_eq!(answer(&decision, "softmax"), "undecided: run this on a Mac");
        assert!(decision.rows.last().unwrap().asks_for_a_mac());
        let mut metal = bench.rows[0].clone();
        metal.device = "metal".to_owned();
        metal.shape = "9x9".to_owned();
        let mut planned = metal.clone();
        planned.cells.fill(Cell::NotBuilt);
        bench.rows.push(planned);
        assert_eq!(
            answer(&Decision::of(&bench), "softmax"),
            "undecided: run this on a Mac"
        );
        bench.machine.gpu = Some("Apple M2".to_owned());
        let why = answer(&Decision::of(&bench), "softmax");
        assert!(why.contains("--device metal"), "{why}");
        bench.rows.push(metal);
        let decision = Decision::of(&bench);
        assert_eq!(
            answer(&decision, "softmax 9x9"),
            "worthwhile against candle-v4"
        );
        assert!(decision.rows.iter().all(|row| row.name != "softmax"));
    }
}
