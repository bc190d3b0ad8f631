//! The source of the bytes: a file, a pipe, a device, or standard input.

use super::checksum::Checksum;
use super::names::STDIN_NAME;
use crate::os::output::{Descriptor, duplicate};
use crate::os::timeout::timespec;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{FileType, Mode, OFlags, SeekFrom};
use rustix::io::Errno;
use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::time::Duration;
use thiserror::Error;
use whorl_core::error::End;

/// A source of bytes, read once from its beginning to its end.
pub(super) struct Source {
    file: OwnedFd,
    name: OsString,
    mode: Mode,
    kind: SourceKind,
}

enum SourceKind {
    /// A regular file with a meaningful length, which is read by position.
    File { at: u64, length_at_open: u64, sparse: bool, data_until: u64 },
    /// Any other source, which is read until it ends.
    Stream,
}

/// The permissions of any new file, before the umask.
const NEW: Mode = Mode::from_raw_mode(0o666);

/// The longest hole in one chunk, so that a caller that counts its zeros checks for signals now and then.
const LONGEST_HOLE: u64 = 1 << 26;

/// The next part of a source.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Chunk {
    /// This many bytes, at the start of the buffer. Never 0.
    Bytes(usize),
    /// This many zero bytes, which the file does not store.
    Hole(u64),
    /// The end.
    End,
}

/// Why a source cannot be read.
#[derive(Debug, Error)]
pub enum SourceError {
    /// It cannot be opened.
    #[error("{}", crate::os::error::reason(*.0))]
    Open(Errno),
    /// It is a directory.
    #[error("it is a directory")]
    Directory,
    /// Standard input, or the descriptor that a path leads to, is closed or open only for writing.
    #[error("it is closed, or not open for reading")]
    NotReadable,
    /// Reading failed.
    #[error("reading failed: {}", crate::os::error::reason(*.0))]
    Read(Errno),
    /// It became shorter while it was read.
    #[error("it shrank from {was} to {is} bytes while it was read")]
    Shrank {
        /// Its length when it was opened.
        was: u64,
        /// The position at which it ended.
        is: u64,
    },
    /// The wait for more bytes was cancelled.
    #[error("interrupted")]
    Interrupted,
}

