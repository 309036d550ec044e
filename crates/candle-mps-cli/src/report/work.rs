//! The work that a llama layer gives a GPU, ours beside Candle's as its Llama computes it and with its fused attention.
//! `cargo xtask bench gpu-work` counts it on the simulator, for many ops, in tables of Markdown; of these only the
//! layer's rows are read.

use super::html::scrolling;
use super::plot::escape;

/// The file in a folder of results.
pub const FILE: &str = "gpu-work.md";
/// What counts it.
const COMMAND: &str = "cargo xtask bench gpu-work";
/// What the first cell of the layer's rows begins with.
const LAYER: &str = "llama layer";
/// The rest of it, where Candle's attention is its fused one.
const WITH_SDPA: &str = ", sdpa";
/// The column that says most.
const DISPATCHES: &str = "dispatches";

/// The layer's rows of one table.
#[derive(Debug, PartialEq)]
pub struct Counted {
    /// The heading above the table: which passes were counted.
    title: String,
    heads: Vec<String>,
    /// Against Candle's Llama first; each as long as the heads, and a count is `ours / Candle's`.
    rows: Vec<Vec<String>>,
}

/// The layer's rows in the text of the file.
pub fn read(text: &str) -> Vec<Counted> {
    let (mut title, mut heads) = (String::new(), Vec::new());
    let mut found: Vec<Counted> = Vec::new();
    for line in text.lines() {
        if let Some(heading) = line.strip_prefix("## ") {
            heading.clone_into(&mut title);
        }
        let Some(row) = line.strip_prefix('|') else {
            heads.clear();
            continue;
        };
        let cells: Vec<_> = row
            .trim_end()
            .trim_end_matches('|')
            .split('|')
            .map(|cell| cell.trim().to_owned())
            .collect();
        if heads.is_empty() {
            heads = cells;
        } else if cells.len() == heads.len() && is_of_layer(&cells[0]) {
            match found.last_mut() {
                Some(table) if table.title == title => table.rows.push(cells),
                _ => found.push(Counted {
                    title: title.clone(),
                    heads: heads.clone(),
                    rows: vec![cells],
                }),
            }
        }
    }
    found.retain(|it| it.heads.iter().any(|head| head == DISPATCHES));
    found
}

fn is_of_layer(op: &str) -> bool {
    matches!(op.strip_prefix(LAYER), Some("" | WITH_SDPA))
}

impl Counted {
    /// In a line of the screen.
    fn line(&self) -> Option<String> {
        let at = self.heads.iter().position(|head| head == DISPATCHES)?;
        let counts = |rest: &str| {
            let is_meant = |row: &&Vec<String>| row[0].strip_prefix(LAYER) == Some(rest);
            self.rows.iter().find(is_meant)?[at].split_once(" / ")
        };
        let (ours, llama) = counts("")?;
        // Candle's fused attention has no backward, so that training has but one way.
        if self.title.contains("backward") {
            return Some(format!(
                "and its backward: {ours} dispatches; Candle's {llama}"
            ));
        }
        let sdpa = counts(WITH_SDPA).map(|(_, sdpa)| format!(", {sdpa} with sdpa"));
        let sdpa = sdpa.unwrap_or_default();
        Some(format!(
            "{LAYER}: {ours} dispatches; Candle's {llama} as its Llama{sdpa}"
        ))
    }
}

/// In a line for each table.
pub fn lines(counted: &[Counted]) -> Vec<String> {
    let lines: Vec<_> = counted.iter().filter_map(Counted::line).collect();
    match lines.is_empty() {
        true => vec![format!("{LAYER}: not counted; `{COMMAND}` counts it")],
        false => lines,
    }
}

/// As a section of the page.
pub fn section(counted: &[Counted]) -> String {
    if counted.is_empty() {
        return format!(
            "<p>The work of a {LAYER} against Candle's is not counted here. In a checkout of the project, \
             <code>{COMMAND} --out FOLDER/{FILE}</code> counts it into the folder of these results.</p>\n"
        );
    }
    let mut html = String::new();
    for it in counted {
        let cells = |tag: &str, cells: &[String]| -> String {
            let cells = cells.iter();
            cells
                .map(|cell| format!("<{tag}>{}</{tag}>", escape(cell)))
                .collect()
        };
        let caption = format!("{}, ours / Candle's, by {COMMAND}", escape(&it.title));
        let head = format!("<tr>{}</tr>", cells("th", &it.heads));
        let row = |row: &Vec<String>| format!("<tr>{}</tr>\n", cells("td", row));
        let rows: String = it.rows.iter().map(row).collect();
        html += &scrolling(&caption, "tight", &head, &rows);
    }
    html
}

#[cfg(test)]
pub mod tests {
    use super::*;

    pub const TEXT: &str = "# Work\n\nAbout.\n\n## Forward\n\n\
        | op          | dispatches | waits |\n|---|---|---|\n| softmax | 1 / 1 | 0 / 0 |\n\
        | llama layer | 15 / 40    | 0 / 0 |\n| llama layer, sdpa | 15 / 33 | 0 / 0 |\n\n\
        ## Forward and backward\n\n| op | dispatches |\n|--|--|\n| llama layer | 50 / 200 |\n\
        | llama layer, sdpa | 50 / 200 |\n\
        ## Time\n\n| op | first |\n|--|--|\n| llama layer | 1 ms |\n";

    #[test]
    fn the_rows_of_the_layer_are_read() {
        let counted = read(TEXT);
        assert_eq!(
            lines(&counted),
            [
                "llama layer: 15 dispatches; Candle's 40 as its Llama, 33 with sdpa",
                "and its backward: 50 dispatches; Candle's 200"
            ]
        );
        let html = section(&counted);
        for part in ["<td>15 / 40</td>", "<td>15 / 33</td>", "<th>waits</th>"] {
            assert!(html.contains(part), "{part} in {html}");
        }
        // Of an earlier count.
        let without = lines(&read(&TEXT.replace("layer, sdpa", "model")));
        assert_eq!(
            without[0],
            "llama layer: 15 dispatches; Candle's 40 as its Llama"
        );
    }

    #[test]
    fn what_is_no_such_file_is_not_counted() {
        for text in ["", "| llama layer |", "| op |\n|--|\n| llama layer | 3 |\n"] {
            let counted = read(text);
            assert!(lines(&counted)[0].contains("not counted"), "{text}");
            assert!(section(&counted).contains(COMMAND), "{text}");
        }
    }
}
