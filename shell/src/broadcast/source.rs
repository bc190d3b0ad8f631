//! Where the bytes come from: a file, a pipe, a device, or standard input.

use super::checksum::Checksum;
use super::names::STDIN_NAME;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{FileType, Mode, OFlags, SeekFrom};
use rustix::io::Errno;
use std::ffi::{OsStr, OsString};
use std::path::Path;
use thiserror::Error;
use whorl_core::error::End;

/// A source of bytes, read once from its beginning to its end.
pub struct Source {
    file: OwnedFd,
    name: OsString,
    mode: Mode,
    kind: SourceKind,
}

enum SourceKind {
    /// A regular file, read by position. Its length is 0 where it means nothing.
    File { at: u64, length_at_open: u64, sparse: bool, data_until: u64 },
    /// Anything else: read until it ends.
    Stream,
}

/// The permissions of any new file, before the umask.
const NEW: Mode = Mode::from_raw_mode(0o666);

/// No hole is told longer at once, so that who counts its zeros looks up now and then.
const LONGEST_HOLE: u64 = 1 << 26;

/// What comes next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Piece {
    /// So many bytes, at the start of the buffer. Never 0.
    Bytes(usize),
    /// So many zero bytes that the file does not store.
    Hole(u64),
    /// Nothing more.
    End,
}

/// Why a source cannot be read.
#[derive(Debug, Error)]
pub enum SourceError {
    /// It cannot be opened.
    #[error("{}", crate::reason(*.0))]
    Open(Errno),
    /// It is a directory.
    #[error("it is a directory")]
    Directory,
    /// Reading failed.
    #[error("reading failed: {}", crate::reason(*.0))]
    Read(Errno),
    /// It became shorter while it was read.
    #[error("it shrank from {was} to {is} bytes while it was read")]
    Shrank {
        /// Its length when it was opened.
        was: u64,
        /// Where it ended.
        is: u64,
    },
    /// The wait for more was ended from outside.
    #[error("interrupted")]
    Interrupted,
}

impl Source {
    /// Opens `path`; `-` is the standard input.
    ///
    /// # Errors
    /// Why it cannot be read.
    pub fn open(path: &Path) -> Result<Self, SourceError> {
        if path == Path::new("-") {
            // Whatever it is, it is read from where it stands: others may share its position.
            let file = rustix::stdio::stdin()
                .try_clone_to_owned()
                .map_err(|error| SourceError::Open(Errno::from_io_error(&error).unwrap_or(Errno::BADF)))?;
            return match FileType::from_raw_mode(stat(&file)?.st_mode) {
                FileType::Directory => Err(SourceError::Directory),
                _ => Ok(Self { file, name: STDIN_NAME.into(), mode: NEW, kind: SourceKind::Stream }),
            };
        }
        // Without waiting, so that a fifo's writer is waited for where a signal can end it: in `next`.
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let file = rustix::fs::open(path, flags, Mode::empty()).map_err(SourceError::Open)?;
        let stat = stat(&file)?;
        let kind = match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => return Err(SourceError::Directory),
            FileType::RegularFile => {
                let length = honest_length(&file, &stat);
                let sparse = (stat.st_blocks as u64).saturating_mul(512) < length;
                SourceKind::File { at: 0, length_at_open: length, sparse, data_until: 0 }
            }
            _ => SourceKind::Stream,
        };
        let name = path.file_name().unwrap_or(path.as_os_str()).to_owned();
        let mode = match kind {
            SourceKind::File { .. } => Mode::from_raw_mode(stat.st_mode & 0o777),
            SourceKind::Stream => NEW,
        };
        Ok(Self { file, name, mode, kind })
    }

    /// What it is called, without directories.
    pub fn name(&self) -> &OsStr {
        &self.name
    }

    /// The permissions of its copies, before the umask: its own if it is a regular file, without those that change who
    /// runs it.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// Its length as it was opened, where that means anything.
    pub fn length(&self) -> Option<u64> {
        match self.kind {
            // Files of /proc say 0 and hold more.
            SourceKind::File { length_at_open, .. } if length_at_open > 0 => Some(length_at_open),
            _ => None,
        }
    }

    /// Whether it is a regular file with a length: then the kernel can send from it, and any part of it again.
    pub fn is_file(&self) -> bool {
        self.length().is_some()
    }

    /// Reads the next piece; what one read returns is one piece.
    ///
    /// # Blocking
    /// Until the source has something, or `cancel` or the stop event becomes readable.
    ///
    /// # Errors
    /// Why there is no next piece.
    pub fn next(&mut self, buffer: &mut [u8], cancel: BorrowedFd<'_>) -> Result<Piece, SourceError> {
        match &mut self.kind {
            SourceKind::Stream => read_stream(&self.file, buffer, cancel),
            SourceKind::File { at, length_at_open, sparse, data_until } => {
                let mut room = buffer.len();
                if *sparse {
                    match extent(&self.file, *at, data_until)? {
                        Piece::Hole(length) => {
                            *at += length;
                            return Ok(Piece::Hole(length));
                        }
                        Piece::Bytes(_) => {
                            room = room.min((*data_until - *at).try_into().unwrap_or(usize::MAX))
                        }
                        Piece::End => room = 0,
                    }
                }
                let count = read_at(&self.file, &mut buffer[..room], *at)?;
                *at += count as u64;
                match count {
                    0 if *at < *length_at_open => Err(SourceError::Shrank { was: *length_at_open, is: *at }),
                    0 => Ok(Piece::End),
                    count => Ok(Piece::Bytes(count)),
                }
            }
        }
    }

    /// What lies at `at` of a regular file, as an extent: `Bytes` up to what length, `Hole`, or `End`. For senders that
    /// let the kernel read.
    ///
    /// # Errors
    /// Why that cannot be told.
    pub fn extent_at(&self, at: u64) -> Result<Piece, SourceError> {
        let SourceKind::File { length_at_open, sparse, .. } = self.kind else { return Ok(Piece::End) };
        let length = stat(&self.file)?.st_size as u64;
        if length < length_at_open {
            return Err(SourceError::Shrank { was: length_at_open, is: length });
        }
        if !sparse {
            let left = length.saturating_sub(at);
            return Ok(if left == 0 {
                Piece::End
            } else {
                Piece::Bytes(left.try_into().unwrap_or(usize::MAX))
            });
        }
        let mut until = at;
        match extent(&self.file, at, &mut until)? {
            Piece::Bytes(_) => Ok(Piece::Bytes((until - at).try_into().unwrap_or(usize::MAX))),
            other => Ok(other),
        }
    }

    /// Reads at a position of a regular file, without moving [`next`](Self::next).
    ///
    /// # Errors
    /// Why reading failed.
    pub fn read_at(&self, buffer: &mut [u8], at: u64) -> Result<usize, SourceError> {
        read_at(&self.file, buffer, at)
    }
}

