//! `cargo xtask test report`: the page of `candle-mps report` in a real browser. It must look like
//! something in light and dark, fit a phone, complain about nothing and ask for nothing. And the tests of the peers in
//! Python, whose figures it shows: both need a program that plain cargo does not bring.
//!
//! Each of the former is also asked of a page that is wrong in that way, and must find it.

use std::fs;
use std::path::{Path, PathBuf};

use crate::browser::{Browser, View};
use crate::counts::Counts;
use crate::error::Error;
use crate::layout::Layout;
use crate::process::{Step, heading};
use crate::python::Python;

/// Where results for tests are.
const FIXTURES: &str = "crates/candle-mps-cli/tests/fixtures/report";
const FILES: [&str; 3] = ["bench.json", "verify-cpu.json", "verify-metal.json"];

/// Where the page is made.
const FOLDER: &str = "target/report-check";

/// A phone, a small one, and a desk.
const WIDTHS: [u32; 3] = [390, 320, 1280];

/// The name of what is asked of the peers in Python.
const PEERS: &str = "the_peers_in_python_keep_time";

/// What is asked of a page: nothing, or what is wrong with it.
type Check = fn(&Place) -> Result<Option<String>, Error>;

const CHECKS: [(&str, Check); 10] = [
    ("light_on_a_desk_looks_like_something", |place| {
        looks(place, 1280, false)
    }),
    ("light_on_a_phone_looks_like_something", |place| {
        looks(place, 390, false)
    }),
    ("dark_on_a_desk_looks_like_something", |place| {
        looks(place, 1280, true)
    }),
    ("dark_on_a_phone_looks_like_something", |place| {
        looks(place, 390, true)
    }),
    ("nothing_is_complained_about", complains),
    ("nothing_is_asked_of_a_network", asks),
    ("tables_and_plots_are_there", parts),
    ("nothing_is_wider_than_the_screen", fits),
    ("long_names_fit_as_well", |place| {
        fits(&Place {
            page: place.of_long_names.clone(),
            ..place.clone()
        })
    }),
    ("pages_that_are_wrong_are_found_out", found_out),
];

/// A page and what to look at it with.
#[derive(Clone)]
struct Place {
    browser: Browser,
    folder: PathBuf,
    page: PathBuf,
    /// The page of the same results with very long names.
    of_long_names: PathBuf,
}

impl Place {
    /// Another page beside the one in question.
    fn with(&self, name: &str, text: &str) -> Result<Self, Error> {
        let page = self.folder.join(name);
        fs::write(&page, text).map_err(Error::file("write", &page))?;
        Ok(Self {
            page,
            ..self.clone()
        })
    }

    fn text(&self) -> Result<String, Error> {
        fs::read_to_string(&self.page).map_err(Error::file("read", &self.page))
    }
}

/// Runs the checks, or those whose names contain a filter, and makes the page if it is asked about.
pub fn run(layout: &Layout, filters: &[String]) -> Result<Counts, Error> {
    let asked =
        |name: &str| filters.is_empty() || filters.iter().any(|it| name.contains(it.as_str()));
    let mut counts = Counts::default();
    if asked(PEERS) {
        heading("report: the peers in Python");
        let tested = Python::find(layout).and_then(|python| python.test_peers(layout));
        counts += told(PEERS, tested);
    }
    let checks: Vec<_> = CHECKS.into_iter().filter(|(name, _)| asked(name)).collect();
    if checks.is_empty() {
        return Ok(counts);
    }
    heading("report: a browser");
    let folder = layout.root().join(FOLDER);
    fs::create_dir_all(&folder).map_err(Error::file("create", &folder))?;
    let browser = Browser::find(layout, &folder)?;
    heading("report: the page of results made for tests");
    let page = made(layout, &folder, str::to_owned)?;
    let of_long_names = made(layout, &folder.join("long"), long)?;
    let place = Place {
        browser,
        folder,
        page,
        of_long_names,
    };
    heading("report: the page in the browser");
    for (name, check) in checks {
        counts += told(name, check(&place));
    }
    Ok(counts)
}

