//! Who takes the steps: participants, which sleep where the steps say so, and reclaimers.

use super::parts::{Ownership, Parts, SeatState, count, state};
use super::step::{Actor, Step};
use crate::error::LockError;
use crate::host::{Futex, Host, WaitResult};
use crate::sync::Ordering;

type Deadline<P> = <<P as Parts>::Host as Futex>::Deadline;

/// How often a reader may go back without sleeping, in one wait. Honest peers cause little of that; a peer that plays with
/// the words must not keep us from the host, which knows the deadline. Too few would cost a poll interval at most.
const RETURNS: u32 = 64;

/// How long a participant is willing to wait.
#[derive(Clone, Copy)]
enum Patience<D> {
    None,
    Until(Option<D>),
}

/// An occupant of a seat, which may read and write.
pub struct Participant<P: Parts> {
    parts: P,
    seat: u16,
}

impl<P: Parts> Participant<P> {
    /// The occupant of `seat`. Raises the mark that bounds every scan.
    ///
    /// # Safety
    /// - The seat is the caller's alone, for this lock, while the participant lives: no other participant has it, in this
    ///   process or another. On a host where participants can die, the caller holds the seat's byte lock.
    ///
    /// # Panics
    /// If there is no such seat.
    pub unsafe fn new(parts: P, seat: u32) -> Self {
        assert!((seat as usize) < parts.cells().len(), "no seat {seat}");
        parts.seats_used().raise(seat); // before the first announcement
        Self { parts, seat: seat as u16 }
    }

    /// The seat.
    pub fn seat(&self) -> u32 {
        self.seat.into()
    }

    /// The parts of the lock.
    pub fn parts(&self) -> &P {
        &self.parts
    }

