//! The tables of figures: the times and ratios of all peers side by side, and behind a click every
//! figure there is. A table has one device and one regime, which its caption names.

use super::decided::verdict_class;
use super::scrolling;
use crate::report::figures::{Rate, bytes, digits, time, times};
use crate::report::plot::escape;
use crate::results::bench::{Bench, Cell, Limits, Measured, Regime, Row, Verdict};

pub fn section(bench: &Bench) -> String {
    let mut html = limits(&bench.limits);
    for (device, regime, rows) in groups(bench) {
        let caption = format!(
            "On {}, regime {regime}: {}",
            escape(device),
            meaning(regime)
        );
        html += &scrolling(
            &caption,
            "tall tight",
            &overview_head(bench),
            &overview(&rows),
        );
    }
    html += "<p class=\"note\">n/d: no difference. ?: unclear. *: another run. –: no such op, or not here.</p>\n";
    for (device, regime, rows) in groups(bench) {
        let title = format!("Every figure on {}, regime {regime}", escape(device));
        html += &format!("<details><summary>{title}</summary>\n");
        html += &scrolling(&title, "tall tight", FULL_HEAD, &full(bench, &rows));
        html += "</details>\n";
    }
    html
}

/// What a regime is.
fn meaning(regime: Regime) -> &'static str {
    match regime {
        Regime::Latency => "one call at a time, its result there before the clock stops",
        Regime::Chain => {
            "many calls, each on the result of the one before, the last result there before the clock stops"
        }
        Regime::Encode => "until the call returns, its work encoded, not necessarily committed",
    }
}

fn limits(limits: &Limits) -> String {
    if limits.gflops <= 0.0 && limits.copies.is_empty() {
        return "<p>What the machine can do at best was not measured.</p>\n".to_owned();
    }
    let copies = limits.copies.iter();
    let copies =
        copies.map(|(size, rate)| format!("{} GB/s for {}", digits(*rate), bytes(*size as f64)));
    let copies: Vec<_> = copies.collect();
    format!(
        "<p>What this machine can do at best, measured in the same run: {} GFLOP/s in f32; copies, read and \
         write counted, {}.</p>\n",
        digits(limits.gflops),
        copies.join(", ")
    )
}

/// The rows of a device and a regime together.
fn groups(bench: &Bench) -> Vec<(&str, Regime, Vec<&Row>)> {
    let mut groups: Vec<(&str, Regime, Vec<&Row>)> = Vec::new();
    for row in &bench.rows {
        let same = |it: &&mut (&str, Regime, Vec<&Row>)| it.0 == row.device && it.1 == row.regime;
        match groups.iter_mut().find(same) {
            Some((.., rows)) => rows.push(row),
            None => groups.push((&row.device, row.regime, vec![row])),
        }
    }
    groups
}

fn overview_head(bench: &Bench) -> String {
    let mut top = "<tr><th scope=\"col\" rowspan=\"2\">op and size</th>".to_owned();
    let mut below = "<tr>".to_owned();
    for (index, peer) in bench.peers.iter().enumerate() {
        if index == 0 {
            top += &format!(
                "<th scope=\"col\" class=\"n\" rowspan=\"2\">{}</th>",
                escape(&peer.id)
            );
        } else {
            top += &format!(
                "<th scope=\"colgroup\" class=\"n\" colspan=\"2\">{}</th>",
                escape(&peer.id)
            );
            below +=
                "<th scope=\"col\" class=\"n\">time</th><th scope=\"col\" class=\"n\">ratio</th>";
        }
    }
    format!("{top}</tr>{below}</tr>")
}

fn overview(rows: &[&Row]) -> String {
    let mut html = String::new();
    for row in rows {
        html += &format!("<tr><th scope=\"row\">{}</th>", escape(&row.name()));
        for (index, cell) in row.cells.iter().enumerate() {
            html += &match (cell, index) {
                (Cell::Measured(it) | Cell::AnotherRun(it), 0) => {
                    format!("<td class=\"n\">{}</td>", time(it.median))
                }
                (Cell::Measured(it), _) => {
                    format!("<td class=\"n\">{}</td>{}", time(it.median), ratio_cell(it))
                }
                (Cell::AnotherRun(it), _) => {
                    format!(
                        "<td class=\"n another\">{}*</td>{}",
                        time(it.median),
                        ratio_cell(it)
                    )
                }
                (other, 0) => format!("<td class=\"n\">{}</td>", word(other)),
                (other, _) => format!("<td class=\"n none\" colspan=\"2\">{}</td>", word(other)),
            };
        }
        html += "</tr>\n";
    }
    html
}