/// Says what became of a check, and counts it.
fn told(name: &str, result: Result<Option<String>, Error>) -> Counts {
    let passed = matches!(result, Ok(None));
    match result {
        Ok(None) => println!("test {name} ... ok"),
        Ok(Some(wrong)) => println!("test {name} ... FAILED\n{wrong}"),
        Err(error) => {
            println!("test {name} ... FAILED");
            error.print();
        }
    }
    Counts {
        passed: usize::from(passed),
        failed: usize::from(!passed),
        ignored: 0,
    }
}

/// Writes the results into a folder as `changed` wants them, and makes the page of them.
fn made(layout: &Layout, folder: &Path, changed: fn(&str) -> String) -> Result<PathBuf, Error> {
    fs::create_dir_all(folder).map_err(Error::file("create", folder))?;
    for name in FILES {
        let (from, to) = (layout.root().join(FIXTURES).join(name), folder.join(name));
        let text = fs::read_to_string(&from).map_err(Error::file("read", &from))?;
        fs::write(&to, changed(&text)).map_err(Error::file("write", &to))?;
    }
    Step::cargo(layout.root())
        .args([
            "run",
            "--quiet",
            "-p",
            "candle-mps-cli",
            "--bin",
            "candle-mps",
        ])
        .args(["--", "report", "--out"])
        .args([folder])
        .run()?;
    Ok(folder.join("report.html"))
}

/// Results with names that are longer than any screen is wide, and with no blank in them.
fn long(results: &str) -> String {
    let names = [
        "AMD EPYC (Zen 5)",
        "softmax",
        "4096x4096",
        "candle-v4",
        "RAYON_NUM_THREADS=2",
        "AttributeError",
        "\"f16",
    ];
    let long = |name: &str| format!("{name}-{}", "long".repeat(40));
    let replace = |text: String, name: &&str| text.replace(name, &long(name));
    names.iter().fold(results.to_owned(), replace)
}

fn view(width: u32, dark: bool) -> View {
    View {
        width,
        height: 900,
        dark,
    }
}

/// Whether the picture has the right ground, and enough on it.
fn looks(place: &Place, width: u32, dark: bool) -> Result<Option<String>, Error> {
    let (picture, _) = place.browser.picture(&place.page, view(width, dark))?;
    let (colour, part) = picture.ground();
    let bright = colour.iter().map(|it| u32::from(*it)).sum::<u32>() / 3;
    Ok(if (picture.width, picture.height) != (width, 900) {
        Some(format!(
            "the picture is {} x {}",
            picture.width, picture.height
        ))
    } else if part > 0.97 {
        Some(format!("{:.1}% of it are blank", part * 100.0))
    } else if dark != (bright < 64) || dark == (bright > 192) {
        Some(format!("the ground has the colour {colour:?}"))
    } else {
        None
    })
}

fn complains(place: &Place) -> Result<Option<String>, Error> {
    let mut all = Vec::new();
    for width in WIDTHS {
        all.extend(place.browser.picture(&place.page, view(width, false))?.1);
    }
    Ok((!all.is_empty()).then(|| all.join("\n")))
}

/// The browser reaches no network here, so it is the page that must name none.
fn asks(place: &Place) -> Result<Option<String>, Error> {
    let text = place.text()?;
    let foreign = [
        "http://", "https://", "ftp://", "ws://", "wss://", "src=", "srcset=", "url(", "@import",
        "<link", "<script", "<iframe", "<object",
    ];
    let mut found: Vec<_> = foreign
        .into_iter()
        .filter(|it| text.contains(it))
        .map(str::to_owned)
        .collect();
    let links = text.split("href=\"").skip(1);
    found.extend(
        links
            .filter(|it| !it.starts_with('#'))
            .map(|it| format!("a link to {:.40}", it)),
    );
    if !text.contains("default-src 'none'") {
        found.push("no policy that forbids it".to_owned());
    }
    Ok((!found.is_empty()).then(|| format!("the page has {}", found.join(", "))))
}

