//! A received piece of a stream, still in the ring or in a buffer.

use crate::os::file::write_raw;
use rustix::fd::BorrowedFd;
use rustix::io::Errno;
use std::time::Instant;
use whorl_core::error::End;
use whorl_core::ring::ByteReader;

/// A received piece of a stream.
pub(crate) enum Payload<'a> {
    /// Bytes in this process's own memory.
    Bytes(&'a [u8]),
    /// Bytes in the ring, which a hostile sender may change: only the kernel reads them.
    Shared(&'a ByteReader<'a>),
    /// Zero bytes that were not sent.
    Hole(u64),
}

/// What a receiving call returned: the result of the caller's function, or the end of the stream.
pub(crate) enum Taken<T> {
    Payload(T),
    End(End),
}

/// How long a receiving call waits for a payload.
#[derive(Clone, Copy)]
pub(crate) enum Deadline {
    /// It does not wait.
    Now,
    /// Until this time. `None` has no limit.
    Until(Option<Instant>),
}

impl Payload<'_> {
    /// Returns how many bytes of the stream this is, holes included.
    pub(crate) fn length(&self) -> u64 {
        match self {
            Self::Hole(length) => *length,
            stored => stored.stored() as u64,
        }
    }

    /// Returns how many bytes are stored. A hole stores none.
    pub(crate) fn stored(&self) -> usize {
        match self {
            Self::Bytes(bytes) => bytes.len(),
            Self::Shared(payload) => payload.len(),
            Self::Hole(_) => 0,
        }
    }

    /// Returns whether the stored bytes begin at a multiple of `alignment` in memory.
    pub(crate) fn is_aligned(&self, alignment: usize) -> bool {
        let address = match self {
            Self::Bytes(bytes) => bytes.as_ptr().addr(),
            Self::Shared(payload) => payload.as_ptr().map_or(0, <*const u8>::addr),
            Self::Hole(_) => 0,
        };
        address.is_multiple_of(alignment)
    }

    /// Writes the stored bytes after the first `done`: to position `at` of a file, or to a stream. Returns how many
    /// bytes the kernel accepted.
    ///
    /// # Blocking
    /// Blocks if the descriptor does.
    ///
    /// # Errors
    /// The error of the system call.
    pub(crate) fn write_to(&self, to: BorrowedFd<'_>, done: usize, at: Option<u64>) -> Result<usize, Errno> {
        match (self, at) {
            (Self::Bytes(bytes), Some(at)) => rustix::io::pwrite(to, &bytes[done..], at),
            (Self::Bytes(bytes), None) => rustix::io::write(to, &bytes[done..]),
            (Self::Hole(_), _) => Ok(0),
            (Self::Shared(payload), at) => {
                let start = payload.as_ptr().ok_or(Errno::FAULT)?;
                let (rest, left) = (start.wrapping_add(done), payload.len().saturating_sub(done));
                // SAFETY: `len` bytes from `start` on lie in the ring, which is mapped while the frame is borrowed; only
                // the kernel reads them.
                unsafe { write_raw(to, rest, left, at) }
            }
        }
    }
}
