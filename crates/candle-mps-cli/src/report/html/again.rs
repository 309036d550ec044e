//! What went wrong on the way, and how to run all of it again.

use crate::report::Results;
use crate::report::plot::escape;
use crate::results::bench::Cell;

pub fn problems(results: &Results) -> String {
    let Some(bench) = &results.bench else {
        return "<p>Nothing was measured.</p>\n".to_owned();
    };
    let mut items: Vec<String> = bench.problems.clone();
    for peer in &bench.peers {
        items.extend(
            peer.absent
                .as_ref()
                .map(|why| format!("{}: {why}", peer.id)),
        );
    }
    for row in &bench.rows {
        for (peer, cell) in bench.peers.iter().zip(&row.cells) {
            let (Cell::Unfinished { why } | Cell::Failed { why }) = cell else {
                continue;
            };
            let word = if matches!(cell, Cell::Failed { .. }) {
                "failed"
            } else {
                "did not finish its work"
            };
            items.push(format!(
                "{} {word} in {}, {}: {why}",
                peer.id,
                row.name(),
                row.regime
            ));
        }
    }
    if items.is_empty() {
        return "<p>Nothing.</p>\n".to_owned();
    }
    let items: String = items
        .iter()
        .map(|it| format!("<li>{}</li>\n", escape(it)))
        .collect();
    format!("<ul>\n{items}</ul>\n")
}

pub fn commands(results: &Results) -> String {
    let mut lines = vec!["cargo install candle-mps-cli".to_owned()];
    lines.extend(results.verified().map(|it| it.command.clone()));
    lines.extend(results.bench.as_ref().map(|it| it.command.clone()));
    lines.push("candle-mps report".to_owned());
    format!(
        "<pre tabindex=\"0\"><code>{}</code></pre>\n<p>Ratios carry over to other machines better than times, \
         and neither carries over well: run it on yours.</p>\n",
        escape(&lines.join("\n"))
    )
}
