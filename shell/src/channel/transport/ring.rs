//! The ring as an owner's transport: handing the segment over, admitting, burying, evicting.

use crate::channel::control::stall::StallDetector;
use crate::channel::control::thread::{JoinGrant, Lag, SendStatus, Transport};
use crate::channel::transport::poll_waiters::PollWaiters;
use crate::os::close_on_fork::CloseOnForkFd;
use crate::registry::protocol::{ControlMessage, Refusal, Start};
use crate::registry::status::{Kind, PeerState, TransportKind};
use crate::shm::Geometry;
use crate::shm::liveness::Hooks;
use crate::shm::ring::{Segment, SharedRing};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use whorl_core::ring::{Admission, Membership, Parts, disarm};
use whorl_core::seat::State;

/// A ring and its members, as the control thread sees them.
pub(crate) struct RingTransport {
    segment: Segment,
    ring: SharedRing,
    membership: Membership<SharedRing>,
    geometry: Geometry,
    kind: Kind,
    ledger: Arc<ItemOffsets>,
    hooks: Arc<Hooks>,
    sleepers: PollWaiters,
    evict_after: Option<Duration>,
    /// Who was how far behind, while the sender waited.
    stuck: Mutex<StallDetector<(u32, u32)>>,
    /// Where the next newcomer looks for a seat first.
    hint: AtomicU32,
}

impl RingTransport {
    pub fn new(
        segment: Segment,
        ring: SharedRing,
        membership: Membership<SharedRing>,
        kind: Kind,
        ledger: Arc<ItemOffsets>,
        evict_after: Option<Duration>,
    ) -> Arc<Self> {
        let (geometry, hooks) = (ring.geometry(), ring.host().hooks().clone());
        let (sleepers, stuck, hint) =
            (PollWaiters::default(), Mutex::new(StallDetector::new()), AtomicU32::new(0));
        let party = Arc::new(Self {
            segment,
            ring,
            membership,
            geometry,
            kind,
            ledger,
            hooks,
            sleepers,
            evict_after,
            stuck,
            hint,
        });
        // Weakly, for the ring holds the hook.
        let weak = Arc::downgrade(&party);
        party.hooks.on_wake(move || {
            if let Some(party) = weak.upgrade() {
                party.sleepers.tell(|seat| disarm(&party.ring, seat));
            }
        });
        party
    }

    /// Everybody looks again.
    pub fn ring_all(&self) {
        self.ring.control().notify_all(self.ring.host());
    }
}

impl Transport for RingTransport {
    fn kind(&self) -> Kind {
        self.kind
    }

    fn way(&self) -> TransportKind {
        TransportKind::Shm
    }

    fn memory(&self) -> u64 {
        self.geometry.data_length() + self.geometry.control_length()
    }

    fn hand_over(&self, _from: Start) -> Result<JoinGrant, Refusal> {
        let objects =
            self.segment.objects().map(|object| CloseOnForkFd::open(|| object.try_clone_to_owned()));
        let descriptors = objects.into_iter().collect::<Result<_, _>>().map_err(|_| Refusal::Unable)?;
        let hint = self.hint.fetch_add(1, Ordering::Relaxed) % self.geometry.seats();
        Ok(JoinGrant { saying: ControlMessage::Ring(hint), descriptors, place: None })
    }

    fn admit(&self, seat: u32) -> bool {
        match self.membership.admit(seat) {
            Admission::Admitted => true,
            Admission::Refused => false,
            // Decided already, when somebody else named this seat.
            Admission::Nothing => {
                self.membership.status_of(seat).is_some_and(|status| status.state == State::Active)
            }
        }
    }

    fn standing(&self, seat: u32) -> (PeerState, Lag) {
        let lag = |items: u32| {
            Lag::new(self.ledger.bytes_in_last(items), items.into(), self.geometry.slots().into())
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
        self.ledger.items.load(Ordering::Relaxed)
    }

    fn clear(&self, seat: u32) -> bool {
        self.membership.status_of(seat).is_none() || self.membership.reclaim(seat)
    }

    fn will_tell(&self, seat: u32, socket: &Arc<CloseOnForkFd>) {
        self.sleepers.add(seat, socket);
    }

    fn tells_no_more(&self, seat: u32, socket: &Arc<CloseOnForkFd>) {
        self.sleepers.remove(seat, socket);
    }

    fn look(&self, pulse: &SendStatus) -> Vec<u32> {
        self.membership.reclaim_dead();
        let Some(patience) = self.evict_after else { return Vec::new() };
        let mut stuck = self.stuck.lock().unwrap_or_else(PoisonError::into_inner);
        // While the sender waits the tail stands still, so who does not come nearer does not move.
        let held_up = self
            .membership
            .status()
            .filter(|seat| pulse.flow.is_waiting() && seat.state == State::Active && seat.behind > 0);
        stuck.overdue(patience, held_up.map(|seat| (seat.seat, (seat.pid, seat.behind))))
    }

    fn evict(&self, seat: u32) {
        self.membership.evict(seat);
    }

    fn interrupt(&self) {
        self.hooks.stop();
        self.ring_all();
    }
}

/// How many bytes lie before each item that is still in the ring: what "so many items behind" means in bytes. Written by
/// the data thread, read by the control thread; for display, so it orders nothing.
pub(crate) struct ItemOffsets {
    starts: Box<[AtomicU64]>,
    items: AtomicU32,
    total: AtomicU64,
}

impl ItemOffsets {
    pub fn new(slots: u32) -> Self {
        let starts = (0..slots).map(|_| AtomicU64::new(0)).collect();
        Self { starts, items: AtomicU32::new(0), total: AtomicU64::new(0) }
    }

    /// An item of so many bytes is published.
    pub fn add(&self, bytes: u64) {
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
    fn a_ledger_knows_what_the_last_items_weigh() {
        let ledger = ItemOffsets::new(4);
        for bytes in [1, 10, 100, 1000, 10_000] {
            ledger.add(bytes);
        }
        let all: Vec<_> = (0..5).map(|items| ledger.bytes_in_last(items)).collect();
        assert_eq!(all, [0, 10_000, 11_000, 11_100, 11_110]);
    }
}
