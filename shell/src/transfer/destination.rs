//! The destination of the bytes: a file that gets its name only when it is complete ([`NewFile`]). If a receiver is
//! killed, the surviving process removes its `.part` file.

use super::checksum::{Checksum, Sum};
use super::source::{Chunk, extent};
use crate::channel::transport::payload::Payload;
use crate::os::error::{OsError, cannot};
use crate::os::flush::flush;
use crate::os::new_file::{Existing, NewFile, part_name, token};
use crate::os::output::{Output, OutputError};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, Mode, OFlags, Stat, Timestamps, XattrFlags};
use rustix::io::Errno;
use rustix::time::Timespec;
use std::ffi::{CStr, CString, OsStr};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use thiserror::Error;

/// How a file is written.
#[derive(Clone, Copy, Debug, Default)]
pub struct WriteOptions {
    /// Read it back and compare it with the sender's checksum.
    pub verify: bool,
    /// Wait until it is on the disk.
    pub fsync: bool,
    /// Keep an existing file.
    pub no_clobber: bool,
}

/// A file being received.
pub(super) struct Destination<'a> {
    directory: BorrowedFd<'a>,
    file: OwnedFd,
    new: NewFile<'a>,
    name: &'a OsStr,
    written: u64,
    ends_in_hole: bool,
    options: WriteOptions,
    /// Writes whole pages past the page cache. That is as durable and as fast, and uses a fraction of the CPU time.
    direct: bool,
}

/// Direct writes are multiples of this, which is enough for every disk.
const DIRECT: usize = 4096;

/// Errors that mean that a directory cannot be synced, and not that its disk fails.
const NOT_SYNCED: [Errno; 6] =
    [Errno::INVAL, Errno::BADF, Errno::OPNOTSUPP, Errno::NOSYS, Errno::ACCESS, Errno::PERM];

/// What is missing of a complete file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Warning {
    /// An attribute of the source that the file system refuses, with the reason.
    NotKept(String),
    /// The file is on the disk. Its name may not be, because the directory cannot be synced for this reason.
    NotSynced(String),
}

impl std::fmt::Display for Warning {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NotKept(what) => write!(f, "the file is complete, but cannot keep {what}"),
            Self::NotSynced(why) => {
                write!(f, "the file is on the disk, but its directory cannot be written to disk: {why}")
            }
        }
    }
}

