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
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
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
    offsets: Arc<ItemOffsets>,
    hooks: Arc<Hooks>,
    poll_waiters: PollWaiters,
    evict_after: Option<Duration>,
    /// The process and the lag of each receiver for which the sender waits.
    stalls: Mutex<StallDetector<(u32, u32)>>,
    /// The seat that the next receiver tries first.
    hint: AtomicU32,
}

impl RingTransport {
    pub(crate) fn new(
        segment: Segment,
        ring: SharedRing,
        membership: Membership<SharedRing>,
        kind: Kind,
        offsets: Arc<ItemOffsets>,
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
            offsets,
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
        let lag = |items: u32| {
            Lag::new(self.offsets.bytes_in_last(items), items.into(), self.geometry.slots().into())
        };
        match self.membership.status_of(seat) {
            None => (PeerState::Done, Lag::default()),
            Some(status) => match status.state {
                State::Active => (PeerState::Live, lag(status.behind)),
                State::Evicted => (PeerState::Evicted, Lag::default()),
                _ => (PeerState::Joining, Lag::default()),
            },
        }
    }

    fn messages(&self) -> u32 {
        self.offsets.items.load(Ordering::Relaxed)
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

/// The number of bytes before each item in the ring. It turns a lag in items into a lag in bytes. The data thread
/// writes it, and the control thread reads it for display, so it orders nothing.
pub(crate) struct ItemOffsets {
    starts: Box<[AtomicU64]>,
    items: AtomicU32,
    total: AtomicU64,
}

impl ItemOffsets {
    pub(crate) fn new(slots: u32) -> Self {
        let starts = (0..slots).map(|_| AtomicU64::new(0)).collect();
        Self { starts, items: AtomicU32::new(0), total: AtomicU64::new(0) }
    }

    /// Counts an item of `bytes` bytes that is about to be published.
    pub(crate) fn add(&self, bytes: u64) {
        let (item, total) = (self.items.load(Ordering::Relaxed), self.total.load(Ordering::Relaxed));
        self.start_of(item).store(total, Ordering::Relaxed);
        self.total.store(total + bytes, Ordering::Relaxed);
        self.items.store(item.wrapping_add(1), Ordering::Relaxed);
    }

    fn bytes_in_last(&self, items: u32) -> u64 {
        let first = self.items.load(Ordering::Relaxed).wrapping_sub(items);
        match items {
            0 => 0,
            _ => self
                .total
                .load(Ordering::Relaxed)
                .saturating_sub(self.start_of(first).load(Ordering::Relaxed)),
        }
    }

    fn start_of(&self, item: u32) -> &AtomicU64 {
        &self.starts[item as usize % self.starts.len()]
    }
}

#[cfg(test)]
mod tests {
    use super::ItemOffsets;

    #[test]
    fn the_offsets_tell_how_many_bytes_the_last_items_have() {
        let offsets = ItemOffsets::new(4);
        for bytes in [1, 10, 100, 1000, 10_000] {
            offsets.add(bytes);
        }
        let all: Vec<_> = (0..5).map(|items| offsets.bytes_in_last(items)).collect();
        assert_eq!(all, [0, 10_000, 11_000, 11_100, 11_110]);
    }
}
