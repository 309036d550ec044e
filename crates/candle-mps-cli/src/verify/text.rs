//! The results as a reader sees them on a terminal of 80 columns: an op and a type a line, what went wrong
//! below the table, the answer at the end.

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::path::Path;

use crate::results::Pass;
use crate::results::verify::{Conformance, Outcome, Probe, Row, Training, Verify};
use crate::style::{BAD, FAINT, GOOD, TOPIC};

/// Writes everything with colours; the caller's stream drops those that nobody would see.
pub fn write(results: &Verify, written: Option<&Path>, out: &mut impl Write) -> io::Result<()> {
    let run: Vec<&Row> = results.rows.iter().filter(|row| !not_built(row)).collect();
    writeln!(
        out,
        "{TOPIC}{:<19} {:<5} {:<21} {:<21} {TOPIC:#}",
        "op", "type", "forward error/bound", "backward error/bound"
    )?;
    // The rows of a pass come in the order of the ops, backward behind forward.
    for row in run.iter().filter(|row| row.pass != Pass::Backward) {
        let backward = run
            .iter()
            .find(|it| it.pass == Pass::Backward && (&it.op, &it.dtype) == (&row.op, &row.dtype));
        write_line(row, backward.copied(), out)?;
    }
    write_not_built(results, out)?;
    for row in &run {
        write_wrong(row, out)?;
    }
    writeln!(out)?;
    if !results.training.is_empty() {
        writeln!(out, "{}", training(&results.training))?;
    }
    if let Some(conformance) = &results.conformance {
        write_conformance(conformance, out)?;
    }
    if !results.probes.is_empty() {
        write_probes(&results.probes, out)?;
    }
    let style = if results.ok { GOOD } else { BAD };
    writeln!(out, "{style}{}{style:#}", summary(results))?;
    match written {
        Some(path) if results.device == "metal" => writeln!(
            out,
            "written to {}\nto report this machine, attach that file to an issue, whatever it says",
            path.display()
        ),
        Some(path) => writeln!(out, "written to {}", path.display()),
        None => Ok(()),
    }
}

fn not_built(row: &Row) -> bool {
    matches!(row.outcome, Outcome::NotBuilt { .. })
}

fn write_line(row: &Row, backward: Option<&Row>, out: &mut impl Write) -> io::Result<()> {
    let name = match row.pass {
        Pass::Step => format!("{} step", row.op),
        _ => row.op.clone(),
    };
    let figures = |row: &Row| match row.error {
        // Candle's own numbers, bit for bit.
        Some(0.) => format!("0 / {:.1e}", row.bound),
        Some(error) => format!("{error:.1e} / {:.1e}", row.bound),
        None => format!("- / {:.1e}", row.bound),
    };
    let rows = [Some(row), backward];
    let ok = rows.iter().flatten().all(|row| row.outcome == Outcome::Ok);
    let (style, word) = if ok { (GOOD, "ok") } else { (BAD, "WRONG") };
    writeln!(
        out,
        "{name:<19} {:<5} {:<21} {:<21} {style}{word}{style:#}",
        row.dtype,
        figures(row),
        backward.map(figures).unwrap_or_default(),
    )
}

/// Ops without figures, once for each reason.
fn write_not_built(results: &Verify, out: &mut impl Write) -> io::Result<()> {
    let reasons: BTreeSet<&str> = results.rows.iter().filter_map(reason).collect();
    for why in reasons {
        let names = names(results.rows.iter().filter(|row| reason(row) == Some(why)));
        writeln!(out, "\n{FAINT}not built{FAINT:#}: {why}")?;
        let mut line = String::new();
        for name in &names {
            if line.len() + name.len() > 75 {
                writeln!(out, "  {line}")?;
                line.clear();
            }
            line = format!("{line}{name} ");
        }
        writeln!(out, "  {}", line.trim_end())?;
    }
    Ok(())
}

fn reason(row: &Row) -> Option<&str> {
    match &row.outcome {
        Outcome::NotBuilt { why } => Some(why),
        _ => None,
    }
}

