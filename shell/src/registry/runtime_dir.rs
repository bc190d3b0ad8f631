//! The per-user runtime directory: `$XDG_RUNTIME_DIR/whorl`, else `whorl-UID` in the temporary directory.
//!
//! Names in it are trusted, so no other user may write there or change the path to it. So this user owns the directory,
//! its mode is 0700, and it is no symbolic link. This user or root owns its parent, which other users cannot write
//! unless it is sticky. Everything in the directory is reached through its descriptor, never by its path again.

use crate::os::close_on_fork::CloseOnForkFd;
use crate::os::error::{OsError, cannot};
use crate::os::file::path_of;
use crate::os::file_id::FileId;
use crate::os::pid::mount_namespace;
use rustix::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, CWD, FileType, FlockOperation, Mode, OFlags, Stat};
use rustix::io::Errno;
use rustix::net::SocketAddrUnix;
use rustix::process::geteuid;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use thiserror::Error;

/// The opened runtime directory.
#[derive(Debug)]
pub struct RuntimeDir {
    path: PathBuf,
    directory: OwnedFd,
    view: View,
}

/// What paths mean to a thread: its root directory, and the number of its mount namespace.
type View = (Option<FileId>, Option<u64>);

fn view() -> View {
    (FileId::at(CWD, "/").ok(), mount_namespace())
}

/// Why no runtime directory can be used.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum RuntimeError {
    /// A system call failed.
    #[error("the runtime directory {}: {}", crate::os::escape::shown(.path), crate::os::error::reason(.error.errno()))]
    System {
        /// The directory.
        path: PathBuf,
        /// What failed.
        #[source]
        error: OsError,
    },
    /// It is not safe.
    #[error("the runtime directory {} is not safe: {why}; {advice}", crate::os::escape::shown(.path))]
    Unsafe {
        /// The directory, or one on the path to it.
        path: PathBuf,
        /// What is wrong.
        why: String,
        /// The advice.
        advice: &'static str,
    },
    /// Without /proc the directory cannot be used, because files in it are opened through /proc.
    #[error(
        "/proc is not mounted, and what is in the runtime directory is reached through it; mount it: mount -t proc proc /proc"
    )]
    NoProc,
}

/// The advice if another directory is needed.
const ELSEWHERE: &str = "set XDG_RUNTIME_DIR to a directory owned by you with mode 0700";
/// The advice if the environment names another user's directory, as after `sudo -E` and `su`.
const NOT_YOURS: &str = "run this as that user, or unset XDG_RUNTIME_DIR";

/// Returns the parent and the name of the user's runtime directory.
fn default_place() -> (PathBuf, String) {
    match std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|path| path.is_absolute()) {
        Some(parent) => (parent, "whorl".to_owned()),
        None => (std::env::temp_dir(), format!("whorl-{}", geteuid().as_raw())),
    }
}

impl RuntimeDir {
    /// Opens the directory, and makes it if it does not exist.
    ///
    /// # Errors
    /// It cannot be made, or another user could change its contents.
    pub fn open() -> Result<Self, RuntimeError> {
        let (parent, name) = default_place();
        Self::open_in(&parent, &name)
    }

    /// Opens the directory at this path, or the default one if there is none, and makes it if it does not exist.
    ///
    /// # Errors
    /// It cannot be made, or another user could change its contents.
    pub(crate) fn open_at_or_default(path: Option<&Path>) -> Result<Self, RuntimeError> {
        path.map_or_else(Self::open, Self::open_at)
    }

    /// Opens the directory if it exists. Returns `None` if it does not.
    ///
    /// # Errors
    /// Another user could change its contents.
    pub fn open_existing() -> Result<Option<Self>, RuntimeError> {
        let (parent, name) = default_place();
        match Self::open_named(&parent, &name, false) {
            Err(RuntimeError::System { error, path })
                if error.errno() == Errno::NOENT && path.parent().is_some_and(Path::exists) =>
            {
                Ok(None)
            }
            other => other.map(Some),
        }
    }

    /// Opens the directory at this path, and makes it if it does not exist.
    ///
    /// # Errors
    /// It cannot be made, another user could change its contents, or the path does not end with a name.
    pub fn open_at(path: &Path) -> Result<Self, RuntimeError> {
        let Some(name) = path.file_name().and_then(OsStr::to_str) else {
            let (path, why) = (path.to_owned(), "the path does not end with a name".to_owned());
            return Err(RuntimeError::Unsafe { path, why, advice: "give the path of a directory" });
        };
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        Self::open_in(parent.unwrap_or(Path::new(".")), name)
    }

