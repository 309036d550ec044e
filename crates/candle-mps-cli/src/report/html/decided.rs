//! The decision as the page shows it.

use super::scrolling;
use crate::decision::{Answer, Choice, Decision, ON_A_MAC, meanings};
use crate::report::figures::times;
use crate::report::plot::escape;
use crate::results::bench::{Bench, Verdict};

pub fn section(bench: &Bench, decision: &Decision) -> String {
    let mut html = format!("<p class=\"lead\">{}</p>\n", escape(&decision.summary));
    if decision.rows.iter().any(|row| row.asks_for_a_mac()) {
        html += &format!(
            "<p>What only a GPU can answer is undecided until this runs on a Mac: \
            <code>{}</code></p>\n",
            escape(ON_A_MAC)
        );
    }
    let rows: String = decision.rows.iter().map(|row| {
        let regime = row.regime.map_or("–".to_owned(), |it| it.to_string());
        let head = format!("<tr><th scope=\"row\">{}</th>", escape(&row.name));
        let tail = format!("<td>{}</td><td>{regime}</td></tr>\n", escape(&row.device));
        match &row.answer {
            Answer::Decided { choice, ratio, against } => format!(
                "{head}<td><span class=\"choice {}\">{}</span></td><td class=\"n {}\">{}</td>\
                 <td class=\"n\">{} to {}</td><td>{}</td><td>{}</td>{tail}",
                class(*choice),
                choice.word(),
                verdict_class(ratio.verdict),
                times(ratio.times),
                times(ratio.low),
                times(ratio.high),
                ratio.reading(),
                escape(against)
            ),
            Answer::Undecided { why, .. } => format!(
                "{head}<td><span class=\"choice\">undecided</span></td><td colspan=\"4\">{}</td>{tail}",
                escape(why)
            ),
        }
    }).collect();
    let head = "<tr><th scope=\"col\">op and size</th>\
        <th scope=\"col\">decision</th><th scope=\"col\" class=\"n\">ratio</th>\
        <th scope=\"col\" class=\"n\">interval</th><th scope=\"col\">reading</th>\
        <th scope=\"col\">against</th><th scope=\"col\">device</th><th scope=\"col\">regime</th></tr>";
    html += &scrolling("The decision for each op and size", "tall", head, &rows);
    html += "<details><summary>What the words mean</summary><dl class=\"words\">";
    for (word, meaning) in meanings() {
        html += &format!("<dt>{word}</dt><dd>{meaning}</dd>");
    }
    html += "</dl></details>\n";
    html + &peers(bench)
}

/// Who the peers are.
fn peers(bench: &Bench) -> String {
    let rows: String = bench.peers.iter().enumerate().map(|(index, peer)| {
        let part = match (index, peer.baseline) {
            (0, _) => "ours",
            (_, true) => "decides",
            (_, false) => "shown",
        };
        format!(
            "<tr><th scope=\"row\">{}</th><td>{}</td><td>{part}</td><td class=\"wrap\">{}</td></tr>\n",
            escape(&peer.id),
            escape(&peer.title),
            peer.absent.as_deref().map_or("this run".to_owned(), escape)
        )
    }).collect();
    let head = "<tr><th scope=\"col\">peer</th><th scope=\"col\">what it is</th><th scope=\"col\">part</th>\
        <th scope=\"col\">where its figures are from</th></tr>";
    scrolling("The peers", "", head, &rows)
}

fn class(choice: Choice) -> &'static str {
    match choice {
        Choice::Go => "is-go",
        Choice::Worthwhile => "is-worthwhile",
        Choice::NoGo => "is-no-go",
    }
}

/// How a ratio is coloured.
pub fn verdict_class(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Faster => "faster",
        Verdict::Slower => "slower",
        Verdict::NoDifference | Verdict::Unclear => "same",
    }
}