/// The ops of rows, each once, in their order.
fn names<'a>(rows: impl Iterator<Item = &'a Row>) -> Vec<&'a str> {
    let mut names: Vec<&str> = Vec::new();
    for row in rows {
        if !names.contains(&row.op.as_str()) {
            names.push(&row.op);
        }
    }
    names
}

fn write_wrong(row: &Row, out: &mut impl Write) -> io::Result<()> {
    let (word, what, replay) = match &row.outcome {
        Outcome::Miss { what, replay } => ("missed its bound", what, replay),
        Outcome::Failed { why, replay } => ("failed", why, replay),
        Outcome::Ok | Outcome::NotBuilt { .. } => return Ok(()),
    };
    let Row {
        op, dtype, pass, ..
    } = row;
    writeln!(
        out,
        "\n{BAD}{op} in {dtype}, {pass}, {word}{BAD:#}: {what}\n  again: {replay}"
    )
}

fn training(rows: &[Training]) -> String {
    let count = |arrives: fn(&Training) -> bool| rows.iter().filter(|row| arrives(row)).count();
    let whole = rows.len();
    format!(
        "gradients through Candle's fused ops: {} of {whole}; through ours: {} of {whole}",
        count(|row| row.through_candles),
        count(|row| row.through_ours)
    )
}

fn write_conformance(conformance: &Conformance, out: &mut impl Write) -> io::Result<()> {
    let Conformance {
        kept,
        broken,
        skipped,
    } = conformance;
    for (name, how) in broken {
        writeln!(out, "{BAD}broken{BAD:#}: {name}: {how}")?;
    }
    writeln!(
        out,
        "promises of Metal and MPS: {kept} kept, {} broken, {} not asked",
        broken.len(),
        skipped.len()
    )
}

/// Questions with their answers; none is wrong.
fn write_probes(probes: &[Probe], out: &mut impl Write) -> io::Result<()> {
    writeln!(
        out,
        "\n{TOPIC}probes{TOPIC:#}: what Apple leaves open, and what this machine answers"
    )?;
    for probe in probes {
        writeln!(out, "{:<3} {}", probe.id, probe.question)?;
        let answer = probe.answer.as_deref().unwrap_or("not asked");
        writeln!(out, "    {answer}")?;
        if let Some(detail) = &probe.detail {
            writeln!(out, "    {FAINT}{detail}{FAINT:#}")?;
        }
        if let Some(switch) = &probe.switch {
            writeln!(out, "    {FAINT}simulator: {switch}{FAINT:#}")?;
        }
    }
    writeln!(out)
}