    /// Reads, together with other readers.
    ///
    /// # Blocking
    /// Waits for at most one writer's section, until `deadline`. A dead participant is reclaimed, at the latest when a
    /// slice ends.
    ///
    /// # Errors
    /// [`LockError::TimedOut`] or [`LockError::Interrupted`].
    #[inline]
    pub fn read(&mut self, deadline: Option<Deadline<P>>) -> Result<ReadGuard<'_, P>, LockError> {
        self.enter_read(Patience::Until(deadline))
    }

    /// Reads, unless a writer is in or on its way in.
    ///
    /// # Errors
    /// [`LockError::Busy`].
    #[inline]
    pub fn try_read(&mut self) -> Result<ReadGuard<'_, P>, LockError> {
        self.enter_read(Patience::None)
    }

    /// Writes, alone.
    ///
    /// # Blocking
    /// Waits for those writers that come first in the cyclic order of seats, then for the readers that are in; until
    /// `deadline`. A dead participant is reclaimed, at the latest when a poll interval ends.
    ///
    /// # Errors
    /// [`LockError::TimedOut`] or [`LockError::Interrupted`].
    pub fn write(&mut self, deadline: Option<Deadline<P>>) -> Result<WriteGuard<'_, P>, LockError> {
        self.enter_write(Patience::Until(deadline))
    }

    /// Writes, unless anybody is in or before us.
    ///
    /// # Errors
    /// [`LockError::Busy`].
    pub fn try_write(&mut self) -> Result<WriteGuard<'_, P>, LockError> {
        self.enter_write(Patience::None)
    }

    #[inline]
    fn enter_read(&mut self, patience: Patience<Deadline<P>>) -> Result<ReadGuard<'_, P>, LockError> {
        let at = self.look_to_read();
        if !matches!(at, Step::Reading) {
            self.enter_busy_read(at, patience)?;
        }
        Ok(ReadGuard { participant: self })
    }

    /// The two steps of a reader that meets no writer, without a loop around them.
    #[inline(always)]
    fn look_to_read(&self) -> Step {
        // SAFETY: we are the seat's occupant (`new`), borrowed exclusively by our callers, and out.
        let at = unsafe { Step::AnnounceRead.take(&self.parts, self.actor()) };
        // SAFETY: the step after it.
        unsafe { at.take(&self.parts, self.actor()) }
    }

    /// A section may be over in a moment, and to be woken costs both sides more than that: so for a while the reader gives
    /// up and looks again, before it asks.
    #[cold]
    fn enter_busy_read(&self, mut at: Step, patience: Patience<Deadline<P>>) -> Result<(), LockError> {
        let mut attempt = 0;
        let Patience::Until(deadline) = patience else { return self.enter(at, patience) };
        if !self.spin(&mut attempt, deadline) {
            return self.enter(at, patience);
        }
        loop {
            // Before any moment passes: a writer on its way in takes each announced reader for one that is in, and lets
            // it be.
            // SAFETY: we are the seat's occupant (`new`), borrowed exclusively by our caller; the step instead of queueing.
            unsafe { finish(&self.parts, at.given_up(), self.actor()) };
            loop {
                if !self.spin(&mut attempt, deadline) {
                    return self.enter(Step::AnnounceRead, patience);
                }
                if !self.parts.owner_word().ownership().is_busy() {
                    break;
                }
            }
            at = self.look_to_read();
            if matches!(at, Step::Reading) {
                return Ok(());
            }
        }
    }

    #[inline]
    fn enter_write(&mut self, patience: Patience<Deadline<P>>) -> Result<WriteGuard<'_, P>, LockError> {
        let mut attempt = 0;
        loop {
            match self.look_to_write() {
                Step::Writing => break,
                // As a reader does, a writer looks again for a while before it asks to be woken.
                Step::AnnounceWrite => match patience {
                    Patience::None => return Err(LockError::Busy),
                    Patience::Until(deadline) if self.spin(&mut attempt, deadline) => {}
                    Patience::Until(_) => break self.enter(Step::AnnounceWrite, patience)?,
                },
                at => break self.enter(at, patience)?,
            }
        }
        Ok(WriteGuard { participant: self })
    }

    /// The steps of a writer that meets no other participant, without a loop around them. Where it meets another writer, no participant has
    /// noticed it.
    #[inline(always)]
    fn look_to_write(&self) -> Step {
        // SAFETY: we are the seat's occupant (`new`), borrowed exclusively by our caller, and out.
        let at = unsafe { Step::PeekWrite.take(&self.parts, self.actor()) };
        let at = at.skip(&self.parts, self.actor());
        if !matches!(at, Step::Claim(_)) {
            return at;
        }
        // SAFETY: from step to step.
        unsafe { at.take(&self.parts, self.actor()) }.skip(&self.parts, self.actor())
    }

    /// Goes on from a step until we are in; or out, with the reason.
    #[inline(never)]
    fn enter(&self, mut at: Step, patience: Patience<Deadline<P>>) -> Result<(), LockError> {
        let actor = self.actor();
        let (mut returns, mut attempt) = (0, 0);
        loop {
            if let (Step::DrainReaders(scan), Patience::Until(deadline)) = (at, patience) {
                // A reader that is gone in a moment need not be asked to wake us.
                self.spin_while(scan.seat(), state::READING, &mut attempt, deadline);
            }
            // SAFETY: we are the seat's occupant (`new`), borrowed exclusively, and go from step to step.
            at = unsafe { at.take(&self.parts, actor) }.skip(&self.parts, actor);
            if at.is_settled() {
                return Ok(());
            }
            if matches!(at, Step::ReturnRead | Step::AnnounceRead) {
                returns += 1;
                if returns > RETURNS {
                    at = Step::SleepRead;
                }
            }
            let Some((seat, expected)) = at.sleeps(actor) else { continue };
            let verdict = match patience {
                Patience::None => Err(LockError::Busy),
                Patience::Until(deadline) if self.spin_while(seat, expected, &mut attempt, deadline) => {
                    Ok(())
                }
                Patience::Until(deadline) => self.sleep(seat, expected, deadline),
            };
            match verdict {
                Ok(()) => (at, returns) = (at.woken(), 0),
                Err(why) => {
                    // SAFETY: as above.
                    unsafe { finish(&self.parts, at.given_up(), actor) };
                    return Err(why);
                }
            }
        }
    }

    /// Lets a moment pass; false when there were enough of them, or the deadline has passed.
    fn spin(&self, attempt: &mut u32, deadline: Option<Deadline<P>>) -> bool {
        *attempt += 1;
        self.parts.host().spin(*attempt - 1, deadline)
    }

    /// Looks at a cell while it holds `value`, for a while; whether it changed.
    fn spin_while(&self, seat: u16, value: u32, attempt: &mut u32, deadline: Option<Deadline<P>>) -> bool {
        // Relaxed: only decides when to look properly.
        let has_changed = || self.parts.cells()[usize::from(seat)].word.load(Ordering::Relaxed) != value;
        loop {
            if has_changed() {
                return true;
            }
            if !self.spin(attempt, deadline) {
                return false;
            }
        }
    }

    fn sleep(&self, seat: u16, expected: u32, deadline: Option<Deadline<P>>) -> Result<(), LockError> {
        let word = &self.parts.cells()[usize::from(seat)].word;
        let host = self.parts.host();
        let reclaim = || {
            reclaim_dead_but(&self.parts, Some(self.seat));
        };
        match host.wait(word, expected, deadline) {
            WaitResult::Woken => Ok(()),
            WaitResult::PollInterval => {
                host.try_sweep(reclaim);
                Ok(())
            }
            WaitResult::TimedOut => {
                // Too late for this wait. But if every waiter waits less than a poll interval, no other looks.
                host.try_sweep(reclaim);
                Err(LockError::TimedOut)
            }
            WaitResult::Interrupted => Err(LockError::Interrupted),
        }
    }

    fn actor(&self) -> Actor {
        Actor { seat: self.seat, reclaiming: false }
    }
}

/// A reader that is in. Dropping it leaves.
#[must_use]
pub struct ReadGuard<'a, P: Parts> {
    participant: &'a Participant<P>,
}