/// Whether the browser has what the file has: a mistake in the markup would move or drop it.
fn parts(place: &Place) -> Result<Option<String>, Error> {
    let (file, browser) = (
        place.text()?,
        place.browser.document(&place.page, view(1280, false))?,
    );
    let mut wrong = Vec::new();
    for (tag, least) in [
        ("<table", 8),
        ("<caption", 8),
        ("<tr", 200),
        ("<td", 1000),
        ("<svg", 10),
        ("<section", 9),
        ("scope=\"row\"", 50),
        ("<polygon", 100),
    ] {
        let (there, here) = (file.matches(tag).count(), browser.matches(tag).count());
        if there != here || here < least {
            wrong.push(format!(
                "{tag}: {there} in the file, {here} in the browser, at least {least} expected"
            ));
        }
    }
    Ok((!wrong.is_empty()).then(|| wrong.join("\n")))
}

/// Writes what a script finds on the page into the page: its width, and what is beyond an edge.
const MEASURE: &str = "<script>
for (const closed of document.querySelectorAll('details')) closed.open = true;
const wide = document.documentElement.scrollWidth;
const beyond = [];
for (const plot of document.querySelectorAll('svg')) {
  const edge = plot.getBoundingClientRect();
  if (edge.width === 0) continue;
  if (edge.right > innerWidth + 1) beyond.push('a plot');
  for (const text of plot.querySelectorAll('text')) {
    const at = text.getBoundingClientRect();
    if (at.width === 0) beyond.push('letters of no width');
    if (at.left < edge.left - 4 || at.right > edge.right + 4) beyond.push(text.textContent);
  }
}
for (const box of document.querySelectorAll('p, li, h1, h2, dd, summary, .scroll, pre'))
  if (box.getBoundingClientRect().right > innerWidth + 1) beyond.push(box.textContent.slice(0, 60));
document.title = 'measured ' + wide + ' of ' + innerWidth + '; beyond: ' + beyond.join(' | ');
</script>";

fn fits(place: &Place) -> Result<Option<String>, Error> {
    let policy = "http-equiv=\"Content-Security-Policy\"";
    // The page allows no script, so the one that measures is in a copy that allows it.
    let text = place.text()?.replace(policy, "name=\"was-policy\"");
    let copy = place.with(
        "measured.html",
        &text.replace("</body>", &format!("{MEASURE}</body>")),
    )?;
    let mut wrong = Vec::new();
    for width in WIDTHS {
        let document = place.browser.document(&copy.page, view(width, false))?;
        let title = document
            .split("<title>")
            .nth(1)
            .and_then(|it| it.split("</title>").next());
        let title = title.unwrap_or("no title");
        if title != format!("measured {width} of {width}; beyond: ") {
            wrong.push(format!("at a width of {width}: {title}"));
        }
    }
    Ok((!wrong.is_empty()).then(|| wrong.join("\n")))
}

/// Breaks the page in each way and looks whether the check for it says so.
fn found_out(place: &Place) -> Result<Option<String>, Error> {
    let text = place.text()?;
    let with = |more: &str| text.replace("</main>", &format!("{more}</main>"));
    let cases: [(&str, String, Check); 6] = [
        (
            "a blank page",
            "<!doctype html><title>blank</title>".to_owned(),
            |it| looks(it, 390, false),
        ),
        (
            "a page that stays light",
            text.replace("prefers-color-scheme: dark", "print"),
            |it| looks(it, 390, true),
        ),
        ("a refused script", with("<script>1</script>"), complains),
        (
            "a picture from elsewhere",
            with("<img src=\"https://example.com/a.png\">"),
            asks,
        ),
        (
            "cells without a table",
            text.replacen("<table>", "<div>", 1),
            parts,
        ),
        (
            "a wide line",
            with(
                "<p style=\"white-space:nowrap;max-width:none\">wide wide wide wide wide wide wide wide wide wide</p>",
            ),
            fits,
        ),
    ];
    let mut missed = Vec::new();
    for (name, text, check) in cases {
        let wrong = place.with("wrong.html", &text)?;
        if check(&wrong)?.is_none() {
            missed.push(format!("{name} passes"));
        }
    }
    Ok((!missed.is_empty()).then(|| missed.join("\n")))
}
