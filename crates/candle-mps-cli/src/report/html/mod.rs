//! The page: one file with its styles and plots inside, which asks nothing of any network. All text
//! that comes from results goes through `escape`.

mod again;
mod decided;
mod tables;
mod verified;

use super::colours::{DARK, LIGHT};
use super::correct::{Place, Sum, gradients};
use super::figures::times;
use super::plot::{self, Width, escape, ratios, sizes};
use super::{Results, work};
use crate::bench::stats::quartiles;
use crate::decision::{Answer, Decision};
use crate::results::Machine;
use crate::results::bench::Bench;

/// Forbids whatever is not in the file, should something ever slip in.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'";

/// The whole file.
pub fn page(results: &Results, decision: Option<&Decision>) -> String {
    let mut sections = Vec::new();
    let mut add = |id: &'static str, title: &'static str, body: Option<String>| {
        if let Some(body) = body {
            sections.push((id, title, body));
        }
    };
    let measured = results.bench.as_ref().zip(decision);
    add(
        "decision",
        "Decision",
        measured.map(|(bench, decision)| decided::section(bench, decision)),
    );
    add(
        "ratios",
        "How many times faster",
        measured.and_then(|(bench, decision)| ratio_plot(bench, decision)),
    );
    add(
        "sizes",
        "Cost over size",
        results.bench.as_ref().and_then(size_plots),
    );
    add(
        "figures",
        "All figures",
        results.bench.as_ref().map(tables::section),
    );
    add(
        "correctness",
        "Correctness",
        Some(verified::correctness(results)),
    );
    add("training", "Training", Some(verified::training(results)));
    add("gpu", "Work of a GPU", Some(work::section(&results.work)));
    add(
        "problems",
        "What went wrong",
        Some(again::problems(results)),
    );
    add("again", "Run it again", Some(again::commands(results)));
    let links = sections
        .iter()
        .map(|(id, title, _)| format!("<a href=\"#{id}\">{title}</a>"));
    let links: String = links.collect();
    let body = sections.iter().map(|(id, title, body)| {
        format!("<section id=\"{id}\"><h2>{title}</h2>\n{body}</section>\n")
    });
    let body: String = body.collect();
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"{POLICY}\">\n\
         <title>candle-mps: report</title>\n<style>\n:root{{{}}}\n\
         @media (prefers-color-scheme: dark){{:root{{{}}}}}\n{}{}</style>\n</head>\n<body>\n\
         <header>\n{}{}</header>\n<nav aria-label=\"Contents\">{links}</nav>\n\
         <main>\n{}{body}</main>\n</body>\n</html>\n",
        LIGHT.variables(),
        DARK.variables(),
        include_str!("../style.css"),
        plot::CSS,
        heading(results),
        notices(results),
        key_figures(results, decision),
    )
}

fn heading(results: &Results) -> String {
    let version = results.version().unwrap_or("of an unknown version");
    let mut facts = vec![("Version", format!("candle-mps {version}"))];
    if let Some(machine) = results.machine() {
        facts.push(("Machine", describe(machine)));
        facts.push(("System", machine.system.clone()));
        facts.push(("Instruction sets", machine.features.join(" ")));
    }
    if let Some(bench) = &results.bench {
        facts.push(("Command", bench.command.clone()));
    }
    let facts = facts.iter().filter(|(_, text)| !text.is_empty());
    let facts =
        facts.map(|(name, text)| format!("<div><dt>{name}</dt><dd>{}</dd></div>", escape(text)));
    format!(
        "<h1>candle-mps <span>beside what you have</span></h1>\n<dl class=\"facts\">{}</dl>\n",
        facts.collect::<String>()
    )
}

fn describe(machine: &Machine) -> String {
    let mut parts = vec![
        machine.processor.clone(),
        format!("{} threads", machine.threads),
    ];
    if let Some(bytes) = machine.memory_bytes {
        parts.push(format!("{:.1} GiB", bytes as f64 / f64::from(1 << 30)));
    }
    parts.extend(machine.gpu.clone());
    parts.retain(|part| !part.is_empty());
    parts.join(", ")
}