impl<P: Parts> ReadGuard<'_, P> {
    /// The parts of the lock.
    pub fn parts(&self) -> &P {
        &self.participant.parts
    }
}

impl<P: Parts> Drop for ReadGuard<'_, P> {
    #[inline]
    fn drop(&mut self) {
        let (parts, actor) = (&self.participant.parts, self.participant.actor());
        // SAFETY: the occupant is borrowed by us, and is in.
        let at = unsafe { Step::Reading.take(parts, actor) };
        if !matches!(at, Step::Idle) {
            // SAFETY: as above.
            unsafe { finish(parts, at, actor) };
        }
    }
}

/// A writer that is in. Dropping it leaves.
#[must_use]
pub struct WriteGuard<'a, P: Parts> {
    participant: &'a Participant<P>,
}

impl<P: Parts> WriteGuard<'_, P> {
    /// The parts of the lock.
    pub fn parts(&self) -> &P {
        &self.participant.parts
    }
}

impl<P: Parts> Drop for WriteGuard<'_, P> {
    #[inline]
    fn drop(&mut self) {
        let (parts, actor) = (&self.participant.parts, self.participant.actor());
        // The steps of a writer that no other waits for, without a loop around them.
        // SAFETY: the occupant is borrowed by us, and is in; from here on from step to step.
        let mut at = unsafe { Step::Writing.take(parts, actor) }.skip(parts, actor);
        if matches!(at, Step::Free) {
            // SAFETY: as above.
            at = unsafe { at.take(parts, actor) }.skip(parts, actor);
        }
        if !matches!(at, Step::Idle) {
            // SAFETY: as above.
            unsafe { finish(parts, at, actor) };
        }
    }
}

/// Takes steps that never sleep, to the end: leaving, giving up, reclaiming. Each of its rounds counts its seats.
///
/// # Safety
/// - As [`Step::take`].
#[inline(never)]
unsafe fn finish<P: Parts>(parts: &P, mut at: Step, actor: Actor) {
    while !matches!(at, Step::Idle) {
        // SAFETY: by the caller's contract; from step to step.
        at = unsafe { at.take(parts, actor) }.skip(parts, actor);
    }
}

/// Clears away, in one lock, what the dead occupant of `seat` left, and wakes each waiter that may have waited for it. For every
/// lock of a segment, before the seat is given out again. It may be repeated, and several callers may do it at the same
/// time. Does nothing for a seat that does not exist.
///
/// # Safety
/// - The occupant of `seat`, if there was one, will never act again;
/// - no participant occupies the seat before this returns ([`Host::try_reclaim`]).
pub unsafe fn reclaim<P: Parts>(parts: &P, seat: u32) {
    if (seat as usize) < parts.cells().len() {
        // SAFETY: by the caller's contract.
        unsafe { finish(parts, Step::Reclaim, Actor { seat: seat as u16, reclaiming: true }) };
    }
}

/// Whether the seat still wants something of this lock, or owns it. For an unused seat this must be false; what
/// remains there can only be cleared by [`reclaim`].
pub fn has_traces<P: Parts>(parts: &P, seat: u32) -> bool {
    // Relaxed, both: the caller has taken the seat, which orders it after its last occupant.
    let wants = |cell: &SeatState| cell.word.load(Ordering::Relaxed) != state::IDLE;
    let owner = Ownership(parts.owner_word().word.load(Ordering::Relaxed));
    parts.cells().get(seat as usize).is_some_and(wants) || owner.is_busy() && u32::from(owner.seat()) == seat
}

/// Asks for every seat that wants something of this lock, and for its owner, whether it is dead, and reclaims those that
/// are. Returns how many. This is what a waiter does when its poll interval ends; a host that learns of a death may do it at once.
pub fn reclaim_dead<P: Parts>(parts: &P) -> u32 {
    reclaim_dead_but(parts, None)
}

/// The same, without asking for one that is surely alive: ourselves.
fn reclaim_dead_but<P: Parts>(parts: &P, alive: Option<u16>) -> u32 {
    let mut reclaimed = 0;
    let mut ask = |seat: u16| {
        if Some(seat) != alive && usize::from(seat) < parts.cells().len() {
            // SAFETY: `try_reclaim` runs this only for the dead (`Parts`), and keeps others from sitting down meanwhile.
            let reclaim = || unsafe { reclaim(parts, seat.into()) };
            reclaimed += u32::from(parts.host().try_reclaim(seat.into(), reclaim));
        }
    };
    for seat in 0..count(parts, 0) {
        // Relaxed, here and below: only says for whom to ask; the byte lock orders what follows.
        if parts.cells()[usize::from(seat)].word.load(Ordering::Relaxed) != state::IDLE {
            ask(seat);
        }
    }
    // An owner clears its cell before it frees the owner word.
    let owner = Ownership(parts.owner_word().word.load(Ordering::Relaxed));
    if owner.is_busy() {
        ask(owner.seat());
    }
    reclaimed
}
