//! Directories that an operation creates before a step that may fail. If the step fails, the operation removes them again.

use std::fs::{DirBuilder, remove_dir};
use std::io::{ErrorKind, Result};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

/// Directories that this process has created. Dropping the value removes each directory that is still empty.
pub(crate) struct CreatedDirs {
    /// The outermost directory comes first.
    paths: Vec<PathBuf>,
}

impl CreatedDirs {
    /// Creates a directory and its missing ancestors, with `mode` less the umask. Existing directories keep their mode.
    ///
    /// # Errors
    /// The kernel's error. The directories that were created before it are removed.
    pub(crate) fn all(path: &Path, mode: u32) -> Result<Self> {
        // `components` drops each `.`, which mkdir(2) would take for a name.
        let path: PathBuf = path.components().collect();
        let is_missing = |dir: &&Path| !dir.as_os_str().is_empty() && !dir.exists();
        let missing: Vec<_> = path.ancestors().take_while(is_missing).collect();
        let mut created = Self { paths: Vec::new() };
        for dir in missing.into_iter().rev() {
            match DirBuilder::new().mode(mode).create(dir) {
                Ok(()) => created.paths.push(dir.to_owned()),
                // Another process has just created it, or the path leads back to an existing directory, as `new/..` does.
                Err(error) if error.kind() == ErrorKind::AlreadyExists && dir.is_dir() => {}
                Err(error) => return Err(error),
            }
        }
        Ok(created)
    }

    /// Keeps the directories when this value is dropped.
    pub(crate) fn keep(&mut self) {
        self.paths.clear();
    }
}

impl Drop for CreatedDirs {
    fn drop(&mut self) {
        for path in self.paths.iter().rev() {
            let _ = remove_dir(path); // fails if the directory is in use, because it is not empty then
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drop_removes_only_created_directories_that_are_empty() {
        let temp = tempfile::tempdir().unwrap();
        let (existing, deep) = (temp.path().join("existing"), temp.path().join("existing/a/./b/../c"));
        std::fs::create_dir(&existing).unwrap();
        let created = CreatedDirs::all(&deep, 0o700).unwrap();
        assert!(deep.is_dir() && existing.join("a/b").is_dir());
        drop(created);
        assert!(existing.is_dir() && !existing.join("a").exists());
        let mut created = CreatedDirs::all(&existing.join("kept"), 0o700).unwrap();
        created.keep();
        drop(created);
        let created = CreatedDirs::all(&existing.join("used"), 0o700).unwrap();
        std::fs::write(existing.join("used/file"), "").unwrap();
        drop(created);
        assert!(existing.join("kept").is_dir() && existing.join("used/file").exists());
        assert!(CreatedDirs::all(&existing.join("used/file/under"), 0o700).is_err());
    }
}
