//! Open-file-description locks on single bytes. The kernel drops them when the last copy of the description closes.

use super::close_on_fork::CloseOnForkFd;
use super::error::last_error;
use super::file::path_of;
use rustix::fd::{AsFd, AsRawFd};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

/// An open file description that one participant locks bytes through. Dropping it drops its locks. A forked child does not
/// get it.
#[derive(Debug)]
pub struct ByteLocks {
    file: CloseOnForkFd,
}

impl ByteLocks {
    /// Opens the object behind `object` anew.
    ///
    /// # Errors
    /// What the kernel said; `/proc` must be mounted.
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
    /// What the kernel said.
    pub fn try_lock(&self, byte: u32) -> Result<bool, Errno> {
        match self.command(libc::F_OFD_SETLK, libc::F_WRLCK, byte) {
            Ok(_) => Ok(true),
            Err(Errno::AGAIN | Errno::ACCESS) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Locks a byte together with other descriptions that share it, without waiting. Returns `false` if another description
    /// holds it alone.
    ///
    /// # Errors
    /// What the kernel said.
    pub fn try_share(&self, byte: u32) -> Result<bool, Errno> {
        match self.command(libc::F_OFD_SETLK, libc::F_RDLCK, byte) {
            Ok(_) => Ok(true),
            Err(Errno::AGAIN | Errno::ACCESS) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Runs `act` while it holds a byte; `None` if the byte is held by another description.
    pub(crate) fn holding<T>(
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
        // Unlocking what is ours cannot fail; and if it did, the byte would only count as alive for longer.
        let _ = self.command(libc::F_OFD_SETLK, libc::F_UNLCK, byte);
    }

    /// Whether another description holds a byte. Returns `true` if the kernel does not tell.
    pub fn is_held(&self, byte: u32) -> bool {
        let free = self.command(libc::F_OFD_GETLK, libc::F_WRLCK, byte) == Ok(libc::F_UNLCK as i16);
        !free
    }

    fn command(&self, command: i32, kind: i32, byte: u32) -> Result<i16, Errno> {
        self.range(command, kind, byte, 1)
    }

    fn whole(&self, command: i32, kind: i32) -> Result<i16, Errno> {
        self.range(command, kind, 0, 0) // length 0: to the end of everything
    }

    fn range(&self, command: i32, kind: i32, start: u32, length: u32) -> Result<i16, Errno> {
        // SAFETY: `flock` is plain integers, for which zero is a value.
        let mut lock: libc::flock = unsafe { std::mem::zeroed() };
        lock.l_type = kind as i16;
        lock.l_whence = libc::SEEK_SET as i16;
        // Bytes below 2^31: they fit wherever offsets have 32 bits, too.
        lock.l_start = start as libc::off_t;
        lock.l_len = length as libc::off_t;
        // SAFETY: `lock` lives through the call, which reads and writes only it.
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
        // A child that was forked just now may not have closed its copy yet: the locks go with us, not with it.
        if !self.file.born().has_forked() {
            let _ = self.whole(libc::F_OFD_SETLK, libc::F_UNLCK);
        }
    }
}