    /// Opens `name` in a given directory, and makes it if it does not exist.
    ///
    /// # Errors
    /// It cannot be made, or another user could change its contents.
    pub fn open_in(parent: &Path, name: &str) -> Result<Self, RuntimeError> {
        Self::open_named(parent, name, true)
    }

    fn open_named(parent: &Path, name: &str, creates: bool) -> Result<Self, RuntimeError> {
        let path = parent.join(name);
        let failed =
            |error| RuntimeError::System { path: path.clone(), error: cannot("open the directory")(error) };
        let refuse = |path: &Path, why: &str, advice| {
            Err(RuntimeError::Unsafe { path: path.to_owned(), why: why.to_owned(), advice })
        };
        let not_a_directory =
            || refuse(&path, "it is a link or no directory", "remove it, or set XDG_RUNTIME_DIR");
        if !crate::os::file::is_proc_mounted() {
            return Err(RuntimeError::NoProc);
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let above = match rustix::fs::open(parent, flags, Mode::empty()) {
            // Most often it is another user's directory, and then the message says so.
            Err(Errno::ACCESS) => match rustix::fs::stat(parent) {
                Ok(stat) if is_foreign(&stat) => return refuse(parent, &owned(&stat), NOT_YOURS),
                _ => return Err(failed(Errno::ACCESS)),
            },
            other => other.map_err(failed)?,
        };
        let stat = rustix::fs::fstat(&above).map_err(failed)?;
        if is_foreign(&stat) {
            let is_named =
                std::env::var_os("XDG_RUNTIME_DIR").is_some_and(|named| parent == Path::new(&named));
            let advice = if is_named { NOT_YOURS } else { ELSEWHERE };
            return refuse(parent, &owned(&stat), advice);
        }
        if is_open_to_others(&stat) {
            return refuse(parent, "other users may write to it", ELSEWHERE);
        }
        let made = if creates { rustix::fs::mkdirat(&above, name, Mode::RWXU) } else { Err(Errno::EXIST) };
        match made {
            // The mode counts whatever the umask is, and only for a directory, not for the target of a link in its
            // place.
            Ok(()) => {
                let made = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let made = match rustix::fs::openat(&above, name, made, Mode::empty()) {
                    Err(Errno::LOOP | Errno::NOTDIR) => return not_a_directory(),
                    other => other.map_err(failed)?,
                };
                // Some file systems refuse this and set the right mode themselves. The check below sees that.
                let _ = rustix::fs::chmodat(CWD, path_of(made.as_fd()), Mode::RWXU, AtFlags::empty());
            }
            Err(Errno::EXIST) => {}
            Err(error) => return Err(failed(error)),
        }
        let directory = match rustix::fs::openat(&above, name, flags | OFlags::NOFOLLOW, Mode::empty()) {
            Err(Errno::LOOP | Errno::NOTDIR) => return not_a_directory(),
            other => other.map_err(failed)?,
        };
        let stat = rustix::fs::fstat(&directory).map_err(failed)?;
        if stat.st_uid != geteuid().as_raw() {
            return refuse(&path, &owned(&stat), ELSEWHERE);
        }
        if Mode::from_raw_mode(stat.st_mode) != Mode::RWXU {
            return refuse(
                &path,
                "its mode is not 0700",
                "give it mode 0700 with chmod, or set XDG_RUNTIME_DIR",
            );
        }
        Ok(Self { path, directory, view: view() })
    }

    /// Returns its path, for messages.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns whether the directory still has its path. It loses the path if another program removes or replaces it.
    /// Returns `true` if the kernel does not report it.
    pub fn is_in_place(&self) -> bool {
        let Ok(opened) = rustix::fs::fstat(&self.directory).map(|stat| FileId::of(&stat)) else {
            return true;
        };
        match FileId::at(CWD, &*self.path) {
            // A relative path led here when it was opened, and may not any more. Neither may any path, if the program
            // has since changed its root or mount namespace. But clients that look for its names still use the old one.
            _ if !self.path.is_absolute() || view() != self.view => true,
            Ok(at_path) => at_path == opened,
            Err(error) => ![Errno::NOENT, Errno::NOTDIR].contains(&error),
        }
    }

    /// Opens the directory that has the path now, and makes it if it does not exist.
    ///
    /// # Errors
    /// It cannot be made, or another user could change its contents.
    pub fn reopen(&self) -> Result<Self, RuntimeError> {
        match (self.path.parent(), self.path.file_name().and_then(|name| name.to_str())) {
            (Some(parent), Some(name)) => Self::open_in(parent, name),
            _ => Self::open(),
        }
    }

    /// Binds a socket to a name in it. Uses the real path if that fits a socket's address, because programs that clean
    /// up treat a socket as dead if its path is not in `/proc/net/unix`. Otherwise uses the opened directory.
    ///
    /// # Errors
    /// The kernel's error; [`Errno::STALE`] if the directory was replaced before.
    pub(crate) fn bind(&self, socket: impl AsFd, name: &str) -> Result<(), Errno> {
        let real = self.path.is_absolute().then(|| SocketAddrUnix::new(self.path.join(name)).ok()).flatten();
        match real.filter(|_| self.is_in_place()) {
            Some(real) => {
                rustix::net::bind(socket, &real)?;
                // The path may have led elsewhere for a moment. A socket that was bound there is not in this directory.
                if self.is_in_place() { Ok(()) } else { Err(Errno::STALE) }
            }
            None => rustix::net::bind(socket, &SocketAddrUnix::new(self.path_of(name))?),
        }
    }

    /// Returns a short path to a file in it, through the opened directory. Some calls take no directory descriptor,
    /// such as binding a socket, whose path may have 107 bytes.
    pub fn path_of(&self, name: &str) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}/{name}", self.directory.as_raw_fd()))
    }
}

