//! Lock files: a file has a name for as long as the process that made it lives.
//!
//! The process holds a lock on its file, and the kernel drops the lock when the process dies. A file with a free lock
//! is stale, whatever its text says. The file is complete, private and locked before it gets its name, so no process
//! ever sees it in another state. Only a process that holds a file's lock removes the file. So only one of several
//! processes that remove a stale file does so, and none of them removes the new file that takes the name next.

use super::runtime_dir::DirectoryLock;
use crate::os::close_on_fork::ForkId;
use crate::os::error::{OsError, cannot};
use crate::os::file::{OpenError, make_private, open_regular, remove_if};
use crate::os::file_id::FileId;
use crate::os::new_file::{Existing, NewFile, fill};
use crate::os::ofd_lock::ByteLocks;
use crate::os::pid::{is_own_pid_namespace, pid_namespace};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;
use rustix::path::Arg;
use rustix::process::geteuid;

/// The longest text that is read.
pub(crate) const MAX_TEXT: usize = 4096;
/// The byte that the file's process locks. It is behind the text, because some network file systems do not let other
/// processes read a locked byte.
pub const OWNER: u32 = 1 << 20;
/// How often to try for a name. In each failed attempt another process's file came or went.
const ATTEMPTS: u32 = 1000;

/// Why no lock file was made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum LockFileError {
    /// A live process has a file of that name.
    InUse,
    /// The name leads to something that is not a regular file owned by this user.
    NotOwned,
    /// A system call failed.
    System(OsError),
}

impl From<OsError> for LockFileError {
    fn from(error: OsError) -> Self {
        Self::System(error)
    }
}

/// The lock file of this process. Dropping it removes the file.
#[derive(Debug)]
pub(crate) struct LockFile {
    directory: OwnedFd,
    name: String,
    id: FileId,
    locks: ByteLocks,
    fork: ForkId,
}

impl LockFile {
    /// Makes a file that holds `text`, locks it, and gives it its name. Removes a stale file that has the name.
    ///
    /// # Blocking
    /// Until other processes release the directory's lock, at most 10 s, and only if the file system has no unnamed
    /// files.
    ///
    /// # Errors
    /// A live process has the name, or a system call failed. Then no file is left.
    pub(crate) fn create(directory: impl AsFd, name: &str, text: &[u8]) -> Result<Self, LockFileError> {
        let directory =
            rustix::io::fcntl_dupfd_cloexec(directory, 3).map_err(cannot("open the directory"))?;
        let locks = publish(directory.as_fd(), name, text)?;
        let id = FileId::of(&rustix::fs::fstat(&locks).map_err(cannot("look at the file"))?);
        Ok(Self { directory, name: name.to_owned(), id, locks, fork: ForkId::current() })
    }

    /// Returns whether the file still has its name.
    pub(crate) fn has_name(&self) -> bool {
        FileId::at(&self.directory, &*self.name) == Ok(self.id)
    }
}

impl AsFd for LockFile {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.locks.as_fd()
    }
}

impl Drop for LockFile {
    fn drop(&mut self) {
        if !self.fork.has_forked() {
            let _ = remove_if(&self.directory, &*self.name, self.id);
        }
    }
}

