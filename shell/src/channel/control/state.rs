//! What the control thread knows of its channel, and what it reports to other processes.

use crate::channel::control::peers::{Peer, PeerTable};
use crate::channel::control::progress::SendStatus;
use crate::channel::control::rate::{Messages, Rate};
use crate::channel::transport::{Lag, Transport};
use crate::registry::protocol::DisconnectReason;
use crate::registry::status::{PeerState, Phase, ReceiverStatus, Report};
use std::sync::Arc;

/// The state of a channel at one moment.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// Bytes sent.
    pub sent: u64,
    /// Bytes to send in all; `None` if that is not known.
    pub total: Option<u64>,
    /// Whether the sender waits for its receivers.
    pub waiting: bool,
    /// How many receivers the sender waits for before it begins; `None` once it has begun.
    pub wanted: Option<u32>,
    /// The receivers, in the order of joining. Those of a copy stay in the list when they end.
    pub receivers: Vec<ReceiverStatus>,
}

/// A function that the control thread calls ten times a second, and once at the end.
pub type ProgressObserver = Box<dyn FnMut(&Snapshot) + Send>;

/// A channel, as its control thread sees it.
pub(super) struct ChannelState {
    pub transport: Arc<dyn Transport>,
    pub peers: Arc<PeerTable>,
    pub status: Arc<SendStatus>,
    rate: Rate,
    messages: Messages,
}

impl ChannelState {
    pub(super) fn new(transport: Arc<dyn Transport>, peers: Arc<PeerTable>, status: Arc<SendStatus>) -> Self {
        Self { transport, peers, status, rate: Rate::default(), messages: Messages::default() }
    }

    /// Updates the rates with what was sent since the last call.
    pub(super) fn update_rates(&mut self) {
        self.rate.update(self.status.sent());
        self.messages.update(self.status.messages());
    }

    /// Wakes the data thread if it needs receivers and none takes part any more.
    pub(super) fn cancel_if_alone(&self) {
        if self.status.needs_receivers() && !self.peers.has_receivers() {
            self.peers.cancel();
        }
    }

    pub(super) fn snapshot(&self) -> Snapshot {
        Snapshot {
            sent: self.status.sent(),
            total: self.status.total(),
            waiting: self.status.is_waiting(),
            wanted: (self.status.phase() == Phase::Waiting).then(|| self.status.wanted()),
            receivers: self.receivers(),
        }
    }

    pub(super) fn report(&self) -> Report {
        let messages = self.messages.with(self.status.messages());
        Report {
            kind: self.transport.kind(),
            phase: self.status.phase(),
            transport: self.transport.transport_kind(),
            wanted: self.status.wanted(),
            memory: self.transport.memory(),
            sent: self.status.sent(),
            rate: self.rate.of(self.status.sent()),
            messages,
            message_rate: self.messages.rate(messages),
            waits: self.status.is_waiting(),
            connections: 0,
            receivers: self.receivers(),
        }
    }

    fn receivers(&self) -> Vec<ReceiverStatus> {
        let state = |peer: &Peer| match (peer.disconnected, peer.place) {
            (Some(DisconnectReason::Done), _) => (PeerState::Done, Lag::default()),
            _ if peer.has_ended() => (PeerState::Done, Lag::default()),
            _ if peer.evicted => (PeerState::Evicted, Lag::default()),
            (_, Some(place)) => match self.transport.peer_state(place) {
                // A forked receiver releases its seat before it completes its file.
                (PeerState::Done, lag) if peer.process.is_some() => (PeerState::Live, lag),
                state => state,
            },
            (_, None) => (PeerState::Joining, Lag::default()),
        };
        self.peers.map(|peer| {
            let (state, lag) = state(peer);
            ReceiverStatus { pid: peer.pid, state, behind: lag.bytes, fill: lag.fill }
        })
    }
}
