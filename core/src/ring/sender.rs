//! The sender's half: claim, publish, wait for the slowest receiver, close.

use super::cells::prefetch_ahead;
use super::frame::{self, CELL, HOLE_LENGTH, MAX_MESSAGE, cells_of};
use super::{ABANDONED, CLOSED, Cells, Purpose, SenderParts, used_entries};
use crate::error::{ClaimError, End};
use crate::host::{Futex, WaitResult};
use crate::seat::State;
use crate::sequence::Sequence;
use crate::sync::{Ordering, fence};

type Deadline<P> = <<P as super::Parts>::Host as Futex>::Deadline;

/// How many bytes a claim asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ClaimSize {
    least: u32,
    most: u32,
    /// The alignment of the payload in cells, a power of two.
    align: u32,
}

impl ClaimSize {
    /// Asks for `length` bytes.
    pub const fn exactly(length: u32) -> Self {
        Self { least: length, most: length, align: 1 }
    }

    /// Asks for `most` bytes, or for fewer, but at least `least`, where the ring has that many before its end.
    ///
    /// # Panics
    /// If `least` exceeds `most`.
    pub const fn between(least: u32, most: u32) -> Self {
        assert!(least <= most, "the least length exceeds the most");
        Self { least, most, align: 1 }
    }

    /// Returns the least number of bytes that it asks for.
    pub const fn least(self) -> u32 {
        self.least
    }

    /// Asks for a payload that begins at a multiple of `bytes` from the beginning of the cells, which are aligned to a
    /// page in a mapping.
    ///
    /// # Panics
    /// If `bytes` is no power of two from 8 to 65536.
    pub const fn aligned(self, bytes: u32) -> Self {
        assert!(
            bytes.is_power_of_two() && bytes >= CELL as u32 && bytes <= 1 << 16,
            "an impossible alignment"
        );
        Self { align: bytes / CELL as u32, ..self }
    }
}

/// The one sender of a ring. Dropping it without [`close`](Sender::close) tells receivers that the stream is not whole.
#[derive(Debug)]
pub struct Sender<P: SenderParts> {
    parts: P,
    /// The private copy of `tail`. The sender never reads it back from shared memory.
    tail: Sequence,
    /// The end of the frames that are written. Those from `tail` to here are not published yet.
    head: Sequence,
    /// The number of the next message.
    number: u32,
    /// The number of the first message that is not published.
    published: u32,
    /// Every cell before this position may be claimed: the last look at the gate allowed it.
    limit: Sequence,
    first: Sequence,
    capacity: u32,
    lapped: bool,
    closed: bool,
}

/// The result of a look at the seats.
struct Gate {
    /// How many cells the slowest receiver is behind, or 0 if no receiver takes part.
    lag: u32,
    /// A receiver's start is not decided yet, so the sender extends no limit.
    admitting: bool,
}

/// Where a claim lies: from its header on, contiguous.
#[derive(Clone, Copy)]
struct Place {
    start: Sequence,
    cells: u32,
}

/// The most cells of a frame in a ring of `capacity` cells. A frame and the padding before it then fit a ring that is
/// drained, wherever it starts.
pub(crate) const fn max_frame(capacity: u32) -> u32 {
    if capacity < 4 { 1 } else { capacity / 2 }
}

/// The longest message in a ring of `capacity` cells, in bytes.
pub const fn max_message(capacity: u32) -> u32 {
    let room = (max_frame(capacity) as u64 - 1) * CELL as u64;
    if room < MAX_MESSAGE as u64 { room as u32 } else { MAX_MESSAGE }
}

