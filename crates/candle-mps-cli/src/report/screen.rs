//! The first screen: what a newcomer asks, answered on 24 lines of 80 columns. The order is machine,
//! correctness, training, work of a GPU, speed, decision, and where to read on.

use std::io::{self, Write};
use std::path::Path;

use clap::builder::styling::Style;

use super::correct::{Place, Sum, gradients};
use super::figures::{time, times};
use super::plot::shortened;
use super::{Results, work};
use crate::decision::{Answer, Decided, Decision, ON_A_MAC};
use crate::results::bench::{Bench, Cell, Regime, Row, Verdict};
use crate::results::{Machine, Pass};
use crate::style::{BAD, FAINT, GOOD, NOTE, PLAIN, TOPIC};

const COLUMNS: usize = 80;
/// How many rows of figures there is room for.
const ROWS: usize = 9;
/// How wide the names of rows, the times and the ratios are.
const NAME: usize = 31;
const TIME: usize = 9;
const RATIO: usize = 10;
/// How many peers have room beside ours.
const PEERS: usize = (COLUMNS - NAME - TIME) / RATIO;

/// A line, in parts of one colour each.
type Line = Vec<(Style, String)>;

/// Writes the screen with colours; the caller's stream drops those that nobody would see.
pub fn write(
    results: &Results,
    decision: Option<&Decision>,
    page: &Path,
    out: &mut impl Write,
) -> io::Result<()> {
    for line in lines(results, decision) {
        let mut room = COLUMNS;
        for (style, text) in line {
            let text = shortened(&one_line(&text), room);
            room -= text.chars().count();
            write!(out, "{style}{text}{style:#}")?;
        }
        writeln!(out)?;
    }
    // Never shortened: a path with a hole leads nowhere.
    writeln!(out, "{TOPIC}{:<11}{TOPIC:#} {}", "report", page.display())
}

fn lines(results: &Results, decision: Option<&Decision>) -> Vec<Line> {
    let mut lines = Vec::new();
    let machine = results.machine().map_or("unknown".to_owned(), machine);
    lines.push(topic(TOPIC, "machine", machine));
    for place in Place::ALL {
        let sum = Sum::of(results, place);
        let style = match (sum.bad(), sum.ran()) {
            (true, _) => BAD,
            (false, 0) => FAINT,
            (false, _) => GOOD,
        };
        let name = if place == Place::Cpu { "correct" } else { "" };
        let mut line = topic(TOPIC, name, format!("{:<6} ", place.name()));
        line.push((style, sum.text()));
        lines.push(line);
    }
    lines.push(topic(TOPIC, "training", training(results)));
    for (at, line) in work::lines(&results.work).into_iter().enumerate() {
        lines.push(topic(TOPIC, if at == 0 { "GPU work" } else { "" }, line));
    }
    match results.bench.as_ref().zip(decision) {
        Some((bench, decision)) => {
            lines.extend(speed(bench, decision));
            lines.extend(decided(bench, decision));
        }
        None => lines.push(topic(TOPIC, "speed", "not measured")),
    }
    let missing = results.missing();
    if !missing.is_empty() {
        let commands: Vec<_> = missing.iter().map(|it| it.command).collect();
        lines.push(topic(NOTE, "missing", commands.join("; ")));
    }
    lines
}

fn topic(style: Style, topic: &str, text: impl Into<String>) -> Line {
    vec![(style, format!("{topic:<11} ")), (PLAIN, text.into())]
}

/// Text from outside without what would move the cursor.
fn one_line(text: &str) -> String {
    text.chars()
        .map(|it| if it.is_control() { ' ' } else { it })
        .collect()
}

fn machine(machine: &Machine) -> String {
    let mut parts = vec![
        machine.processor.clone(),
        format!("{} threads", machine.threads),
    ];
    if let Some(bytes) = machine.memory_bytes {
        parts.push(format!("{:.1} GiB", bytes as f64 / f64::from(1 << 30)));
    }
    parts.push(machine.gpu.clone().unwrap_or("no GPU".to_owned()));
    parts.join(", ")
}

fn training(results: &Results) -> String {
    match gradients(results) {
        Some((candles, ours, all)) => format!(
            "gradients arrive through {ours} of {all} of our ops, {candles} of {all} of Candle's"
        ),
        None => "not verified".to_owned(),
    }
}

