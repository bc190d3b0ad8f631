//! How a channel's bytes travel.
//!
//! | module | what it is |
//! |---|---|
//! | `ring` | the ring, on the sender's side |
//! | `socket` | a socket for each receiver, on the sender's side |
//! | `poll_waiters` | receivers that sleep in poll(2), and are told over their sockets |
//! | `incoming` | the receiver's side of either transport |
//! | `ring_receiver` | a seat in the ring, on the receiver's side |
//! | `stream` | a socket, on the receiver's side |
//! | `frame` | the frames in that socket |
//! | `payload` | what a receiver takes, still where it lies |

pub(crate) mod frame;
pub(crate) mod incoming;
pub(crate) mod payload;
mod poll_waiters;
pub(crate) mod ring;
pub(crate) mod ring_receiver;
pub(crate) mod socket;
pub(crate) mod stream;

use crate::channel::control::progress::SendStatus;
use crate::os::close_on_fork::CloseOnForkFd;
use crate::registry::protocol::{ControlMessage, Refusal, Start};
use crate::registry::status::{Kind, PeerState, TransportKind};
use std::sync::Arc;

/// What a receiver that joins is given.
pub(crate) struct JoinGrant {
    pub message: ControlMessage,
    pub descriptors: Vec<CloseOnForkFd>,
    /// Its place, where the transport chooses it; then it takes part at once.
    pub place: Option<u32>,
}

/// How far a receiver is behind.
#[derive(Clone, Copy, Default)]
pub(crate) struct Lag {
    pub bytes: u64,
    /// Thousandths of what the channel can hold.
    pub fill: u32,
}

impl Lag {
    /// A lag of `bytes`, which take `part` of `whole`.
    pub(crate) fn new(bytes: u64, part: u64, whole: u64) -> Self {
        Self { bytes, fill: (part.saturating_mul(1000) / whole.max(1)).min(1000) as u32 }
    }
}

/// What the control thread does for receivers, on the sender's side. A place is a seat of the ring, or the number of a stream.
pub(crate) trait Transport: Send + Sync + 'static {
    fn kind(&self) -> Kind;
    fn transport_kind(&self) -> TransportKind;
    /// Bytes of memory that the channel takes.
    fn memory(&self) -> u64;
    /// Prepares what a receiver needs to join.
    fn grant(&self, start: Start) -> Result<JoinGrant, Refusal>;
    /// A receiver has taken this place. Returns whether it takes part now.
    fn admit(&self, _place: u32) -> bool {
        true
    }
    /// Admits every receiver that waits for it; returns the places of all that take part, in ascending order.
    fn admit_new(&self) -> Vec<u32> {
        Vec::new()
    }
    /// How a receiver is doing, and how far it is behind.
    fn peer_state(&self, place: u32) -> (PeerState, Lag);
    /// How many messages were published, modulo 2^32; 0 where bytes travel without message boundaries.
    fn messages(&self) -> u32 {
        0
    }
    /// The receiver at this place is gone. Returns whether everything of it is reclaimed; if not, the caller tries again.
    fn reclaim(&self, place: u32) -> bool;
    /// This receiver sleeps in an event loop, and is to be told of news over this socket.
    fn add_poll_waiter(&self, _place: u32, _socket: &Arc<CloseOnForkFd>) {}
    /// This socket is closed.
    fn remove_poll_waiter(&self, _place: u32, _socket: &Arc<CloseOnForkFd>) {}
    /// Reclaims what dead receivers hold, and returns the places that are to be evicted. Called ten times a second.
    fn sweep(&self, status: &SendStatus) -> Vec<u32>;
    /// Evicts the receiver at this place.
    fn evict(&self, place: u32);
    /// Ends the data thread's wait for receivers.
    fn interrupt(&self) {}
}
