//! Where the bytes go: a file that gets its name only when it is complete ([`NewFile`]). A `.part` file of a killed receiver
//! is removed by the process that survives it.

use super::checksum::{Checksum, Sum};
use crate::flush::flush;
use crate::new_file::{Existing, NewFile};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, Mode, OFlags, Timestamps, XattrFlags};
use rustix::io::Errno;
use rustix::time::Timespec;
use std::ffi::{CString, OsStr};
use thiserror::Error;

/// How a file is to be made.
#[derive(Clone, Copy, Debug, Default)]
pub struct Care {
    /// Read it back and compare it with the sender's checksum.
    pub verify: bool,
    /// Wait until it is on the disk.
    pub fsync: bool,
    /// Leave an existing file alone.
    pub no_clobber: bool,
}

/// A file being received.
pub struct Destination<'a> {
    directory: BorrowedFd<'a>,
    file: OwnedFd,
    new: NewFile<'a>,
    name: &'a OsStr,
    written: u64,
    ends_in_hole: bool,
    care: Care,
    /// Whole pages go past the page cache: durable at the same speed, for a fraction of the processor's time.
    direct: bool,
}

/// What a direct write must be a multiple of: as much as any disk asks for.
const DIRECT: usize = 4096;

/// What could not be done with a file.
#[derive(Debug, Error)]
#[error("cannot {what}: {}", crate::reason(*.error))]
pub struct DestinationError {
    what: &'static str,
    error: Errno,
}

fn cannot(what: &'static str) -> impl FnOnce(Errno) -> DestinationError {
    move |error| DestinationError { what, error }
}

