//! A file that gets its name only when it is complete, on any file system.
//!
//! Until then it has no name (`O_TMPFILE`), so a killed process leaves nothing of it. Network disks, layered file
//! systems and FUSE do not support unnamed files. There the file has a temporary name that ends in `.part`, and
//! dropping the `NewFile` removes that name.
//!
//! | to give the name | unnamed file | file with a temporary name |
//! |---|---|---|
//! | and replace what has it | `linkat`; if the name is taken, `linkat` to the temporary name, then `rename` | `rename` |
//! | and keep what has it | `linkat` | `renameat2(RENAME_NOREPLACE)`, else `linkat` and `unlink` |
//! | the same, for a locked file | `linkat` | `renameat2(RENAME_NOREPLACE)`, else a look and `rename`, under another lock |
//!
//! A locked file is never linked from its temporary name: FUSE file systems that know files by their paths (bindfs, sshfs)
//! take the new name for another file, whose lock is free.

use crate::os::file::path_of;
use crate::os::file_id::FileId;
use crate::os::flush::flush;
use crate::os::ofd_lock::ByteLocks;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, CWD, Mode, OFlags, RenameFlags};
use rustix::io::Errno;
use std::ffi::{OsStr, OsString};
use std::hash::{BuildHasher, Hasher, RandomState};

/// What happens to a file that has the name already.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Existing {
    /// It is replaced in one step. A symbolic link is replaced, not followed.
    Replace,
    /// It stays, and the new file does not get the name: [`Errno::EXIST`]. If the file system cannot do that in one
    /// step: [`Errno::OPNOTSUPP`].
    Keep,
    /// It stays, the new file does not get the name ([`Errno::EXIST`]), and a file that gets the name keeps the locks
    /// on it. If the new file may have a temporary name, the caller must hold another lock, which every process takes
    /// before it uses this for such a name.
    KeepUnderLock,
}

/// The name of a file that is being made.
#[derive(Debug)]
pub(crate) struct NewFile<'d> {
    directory: BorrowedFd<'d>,
    part: OsString,
    /// Whether `part` exists and this value must remove it.
    has_part: bool,
}

/// The text for [`Errno::OPNOTSUPP`] of [`Existing::Keep`].
pub(crate) const CANNOT_KEEP: &str = "this file system can give a file its name only by replacing a file that has it; leave \
     --no-clobber out, or choose another directory";

/// Returns the temporary name of a file. The token distinguishes it from other ones.
pub(crate) fn part_name(token: &str) -> OsString {
    format!(".{token}.part").into()
}

/// Returns a token that distinguishes the temporary names of one run from those of other runs, killed ones included. It
/// is no secret.
pub fn token() -> String {
    // If getrandom(2) is filtered, the standard library gets random numbers in another way.
    format!("{:08x}", RandomState::new().build_hasher().finish() as u32)
}

impl<'d> NewFile<'d> {
    /// Makes a file that is open for reading and writing, with the permissions `mode` less the umask. The file has the
    /// name `part` only if it needs one.
    ///
    /// # Errors
    /// The kernel's error.
    pub(crate) fn create(
        directory: BorrowedFd<'d>,
        part: impl Into<OsString>,
        mode: Mode,
    ) -> Result<(Self, OwnedFd), Errno> {
        let part = part.into();
        match Self::create_unnamed(directory, part.clone(), mode)? {
            Some(unnamed) => Ok(unnamed),
            None => Self::create_named(directory, part, mode),
        }
    }

