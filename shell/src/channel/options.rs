//! The options for creating a channel, and for joining one.

use crate::channel::control::peers::ClientCounter;
use crate::channel::control::state::ProgressObserver;
use crate::registry::protocol::Start;
use crate::registry::status::Kind;
use crate::registry::{RuntimeDir, RuntimeError};
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// The options for creating a channel.
///
/// ```no_run
/// use std::time::Duration;
/// use whorl::Sender;
///
/// let mut sender = Sender::options()
///     .ring(16 << 20)
///     .evict_after(Duration::from_secs(5))
///     .create(&"ticker".parse()?)?;
/// sender.send(b"hello")?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use = "options create a channel with `create`"]
pub struct SenderOptions {
    pub(super) ring: u64,
    pub(super) seats: u32,
    pub(super) evict_after: Option<Duration>,
    pub(super) observer: Option<ProgressObserver>,
    pub(super) kind: Kind,
    pub(super) clients: Option<Arc<ClientCounter>>,
    runtime_dir: Option<PathBuf>,
}

impl Default for SenderOptions {
    fn default() -> Self {
        Self {
            ring: Self::DEFAULT_RING,
            seats: 64,
            evict_after: None,
            observer: None,
            kind: Kind::Ring,
            clients: None,
            runtime_dir: None,
        }
    }
}

impl SenderOptions {
    /// Bytes of a ring by default: 1 MiB.
    pub(crate) const DEFAULT_RING: u64 = 1 << 20;

    /// Returns the defaults: a ring of 1 MiB, 64 seats, no eviction, the user's runtime directory.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the size of the ring in bytes, rounded up to a power of two, 64 bytes to 8 GiB. Each message takes its length
    /// and 8 bytes, rounded up to 8. The longest message has half of the ring less 8 bytes, at most 2^29 - 1. The default
    /// is 1 MiB.
    pub fn ring(mut self, bytes: u64) -> Self {
        self.ring = bytes;
        self
    }

    /// Sets the number of seats: the most receivers at a time. The default is 64.
    pub fn seats(mut self, count: u32) -> Self {
        self.seats = count;
        self
    }

    /// Evicts a receiver that blocks the sender and makes no progress for this long. By default the sender waits for it.
    pub fn evict_after(mut self, time: Duration) -> Self {
        self.evict_after = Some(time);
        self
    }

    /// Uses this directory for the channel's name in place of the user's runtime directory. Its parent exists; the directory
    /// is created with mode 0700 if it does not exist.
    pub fn runtime_dir(mut self, path: impl Into<PathBuf>) -> Self {
        self.runtime_dir = Some(path.into());
        self
    }

    /// Calls this observer ten times a second, in the control thread.
    pub(crate) fn observer(mut self, observer: ProgressObserver) -> Self {
        self.observer = Some(observer);
        self
    }

    /// Sets the kind that `shell ls` shows.
    pub(crate) fn kind(mut self, kind: Kind) -> Self {
        self.kind = kind;
        self
    }

    /// Counts the clients that join.
    pub(crate) fn clients(mut self, clients: Arc<ClientCounter>) -> Self {
        self.clients = Some(clients);
        self
    }

    /// Opens the channel's runtime directory.
    pub(super) fn open_dir(&self) -> Result<RuntimeDir, RuntimeError> {
        RuntimeDir::open_at_or_default(self.runtime_dir.as_deref())
    }
}

impl fmt::Debug for SenderOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SenderOptions")
            .field("ring", &self.ring)
            .field("seats", &self.seats)
            .field("evict_after", &self.evict_after)
            .field("runtime_dir", &self.runtime_dir)
            .finish_non_exhaustive()
    }
}

/// The options for joining a channel.
///
/// ```no_run
/// use std::time::Duration;
/// use whorl::{Receiver, Start};
///
/// let options = Receiver::options().start(Start::Now).timeout(Duration::from_secs(5));
/// let mut receiver = options.join(&"ticker".parse()?)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default)]
#[must_use = "options join a channel with `join`"]
pub struct ReceiverOptions {
    pub(super) start: Start,
    pub(super) timeout: Option<Duration>,
    pub(super) confirms: bool,
    pub(super) holes: bool,
    runtime_dir: Option<PathBuf>,
}

impl ReceiverOptions {
    /// Returns the defaults: from the first message, no timeout, holes as zero bytes, the user's runtime directory.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets where in the stream the receiver begins. The default is the first message.
    pub fn start(mut self, start: Start) -> Self {
        self.start = start;
        self
    }

    /// Sets how long joining waits for a sender. By default it waits without end.
    pub fn timeout(mut self, time: Duration) -> Self {
        self.timeout = Some(time);
        self
    }

    /// Makes the sender wait for [`Receiver::confirm`](crate::Receiver::confirm) after the end. By default reading the end confirms.
    pub fn confirms(mut self, confirms: bool) -> Self {
        self.confirms = confirms;
        self
    }

    /// Receives a hole as [`Received::Hole`](crate::Received::Hole). By default the receiver gets the hole's zero bytes,
    /// in pieces that fit its buffer.
    pub fn holes(mut self, holes: bool) -> Self {
        self.holes = holes;
        self
    }

    /// Looks for the name in this directory in place of the user's runtime directory.
    pub fn runtime_dir(mut self, path: impl Into<PathBuf>) -> Self {
        self.runtime_dir = Some(path.into());
        self
    }

    /// Opens the channel's runtime directory.
    pub(super) fn open_dir(&self) -> Result<RuntimeDir, RuntimeError> {
        RuntimeDir::open_at_or_default(self.runtime_dir.as_deref())
    }
}
