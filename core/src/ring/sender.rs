//! The sender's half: claim, publish, wait for the slowest receiver, close.

use super::slots::prefetch_ahead;
use super::{ABANDONED, CLOSED, Purpose, SenderParts, Slots, used_entries};
use crate::error::{ClaimError, End};
use crate::host::{Futex, WaitResult};
use crate::seat::State;
use crate::sequence::Sequence;
use crate::sync::{Ordering, fence};

type Deadline<P> = <<P as super::Parts>::Host as Futex>::Deadline;

/// The one sender of a ring. Dropping it without [`close`](Sender::close) tells receivers that the stream is not whole.
#[derive(Debug)]
pub struct Sender<P: SenderParts> {
    parts: P,
    /// The private copy of `tail`. The sender never reads it back from shared memory.
    tail: Sequence,
    /// Every slot before this sequence may be claimed: the last look at the gate allowed it.
    limit: Sequence,
    first: Sequence,
    capacity: u32,
    lapped: bool,
    closed: bool,
}

/// The result of a look at the seats.
struct Gate {
    /// How far the slowest receiver is behind the tail, or 0 if no receiver takes part.
    lag: u32,
    /// A receiver's start is not decided yet, so the sender extends no limit.
    admitting: bool,
}

impl<P: SenderParts> Sender<P> {
    /// Makes the sender of a fresh ring, with nothing published and no seat `Active` yet.
    ///
    /// # Safety
    /// - This is the only sender that is ever made for these parts' memory.
    pub unsafe fn new(parts: P) -> Self {
        let first = parts.sender_state().first();
        let capacity = parts.slots().count();
        Self {
            first,
            capacity,
            tail: first,
            limit: first.wrapping_add(capacity),
            lapped: false,
            closed: false,
            parts,
        }
    }

    /// Returns the parts of the ring.
    pub fn parts(&self) -> &P {
        &self.parts
    }

    /// Returns how many items were published, modulo 2^32.
    pub fn published(&self) -> u32 {
        self.tail.distance_from(self.first)
    }

    /// Returns whether no slot is free now.
    pub fn is_full(&mut self) -> bool {
        self.free() == 0
    }

