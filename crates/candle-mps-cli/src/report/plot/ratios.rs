//! The ratios of every row on one logarithmic axis: a mark for each peer with its interval. Ours is
//! the line at 1; left of it, on shaded ground, we lose.

use super::{Axis, Drawing, Width, colour, escape, legend, mark, shortened, span};
use crate::decision::{Answer, Choice, Decided, Decision, GO, WORTHWHILE};
use crate::report::figures::times;
use crate::results::bench::{Bench, Cell, Ratio, Row, Verdict};

const TICKS: [f64; 18] = [
    0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 3.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0,
    1000.0, 10_000.0,
];

/// A row that has something to show.
struct Line<'a> {
    row: &'a Row,
    decided: Option<(Choice, Ratio, &'a str)>,
    /// The place of the peer among the columns, its ratio, and whether it is of another run.
    points: Vec<(usize, Ratio, bool)>,
}

/// The plot with its legend; none if there is no ratio.
pub fn draw(bench: &Bench, decision: &Decision, width: Width) -> Option<Drawing> {
    let mut lines: Vec<_> = decision
        .rows
        .iter()
        .filter_map(|it| Line::of(bench, it))
        .collect();
    lines.sort_by(|a, b| b.order().total_cmp(&a.order()));
    let ends = lines.iter().flat_map(|line| &line.points);
    let (low, high) = span(ends.flat_map(|(_, ratio, _)| [ratio.low, ratio.times, ratio.high]))?;
    // Both sides of 1 and both thresholds are always on it.
    let values = (
        (low / 1.15).clamp(0.01, 0.6),
        (high * 1.15).clamp(7.0, 10_000.0),
    );
    let shape = Shape::of(width);
    let axis = Axis::new(values, shape.track);
    let drawn = |peer: usize| {
        let mut points = lines.iter().flat_map(|line| &line.points);
        points.any(|(it, ..)| *it == peer)
    };
    let another = lines.iter().any(|line| line.points.iter().any(|it| it.2));
    let mut drawing = legend(bench, width, drawn, another);
    let mut plot = Drawing {
        width: width.units(),
        height: shape.top + shape.row * lines.len() as f64 + 30.0,
        body: frame(&axis, &shape, lines.len()),
    };
    for (index, line) in lines.iter().enumerate() {
        let top = shape.top + shape.row * index as f64;
        plot.body += &line.draw(bench, &axis, &shape, top);
    }
    drawing.height += 6.0;
    Some(drawing.below(&plot))
}

/// Where things are.
struct Shape {
    /// The left and the right end of the axis.
    track: (f64, f64),
    top: f64,
    row: f64,
    /// Whether the name has a line of its own above the marks.
    above: bool,
}

impl Shape {
    fn of(width: Width) -> Self {
        match width {
            Width::Wide => Self {
                track: (324.0, 980.0),
                top: 70.0,
                row: 24.0,
                above: false,
            },
            Width::Narrow => Self {
                track: (10.0, 350.0),
                top: 62.0,
                row: 46.0,
                above: true,
            },
        }
    }
}

