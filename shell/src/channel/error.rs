//! What can go wrong with a channel.

use crate::os::error::OsError;
use crate::registry::protocol::Refusal;
use crate::registry::{BindError, ConnectError, RequestError, RuntimeError};
use crate::shm::LayoutError;
use crate::shm::ring::SegmentError;
use rustix::io::Errno;
use thiserror::Error;

/// Why a channel cannot be opened.
#[derive(Debug, Error)]
pub enum CreateError {
    /// The runtime directory.
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
    /// The name.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The measures.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// The memory.
    #[error(transparent)]
    Segment(#[from] SegmentError),
    /// A system call failed.
    #[error(transparent)]
    System(#[from] OsError),
}

/// Why something was not sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum SendError {
    /// The ring is full (`try_send` only).
    #[error("the ring is full")]
    Full,
    /// The deadline passed.
    #[error("timed out waiting for a receiver")]
    TimedOut,
    /// A signal asked the program to stop.
    #[error("interrupted")]
    Interrupted,
    /// Somebody asked the channel to end, as `shell rm` does.
    #[error("asked to end by 'shell rm'")]
    Stopped,
    /// The message is longer than a slot.
    #[error("the message has {length} bytes and a slot holds {slot}")]
    TooLong {
        /// The message's length.
        length: usize,
        /// A slot's size.
        slot: usize,
    },
    /// The stream was ended: nothing can follow its end.
    #[error("the stream was ended")]
    Closed,
    /// This process was forked from the one that made the sender, which alone may use it.
    #[error("this sender belongs to the process that forked this one")]
    Forked,
}

/// Why a channel was not joined.
#[derive(Debug, Error)]
pub enum JoinError {
    /// The runtime directory.
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
    /// The name stands for something that cannot be connected to.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The owner does not talk as we do.
    #[error(transparent)]
    Talk(#[from] RequestError),
    /// The owner refused.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// What it handed over.
    #[error(transparent)]
    Segment(#[from] SegmentError),
    /// The deadline passed and nobody had come.
    #[error("timed out waiting for a sender")]
    TimedOut,
    /// A signal asked the program to stop.
    #[error("interrupted")]
    Interrupted,
    /// Somebody removed the file that says that we wait, as `shell rm` does.
    #[error("asked to end by 'shell rm'")]
    Stopped,
    /// A system call failed.
    #[error(transparent)]
    System(#[from] OsError),
}

/// Why nothing more was received.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum ReceiveError {
    /// Nothing new is there (`try_receive` only).
    #[error("nothing new is there")]
    Empty,
    /// The deadline passed.
    #[error("timed out waiting for the sender")]
    TimedOut,
    /// A signal asked the program to stop.
    #[error("interrupted")]
    Interrupted,
    /// The sender went away before the end: what was received so far is all there will be, and it is not whole.
    #[error("the sender died before the end of the stream")]
    SenderDied,
    /// We were too slow, and the sender went on without us. Also if this program has closed all its descriptors, the lock of
    /// this receiver's seat among them.
    #[error("evicted for being too slow")]
    Evicted,
    /// The other side does not keep to the protocol.
    #[error("the sender sent an invalid protocol message")]
    Corrupt,
    /// The buffer is shorter than the message; nothing was taken.
    #[error("the message has {length} bytes, more than the buffer")]
    TooLong {
        /// The message's length.
        length: usize,
    },
    /// A system call failed.
    #[error("cannot receive: {}", crate::os::error::reason(*.0))]
    System(Errno),
    /// This process was forked from the one that made the receiver, which alone may use it.
    #[error("this receiver belongs to the process that forked this one")]
    Forked,
}
