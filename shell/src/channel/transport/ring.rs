//! The ring on the sender's side, for the control thread: it grants the segment, and admits, reclaims and evicts
//! receivers.

use crate::channel::control::progress::SendStatus;
use crate::channel::control::stall::StallDetector;
use crate::channel::transport::poll_waiters::PollWaiters;
use crate::channel::transport::{JoinGrant, Lag, Transport};
use crate::os::close_on_fork::CloseOnForkFd;
use crate::os::thread::unpoisoned;
use crate::registry::protocol::{ControlMessage, Refusal, Start};
use crate::registry::status::{Kind, PeerState, TransportKind};
use crate::shm::Geometry;
use crate::shm::liveness::Hooks;
use crate::shm::ring::{Segment, SharedRing};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use whorl_core::ring::{Admission, Membership, Parts, disarm};
use whorl_core::seat::State;

/// A ring and its membership.
pub(crate) struct RingTransport {
    segment: Segment,
    ring: SharedRing,
    membership: Membership<SharedRing>,
    geometry: Geometry,
    kind: Kind,
    hooks: Arc<Hooks>,
    poll_waiters: PollWaiters,
    evict_after: Option<Duration>,
    /// The process and the lag of each receiver for which the sender waits.
    stalls: Mutex<StallDetector<(u32, u64)>>,
    /// The seat that the next receiver tries first.
    hint: AtomicU32,
}

impl RingTransport {
    pub(crate) fn new(
        segment: Segment,
        ring: SharedRing,
        membership: Membership<SharedRing>,
        kind: Kind,
        evict_after: Option<Duration>,
    ) -> Arc<Self> {
        let (geometry, hooks) = (ring.geometry(), ring.host().hooks().clone());
        let (poll_waiters, stalls) = (PollWaiters::default(), Mutex::new(StallDetector::new()));
        let hint = AtomicU32::new(0);
        let transport = Arc::new(Self {
            segment,
            ring,
            membership,
            geometry,
            kind,
            hooks,
            poll_waiters,
            evict_after,
            stalls,
            hint,
        });
        // Weak, because the ring holds the hook.
        let weak = Arc::downgrade(&transport);
        transport.hooks.on_wake(move || {
            if let Some(transport) = weak.upgrade() {
                transport.poll_waiters.notify(|seat| disarm(&transport.ring, seat));
            }
        });
        transport
    }
}

impl Transport for RingTransport {
    fn kind(&self) -> Kind {
        self.kind
    }

    fn transport_kind(&self) -> TransportKind {
        TransportKind::Shm
    }

    fn memory(&self) -> u64 {
        self.geometry.data_length() + self.geometry.control_length()
    }

    fn grant(&self, _start: Start) -> Result<JoinGrant, Refusal> {
        let objects =
            self.segment.objects().map(|object| CloseOnForkFd::open(|| object.try_clone_to_owned()));
        let descriptors = objects.into_iter().collect::<Result<_, _>>().map_err(|_| Refusal::Unable)?;
        let hint = self.hint.fetch_add(1, Ordering::Relaxed) % self.geometry.seats();
        Ok(JoinGrant { message: ControlMessage::Ring(hint), descriptors, place: None })
    }

    fn admit(&self, seat: u32) -> bool {
        match self.membership.admit(seat) {
            Admission::Admitted => true,
            Admission::Refused => false,
            // Decided already, because another client named this seat.
            Admission::Nothing => {
                self.membership.status_of(seat).is_some_and(|status| status.state == State::Active)
            }
        }
    }

    fn admit_new(&self) -> Vec<u32> {
        self.membership.admit_all();
        let active = self.membership.status().filter(|status| status.state == State::Active);
        active.map(|status| status.seat).collect()
    }

    fn peer_state(&self, seat: u32) -> (PeerState, Lag) {
        match self.membership.status_of(seat) {
            None => (PeerState::Done, Lag::default()),
            Some(status) => match status.state {
                State::Active => (PeerState::Live, Lag::new(status.behind, self.geometry.capacity())),
                State::Evicted => (PeerState::Evicted, Lag::default()),
                _ => (PeerState::Joining, Lag::default()),
            },
        }
    }

    fn reclaim(&self, seat: u32) -> bool {
        self.membership.status_of(seat).is_none() || self.membership.reclaim(seat)
    }

    fn add_poll_waiter(&self, seat: u32, socket: &Arc<CloseOnForkFd>) {
        self.poll_waiters.add(seat, socket);
    }

    fn remove_poll_waiter(&self, seat: u32, socket: &Arc<CloseOnForkFd>) {
        self.poll_waiters.remove(seat, socket);
    }

    fn sweep(&self, status: &SendStatus) -> Vec<u32> {
        self.membership.reclaim_dead();
        let Some(evict_after) = self.evict_after else { return Vec::new() };
        let mut stalls = unpoisoned(&self.stalls);
        // While the sender waits, the tail does not move. So a receiver whose lag stays the same does not move either.
        let blocking = self
            .membership
            .status()
            .filter(|seat| status.is_waiting() && seat.state == State::Active && seat.behind > 0);
        stalls.overdue(evict_after, blocking.map(|seat| (seat.seat, (seat.pid, seat.behind))))
    }

    fn evict(&self, seat: u32) {
        self.membership.evict(seat);
    }

    fn interrupt(&self) {
        self.hooks.stop();
        self.ring.control().notify_all(self.ring.host());
    }
}