/// The held lock of the directory. While a process holds it, no other process binds a socket's name, finds a socket
/// stale, or removes one. The kernel drops the lock of a killed holder.
#[derive(Debug)]
pub struct Locked<'d> {
    directory: &'d RuntimeDir,
    _lock: DirectoryLock,
}

/// The held lock of any directory. The kernel drops the lock of a killed holder.
#[derive(Debug)]
pub(crate) struct DirectoryLock {
    file: CloseOnForkFd,
}

/// A holder needs milliseconds. A stopped holder is not waited for any longer than this.
const PATIENCE: Duration = Duration::from_secs(10);

impl RuntimeDir {
    /// Takes the directory's lock.
    ///
    /// # Blocking
    /// Until the holder releases it, at most ten seconds.
    ///
    /// # Errors
    /// [`Errno::TIMEDOUT`], or another error of the kernel.
    pub fn lock(&self) -> Result<Locked<'_>, Errno> {
        Ok(Locked { directory: self, _lock: DirectoryLock::take(self)? })
    }

    /// Takes the directory's lock if it is free.
    ///
    /// # Errors
    /// [`Errno::WOULDBLOCK`] if another process has it, or another error of the kernel.
    pub(crate) fn try_lock(&self) -> Result<Locked<'_>, Errno> {
        Ok(Locked { directory: self, _lock: DirectoryLock::try_take(self)? })
    }

    /// Returns the sorted names in it, without names that are not UTF-8, because Whorl makes none.
    ///
    /// # Errors
    /// The kernel's error.
    pub fn names(&self) -> Result<Vec<String>, Errno> {
        let mut names = Vec::new();
        for entry in rustix::fs::Dir::read_from(&self.directory)? {
            if let Ok(name) = entry?.file_name().to_str() {
                names.push(name.to_owned());
            }
        }
        names.sort();
        Ok(names)
    }
}

impl<'d> Locked<'d> {
    /// Returns the directory.
    pub fn directory(&self) -> &'d RuntimeDir {
        self.directory
    }
}

