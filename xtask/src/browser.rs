//! A real browser without a window: what a page looks like in it, what it makes of the page, and what
//! it complains about.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use crate::debian::{BROWSER, library_path};
use crate::error::Error;
use crate::layout::Layout;
use crate::process::Step;

/// What it may be called on the `PATH`.
const NAMES: [&str; 4] = [
    "chromium-headless-shell",
    "chrome-headless-shell",
    "chromium",
    "google-chrome",
];

/// One that starts.
#[derive(Clone)]
pub struct Browser {
    program: String,
    variables: Vec<(&'static str, OsString)>,
    /// Its profile, and what it writes.
    folder: PathBuf,
}

/// How a page is looked at.
#[derive(Clone, Copy)]
pub struct View {
    pub width: u32,
    pub height: u32,
    pub dark: bool,
}

/// A picture of a page.
pub struct Picture {
    pub width: u32,
    pub height: u32,
    /// Red, green and blue of each pixel.
    pub pixels: Vec<[u8; 3]>,
}

impl Browser {
    /// One on the `PATH`, or else Debian's, unpacked. `folder` is for what it writes.
    pub fn find(layout: &Layout, folder: &Path) -> Result<Self, Error> {
        let starts = |name: &&&str| {
            let version = Step::new(name, layout.root())
                .args(["--version"])
                .captured();
            version.is_ok_and(|it| it.status.success())
        };
        if let Some(name) = NAMES.iter().find(starts) {
            return Ok(Self {
                program: (*name).to_owned(),
                variables: Vec::new(),
                folder: folder.to_owned(),
            });
        }
        let unpacked = BROWSER.unpacked()?;
        // Letters are found through a file that names their folder.
        let fonts = folder.join("fonts.conf");
        let text = format!(
            "<?xml version=\"1.0\"?><fontconfig><dir>{}</dir><dir>/usr/share/fonts</dir>\
             <cachedir>{}</cachedir></fontconfig>",
            unpacked.join("usr/share/fonts").display(),
            folder.join("fonts").display()
        );
        fs::write(&fonts, text).map_err(Error::file("write", &fonts))?;
        // Not the script in `usr/bin`, which expects to be installed.
        let program = unpacked.join("usr/lib/chromium/chromium-headless-shell");
        Ok(Self {
            program: program.to_string_lossy().into_owned(),
            variables: vec![
                ("LD_LIBRARY_PATH", library_path(&[&unpacked])),
                ("FONTCONFIG_FILE", fonts.into()),
            ],
            folder: folder.to_owned(),
        })
    }

    /// What a page looks like, and the complaints.
    pub fn picture(&self, page: &Path, view: View) -> Result<(Picture, Vec<String>), Error> {
        let file = self.folder.join("picture.png");
        let _ = fs::remove_file(&file);
        let option = format!("--screenshot={}", file.display());
        let (_, said) = self.load(page, view, &option)?;
        let picture = fs::read(&file).ok().and_then(|bytes| Picture::read(&bytes));
        let picture = picture.ok_or_else(|| self.nothing(page, "picture", &said))?;
        Ok((picture, complaints(&said)))
    }

    /// The page as the browser has it after its scripts ran.
    pub fn document(&self, page: &Path, view: View) -> Result<String, Error> {
        let (document, said) = self.load(page, view, "--dump-dom")?;
        if document.trim().is_empty() {
            return Err(self.nothing(page, "document", &said));
        }
        Ok(document)
    }

    /// Loads a page and returns what comes on standard output and on standard error.
    fn load(&self, page: &Path, view: View, wanted: &str) -> Result<(String, String), Error> {
        // 0 is dark and 1 is light.
        let scheme = u8::from(!view.dark);
        let output = Step::new(&self.program, &self.folder)
            .args([
                "--headless",
                // Its own sandbox needs rights that CI has not; the page is ours.
                "--no-sandbox",
                "--disable-gpu",
                "--disable-dev-shm-usage",
                "--disable-background-networking",
                "--hide-scrollbars",
                "--force-device-scale-factor=1",
                "--enable-logging=stderr",
                // No name has an address, and no address answers.
                "--host-resolver-rules=MAP * ~NOTFOUND",
                "--proxy-server=127.0.0.1:9",
            ])
            .args([
                format!("--user-data-dir={}", self.folder.join("profile").display()),
                format!("--blink-settings=preferredColorScheme={scheme}"),
                format!("--window-size={},{}", view.width, view.height),
                wanted.to_owned(),
                format!("file://{}", page.display()),
            ])
            .envs(self.variables.iter().map(|(name, value)| (*name, value)))
            .captured()?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ok((text(&output.stdout), text(&output.stderr)))
    }

    fn nothing(&self, page: &Path, wanted: &'static str, said: &str) -> Error {
        Error::Browser {
            program: self.program.clone(),
            page: page.to_owned(),
            wanted,
            said: said.to_owned(),
        }
    }
}

/// The messages of the page's console among whatever else a browser says.
fn complaints(said: &str) -> Vec<String> {
    let lines = said.lines().filter(|line| line.contains("CONSOLE"));
    lines.map(str::to_owned).collect()
}

impl Picture {
    /// Decodes a file as browsers write it.
    fn read(file: &[u8]) -> Option<Self> {
        let mut reader = png::Decoder::new(file).read_info().ok()?;
        let mut bytes = vec![0; reader.output_buffer_size()];
        let frame = reader.next_frame(&mut bytes).ok()?;
        let samples = frame.color_type.samples();
        if samples < 3 || frame.bit_depth != png::BitDepth::Eight {
            return None;
        }
        let pixels = bytes[..frame.buffer_size()].chunks_exact(samples);
        Some(Self {
            width: frame.width,
            height: frame.height,
            pixels: pixels.map(|it| [it[0], it[1], it[2]]).collect(),
        })
    }

    /// The colour that most pixels have, and which part of them.
    pub fn ground(&self) -> ([u8; 3], f64) {
        let mut sorted = self.pixels.clone();
        sorted.sort_unstable();
        let runs = sorted.chunk_by(|a, b| a == b);
        let longest = runs.max_by_key(|run| run.len()).unwrap_or(&[]);
        let colour = longest.first().copied().unwrap_or_default();
        (
            colour,
            longest.len() as f64 / self.pixels.len().max(1) as f64,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn complaints_are_told_from_noise() {
        let said = "[1:1:ERROR:dbus/bus.cc(405)] Failed to connect to the bus\n\
                    [1:1:INFO:CONSOLE(3)] \"Refused to load\", source: file:///a.html (3)\n";
        assert_eq!(complaints(said).len(), 1);
        assert!(complaints("").is_empty());
    }

    #[test]
    fn pictures_are_read_and_their_ground_is_found() {
        let mut file = Vec::new();
        let mut encoder = png::Encoder::new(&mut file, 2, 2);
        encoder.set_color(png::ColorType::Rgba);
        let mut writer = encoder.write_header().unwrap();
        let (a, b) = ([1, 2, 3, 255], [9, 9, 9, 255]);
        writer.write_image_data(&[a, b, a, a].concat()).unwrap();
        writer.finish().unwrap();
        let picture = Picture::read(&file).unwrap();
        assert_eq!((picture.width, picture.height), (2, 2));
        assert_eq!(picture.ground(), ([1, 2, 3], 0.75));
        assert!(Picture::read(b"no picture").is_none());
    }
}
