//! Opens the file of a name once, checks it, and uses it through the descriptor.
//!
//! Between a check of a name and its use, another process may give the name to another file. So the check opens the file, and each
//! use goes through the descriptor.
//!
//! Only removal needs the name again. `remove_if` first checks that the name still leads to the same file. Processes of this
//! library change the names in the runtime directory only under its lock.

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

/// Returns whether /proc is mounted, which [`path_of`] needs. It may be missing in a chroot or a sandbox.
pub(crate) fn is_proc_mounted() -> bool {
    rustix::fs::access("/proc/self/fd", rustix::fs::Access::EXISTS).is_ok()
}

/// Removes a name if it still leads to this file. Returns `false` if the name does not exist or leads to another file.
///
/// # Errors
/// The kernel's error.
pub(crate) fn remove_if(directory: impl AsFd, name: impl Arg + Copy, file: FileId) -> Result<bool, Errno> {
    let removed = match FileId::at(&directory, name) {
        Ok(found) if found == file => rustix::fs::unlinkat(directory, name, AtFlags::empty()),
        Ok(_) => return Ok(false),
        Err(error) => Err(error),
    };
    match removed {
        Ok(()) => Ok(true),
        Err(Errno::NOENT | Errno::ISDIR) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Why a file is not used.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum OpenError {
    /// The file has another type, or another owner.
    NotOwned,
    /// A system call failed.
    System(Errno),
}

impl From<Errno> for OpenError {
    fn from(error: Errno) -> Self {
        Self::System(error)
    }
}

/// Opens a file with `O_PATH` and checks its type and owner. It does not follow a symbolic link. A process that waits at the other
/// end of a FIFO does not notice this.
fn open_path(directory: impl AsFd, name: impl Arg, kind: FileType) -> Result<(OwnedFd, Stat), OpenError> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = rustix::fs::openat(directory, name, flags, Mode::empty())?;
    let stat = rustix::fs::fstat(&file)?;
    let is_owned = FileType::from_raw_mode(stat.st_mode) == kind && stat.st_uid == geteuid().as_raw();
    if is_owned { Ok((file, stat)) } else { Err(OpenError::NotOwned) }
}

/// Returns a path that leads to an open file even if its names change. The path is valid until the descriptor is closed.
pub(crate) fn path_of(file: BorrowedFd<'_>) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()))
}

/// Opens a regular file that this user owns. Returns it with its status.
///
/// # Errors
/// [`OpenError::NotOwned`] if it is another type of file or another user owns it, or the kernel's error.
pub(crate) fn open_regular(
    directory: impl AsFd,
    name: impl Arg,
    access: OFlags,
) -> Result<(CloseOnForkFd, Stat), OpenError> {
    let (file, stat) = open_path(directory, name, FileType::RegularFile)?;
    let path = path_of(file.as_fd());
    let reopen = || rustix::fs::openat(CWD, &path, access | OFlags::CLOEXEC, Mode::empty());
    Ok((CloseOnForkFd::open(reopen)?, stat))
}

/// The file of a unix socket that this user owns.
#[derive(Debug)]
pub(crate) struct SocketFile {
    file: OwnedFd,
    /// The id that distinguishes the file from others with the same name.
    pub identity: FileId,
}

impl SocketFile {
    /// Opens the file of a socket.
    ///
    /// # Errors
    /// [`OpenError::NotOwned`] if it is another type of file or another user owns it, or the kernel's error.
    pub(crate) fn open(directory: impl AsFd, name: impl Arg) -> Result<Self, OpenError> {
        let (file, stat) = open_path(directory, name, FileType::Socket)?;
        Ok(Self { file, identity: FileId::of(&stat) })
    }

    /// Returns a path to the file that stays valid if its names change, until this value is dropped.
    pub(crate) fn path(&self) -> PathBuf {
        path_of(self.file.as_fd())
    }

    /// Connects `socket` to the process that listens on this file.
    ///
    /// # Errors
    /// The kernel's error.
    pub(crate) fn connect(&self, socket: impl AsFd) -> Result<(), Errno> {
        rustix::net::connect(socket, &SocketAddrUnix::new(self.path())?)
    }

    /// Gives the file the mode of [`make_private`].
    ///
    /// # Errors
    /// The kernel's error.
    pub(crate) fn make_private(&self) -> Result<(), Errno> {
        with_private_mode(|mode| rustix::fs::chmodat(CWD, self.path(), mode, AtFlags::empty()))
    }
}

/// Gives a file the mode 0600 and the sticky bit.
///
/// On a file in the runtime directory, the sticky bit keeps programs that clean up old files from removing it. The XDG base
/// directory specification defines this, and systemd-tmpfiles follows it.
///
/// # Errors
/// The kernel's error.
pub(crate) fn make_private(file: impl AsFd) -> Result<(), Errno> {
    with_private_mode(|mode| rustix::fs::fchmod(&file, mode))
}

fn with_private_mode(change: impl Fn(Mode) -> Result<(), Errno>) -> Result<(), Errno> {
    let private = Mode::RUSR | Mode::WUSR;
    // Some file systems refuse the sticky bit.
    change(private | Mode::SVTX).or_else(|_| change(private))
}

/// Writes from memory that another process may change at the same time. Only the kernel reads the memory. Returns how many bytes
/// were written.
///
/// With `at`, it writes at that offset, as pwrite(2) does.
///
/// # Safety
/// - `length` bytes from `start` on are mapped for reading until this function returns.
///
/// # Errors
/// The kernel's error.
///
/// # Blocking
/// Blocks if the descriptor is a blocking one that cannot take the bytes yet.
pub(crate) unsafe fn write_raw(
    to: impl AsFd,
    start: *const u8,
    length: usize,
    at: Option<u64>,
) -> Result<usize, Errno> {
    let fd = to.as_fd().as_raw_fd();
    let count = match at {
        // SAFETY: by this function's contract, `length` bytes from `start` on are mapped through the call.
        None => unsafe { libc::write(fd, start.cast(), length) },
        // The offsets of `pwrite` have only 32 bits on 32-bit machines.
        // SAFETY: by this function's contract, `length` bytes from `start` on are mapped through the call.
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
    fn a_socket_file_is_only_a_socket_and_stays_the_one_that_was_opened() {
        let temp = tempfile::tempdir().unwrap();
        let at = |name: &str| temp.path().join(name);
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
        assert!(listener.accept().is_ok(), "the client was connected to another socket");
        assert_eq!(remove_if(CWD, &*at("socket"), opened.identity), Ok(false));
        assert!(UnixStream::connect(at("socket")).is_ok());
    }

    #[test]
    fn only_a_regular_file_is_opened_and_it_is_removed_only_while_it_has_the_name() {
        let temp = tempfile::tempdir().unwrap();
        let at = |name: &str| temp.path().join(name);
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