impl DirectoryLock {
    /// Takes the lock of an opened directory.
    ///
    /// # Blocking
    /// Until the holder releases it, at most ten seconds.
    ///
    /// # Errors
    /// [`Errno::TIMEDOUT`], or another error of the kernel.
    pub(super) fn take(directory: impl AsFd) -> Result<Self, Errno> {
        let lock = Self::open(directory)?;
        let begun = Instant::now();
        let mut nap = Duration::from_micros(100);
        loop {
            match rustix::fs::flock(&lock.file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(lock),
                Err(Errno::WOULDBLOCK) if begun.elapsed() < PATIENCE => std::thread::sleep(nap),
                Err(Errno::WOULDBLOCK) => return Err(Errno::TIMEDOUT),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error),
            }
            nap = (nap * 2).min(Duration::from_millis(5));
        }
    }

    /// Takes the lock of an opened directory, without waiting.
    ///
    /// # Errors
    /// [`Errno::WOULDBLOCK`] if another process has it, or another error of the kernel.
    pub(super) fn try_take(directory: impl AsFd) -> Result<Self, Errno> {
        let lock = Self::open(directory)?;
        rustix::fs::flock(&lock.file, FlockOperation::NonBlockingLockExclusive)?;
        Ok(lock)
    }

    /// Opens a new file description. Through a shared one the threads of a process would not exclude each other.
    fn open(directory: impl AsFd) -> Result<Self, Errno> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        CloseOnForkFd::open(|| rustix::fs::openat(&directory, ".", flags, Mode::empty()))
            .map(|file| Self { file })
    }
}

impl Drop for DirectoryLock {
    fn drop(&mut self) {
        // Closing alone does not release the lock, because a child that was forked just now may still have a copy.
        if !self.file.born().has_forked() {
            let _ = rustix::fs::flock(&self.file, FlockOperation::Unlock);
        }
    }
}

impl AsFd for RuntimeDir {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.directory.as_fd()
    }
}

/// Returns whether neither this user nor root owns the parent of a runtime directory.
fn is_foreign(stat: &Stat) -> bool {
    stat.st_uid != geteuid().as_raw() && stat.st_uid != 0
}

fn owned(stat: &Stat) -> String {
    // The number that the kernel reports for users that this user namespace does not know.
    const OVERFLOW: u32 = 65534;
    let foreign = if stat.st_uid == OVERFLOW { ", or to one outside this user namespace" } else { "" };
    let (owner, own) = (stat.st_uid, geteuid().as_raw());
    format!("it belongs to user {owner}{foreign}, and this process runs as user {own}")
}

/// Returns whether other users could replace the files in a directory.
fn is_open_to_others(stat: &Stat) -> bool {
    let mode = Mode::from_raw_mode(stat.st_mode);
    debug_assert_eq!(FileType::from_raw_mode(stat.st_mode), FileType::Directory);
    mode.intersects(Mode::WGRP | Mode::WOTH) && !mode.contains(Mode::SVTX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{DirBuilder, Permissions, create_dir, metadata, set_permissions};
    use std::os::unix::fs::{DirBuilderExt, PermissionsExt, symlink};

    fn why(parent: &Path) -> String {
        match RuntimeDir::open_in(parent, "whorl") {
            Err(RuntimeError::Unsafe { why, .. }) => why,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_fresh_directory_is_made_for_us_alone_and_found_again() {
        let parent = tempfile::tempdir().unwrap();
        for _ in 0..2 {
            let directory = RuntimeDir::open_in(parent.path(), "whorl").unwrap();
            assert_eq!(metadata(directory.path()).unwrap().permissions().mode() & 0o7777, 0o700);
        }
    }

    #[test]
    fn whatever_others_could_have_planted_is_refused() {
        let parent = tempfile::tempdir().unwrap();
        let at = parent.path().join("whorl");
        create_dir(parent.path().join("elsewhere")).unwrap();
        symlink("elsewhere", &at).unwrap();
        assert!(why(parent.path()).contains("link"));
        std::fs::remove_file(&at).unwrap();
        std::fs::write(&at, "").unwrap();
        assert!(why(parent.path()).contains("no directory"));
        std::fs::remove_file(&at).unwrap();
        DirBuilder::new().mode(0o700).create(&at).unwrap();
        set_permissions(&at, Permissions::from_mode(0o750)).unwrap();
        assert!(why(parent.path()).contains("0700"));
        std::fs::remove_dir(&at).unwrap();
        set_permissions(parent.path(), Permissions::from_mode(0o777)).unwrap();
        assert!(why(parent.path()).contains("other users may write"));
        set_permissions(parent.path(), Permissions::from_mode(0o1777)).unwrap();
        assert!(RuntimeDir::open_in(parent.path(), "whorl").is_ok());
    }
}
