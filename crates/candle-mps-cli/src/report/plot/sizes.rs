//! What an op costs over its size, peers as lines: a panel for each op that was measured at several
//! sizes. Both axes are logarithmic, so a cost that grows with the work is a straight line.

use super::{Axis, Drawing, Width, colour, escape, legend, mark, shortened, span, text_width};
use crate::report::figures::{bytes, operations, time};
use crate::results::Pass;
use crate::results::bench::{Bench, Cell, Regime, Row};

const WIDE: f64 = 320.0;
const HIGH: f64 = 240.0;

/// Operations for a byte from which on the work is counted in operations.
const INTENSE: f64 = 4.0;

/// An op with its rows, smallest first.
pub struct Panel<'a> {
    bench: &'a Bench,
    rows: Vec<&'a Row>,
    /// Whether the size is counted in operations, otherwise in bytes.
    operations: bool,
    /// Whether other sizes of the op have a panel of their own.
    several: bool,
}

/// The ops with several sizes. Sizes of an op that differ in more than their numbers are apart:
/// `1024` and `1x2048x2048` are other work.
pub fn panels(bench: &Bench) -> Vec<Panel<'_>> {
    let mut groups: Vec<(String, Vec<&Row>)> = Vec::new();
    for row in bench.rows.iter().filter(|row| points(row).next().is_some()) {
        let Row {
            op,
            pass,
            dtype,
            regime,
            device,
            ..
        } = row;
        let key = format!("{op} {pass} {dtype} {regime} {device} {}", kind(&row.shape));
        match groups.iter_mut().find(|(other, _)| *other == key) {
            Some((_, rows)) => rows.push(row),
            None => groups.push((key, vec![row])),
        }
    }
    let panels = groups.into_iter().filter_map(|(_, mut rows)| {
        let operations = rows.iter().any(|row| row.flops > INTENSE * row.bytes);
        let size = |row: &Row| if operations { row.flops } else { row.bytes };
        rows.retain(|row| size(row) > 0.0);
        rows.sort_by(|a, b| size(a).total_cmp(&size(b)));
        (rows.len() > 1).then_some(Panel {
            bench,
            rows,
            operations,
            several: false,
        })
    });
    let mut panels: Vec<_> = panels.collect();
    let titles: Vec<_> = panels.iter().map(Panel::title).collect();
    for (panel, title) in panels.iter_mut().zip(&titles) {
        panel.several = titles.iter().filter(|it| *it == title).count() > 1;
    }
    panels
}

/// All panels as one picture, with the legend above.
pub fn draw(bench: &Bench, width: Width) -> Option<Drawing> {
    let panels = panels(bench);
    if panels.is_empty() {
        return None;
    }
    let mut drawing = key(bench, width);
    let across = ((width.units() / WIDE) as usize).max(1);
    let top = drawing.height + 6.0;
    for (index, panel) in panels.iter().enumerate() {
        let (column, row) = ((index % across) as f64, (index / across) as f64);
        drawing.place(
            &panel.draw(),
            column * (WIDE + 8.0),
            top + row * (HIGH + 12.0),
        );
    }
    Some(drawing)
}

/// The legend of all panels.
pub fn key(bench: &Bench, width: Width) -> Drawing {
    let panels = panels(bench);
    let rows = || panels.iter().flat_map(|panel| &panel.rows);
    let drawn = |peer: usize| rows().any(|row| points(row).any(|(it, ..)| it == peer));
    let another = rows().any(|row| points(row).any(|(_, _, another)| another));
    legend(bench, width, drawn, another)
}

/// The times in a row: the peer's place, the seconds, whether they are of another run.
fn points(row: &Row) -> impl Iterator<Item = (usize, f64, bool)> {
    row.cells.iter().enumerate().filter_map(|(peer, cell)| {
        let median = cell.times()?.median;
        (median > 0.0).then_some((peer, median, matches!(cell, Cell::AnotherRun(_))))
    })
}

