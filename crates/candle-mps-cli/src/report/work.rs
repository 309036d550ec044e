//! The work that a llama layer gives a GPU, ours beside Candle's. `cargo xtask bench gpu-work` counts it on the
//! simulator, for many ops, in tables of Markdown; of these only the layer's rows are read.

use super::html::scrolling;
use super::plot::escape;

/// The file in a folder of results.
pub const FILE: &str = "gpu-work.md";
/// What counts it.
const COMMAND: &str = "cargo xtask bench gpu-work";
/// The first cell of the layer's row.
const LAYER: &str = "llama layer";
/// The column that says most.
const DISPATCHES: &str = "dispatches";

/// The layer's row of one table.
#[derive(Debug, PartialEq)]
pub struct Counted {
    /// The heading above the table: which passes were counted.
    title: String,
    heads: Vec<String>,
    /// As many as heads; a count is `ours / Candle's`.
    cells: Vec<String>,
}

/// The layer's rows in the text of the file.
pub fn read(text: &str) -> Vec<Counted> {
    let (mut title, mut heads) = (String::new(), Vec::new());
    let mut found = Vec::new();
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
        } else if cells.first().is_some_and(|op| op == LAYER) && cells.len() == heads.len() {
            found.push(Counted {
                title: title.clone(),
                heads: heads.clone(),
                cells,
            });
        }
    }
    found.retain(|it| it.dispatches().is_some());
    found
}

impl Counted {
    fn dispatches(&self) -> Option<&str> {
        let at = self.heads.iter().position(|head| head == DISPATCHES)?;
        self.cells.get(at).map(String::as_str)
    }
}

/// In a line.
pub fn line(counted: &[Counted]) -> String {
    let part = |it: &Counted| {
        let pass = if it.title.contains("backward") {
            "training"
        } else {
            "forward"
        };
        Some(format!(
            "{pass} {}",
            it.dispatches()?.replace(" / ", " for ")
        ))
    };
    let parts: Vec<_> = counted.iter().filter_map(part).collect();
    if parts.is_empty() {
        return format!("{LAYER}: not counted; `{COMMAND}` counts it");
    }
    format!("{LAYER}, dispatches for Candle's: {}", parts.join(", "))
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
        let row = format!("<tr>{}</tr>\n", cells("td", &it.cells));
        html += &scrolling(&caption, "tight", &head, &row);
    }
    html
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# Work\n\nAbout.\n\n## Forward\n\n\
        | op          | dispatches | waits |\n|---|---|---|\n| softmax | 1 / 1 | 0 / 0 |\n\
        | llama layer | 15 / 40    | 0 / 0 |\n\n\
        ## Forward and backward\n\n| op | dispatches |\n|--|--|\n| llama layer | 50 / 200 |\n\
        ## Time\n\n| op | first |\n|--|--|\n| llama layer | 1 ms |\n";

    #[test]
    fn the_rows_of_the_layer_are_read() {
        let counted = read(TEXT);
        assert_eq!(
            line(&counted),
            "llama layer, dispatches for Candle's: forward 15 for 40, training 50 for 200"
        );
        let html = section(&counted);
        assert!(
            html.contains("<td>15 / 40</td>") && html.contains("<th>waits</th>"),
            "{html}"
        );
    }

    #[test]
    fn what_is_no_such_file_is_not_counted() {
        for text in ["", "| llama layer |", "| op |\n|--|\n| llama layer | 3 |\n"] {
            let counted = read(text);
            assert!(line(&counted).contains("not counted"), "{text}");
            assert!(section(&counted).contains(COMMAND), "{text}");
        }
    }
}
