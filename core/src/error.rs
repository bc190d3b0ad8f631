//! What can go wrong, as small enums. Nothing here panics over bytes that another process wrote.

use core::fmt;

/// What a ring's sender stored when it closed: the only end of data there is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct End {
    /// How many bytes were sent in all.
    pub total: u64,
    /// A 128-bit checksum over them, where one was asked for.
    pub checksum: Option<[u8; 16]>,
}

/// Why the sender has no slot to write.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ClaimError {
    /// The slowest receiver has not yet given back a slot (`try_claim` only).
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
    /// The sender went away without closing: what was read so far is all there will be, and it is not whole.
    SenderDied,
    /// This receiver was evicted for being too slow.
    Evicted,
    /// The shared words make no sense: the sender is broken or hostile.
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
    /// Not admitted yet (`try_admitted` only).
    Asking,
    /// The beginning of the stream, which was asked for, has been overwritten.
    Missed,
    /// The seat was cleared under this participant: another participant took it for dead.
    Reclaimed,
    /// The sender is gone.
    SenderDied,
    /// The deadline passed first.
    TimedOut,
    /// The host ended the wait.
    Interrupted,
}

/// A length, kind or word read from a peer that no honest peer writes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Corrupt;

/// A message longer than a slot.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TooLong;

/// Why a lock was not entered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LockError {
    /// Another participant is in or goes first (the `try_` forms only).
    Busy,
    /// The deadline passed first.
    TimedOut,
    /// The host ended the wait.
    Interrupted,
}

/// Why there is no news.
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
    /// The message needs a buffer of so many bytes.
    TooShort(usize),
    /// The shared words make no sense: a peer is broken or hostile.
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
    Self::Busy => "somebody else is in, or goes first",
    Self::TimedOut => "timed out waiting for those who are in",
    Self::Interrupted => "interrupted",
});
say!(WaitError {
    Self::TimedOut => "timed out waiting for news",
    Self::Interrupted => "interrupted",
    Self::NoSuchBox => "there is no such mailbox",
});

impl fmt::Display for MailReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lock(why) => why.fmt(f),
            Self::TooShort(needed) => {
                write!(f, "the message has {needed} bytes, more than there is room for")
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
            Self::TooLong => f.write_str("the message is longer than the mailbox"),
            Self::NoSuchBox => WaitError::NoSuchBox.fmt(f),
        }
    }
}

impl core::error::Error for MailWriteError {}
