//! Plots as SVG. Colours are variables that the page sets for light and dark, and that `png`
//! replaces by those of the light one. Each peer has a colour and a shape, so that a reader needs
//! only one of them.

pub mod ratios;
pub mod sizes;

use crate::results::bench::Bench;

/// Rules of all plots, for the page and for files. Only selectors and properties that resvg knows.
pub const CSS: &str = include_str!("plot.css");

/// How wide a plot is: on a desk, and on a phone, where a plot that only shrinks cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Width {
    Wide,
    Narrow,
}

impl Width {
    /// In units of CSS.
    pub fn units(self) -> f64 {
        match self {
            Self::Wide => 1132.0,
            Self::Narrow => 360.0,
        }
    }

    /// The class that shows a plot only where it fits.
    pub fn class(self) -> &'static str {
        match self {
            Self::Wide => "wide",
            Self::Narrow => "narrow",
        }
    }
}

/// What is drawn, without the element `svg` around it.
pub struct Drawing {
    pub width: f64,
    pub height: f64,
    pub body: String,
}

impl Drawing {
    /// A file of its own.
    pub fn file(&self) -> String {
        let Self {
            width,
            height,
            body,
        } = self;
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width:.0}\" height=\"{height:.0}\" \
             viewBox=\"0 0 {width:.0} {height:.0}\"><style>{CSS}</style><g class=\"plot\">{body}</g></svg>"
        )
    }

    /// A part of the page, named for those who do not see it.
    pub fn inline(&self, class: &str, name: &str) -> String {
        let Self {
            width,
            height,
            body,
        } = self;
        format!(
            "<svg class=\"plot {class}\" role=\"img\" viewBox=\"0 0 {width:.0} {height:.0}\" \
             aria-label=\"{}\">{body}</svg>",
            escape(name)
        )
    }

    /// One below the other.
    pub fn below(mut self, other: &Self) -> Self {
        self.place(other, 0.0, self.height);
        self
    }

    /// Puts another into this one, which grows if need be.
    pub fn place(&mut self, other: &Self, x: f64, y: f64) {
        self.body += &format!(
            "<g transform=\"translate({x:.1} {y:.1})\">{}</g>",
            other.body
        );
        self.width = self.width.max(x + other.width);
        self.height = self.height.max(y + other.height);
    }
}

/// A logarithmic axis.
pub struct Axis {
    /// The values at both ends.
    values: (f64, f64),
    /// Where the ends are.
    places: (f64, f64),
}

impl Axis {
    pub fn new(values: (f64, f64), places: (f64, f64)) -> Self {
        Self { values, places }
    }

    /// Where a value is; what is beyond an end is at the end.
    pub fn at(&self, value: f64) -> f64 {
        let (low, high) = (self.values.0.ln(), self.values.1.ln());
        let part = (value.max(f64::MIN_POSITIVE).ln() - low) / (high - low).max(1e-9);
        self.places.0 + part.clamp(0.0, 1.0) * (self.places.1 - self.places.0)
    }

    /// Those of `values` that are on it.
    pub fn ticks(&self, values: impl IntoIterator<Item = f64>) -> Vec<f64> {
        let on = |value: &f64| *value >= self.values.0 && *value <= self.values.1;
        values.into_iter().filter(on).collect()
    }
}

/// The smallest and the largest of the values that a logarithm exists of.
pub fn span(values: impl IntoIterator<Item = f64>) -> Option<(f64, f64)> {
    let values = values.into_iter().filter(|it| *it > 0.0 && it.is_finite());
    values.fold(None, |span, value| match span {
        None => Some((value, value)),
        Some((low, high)) => Some((f64::min(low, value), f64::max(high, value))),
    })
}

/// The mark of a peer: a shape and a colour by its place among the columns; hollow if `another` run's.
pub fn mark(peer: usize, x: f64, y: f64, size: f64, another: bool) -> String {
    let class = format!("m {}{}", colour(peer), if another { " hollow" } else { "" });
    let (l, r, t, b) = (x - size, x + size, y - size, y + size);
    match peer {
        0 => format!("<circle class=\"{class}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"{size:.1}\"/>"),
        _ => match (peer - 1) % 6 {
            0 => polygon(&class, &[(l, t), (r, t), (r, b), (l, b)], 0.85, (x, y)),
            1 => format!("<circle class=\"{class}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"{size:.1}\"/>"),
            2 => polygon(&class, &[(x, t), (r, b), (l, b)], 1.1, (x, y)),
            3 => polygon(&class, &[(x, t), (r, y), (x, b), (l, y)], 1.3, (x, y)),
            4 => polygon(&class, &[(l, t), (r, t), (x, b)], 1.1, (x, y)),
            _ => polygon(
                &class,
                &[(l, t), (x, y), (r, t), (r, b), (x, y), (l, b)],
                1.0,
                (x, y),
            ),
        },
    }
}