/// The peers that have a column: those with figures, baselines first if there are too many.
fn columns(bench: &Bench) -> Vec<usize> {
    let with_figures = |peer: &usize| {
        let mut cells = bench.rows.iter().filter_map(|row| row.cells.get(*peer));
        cells.any(|cell| cell.times().is_some())
    };
    let mut columns: Vec<_> = (1..bench.peers.len()).filter(with_figures).collect();
    columns.sort_by_key(|peer| !bench.peers[*peer].baseline);
    columns.truncate(PEERS);
    columns.sort_unstable();
    columns
}

fn speed(bench: &Bench, decision: &Decision) -> Vec<Line> {
    let columns = columns(bench);
    let mut head = vec![
        (TOPIC, format!("{:<NAME$}", "speed: a peer's time by ours")),
        (TOPIC, format!("{:>TIME$}", "ours")),
    ];
    for peer in &columns {
        let id = &bench.peers[*peer].id;
        // `candle-installed` is too long, `installed` says it.
        let id = match id.split_once('-') {
            Some((_, rest)) if id.chars().count() >= RATIO => rest,
            _ => id,
        };
        head.push((TOPIC, format!("{:>RATIO$}", shortened(id, RATIO - 1))));
    }
    let mut lines = vec![head];
    for row in telling(bench, decision) {
        let ours = row.cells.first().and_then(Cell::times);
        let ours = ours.map_or("–".to_owned(), |it| time(it.median));
        let mut name = row.name();
        if row.regime != Regime::Latency {
            name = format!("{name}, {}", row.regime);
        }
        if row.device != "cpu" {
            name = format!("{name}, {}", row.device);
        }
        let name = shortened(&one_line(&name), NAME - 3);
        let mut line = vec![(PLAIN, format!("  {name:<0$}{ours:>TIME$}", NAME - 2))];
        line.extend(columns.iter().map(|peer| ratio(row.cells.get(*peer))));
        lines.push(line);
    }
    if columns.iter().any(|peer| {
        bench
            .rows
            .iter()
            .any(|row| matches!(row.cells.get(*peer), Some(Cell::AnotherRun(_))))
    }) {
        lines.push(vec![(FAINT, "  * another run".to_owned())]);
    }
    lines
}

fn ratio(cell: Option<&Cell>) -> (Style, String) {
    let (style, text) = match cell {
        Some(Cell::Measured(it) | Cell::AnotherRun(it)) => match it.ratio {
            Some(ratio) => {
                let star = if matches!(cell, Some(Cell::AnotherRun(_))) {
                    "*"
                } else {
                    ""
                };
                let style = match ratio.verdict {
                    Verdict::Faster => GOOD,
                    Verdict::Slower => BAD,
                    Verdict::NoDifference | Verdict::Unclear => PLAIN,
                };
                (style, format!("{}{star}", times(ratio.times)))
            }
            None => (FAINT, "–".to_owned()),
        },
        Some(Cell::Unfinished { .. }) => (FAINT, "unfinished".to_owned()),
        Some(Cell::Failed { .. }) => (FAINT, "failed".to_owned()),
        Some(Cell::NotBuilt) => (FAINT, "not built".to_owned()),
        Some(Cell::None) | None => (FAINT, "–".to_owned()),
    };
    (style, format!("{text:>RATIO$}"))
}

/// The rows that say most: the worst two, the best, the longest step of a model, and between them a
/// fair sample, evenly over the ranking and of an op that is not there yet if there is one near.
fn telling<'a>(bench: &'a Bench, decision: &'a Decision) -> Vec<&'a Row> {
    let ranked = decision.rows.iter().filter_map(|it| match &it.answer {
        Answer::Decided { ratio, .. } => Some((bench.rows.get(it.row?)?, ratio.times)),
        Answer::Undecided { .. } => None,
    });
    let mut ranked: Vec<_> = ranked.collect();
    ranked.sort_by(|(_, a), (_, b)| b.total_cmp(a));
    let rows: Vec<&Row> = ranked.into_iter().map(|(row, _)| row).collect();
    let Some(last) = rows.len().checked_sub(1) else {
        return rows;
    };
    let ours = |at: &usize| {
        rows[*at]
            .cells
            .first()
            .and_then(Cell::times)
            .map_or(0.0, |it| it.median)
    };
    let steps = (0..=last).filter(|at| rows[*at].pass == Pass::Step);
    let mut chosen = vec![0, last, last.saturating_sub(1)];
    chosen.extend(steps.max_by(|a, b| ours(a).total_cmp(&ours(b))));
    chosen.sort_unstable();
    chosen.dedup();
    for pick in 1..ROWS {
        let ideal = last * pick / ROWS;
        let free = (0..=last).filter(|at| !chosen.contains(at));
        let nearest = free.min_by_key(|at| {
            let known = chosen.iter().any(|it| rows[*it].op == rows[*at].op);
            at.abs_diff(ideal) + if known { rows.len() / ROWS } else { 0 }
        });
        if chosen.len() < ROWS {
            chosen.extend(nearest);
        }
    }
    chosen.sort_unstable();
    chosen.into_iter().map(|at| rows[at]).collect()
}

