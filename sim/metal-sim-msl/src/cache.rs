//! Compiled libraries, kept between processes: one file for each source, prelude, compiler, set of flags and kernel,
//! named by a hash of them all. Files appear under a temporary name and are renamed, so that several processes may
//! compile the same thing and each sees a whole one.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process,
    sync::atomic::{AtomicU64, Ordering},
};

use sha2::{Digest, Sha256};

use crate::error::Error;

/// Names the folder.
pub const CACHE: &str = "METAL_SIM_CACHE";

/// The headers of `prelude/`, by their path in it.
pub(crate) const PRELUDE: &[(&str, &str)] = include!(concat!(env!("OUT_DIR"), "/prelude.rs"));

/// A folder of compiled libraries.
#[derive(Clone, Debug)]
pub(crate) struct Cache {
    folder: PathBuf,
}

/// A hash that grows; what is fed to it apart is apart.
#[derive(Clone, Debug)]
pub(crate) struct Key(Sha256);

impl Key {
    /// Of the prelude and the rewriter, which everything depends on.
    pub fn new() -> Self {
        let mut key = Self(Sha256::new());
        key.feed(env!("MSL_REWRITER"));
        for (name, text) in PRELUDE {
            key.feed(name);
            key.feed(text);
        }
        key
    }

    pub fn feed(&mut self, text: &str) {
        self.0.update((text.len() as u64).to_le_bytes());
        self.0.update(text.as_bytes());
    }

    pub fn with(&self, text: &str) -> Self {
        let mut key = self.clone();
        key.feed(text);
        key
    }

    fn name(&self) -> String {
        let hash = self.0.clone().finalize();
        hash.iter()
            .take(20)
            .map(|byte| format!("{byte:02x}"))
            .collect()
    }
}

impl Cache {
    /// In `METAL_SIM_CACHE`, or where the platform keeps caches, or with temporary files.
    pub fn open() -> Result<Self, Error> {
        let given = env::var_os(CACHE)
            .filter(|v| !v.is_empty())
            .map(PathBuf::from);
        let platform = || {
            let xdg = env::var_os("XDG_CACHE_HOME")
                .map(PathBuf::from)
                .filter(|p| p.is_absolute());
            let home = || {
                env::var_os("HOME")
                    .filter(|v| !v.is_empty())
                    .map(|h| PathBuf::from(h).join(".cache"))
            };
            xdg.or_else(home)
                .unwrap_or_else(env::temp_dir)
                .join("candle-mps")
                .join("msl")
        };
        Self::at(given.unwrap_or_else(platform))
    }

    pub fn at(folder: PathBuf) -> Result<Self, Error> {
        let failed = |e| {
            let doing = format!(
                "creating the cache folder {} (choose another with {CACHE})",
                folder.display()
            );
            Error::io(doing, e)
        };
        fs::create_dir_all(&folder).map_err(failed)?;
        Ok(Self { folder })
    }

    /// The folder with the prelude's headers.
    pub fn prelude(&self) -> Result<PathBuf, Error> {
        self.entry(&Key::new(), "prelude", |folder| {
            PRELUDE
                .iter()
                .try_for_each(|(name, text)| write(&folder.join(name), text))
        })
    }

    /// What was made for a key, or makes it: `make` is given the path to write a file or a folder to.
    pub fn entry(
        &self,
        key: &Key,
        ending: &str,
        make: impl FnOnce(&Path) -> Result<(), Error>,
    ) -> Result<PathBuf, Error> {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let path = self.folder.join(format!("{}.{ending}", key.name()));
        if path.exists() {
            return Ok(path);
        }
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let draft = self
            .folder
            .join(format!("{}.{}-{number}.draft", key.name(), process::id()));
        let result = make(&draft).and_then(|()| match fs::rename(&draft, &path) {
            // A folder that another process made meanwhile cannot be replaced, and need not be.
            Err(_) if path.exists() => Ok(()),
            other => other.map_err(|e| Error::io(format!("writing {}", path.display()), e)),
        });
        if draft.is_dir() {
            let _ = fs::remove_dir_all(&draft);
        } else {
            let _ = fs::remove_file(&draft);
        }
        result.map(|()| path)
    }
}

/// Writes a file, and the folder it is in.
pub(crate) fn write(path: &Path, text: &str) -> Result<(), Error> {
    let written = path
        .parent()
        .map_or(Ok(()), fs::create_dir_all)
        .and_then(|()| fs::write(path, text));
    written.map_err(|e| {
        Error::io(
            format!(
                "writing {} (choose another folder with {CACHE})",
                path.display()
            ),
            e,
        )
    })
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    fn folder(name: &str) -> PathBuf {
        let folder = env::temp_dir().join(format!("msl-cache-{name}-{}", process::id()));
        let _ = fs::remove_dir_all(&folder);
        folder
    }

    #[test]
    fn an_entry_is_made_once_and_leaves_no_drafts() {
        let folder = folder("once");
        let cache = Cache::at(folder.clone()).unwrap();
        let key = Key::new().with("a");
        let mut made = 0;
        for _ in 0..2 {
            let path = cache
                .entry(&key, "txt", |path| {
                    made += 1;
                    write(path, "text")
                })
                .unwrap();
            assert_eq!(fs::read_to_string(path).unwrap(), "text");
        }
        assert_eq!((made, fs::read_dir(&folder).unwrap().count()), (1, 1));
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn what_failed_leaves_nothing() {
        let folder = folder("failed");
        let cache = Cache::at(folder.clone()).unwrap();
        let failed = cache.entry(&Key::new(), "txt", |path| {
            write(path, "half")?;
            Err(Error::io("compiling", io::Error::other("no")))
        });
        assert_eq!(failed.unwrap_err().to_string(), "compiling: no");
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 0);
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn keys_tell_apart_what_is_fed_apart() {
        let key = Key::new();
        assert_ne!(
            key.with("ab").with("c").name(),
            key.with("a").with("bc").name()
        );
        assert_eq!(key.with("ab").name(), key.with("ab").name());
    }

    #[test]
    fn the_prelude_is_written_whole_by_two_at_a_time() {
        let folder = folder("prelude");
        let cache = Cache::at(folder.clone()).unwrap();
        let paths: Vec<PathBuf> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..2)
                .map(|_| scope.spawn(|| cache.prelude().unwrap()))
                .collect();
            threads.into_iter().map(|t| t.join().unwrap()).collect()
        });
        assert_eq!(paths[0], paths[1]);
        for (name, text) in PRELUDE {
            assert_eq!(&fs::read_to_string(paths[0].join(name)).unwrap(), text);
        }
        fs::remove_dir_all(folder).unwrap();
    }
}