/// A source as a ring's sender reads it: what was read, counted and summed.
pub(super) struct Feed<'s> {
    source: &'s mut Source,
    sum: Option<Checksum>,
    total: u64,
}

impl<'s> Feed<'s> {
    pub fn new(source: &'s mut Source, sums: bool) -> Self {
        Self { source, sum: sums.then(Checksum::new), total: 0 }
    }

    /// Reads the next piece, as [`Source::next`].
    pub fn next(&mut self, buffer: &mut [u8], cancel: BorrowedFd<'_>) -> Result<Piece, SourceError> {
        let piece = self.source.next(buffer, cancel)?;
        match piece {
            Piece::End => {}
            Piece::Bytes(count) => {
                if let Some(sum) = &mut self.sum {
                    sum.update(&buffer[..count]);
                }
                self.total += count as u64;
            }
            Piece::Hole(length) => {
                if let Some(sum) = &mut self.sum {
                    sum.update_zeros(length);
                }
                self.total += length;
            }
        }
        Ok(piece)
    }

    /// How many bytes so far.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// The end record, if this was all.
    pub fn end(&self) -> End {
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

/// A regular file's length, or 0 where it means nothing. Files of /proc say 0. Files of /sys say one page and hold less;
/// they say that nothing is stored, which is rare elsewhere, so only then a look at the last byte is needed.
fn honest_length(file: &OwnedFd, stat: &rustix::fs::Stat) -> u64 {
    let length = stat.st_size as u64;
    let is_suspect = stat.st_blocks == 0 && length > 0;
    if is_suspect && rustix::io::pread(file, &mut [0], length - 1) == Ok(0) { 0 } else { length }
}

fn read_at(file: &OwnedFd, buffer: &mut [u8], at: u64) -> Result<usize, SourceError> {
    loop {
        match rustix::io::pread(file, &mut *buffer, at) {
            Err(Errno::INTR) if crate::process::stop_signal().is_some() => {
                return Err(SourceError::Interrupted);
            }
            Err(Errno::INTR) => {}
            other => return other.map_err(SourceError::Read),
        }
    }
}

/// The extent at `at`; `data_until` remembers where known data ends, so that each extent is asked for once.
fn extent(file: &OwnedFd, at: u64, data_until: &mut u64) -> Result<Piece, SourceError> {
    if at >= *data_until {
        match rustix::fs::seek(file, SeekFrom::Data(at)) {
            // No data follows: what is left is a hole, up to the length that the file has by now.
            Err(Errno::NXIO) => {
                let length = stat(file)?.st_size as u64;
                return Ok(if length > at { hole(length - at) } else { Piece::End });
            }
            Err(error) => return Err(SourceError::Read(error)),
            Ok(data) if data > at => return Ok(hole(data - at)),
            Ok(_) => *data_until = rustix::fs::seek(file, SeekFrom::Hole(at)).map_err(SourceError::Read)?,
        }
    }
    Ok(Piece::Bytes((*data_until - at).try_into().unwrap_or(usize::MAX)))
}

fn hole(length: u64) -> Piece {
    Piece::Hole(length.min(LONGEST_HOLE))
}

fn read_stream(file: &OwnedFd, buffer: &mut [u8], cancel: BorrowedFd<'_>) -> Result<Piece, SourceError> {
    let stop = crate::process::stop_event().map_err(SourceError::Read)?;
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
            Ok(0) => return Ok(Piece::End),
            other => return other.map(Piece::Bytes).map_err(SourceError::Read),
        }
    }
}