impl<P: SenderParts> Sender<P> {
    /// Makes the sender of a fresh ring, with nothing published and no seat `Active` yet.
    ///
    /// # Safety
    /// - This is the only sender that is ever made for these parts' memory.
    pub unsafe fn new(parts: P) -> Self {
        let first = parts.sender_state().first();
        let capacity = parts.cells().count();
        Self {
            first,
            capacity,
            tail: first,
            head: first,
            number: 0,
            published: 0,
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

    /// Returns how many messages and holes were published, modulo 2^32.
    pub fn published(&self) -> u32 {
        self.published
    }

    /// Returns the longest message in bytes. A message with an alignment may be shorter by that alignment.
    pub fn max_message(&self) -> u32 {
        max_message(self.capacity)
    }

    /// Returns how many bytes of the ring are free as far as this sender knows, headers and padding included. It does not
    /// look at the receivers: there may be more.
    pub fn free(&self) -> u64 {
        u64::from(self.limit.distance_from(self.head)) * CELL as u64
    }

    /// Returns whether a claim of this size would have to wait now.
    ///
    /// # Errors
    /// [`ClaimError::TooLong`].
    pub fn is_full(&mut self, size: ClaimSize) -> Result<bool, ClaimError> {
        Ok(self.room(size)?.is_none())
    }

    /// Claims room for a message if there is room now. Publishes the frames that are [staged](Claim::stage) if there is
    /// none before.
    ///
    /// # Errors
    /// [`ClaimError::Full`] if there is none, [`ClaimError::TooLong`] if there never will be.
    #[inline]
    pub fn try_claim(&mut self, size: ClaimSize) -> Result<Claim<'_, P>, ClaimError> {
        let place = self.room(size)?.ok_or(ClaimError::Full)?;
        Ok(self.lend(place, size))
    }

    /// Claims room for a message, to be written in place and then published.
    ///
    /// # Blocking
    /// Publishes the frames that are [staged](Claim::stage) if there is no room, and waits for the slowest receiver that
    /// takes part, until half of the ring is free or `deadline` passes. A receiver that dies holds the sender until a caller reclaims it
    /// ([`Membership::reclaim_dead`](super::Membership::reclaim_dead)). With no receivers it never waits.
    ///
    /// # Errors
    /// [`ClaimError::TooLong`], [`ClaimError::TimedOut`] or [`ClaimError::Interrupted`]; nothing is claimed then.
    #[inline]
    pub fn claim(
        &mut self,
        size: ClaimSize,
        deadline: Option<Deadline<P>>,
    ) -> Result<Claim<'_, P>, ClaimError> {
        let place = self.wait_for_place(size, deadline)?;
        Ok(self.lend(place, size))
    }

    /// Waits until there is room for a message. The next [`try_claim`](Self::try_claim) of this size then succeeds
    /// without another look at the receivers. A caller that must not hold a [`Claim`] while it waits calls this first.
    ///
    /// # Blocking
    /// As [`claim`](Self::claim).
    ///
    /// # Errors
    /// As [`claim`](Self::claim).
    pub fn wait_for_space(
        &mut self,
        size: ClaimSize,
        deadline: Option<Deadline<P>>,
    ) -> Result<(), ClaimError> {
        self.wait_for_place(size, deadline).map(|_| ())
    }