fn frame(axis: &Axis, shape: &Shape, rows: usize) -> String {
    let (left, one) = (shape.track.0, axis.at(1.0));
    let (top, bottom) = (shape.top - 4.0, shape.top + shape.row * rows as f64 + 4.0);
    // Names that stand above their marks are kept free of lines.
    let bands: Vec<_> = match shape.above {
        true => (0..rows)
            .map(|row| shape.top + shape.row * row as f64)
            .collect(),
        false => vec![top],
    };
    let bands = bands.into_iter().map(|from| match shape.above {
        true => (from + 23.0, from + shape.row - 2.0),
        false => (from, bottom),
    });
    let bands: Vec<_> = bands.collect();
    let mut body = String::new();
    for (from, to) in &bands {
        body += &format!(
            "<rect class=\"loss\" x=\"{left:.1}\" y=\"{from:.1}\" width=\"{:.1}\" height=\"{:.1}\"/>",
            one - left,
            to - from
        );
    }
    let line = |class: &str, x: f64| {
        let lines = bands.iter().map(|(from, to)| {
            format!("<line class=\"{class}\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{from:.1}\" y2=\"{to:.1}\"/>")
        });
        lines.collect::<String>()
    };
    let text = |class: &str, x: f64, y: f64, text: &str| {
        format!("<text class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\">{text}</text>")
    };
    let mut last = f64::NEG_INFINITY;
    for value in axis.ticks(TICKS) {
        let x = axis.at(value);
        if x - last < 26.0 && value != 1.0 {
            continue;
        }
        last = x;
        let class = match value {
            1.0 => "one",
            WORTHWHILE | GO => "mark",
            _ => "grid",
        };
        body += &line(class, x);
        for y in [top - 8.0, bottom + 16.0] {
            body += &text("tick", x, y, &format!("{value}x"));
        }
    }
    let head = top - 30.0;
    // On a line of their own, since the thresholds are near.
    let sides = head - 18.0 * f64::from(u8::from(!shape.above));
    body += &text("note lose end", one - 8.0, sides, "slower");
    body += &text("note", one + 8.0, sides, "ours is faster");
    for (value, word) in [(WORTHWHILE, "worthwhile"), (GO, "go")] {
        // On a phone there is no room for both beside each other.
        if !shape.above {
            body += &text("tick", axis.at(value), head, word);
        }
    }
    if !shape.above {
        body += &text(
            "note",
            shape.track.1 + 20.0,
            top - 8.0,
            "against the fastest",
        );
        body += &text("note", shape.track.1 + 20.0, head + 6.0, "decision");
    }
    body
}

impl<'a> Line<'a> {
    fn of(bench: &'a Bench, decided: &'a Decided) -> Option<Self> {
        let row = bench.rows.get(decided.row?)?;
        let points = row.cells.iter().enumerate().filter_map(|(peer, cell)| {
            let ratio = cell.times()?.ratio?;
            (ratio.times > 0.0).then_some((peer, ratio, matches!(cell, Cell::AnotherRun(_))))
        });
        let points: Vec<_> = points.collect();
        let decided = match &decided.answer {
            Answer::Decided {
                choice,
                ratio,
                against,
            } => Some((*choice, *ratio, against.as_str())),
            Answer::Undecided { .. } => None,
        };
        (!points.is_empty()).then_some(Self {
            row,
            decided,
            points,
        })
    }

    /// What rows are sorted by: the ratio that decides, or the least there is.
    fn order(&self) -> f64 {
        let least = || self.points.iter().map(|(_, it, _)| it.times);
        let decided = self.decided.map(|(_, ratio, _)| ratio.times);
        decided.unwrap_or_else(|| least().fold(f64::INFINITY, f64::min))
    }

    fn draw(&self, bench: &Bench, axis: &Axis, shape: &Shape, top: f64) -> String {
        let (left, right) = shape.track;
        let middle = top + if shape.above { 32.0 } else { shape.row / 2.0 };
        let mut body = format!("<g><title>{}</title>", escape(&self.told(bench)));
        body += &format!(
            "<rect class=\"hit\" x=\"0\" y=\"{top:.1}\" width=\"{:.1}\" height=\"{:.1}\"/>\
             <line class=\"grid\" x1=\"{left:.1}\" x2=\"{right:.1}\" y1=\"{middle:.1}\" y2=\"{middle:.1}\"/>",
            right.max(360.0),
            shape.row
        );
        let name = escape(&shortened(&self.name(), if shape.above { 34 } else { 38 }));
        let (said, class) = self.said(shape.above);
        body += &if shape.above {
            format!(
                "<text x=\"{left:.1}\" y=\"{0:.1}\">{name}</text>\
                 <text class=\"end {class}\" x=\"{right:.1}\" y=\"{0:.1}\">{said}</text>",
                top + 18.0
            )
        } else {
            format!(
                "<text class=\"name\" x=\"{:.1}\" y=\"{3:.1}\">{name}</text>\
                 <text class=\"{class}\" x=\"{:.1}\" y=\"{3:.1}\">{}</text>",
                left - 12.0,
                right + 20.0,
                said,
                middle + 4.5
            )
        };
        // Beside each other in height, so that intervals do not hide each other.
        let step = if self.points.len() > 1 {
            13.0 / (self.points.len() - 1) as f64
        } else {
            0.0
        };
        let first = middle - step * (self.points.len() - 1) as f64 / 2.0;
        for (index, (peer, ratio, _)) in self.points.iter().enumerate() {
            let y = first + step * index as f64;
            body += &format!(
                "<line class=\"span {}\" x1=\"{:.1}\" x2=\"{:.1}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>",
                colour(*peer),
                axis.at(ratio.low),
                axis.at(ratio.high)
            );
        }
        for (index, (peer, ratio, another)) in self.points.iter().enumerate() {
            let y = first + step * index as f64;
            body += &mark(*peer, axis.at(ratio.times), y, 4.0, *another);
        }
        body + "</g>"
    }