impl<'a> Destination<'a> {
    /// A new file, to be called `name` in `directory` when it is complete, and `part` where it needs a name before. It has
    /// the permissions `mode`, less the umask.
    ///
    /// # Errors
    /// It cannot be made; or `name` exists and must not be replaced.
    pub fn create(
        directory: BorrowedFd<'a>,
        name: &'a OsStr,
        part: &OsStr,
        mode: Mode,
        care: Care,
    ) -> Result<Self, DestinationError> {
        if care.no_clobber && rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW).is_ok() {
            return Err(cannot("create the file")(Errno::EXIST));
        }
        let (new, file) = NewFile::create(directory, part, mode).map_err(cannot("create the file"))?;
        let direct = care.fsync && !care.verify && set_direct(&file, true).is_ok();
        Ok(Self { directory, file, new, name, written: 0, ends_in_hole: false, care, direct })
    }

    /// How many bytes it has, holes included.
    pub fn written(&self) -> u64 {
        self.written
    }

    /// Appends bytes.
    ///
    /// # Errors
    /// Most often: no space. Then it is not to be used any more.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), DestinationError> {
        if self.direct {
            let whole = [bytes.as_ptr().addr(), bytes.len(), self.written as usize]
                .into_iter()
                .all(|number| number.is_multiple_of(DIRECT));
            // The last block is seldom whole; and some file systems know better than we what fits.
            let done = whole.then(|| rustix::io::pwrite(&self.file, bytes, self.written));
            if let Some(Ok(count)) = done.filter(|done| *done == Ok(bytes.len())) {
                self.written += count as u64;
                self.ends_in_hole = false;
                return Ok(());
            }
            set_direct(&self.file, false).map_err(cannot("write"))?;
            self.direct = false;
        }
        self.append(bytes.len(), |file, done, at| rustix::io::pwrite(file, &bytes[done..], at))
    }

    /// Appends `length` bytes that only `write` can reach: it is told how many are done and where in the file the rest
    /// belongs, and returns how many of it were taken.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    pub fn append(
        &mut self,
        length: usize,
        mut write: impl FnMut(BorrowedFd<'_>, usize, u64) -> Result<usize, Errno>,
    ) -> Result<(), DestinationError> {
        let mut done = 0;
        while done < length {
            match write(self.file.as_fd(), done, self.written) {
                Ok(0) => return Err(cannot("write")(Errno::IO)),
                Ok(count) => {
                    self.written += count as u64;
                    done += count;
                }
                Err(Errno::INTR) if crate::process::stop_signal().is_none() => {}
                Err(error) => return Err(cannot("write")(error)),
            }
        }
        self.ends_in_hole = false;
        Ok(())
    }

    /// Appends `length` zero bytes without storing them.
    pub fn skip(&mut self, length: u64) {
        self.written = self.written.saturating_add(length);
        self.ends_in_hole = true;
    }

    /// Reads the file back for its checksum.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn checksum(&mut self) -> Result<Sum, DestinationError> {
        self.fill_up()?;
        let mut sum = Checksum::new();
        let mut buffer = vec![0; 1 << 17];
        let mut at = 0;
        while at < self.written {
            if crate::process::stop_signal().is_some() {
                return Err(cannot("read back")(Errno::INTR)); // a file's reading is not interrupted by itself
            }
            match rustix::io::pread(&self.file, &mut buffer, at) {
                Ok(0) => break,
                Ok(count) => {
                    sum.update(&buffer[..count]);
                    at += count as u64;
                }
                Err(Errno::INTR) if crate::process::stop_signal().is_none() => {}
                Err(error) => return Err(cannot("read back")(error)),
            }
        }
        Ok(sum.finish())
    }

    /// Gives it times and extended attributes of the source. Attributes that this file system does not take are left out.
    ///
    /// # Errors
    /// The times cannot be set.
    pub fn preserve(&mut self, source: BorrowedFd<'_>) -> Result<(), DestinationError> {
        self.fill_up()?;
        let mode = rustix::fs::fstat(&self.file).map_err(cannot("read the mode"))?.st_mode & 0o777;
        // Attributes ask for permission to write each time, not when the file is opened.
        let is_read_only = mode & 0o200 == 0;
        if is_read_only {
            self.set_mode(mode | 0o200)?;
        }
        copy_attributes(source, self.file.as_fd());
        if is_read_only {
            self.set_mode(mode)?;
        }
        let stat = rustix::fs::fstat(source).map_err(cannot("read the source's times"))?;
        // `as _`: how wide nanoseconds are depends on the machine.
        let times = Timestamps {
            last_access: Timespec { tv_sec: stat.st_atime, tv_nsec: stat.st_atime_nsec as _ },
            last_modification: Timespec { tv_sec: stat.st_mtime, tv_nsec: stat.st_mtime_nsec as _ },
        };
        rustix::fs::futimens(&self.file, &times).map_err(cannot("set the times"))
    }

    /// Gives the complete file its name, replacing what had it. A symbolic link is replaced, not followed.
    ///
    /// # Errors
    /// It stays without that name, and nothing is left of it.
    pub fn commit(mut self) -> Result<(), DestinationError> {
        self.fill_up()?;
        flush(&self.file).map_err(cannot("write"))?;
        if self.care.fsync {
            rustix::fs::fsync(&self.file).map_err(cannot("write to disk"))?;
        }
        let existing = if self.care.no_clobber { Existing::Keep } else { Existing::Replace };
        self.new.publish(self.file.as_fd(), self.name, existing).map_err(cannot("give the file its name"))?;
        if self.care.fsync {
            rustix::fs::fsync(self.directory).map_err(cannot("write the directory to disk"))?;
        }
        Ok(())
    }

    fn set_mode(&self, mode: u32) -> Result<(), DestinationError> {
        rustix::fs::fchmod(&self.file, Mode::from_raw_mode(mode)).map_err(cannot("set the mode"))
    }

    /// A hole at the end is only there once the length says so.
    fn fill_up(&mut self) -> Result<(), DestinationError> {
        if self.ends_in_hole {
            rustix::fs::ftruncate(&self.file, self.written).map_err(cannot("set the length"))?;
            self.ends_in_hole = false;
        }
        Ok(())
    }
}

fn set_direct(file: &OwnedFd, direct: bool) -> Result<(), Errno> {
    let mut flags = rustix::fs::fcntl_getfl(file)?;
    flags.set(OFlags::DIRECT, direct);
    rustix::fs::fcntl_setfl(file, flags)
}

fn copy_attributes(from: BorrowedFd<'_>, to: BorrowedFd<'_>) {
    let mut names = vec![0; 1 << 16]; // the kernel's own limit for the list
    let Ok(length) = rustix::fs::flistxattr(from, &mut names) else { return };
    for name in names[..length].split(|&byte| byte == 0).filter(|name| !name.is_empty()) {
        let Ok(name) = CString::new(name) else { continue };
        let mut value = vec![0; 1 << 16]; // and for a value
        if let Ok(length) = rustix::fs::fgetxattr(from, &name, &mut value) {
            let _ = rustix::fs::fsetxattr(to, &name, &value[..length], XattrFlags::empty());
        }
    }
}