/// Why a file could not be made or written.
#[derive(Debug, Error)]
pub enum DestinationError {
    /// A system call failed.
    #[error(transparent)]
    System(#[from] OsError),
    /// The name belongs to a file that is never replaced.
    #[error(transparent)]
    Output(#[from] OutputError),
}

impl<'a> Destination<'a> {
    /// Creates a file that gets the name `name` in `directory` when it is complete, and `part` before if it needs a
    /// name. It has the permissions `mode`, less the umask.
    ///
    /// # Errors
    /// It cannot be created; or `name` exists and must be kept, or is no regular file or link to one.
    pub(super) fn create(
        directory: BorrowedFd<'a>,
        name: &'a OsStr,
        part: &OsStr,
        mode: Mode,
        options: WriteOptions,
    ) -> Result<Self, DestinationError> {
        if options.no_clobber && rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW).is_ok() {
            return Err(cannot("create the file")(Errno::EXIST).into());
        }
        Output::check_replaceable(directory, name.as_ref())?;
        let (new, file) = NewFile::create(directory, part, mode).map_err(cannot("create the file"))?;
        let direct = options.fsync && !options.verify && set_direct(&file, true).is_ok();
        Ok(Self { directory, file, new, name, written: 0, ends_in_hole: false, options, direct })
    }

    /// Appends a payload. A hole is not stored.
    ///
    /// # Errors
    /// The error of the write, most often that there is no space. The file must not be used afterwards.
    pub(super) fn put(&mut self, payload: &Payload<'_>) -> Result<(), DestinationError> {
        if let Payload::Hole(length) = payload {
            self.written = self.written.saturating_add(*length);
            self.ends_in_hole = true;
            return Ok(());
        }
        let length = payload.stored();
        let mut done = 0;
        if self.direct {
            let is_whole = payload.is_aligned(DIRECT)
                && length.is_multiple_of(DIRECT)
                && self.written.is_multiple_of(DIRECT as u64);
            // The last block is seldom whole, and some file systems have other rules.
            let direct = is_whole.then(|| payload.write_to(self.file.as_fd(), 0, Some(self.written)));
            if direct == Some(Ok(length)) {
                done = length;
                self.written += length as u64;
            } else {
                set_direct(&self.file, false).map_err(cannot("write"))?;
                self.direct = false;
            }
        }
        while done < length {
            match payload.write_to(self.file.as_fd(), done, Some(self.written)) {
                Ok(0) => return Err(cannot("write")(Errno::IO).into()),
                Ok(count) => {
                    self.written += count as u64;
                    done += count;
                }
                Err(Errno::INTR) if crate::os::signal::stop_signal().is_none() => {}
                Err(error) => return Err(cannot("write")(error).into()),
            }
        }
        self.ends_in_hole = false;
        Ok(())
    }

    /// Reads the file back for its checksum.
    ///
    /// # Errors
    /// It cannot be read.
    pub(super) fn checksum(&mut self) -> Result<Sum, DestinationError> {
        self.set_length()?;
        let mut sum = Checksum::new();
        let mut buffer = vec![0; 1 << 17];
        let (mut at, mut data_until) = (0, 0);
        while at < self.written {
            if crate::os::signal::stop_signal().is_some() {
                return Err(cannot("read back")(Errno::INTR).into()); // reading a file is not interrupted otherwise
            }
            // Does not read the zeros of a hole, so the time depends only on the stored bytes.
            let room = match extent(&self.file, at, &mut data_until).map_err(cannot("read back"))? {
                Chunk::Hole(length) => {
                    sum.update_zeros(length);
                    at += length;
                    continue;
                }
                Chunk::Bytes(length) => length.min(buffer.len()),
                Chunk::End => break,
            };
            match rustix::io::pread(&self.file, &mut buffer[..room], at) {
                Ok(0) => break,
                Ok(count) => {
                    sum.update(&buffer[..count]);
                    at += count as u64;
                }
                Err(Errno::INTR) if crate::os::signal::stop_signal().is_none() => {}
                Err(error) => return Err(cannot("read back")(error).into()),
            }
        }
        Ok(sum.finish())
    }

    /// Gives the file the times and extended attributes of the source. Leaves out attributes that only the kernel or a
    /// file system sets, and those that give rights (`security.*`), as set-user-ID bits do.
    ///
    /// Returns a warning for each attribute that this file system refuses.
    ///
    /// # Errors
    /// The length of the file cannot be set.
    pub(super) fn preserve(&mut self, source: BorrowedFd<'_>) -> Result<Vec<Warning>, DestinationError> {
        self.set_length()?;
        let mut refused = Vec::new();
        self.copy_attributes(source, &mut refused);
        match rustix::fs::fstat(source).and_then(|stat| self.set_times(&stat)) {
            Ok(()) => {}
            Err(error) => refused.push(not_kept("its times", error)),
        }
        Ok(refused)
    }

    fn copy_attributes(&self, source: BorrowedFd<'_>, refused: &mut Vec<Warning>) {
        let attributes = attributes(source, refused);
        if attributes.is_empty() {
            return;
        }
        // Setting an attribute needs permission to write each time, not only when the file is opened.
        let mode = rustix::fs::fstat(&self.file).map_or(0o777, |stat| stat.st_mode & 0o777);
        let set_mode = |mode| rustix::fs::fchmod(&self.file, Mode::from_raw_mode(mode));
        let was_opened_up = mode & 0o200 == 0 && set_mode(mode | 0o200).is_ok();
        for (name, value) in attributes {
            let set = rustix::fs::fsetxattr(&self.file, &name, &value, XattrFlags::empty());
            if let Err(error) = set
                && is_user_attribute(&name)
            {
                refused.push(not_kept(&format!("its attribute {}", shown(&name)), error));
            }
        }
        if was_opened_up && let Err(error) = set_mode(mode) {
            refused.push(not_kept("its permissions", error));
        }
    }

    fn set_times(&self, source: &Stat) -> Result<(), Errno> {
        // `as _`: the width of nanoseconds depends on the machine.
        let times = Timestamps {
            last_access: Timespec { tv_sec: source.st_atime, tv_nsec: source.st_atime_nsec as _ },
            last_modification: Timespec { tv_sec: source.st_mtime, tv_nsec: source.st_mtime_nsec as _ },
        };
        rustix::fs::futimens(&self.file, &times)
    }

    /// Gives the complete file its name, and replaces a file that had it. A symbolic link is replaced, not followed.
    ///
    /// Returns a warning if the file is on the disk and its name may not be.
    ///
    /// # Errors
    /// The file did not get its name, and nothing is left of it. Or it has its name, and writing the directory to disk
    /// failed.
    pub(super) fn commit(mut self) -> Result<Option<Warning>, DestinationError> {
        self.set_length()?;
        flush(&self.file).map_err(cannot("write"))?;
        if self.options.fsync {
            rustix::fs::fsync(&self.file).map_err(cannot("write to disk"))?;
        }
        let existing = if self.options.no_clobber { Existing::Keep } else { Existing::Replace };
        self.new.publish(self.file.as_fd(), self.name, existing).map_err(cannot("give the file its name"))?;
        let synced = if self.options.fsync { sync_directory(self.directory) } else { Ok(()) };
        match synced {
            Ok(()) => Ok(None),
            // The file system cannot sync directories, or the directory cannot be opened for it.
            Err(error) if NOT_SYNCED.contains(&error) => {
                Ok(Some(Warning::NotSynced(crate::os::error::reason(error))))
            }
            Err(error) => Err(cannot("write the directory to disk")(error).into()),
        }
    }

    /// Sets the length, because a hole at the end exists only within the length.
    fn set_length(&mut self) -> Result<(), DestinationError> {
        if self.ends_in_hole {
            match rustix::fs::ftruncate(&self.file, self.written) {
                // Some FUSE file systems can lengthen a file only by writing to it.
                Err(error @ (Errno::NOSYS | Errno::PERM | Errno::OPNOTSUPP | Errno::INVAL)) => {
                    if self.direct {
                        set_direct(&self.file, false).map_err(cannot("write"))?;
                        self.direct = false;
                    }
                    let last = self.written.saturating_sub(1);
                    rustix::io::pwrite(&self.file, &[0], last)
                        .map_err(|_| cannot("set the length")(error))?;
                }
                other => other.map_err(cannot("set the length"))?,
            }
            self.ends_in_hole = false;
        }
        Ok(())
    }
}

/// Writes a small file: complete under its name, or not at all.
///
/// # Errors
/// It cannot be made or written, or the file that has the name is not replaced.
pub fn write_file(path: &Path, bytes: &[u8]) -> Result<(), DestinationError> {
    let Some(name) = path.file_name() else { return Err(cannot("create the file")(Errno::ISDIR).into()) };
    let parent = path.parent().filter(|parent| *parent != Path::new("")).unwrap_or(Path::new("."));
    let directory = open_directory(parent).map_err(cannot("open the directory"))?;
    let part = part_name(&token());
    let new = Mode::from_raw_mode(0o666); // less the umask, as every new file
    let mut file = Destination::create(directory.as_fd(), name, &part, new, WriteOptions::default())?;
    file.put(&Payload::Bytes(bytes))?;
    file.commit().map(|_| ())
}

/// Opens a directory, to create files in it. The right to list it is not needed.
pub(super) fn open_directory(path: &Path) -> Result<OwnedFd, Errno> {
    rustix::fs::open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
}

/// Waits until the names in a directory are on the disk. Only this function opens the directory for reading.
fn sync_directory(directory: BorrowedFd<'_>) -> Result<(), Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::fsync(rustix::fs::openat(directory, ".", flags, Mode::empty())?)
}

fn set_direct(file: &OwnedFd, direct: bool) -> Result<(), Errno> {
    let mut flags = rustix::fs::fcntl_getfl(file)?;
    flags.set(OFlags::DIRECT, direct);
    rustix::fs::fcntl_setfl(file, flags)
}

fn not_kept(what: &str, error: Errno) -> Warning {
    Warning::NotKept(format!("{what}: {}", crate::os::error::reason(error)))
}

fn shown(name: &CStr) -> String {
    crate::os::escape::shown(Path::new(OsStr::from_bytes(name.to_bytes())))
}

/// Returns whether an attribute is of a kind that users set: their own, and access control lists. Other attributes
/// belong to one file system (`btrfs.compression`, `system.nfs4_acl`, `trusted.overlay.origin`), and another one may
/// not know them.
fn is_user_attribute(name: &CStr) -> bool {
    name.to_bytes().starts_with(b"user.") || name == c"system.posix_acl_access"
}

/// Returns the attributes of a source that may be copied. Those of the kind `security` may not: file capabilities give
/// rights as set-user-ID bits do, and labels and signatures are this system's own statements about a file.
fn attributes(source: BorrowedFd<'_>, refused: &mut Vec<Warning>) -> Vec<(CString, Vec<u8>)> {
    let mut names = vec![0; 1 << 16]; // the kernel's own limit for the list
    let length = match rustix::fs::flistxattr(source, &mut names) {
        Ok(length) => length,
        Err(Errno::OPNOTSUPP) => return Vec::new(), // the source's file system has none
        Err(error) => {
            refused.push(not_kept("its attributes", error));
            return Vec::new();
        }
    };
    let names = names[..length].split(|&byte| byte == 0).filter(|name| !name.is_empty());
    let names = names.filter(|name| !name.starts_with(b"security."));
    let mut found = Vec::new();
    let mut value = vec![0; 1 << 16]; // and for a value
    for name in names.filter_map(|name| CString::new(name).ok()) {
        match rustix::fs::fgetxattr(source, &name, &mut value) {
            Ok(length) => found.push((name, value[..length].to_vec())),
            Err(Errno::NODATA) => {} // removed just now
            Err(error) if is_user_attribute(&name) => {
                refused.push(not_kept(&format!("its attribute {}", shown(&name)), error));
            }
            Err(_) => {}
        }
    }
    found
}
