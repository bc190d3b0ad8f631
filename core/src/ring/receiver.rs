//! The receiver's half: request a seat, read, release, leave.

use super::cells::prefetch_ahead;
use super::frame::{Content, Header, MAX_PADDING};
use super::{ABANDONED, CLOSED, Cells, Parts, Purpose, ReceiverEntry, SenderStateView, used_entries};
use crate::error::{JoinError, ReadError};
use crate::host::{Futex, Host, WaitResult};
use crate::seat::{Generation, State};
use crate::sequence::Sequence;
use crate::sync::{Ordering, fence};

type Deadline<P> = <<P as Parts>::Host as Futex>::Deadline;
type FrameReader<'b, P> = <<P as Parts>::Cells as Cells>::Reader<'b>;

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
    released: Sequence,
    /// The next frame to read: `released`, or the end of the padding there.
    next: Sequence,
    /// Every frame before this position is known to be published.
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
    /// Occupies seat `index` and asks for the stream, from its first message (`from_first`) or from the next published
    /// one. On a host where participants can die, the caller already holds that seat's byte lock.
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
                Ok(Receiver { released: next, next, seen: next, place: self.place })
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

    /// Returns the published frames from the cursor on, if there are any.
    ///
    /// # Errors
    /// [`ReadError::Empty`] if there are none now, or why there will never be more.
    pub fn try_read(&mut self) -> Result<Batch<'_, P>, ReadError> {
        match self.is_ready()? {
            false => Err(ReadError::Empty),
            true => Ok(Batch { at: self.next, last: self.next, receiver: self }),
        }
    }

    /// Returns the published frames from the cursor on: at least one.
    ///
    /// # Blocking
    /// Waits for the sender to publish or close, until `deadline`. If the sender dies, this call first returns
    /// everything that it published. Then it returns [`ReadError::SenderDied`], at most a poll interval after the
    /// death.
    ///
    /// # Errors
    /// Why there is nothing to read.
    pub fn read(&mut self, deadline: Option<Deadline<P>>) -> Result<Batch<'_, P>, ReadError> {
        self.wait_for_frame(deadline)?;
        Ok(Batch { at: self.next, last: self.next, receiver: self })
    }

    /// Announces that this receiver is about to sleep elsewhere than in [`read`](Self::read). The sender's host then
    /// notifies it once of the next message. Returns true if it is armed and has nothing to read, or false if it must look
    /// again now.
    ///
    /// # Errors
    /// Why there will never be more to read.
    pub fn arm(&mut self) -> Result<bool, ReadError> {
        // Relaxed: stored before the fence in `prepare_wait`.
        self.place.entry().armed.store(1, Ordering::Relaxed);
        let _announced = self.place.parts.control().data.prepare_wait();
        if self.is_ready()? {
            return Ok(false);
        }
        // A notifier may have run between the two stores, and cleared the announcement but missed `armed`.
        Ok(self.place.parts.control().data.has_waiters())
    }

    fn wait_for_frame(&mut self, deadline: Option<Deadline<P>>) -> Result<(), ReadError> {
        loop {
            let mut attempt = 0;
            loop {
                match self.is_ready()? {
                    true => return Ok(()),
                    false if self.place.parts.host().spin(attempt, deadline) => attempt += 1,
                    false => break,
                }
            }
            let ticket = self.place.parts.control().data.prepare_wait();
            if self.is_ready()? {
                return Ok(());
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
            // What was published before the death, or just before the deadline, still counts.
            return if self.is_ready()? { Ok(()) } else { Err(verdict) };
        }
    }

    /// Returns whether a message or a hole is published at `next`. Passes over padding: a sender that publishes nothing
    /// else counts as one that publishes nothing, so the caller's deadline holds.
    fn is_ready(&mut self) -> Result<bool, ReadError> {
        let parts = &self.place.parts;
        if parts.cells().may_evict() {
            self.still_active()?;
        }
        if self.seen != self.next {
            return self.pass_padding();
        }
        let head = parts.sender_state();
        self.seen = match self.published(head)? {
            seen if seen != self.next => seen,
            _ => match head.state() {
                CLOSED => match self.published(head)? {
                    // The tail was looked at again, after `state`: nothing can follow.
                    seen if seen == self.next => return Err(ReadError::Ended(head.end())),
                    seen => seen,
                },
                ABANDONED if self.published(head)? == self.next => return Err(ReadError::SenderDied),
                ABANDONED => self.published(head)?,
                _ => return Ok(false),
            },
        };
        self.pass_padding()
    }

    fn pass_padding(&mut self) -> Result<bool, ReadError> {
        let (next, header) = self.frame_from(self.next)?;
        self.next = next;
        Ok(header.is_some())
    }

    /// Passes over the padding at a position. Returns where it ends, and the header of the frame there, if one is published.
    #[inline]
    fn frame_from(&self, mut at: Sequence) -> Result<(Sequence, Option<Header>), ReadError> {
        for _ in 0..=MAX_PADDING {
            if at == self.seen {
                return Ok((at, None));
            }
            let header = self.header_at(at)?;
            if header.content != Content::Padding {
                return Ok((at, Some(header)));
            }
            at = at.wrapping_add(header.cells);
        }
        Err(self.corrupt())
    }

    /// Returns the header of the frame at a position before `seen`, checked.
    #[inline]
    fn header_at(&self, at: Sequence) -> Result<Header, ReadError> {
        let cells = self.place.parts.cells();
        let index = at.index(cells.count());
        let room = self.seen.distance_from(at).min(cells.count() - index);
        // SAFETY: the index masks to the count; the cell is published (*publish*), and the sender keeps it until its
        // release.
        let words = unsafe { cells.load_words(index) };
        Header::check(words, room).map_err(|_| self.corrupt())
    }

    /// Returns the tail, checked: an honest sender is never more than a lap ahead of this receiver.
    fn published(&self, head: SenderStateView<'_>) -> Result<Sequence, ReadError> {
        let tail = head.tail();
        let ahead = tail.distance_from(self.released);
        if ahead > self.place.parts.cells().count() || ahead < self.next.distance_from(self.released) {
            return Err(self.corrupt());
        }
        Ok(tail)
    }

    /// Returns why the words that this receiver read make no sense: its sender is honest if it has evicted this receiver
    /// and overtaken it.
    fn corrupt(&self) -> ReadError {
        fence(Ordering::Acquire); // as in `Batch::validate`
        match self.still_active() {
            Ok(()) => ReadError::Corrupt,
            Err(why) => why,
        }
    }

    fn still_active(&self) -> Result<(), ReadError> {
        match self.place.state() {
            Some(State::Active) => Ok(()),
            _ => Err(ReadError::Evicted),
        }
    }

    /// Gives back every cell before `end`.
    fn release(&mut self, end: Sequence) {
        let before = self.released;
        (self.released, self.next) = (end, end);
        let (parts, entry) = (&self.place.parts, self.place.entry());
        // Release: the receiver's half of *release*: this receiver's reads come before the sender's next writes.
        entry.cursor.store(end.to_word(), Ordering::Release);
        fence(Ordering::SeqCst); // *park*: move the cursor, then look whether the sender sleeps
        let control = parts.control();
        if !control.space.has_waiters() {
            return;
        }
        let wanted = Sequence::from_word(control.wanted.0.load(Ordering::Relaxed)); // Relaxed: the fence orders it
        let passed = before.is_before(wanted) && !end.is_before(wanted);
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

/// The published frames from a receiver's cursor on. Dropping it gives nothing back: the next read starts at the same
/// frame.
#[derive(Debug)]
pub struct Batch<'r, P: Parts> {
    receiver: &'r mut Receiver<P>,
    /// The end of the frames that [`next_frame`](Self::next_frame) returned.
    at: Sequence,
    /// The beginning of the last of them.
    last: Sequence,
}

impl<P: Parts> Batch<'_, P> {
    /// Returns the next frame, in place, or `None` after the last. The first call returns a frame. On a ring that
    /// evicts, use only what [`validate`](Self::validate) confirmed.
    ///
    /// # Errors
    /// [`ReadError::Corrupt`], or [`ReadError::Evicted`] if this receiver was evicted meanwhile.
    #[inline]
    pub fn next_frame(&mut self) -> Result<Option<Frame<FrameReader<'_, P>>>, ReadError> {
        let (at, header) = self.receiver.frame_from(self.at)?;
        self.at = at;
        let Some(header) = header else { return Ok(None) };
        let cells = self.receiver.place.parts.cells();
        let index = self.at.index(cells.count());
        let (kind, length) = match header.content {
            Content::Message(length) => (Kind::Message, length),
            _ => {
                // SAFETY: a hole has a second cell, within the room that the header was checked against.
                let [low, high] = unsafe { cells.load_words(index + 1) };
                (Kind::Hole(u64::from(low) | u64::from(high) << 32), 0)
            }
        };
        prefetch_ahead(cells, self.at, header.cells, self.receiver.seen, Purpose::Read);
        self.last = self.at;
        self.at = self.at.wrapping_add(header.cells);
        // SAFETY: the frame lies within the cells (`Header::check`); it is published (*publish*), and the sender keeps it
        // until its release, for which this batch must not be borrowed.
        let payload = unsafe { cells.reader(index, length) };
        Ok(Some(Frame { kind, number: header.number, payload }))
    }

    /// Puts the last frame back: the next call of [`next_frame`](Self::next_frame) returns it again.
    pub fn put_back(&mut self) {
        self.at = self.last;
    }

    /// Returns whether everything copied out of this batch is what the sender sent. It is false only if this receiver
    /// was evicted meanwhile: the sender may then have overwritten cells during the copy.
    pub fn validate(&self) -> bool {
        // The copies come before the look at the seat; the sender's eviction comes before its overwriting.
        fence(Ordering::Acquire);
        self.receiver.still_active().is_ok()
    }

    /// Gives back the frames that [`next_frame`](Self::next_frame) returned: the sender may write there again.
    pub fn release(self) {
        if self.at != self.receiver.released {
            self.receiver.release(self.at);
        }
    }
}

/// What a frame holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// A message, in the payload.
    Message,
    /// This many zero bytes, not stored anywhere.
    Hole(u64),
}

/// A published frame, whose payload is read through an `R`.
#[derive(Debug)]
pub struct Frame<R> {
    kind: Kind,
    number: u32,
    payload: R,
}

impl<R> Frame<R> {
    /// Returns what the frame holds.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Returns the number of the message or hole since the start of the stream, modulo 2^32.
    pub fn number(&self) -> u32 {
        self.number
    }

    /// Returns the payload, which is empty for a hole.
    pub fn payload(&self) -> &R {
        &self.payload
    }
}