fn polygon(class: &str, points: &[(f64, f64)], grown: f64, (x, y): (f64, f64)) -> String {
    let points = points.iter().map(|(a, b)| {
        let (a, b) = (x + (a - x) * grown, y + (b - y) * grown);
        format!("{a:.1},{b:.1}")
    });
    let points = points.collect::<Vec<_>>().join(" ");
    format!("<polygon class=\"{class}\" points=\"{points}\"/>")
}

/// The class of a peer's colour.
pub fn colour(peer: usize) -> String {
    match peer {
        0 => "p0".to_owned(),
        peer => format!("p{}", (peer - 1) % 6 + 1),
    }
}

/// Which mark is whose, for the peers that `shown` says are drawn.
pub fn legend(
    bench: &Bench,
    width: Width,
    shown: impl Fn(usize) -> bool,
    another: bool,
) -> Drawing {
    let (mut x, mut y) = (8.0, 14.0);
    let mut body = String::new();
    let names = bench.peers.iter().enumerate();
    let names = names.filter(|(peer, _)| shown(*peer));
    let mut entries: Vec<_> = names
        .map(|(peer, it)| (peer, shortened(&it.id, 24), false))
        .collect();
    if another {
        entries.push((2, "hollow: another run".to_owned(), true));
    }
    for (peer, name, hollow) in entries {
        let wide = 24.0 + text_width(&name, 13.0);
        if x > 8.0 && x + wide > width.units() {
            (x, y) = (8.0, y + 22.0);
        }
        body += &mark(peer, x, y, 5.0, hollow);
        body += &format!(
            "<text class=\"label\" x=\"{:.1}\" y=\"{:.1}\">{}</text>",
            x + 10.0,
            y + 4.5,
            escape(&name)
        );
        x += wide + 8.0;
    }
    Drawing {
        width: width.units(),
        height: y + 16.0,
        body,
    }
}

/// About how wide a text is; the fonts of browsers differ.
pub fn text_width(text: &str, size: f64) -> f64 {
    text.chars().count() as f64 * size * 0.62
}

/// At most so many characters; what is missing is an ellipsis.
pub fn shortened(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    let mut short: String = text.chars().take(most.saturating_sub(1)).collect();
    short.push('…');
    short
}

/// Text from outside as text or as a value in HTML and SVG.
pub fn escape(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            // SVG is XML, in which there is no way to write these.
            character if character.is_control() && !matches!(character, '\n' | '\t') => {
                safe.push('\u{fffd}')
            }
            character => safe.push(character),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_are_logarithmic_and_keep_to_their_ends() {
        let axis = Axis::new((1.0, 100.0), (0.0, 200.0));
        assert!((axis.at(10.0) - 100.0).abs() < 1e-9);
        assert_eq!(axis.at(0.0), 0.0);
        assert_eq!(axis.at(1e9), 200.0);
        assert_eq!(axis.ticks([0.5, 1.0, 5.0, 500.0]), [1.0, 5.0]);
        let flat = Axis::new((3.0, 3.0), (0.0, 9.0));
        assert!(flat.at(3.0).is_finite());
        assert_eq!(span([0.0, -1.0, f64::NAN]), None);
        assert_eq!(span([2.0, 0.0, 1.0]), Some((1.0, 2.0)));
    }

    #[test]
    fn text_from_outside_stays_text() {
        assert_eq!(
            escape("<a href='x'>&\"\u{1b}"),
            "&lt;a href=&#39;x&#39;&gt;&amp;&quot;\u{fffd}"
        );
        assert_eq!(shortened("abcdef", 4), "abc…");
        assert_eq!(shortened("äbcd", 4), "äbcd");
    }

    #[test]
    fn no_two_of_the_first_peers_look_alike() {
        let marks: Vec<_> = (1..=6)
            .map(|peer| mark(peer, 0.0, 0.0, 5.0, false))
            .collect();
        for (index, mark) in marks.iter().enumerate() {
            assert!(!marks[..index].contains(mark), "{mark}");
        }
        assert!(mark(9, 0.0, 0.0, 5.0, true).contains("hollow"));
    }
}