/// `verify: 22 ops x 4 dtypes, forward and backward, 1600 cases: all within bounds`
pub fn summary(results: &Verify) -> String {
    let run = || results.rows.iter().filter(|row| !not_built(row));
    let dtypes: BTreeSet<_> = run().map(|row| &row.dtype).collect();
    // A case runs forward and backward.
    let cases = run().filter(|row| row.pass != Pass::Backward);
    let cases: usize = cases.map(|row| row.cases).sum();
    let count = |is: fn(&Outcome) -> bool| run().filter(|row| is(&row.outcome)).count();
    let missed = count(|outcome| matches!(outcome, Outcome::Miss { .. }));
    let failed = count(|outcome| matches!(outcome, Outcome::Failed { .. }));
    let mut wrong = Vec::new();
    if missed > 0 {
        wrong.push(format!("{missed} missed their bounds"));
    }
    if failed > 0 {
        wrong.push(format!("{failed} failed"));
    }
    if results.training.iter().any(|row| !row.through_ours) {
        wrong.push("gradients are lost".to_owned());
    }
    let broken = results.conformance.as_ref().map(|it| it.broken.len());
    if let Some(broken) = broken.filter(|broken| *broken > 0) {
        wrong.push(format!("{broken} promises broken"));
    }
    let answer = if wrong.is_empty() {
        "all within bounds".to_owned()
    } else {
        wrong.join(", ")
    };
    let plural =
        |count: usize, what: &str| format!("{count} {what}{}", if count == 1 { "" } else { "s" });
    let (ops, dtypes, cases) = (
        plural(names(run()).len(), "op"),
        plural(dtypes.len(), "dtype"),
        plural(cases, "case"),
    );
    if cases.starts_with("0 ") && wrong.is_empty() {
        return "verify: nothing was run".to_owned();
    }
    format!("verify: {ops} x {dtypes}, forward and backward, {cases}: {answer}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(op: &str, pass: Pass, outcome: Outcome) -> Row {
        Row {
            op: op.to_owned(),
            dtype: "f32".to_owned(),
            pass,
            mps: false,
            cases: 7,
            error: Some(2e-7),
            bound: 1e-5,
            outcome,
        }
    }

    fn results(backward: Outcome) -> Verify {
        let ok = backward == Outcome::Ok;
        let why = "later".to_owned();
        let not_built = row("fused", Pass::Forward, Outcome::NotBuilt { why });
        Verify {
            rows: vec![
                row("op", Pass::Forward, Outcome::Ok),
                row("op", Pass::Backward, backward),
                not_built,
            ],
            ok,
            ..Verify::default()
        }
    }

    fn text(results: &Verify) -> String {
        let mut written = Vec::new();
        write(results, None, &mut written).unwrap();
        anstream::adapter::strip_str(&String::from_utf8(written).unwrap()).to_string()
    }

    #[test]
    fn a_miss_is_told_with_the_command_that_shows_it_again() {
        let miss = Outcome::Miss {
            what: "x [3]: element [1]".to_owned(),
            replay: "candle-mps verify --ops op --seed 3".to_owned(),
        };
        let text = text(&results(miss));
        assert!(text.contains("WRONG"), "{text}");
        assert!(
            text.contains("op in f32, backward, missed its bound: x [3]"),
            "{text}"
        );
        assert!(
            text.contains("again: candle-mps verify --ops op --seed 3"),
            "{text}"
        );
        assert!(text.ends_with("7 cases: 1 missed their bounds\n"), "{text}");
    }

    #[test]
    fn what_is_not_built_is_named_and_not_counted() {
        let text = text(&results(Outcome::Ok));
        assert!(text.contains("not built: later\n  fused\n"), "{text}");
        let line = "verify: 1 op x 1 dtype, forward and backward, 7 cases: all within bounds\n";
        assert!(text.ends_with(line), "{text}");
    }

    #[test]
    fn probes_are_told_with_their_switches() {
        let mut results = results(Outcome::Ok);
        let asked = |id: &str, answer: Option<&str>| Probe {
            id: id.to_owned(),
            question: "is it so?".to_owned(),
            answer: answer.map(str::to_owned),
            switch: answer.map(|_| "SWITCH=1".to_owned()),
            detail: Some("a detail".to_owned()),
        };
        results.probes = vec![asked("b", Some("it is")), asked("e", None)];
        let text = text(&results);
        let told = "b   is it so?\n    it is\n    a detail\n    simulator: SWITCH=1\n";
        assert!(text.contains(told), "{text}");
        let told = "e   is it so?\n    not asked\n    a detail\n\n";
        assert!(text.contains(told), "{text}");
    }

    #[test]
    fn a_lost_gradient_and_a_broken_promise_are_in_the_summary() {
        let mut results = results(Outcome::Ok);
        results.training.push(Training {
            op: "op".to_owned(),
            through_candles: false,
            through_ours: false,
        });
        let broken = vec![("a promise".to_owned(), "it was not so".to_owned())];
        results.conformance = Some(Conformance {
            broken,
            ..Conformance::default()
        });
        let summary = summary(&results);
        assert!(
            summary.ends_with("gradients are lost, 1 promises broken"),
            "{summary}"
        );
        assert!(text(&results).contains("broken: a promise: it was not so"));
    }
}
