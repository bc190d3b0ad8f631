//! Those who are sent to through sockets, as their host knows them; and what a serving gets from it.

use super::source::{Source, SourceError};
use crate::os::close_on_fork::CloseOnForkFd;
use crate::os::error::OsError;
use crate::os::event_fd::EventFd;
use std::sync::Arc;
use std::time::Duration;

/// Those who are sent to, as their host knows them.
pub(super) trait PeerSet {
    /// Readable when somebody came or went.
    fn bell(&self) -> Option<&EventFd> {
        None
    }
    /// The places of those who went since the last call, and after them those who came.
    fn changes(&self) -> (Vec<u32>, Vec<NewPeer>) {
        (Vec::new(), Vec::new())
    }
    /// What lies before `position` is about to be given up. False: somebody came who wants it.
    fn may_forget(&self, _position: u64) -> bool {
        true
    }
    /// Everybody has everything: nobody is let in any more. False: somebody came before that.
    fn close(&self) -> bool {
        true
    }
    /// Whether being alone is a reason to end.
    fn needs_company(&self) -> bool {
        true
    }
    /// Whether everybody has gone.
    fn nobody_left(&self) -> bool;
    /// Whether there is no point in going on. Asked when the supply's `cancel` is readable.
    fn is_over(&self) -> bool {
        self.nobody_left()
    }
    /// The longest wait for peers of which none moves.
    fn patience(&self) -> Option<Duration> {
        None
    }
    /// Runs something that may wait for peers.
    fn waiting<T>(&self, wait: impl FnOnce() -> T) -> T;
    /// So many bytes were sent to the fastest.
    fn sent(&self, most: u64);
    /// A peer was sent everything before `position`.
    fn is_at(&self, place: u32, position: u64);
}

/// Somebody to be sent to.
pub(super) struct NewPeer {
    pub socket: Arc<CloseOnForkFd>,
    /// What its host calls it.
    pub place: u32,
    /// From the first byte, or from whatever comes next.
    pub from_first: bool,
}

/// What is to be sent, and how.
pub(super) struct FanOutSource<'a> {
    pub source: &'a mut Source,
    pub block: usize,
    pub blocks: usize,
    pub verify: bool,
    /// Readable once there may be no point in going on: [`PeerSet::is_over`] says whether.
    pub cancel: &'a EventFd,
}

/// Why it ended before the end.
#[derive(Debug)]
pub(super) enum ServeError {
    Source(SourceError),
    /// Nobody is left, or the host cancelled it.
    Over,
    /// No peer moved for as long as the crowd has patience.
    TimedOut,
    Interrupted,
    System(OsError),
}

impl From<OsError> for ServeError {
    fn from(error: OsError) -> Self {
        Self::System(error)
    }
}