    /// Claims between 1 and `most` slots, if any is free now.
    ///
    /// # Errors
    /// [`ClaimError::Full`] if none is.
    pub fn try_claim(&mut self, most: u32) -> Result<Claim<'_, P>, ClaimError> {
        match self.free() {
            0 => Err(ClaimError::Full),
            free => Ok(self.hand_out(free, most)),
        }
    }

    /// Claims between 1 and `most` slots, to be written in place and then published.
    ///
    /// # Blocking
    /// Waits for the slowest receiver that takes part, until half of the ring is free or `deadline` passes. A receiver
    /// that dies holds the sender until a caller reclaims it ([`Membership::reclaim_dead`](super::Membership::reclaim_dead)).
    /// With no receivers it never waits.
    ///
    /// # Errors
    /// [`ClaimError::TimedOut`] or [`ClaimError::Interrupted`]; nothing is claimed then.
    pub fn claim(&mut self, most: u32, deadline: Option<Deadline<P>>) -> Result<Claim<'_, P>, ClaimError> {
        let free = self.wait_for_space(deadline)?;
        Ok(self.hand_out(free, most))
    }

    fn hand_out(&mut self, free: u32, most: u32) -> Claim<'_, P> {
        self.parts.slots().prefetch(self.tail.index(self.capacity), Purpose::Write);
        Claim { count: most.clamp(1, free), sender: self }
    }

    /// Stores the end record. A receiver that has read everything then learns that the stream has ended. Only the first
    /// call counts.
    pub fn close(&mut self, end: End) {
        if !self.closed {
            self.parts.sender_state_to_write().store_end(end);
            self.finish(CLOSED);
        }
    }

    /// Returns whether every receiver that takes part has given back everything published.
    pub fn is_drained(&self) -> bool {
        let gate = self.gate();
        gate.lag == 0 && !gate.admitting
    }

    /// Waits until every receiver that takes part has given back everything published, or has left.
    ///
    /// # Blocking
    /// As [`claim`](Self::claim).
    ///
    /// # Errors
    /// As [`claim`](Self::claim).
    pub fn drain(&mut self, deadline: Option<Deadline<P>>) -> Result<(), ClaimError> {
        // A ring that was drained once counts as drained. Otherwise a hostile peer that moves its cursor back could
        // hold the sender for ever.
        let mut was_drained = false;
        while !self.is_drained() && !was_drained {
            was_drained = self.park(self.tail, deadline, |sender| sender.is_drained())?;
        }
        Ok(())
    }

    fn finish(&mut self, state: u32) {
        self.closed = true;
        // Release: the sender's half of *close*, after the end record and the last publish.
        self.parts.sender_state_to_write().state.store(state, Ordering::Release);
        self.parts.control().data.notify(self.parts.host());
    }

    /// Returns how many slots may be claimed. Looks at the gate only if the last look is used up.
    fn free(&mut self) -> u32 {
        match self.limit.distance_from(self.tail) {
            0 => self.look(),
            free => free,
        }
    }

    /// Looks at the gate and extends the limit as far as it allows.
    ///
    /// It needs no fence: the fence in `publish` stands between the last store of `tail` and this look (*admit*).
    fn look(&mut self) -> u32 {
        let mut limit = self.allowed();
        if !self.lapped && limit.distance_from(self.first) > self.capacity {
            // From now on the sender can overwrite the first item, so it says that before it looks for a receiver that
            // is being admitted there. Relaxed: the fence orders it.
            self.parts.sender_state_to_write().lapped.store(1, Ordering::Relaxed);
            fence(Ordering::SeqCst); // *admit*: store `lapped`, then look at the seats
            self.lapped = true;
            limit = self.allowed();
        }
        if self.parts.slots().may_evict() {
            // An evicted receiver may still be copying a slot that the sender writes next. It fences between its copy
            // and its look at the seat (`Batch::validate`). The sender fences between its look at the seat and its
            // writing.
            fence(Ordering::Release);
        }
        self.limit = limit;
        self.limit.distance_from(self.tail)
    }

    fn allowed(&self) -> Sequence {
        let gate = self.gate();
        if gate.admitting { self.limit } else { self.tail.wrapping_add(self.capacity - gate.lag) }
    }

    fn gate(&self) -> Gate {
        let mut gate = Gate { lag: 0, admitting: false };
        for entry in used_entries(&self.parts) {
            match entry.seat.occupancy().state {
                // No honest peer stores a cursor that is more than a lap behind the tail. Such a cursor gates as if it had not
                // moved at all.
                State::Active => {
                    gate.lag = gate.lag.max(self.tail.distance_from(entry.cursor()).min(self.capacity))
                }
                State::Admitting => gate.admitting = true,
                _ => {}
            }
        }
        gate
    }

    /// Waits until at least one slot is free, and returns how many are. The next [`try_claim`](Self::try_claim) then
    /// succeeds without another look at the receivers. A caller that must not hold a [`Claim`] while it waits calls this
    /// first.
    ///
    /// # Blocking
    /// As [`claim`](Self::claim).
    ///
    /// # Errors
    /// [`ClaimError::TimedOut`] or [`ClaimError::Interrupted`].
    pub fn wait_for_space(&mut self, deadline: Option<Deadline<P>>) -> Result<u32, ClaimError> {
        loop {
            let mut attempt = 0;
            loop {
                match self.free() {
                    0 if self.parts.host().spin(attempt, deadline) => attempt += 1,
                    0 => break,
                    free => return Ok(free),
                }
            }
            // Sleep until half of the ring is free.
            let wanted = self.tail.wrapping_sub(self.capacity / 2);
            self.park(wanted, deadline, |sender| sender.free() > 0)?;
        }
    }

    /// Sleeps once, until every receiver has reached `wanted`. Returns true without sleeping if `enough` already holds.
    fn park(
        &mut self,
        wanted: Sequence,
        deadline: Option<Deadline<P>>,
        mut enough: impl FnMut(&mut Self) -> bool,
    ) -> Result<bool, ClaimError> {
        // Relaxed: ordered by the fence in `prepare_wait`.
        self.parts.control().wanted.0.store(wanted.to_word(), Ordering::Relaxed);
        let ticket = self.parts.control().space.prepare_wait();
        if enough(self) {
            self.parts.control().space.cancel_wait();
            return Ok(true);
        }
        match self.parts.control().space.wait(self.parts.host(), ticket, deadline) {
            WaitResult::Woken | WaitResult::PollInterval => Ok(false),
            WaitResult::TimedOut => {
                if enough(self) {
                    Ok(true)
                } else {
                    Err(ClaimError::TimedOut)
                }
            }
            WaitResult::Interrupted => Err(ClaimError::Interrupted),
        }
    }
}

impl<P: SenderParts> Drop for Sender<P> {
    fn drop(&mut self) {
        if !self.closed {
            self.finish(ABANDONED);
        }
    }
}

/// Slots to write in place. Dropping it publishes nothing: the slots will be claimed again.
#[derive(Debug)]
pub struct Claim<'s, P: SenderParts> {
    sender: &'s mut Sender<P>,
    count: u32,
}

impl<P: SenderParts> Claim<'_, P> {
    /// How many slots: at least 1.
    #[expect(clippy::len_without_is_empty, reason = "never empty")]
    pub fn len(&self) -> u32 {
        self.count
    }

    /// Returns the `i`-th of the claimed slots.
    ///
    /// # Panics
    /// If `i` is not below [`len`](Self::len).
    pub fn slot(&mut self, i: u32) -> <P::Slots as Slots>::Writer<'_> {
        assert!(i < self.count, "slot {i} of a claim of {}", self.count);
        let sender = &*self.sender;
        let slots = sender.parts.slots();
        prefetch_ahead(slots, sender.tail, i, self.count, Purpose::Write);
        let index = sender.tail.wrapping_add(i).index(sender.capacity);
        // SAFETY: `index` masks to the capacity; the slot lies before the limit, so every receiver that takes part has
        // given it back (*release*), there is one sender (`Sender::new`), and this claim is borrowed mutably.
        unsafe { slots.writer(index) }
    }

    /// Publishes the first `count` of the claimed slots: receivers see them at once. The others become unclaimed again.
    ///
    /// # Panics
    /// If `count` exceeds [`len`](Self::len).
    pub fn publish(self, count: u32) {
        assert!(count <= self.count, "publishing {count} of a claim of {}", self.count);
        if count == 0 {
            return;
        }
        let sender = self.sender;
        sender.tail = sender.tail.wrapping_add(count);
        // Release: the sender's half of *publish*.
        sender.parts.sender_state_to_write().tail.store(sender.tail.to_word(), Ordering::Release);
        // Its fence serves *park*, and *admit* for the next look at the seats.
        sender.parts.control().data.notify(sender.parts.host());
    }
}
