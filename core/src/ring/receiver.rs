//! The receiver's half: request a seat, read, release, leave.

use super::slots::prefetch_ahead;
use super::{ABANDONED, CLOSED, Parts, Purpose, ReceiverEntry, SenderStateView, Slots, used_entries};
use crate::error::{Corrupt, JoinError, ReadError};
use crate::host::{Futex, Host, WaitResult};
use crate::seat::{Generation, State};
use crate::sequence::Sequence;
use crate::sync::{Ordering, fence};

type Deadline<P> = <<P as Parts>::Host as Futex>::Deadline;

/// A receiver that asked for a seat and is not admitted yet. Dropping it gives the seat back.
#[derive(Debug)]
pub struct PendingReceiver<P: Parts> {
    place: Place<P>,
}

/// A receiver that takes part. Dropping it leaves the ring: the sender no longer waits for it.
#[derive(Debug)]
pub struct Receiver<P: Parts> {
    place: Place<P>,
    /// The private copy of this receiver's cursor. It never reads back what a peer may have written there.
    next: Sequence,
    /// Every item before this sequence is known to be published.
    seen: Sequence,
}

/// An occupied seat. Dropping it leaves the seat.
#[derive(Debug)]
struct Place<P: Parts> {
    parts: P,
    index: u32,
    generation: Generation,
}

impl<P: Parts> Place<P> {
    fn entry(&self) -> &ReceiverEntry {
        &self.parts.receivers()[self.index as usize]
    }

    /// Returns the state of the seat, or `None` if its occupant has been reclaimed.
    fn state(&self) -> Option<State> {
        let seen = self.entry().seat.occupancy();
        (seen.is_taken() && seen.generation == self.generation).then_some(seen.state)
    }
}

impl<P: Parts> Drop for Place<P> {
    fn drop(&mut self) {
        // If the occupant was reclaimed, this fails and changes no successor's seat.
        if self.entry().seat.leave(self.generation) {
            self.parts.control().space.notify(self.parts.host());
        }
    }
}

impl<P: Parts> PendingReceiver<P> {
    /// Occupies seat `index` and asks for the stream, from its first item (`from_first`) or from the next published
    /// item. On a host where participants can die, the caller already holds that seat's byte lock.
    ///
    /// # Errors
    /// [`JoinError::Taken`] if the seat is not free or does not exist.
    pub fn request_seat(parts: P, index: u32, from_first: bool, pid: u32) -> Result<Self, JoinError> {
        let entry = parts.receivers().get(index as usize).ok_or(JoinError::Taken)?;
        // Before the request, so that each participant that sees it scans far enough. Relaxed: *occupy* orders it.
        parts.control().seats_used.0.fetch_max(index + 1, Ordering::Relaxed);
        let state = if from_first { State::AskFirst } else { State::AskNow };
        let generation = entry.seat.occupy(state, pid).ok_or(JoinError::Taken)?;
        Ok(Self { place: Place { parts, index, generation } })
    }

    /// Occupies the first free seat, for hosts on which no participant dies.
    ///
    /// # Errors
    /// [`JoinError::Taken`] if no seat is free.
    pub fn request_any_seat(parts: P, from_first: bool, pid: u32) -> Result<Self, JoinError>
    where
        P: Clone,
    {
        (0..parts.receivers().len() as u32)
            .find_map(|index| Self::request_seat(parts.clone(), index, from_first, pid).ok())
            .ok_or(JoinError::Taken)
    }

    /// Returns the seat that this receiver asked for.
    pub fn seat(&self) -> u32 {
        self.place.index
    }

    /// Returns the receiver, if the sender has admitted it.
    ///
    /// # Errors
    /// [`JoinError::Asking`] with the pending receiver, to try again. Or the reason why there will be no admission.
    pub fn try_admitted(self) -> Result<Receiver<P>, (JoinError, Option<Self>)> {
        match self.decision() {
            Ok(true) => {
                // Relaxed would do: the Acquire look at `Active` saw the membership's store. No other participant
                // stores it now.
                let next = self.place.entry().cursor();
                Ok(Receiver { next, seen: next, place: self.place })
            }
            Ok(false) => Err((JoinError::Asking, Some(self))),
            Err(why) => Err((why, None)),
        }
    }

