//! What was verified, summed for a screen and side by side for a table: the CPU, Metal with our
//! kernels, and MPS.

use crate::report::Results;
use crate::results::Pass;
use crate::results::verify::{Outcome, Row, Training, Verify};

/// Where an op is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    Cpu,
    Metal,
    Mps,
}

impl Place {
    pub const ALL: [Self; 3] = [Self::Cpu, Self::Metal, Self::Mps];

    pub fn name(self) -> &'static str {
        match self {
            Self::Cpu => "CPU",
            Self::Metal => "Metal",
            Self::Mps => "MPS",
        }
    }

    fn file(self, results: &Results) -> Option<&Verify> {
        match self {
            Self::Cpu => results.cpu.as_ref(),
            Self::Metal | Self::Mps => results.metal.as_ref(),
        }
    }

    fn rows(self, results: &Results) -> impl Iterator<Item = &Row> {
        let rows = self.file(results).into_iter().flat_map(|it| &it.rows);
        rows.filter(move |row| self == Self::Cpu || row.mps == (self == Self::Mps))
    }
}

/// The rows of a place in sum.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Sum {
    /// Whether there is a file that could say anything.
    pub verified: bool,
    pub ops: usize,
    pub dtypes: usize,
    pub passes: Vec<Pass>,
    pub ok: usize,
    pub missed: usize,
    pub failed: usize,
    pub not_built: usize,
}

impl Sum {
    /// Sums what was verified at a place.
    pub fn of(results: &Results, place: Place) -> Self {
        let mut sum = Self {
            verified: place.file(results).is_some(),
            ..Self::default()
        };
        let (mut ops, mut dtypes) = (Vec::new(), Vec::new());
        for row in place.rows(results) {
            *match row.outcome {
                Outcome::Ok => &mut sum.ok,
                Outcome::Miss { .. } => &mut sum.missed,
                Outcome::Failed { .. } => &mut sum.failed,
                Outcome::NotBuilt { .. } => {
                    sum.not_built += 1;
                    continue;
                }
            } += 1;
            ops.push(&row.op);
            dtypes.push(&row.dtype);
            sum.passes.push(row.pass);
        }
        ops.sort();
        ops.dedup();
        dtypes.sort();
        dtypes.dedup();
        sum.passes.sort();
        sum.passes.dedup();
        (sum.ops, sum.dtypes) = (ops.len(), dtypes.len());
        sum
    }

    /// How many rows ran.
    pub fn ran(&self) -> usize {
        self.ok + self.missed + self.failed
    }

    /// Whether something is wrong.
    pub fn bad(&self) -> bool {
        self.missed + self.failed > 0
    }

    /// `13 ops x 4 dtypes, forward and backward: 108 of 108 ok`.
    pub fn text(&self) -> String {
        if !self.verified {
            return "not verified".to_owned();
        }
        if self.ran() == 0 {
            return "not built".to_owned();
        }
        let passes: Vec<_> = self
            .passes
            .iter()
            .filter(|it| **it != Pass::Step)
            .map(Pass::to_string)
            .collect();
        let passes = match passes.as_slice() {
            [] => "step".to_owned(),
            passes => passes.join(" and "),
        };
        let plural = |count: usize, what: &str| {
            format!("{count} {what}{}", if count == 1 { "" } else { "s" })
        };
        let mut text = format!(
            "{} x {}, {passes}: {} of {} ok",
            plural(self.ops, "op"),
            plural(self.dtypes, "dtype"),
            self.ok,
            self.ran()
        );
        for (count, what) in [(self.failed, "failed"), (self.not_built, "not built")] {
            if count > 0 {
                text += &format!(", {count} {what}");
            }
        }
        text
    }
}

/// An op, pass and type with what came out at each place.
pub struct Line<'a> {
    pub op: &'a str,
    pub pass: Pass,
    pub dtype: &'a str,
    pub places: [Option<&'a Row>; 3],
}

/// All of them; ops as they come first, types of a pass together.
pub fn lines(results: &Results) -> Vec<Line<'_>> {
    let mut lines: Vec<Line> = Vec::new();
    for (at, place) in Place::ALL.into_iter().enumerate() {
        for row in place.rows(results) {
            let same =
                |it: &&mut Line| it.op == row.op && it.pass == row.pass && it.dtype == row.dtype;
            match lines.iter_mut().find(same) {
                Some(line) => line.places[at] = Some(row),
                None => {
                    let mut places = [None; 3];
                    places[at] = Some(row);
                    lines.push(Line {
                        op: &row.op,
                        pass: row.pass,
                        dtype: &row.dtype,
                        places,
                    });
                }
            }
        }
    }
    let mut ops: Vec<&str> = Vec::new();
    for line in &lines {
        if !ops.contains(&line.op) {
            ops.push(line.op);
        }
    }
    lines.sort_by_key(|line| (ops.iter().position(|op| *op == line.op), line.pass));
    lines
}

/// Through which ops gradients arrive; the CPU says it first.
pub fn trained(results: &Results) -> Option<&[Training]> {
    let mut training = results.verified().map(|it| it.training.as_slice());
    training.find(|it| !it.is_empty())
}

/// Behind how many ops gradients arrive: through Candle's, through ours, of how many.
pub fn gradients(results: &Results) -> Option<(usize, usize, usize)> {
    let training = trained(results)?;
    let candles = training.iter().filter(|it| it.through_candles).count();
    let ours = training.iter().filter(|it| it.through_ours).count();
    Some((candles, ours, training.len()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::fixture;

    fn results() -> Results {
        Results {
            bench: None,
            cpu: Some(fixture::verify()),
            metal: Some(fixture::verify_metal()),
            ..Results::default()
        }
    }

    #[test]
    fn places_are_told_apart() {
        let results = results();
        let text = |place| Sum::of(&results, place).text();
        assert_eq!(
            text(Place::Cpu),
            "14 ops x 4 dtypes, forward and backward: 108 of 108 ok"
        );
        assert_eq!(text(Place::Metal), "not built");
        assert_eq!(
            text(Place::Mps),
            "3 ops x 2 dtypes, forward: 4 of 5 ok, 7 not built"
        );
        assert!(Sum::of(&results, Place::Mps).bad());
        assert_eq!(
            Sum::of(&Results::default(), Place::Mps).text(),
            "not verified"
        );
    }

    #[test]
    fn lines_have_every_place() {
        let results = results();
        let lines = lines(&results);
        assert_eq!(lines.len(), 108);
        let softmax = lines
            .iter()
            .find(|it| it.op == "softmax" && it.dtype == "f16")
            .unwrap();
        assert!(softmax.places.iter().all(Option::is_some));
        assert!(lines.is_sorted_by(|a, b| a.op != b.op || a.pass <= b.pass));
    }

    #[test]
    fn gradients_are_counted_where_they_were_looked_for() {
        assert_eq!(gradients(&results()), Some((3, 8, 8)));
        assert_eq!(gradients(&Results::default()), None);
    }
}
