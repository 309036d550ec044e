//! Files and folders: every write is of a whole file or of a whole folder, by renaming.

use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};

use crate::patch::error::{Error, Result};

pub fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).map_err(Error::file("read", path))
}

/// The file's text, or `None` if there is no file.
pub fn read_if_there(path: &Path) -> Result<Option<String>> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::file("read", path)(error)),
    }
}

/// Writes a file of a folder that nobody else uses yet, and the folders to it.
pub fn write(path: &Path, text: &str) -> Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(Error::file("create", folder))?;
    }
    fs::write(path, text).map_err(Error::file("write", path))
}

/// Replaces a file at once: a reader sees the old text or the new one. `None` removes it.
pub fn replace(path: &Path, text: Option<&str>) -> Result<()> {
    let Some(text) = text else {
        return match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(Error::file("remove", path)(error))
            }
            _ => Ok(()),
        };
    };
    // A link stays one: what it leads to is replaced.
    let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let new = path.with_file_name(format!(".{name}.candle-mps"));
    let written = fs::write(&new, text).and_then(|()| {
        if let Ok(metadata) = fs::metadata(&path) {
            fs::set_permissions(&new, metadata.permissions())?;
        }
        fs::rename(&new, &path)
    });
    written.map_err(|error| {
        // It may not be there at all.
        let _ = fs::remove_file(&new);
        Error::file("write", &path)(error)
    })
}

/// Refuses what is marked as read-only.
pub fn check_writable(path: &Path) -> Result<()> {
    let metadata = fs::metadata(path).map_err(Error::file("read", path))?;
    if metadata.permissions().readonly() {
        return Err(Error::ReadOnly {
            path: path.to_owned(),
        });
    }
    Ok(())
}

/// Copies a folder without what cargo keeps in it for itself. The copies can be written to.
pub fn copy_folder(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to).map_err(Error::file("create", to))?;
    for (name, entry) in entries(from)? {
        let target = to.join(&name);
        if entry.is_dir() {
            copy_folder(&entry, &target)?;
        } else if !matches!(name.as_str(), ".cargo-ok" | ".cargo_vcs_info.json") {
            let content = fs::read(&entry).map_err(Error::file("read", &entry))?;
            fs::write(&target, content).map_err(Error::file("write", &target))?;
        }
    }
    Ok(())
}

pub fn remove_folder(path: &Path) -> Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(Error::file("remove", path)(error))
        }
        _ => Ok(()),
    }
}

/// The hash of all names and texts in a folder.
pub fn hash_folder(folder: &Path) -> Result<String> {
    let mut parts = Vec::new();
    collect(folder, "", &mut parts)?;
    Ok(hash(parts.iter().map(Vec::as_slice)))
}

fn collect(folder: &Path, prefix: &str, parts: &mut Vec<Vec<u8>>) -> Result<()> {
    for (name, path) in entries(folder)? {
        let name = format!("{prefix}/{name}");
        if path.is_dir() {
            collect(&path, &name, parts)?;
        } else {
            parts.push(name.into_bytes());
            parts.push(fs::read(&path).map_err(Error::file("read", &path))?);
        }
    }
    Ok(())
}

/// Names and paths of what is in a folder, in alphabetical order.
fn entries(folder: &Path) -> Result<Vec<(String, PathBuf)>> {
    let read = fs::read_dir(folder).map_err(Error::file("read", folder))?;
    let mut entries = Vec::new();
    for entry in read {
        let entry = entry.map_err(Error::file("read", folder))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        entries.push((name, entry.path()));
    }
    entries.sort();
    Ok(entries)
}

/// FNV-1a of 64 bits over the parts and their lengths: it recognises texts, it does not protect
/// them. The standard library promises no hash that stays the same.
pub fn hash<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> String {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    let mut write = |bytes: &[u8]| {
        for byte in bytes {
            hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    };
    for part in parts {
        write(part);
        write(&(part.len() as u64).to_le_bytes());
    }
    format!("{hash:016x}")
}

/// The way from one folder to another, with `/` as manifests have it. Both are absolute.
pub fn relative(from: &Path, to: &Path) -> String {
    let from: Vec<Component<'_>> = from.components().collect();
    let (whole, to): (&Path, Vec<Component<'_>>) = (to, to.components().collect());
    let common = from.iter().zip(&to).take_while(|(a, b)| a == b).count();
    if common == 0 {
        // Another drive.
        return whole.to_string_lossy().replace('\\', "/");
    }
    let up = std::iter::repeat_n("..".to_owned(), from.len() - common);
    let down = to[common..]
        .iter()
        .map(|it| it.as_os_str().to_string_lossy().into_owned());
    up.chain(down).collect::<Vec<_>>().join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_way_from_one_folder_to_another() {
        let way = |from: &str, to: &str| relative(Path::new(from), Path::new(to));
        assert_eq!(way("/a/b/c", "/a/d"), "../../d");
        assert_eq!(way("/a", "/a/b/c"), "b/c");
        assert_eq!(way("/a/b", "/c"), "../../c");
    }

    #[test]
    fn hashes_tell_parts_apart() {
        assert_eq!(hash([b"ab".as_slice()]), hash([b"ab".as_slice()]));
        assert_ne!(hash([b"a".as_slice(), b"b"]), hash([b"ab".as_slice()]));
        assert_ne!(hash([b"a".as_slice()]), hash([b"b".as_slice()]));
    }

    #[test]
    fn folders_are_copied_and_recognised() {
        let scratch = std::env::temp_dir().join(format!("candle-mps-files-{}", std::process::id()));
        let (one, two) = (scratch.join("one"), scratch.join("two"));
        write(&one.join("a/b"), "text").unwrap();
        let before = hash_folder(&one).unwrap();
        write(&one.join(".cargo-ok"), "").unwrap();
        copy_folder(&one, &two).unwrap();
        assert_eq!(hash_folder(&two).unwrap(), before);
        replace(&two.join("a/b"), Some("other")).unwrap();
        assert_ne!(hash_folder(&two).unwrap(), before);
        replace(&two.join("a/b"), None).unwrap();
        assert_eq!(read_if_there(&two.join("a/b")).unwrap(), None);
        assert_eq!(entries(&two.join("a")).unwrap(), []);
        remove_folder(&scratch).unwrap();
        remove_folder(&scratch).unwrap();
    }
}