/// A shape without its numbers.
fn kind(shape: &str) -> String {
    let mut kind = String::new();
    for character in shape.chars() {
        match character {
            '0'..='9' if kind.ends_with('#') => {}
            '0'..='9' => kind.push('#'),
            character => kind.push(character),
        }
    }
    kind
}

impl Panel<'_> {
    /// The op as a title, with what is not usual.
    pub fn title(&self) -> String {
        let Some(row) = self.rows.first() else {
            return String::new();
        };
        let mut title = row.op.clone();
        if self.several {
            title += &format!(" from {}", row.shape);
        }
        if row.pass != Pass::Forward {
            title += &format!(" {}", row.pass);
        }
        if row.dtype != "f32" {
            title += &format!(" {}", row.dtype);
        }
        if row.device != "cpu" {
            title += &format!(" on {}", row.device);
        }
        match row.regime {
            Regime::Latency => title,
            regime => format!("{title}, {regime}"),
        }
    }

    /// What it shows, for those who do not see it.
    pub fn told(&self) -> String {
        let ends = self.rows.first().zip(self.rows.last());
        let ends = ends.map(|(a, b)| format!(" from {} to {}", a.shape, b.shape));
        format!(
            "Time of {} over size{}",
            self.title(),
            ends.unwrap_or_default()
        )
    }

    fn size(&self, row: &Row) -> f64 {
        if self.operations {
            row.flops
        } else {
            row.bytes
        }
    }

    /// The panel alone.
    pub fn draw(&self) -> Drawing {
        let (left, right, top, bottom) = (58.0, WIDE - 16.0, 34.0, HIGH - 42.0);
        let title = shortened(&self.title(), 33);
        // Above the frame, unless it is too long for that. Its letters are bold.
        let start = (WIDE - text_width(&title, 15.0)).clamp(4.0, left);
        let title = escape(&title);
        let mut body = format!("<text class=\"head\" x=\"{start:.1}\" y=\"20\">{title}</text>");
        let times = || self.rows.iter().flat_map(|row| points(row));
        let sizes = span(self.rows.iter().map(|row| self.size(row)));
        let (Some(x), Some(y)) = (sizes, span(times().map(|(_, seconds, _)| seconds))) else {
            return Drawing {
                width: WIDE,
                height: HIGH,
                body,
            };
        };
        let x = Axis::new(x, (left + 14.0, right - 14.0));
        let y = Axis::new((y.0 / 1.4, y.1 * 1.4), (bottom, top));
        body += &format!(
            "<rect class=\"frame\" x=\"{left}\" y=\"{top}\" width=\"{}\" height=\"{}\"/>",
            right - left,
            bottom - top
        );
        body += &self.scale(&y, left, right);
        body += &self.shapes(&x, bottom);
        for peer in (0..self.bench.peers.len()).rev() {
            body += &self.curve(peer, &x, &y);
        }
        Drawing {
            width: WIDE,
            height: HIGH,
            body,
        }
    }

    /// Lines at powers of ten, or at more if there are few of those.
    fn scale(&self, y: &Axis, left: f64, right: f64) -> String {
        let powers = |steps: &[f64]| {
            let powers = (-10..4).map(|power| 10f64.powi(power));
            let values: Vec<_> = powers
                .flat_map(|it| steps.iter().map(move |step| it * step))
                .collect();
            y.ticks(values)
        };
        let mut ticks = powers(&[1.0]);
        if ticks.len() < 3 {
            ticks = powers(&[1.0, 3.0]);
        }
        let lines = ticks.into_iter().map(|value| {
            let at = y.at(value);
            let label = time(value).replace(".00", "").replace(".0", "");
            format!(
                "<line class=\"grid\" x1=\"{left}\" x2=\"{right}\" y1=\"{at:.1}\" y2=\"{at:.1}\"/>\
                 <text class=\"side\" x=\"{:.1}\" y=\"{:.1}\">{label}</text>",
                left - 6.0,
                at + 4.0
            )
        });
        lines.collect()
    }

    /// The shapes below the axis, as many as have room, and what is counted.
    fn shapes(&self, x: &Axis, bottom: f64) -> String {
        let mut body = String::new();
        // The ends keep within the picture, whatever is beneath them.
        // What numbers do not say is in the title.
        let label = |row: &Row| shortened(row.shape.split(',').next().unwrap_or_default(), 28);
        let half = |row: &Row| text_width(&label(row), 12.0) / 2.0;
        let middle = |row: &Row| {
            let most = (WIDE - half(row) - 2.0).max(half(row) + 2.0);
            x.at(self.size(row)).clamp(half(row) + 2.0, most)
        };
        let last = self.rows.len() - 1;
        let room = middle(self.rows[last]) - half(self.rows[last]) - 6.0;
        let mut free = f64::NEG_INFINITY;
        for (index, row) in self.rows.iter().enumerate() {
            let at = x.at(self.size(row));
            body += &format!(
                "<line class=\"grid\" x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"{bottom:.1}\" y2=\"{:.1}\"/>",
                bottom + 5.0
            );
            let (start, end) = (middle(row) - half(row), middle(row) + half(row));
            if start < free || (index < last && index > 0 && end > room) {
                continue;
            }
            free = end + 6.0;
            body += &format!(
                "<text class=\"tick\" x=\"{:.1}\" y=\"{:.1}\">{}</text>",
                middle(row),
                bottom + 18.0,
                escape(&label(row))
            );
        }
        let count = |row: &Row| match self.operations {
            true => operations(self.size(row)),
            false => bytes(self.size(row)),
        };
        if let Some((first, last)) = self.rows.first().zip(self.rows.last()) {
            body += &format!(
                "<text class=\"tick\" x=\"{:.1}\" y=\"{:.1}\">{} to {}</text>",
                (x.at(self.size(first)) + x.at(self.size(last))) / 2.0,
                bottom + 35.0,
                count(first),
                count(last)
            );
        }
        body
    }

    fn curve(&self, peer: usize, x: &Axis, y: &Axis) -> String {
        let points = self.rows.iter().filter_map(|row| {
            let (_, seconds, another) = points(row).find(|(it, ..)| *it == peer)?;
            Some((x.at(self.size(row)), y.at(seconds), another))
        });
        let points: Vec<_> = points.collect();
        let line: Vec<_> = points
            .iter()
            .map(|(x, y, _)| format!("{x:.1},{y:.1}"))
            .collect();
        let class = colour(peer);
        let mut body = format!(
            "<polyline class=\"curve {class}\" points=\"{}\"/>",
            line.join(" ")
        );
        for (x, y, another) in points {
            body += &mark(peer, x, y, 3.5, another);
        }
        body
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::fixture;

    #[test]
    fn sizes_of_an_op_are_together_if_only_numbers_differ() {
        assert_eq!(kind("1x2048 r16, W [out, in]"), "#x# r#, W [out, in]");
        let bench = fixture::bench();
        let panels = panels(&bench);
        let matmul = panels
            .iter()
            .filter(|it| it.title().starts_with("matmul from"));
        let matmul: Vec<_> = matmul.collect();
        assert_eq!(matmul.len(), 2, "squares, and thin ones");
        assert_eq!(matmul[0].rows.len(), 6);
        assert!(
            panels
                .iter()
                .all(|it| it.rows.is_sorted_by_key(|row| row.bytes))
        );
        assert!(panels.iter().all(|it| !it.draw().body.contains("NaN")));
    }

    #[test]
    fn one_size_is_no_curve() {
        assert!(draw(&fixture::small(), Width::Wide).is_none());
        assert!(draw(&fixture::bench(), Width::Wide).unwrap().height > HIGH);
    }
}
