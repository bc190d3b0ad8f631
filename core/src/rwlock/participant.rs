//! Participants, which take the steps and sleep where a step says so; and reclaimers.

use super::parts::{Ownership, Parts, SeatState, count, state};
use super::step::{Actor, Step};
use crate::error::LockError;
use crate::host::{Futex, Host, WaitResult};
use crate::sync::Ordering;

type Deadline<P> = <<P as Parts>::Host as Futex>::Deadline;

/// How often a reader may go back without sleeping, in one wait. Honest peers rarely cause it. A peer that keeps
/// changing the words must not keep the reader from the host, which knows the deadline. A limit that is too low costs
/// at most a poll interval.
const RETURNS: u32 = 64;

/// How long a participant is willing to wait.
#[derive(Clone, Copy)]
enum Patience<D> {
    None,
    Until(Option<D>),
}

/// An occupant of a seat, which may read and write.
#[derive(Debug)]
pub struct Participant<P: Parts> {
    parts: P,
    seat: u16,
}

impl<P: Parts> Participant<P> {
    /// Makes the occupant of `seat`. Raises the mark that bounds every scan.
    ///
    /// # Safety
    /// - The seat is the caller's alone, for this lock, while the participant lives. No other participant of this
    ///   process or another has it. On a host where participants can die, the caller holds the seat's byte lock.
    ///
    /// # Panics
    /// If `seat` does not exist.
    pub unsafe fn new(parts: P, seat: u32) -> Self {
        assert!((seat as usize) < parts.cells().len(), "no seat {seat}");
        parts.seats_used().raise(seat); // before the first announcement
        Self { parts, seat: seat as u16 }
    }

    /// Returns the seat.
    pub fn seat(&self) -> u32 {
        self.seat.into()
    }

    /// Returns the parts of the lock.
    pub fn parts(&self) -> &P {
        &self.parts
    }

    /// Enters the lock as a reader, together with other readers.
    ///
    /// # Blocking
    /// Waits for at most one writer's section, until `deadline`. A dead participant is reclaimed when a poll interval
    /// ends, at the latest.
    ///
    /// # Errors
    /// [`LockError::TimedOut`] or [`LockError::Interrupted`].
    #[inline]
    pub fn read(&mut self, deadline: Option<Deadline<P>>) -> Result<ReadGuard<'_, P>, LockError> {
        self.enter_read(Patience::Until(deadline))
    }

    /// Enters the lock as a reader, unless a writer owns the lock.
    ///
    /// # Errors
    /// [`LockError::Busy`].
    #[inline]
    pub fn try_read(&mut self) -> Result<ReadGuard<'_, P>, LockError> {
        self.enter_read(Patience::None)
    }

    /// Enters the lock as its only writer.
    ///
    /// # Blocking
    /// Waits for the writers that come first in the cyclic order of seats, and then for the readers that are in, until
    /// `deadline`. A dead participant is reclaimed when a poll interval ends, at the latest.
    ///
    /// # Errors
    /// [`LockError::TimedOut`] or [`LockError::Interrupted`].
    pub fn write(&mut self, deadline: Option<Deadline<P>>) -> Result<WriteGuard<'_, P>, LockError> {
        self.enter_write(Patience::Until(deadline))
    }

    /// Enters the lock as its only writer, unless another participant is in or comes first.
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

    /// Takes the two steps of a reader that meets no writer, without a loop around them.
    #[inline(always)]
    fn look_to_read(&self) -> Step {
        // SAFETY: this is the seat's occupant (`new`), which the callers borrow exclusively, and it is out.
        let at = unsafe { Step::AnnounceRead.take(&self.parts, self.actor()) };
        // SAFETY: the step after that one.
        unsafe { at.take(&self.parts, self.actor()) }
    }

    /// Enters as a reader while a writer owns the lock. A section may end in a moment, and a wake costs both sides more
    /// than that. So the reader gives up and looks again for a while, before it queues.
    #[cold]
    fn enter_busy_read(&self, mut at: Step, patience: Patience<Deadline<P>>) -> Result<(), LockError> {
        let mut attempt = 0;
        let Patience::Until(deadline) = patience else { return self.enter(at, patience) };
        if !self.spin(&mut attempt, deadline) {
            return self.enter(at, patience);
        }
        loop {
            // Before any pause: a draining writer takes each announced reader for one that is in, and waits for it.
            // SAFETY: this is the seat's occupant (`new`), which the caller borrows exclusively; the step replaces
            // queueing.
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
                // Like a reader, a writer looks again for a while before it queues.
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

    /// Takes the steps of a writer that meets no other participant, without a loop around them. If it meets another
    /// writer, it has not announced itself yet, so no participant has noticed it.
    #[inline(always)]
    fn look_to_write(&self) -> Step {
        // SAFETY: this is the seat's occupant (`new`), which the caller borrows exclusively, and it is out.
        let at = unsafe { Step::PeekWrite.take(&self.parts, self.actor()) };
        let at = at.skip(&self.parts, self.actor());
        if !matches!(at, Step::Claim(_)) {
            return at;
        }
        // SAFETY: each step follows the last one.
        unsafe { at.take(&self.parts, self.actor()) }.skip(&self.parts, self.actor())
    }

    /// Takes steps until the participant is in, or until it is out with a reason.
    #[inline(never)]
    fn enter(&self, mut at: Step, patience: Patience<Deadline<P>>) -> Result<(), LockError> {
        let actor = self.actor();
        let (mut returns, mut attempt) = (0, 0);
        loop {
            if let (Step::DrainReaders(scan), Patience::Until(deadline)) = (at, patience) {
                // A reader that leaves in a moment need not be asked for a wake.
                self.spin_while(scan.seat(), state::READING, &mut attempt, deadline);
            }
            // SAFETY: this is the seat's occupant (`new`), borrowed exclusively; each step follows the last one.
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

    /// Pauses for a moment. Returns false after the last attempt, or once the deadline has passed.
    fn spin(&self, attempt: &mut u32, deadline: Option<Deadline<P>>) -> bool {
        *attempt += 1;
        self.parts.host().spin(*attempt - 1, deadline)
    }

    /// Looks at a cell for a while, as long as it holds `value`. Returns whether it changed.
    fn spin_while(&self, seat: u16, value: u32, attempt: &mut u32, deadline: Option<Deadline<P>>) -> bool {
        // Relaxed: it only decides when to take the next step, which looks with the right ordering.
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
                // Too late for this wait. But if every waiter waits less than a poll interval, no other participant
                // looks.
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

/// A reader that is in the lock. Dropping it leaves.
#[must_use]
#[derive(Debug)]
pub struct ReadGuard<'a, P: Parts> {
    participant: &'a Participant<P>,
}

impl<P: Parts> ReadGuard<'_, P> {
    /// Returns the parts of the lock.
    pub fn parts(&self) -> &P {
        &self.participant.parts
    }
}

impl<P: Parts> Drop for ReadGuard<'_, P> {
    #[inline]
    fn drop(&mut self) {
        let (parts, actor) = (&self.participant.parts, self.participant.actor());
        // SAFETY: this guard borrows the occupant, which is in.
        let at = unsafe { Step::Reading.take(parts, actor) };
        if !matches!(at, Step::Idle) {
            // SAFETY: as above.
            unsafe { finish(parts, at, actor) };
        }
    }
}

/// A writer that is in the lock. Dropping it leaves.
#[must_use]
#[derive(Debug)]
pub struct WriteGuard<'a, P: Parts> {
    participant: &'a Participant<P>,
}

impl<P: Parts> WriteGuard<'_, P> {
    /// Returns the parts of the lock.
    pub fn parts(&self) -> &P {
        &self.participant.parts
    }
}

