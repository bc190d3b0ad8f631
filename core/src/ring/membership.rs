//! The participants of a ring: admission, eviction, reclamation and status. This is the sender's side, but not its data
//! path: a control thread may do all of it while the sender claims and publishes.

use super::{CELL, Cells, Parts, ReceiverEntry, used_entries};
use crate::host::Host;
use crate::seat::State;
use crate::sync::{Ordering, fence};

/// Admits and removes receivers. Only one membership at a time acts on a ring's seats, and the sender's process keeps
/// it. Two memberships that admit at the same time could give a receiver the start of its predecessor in the seat.
#[derive(Debug)]
pub struct Membership<P: Parts> {
    parts: P,
}

/// The result of admitting one seat.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Admission {
    /// The receiver takes part now.
    Admitted,
    /// The receiver asked for the beginning of the stream, which has been overwritten.
    Refused,
    /// The seat was not asking, or its receiver left meanwhile.
    Nothing,
}

/// The state of one seat at one moment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Status {
    /// The seat's number.
    pub seat: u32,
    /// Its state.
    pub state: State,
    /// The process id that its occupant gave.
    pub pid: u32,
    /// How many bytes of the ring it has not given back, headers and padding included; at most the capacity.
    pub behind: u64,
}

/// Returns whether a seat's receiver sleeps elsewhere and must be notified now. A host calls it after waking the other
/// receivers. Returns true once for each [`arm`](super::Receiver::arm). It changes no seat, so each notifier may call
/// it.
pub fn disarm<P: Parts>(parts: &P, seat: u32) -> bool {
    let Some(entry) = parts.receivers().get(seat as usize) else { return false };
    fence(Ordering::SeqCst); // *park*, sleeping elsewhere: clear `has_waiters` (by notifying), then take `armed`
    // A load first: the usual answer is no, and then the cache line stays shared.
    entry.armed.load(Ordering::Relaxed) != 0 && entry.armed.swap(0, Ordering::Relaxed) != 0
}

/// Returns whether a seat is free at this moment. Returns false for a seat that does not exist.
pub fn is_free<P: Parts>(parts: &P, seat: u32) -> bool {
    parts.receivers().get(seat as usize).is_some_and(|entry| !entry.seat.occupancy().is_taken())
}

impl<P: Parts> Membership<P> {
    /// Makes the membership of a ring.
    ///
    /// # Safety
    /// - Of all the memberships that are made for these parts' memory, only one at a time is used.
    pub unsafe fn new(parts: P) -> Self {
        Self { parts }
    }

    /// Admits each receiver that asks, and returns how many seats it decided.
    pub fn admit_all(&self) -> u32 {
        let receivers = used_entries(&self.parts);
        let decided = receivers.iter().filter(|entry| self.decide(entry) != Admission::Nothing).count();
        if decided > 0 {
            self.tell_applicants();
        }
        decided as u32
    }

    /// Admits only the receiver that asks for this seat, for a host that counts its receivers. Returns each result
    /// once. The receiver may have read everything and left when this returns.
    pub fn admit(&self, seat: u32) -> Admission {
        let Some(entry) = self.parts.receivers().get(seat as usize) else { return Admission::Nothing };
        let admission = self.decide(entry);
        if admission != Admission::Nothing {
            self.tell_applicants();
        }
        admission
    }

    fn tell_applicants(&self) {
        // Applicants sleep on `data`; the sender may have found an `Admitting` seat and sleep on `space`.
        self.parts.control().notify_all(self.parts.host());
    }

    /// Decides one asking seat.
    fn decide(&self, entry: &ReceiverEntry) -> Admission {
        let seen = entry.seat.occupancy();
        if !seen.is_asking() || !entry.seat.transition(seen.generation, seen.state, State::Admitting) {
            return Admission::Nothing;
        }
        fence(Ordering::SeqCst); // *admit*: mark the seat, then look at `lapped` and `tail`
        let head = self.parts.sender_state();
        let (start, decision) = match seen.state {
            State::AskFirst if head.is_lapped() => (None, State::Refused),
            State::AskFirst => (Some(head.first()), State::Active),
            _ => (Some(head.tail()), State::Active),
        };
        if let Some(start) = start {
            // Relaxed: the step to `Active` carries it (*occupy*). No other participant stores it: the occupant does only once
            // it is `Active`.
            entry.cursor.store(start.to_word(), Ordering::Relaxed);
        }
        match entry.seat.transition(seen.generation, State::Admitting, decision) {
            false => Admission::Nothing,
            true if decision == State::Active => Admission::Admitted,
            true => Admission::Refused,
        }
    }

    /// Reclaims every taken seat whose occupant the host knows to be dead. Returns how many. Repeating it is harmless,
    /// and completes what a dead reclaimer began.
    pub fn reclaim_dead(&self) -> u32 {
        (0..used_entries(&self.parts).len() as u32).map(|seat| u32::from(self.reclaim(seat))).sum()
    }

    /// Reclaims one seat if the host knows that its occupant is dead. Wakes the sender, which may have waited for that
    /// occupant.
    pub fn reclaim(&self, seat: u32) -> bool {
        let Some(entry) = self.parts.receivers().get(seat as usize) else { return false };
        let dead = entry.seat.occupancy().is_taken()
            && self.parts.host().try_reclaim(seat, || {
                entry.seat.reclaim();
            });
        if dead {
            self.parts.control().notify_all(self.parts.host());
        }
        dead
    }

    /// Evicts a slow receiver. The sender no longer waits for it, and the receiver learns of it at its next read. Only
    /// for rings whose cells [may evict](Cells::may_evict). Returns false if the seat was not active.
    pub fn evict(&self, seat: u32) -> bool {
        let Some(entry) =
            self.parts.receivers().get(seat as usize).filter(|_| self.parts.cells().may_evict())
        else {
            return false;
        };
        let seen = entry.seat.occupancy();
        let evicted = seen.state == State::Active
            && entry.seat.transition(seen.generation, State::Active, State::Evicted);
        if evicted {
            self.parts.control().notify_all(self.parts.host());
        }
        evicted
    }

    /// Returns the occupants, one after another: not a snapshot of one moment.
    pub fn status(&self) -> impl Iterator<Item = Status> {
        (0..used_entries(&self.parts).len() as u32).filter_map(|seat| self.status_of(seat))
    }

    /// Returns the state of one seat, or `None` if it is free or does not exist.
    pub fn status_of(&self, seat: u32) -> Option<Status> {
        let entry = self.parts.receivers().get(seat as usize)?;
        let seen = entry.seat.occupancy();
        let cells =
            self.parts.sender_state().tail().distance_from(entry.cursor()).min(self.parts.cells().count());
        let behind = u64::from(cells) * CELL as u64;
        seen.is_taken().then(|| Status { seat, state: seen.state, pid: entry.seat.pid(), behind })
    }
}