    /// Waits to be admitted.
    ///
    /// # Blocking
    /// Waits for the sender's side to look, until `deadline`. It ends early if the sender is dropped without closing,
    /// or dies. A sender that closed may still admit. Between threads only a deadline ends this wait once no thread
    /// admits any more.
    ///
    /// # Errors
    /// Why there will be no admission, or that the deadline passed.
    pub fn admitted(mut self, deadline: Option<Deadline<P>>) -> Result<Receiver<P>, JoinError> {
        loop {
            let ticket = self.place.parts.control().data.prepare_wait();
            self = match self.try_admitted() {
                Ok(receiver) => return Ok(receiver),
                Err((_, Some(pending))) => pending,
                Err((why, None)) => return Err(why),
            };
            let parts = &self.place.parts;
            match parts.control().data.wait(parts.host(), ticket, deadline) {
                WaitResult::Woken => {}
                WaitResult::PollInterval if parts.host().owner_is_dead() && self.decision() == Ok(false) => {
                    return Err(JoinError::SenderDied);
                }
                WaitResult::PollInterval => {}
                WaitResult::TimedOut => {
                    // A caller that always waits less than a poll interval must also learn of a death.
                    let dead = parts.host().owner_is_dead();
                    let verdict = if dead { JoinError::SenderDied } else { JoinError::TimedOut };
                    // A decision just before the deadline still counts. There is no look after this one, because a
                    // hostile peer that takes its decision back could hold this receiver for ever.
                    return self
                        .try_admitted()
                        .map_err(|(why, asking)| if asking.is_some() { verdict } else { why });
                }
                WaitResult::Interrupted => return Err(JoinError::Interrupted),
            }
        }
    }

    fn decision(&self) -> Result<bool, JoinError> {
        match self.place.state() {
            Some(State::Active) => Ok(true),
            Some(State::Refused) => Err(JoinError::Missed),
            Some(State::Evicted) | None => Err(JoinError::Reclaimed),
            // A sender that closed still admits while it drains. A sender that ended without closing does not.
            Some(_) if self.place.parts.sender_state().state() == ABANDONED => Err(JoinError::SenderDied),
            Some(_) => Ok(false),
        }
    }
}

impl<P: Parts> Receiver<P> {
    /// Returns the seat.
    pub fn seat(&self) -> u32 {
        self.place.index
    }

    /// Returns the parts of the ring.
    pub fn parts(&self) -> &P {
        &self.place.parts
    }

    /// Returns the published items from the cursor on, if there are any.
    ///
    /// # Errors
    /// [`ReadError::Empty`] if there are none now, or why there will never be more.
    pub fn try_read(&mut self) -> Result<Batch<'_, P>, ReadError> {
        match self.available()? {
            0 => Err(ReadError::Empty),
            count => Ok(Batch { count, receiver: self }),
        }
    }

    /// Returns the published items from the cursor on: at least one.
    ///
    /// # Blocking
    /// Waits for the sender to publish or close, until `deadline`. If the sender dies, this call first returns
    /// everything that it published. Then it returns [`ReadError::SenderDied`], at most a poll interval after the
    /// death.
    ///
    /// # Errors
    /// Why there is nothing to read.
    pub fn read(&mut self, deadline: Option<Deadline<P>>) -> Result<Batch<'_, P>, ReadError> {
        let count = self.wait_for_items(deadline)?;
        Ok(Batch { count, receiver: self })
    }

    /// Announces that this receiver is about to sleep elsewhere than in [`read`](Self::read). The sender's host then
    /// notifies it once of the next item. Returns true if it is armed and has nothing to read, or false if it must look
    /// again now.
    ///
    /// # Errors
    /// Why there will never be more to read.
    pub fn arm(&mut self) -> Result<bool, ReadError> {
        // Relaxed: stored before the fence in `prepare_wait`.
        self.place.entry().armed.store(1, Ordering::Relaxed);
        let _announced = self.place.parts.control().data.prepare_wait();
        if self.available()? > 0 {
            return Ok(false);
        }
        // A notifier may have run between the two stores, and cleared the announcement but missed `armed`.
        Ok(self.place.parts.control().data.has_waiters())
    }

    fn wait_for_items(&mut self, deadline: Option<Deadline<P>>) -> Result<u32, ReadError> {
        loop {
            let mut attempt = 0;
            loop {
                match self.available()? {
                    0 if self.place.parts.host().spin(attempt, deadline) => attempt += 1,
                    0 => break,
                    count => return Ok(count),
                }
            }
            let ticket = self.place.parts.control().data.prepare_wait();
            match self.available()? {
                0 => {}
                count => return Ok(count),
            }
            let parts = &self.place.parts;
            let verdict = match parts.control().data.wait(parts.host(), ticket, deadline) {
                WaitResult::Woken => continue,
                // Also when the deadline has passed: a caller that always waits less than a poll interval must learn of
                // a death, too.
                WaitResult::PollInterval | WaitResult::TimedOut if parts.host().owner_is_dead() => {
                    ReadError::SenderDied
                }
                WaitResult::PollInterval => continue,
                WaitResult::TimedOut => ReadError::TimedOut,
                WaitResult::Interrupted => return Err(ReadError::Interrupted),
            };
            // An item that was published before the death, or just before the deadline, still counts.
            return match self.available()? {
                0 => Err(verdict),
                count => Ok(count),
            };
        }
    }

    /// Returns how many items are published from the cursor on.
    fn available(&mut self) -> Result<u32, ReadError> {
        let parts = &self.place.parts;
        if parts.slots().may_evict() {
            self.still_active()?;
        }
        match self.seen.distance_from(self.next) {
            0 => {}
            count => return Ok(count),
        }
        parts.slots().prefetch(self.next.index(parts.slots().count()), Purpose::Read);
        let head = parts.sender_state();
        let seen = match self.published(head)? {
            seen if seen != self.next => seen,
            _ => match head.state() {
                CLOSED => match self.published(head)? {
                    // The tail was looked at again, after `state`: nothing can follow.
                    seen if seen == self.next => return Err(ReadError::Ended(head.end())),
                    seen => seen,
                },
                ABANDONED if self.published(head)? == self.next => return Err(ReadError::SenderDied),
                ABANDONED => self.published(head)?,
                _ => return Ok(0),
            },
        };
        self.seen = seen;
        Ok(seen.distance_from(self.next))
    }

    /// Returns the tail, checked: an honest sender is never more than a lap ahead of this receiver.
    fn published(&self, head: SenderStateView<'_>) -> Result<Sequence, ReadError> {
        let tail = head.tail();
        if tail.distance_from(self.next) > self.place.parts.slots().count() {
            // An evicted receiver is overtaken, and its peer is honest.
            self.still_active()?;
            return Err(ReadError::Corrupt);
        }
        Ok(tail)
    }

    fn still_active(&self) -> Result<(), ReadError> {
        match self.place.state() {
            Some(State::Active) => Ok(()),
            _ => Err(ReadError::Evicted),
        }
    }

    fn release(&mut self, count: u32) {
        let before = self.next;
        self.next = before.wrapping_add(count);
        let (parts, entry) = (&self.place.parts, self.place.entry());
        // Release: the receiver's half of *release*: this receiver's reads of the slots come before the sender's next writes.
        entry.cursor.store(self.next.to_word(), Ordering::Release);
        fence(Ordering::SeqCst); // *park*: move the cursor, then look whether the sender sleeps
        let control = parts.control();
        if !control.space.has_waiters() {
            return;
        }
        let wanted = Sequence::from_word(control.wanted.0.load(Ordering::Relaxed)); // Relaxed: the fence orders it
        let passed = before.is_before(wanted) && !self.next.is_before(wanted);
        if passed && self.all_have_reached(wanted) {
            control.space.notify_all(parts.host());
        }
    }

    fn all_have_reached(&self, wanted: Sequence) -> bool {
        used_entries(&self.place.parts)
            .iter()
            .all(|entry| entry.seat.occupancy().state != State::Active || !entry.cursor().is_before(wanted))
    }
}

