//! Small error enums, one for each operation. No function here panics over bytes that another process wrote.

use core::fmt;

/// The end record, which a ring's sender stores when it closes. Only this record ends the data of a ring.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct End {
    /// The number of bytes that were sent in all.
    pub total: u64,
    /// A 128-bit checksum over these bytes, if the sender computes one.
    pub checksum: Option<[u8; 16]>,
}

/// Why the sender gets no slot to write.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ClaimError {
    /// The slowest receiver has not yet released a slot (`try_claim` only).
    Full,
    /// The deadline passed first.
    TimedOut,
    /// The host ended the wait.
    Interrupted,
}

/// Why a receiver has nothing to read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ReadError {
    /// Nothing is published beyond this receiver's cursor (`try_read` only).
    Empty,
    /// Everything was read: this is the end record.
    Ended(End),
    /// The sender ended without closing the ring. The receiver has read everything that was published, but the stream
    /// is not whole.
    SenderDied,
    /// This receiver was evicted for being too slow.
    Evicted,
    /// The shared words hold impossible values, so the sender is broken or hostile.
    Corrupt,
    /// The deadline passed first.
    TimedOut,
    /// The host ended the wait.
    Interrupted,
}

/// Why a receiver cannot take part.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum JoinError {
    /// The seat is taken, or does not exist.
    Taken,
    /// The sender has not admitted this receiver yet (`try_admitted` only).
    Asking,
    /// The receiver asked for the beginning of the stream, which has been overwritten.
    Missed,
    /// Another participant cleared the seat as if its occupant were dead.
    Reclaimed,
    /// The sender has ended.
    SenderDied,
    /// The deadline passed first.
    TimedOut,
    /// The host ended the wait.
    Interrupted,
}

/// A length, kind or word that a peer wrote and that no honest peer writes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Corrupt;

/// A message longer than a slot.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TooLong;

/// Why a lock was not entered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LockError {
    /// Another participant is in or goes first (the `try_` methods only).
    Busy,
    /// The deadline passed first.
    TimedOut,
    /// The host ended the wait.
    Interrupted,
}

/// Why a wait for a newer message returned no version.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum WaitError {
    /// The deadline passed first.
    TimedOut,
    /// The host ended the wait.
    Interrupted,
    /// There is no such mailbox.
    NoSuchBox,
}

/// Why a mailbox was not read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MailReadError {
    /// The lock was not entered.
    Lock(LockError),
    /// The message needs a buffer of this many bytes.
    TooShort(usize),
    /// The shared words hold impossible values, so a peer is broken or hostile.
    Corrupt,
    /// There is no such mailbox.
    NoSuchBox,
}

/// Why a mailbox was not written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MailWriteError {
    /// The lock was not entered.
    Lock(LockError),
    /// The message is longer than the mailbox's capacity.
    TooLong,
    /// There is no such mailbox.
    NoSuchBox,
}

impl From<LockError> for MailReadError {
    fn from(why: LockError) -> Self {
        Self::Lock(why)
    }
}

impl From<LockError> for MailWriteError {
    fn from(why: LockError) -> Self {
        Self::Lock(why)
    }
}

impl From<Corrupt> for MailReadError {
    fn from(_: Corrupt) -> Self {
        Self::Corrupt
    }
}

macro_rules! say {
    ($type:ty { $($pattern:pat => $text:expr),+ $(,)? }) => {
        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self { $($pattern => $text),+ })
            }
        }
        impl core::error::Error for $type {}
    };
}

say!(ClaimError {
    Self::Full => "the ring is full",
    Self::TimedOut => "timed out waiting for the slowest receiver",
    Self::Interrupted => "interrupted",
});
say!(ReadError {
    Self::Empty => "nothing new is published",
    Self::Ended(_) => "the stream has ended",
    Self::SenderDied => "the sender died before the end of the stream",
    Self::Evicted => "evicted for being too slow",
    Self::Corrupt => "the shared memory holds impossible values",
    Self::TimedOut => "timed out waiting for the sender",
    Self::Interrupted => "interrupted",
});
say!(JoinError {
    Self::Taken => "the seat is taken",
    Self::Asking => "not admitted yet",
    Self::Missed => "the stream has begun and its first bytes are gone",
    Self::Reclaimed => "the seat was cleared as if its occupant were dead",
    Self::SenderDied => "the sender is gone",
    Self::TimedOut => "timed out waiting to be admitted",
    Self::Interrupted => "interrupted",
});
say!(Corrupt { Self => "the shared memory holds impossible values" });
say!(TooLong { Self => "the message is longer than a slot" });
say!(LockError {
    Self::Busy => "another participant holds the lock, or is first in line",
    Self::TimedOut => "timed out waiting for the lock",
    Self::Interrupted => "interrupted",
});
say!(WaitError {
    Self::TimedOut => "timed out waiting for a newer message",
    Self::Interrupted => "interrupted",
    Self::NoSuchBox => "there is no such mailbox",
});

impl fmt::Display for MailReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lock(why) => why.fmt(f),
            Self::TooShort(needed) => {
                write!(f, "the message has {needed} bytes, which is more than the buffer holds")
            }
            Self::Corrupt => Corrupt.fmt(f),
            Self::NoSuchBox => WaitError::NoSuchBox.fmt(f),
        }
    }
}

impl core::error::Error for MailReadError {}

impl fmt::Display for MailWriteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lock(why) => why.fmt(f),
            Self::TooLong => f.write_str("the message is longer than the mailbox's capacity"),
            Self::NoSuchBox => WaitError::NoSuchBox.fmt(f),
        }
    }
}

impl core::error::Error for MailWriteError {}