fn ratio_cell(measured: &Measured) -> String {
    let Some(ratio) = measured.ratio else {
        return "<td class=\"n none\">–</td>".to_owned();
    };
    let mark = match ratio.verdict {
        Verdict::NoDifference => " n/d",
        Verdict::Unclear => " ?",
        Verdict::Faster | Verdict::Slower => "",
    };
    format!(
        "<td class=\"n {}\" title=\"{} to {}, {}\">{}{mark}</td>",
        verdict_class(ratio.verdict),
        times(ratio.low),
        times(ratio.high),
        ratio.reading(),
        times(ratio.times)
    )
}

/// A cell without times, in a word.
fn word(cell: &Cell) -> &'static str {
    match cell {
        Cell::Measured(_) => "this run",
        Cell::AnotherRun(_) => "another run",
        Cell::Unfinished { .. } => "unfinished",
        Cell::Failed { .. } => "failed",
        Cell::None => "–",
        Cell::NotBuilt => "not built",
    }
}

const FULL_HEAD: &str = "<tr><th scope=\"col\">op and size</th><th scope=\"col\">peer</th>\
    <th scope=\"col\">from</th><th scope=\"col\" class=\"n\">median</th>\
    <th scope=\"col\" class=\"n\">quartiles</th><th scope=\"col\" class=\"n\">spread</th>\
    <th scope=\"col\" class=\"n\">samples</th><th scope=\"col\" class=\"n\">ratio</th>\
    <th scope=\"col\" class=\"n\">interval</th><th scope=\"col\">verdict</th>\
    <th scope=\"col\" class=\"n\">CPU time</th><th scope=\"col\" class=\"n\">first call</th><th scope=\"col\" class=\"n\">GB/s of limit</th>\
    <th scope=\"col\" class=\"n\">GFLOP/s of limit</th></tr>";

fn full(bench: &Bench, rows: &[&Row]) -> String {
    let mut html = String::new();
    for row in rows {
        let mut head = format!(
            "<th scope=\"rowgroup\" rowspan=\"{}\">{}</th>",
            row.cells.len().max(1),
            escape(&row.name())
        );
        for (peer, cell) in bench.peers.iter().zip(&row.cells) {
            html += &format!(
                "<tr>{head}<td>{}</td><td>{}</td>",
                escape(&peer.id),
                word(cell)
            );
            head.clear();
            html += &match cell {
                Cell::Measured(it) | Cell::AnotherRun(it) => figures(row, it, &bench.limits),
                Cell::Unfinished { why } | Cell::Failed { why } => {
                    format!("<td colspan=\"11\" class=\"wrap\">{}</td>", escape(why))
                }
                Cell::None | Cell::NotBuilt => "<td colspan=\"11\">–</td>".to_owned(),
            };
            html += "</tr>\n";
        }
    }
    html
}

fn figures(row: &Row, it: &Measured, limits: &Limits) -> String {
    let cell = |text: String| format!("<td class=\"n\">{text}</td>");
    let mut html = cell(time(it.median));
    html += &cell(format!(
        "{} to {}",
        time(it.quartiles[0]),
        time(it.quartiles[1])
    ));
    html += &cell(format!("{:.1}%", it.spread() * 100.0));
    html += &cell(it.samples.to_string());
    html += &match it.ratio {
        Some(ratio) => format!(
            "<td class=\"n {}\">{}</td><td class=\"n\">{} to {}</td><td>{}</td>",
            verdict_class(ratio.verdict),
            times(ratio.times),
            times(ratio.low),
            times(ratio.high),
            ratio.reading()
        ),
        None => "<td class=\"n\">–</td><td class=\"n\">–</td><td>–</td>".to_owned(),
    };
    html += &cell(it.cpu.map_or("–".to_owned(), time));
    html += &cell(it.first.map_or("–".to_owned(), time));
    html += &cell(Rate::of_bytes(row, it.median, limits).text());
    html + &cell(Rate::of_operations(row, it.median, limits).text())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::fixture;

    #[test]
    fn every_kind_of_cell_has_its_word() {
        let html = section(&fixture::bench());
        for word in [
            "another run",
            "unfinished",
            "failed",
            "not built",
            "–",
            "no difference",
            "nothing is evaluated",
        ] {
            assert!(html.contains(word), "{word}");
        }
        for regime in ["latency", "chain", "encode"] {
            assert!(html.contains(&format!("regime {regime}")), "{regime}");
        }
    }

    #[test]
    fn every_row_and_peer_is_there() {
        let bench = fixture::bench();
        let html: String = groups(&bench)
            .iter()
            .map(|(.., rows)| full(&bench, rows))
            .collect();
        assert_eq!(
            html.matches("<tr>").count(),
            bench.rows.len() * bench.peers.len()
        );
    }
}
