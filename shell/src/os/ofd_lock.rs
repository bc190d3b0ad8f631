//! Open-file-description locks on single bytes. The kernel drops them when the last descriptor of the description is closed.

use super::close_on_fork::CloseOnForkFd;
use super::error::last_error;
use super::file::path_of;
use rustix::fd::{AsFd, AsRawFd};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

/// An open file description through which one participant locks bytes. Dropping the value drops its locks. A forked child does
/// not inherit it.
#[derive(Debug)]
pub struct ByteLocks {
    file: CloseOnForkFd,
}

impl ByteLocks {
    /// Opens a new description of the file behind `object`. `/proc` must be mounted.
    ///
    /// # Errors
    /// The kernel's error.
    pub fn open(object: impl AsFd) -> Result<Self, Errno> {
        let flags = OFlags::RDWR | OFlags::CLOEXEC;
        let path = path_of(object.as_fd());
        let open = || rustix::fs::open(&path, flags, Mode::empty());
        CloseOnForkFd::open(open).map(|file| Self { file })
    }

    /// Asks through a file that is open already. If it is open for reading alone, it cannot lock.
    pub(crate) fn of(file: CloseOnForkFd) -> Self {
        Self { file }
    }

    /// Locks a byte, without waiting. Returns `false` if another description holds it.
    ///
    /// # Errors
    /// The kernel's error.
    pub fn try_lock(&self, byte: u32) -> Result<bool, Errno> {
        match self.command(libc::F_OFD_SETLK, libc::F_WRLCK, byte) {
            Ok(_) => Ok(true),
            Err(Errno::AGAIN | Errno::ACCESS) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Locks a byte shared, without waiting. Returns `false` if another description holds it exclusively.
    ///
    /// # Errors
    /// The kernel's error.
    pub fn try_share(&self, byte: u32) -> Result<bool, Errno> {
        match self.command(libc::F_OFD_SETLK, libc::F_RDLCK, byte) {
            Ok(_) => Ok(true),
            Err(Errno::AGAIN | Errno::ACCESS) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Runs `act` while this description holds a byte, and returns its result. Returns `None` if another description holds the
    /// byte.
    ///
    /// # Errors
    /// The kernel's error, or the error of `act`.
    pub(crate) fn while_holding<T>(
        &self,
        byte: u32,
        act: impl FnOnce() -> Result<Option<T>, Errno>,
    ) -> Result<Option<T>, Errno> {
        if !self.try_lock(byte)? {
            return Ok(None);
        }
        let result = act();
        self.unlock(byte);
        result
    }

    /// Unlocks a byte.
    pub fn unlock(&self, byte: u32) {
        // Unlocking an own byte cannot fail. If it did, other processes would only count this one as alive for longer.
        let _ = self.command(libc::F_OFD_SETLK, libc::F_UNLCK, byte);
    }

    /// Returns whether another description holds a byte. Returns `true` if the kernel reports an error.
    pub fn is_held(&self, byte: u32) -> bool {
        let is_free = self.command(libc::F_OFD_GETLK, libc::F_WRLCK, byte) == Ok(libc::F_UNLCK as i16);
        !is_free
    }

    fn command(&self, command: i32, kind: i32, byte: u32) -> Result<i16, Errno> {
        self.range(command, kind, byte, 1)
    }

    fn command_on_all(&self, command: i32, kind: i32) -> Result<i16, Errno> {
        self.range(command, kind, 0, 0) // length 0 means all bytes from the start on
    }

    fn range(&self, command: i32, kind: i32, start: u32, length: u32) -> Result<i16, Errno> {
        // SAFETY: `flock` consists of integers, for which zero is a valid value.
        let mut lock: libc::flock = unsafe { std::mem::zeroed() };
        lock.l_type = kind as i16;
        lock.l_whence = libc::SEEK_SET as i16;
        // Each byte is below 2^31, so its offset also fits where `off_t` has 32 bits.
        lock.l_start = start as libc::off_t;
        lock.l_len = length as libc::off_t;
        // SAFETY: the call reads and writes only `lock`, which lives through it.
        let result = unsafe { libc::fcntl(self.file.as_fd().as_raw_fd(), command, &raw mut lock) };
        if result == -1 {
            return Err(last_error());
        }
        Ok(lock.l_type)
    }
}

impl AsFd for ByteLocks {
    fn as_fd(&self) -> rustix::fd::BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl Drop for ByteLocks {
    fn drop(&mut self) {
        // A child that was just forked may still have its copy open. Unlocking here drops the locks without waiting for the child.
        // The child itself must not unlock, because the description is its parent's.
        if !self.file.born().has_forked() {
            let _ = self.command_on_all(libc::F_OFD_SETLK, libc::F_UNLCK);
        }
    }
}