impl Source {
    /// Opens `path`; `-` is the standard input.
    ///
    /// # Errors
    /// It cannot be opened or read.
    pub(super) fn open(path: &Path) -> Result<Self, SourceError> {
        if path == Path::new("-") {
            let stdin = duplicate(rustix::stdio::stdin(), OFlags::RDONLY).map_err(open_failed)?;
            return Self::open_already(stdin, STDIN_NAME.into());
        }
        let name = path.file_name().unwrap_or(path.as_os_str()).to_owned();
        if let Some(descriptor) = Descriptor::at(path)
            && let Some(file) = descriptor.duplicate(OFlags::RDONLY).map_err(open_failed)?
        {
            return Self::open_already(file, name);
        }
        let file = open_waiting(path)?;
        let stat = stat(&file)?;
        let (kind, mode) = match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => return Err(SourceError::Directory),
            FileType::RegularFile => {
                let length = meaningful_length(&file, &stat);
                let sparse = (stat.st_blocks as u64).saturating_mul(512) < length;
                let kind = match length {
                    0 => SourceKind::Stream,
                    _ => SourceKind::File { at: 0, length_at_open: length, sparse, data_until: 0 },
                };
                (kind, Mode::from_raw_mode(stat.st_mode & 0o777))
            }
            _ => (SourceKind::Stream, NEW),
        };
        Ok(Self { file, name, mode, kind })
    }

    /// Returns a source for a descriptor that was open before. It is read from its current position in any case,
    /// because other processes may share that position.
    fn open_already(file: OwnedFd, name: OsString) -> Result<Self, SourceError> {
        match FileType::from_raw_mode(stat(&file)?.st_mode) {
            FileType::Directory => Err(SourceError::Directory),
            _ => Ok(Self { file, name, mode: NEW, kind: SourceKind::Stream }),
        }
    }

    /// Returns its name, without directories.
    pub(super) fn name(&self) -> &OsStr {
        &self.name
    }

    /// Returns the permissions of its copies, before the umask: its own if it is a regular file, without the set-user-ID and
    /// set-group-ID bits.
    pub(super) fn mode(&self) -> Mode {
        self.mode
    }

    /// Returns its length when it was opened, if that means anything.
    pub(super) fn length(&self) -> Option<u64> {
        match self.kind {
            SourceKind::File { length_at_open, .. } => Some(length_at_open),
            SourceKind::Stream => None,
        }
    }

    /// Returns whether it is a regular file with a length. Then the kernel can send from it, and can send any part
    /// again.
    pub(super) fn is_file(&self) -> bool {
        self.length().is_some()
    }

    /// Reads the next chunk. One read makes one chunk.
    ///
    /// # Blocking
    /// Until the source has bytes or ends, or `cancel` or the stop event becomes readable.
    ///
    /// # Errors
    /// The reason that there is no next chunk.
    pub(super) fn next(&mut self, buffer: &mut [u8], cancel: BorrowedFd<'_>) -> Result<Chunk, SourceError> {
        match &mut self.kind {
            SourceKind::Stream => read_stream(&self.file, buffer, cancel),
            SourceKind::File { at, length_at_open, sparse, data_until } => {
                let mut room = buffer.len();
                if *sparse {
                    match extent(&self.file, *at, data_until).map_err(SourceError::Read)? {
                        Chunk::Hole(length) => {
                            *at += length;
                            return Ok(Chunk::Hole(length));
                        }
                        Chunk::Bytes(_) => {
                            room = room.min((*data_until - *at).try_into().unwrap_or(usize::MAX))
                        }
                        Chunk::End => room = 0,
                    }
                }
                let count = read_at(&self.file, &mut buffer[..room], *at)?;
                *at += count as u64;
                match count {
                    0 if *at < *length_at_open => Err(SourceError::Shrank { was: *length_at_open, is: *at }),
                    0 => Ok(Chunk::End),
                    count => Ok(Chunk::Bytes(count)),
                }
            }
        }
    }

    /// Returns the extent at `at` of a regular file: `Bytes` up to a length, `Hole`, or `End`. For senders that let the
    /// kernel read.
    ///
    /// # Errors
    /// The error of the system call.
    pub(super) fn extent_at(&self, at: u64) -> Result<Chunk, SourceError> {
        let SourceKind::File { length_at_open, sparse, .. } = self.kind else { return Ok(Chunk::End) };
        let length = stat(&self.file)?.st_size as u64;
        if length < length_at_open {
            return Err(SourceError::Shrank { was: length_at_open, is: length });
        }
        if !sparse {
            let left = length.saturating_sub(at);
            return Ok(if left == 0 {
                Chunk::End
            } else {
                Chunk::Bytes(left.try_into().unwrap_or(usize::MAX))
            });
        }
        let mut until = at;
        match extent(&self.file, at, &mut until).map_err(SourceError::Read)? {
            Chunk::Bytes(_) => Ok(Chunk::Bytes((until - at).try_into().unwrap_or(usize::MAX))),
            other => Ok(other),
        }
    }

    /// Reads at a position of a regular file, without moving [`next`](Self::next).
    ///
    /// # Errors
    /// The error of the system call.
    pub(super) fn read_at(&self, buffer: &mut [u8], at: u64) -> Result<usize, SourceError> {
        read_at(&self.file, buffer, at)
    }
}

/// A source that counts and sums the bytes that are read.
pub(super) struct HashingReader<'s> {
    source: &'s mut Source,
    sum: Option<Checksum>,
    total: u64,
}

impl<'s> HashingReader<'s> {
    pub(super) fn new(source: &'s mut Source, sums: bool) -> Self {
        Self { source, sum: sums.then(Checksum::new), total: 0 }
    }

    /// Reads the next chunk, like [`Source::next`].
    pub(super) fn next(&mut self, buffer: &mut [u8], cancel: BorrowedFd<'_>) -> Result<Chunk, SourceError> {
        let chunk = self.source.next(buffer, cancel)?;
        match chunk {
            Chunk::End => {}
            Chunk::Bytes(count) => {
                if let Some(sum) = &mut self.sum {
                    sum.update(&buffer[..count]);
                }
                self.total += count as u64;
            }
            Chunk::Hole(length) => {
                if let Some(sum) = &mut self.sum {
                    sum.update_zeros(length);
                }
                self.total += length;
            }
        }
        Ok(chunk)
    }

    /// Returns whether the source is a regular file.
    pub(super) fn is_file(&self) -> bool {
        self.source.is_file()
    }

    /// Returns how many bytes were read so far.
    pub(super) fn total(&self) -> u64 {
        self.total
    }

    /// Returns the end record of what was read so far.
    pub(super) fn end(&self) -> End {
        End { total: self.total, checksum: self.sum.as_ref().map(Checksum::finish) }
    }
}

