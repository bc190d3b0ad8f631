//! The transports of a channel.
//!
//! | module | what it is |
//! |---|---|
//! | `ring` | the ring, on the sender's side |
//! | `socket` | a socket for each receiver, on the sender's side |
//! | `poll_waiters` | receivers that sleep in poll(2), which are notified over their sockets |
//! | `incoming` | the receiver's side of either transport |
//! | `ring_receiver` | a seat in the ring, on the receiver's side |
//! | `stream` | a socket, on the receiver's side |
//! | `frame` | the frames in that socket |
//! | `payload` | a received piece of the stream, still in the ring or in a buffer |

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

/// What a channel grants to a receiver that joins.
pub(crate) struct JoinGrant {
    pub message: ControlMessage,
    pub descriptors: Vec<CloseOnForkFd>,
    /// Its place, if the transport chooses it. Then the receiver takes part at once.
    pub place: Option<u32>,
}

/// How far a receiver is behind.
#[derive(Clone, Copy, Default)]
pub(crate) struct Lag {
    pub bytes: u64,
    /// The same in thousandths of what the channel can hold.
    pub fill: u32,
}

impl Lag {
    /// Returns a lag of `bytes` in a channel that holds `most`.
    pub(crate) fn new(bytes: u64, most: u64) -> Self {
        Self { bytes, fill: (bytes.saturating_mul(1000) / most.max(1)).min(1000) as u32 }
    }
}

/// The control thread's operations on a transport. A place is a seat of the ring, or the number of a stream.
pub(crate) trait Transport: Send + Sync + 'static {
    fn kind(&self) -> Kind;
    fn transport_kind(&self) -> TransportKind;
    /// Returns the bytes of memory that the channel uses.
    fn memory(&self) -> u64;
    /// Prepares what a receiver needs to join.
    fn grant(&self, start: Start) -> Result<JoinGrant, Refusal>;
    /// Admits the receiver that has taken this place. Returns whether it takes part now.
    fn admit(&self, _place: u32) -> bool {
        true
    }
    /// Admits every receiver that waits for it. Returns the places of all receivers that take part, in ascending order.
    fn admit_new(&self) -> Vec<u32> {
        Vec::new()
    }
    /// Returns the state of a receiver, and how far it is behind.
    fn peer_state(&self, place: u32) -> (PeerState, Lag);
    /// Reclaims the place of a receiver that is gone. Returns `false` if something is left, and the caller tries again.
    fn reclaim(&self, place: u32) -> bool;
    /// Adds a receiver that sleeps in an event loop, and is notified over this socket.
    fn add_poll_waiter(&self, _place: u32, _socket: &Arc<CloseOnForkFd>) {}
    /// Removes a receiver whose socket is closed.
    fn remove_poll_waiter(&self, _place: u32, _socket: &Arc<CloseOnForkFd>) {}
    /// Reclaims what dead receivers hold. Returns the places of receivers to evict. Called ten times a second.
    fn sweep(&self, status: &SendStatus) -> Vec<u32>;
    /// Evicts the receiver at this place.
    fn evict(&self, place: u32);
    /// Ends the data thread's wait for receivers.
    fn interrupt(&self) {}
}
