//! Figures as every part of the report writes them: few digits, and the unit that keeps them short.

use crate::results::bench::{Limits, Row};

/// A ratio: `6.05x`, `33.6x`.
pub fn times(ratio: f64) -> String {
    format!("{}x", digits(ratio))
}

/// A time: `2.1 µs`.
pub fn time(seconds: f64) -> String {
    let (value, unit) = match seconds {
        s if s < 0.999_5e-6 => (s * 1e9, "ns"),
        s if s < 0.999_5e-3 => (s * 1e6, "µs"),
        s if s < 0.999_5 => (s * 1e3, "ms"),
        s => (s, "s"),
    };
    format!("{} {unit}", digits(value))
}

/// An error or a bound: `1.2e-7`.
pub fn error(value: f64) -> String {
    if value == 0.0 {
        "0".to_owned()
    } else {
        format!("{value:.1e}")
    }
}

/// A number of bytes: `24 GB`, by thousands as the rates beside it.
pub fn bytes(value: f64) -> String {
    scaled(value, ["B", "kB", "MB", "GB", "TB"])
}

/// A number of operations: `2.1 GFLOP`.
pub fn operations(value: f64) -> String {
    scaled(value, ["FLOP", "kFLOP", "MFLOP", "GFLOP", "TFLOP"])
}

/// Three digits, as far as they are behind the point.
pub fn digits(value: f64) -> String {
    match value.abs() {
        v if v < 9.995 => format!("{value:.2}"),
        v if v < 99.95 => format!("{value:.1}"),
        _ => format!("{value:.0}"),
    }
}

fn scaled(mut value: f64, units: [&str; 5]) -> String {
    let mut unit = 0;
    while value >= 999.5 && unit + 1 < units.len() {
        (value, unit) = (value / 1e3, unit + 1);
    }
    let digits = if value < 9.95 && value.fract() != 0.0 {
        1
    } else {
        0
    };
    format!("{value:.digits$} {}", units[unit])
}

/// Whether the limits are of the device of a row: they are the processor's.
fn limited(row: &Row) -> bool {
    row.device == "cpu"
}

/// How fast a peer was in a row, beside what the machine can do.
pub struct Rate {
    pub per_second: f64,
    /// The machine's; none if it was not measured.
    pub limit: Option<f64>,
}

impl Rate {
    /// Bytes in GB/s, beside a copy of about as many.
    pub fn of_bytes(row: &Row, seconds: f64, limits: &Limits) -> Self {
        let far = |bytes: u64| ((bytes as f64).ln() - row.bytes.max(1.0).ln()).abs();
        let nearest = limits.copies.iter();
        let nearest = nearest.min_by(|(a, _), (b, _)| far(*a).total_cmp(&far(*b)));
        Self {
            per_second: row.bytes / seconds / 1e9,
            limit: nearest.map(|(_, rate)| *rate).filter(|_| limited(row)),
        }
    }

    /// Operations in GFLOP/s.
    pub fn of_operations(row: &Row, seconds: f64, limits: &Limits) -> Self {
        Self {
            per_second: row.flops / seconds / 1e9,
            limit: Some(limits.gflops).filter(|it| *it > 0.0 && limited(row)),
        }
    }

    /// `33.4 of 41.0`, or a dash where nothing was counted.
    pub fn text(&self) -> String {
        match self.limit {
            _ if self.per_second <= 0.0 || !self.per_second.is_finite() => "–".to_owned(),
            Some(limit) => format!("{} of {}", digits(self.per_second), digits(limit)),
            None => digits(self.per_second),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_short() {
        assert_eq!(times(6.0451), "6.05x");
        assert_eq!(times(9.999), "10.0x");
        assert_eq!(times(33.61), "33.6x");
        assert_eq!(time(5e-7), "500 ns");
        assert_eq!(time(0.999_9e-6), "1.00 µs");
        assert_eq!(time(36.6614e-3), "36.7 ms");
        assert_eq!(time(2.5), "2.50 s");
        assert_eq!(error(0.0), "0");
        assert_eq!(error(1.234e-7), "1.2e-7");
        assert_eq!(bytes(8850.0), "8.8 kB");
        assert_eq!(bytes(134_217_728.0), "134 MB");
        assert_eq!(operations(999_999.0), "1.0 MFLOP");
        assert_eq!(operations(12.0), "12 FLOP");
    }

    #[test]
    fn rates_stand_beside_the_nearest_limit() {
        let mut row = crate::report::fixture::small().rows.swap_remove(0);
        (row.bytes, row.flops) = (1.2e6, 0.0);
        let limits = Limits {
            gflops: 500.0,
            copies: vec![(8192, 120.0), (1 << 20, 41.0), (1 << 27, 27.0)],
        };
        assert_eq!(Rate::of_bytes(&row, 36e-6, &limits).text(), "33.3 of 41.0");
        assert_eq!(Rate::of_operations(&row, 36e-6, &limits).text(), "–");
        assert_eq!(
            Rate::of_bytes(&row, 36e-6, &Limits::default()).text(),
            "33.3"
        );
    }
}