    /// The row's name; `latency` is what is usual.
    fn name(&self) -> String {
        let mut name = self.row.name();
        if self.row.regime != crate::results::bench::Regime::Latency {
            name += &format!(", {}", self.row.regime);
        }
        if self.row.device != "cpu" {
            name += &format!(", {}", self.row.device);
        }
        name
    }

    /// The decision in short, or `only` its ratio, and its class.
    fn said(&self, only: bool) -> (String, &'static str) {
        let Some((choice, ratio, _)) = self.decided else {
            return ("undecided".to_owned(), "no_go");
        };
        let class = match (choice, ratio.verdict) {
            (_, Verdict::Slower) => "lose",
            (Choice::Go, _) => "go",
            (Choice::Worthwhile, _) => "worthwhile",
            (Choice::NoGo, _) => "no_go",
        };
        let word = match ratio.verdict {
            Verdict::Slower => "slower",
            _ => choice.word(),
        };
        match only {
            true => (times(ratio.times), class),
            false => (format!("{} {word}", times(ratio.times)), class),
        }
    }

    /// All of it in words, as browsers show it beside the pointer.
    fn told(&self, bench: &Bench) -> String {
        let mut text = format!("{}, {}", self.row.name(), self.row.regime);
        if let Some((choice, _, against)) = self.decided {
            text += &format!(": {} against {against}", choice.word());
        }
        for (peer, ratio, another) in &self.points {
            let id = bench.peers.get(*peer).map_or("?", |it| it.id.as_str());
            text += &format!(
                "\n{id}: {} ({} to {}), {}{}",
                times(ratio.times),
                times(ratio.low),
                times(ratio.high),
                ratio.reading(),
                if *another { ", another run" } else { "" }
            );
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::fixture;

    #[test]
    fn every_row_with_a_ratio_has_a_line_sorted_by_what_decides() {
        let bench = fixture::bench();
        let decision = Decision::of(&bench);
        for width in [Width::Wide, Width::Narrow] {
            let drawing = draw(&bench, &decision, width).unwrap();
            let rows = bench.rows.iter();
            let rows = rows.filter(|row| {
                row.cells
                    .iter()
                    .any(|it| it.times().is_some_and(|it| it.ratio.is_some()))
            });
            assert_eq!(drawing.body.matches("<title>").count(), rows.count());
            assert!(drawing.body.contains("class=\"loss\""));
            assert!(!drawing.body.contains("NaN") && !drawing.body.contains("inf"));
            let best = drawing
                .body
                .find("AdamW 4096x4096")
                .or(drawing.body.find("adamw step 4096x4096"));
            let worst = drawing.body.find("matmul 512").unwrap();
            assert!(best.unwrap() < worst);
        }
    }

    #[test]
    fn nothing_to_compare_is_no_plot() {
        let mut bench = fixture::small();
        bench.rows[0].cells.truncate(1);
        assert!(draw(&bench, &Decision::of(&bench), Width::Wide).is_none());
        assert!(
            draw(
                &Bench::default(),
                &Decision::of(&Bench::default()),
                Width::Wide
            )
            .is_none()
        );
    }
}