impl AsFd for Source {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

fn stat(file: &OwnedFd) -> Result<rustix::fs::Stat, SourceError> {
    rustix::fs::fstat(file).map_err(SourceError::Read)
}

fn open_failed(error: Errno) -> SourceError {
    if error == Errno::BADF { SourceError::NotReadable } else { SourceError::Open(error) }
}

/// Opens a path for reading. The wait for the writer of a FIFO is in [`Source::next`], where a signal can end it.
///
/// # Blocking
/// Until another process gives up its lease on the file, or the kernel takes it away.
fn open_waiting(path: &Path) -> Result<OwnedFd, SourceError> {
    const SLICE: Timespec = timespec(Duration::from_millis(20));
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    loop {
        match rustix::fs::open(path, flags, Mode::empty()) {
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => {
                let stop = crate::os::signal::stop_event().map_err(SourceError::Open)?;
                match poll(&mut [PollFd::from_borrowed_fd(stop, PollFlags::IN)], Some(&SLICE)) {
                    Ok(_) | Err(Errno::INTR) => {}
                    Err(error) => return Err(SourceError::Open(error)),
                }
            }
            other => return other.map_err(SourceError::Open),
        }
        if crate::os::signal::stop_signal().is_some() {
            return Err(SourceError::Interrupted);
        }
    }
}

/// Returns a regular file's length, or 0 if it means nothing. Then the caller reads the file as a stream.
///
/// Files of /proc have length 0 and hold more. Files of /sys have the length of a page, or the most that they could
/// hold, and hold less. They store no block, and yet have no hole. Some files cannot be read by position.
fn meaningful_length(file: &OwnedFd, stat: &rustix::fs::Stat) -> u64 {
    let has_position = || rustix::fs::seek(file, SeekFrom::Current(0)) != Err(Errno::SPIPE);
    let claims_data = || match rustix::fs::seek(file, SeekFrom::Data(0)) {
        Ok(data) => data == 0,
        Err(error) => error != Errno::NXIO,
    };
    let means_nothing = stat.st_size > 0 && (!has_position() || stat.st_blocks == 0 && claims_data());
    if means_nothing { 0 } else { stat.st_size as u64 }
}

fn read_at(file: &OwnedFd, buffer: &mut [u8], at: u64) -> Result<usize, SourceError> {
    loop {
        match rustix::io::pread(file, &mut *buffer, at) {
            Err(Errno::INTR) if crate::os::signal::stop_signal().is_some() => {
                return Err(SourceError::Interrupted);
            }
            Err(Errno::INTR) => {}
            other => return other.map_err(SourceError::Read),
        }
    }
}

/// Returns the extent at `at`. `data_until` stores where known data end, so that each extent is looked up once. If the
/// file system cannot report holes, everything is data.
pub(super) fn extent(file: &OwnedFd, at: u64, data_until: &mut u64) -> Result<Chunk, Errno> {
    if at >= *data_until {
        let found = match rustix::fs::seek(file, SeekFrom::Data(at)) {
            Ok(data) if data > at => return Ok(hole(data - at)),
            Ok(_) => rustix::fs::seek(file, SeekFrom::Hole(at)),
            Err(error) => Err(error),
        };
        *data_until = match found {
            Ok(end) => end,
            Err(error) => {
                let length = rustix::fs::fstat(file)?.st_size as u64;
                if length <= at {
                    return Ok(Chunk::End);
                }
                // No data follow. The rest is a hole, up to the file's current length.
                if error == Errno::NXIO {
                    return Ok(hole(length - at));
                }
                length
            }
        };
    }
    Ok(Chunk::Bytes((*data_until - at).try_into().unwrap_or(usize::MAX)))
}

fn hole(length: u64) -> Chunk {
    Chunk::Hole(length.min(LONGEST_HOLE))
}

fn read_stream(file: &OwnedFd, buffer: &mut [u8], cancel: BorrowedFd<'_>) -> Result<Chunk, SourceError> {
    let stop = crate::os::signal::stop_event().map_err(SourceError::Read)?;
    loop {
        let mut ready = [file.as_fd(), cancel, stop].map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN));
        match poll(&mut ready, None) {
            Err(Errno::INTR) => continue,
            other => other.map_err(SourceError::Read)?,
        };
        if ready[1..].iter().any(|other| !other.revents().is_empty()) {
            return Err(SourceError::Interrupted);
        }
        match rustix::io::read(file, &mut *buffer) {
            Err(Errno::INTR | Errno::AGAIN) => {}
            Ok(0) => return Ok(Chunk::End),
            other => return other.map(Chunk::Bytes).map_err(SourceError::Read),
        }
    }
}