fn decided(bench: &Bench, decision: &Decision) -> Vec<Line> {
    let counts = &decision.counts;
    let mut said = format!(
        "{} go, {} worthwhile, {} no-go, {} undecided",
        counts.go, counts.worthwhile, counts.no_go, counts.undecided
    );
    let mac = decision.rows.iter().any(Decided::asks_for_a_mac);
    if mac {
        said += ": run this on a Mac";
    }
    let mut lines = vec![topic(TOPIC, "decision", said)];
    if mac {
        lines.push(vec![
            (PLAIN, format!("{:<12}", "")),
            (FAINT, ON_A_MAC.to_owned()),
        ]);
    }
    lines.push(topic(TOPIC, "", counts.reading()));
    if !bench.finished {
        lines.push(topic(
            NOTE,
            "partial",
            "the run did not end, so rows may be missing",
        ));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::fixture;
    use crate::results::bench::Peer;

    fn shown(results: &Results, page: &str) -> String {
        let decision = results.bench.as_ref().map(Decision::of);
        let mut written = Vec::new();
        write(results, decision.as_ref(), Path::new(page), &mut written).unwrap();
        anstream::adapter::strip_str(std::str::from_utf8(&written).unwrap()).to_string()
    }

    fn fits(text: &str) {
        assert!(text.lines().count() <= 24, "{text}");
        assert!(
            text.lines().all(|line| line.chars().count() <= COLUMNS),
            "{text}"
        );
    }

    fn results() -> Results {
        Results {
            bench: Some(fixture::bench()),
            cpu: Some(fixture::verify()),
            metal: Some(fixture::verify_metal()),
            work: work::read(work::tests::TEXT),
        }
    }

    #[test]
    fn topics_are_in_their_order_and_fit() {
        let text = shown(&results(), "candle-mps-report/report.html");
        fits(&text);
        let topics = [
            "machine", "correct", "training", "GPU work", "speed", "decision", "report",
        ];
        let places = topics.map(|it| text.lines().position(|line| line.starts_with(it)).unwrap());
        assert!(places.is_sorted(), "{text}");
        assert!(text.contains("0.96x"), "a row that loses: {text}");
    }

    #[test]
    fn the_worst_case_fits() {
        let mut results = results();
        let bench = results.bench.as_mut().unwrap();
        let long = "a very long name with an é and\nno end ".repeat(9);
        bench.finished = false;
        bench.machine.processor = long.clone();
        let mut many = Vec::new();
        for index in 0..9 {
            many.push(Peer {
                id: format!("{index}-{long}"),
                ..bench.peers[2].clone()
            });
        }
        bench.peers.extend(many);
        for (index, row) in bench.rows.iter_mut().enumerate() {
            row.op = format!("{index}{long}");
            row.shape = long.clone();
            let cell = row.cells[2].clone();
            row.cells.extend(vec![cell; 9]);
        }
        results.metal = None;
        fits(&shown(&results, "candle-mps-report/report.html"));
        let deep = "deep/".repeat(40);
        assert!(shown(&results, &deep).contains(&deep));
    }

    #[test]
    fn what_is_missing_is_named() {
        let text = shown(
            &Results {
                cpu: Some(fixture::verify()),
                ..Results::default()
            },
            "r.html",
        );
        fits(&text);
        assert!(
            text.contains("candle-mps bench") && text.contains("speed       not measured"),
            "{text}"
        );
        let text = shown(
            &Results {
                bench: Some(fixture::small()),
                ..Results::default()
            },
            "r.html",
        );
        assert_eq!(text.matches("softmax 1x8").count(), 1, "{text}");
    }
}
