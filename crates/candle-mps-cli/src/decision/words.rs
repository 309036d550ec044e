//! The decision in words: its summary, its file, and what its words mean.

use std::fmt::Write;

use super::{Answer, Counts, Decision, GO, ON_A_MAC, WORTHWHILE};
use crate::report::figures::times;
use crate::results::bench::Bench;

impl Decision {
    /// The file for people: the summary, the table, what the words mean.
    pub fn markdown(&self, bench: &Bench) -> String {
        let mut text = format!("# Decision\n\n{}\n\n", cell(&self.summary));
        // Writing to a string does not fail.
        let _ = writeln!(
            text,
            "candle-mps {}, `{}`, on {} with {} threads.\n",
            bench.version,
            bench.command,
            cell(&bench.machine.processor),
            bench.machine.threads
        );
        text.push_str("| op | device | regime | decision | ratio | reading | against |\n");
        text.push_str("|---|---|---|---|---:|---|---|\n");
        for row in &self.rows {
            let regime = row.regime.map_or("–".to_owned(), |it| it.to_string());
            let _ = write!(
                text,
                "| {} | {} | {regime} | ",
                cell(&row.name),
                cell(&row.device)
            );
            let _ = match &row.answer {
                Answer::Decided {
                    choice,
                    ratio,
                    against,
                } => writeln!(
                    text,
                    "{} | {} ({} to {}) | {} | {} |",
                    choice.word(),
                    times(ratio.times),
                    times(ratio.low),
                    times(ratio.high),
                    ratio.reading(),
                    cell(against),
                ),
                Answer::Undecided { why, .. } => {
                    writeln!(text, "undecided: {} | – | – | – |", cell(why))
                }
            };
        }
        if self.rows.iter().any(|row| row.asks_for_a_mac()) {
            let _ = writeln!(text, "\nOn a Mac:\n\n    {ON_A_MAC}");
        }
        let _ = writeln!(text, "\n## What the words mean\n");
        for (word, meaning) in meanings() {
            let _ = writeln!(text, "- **{word}**: {meaning}");
        }
        text
    }
}

impl Counts {
    /// The plain reading of all rows, in one line.
    pub fn reading(&self) -> String {
        let Self {
            faster,
            slower,
            no_difference,
            unclear,
            ..
        } = self;
        let mut text = format!(
            "faster in {faster} of {} rows, slower in {slower}",
            self.decided()
        );
        if *no_difference > 0 {
            let _ = write!(text, ", as fast in {no_difference}");
        }
        if *unclear > 0 {
            let _ = write!(text, ", unclear in {unclear}");
        }
        text
    }

    pub(super) fn summary(&self, bench: &Bench) -> String {
        let Self {
            go,
            worthwhile,
            no_go,
            undecided,
            ..
        } = self;
        let baselines = bench.peers.iter().filter(|peer| peer.baseline);
        let baselines: Vec<_> = baselines.map(|peer| peer.title.as_str()).collect();
        let mut text = match baselines.as_slice() {
            [] => "No baseline was asked to run, so nothing is decided.".to_owned(),
            baselines => format!(
                "Ours is {}: {go} go, {worthwhile} worthwhile, {no_go} no-go, against {}.",
                self.reading(),
                match baselines {
                    [one] => (*one).to_owned(),
                    several => format!("the fastest of {}", several.join(" and ")),
                }
            ),
        };
        if *undecided > 0 {
            let _ = write!(text, " Undecided: {undecided}.");
        }
        if !bench.finished {
            text.push_str(" The run did not end: more rows may be missing.");
        }
        text
    }
}

/// The words of the table, explained.
pub fn meanings() -> [(&'static str, String); 5] {
    [
        ("ratio", "the baseline's time by ours, the median of pairs that were measured one after the other, \
          and between which values it lies: above 1 we are faster".to_owned()),
        ("go, worthwhile, no-go", format!("a ratio of {GO} or more, of {WORTHWHILE} or more, below. A no-go \
          may still be faster: the reading says so")),
        ("reading", "faster or slower if the interval says so; no difference if it does not leave the \
          neighbourhood of 1; unclear if it is wide and has both sides in it".to_owned()),
        ("against", "the fastest of the well-configured baselines that took turns with ours in this run; \
          Candle as it comes and figures of another run never decide".to_owned()),
        ("undecided", "nothing was measured that could decide it; the reason stands beside it".to_owned()),
    ]
}

/// A text from outside as a cell of a Markdown table.
fn cell(text: &str) -> String {
    let mut clean = String::new();
    for character in text.chars() {
        match character {
            '|' | '<' | '>' | '*' | '`' | '[' | ']' => clean.extend(['\\', character]),
            character if character.is_control() => clean.push(' '),
            character => clean.push(character),
        }
    }
    clean
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::fixture;

    #[test]
    fn the_file_has_every_row_and_is_clean() {
        let bench = fixture::bench();
        let decision = Decision::of(&bench);
        let text = decision.markdown(&bench);
        assert!(
            text.starts_with("# Decision\n\nOurs is faster in 56 of 60 rows"),
            "{text}"
        );
        let table: Vec<_> = text.lines().filter(|line| line.starts_with("| ")).collect();
        assert_eq!(table.len(), decision.rows.len() + 1);
        assert!(
            table
                .iter()
                .all(|line| line.replace("\\|", "").matches('|').count() == 8),
            "{text}"
        );
        assert!(text.contains("slower") && text.contains(ON_A_MAC), "{text}");
        let Counts {
            faster,
            slower,
            no_difference,
            unclear,
            ..
        } = decision.counts;
        assert_eq!(
            faster + slower + no_difference + unclear,
            decision.counts.decided()
        );
        assert_eq!(
            decision.counts.decided() + decision.counts.undecided,
            decision.rows.len()
        );
        assert_eq!(cell("a|b<c>\nd"), "a\\|b\\<c\\> d");
    }
}