/// A batch of published items. Dropping it gives nothing back: the next read starts at the same item.
#[derive(Debug)]
pub struct Batch<'r, P: Parts> {
    receiver: &'r mut Receiver<P>,
    count: u32,
}

impl<P: Parts> Batch<'_, P> {
    /// How many items: at least 1.
    #[expect(clippy::len_without_is_empty, reason = "never empty")]
    pub fn len(&self) -> u32 {
        self.count
    }

    /// Returns the `i`-th item, in place. On a ring that evicts, use only what [`validate`](Self::validate) confirmed.
    ///
    /// # Panics
    /// If `i` is not below [`len`](Self::len).
    pub fn item(&self, i: u32) -> <P::Slots as Slots>::Reader<'_> {
        assert!(i < self.count, "item {i} of a batch of {}", self.count);
        let slots = self.receiver.place.parts.slots();
        prefetch_ahead(slots, self.receiver.next, i, self.count, Purpose::Read);
        // SAFETY: the index masks to the count; the item is published (*publish*), and the sender keeps it until its release.
        unsafe { slots.reader(self.receiver.next.wrapping_add(i).index(slots.count())) }
    }

    /// Returns whether everything copied out of this batch is what the sender sent. It is false only if this receiver
    /// was evicted meanwhile: the sender may then have overwritten slots during the copy.
    pub fn validate(&self) -> bool {
        // The copies come before the look at the seat; the sender's eviction comes before its overwriting.
        fence(Ordering::Acquire);
        self.receiver.still_active().is_ok()
    }

    /// Gives back the first `count` items: the sender may write there again.
    ///
    /// # Panics
    /// If `count` exceeds [`len`](Self::len).
    pub fn release(self, count: u32) {
        assert!(count <= self.count, "releasing {count} of a batch of {}", self.count);
        if count > 0 {
            self.receiver.release(count);
        }
    }
}

impl From<Corrupt> for ReadError {
    fn from(_: Corrupt) -> Self {
        Self::Corrupt
    }
}
