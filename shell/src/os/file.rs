//! What a name leads to, opened once. Between a look at a name and its use another process may have put something else
//! there; so the look opens it, and the use goes through the descriptor.
//!
//! Only for removing does the kernel want a name. `remove_if` looks a last time, whether it still leads to what was
//! judged; and those of us who change names in the runtime directory do so under its lock.

use super::close_on_fork::CloseOnForkFd;
use super::error::last_error;
use super::file_id::FileId;
use rustix::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;
use rustix::net::SocketAddrUnix;
use rustix::path::Arg;
use rustix::process::geteuid;
use std::path::PathBuf;

/// Whether [`path_of`] leads anywhere: in a chroot or a sandbox /proc may be missing.
pub(crate) fn is_proc_mounted() -> bool {
    rustix::fs::access("/proc/self/fd", rustix::fs::Access::EXISTS).is_ok()
}

/// Removes a name if it still leads to this file. False: it leads to nothing, or to something else.
pub(crate) fn remove_if(directory: impl AsFd, name: impl Arg + Copy, file: FileId) -> Result<bool, Errno> {
    let removed = match FileId::at(&directory, name) {
        Ok(there) if there == file => rustix::fs::unlinkat(directory, name, AtFlags::empty()),
        Ok(_) => return Ok(false),
        Err(error) => Err(error),
    };
    match removed {
        Ok(()) => Ok(true),
        Err(Errno::NOENT | Errno::ISDIR) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Why what has a name is not used.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum OpenError {
    /// It is another kind of file, or somebody else's.
    NotOwned,
    /// A system call failed.
    System(Errno),
}

impl From<Errno> for OpenError {
    fn from(error: Errno) -> Self {
        Self::System(error)
    }
}

/// Opens what has a name, for looking alone: it is not followed, if a link, and nobody who waits at it notices.
fn look(directory: impl AsFd, name: impl Arg, kind: FileType) -> Result<(OwnedFd, Stat), OpenError> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = rustix::fs::openat(directory, name, flags, Mode::empty())?;
    let stat = rustix::fs::fstat(&file)?;
    let ours = FileType::from_raw_mode(stat.st_mode) == kind && stat.st_uid == geteuid().as_raw();
    if ours { Ok((file, stat)) } else { Err(OpenError::NotOwned) }
}

/// A path that leads to what is open, whatever its names, for as long as it is. (Borrowed, for whoever gave it away here
/// would have closed it before the path is used.)
pub(crate) fn path_of(file: BorrowedFd<'_>) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()))
}

/// Opens a file that must be a regular one of ours.
pub(crate) fn open_regular(
    directory: impl AsFd,
    name: impl Arg,
    access: OFlags,
) -> Result<(CloseOnForkFd, Stat), OpenError> {
    let (file, stat) = look(directory, name, FileType::RegularFile)?;
    let path = path_of(file.as_fd());
    let again = || rustix::fs::openat(CWD, &path, access | OFlags::CLOEXEC, Mode::empty());
    Ok((CloseOnForkFd::open(again)?, stat))
}

/// The file of a unix socket of ours.
#[derive(Debug)]
pub(crate) struct SocketFile {
    file: OwnedFd,
    /// What tells it from others.
    pub identity: FileId,
}

impl SocketFile {
    /// Opens what has a name, if it is that.
    pub fn open(directory: impl AsFd, name: impl Arg) -> Result<Self, OpenError> {
        let (file, stat) = look(directory, name, FileType::Socket)?;
        Ok(Self { file, identity: FileId::of(&stat) })
    }

    /// A path to it, whatever its names; good for as long as this lives.
    pub fn path(&self) -> PathBuf {
        path_of(self.file.as_fd())
    }

    /// Connects to who listens on it.
    pub fn connect(&self, socket: impl AsFd) -> Result<(), Errno> {
        rustix::net::connect(socket, &SocketAddrUnix::new(self.path())?)
    }

    /// Gives it the mode of [`make_private`].
    pub fn make_private(&self) -> Result<(), Errno> {
        with_private_mode(|mode| rustix::fs::chmodat(CWD, self.path(), mode, AtFlags::empty()))
    }
}

/// Gives a file the mode 0600 and the sticky bit. For a file, that bit says to leave it alone however old it is: the XDG
/// base directory specification defines it so, and systemd-tmpfiles keeps to it.
pub(crate) fn make_private(file: impl AsFd) -> Result<(), Errno> {
    with_private_mode(|mode| rustix::fs::fchmod(&file, mode))
}

fn with_private_mode(change: impl Fn(Mode) -> Result<(), Errno>) -> Result<(), Errno> {
    let private = Mode::RUSR | Mode::WUSR;
    // Not every file system knows the bit.
    change(private | Mode::SVTX).or_else(|_| change(private))
}

/// Writes from memory that another process may change meanwhile: the kernel reads it, we do not.
///
/// # Safety
/// - `length` bytes from `start` on are mapped for reading until this returns.
///
/// # Blocking
/// As the descriptor does. With `at`, as pwrite(2) there.
///
/// # Errors
/// What the kernel said.
pub unsafe fn write_raw(
    to: impl AsFd,
    start: *const u8,
    length: usize,
    at: Option<u64>,
) -> Result<usize, Errno> {
    let fd = to.as_fd().as_raw_fd();
    let count = match at {
        // SAFETY: by the caller's contract.
        None => unsafe { libc::write(fd, start.cast(), length) },
        // Not `pwrite`, whose offsets have 32 bits on 32-bit machines.
        // SAFETY: by the caller's contract.
        Some(at) => unsafe { libc::pwrite64(fd, start.cast(), length, at as libc::off64_t) },
    };
    usize::try_from(count).map_err(|_| last_error())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;
    use std::os::unix::net::{UnixListener, UnixStream};

    #[test]
    fn only_a_socket_of_ours_is_one_and_it_stays_the_one_that_was_opened() {
        let place = tempfile::tempdir().unwrap();
        let at = |name: &str| place.path().join(name);
        let listener = UnixListener::bind(at("socket")).unwrap();
        symlink(at("socket"), at("link")).unwrap();
        std::fs::write(at("file"), "").unwrap();
        for other in ["link", "file", "."] {
            assert_eq!(SocketFile::open(CWD, at(other)).unwrap_err(), OpenError::NotOwned, "{other}");
        }
        assert_eq!(SocketFile::open(CWD, at("none")).unwrap_err(), OpenError::System(Errno::NOENT));
        let opened = SocketFile::open(CWD, at("socket")).unwrap();
        let _other = UnixListener::bind(at("other")).unwrap();
        std::fs::rename(at("other"), at("socket")).unwrap();
        let client =
            rustix::net::socket(rustix::net::AddressFamily::UNIX, rustix::net::SocketType::STREAM, None);
        opened.connect(client.unwrap()).unwrap();
        listener.set_nonblocking(true).unwrap();
        assert!(listener.accept().is_ok(), "somebody else was connected to");
        assert_eq!(remove_if(CWD, &*at("socket"), opened.identity), Ok(false));
        assert!(UnixStream::connect(at("socket")).is_ok());
    }

    #[test]
    fn only_a_regular_file_of_ours_is_opened_and_removed_only_while_it_has_the_name() {
        let place = tempfile::tempdir().unwrap();
        let at = |name: &str| place.path().join(name);
        std::fs::write(at("file"), "text").unwrap();
        symlink("file", at("link")).unwrap();
        rustix::fs::mknodat(CWD, at("fifo"), FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        for other in ["link", "fifo", "."] {
            assert_eq!(
                open_regular(CWD, at(other), OFlags::RDONLY).unwrap_err(),
                OpenError::NotOwned,
                "{other}"
            );
        }
        let (_file, stat) = open_regular(CWD, at("file"), OFlags::RDWR).unwrap();
        std::fs::rename(at("file"), at("elsewhere")).unwrap();
        assert_eq!(remove_if(CWD, &*at("file"), FileId::of(&stat)), Ok(false));
        assert_eq!(remove_if(CWD, &*at("elsewhere"), FileId::of(&stat)), Ok(true));
        assert!(!at("elsewhere").exists() && at("link").is_symlink());
    }
}
