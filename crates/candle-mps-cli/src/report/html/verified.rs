//! What was verified: errors beside their bounds, and through which ops gradients arrive.

use super::scrolling;
use crate::report::Results;
use crate::report::correct::{Place, Sum, gradients, lines, trained};
use crate::report::figures::error;
use crate::report::plot::escape;
use crate::results::verify::{Outcome, Row};

pub fn correctness(results: &Results) -> String {
    let mut html = "<ul class=\"places\">".to_owned();
    for place in Place::ALL {
        let sum = Sum::of(results, place);
        let class = match (sum.bad(), sum.ran()) {
            (true, _) => "slower",
            (false, 0) => "same",
            (false, _) => "faster",
        };
        html += &format!(
            "<li><strong>{}</strong> <span class=\"{class}\">{}</span></li>",
            place.name(),
            escape(&sum.text())
        );
    }
    html += "</ul>\n";
    html += &misses(results);
    html += &conformance(results);
    let lines = lines(results);
    if lines.is_empty() {
        return html;
    }
    let mut body = String::new();
    for (index, line) in lines.iter().enumerate() {
        body += "<tr>";
        if index == 0 || lines[index - 1].op != line.op {
            let same = lines[index..]
                .iter()
                .take_while(|it| it.op == line.op)
                .count();
            body += &format!(
                "<th scope=\"rowgroup\" rowspan=\"{same}\">{}</th>",
                escape(line.op)
            );
        }
        body += &format!("<td>{}</td><td>{}</td>", line.pass, escape(line.dtype));
        body += &line.places.map(cell).concat();
        body += "</tr>\n";
    }
    let head = "<tr><th scope=\"col\">op</th><th scope=\"col\">pass</th><th scope=\"col\">dtype</th>\
        <th scope=\"col\" class=\"n\">CPU</th><th scope=\"col\" class=\"n\">Metal</th>\
        <th scope=\"col\" class=\"n\">MPS</th></tr>";
    html + &scrolling(
        "The largest error of each op beside its bound",
        "tall",
        head,
        &body,
    )
}

fn cell(row: Option<&Row>) -> String {
    let Some(row) = row else {
        return "<td class=\"n none\">–</td>".to_owned();
    };
    let figures = match row.error {
        Some(found) => format!("{} of {}", error(found), error(row.bound)),
        None => String::new(),
    };
    match &row.outcome {
        Outcome::Ok => format!(
            "<td class=\"n\" title=\"{} cases\">{figures}</td>",
            row.cases
        ),
        Outcome::Miss { .. } => format!("<td class=\"n slower\">{figures} miss</td>"),
        Outcome::Failed { .. } => "<td class=\"n slower\">failed</td>".to_owned(),
        Outcome::NotBuilt { .. } => "<td class=\"n none\">not built</td>".to_owned(),
    }
}

/// What missed its bound, and how to see it again.
fn misses(results: &Results) -> String {
    let rows = results
        .verified()
        .flat_map(|it| it.rows.iter().map(move |row| (it, row)));
    let items = rows.filter_map(|(file, row)| {
        let (Outcome::Miss { what: said, replay } | Outcome::Failed { why: said, replay }) =
            &row.outcome
        else {
            return None;
        };
        Some(format!(
            "<li><strong>{} {} {} on {}{}</strong>: {}. Again: <code>{}</code></li>\n",
            escape(&row.op),
            row.pass,
            escape(&row.dtype),
            escape(&file.device),
            if row.mps { ", by MPS" } else { "" },
            escape(said),
            escape(replay)
        ))
    });
    let items: String = items.collect();
    if items.is_empty() {
        return String::new();
    }
    format!("<div class=\"notice\"><p>Wrong results:</p><ul>{items}</ul></div>\n")
}

fn conformance(results: &Results) -> String {
    let mut html = String::new();
    for file in results.verified() {
        let Some(held) = &file.conformance else {
            continue;
        };
        html += &format!(
            "<p>Promises of Metal and MPS on {}: {} kept, {} broken, {} not asked.</p>\n",
            escape(&file.machine.gpu.clone().unwrap_or(file.device.clone())),
            held.kept,
            held.broken.len(),
            held.skipped.len()
        );
        let all = held.broken.iter().map(|it| ("broken", it));
        let all = all.chain(held.skipped.iter().map(|it| ("not asked", it)));
        let items = all.map(|(word, (name, why))| {
            format!("<li>{word}: {}: {}</li>", escape(name), escape(why))
        });
        let items: String = items.collect();
        if !items.is_empty() {
            html += &format!("<ul>{items}</ul>\n");
        }
    }
    html
}

pub fn training(results: &Results) -> String {
    let Some((training, (candles, ours, all))) = trained(results).zip(gradients(results)) else {
        return "<p>Not verified: <code>candle-mps verify</code> shows through which ops gradients \
                arrive.</p>\n".to_owned();
    };
    let says = |arrives: bool| match arrives {
        true => "<td class=\"faster\">arrives</td>",
        false => "<td class=\"slower\">lost</td>",
    };
    let body: String = training
        .iter()
        .map(|it| {
            format!(
                "<tr><th scope=\"row\">{}</th>{}{}</tr>\n",
                escape(&it.op),
                says(it.through_candles),
                says(it.through_ours)
            )
        })
        .collect();
    let head = "<tr><th scope=\"col\">op</th><th scope=\"col\">Candle's fused op</th><th scope=\"col\">ours</th></tr>";
    format!(
        "<p>A gradient arrives through {ours} of {all} ops of ours, and through {candles} of Candle's fused \
         ones.</p>\n{}",
        scrolling("Whether a gradient arrives behind an op", "", head, &body)
    )
}