    /// Makes a file without a name. Returns `None` if the file system has no such files, or if the file could not get a
    /// name later.
    /// # Errors
    /// The kernel's error.
    pub(crate) fn create_unnamed(
        directory: BorrowedFd<'d>,
        part: impl Into<OsString>,
        mode: Mode,
    ) -> Result<Option<(Self, OwnedFd)>, Errno> {
        if links_are_barred() {
            return Ok(None);
        }
        let unnamed = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
        match rustix::fs::openat(directory, ".", unnamed, mode) {
            // Without /proc there is no way to its name.
            Ok(file) if rustix::fs::stat(path_of(file.as_fd())).is_err() => Ok(None),
            Ok(file) => Ok(Some((Self { directory, part: part.into(), has_part: false }, file))),
            // The file system, or the kernel, does not support unnamed files.
            Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::INVAL) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Makes a file with the temporary name `part`.
    ///
    /// # Errors
    /// The kernel's error; [`Errno::EXIST`] if a file has that name.
    pub(crate) fn create_named(
        directory: BorrowedFd<'d>,
        part: impl Into<OsString>,
        mode: Mode,
    ) -> Result<(Self, OwnedFd), Errno> {
        let part = part.into();
        let named = OFlags::CREATE | OFlags::EXCL | OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let file = rustix::fs::openat(directory, &part, named, mode)?;
        Ok((Self { directory, part, has_part: true }, file))
    }

    /// Returns whether the file has a temporary name.
    pub(crate) fn has_part(&self) -> bool {
        self.has_part
    }

    /// Gives the file its name. `file` is what [`create`](Self::create) returned.
    ///
    /// # Errors
    /// The kernel's error. Then the file does not have the name, and dropping this value removes its temporary name.
    pub(crate) fn publish(
        &mut self,
        file: BorrowedFd<'_>,
        name: &OsStr,
        existing: Existing,
    ) -> Result<(), Errno> {
        if !self.has_part {
            match link_open(file, self.directory, name) {
                Err(Errno::EXIST) if existing == Existing::Replace => {
                    // If the process is killed before the rename, the complete file stays under its temporary name.
                    link_open(file, self.directory, &self.part)?;
                }
                other => return other,
            }
            self.has_part = true;
        }
        match existing {
            Existing::Replace => self.rename(name)?,
            Existing::Keep => self.rename_or_keep(name)?,
            Existing::KeepUnderLock => self.rename_under_lock(name)?,
        }
        self.has_part = false;
        Ok(())
    }

    fn rename(&self, name: &OsStr) -> Result<(), Errno> {
        rustix::fs::renameat(self.directory, &self.part, self.directory, name)
    }

    /// Renames in one step. The outer error means that this is impossible here.
    fn rename_without_replacing(&self, name: &OsStr) -> Result<Result<(), Errno>, Errno> {
        let flags = RenameFlags::NOREPLACE;
        match rustix::fs::renameat_with(self.directory, &self.part, self.directory, name, flags) {
            Err(error @ (Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP | Errno::PERM)) => Ok(Err(error)),
            other => other.map(Ok),
        }
    }

    fn rename_or_keep(&self, name: &OsStr) -> Result<(), Errno> {
        let Err(refused) = self.rename_without_replacing(name)? else { return Ok(()) };
        match rustix::fs::linkat(self.directory, &self.part, self.directory, name, AtFlags::empty()) {
            // A network file system whose answer was lost repeats the request, and then finds its own name.
            Err(Errno::EXIST) if self.has_name(name) => {}
            // A directory that may not be changed gives the same error as a filter of this call.
            Err(Errno::PERM) if refused == Errno::PERM => return Err(refused),
            Err(Errno::PERM | Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => {
                return Err(Errno::OPNOTSUPP);
            }
            other => other?,
        }
        rustix::fs::unlinkat(self.directory, &self.part, AtFlags::empty())
    }

    fn rename_under_lock(&self, name: &OsStr) -> Result<(), Errno> {
        if self.rename_without_replacing(name)?.is_ok() {
            return Ok(());
        }
        match rustix::fs::statat(self.directory, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(_) => Err(Errno::EXIST),
            Err(Errno::NOENT) => self.rename(name),
            Err(error) => Err(error),
        }
    }

    fn has_name(&self, name: &OsStr) -> bool {
        let at = |name: &OsStr| FileId::at(self.directory, name);
        at(name).is_ok_and(|there| at(&self.part) == Ok(there))
    }
}

impl Drop for NewFile<'_> {
    fn drop(&mut self) {
        if self.has_part {
            let _ = rustix::fs::unlinkat(self.directory, &self.part, AtFlags::empty());
        }
    }
}

/// Returns whether a filter of system calls refuses linkat(2). No file has an empty name, so a call that the filter
/// allows fails with "no such file".
fn links_are_barred() -> bool {
    let tried = rustix::fs::linkat(CWD, "", CWD, "", AtFlags::empty());
    matches!(tried, Err(Errno::PERM | Errno::NOSYS | Errno::ACCESS))
}

fn link_open(file: BorrowedFd<'_>, directory: BorrowedFd<'_>, name: &OsStr) -> Result<(), Errno> {
    rustix::fs::linkat(CWD, path_of(file), directory, name, AtFlags::SYMLINK_FOLLOW)
}

/// Checks in advance whether a file can get its name in this directory without replacing another ([`Existing::Keep`]).
///
/// # Errors
/// [`Errno::OPNOTSUPP`] if the file system cannot do that, or another error of the kernel.
pub(crate) fn check_keep(directory: BorrowedFd<'_>, token: &str) -> Result<(), Errno> {
    let (mut new, file) = NewFile::create(directory, part_name(token), Mode::RUSR | Mode::WUSR)?;
    if !new.has_part() {
        return Ok(());
    }
    let trial = part_name(&format!("{token}-0"));
    new.publish(file.as_fd(), &trial, Existing::Keep)?;
    rustix::fs::unlinkat(directory, &trial, AtFlags::empty())
}

/// What a directory's file system can do for new files.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Abilities {
    /// A file needs no name before it is complete.
    pub unnamed: bool,
    /// A file can get its name without replacing another.
    pub keeps: bool,
}