/// What a reader must know before any figure: that some are missing.
fn notices(results: &Results) -> String {
    let mut text = String::new();
    if results.bench.as_ref().is_some_and(|it| !it.finished) {
        text += "<p class=\"notice\" role=\"note\"><strong>Partial:</strong> the run of <code>candle-mps \
                 bench</code> did not end. What it measured until then is here; more rows may be missing.</p>\n";
    }
    for missing in results.missing() {
        text += &format!(
            "<p class=\"notice\" role=\"note\"><strong>Not here:</strong> {}. Make it with <code>{}</code>.</p>\n",
            missing.file, missing.command
        );
    }
    text
}

fn key_figures(results: &Results, decision: Option<&Decision>) -> String {
    let mut cards = Vec::new();
    if let Some(decision) = decision {
        let counts = &decision.counts;
        cards.push((
            format!("{} of {}", counts.faster, counts.decided()),
            "rows in which ours is faster than the best Candle",
            format!(
                "slower in {}, no difference in {}, unclear in {}",
                counts.slower, counts.no_difference, counts.unclear
            ),
        ));
        if let Some((low, median, high)) = middle(decision) {
            cards.push((
                times(median),
                "the median ratio to the best Candle",
                format!("from {} to {}", times(low), times(high)),
            ));
        }
        cards.push((
            format!("{} go", counts.go),
            "rows at least five times as fast",
            format!(
                "{} worthwhile, {} no-go, {} undecided",
                counts.worthwhile, counts.no_go, counts.undecided
            ),
        ));
    }
    let sums = Place::ALL.map(|place| Sum::of(results, place));
    let (ok, ran) = sums
        .iter()
        .fold((0, 0), |(ok, ran), sum| (ok + sum.ok, ran + sum.ran()));
    if ran > 0 {
        let idle = sums
            .iter()
            .zip(Place::ALL)
            .filter(|(sum, _)| sum.ran() == 0);
        let idle: Vec<_> = idle.map(|(_, place)| place.name()).collect();
        let mut rest = match idle.as_slice() {
            [] => "on the CPU, on Metal and by MPS".to_owned(),
            places => format!("nothing of {} yet", places.join(" and ")),
        };
        if ok < ran {
            rest = format!("<em class=\"slower\">{} wrong</em>, {rest}", ran - ok);
        }
        cards.push((
            format!("{ok} of {ran}"),
            "ops by dtype and pass within their error bounds",
            rest,
        ));
    }
    if let Some((candles, ours, all)) = gradients(results) {
        cards.push((
            format!("{ours} of {all}"),
            "ops through which a gradient arrives",
            format!("{candles} of {all} through Candle's fused ops"),
        ));
    }
    let cards = cards.into_iter().map(|(figure, what, rest)| {
        format!("<li><b>{figure}</b><span>{what}</span><small>{rest}</small></li>")
    });
    format!(
        "<ul class=\"cards\" aria-label=\"Key figures\">{}</ul>\n",
        cards.collect::<String>()
    )
}

/// The least, the median and the largest of the ratios that decide.
fn middle(decision: &Decision) -> Option<(f64, f64, f64)> {
    let ratios = decision.rows.iter().filter_map(|row| match &row.answer {
        Answer::Decided { ratio, .. } => Some(ratio.times),
        Answer::Undecided { .. } => None,
    });
    let ratios: Vec<_> = ratios.collect();
    let [_, median, _] = quartiles(&ratios)?;
    let least = ratios.iter().copied().min_by(f64::total_cmp)?;
    let largest = ratios.iter().copied().max_by(f64::total_cmp)?;
    Some((least, median, largest))
}

fn ratio_plot(bench: &Bench, decision: &Decision) -> Option<String> {
    let mut html = "<p>A peer's time by ours, one line for each op and size, best first; regime \
        latency where a name says no other. Marks right of 1 are \
        peers slower than ours; on the shaded side ours loses. Bars are intervals of paired runs.</p>\n"
        .to_owned();
    for width in [Width::Wide, Width::Narrow] {
        let drawing = ratios::draw(bench, decision, width)?;
        let name =
            "Ratios of all peers to ours, sorted; every value is in the table of all figures";
        html += &drawing.inline(width.class(), name);
    }
    Some(html)
}