/// Makes a locked file and gives it its name.
fn publish(directory: BorrowedFd<'_>, name: &str, text: &[u8]) -> Result<ByteLocks, LockFileError> {
    let mode = Mode::RUSR | Mode::WUSR;
    // One name for each user is enough, because under the directory's lock there is one such file at a time.
    let part = format!(".whorl-{}.part", geteuid().as_raw());
    let mut _lock = None;
    let (mut new, file) =
        match NewFile::create_unnamed(directory, &*part, mode).map_err(cannot("write the file"))? {
            Some(unnamed) => unnamed,
            None => {
                _lock = Some(DirectoryLock::take(directory).map_err(cannot("lock the directory"))?);
                // A killed process may have left it.
                let _ = rustix::fs::unlinkat(directory, &*part, AtFlags::empty());
                NewFile::create_named(directory, &*part, mode).map_err(cannot("write the file"))?
            }
        };
    // The umask does not count. FAT and similar file systems refuse this, because all their files have the mode of the
    // mount.
    let _ = make_private(&file);
    fill(&file, text).map_err(cannot("write the file"))?;
    let locks = ByteLocks::open(&file).map_err(cannot("lock the file"))?;
    if !locks.try_lock(OWNER).map_err(cannot("lock the file"))? {
        return Err(cannot("lock the file")(Errno::AGAIN).into());
    }
    for _ in 0..ATTEMPTS {
        match new.publish(locks.as_fd(), name.as_ref(), Existing::KeepUnderLock) {
            Ok(()) => return Ok(locks),
            Err(Errno::EXIST) => {}
            Err(error) => return Err(cannot("write the file")(error).into()),
        }
        match LockFileEntry::open(directory, name)
            .and_then(|found| found.remove_stale(directory, name, |_| true))
        {
            Ok(Leftover::Live) => return Err(LockFileError::InUse),
            Ok(Leftover::Removed | Leftover::Gone) | Err(OpenError::System(Errno::NOENT)) => {}
            Err(OpenError::NotOwned) => return Err(LockFileError::NotOwned),
            Err(OpenError::System(error)) => return Err(cannot("open the file of that name")(error).into()),
        }
    }
    Err(LockFileError::InUse)
}

/// A lock file as other processes see it.
#[derive(Debug)]
pub(crate) struct LockFileEntry {
    id: FileId,
    text: Vec<u8>,
    /// Only for checks, because the file is open for reading.
    locks: ByteLocks,
}

/// The result of removing a stale file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Leftover {
    /// It is not stale. A file that another process is removing looks the same.
    Live,
    /// It was removed.
    Removed,
    /// The name leads to another file, or to none.
    Gone,
}

