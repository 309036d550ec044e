//! From a place in compiled code to a line of the `.metal` file, by the library's debug information.

use crate::finding::Place;
use addr2line::Loader;
use std::cell::OnceCell;
use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// The lines of one library.
pub struct Lines {
    library: PathBuf,
    /// Read when the first line is asked for, which few dispatches do: it takes longer than a small one.
    loader: OnceCell<Option<Loader>>,
    source: String,
    prelude: PathBuf,
    /// Where code is that has no line: the kernel.
    fallback: Place,
    known: HashMap<u32, Place>,
}

impl Lines {
    /// `source` is what findings call the file; frames of files below `prelude` are passed over.
    pub fn new(library: &Path, source: &str, prelude: &Path, kernel_line: u32) -> Self {
        Self {
            library: library.to_owned(),
            loader: OnceCell::new(),
            source: source.to_owned(),
            prelude: prelude.to_owned(),
            fallback: Place {
                file: source.to_owned(),
                line: kernel_line,
            },
            known: HashMap::new(),
        }
    }

    /// The innermost line outside the prelude of the call before `pc`, an offset into the library.
    pub fn place(&mut self, pc: u32) -> Place {
        if let Some(place) = self.known.get(&pc) {
            return place.clone();
        }
        let place = self.find(pc).unwrap_or_else(|| self.fallback.clone());
        self.known.insert(pc, place.clone());
        place
    }

    fn find(&self, pc: u32) -> Option<Place> {
        // A return address is after the call.
        let loader = self.loader.get_or_init(|| Loader::new(&self.library).ok());
        let mut frames = loader
            .as_ref()?
            .find_frames(u64::from(pc).checked_sub(1)?)
            .ok()?;
        while let Ok(Some(frame)) = frames.next() {
            let Some((file, line)) = frame
                .location
                .and_then(|place| Some((place.file?, place.line?)))
            else {
                continue;
            };
            if line != 0 && !Path::new(file).starts_with(&self.prelude) {
                // The compiler's folder may be in front of the name.
                let named = file
                    .strip_suffix(&self.source)
                    .is_some_and(|front| front.is_empty() || front.ends_with('/'));
                let file = if named { &self.source } else { file };
                return Some(Place {
                    file: file.to_owned(),
                    line,
                });
            }
        }
        None
    }
}
