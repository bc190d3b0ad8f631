//! Directories that are made on the way to something that may fail: taken back if nothing came of it.

use std::fs::{DirBuilder, remove_dir};
use std::io::{ErrorKind, Result};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

/// Directories that were made just now. Those that are still empty are removed when this is dropped.
pub(crate) struct CreatedDirs {
    /// The outermost first.
    paths: Vec<PathBuf>,
}

impl CreatedDirs {
    /// Makes a directory and what leads to it, with `mode` less the umask; what is there stays as it is.
    pub fn all(path: &Path, mode: u32) -> Result<Self> {
        // Without its dots, which mkdir takes for names.
        let path: PathBuf = path.components().collect();
        let is_missing = |at: &&Path| !at.as_os_str().is_empty() && !at.exists();
        let missing: Vec<_> = path.ancestors().take_while(is_missing).collect();
        let mut made = Self { paths: Vec::new() };
        for at in missing.into_iter().rev() {
            match DirBuilder::new().mode(mode).create(at) {
                Ok(()) => made.paths.push(at.to_owned()),
                // Somebody else has just made it, or it is a way round: `new/..`.
                Err(error) if error.kind() == ErrorKind::AlreadyExists && at.is_dir() => {}
                Err(error) => return Err(error),
            }
        }
        Ok(made)
    }

    /// Something came of it: they stay.
    pub fn keep(&mut self) {
        self.paths.clear();
    }
}

impl Drop for CreatedDirs {
    fn drop(&mut self) {
        for path in self.paths.iter().rev() {
            let _ = remove_dir(path); // not empty: somebody uses it
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_made_and_is_empty_is_taken_back_and_nothing_else() {
        let place = tempfile::tempdir().unwrap();
        let (there, deep) = (place.path().join("there"), place.path().join("there/a/./b/../c"));
        std::fs::create_dir(&there).unwrap();
        let made = CreatedDirs::all(&deep, 0o700).unwrap();
        assert!(deep.is_dir() && there.join("a/b").is_dir());
        drop(made);
        assert!(there.is_dir() && !there.join("a").exists());
        let mut made = CreatedDirs::all(&there.join("kept"), 0o700).unwrap();
        made.keep();
        drop(made);
        let made = CreatedDirs::all(&there.join("used"), 0o700).unwrap();
        std::fs::write(there.join("used/file"), "").unwrap();
        drop(made);
        assert!(there.join("kept").is_dir() && there.join("used/file").exists());
        assert!(CreatedDirs::all(&there.join("used/file/under"), 0o700).is_err());
    }
}