impl<P: Parts> Drop for WriteGuard<'_, P> {
    #[inline]
    fn drop(&mut self) {
        let (parts, actor) = (&self.participant.parts, self.participant.actor());
        // The steps of a writer for which no participant waits, without a loop around them.
        // SAFETY: this guard borrows the occupant, which is in. From here on each step follows the last one.
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

/// Takes steps that never sleep, to the end: leaving, giving up, reclaiming. Each scan among them counts its seats.
///
/// # Safety
/// - As [`Step::take`].
#[inline(never)]
unsafe fn finish<P: Parts>(parts: &P, mut at: Step, actor: Actor) {
    while !matches!(at, Step::Idle) {
        // SAFETY: by the caller's contract; each step follows the last one.
        at = unsafe { at.take(parts, actor) }.skip(parts, actor);
    }
}

/// Clears what the dead occupant of `seat` left in one lock, and wakes each waiter that may have waited for it. Does
/// nothing for a seat that does not exist.
///
/// A reclaimer calls it for every lock of a segment, before the seat is given out again. It may repeat it, and several
/// may call it at the same time.
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

/// Returns whether the seat's cell is not idle, or its occupant owns the lock. For an unused seat this must be false.
/// Only [`reclaim`] can clear what remains there.
pub fn has_traces<P: Parts>(parts: &P, seat: u32) -> bool {
    // Relaxed, both: the caller has taken the seat, which orders it after the last occupant.
    let wants = |cell: &SeatState| cell.word.load(Ordering::Relaxed) != state::IDLE;
    let owner = Ownership(parts.owner_word().word.load(Ordering::Relaxed));
    parts.cells().get(seat as usize).is_some_and(wants) || owner.is_busy() && u32::from(owner.seat()) == seat
}

/// Reclaims every dead participant that has traces in this lock. Returns how many.
///
/// A waiter calls it when a poll interval ends. A host that learns of a death may call it at once.
pub fn reclaim_dead<P: Parts>(parts: &P) -> u32 {
    reclaim_dead_but(parts, None)
}

/// Reclaims every dead participant but `alive`, which is the caller and so needs no question to the host.
fn reclaim_dead_but<P: Parts>(parts: &P, alive: Option<u16>) -> u32 {
    let mut reclaimed = 0;
    let mut ask = |seat: u16| {
        if Some(seat) != alive && usize::from(seat) < parts.cells().len() {
            // SAFETY: `try_reclaim` runs this only for a dead participant (`Parts`), and keeps the seat empty
            // meanwhile.
            let reclaim = || unsafe { reclaim(parts, seat.into()) };
            reclaimed += u32::from(parts.host().try_reclaim(seat.into(), reclaim));
        }
    };
    for seat in 0..count(parts, 0) {
        // Relaxed, here and below: the value only selects the seats to ask for. The byte lock orders what follows.
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