    #[inline]
    fn lend(&mut self, place: Place, size: ClaimSize) -> Claim<'_, P> {
        let cells = self.parts.cells();
        cells.prefetch(place.start.index(self.capacity), Purpose::Write);
        prefetch_ahead(cells, place.start, place.cells, self.limit, Purpose::Write);
        // Cannot overflow: the cells of `most` were enough for `most` bytes.
        let length =
            size.most.min((u64::from(place.cells - 1) * CELL as u64).min(u64::from(MAX_MESSAGE)) as u32);
        Claim { start: place.start, length, sender: self }
    }

    /// Publishes the frames that are staged: receivers see them at once.
    pub fn publish(&mut self) {
        if self.head == self.tail {
            return;
        }
        self.tail = self.head;
        self.published = self.number;
        // Release: the sender's half of *publish*.
        self.parts.sender_state_to_write().tail.store(self.tail.to_word(), Ordering::Release);
        // Its fence serves *park*, and *admit* for the next look at the seats.
        self.parts.control().data.notify(self.parts.host());
    }

    /// Stores the end record. A receiver that has read everything then learns that the stream has ended. Publishes what
    /// is staged first. Only the first call counts.
    pub fn close(&mut self, end: End) {
        if !self.closed {
            self.publish();
            self.parts.sender_state_to_write().store_end(end);
            self.finish(CLOSED);
        }
    }

    /// Returns whether every receiver that takes part has given back everything published.
    pub fn is_drained(&self) -> bool {
        let gate = self.gate();
        gate.lag == 0 && !gate.admitting
    }

    /// Publishes what is staged, and waits until every receiver that takes part has given back everything, or has left.
    ///
    /// # Blocking
    /// As [`claim`](Self::claim).
    ///
    /// # Errors
    /// [`ClaimError::TimedOut`] or [`ClaimError::Interrupted`].
    pub fn drain(&mut self, deadline: Option<Deadline<P>>) -> Result<(), ClaimError> {
        self.publish();
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

    /// Returns where a claim of this size would lie, if there is room. Looks at the gate only if the last look is used up.
    #[inline]
    fn room(&mut self, size: ClaimSize) -> Result<Option<Place>, ClaimError> {
        if cells_of(size.least).saturating_add(size.align - 1) > max_frame(self.capacity)
            || size.most > MAX_MESSAGE
        {
            return Err(ClaimError::TooLong);
        }
        if let Some(place) = self.fitting(size) {
            return Ok(Some(place));
        }
        Ok(self.look_for_room(size))
    }

    #[cold]
    fn look_for_room(&mut self, size: ClaimSize) -> Option<Place> {
        self.look();
        let place = self.fitting(size);
        if place.is_some() || self.head == self.tail {
            return place;
        }
        // No receiver gives back what it has not seen.
        self.publish();
        self.look();
        self.fitting(size)
    }

    /// Returns where a claim lies before the limit.
    #[inline]
    fn fitting(&self, size: ClaimSize) -> Option<Place> {
        let (start, gap) = self.start_of(size);
        let free = self.limit.distance_from(self.head).checked_sub(gap)?;
        let contiguous = free.min(self.capacity - start.index(self.capacity));
        let most = cells_of(size.most).min(max_frame(self.capacity));
        (contiguous >= cells_of(size.least)).then(|| Place { start, cells: contiguous.min(most) })
    }

    /// Returns the next position for a frame of this size that is contiguous and aligned, and the cells before it.
    #[inline]
    fn start_of(&self, size: ClaimSize) -> (Sequence, u32) {
        // The alignment is a power of two.
        let aligned = |index: u32| ((index + size.align) & !(size.align - 1)) - 1;
        let index = self.head.index(self.capacity);
        let here = aligned(index);
        let gap = if here + cells_of(size.least) <= self.capacity {
            here - index
        } else {
            self.capacity - index + aligned(0)
        };
        (self.head.wrapping_add(gap), gap)
    }

    /// Looks at the gate and extends the limit as far as it allows.
    ///
    /// It needs no fence: the fence in `publish` stands between the last store of `tail` and this look (*admit*).
    fn look(&mut self) {
        let mut limit = self.allowed();
        if !self.lapped && limit.distance_from(self.first) > self.capacity {
            // From now on the sender can overwrite the first frame, so it says that before it looks for a receiver that
            // is being admitted there. Relaxed: the fence orders it.
            self.parts.sender_state_to_write().lapped.store(1, Ordering::Relaxed);
            fence(Ordering::SeqCst); // *admit*: store `lapped`, then look at the seats
            self.lapped = true;
            limit = self.allowed();
        }
        if self.parts.cells().may_evict() {
            // An evicted receiver may still be copying a frame that the sender overwrites next. It fences between its
            // copy and its look at the seat (`Batch::validate`). The sender fences between its look at the seat and its
            // writing.
            fence(Ordering::Release);
        }
        self.limit = limit;
    }

    fn allowed(&self) -> Sequence {
        let gate = self.gate();
        if gate.admitting { self.limit } else { self.tail.wrapping_add(self.capacity - gate.lag) }
    }

    /// Looks at the seats. Where no receiver takes part, the gate is `tail` and not `head`: a receiver that is admitted
    /// later may start at `tail`, before the frames that are staged.
    fn gate(&self) -> Gate {
        let mut gate = Gate { lag: 0, admitting: false };
        for entry in used_entries(&self.parts) {
            match entry.seat.occupancy().state {
                // No honest peer stores a cursor that is more than a lap behind. Such a cursor gates as if it had not
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

    fn wait_for_place(
        &mut self,
        size: ClaimSize,
        deadline: Option<Deadline<P>>,
    ) -> Result<Place, ClaimError> {
        loop {
            let mut attempt = 0;
            loop {
                match self.room(size)? {
                    Some(place) => return Ok(place),
                    None if self.parts.host().spin(attempt, deadline) => attempt += 1,
                    None => break,
                }
            }
            // Sleep until half of the ring is free, or more if the claim needs more.
            let (_, gap) = self.start_of(size);
            let lag = (self.capacity / 2).min(self.capacity - gap - cells_of(size.least));
            let wanted = self.tail.wrapping_sub(lag);
            self.park(wanted, deadline, |sender| matches!(sender.room(size), Ok(Some(_))))?;
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

    /// Writes the header of a claimed frame, and the padding before it.
    #[inline]
    fn write_header(&mut self, start: Sequence, words: [u32; 2], cells: u32) {
        if self.head != start {
            self.pad_to(start);
        }
        // SAFETY: the index masks to the count; the cell is claimed (`Claim`).
        unsafe { self.parts.cells().store_words(start.index(self.capacity), words) };
        self.head = start.wrapping_add(cells);
        self.number = self.number.wrapping_add(1);
    }

    /// Fills the cells from `head` to `start`: first those before the end of the ring.
    #[cold]
    fn pad_to(&mut self, start: Sequence) {
        while self.head != start {
            let index = self.head.index(self.capacity);
            let cells = start.distance_from(self.head).min(self.capacity - index);
            // SAFETY: below the count; the gap before a claim is claimed with it.
            unsafe { self.parts.cells().store_words(index, frame::padding(cells)) };
            self.head = self.head.wrapping_add(cells);
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

/// Room for a message, to write in place. Dropping it publishes nothing: the room will be claimed again.
#[derive(Debug)]
pub struct Claim<'s, P: SenderParts> {
    sender: &'s mut Sender<P>,
    start: Sequence,
    length: u32,
}

impl<P: SenderParts> Claim<'_, P> {
    /// Returns how many bytes were claimed.
    #[expect(clippy::len_without_is_empty, reason = "a length in bytes, not of a collection")]
    pub fn len(&self) -> u32 {
        self.length
    }

    /// Returns the payload.
    #[inline]
    pub fn writer(&mut self) -> <P::Cells as Cells>::Writer<'_> {
        let sender = &*self.sender;
        // SAFETY: the claim is contiguous and lies before the limit, so every receiver that takes part has given its
        // cells back (*release*), there is one sender (`Sender::new`), and this claim is borrowed mutably.
        unsafe { sender.parts.cells().writer(self.start.index(sender.capacity), self.length) }
    }

    /// Makes the first `length` bytes a message and publishes it, after what was staged before: receivers see it at once.
    /// The rest becomes unclaimed again.
    ///
    /// # Panics
    /// If `length` exceeds [`len`](Self::len).
    pub fn publish(self, length: u32) {
        self.write_message(length).publish();
    }

    /// As [`publish`](Self::publish), but receivers see the message only after the next [`Sender::publish`], or after a
    /// claim that finds no room. One publish for several messages is cheaper than one for each.
    ///
    /// # Panics
    /// If `length` exceeds [`len`](Self::len).
    #[inline]
    pub fn stage(self, length: u32) {
        self.write_message(length);
    }

    /// Publishes a hole, which stands for `zeros` zero bytes. The claim becomes unclaimed again.
    ///
    /// # Panics
    /// If fewer than 8 bytes were claimed.
    pub fn publish_hole(self, zeros: u64) {
        self.write_hole(zeros).publish();
    }

    /// As [`publish_hole`](Self::publish_hole), but receivers see the hole only after the next [`Sender::publish`].
    ///
    /// # Panics
    /// If fewer than 8 bytes were claimed.
    pub fn stage_hole(self, zeros: u64) {
        self.write_hole(zeros);
    }
}

impl<'s, P: SenderParts> Claim<'s, P> {
    #[inline]
    fn write_message(self, length: u32) -> &'s mut Sender<P> {
        assert!(length <= self.length, "{length} bytes of a claim of {}", self.length);
        let sender = self.sender;
        sender.write_header(self.start, frame::message(length, sender.number), cells_of(length));
        sender
    }

    fn write_hole(self, zeros: u64) -> &'s mut Sender<P> {
        assert!(self.length >= HOLE_LENGTH, "a hole in a claim of {} bytes", self.length);
        let sender = self.sender;
        let payload = self.start.wrapping_add(1).index(sender.capacity);
        // SAFETY: below the count; the claim has at least one cell after its header.
        unsafe { sender.parts.cells().store_words(payload, [zeros as u32, (zeros >> 32) as u32]) };
        sender.write_header(self.start, frame::hole(sender.number), cells_of(HOLE_LENGTH));
        sender
    }
}