fn size_plots(bench: &Bench) -> Option<String> {
    let panels = sizes::panels(bench);
    if panels.is_empty() {
        return None;
    }
    let mut html =
        "<p>Time of a call over the work in it, for ops measured at several sizes. Lower is \
        better. The regime is latency where a title names no other.</p>\n"
            .to_owned();
    for width in [Width::Wide, Width::Narrow] {
        html += &sizes::key(bench, width).inline(width.class(), "Which mark is whose");
    }
    html += "<div class=\"panels\">";
    for panel in panels {
        html += &panel.draw().inline("panel", &panel.told());
    }
    Some(html + "</div>\n")
}

/// A table that scrolls inside a box of its own, which the keyboard reaches.
pub fn scrolling(caption: &str, class: &str, head: &str, body: &str) -> String {
    format!(
        "<div class=\"scroll {class}\" role=\"region\" aria-label=\"{caption}\" tabindex=\"0\"><table>\n\
         <caption><span>{caption}</span></caption>\n<thead>{head}</thead>\n<tbody>\n{body}</tbody>\n</table></div>\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::fixture;

    fn results() -> Results {
        Results {
            bench: Some(fixture::bench()),
            cpu: Some(fixture::verify()),
            metal: Some(fixture::verify_metal()),
            ..Results::default()
        }
    }

    fn made(results: &Results) -> String {
        page(results, results.bench.as_ref().map(Decision::of).as_ref())
    }

    #[test]
    fn every_part_is_there_and_nothing_comes_from_elsewhere() {
        let page = made(&results());
        for id in [
            "decision",
            "ratios",
            "sizes",
            "figures",
            "correctness",
            "training",
            "problems",
            "again",
        ] {
            assert!(page.contains(&format!("<section id=\"{id}\">")), "{id}");
        }
        for foreign in [
            "http://", "https://", "<script", "@import", "url(", "src=", "<link",
        ] {
            assert!(!page.contains(foreign), "{foreign}");
        }
        assert!(!page.contains("NaN") && !page.contains("Partial"));
        assert_eq!(
            page.matches("<table").count(),
            page.matches("<caption").count()
        );
    }

    #[test]
    fn text_from_outside_is_escaped() {
        let mut results = results();
        let evil = "<script>alert(1)</script>&\"'";
        let bench = results.bench.as_mut().unwrap();
        bench.command = evil.to_owned();
        bench.version = evil.to_owned();
        bench.machine.processor = evil.to_owned();
        bench.machine.system = evil.to_owned();
        bench.machine.features = vec![evil.to_owned()];
        bench.problems = vec![evil.to_owned()];
        for peer in &mut bench.peers {
            (peer.id, peer.title) = (evil.to_owned(), evil.to_owned());
            peer.absent = Some(evil.to_owned());
        }
        for row in &mut bench.rows {
            (row.op, row.shape) = (evil.to_owned(), format!("{evil}{}", row.shape));
            (row.dtype, row.device) = (evil.to_owned(), evil.to_owned());
        }
        for row in &mut results.metal.as_mut().unwrap().rows {
            (row.op, row.dtype) = (evil.to_owned(), evil.to_owned());
        }
        let page = made(&results);
        assert!(!page.contains("<script"));
        assert!(!page.contains("&\"'"));
    }

    #[test]
    fn partial_and_missing_results_are_named() {
        let mut results = results();
        results.bench.as_mut().unwrap().finished = false;
        results.metal = None;
        let page = made(&results);
        assert!(page.contains("Partial:") && page.contains("verify-metal.json"));
        let page = made(&Results {
            cpu: Some(fixture::verify()),
            ..Results::default()
        });
        assert!(page.contains("bench.json") && !page.contains("id=\"ratios\""));
        let page = made(&Results {
            bench: Some(fixture::small()),
            ..Results::default()
        });
        assert!(page.contains("id=\"ratios\"") && !page.contains("id=\"sizes\""));
    }
}