impl LockFileEntry {
    /// Opens the file that has a name.
    ///
    /// # Errors
    /// There is no file, or it is not a regular file owned by this user.
    pub(crate) fn open(directory: impl AsFd, name: impl Arg + Copy) -> Result<Self, OpenError> {
        let (file, stat) = open_regular(directory, name, OFlags::RDONLY)?;
        let mut text = vec![0; MAX_TEXT + 1];
        let mut length = 0;
        while length < text.len() {
            match rustix::io::read(&file, &mut text[length..]) {
                Ok(0) => break,
                Ok(count) => length += count,
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        text.truncate(length);
        Ok(Self { id: FileId::of(&stat), text, locks: ByteLocks::of(file) })
    }

    /// Returns the file's text. A text longer than [`MAX_TEXT`] is cut to one byte more than that.
    pub(crate) fn text(&self) -> &[u8] {
        &self.text
    }

    /// Returns whether the file's process lives. Returns `true` if the kernel does not report it.
    pub(crate) fn is_live(&self) -> bool {
        self.locks.is_held(OWNER)
    }

    /// Returns the process that the [`owner_lines`] of the text name, or 0 if the number means another process here.
    pub(crate) fn visible_pid(&self) -> u32 {
        let text = std::str::from_utf8(&self.text).unwrap_or_default();
        let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
        match is_own_pid_namespace(field("namespace").and_then(|number| number.parse().ok())) {
            true => field("pid").and_then(|pid| pid.parse().ok()).unwrap_or(0),
            false => 0,
        }
    }

    /// Removes the file if it is stale. Calls `clear` before, while no other process can take the name. The file stays
    /// if `clear` returns `false`.
    ///
    /// # Errors
    /// A system call failed.
    pub(crate) fn remove_stale(
        &self,
        directory: impl AsFd,
        name: &str,
        clear: impl FnOnce(&[u8]) -> bool,
    ) -> Result<Leftover, OpenError> {
        let locks = ByteLocks::open(&self.locks)?;
        if !locks.try_lock(OWNER)? {
            return Ok(Leftover::Live);
        }
        // Before this process got the lock, another process may have removed the file, and a third one made a new file.
        let is_removed = FileId::at(&directory, name) == Ok(self.id)
            && clear(&self.text)
            && remove_if(&directory, name, self.id)?;
        Ok(if is_removed { Leftover::Removed } else { Leftover::Gone })
    }

    /// Sets a mode that the file's process can see after the removal, and removes the file. Returns `false` if the name
    /// leads to another file.
    ///
    /// # Errors
    /// A system call failed.
    pub(crate) fn remove_marked(&self, directory: impl AsFd, name: &str, mark: Mode) -> Result<bool, Errno> {
        rustix::fs::fchmod(&self.locks, mark)?;
        remove_if(directory, name, self.id)
    }
}

/// Returns the lines that name this process in a lock file's text.
pub(crate) fn owner_lines() -> String {
    let namespace = pid_namespace().map_or(String::new(), |number| format!("namespace={number}\n"));
    format!("pid={}\n{namespace}", std::process::id())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::os::file::is_proc_mounted;
    use std::fs::{read_to_string, write};
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

    #[test]
    fn a_name_belongs_to_one_live_process_and_a_stale_file_is_replaced() {
        assert!(is_proc_mounted());
        let place = tempfile::tempdir().unwrap();
        let directory = std::fs::File::open(place.path()).unwrap();
        let path = place.path().join("x");
        let create = |text: &str| LockFile::create(&directory, "x", text.as_bytes());
        let first = create(&owner_lines()).unwrap();
        assert_eq!(create("").unwrap_err(), LockFileError::InUse);
        let seen = LockFileEntry::open(&directory, "x").unwrap();
        assert!(seen.is_live() && first.has_name());
        assert_eq!(seen.visible_pid(), std::process::id());
        assert_eq!(seen.remove_stale(&directory, "x", |_| panic!("it lives")), Ok(Leftover::Live));
        // Another program removes the name. A second file takes it, and the end of the first one does not change that.
        std::fs::remove_file(&path).unwrap();
        let second = create("second").unwrap();
        assert!(!first.has_name() && seen.is_live());
        drop(first);
        assert!(!seen.is_live());
        assert_eq!(seen.remove_stale(&directory, "x", |_| panic!("it has no name")), Ok(Leftover::Gone));
        assert_eq!(read_to_string(&path).unwrap(), "second");
        drop(second);
        assert!(!path.exists());
        write(&path, "namespace=1\npid=7\n").unwrap();
        let seen = LockFileEntry::open(&directory, "x").unwrap();
        assert!(!seen.is_live() && seen.visible_pid() == 0);
        assert_eq!(seen.remove_stale(&directory, "x", |_| false), Ok(Leftover::Gone));
        assert_eq!(
            seen.remove_stale(&directory, "x", |text| text.starts_with(b"name")),
            Ok(Leftover::Removed)
        );
        std::os::unix::fs::symlink("elsewhere", &path).unwrap();
        assert_eq!(create("").unwrap_err(), LockFileError::NotOwned);
    }

    #[test]
    fn a_file_is_never_seen_unlocked_while_its_process_lives() {
        let place = tempfile::tempdir().unwrap();
        let directory = std::fs::File::open(place.path()).unwrap();
        let (over, seen) = (AtomicBool::new(false), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    let Ok(file) = LockFileEntry::open(&directory, "x") else { continue };
                    let mode = Mode::from_raw_mode(rustix::fs::fstat(&file.locks).unwrap().st_mode);
                    assert_eq!(mode - Mode::SVTX, Mode::RUSR | Mode::WUSR);
                    // It may have ended since. Then another file has the name, or none.
                    assert!(file.is_live() || FileId::at(&directory, "x") != Ok(file.id));
                    seen.fetch_add(1, Ordering::Relaxed);
                }
            });
            while seen.load(Ordering::Relaxed) < 1000 {
                drop(LockFile::create(&directory, "x", b"text").unwrap());
            }
            over.store(true, Ordering::Relaxed);
        });
    }
}