/// Finds out what a directory's file system can do. Makes files there, and removes them.
///
/// # Errors
/// No file can be made there.
pub fn abilities(directory: impl AsFd) -> Result<Abilities, Errno> {
    let (directory, token) = (directory.as_fd(), token());
    let unnamed = NewFile::create_unnamed(directory, part_name(&token), Mode::RUSR | Mode::WUSR)?.is_some();
    match check_keep(directory, &token) {
        Ok(()) => Ok(Abilities { unnamed, keeps: true }),
        Err(Errno::OPNOTSUPP) => Ok(Abilities { unnamed, keeps: false }),
        Err(error) => Err(error),
    }
}

/// Finds out whether files in a directory can be locked.
///
/// # Errors
/// The kernel's error.
pub fn check_locks(directory: impl AsFd) -> Result<(), Errno> {
    let mode = Mode::RUSR | Mode::WUSR;
    let (_new, file) = NewFile::create(directory.as_fd(), part_name(&token()), mode)?;
    ByteLocks::open(&file)?.try_lock(0).map(|_| ())
}

/// Writes all bytes to a file, and through its file system.
///
/// # Errors
/// The kernel's error.
pub(crate) fn fill(file: impl AsFd, mut bytes: &[u8]) -> Result<(), Errno> {
    while !bytes.is_empty() {
        match rustix::io::write(&file, bytes) {
            Ok(0) => return Err(Errno::IO),
            Ok(count) => bytes = &bytes[count..],
            Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
    }
    flush(file)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn names(directory: &Path) -> Vec<String> {
        let entries = std::fs::read_dir(directory).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_file_has_no_name_before_it_is_given_one_and_keeps_what_is_to_be_kept() {
        let place = tempfile::tempdir().unwrap();
        let directory = std::fs::File::open(place.path()).unwrap();
        let path = place.path().join("file");
        std::fs::write(&path, "old").unwrap();
        for (existing, expected, text) in [
            (Existing::Keep, Err(Errno::EXIST), "old"),
            (Existing::KeepUnderLock, Err(Errno::EXIST), "old"),
            (Existing::Replace, Ok(()), "new"),
        ] {
            let mode = Mode::RUSR | Mode::WUSR;
            let (mut new, file) = NewFile::create(directory.as_fd(), ".a.part", mode).unwrap();
            fill(&file, b"new").unwrap();
            assert_eq!(new.publish(file.as_fd(), "file".as_ref(), existing), expected);
            drop(new);
            assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
            assert_eq!(names(place.path()), ["file"]);
        }
        assert_eq!(check_keep(directory.as_fd(), "a"), Ok(()));
        assert_eq!(names(place.path()), ["file"]);
    }
}
