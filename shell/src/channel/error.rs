//! The errors of channels.

use crate::os::error::OsError;
use crate::registry::protocol::Refusal;
use crate::registry::{BindError, ConnectError, RequestError, RuntimeError};
use crate::shm::LayoutError;
use crate::shm::ring::SegmentError;
use thiserror::Error;

/// Why a channel cannot be created.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum CreateError {
    /// The runtime directory cannot be used.
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
    /// The name cannot be taken.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The size of the ring or the number of seats is out of range.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// The memory cannot be reserved or mapped.
    #[error(transparent)]
    Segment(#[from] SegmentError),
    /// A system call failed.
    #[error(transparent)]
    System(#[from] OsError),
}

/// Why a message was not sent, or a wait ended early.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
#[non_exhaustive]
pub enum SendError {
    /// The ring is full. Only [`try_send`](crate::Sender::try_send) and [`try_claim`](crate::Sender::try_claim) return it.
    #[error("the ring is full")]
    Full,
    /// The time limit passed.
    #[error("timed out waiting for a receiver")]
    TimedOut,
    /// A signal asked the program to stop.
    #[error("interrupted")]
    Interrupted,
    /// `shell rm` asked the channel to end.
    #[error("asked to end by 'shell rm'")]
    Stopped,
    /// The message is longer than half of the ring.
    #[error("the message has {length} bytes and this channel takes {most}; a larger ring takes more")]
    TooLong {
        /// The message's length in bytes.
        length: usize,
        /// The longest message in bytes.
        most: usize,
    },
    /// The sender ended the stream before.
    #[error("the stream was ended")]
    Closed,
    /// This process was forked from the one that created the sender. Only that process can use it.
    #[error("this sender belongs to the process that forked this one")]
    Forked,
}

/// Why a channel was not joined.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum JoinError {
    /// The runtime directory cannot be used.
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
    /// The channel's socket cannot be connected to.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The handshake with the sender failed.
    #[error(transparent)]
    Talk(#[from] RequestError),
    /// The sender refused the receiver.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The memory that the sender granted cannot be used.
    #[error(transparent)]
    Segment(#[from] SegmentError),
    /// The time limit passed before a sender had admitted the receiver.
    #[error("timed out waiting for a sender")]
    TimedOut,
    /// A signal asked the program to stop.
    #[error("interrupted")]
    Interrupted,
    /// `shell rm` ended the wait.
    #[error("asked to end by 'shell rm'")]
    Stopped,
    /// A system call failed.
    #[error(transparent)]
    System(#[from] OsError),
}

/// Why there is no next message.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
#[non_exhaustive]
pub enum ReceiveError {
    /// There is no message now. Only [`try_recv`](crate::Receiver::try_recv) returns it.
    #[error("nothing new is there")]
    Empty,
    /// The time limit passed.
    #[error("timed out waiting for the sender")]
    TimedOut,
    /// A signal asked the program to stop.
    #[error("interrupted")]
    Interrupted,
    /// The sender died before the end. Nothing more will come, and the stream is not complete.
    #[error("the sender died before the end of the stream")]
    SenderDied,
    /// The sender evicted this receiver because it was too slow. A program that closes all its descriptors gets it too, because
    /// the lock of the receiver's seat is one of them.
    #[error("evicted for being too slow")]
    Evicted,
    /// The sender does not follow the protocol.
    #[error("the sender sent an invalid protocol message")]
    Corrupt,
    /// The buffer is shorter than the message, which stays for a longer buffer.
    #[error("the message has {length} bytes, more than the buffer")]
    TooLong {
        /// The message's length in bytes.
        length: usize,
    },
    /// A system call failed.
    #[error(transparent)]
    System(#[from] OsError),
    /// This process was forked from the one that joined. Only that process can use the receiver.
    #[error("this receiver belongs to the process that forked this one")]
    Forked,
}
