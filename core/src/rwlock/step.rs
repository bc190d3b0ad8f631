//! The lock's steps. Each is at most one access to one shared word, or one wake, with the fence that belongs to it; none
//! loops or sleeps. `participant.rs` takes them one after another and sleeps where they say so; models and the state
//! search take the same steps in their own order.

use super::parts::state::{FLAG, IDLE, READ_WAIT, READING, WRITE_WAIT};
use super::parts::{Ownership, Parts, count};
use super::scan::Scan;
use crate::host::Futex;
use crate::sync::{AtomicU32, Ordering, exchange_before_fence, fence, fence_after_exchange};

/// In whose name steps are taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Actor {
    /// The seat.
    pub seat: u16,
    /// Whether its occupant is dead and another participant acts for it.
    pub reclaiming: bool,
}

/// A writer's attempt at the owner word.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Attempt {
    /// The free owner word that it saw.
    pub seen: Ownership,
    /// Whether others can see that it waits.
    pub announced: bool,
}

/// Where a participant stands: the step that it takes next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    /// Out, and nothing left to do.
    Idle,

    /// A reader says that it reads.
    AnnounceRead,
    /// It looks whether it may.
    LookRead,
    /// It may not: it turns to waiting, unless it was granted meanwhile.
    QueueRead,
    /// It looks again before it sleeps.
    LookAgain,
    /// The owner word is free: back from waiting, to look as any other reader.
    ReturnRead,
    /// To sleep on its own cell.
    SleepRead,
    /// Awake: granted, or told to look again?
    WokenRead,
    /// **In, reading.** The next step leaves.
    Reading,
    /// Gives up, or leaves: clears its cell.
    LeaveRead,
    /// Wakes the writer that sleeps on the cell.
    LeaveWake,

    /// A writer looks whether the owner word is free, having said nothing yet.
    PeekWrite,
    /// It must wait: it says so.
    AnnounceWrite,
    /// It looks whether the owner word is free now.
    LookWrite,
    /// It is: is anybody before it?
    Defer(Scan, Attempt),
    /// No other is: it takes the owner word as it saw it.
    Claim(Attempt),
    /// To sleep on its own cell.
    SleepWrite,
    /// Awake: clears the flag, then looks.
    WokenWrite,
    /// The owner looks at each seat, and flags each reader.
    DrainReaders(Scan),
    /// To sleep on the cell of a flagged reader.
    SleepDrainReaders(Scan),
    /// Awake: has that cell changed?
    WokenDrainReaders(Scan),
    /// **In, writing.** The next step leaves.
    Writing,
    /// A writer that does not own the owner word gives up: clears its cell.
    Withdraw,
    /// Then looks whether those behind it should.
    LookWithdraw,

    /// The owner leaves, or gives up: clears its cell.
    Clear,
    /// Grants a seat that waits to read, or says so to one that reads already.
    Grant(Scan),
    /// Wakes whom it granted.
    GrantWake(Scan),
    /// Frees the owner word.
    Free,
    /// Tells a waiter to look again: every reader, and the first writer (once `true`: there was one).
    Notify(Scan, bool),
    /// Wakes whom it told.
    NotifyWake(Scan, bool),

    /// Who reclaims a dead participant clears its cell.
    Reclaim,
    /// Wakes the writer that may sleep on it.
    ReclaimWake,
    /// Did the dead one own the owner word?
    ReclaimLook,
    /// Tells every waiter to look again: the dead one may have changed a word without waking.
    NotifyAll(Scan),
    /// Wakes whom it told.
    NotifyAllWake(Scan),
}

impl Step {
    /// Takes this step, and returns the one after it. Steps at which one sleeps ([`sleeps`](Self::sleeps)), and `Idle`,
    /// return themselves.
    ///
    /// # Safety
    /// - The caller is the only one that acts for the actor's seat in this lock: its occupant. Or it reclaims: then the
    ///   occupant will never act again, and no participant takes the seat before every reclaimer has finished or died. Several
    ///   reclaimers may act for one seat at the same time;
    /// - it takes each step after the one that the last returned, [`woken`](Self::woken) or [`given_up`](Self::given_up);
    ///   or begins, peeking, announcing or reclaiming, where the last was `Idle`; `AnnounceWrite` is as good as that.
    #[inline(always)]
    #[must_use]
    pub unsafe fn take<P: Parts>(self, parts: &P, actor: Actor) -> Self {
        let me = actor.seat;
        let cells = parts.cells();
        let own = &cells[usize::from(me)].word;
        let owner_word = &parts.owner_word().word;
        let scan_after = |seat| Scan::after(seat, count(parts, me));
        let wake = |seat: u16| parts.host().wake_all(&cells[usize::from(seat)].word);
        match self {
            Self::Idle | Self::SleepRead | Self::SleepWrite | Self::SleepDrainReaders(_) => self,

            Self::AnnounceRead => {
                // Relaxed: as an exchange it carries on our last leaving's *leave*: a writer that waits for that section may
                // miss its end and find this instead. Not a store, since with an exchange the fence of the next step is free
                // where that is one already.
                exchange_before_fence(own, READING);
                Self::LookRead
            }
            Self::LookRead => {
                fence_after_exchange(Ordering::SeqCst); // *look*: announced, now look; against the fence in `Claim`
                // Acquire: the reader's half of *free*: in, we see what the last writer wrote.
                match Ownership(owner_word.load(Ordering::Acquire)).is_busy() {
                    false => Self::Reading,
                    true => Self::QueueRead,
                }
            }
            // An exchange, not a swap: a flag means that we are in, and if writers came and gave up for ever, a swap could
            // miss every grant.
            // Relaxed: as an exchange it carries on our announcement's *leave*. Acquire on failure: our half of *grant*.
            Self::QueueRead => {
                match own.compare_exchange(READING, READ_WAIT, Ordering::Relaxed, Ordering::Acquire) {
                    Ok(_) => Self::LookAgain,
                    Err(seen) => Self::read_or_restart(seen),
                }
            }
            Self::LookAgain => {
                fence(Ordering::SeqCst); // *queue*: waiting is announced, now look; against the fence in `Free`
                // Relaxed: decides nothing but where to look next.
                match Ownership(owner_word.load(Ordering::Relaxed)).is_busy() {
                    false => Self::ReturnRead,
                    true => Self::SleepRead,
                }
            }
            Self::ReturnRead => {
                // Relaxed: carries on our announcement. Acquire where nothing is to be done: our half of *grant*.
                let back = |seen| (seen & !FLAG == READ_WAIT).then_some(READING);
                match update(own, Ordering::Relaxed, Ordering::Acquire, back) {
                    Ok(_) => Self::LookRead,
                    Err(seen) => Self::read_or_restart(seen),
                }
            }
            Self::WokenRead => {
                // Relaxed: carries on our announcement; what the flag stands for, the fence in `LookAgain` makes visible.
                // Acquire where nothing is to be done: our half of *grant*.
                let unflag = |seen| (seen == READ_WAIT | FLAG).then_some(READ_WAIT);
                match update(own, Ordering::Relaxed, Ordering::Acquire, unflag) {
                    Ok(_) | Err(READ_WAIT) => Self::LookAgain,
                    Err(seen) => Self::read_or_restart(seen),
                }
            }
            Self::Reading | Self::LeaveRead => {
                // Release: our half of *leave*: what we read comes before what the writer writes then.
                match own.swap(IDLE, Ordering::Release) == READING | FLAG {
                    false => Self::Idle,
                    true => Self::LeaveWake,
                }
            }
            Self::LeaveWake => {
                wake(me);
                Self::Idle
            }

            Self::PeekWrite => {
                // Relaxed: `Claim` takes it, or not.
                Self::attempt(
                    Attempt { seen: Ownership(owner_word.load(Ordering::Relaxed)), announced: false },
                    parts,
                    me,
                )
            }
            Self::AnnounceWrite => {
                // Release: *leave*, as in `AnnounceRead`.
                own.store(WRITE_WAIT, Ordering::Release);
                Self::LookWrite
            }
            Self::LookWrite => {
                fence(Ordering::SeqCst); // *queue*: announced, now look; against `Free`, `LookWithdraw`, `ReclaimLook`
                // Relaxed: as in `PeekWrite`.
                Self::attempt(
                    Attempt { seen: Ownership(owner_word.load(Ordering::Relaxed)), announced: true },
                    parts,
                    me,
                )
            }
            Self::Defer(scan, attempt) => {
                // Relaxed: the order is advice. A writer before us notifies us when it leaves, gives up or is reclaimed (*queue*).
                match cells[usize::from(scan.seat())].word.load(Ordering::Relaxed) & !FLAG {
                    WRITE_WAIT => Self::lost(attempt),
                    _ => match scan.next() {
                        Some(next) => Self::defer(next, attempt, me),
                        None => Self::Claim(attempt),
                    },
                }
            }
            Self::Claim(attempt) => {
                let busy = Ownership::busy(me).0;
                // Relaxed: the fence after it is the other half of *free*. Lost: another writer owns it, and notifies us if we
                // are announced.
                if owner_word
                    .compare_exchange(attempt.seen.0, busy, Ordering::Relaxed, Ordering::Relaxed)
                    .is_err()
                {
                    return Self::lost(attempt);
                }
                fence_after_exchange(Ordering::SeqCst); // *look*: claimed, now look at the cells; against the fence in `LookRead`
                Self::DrainReaders(scan_after(me))
            }
            Self::WokenWrite => {
                // Relaxed: what the flag stands for, the fence in `LookWrite` makes visible.
                let unflag = |seen| (seen == WRITE_WAIT | FLAG).then_some(WRITE_WAIT);
                match update(own, Ordering::Relaxed, Ordering::Relaxed, unflag) {
                    Ok(_) | Err(WRITE_WAIT) => Self::LookWrite,
                    Err(_) => Self::AnnounceWrite, // no honest peer does that: begin again
                }
            }
            Self::DrainReaders(scan) => {
                let cell = &cells[usize::from(scan.seat())].word;
                // Relaxed: it tells the reader that it is in, also past its next look; the fence after our claim is the
                // owner's half of *grant* here. Acquire where nothing is to be done: the other half of *leave*.
                let flag = |seen| (seen == READING).then_some(READING | FLAG);
                match update(cell, Ordering::Relaxed, Ordering::Acquire, flag) {
                    Ok(_) => Self::SleepDrainReaders(scan),
                    Err(seen) if seen == READING | FLAG => Self::SleepDrainReaders(scan),
                    // Also `READING`, if every try failed: then it has changed since the claim.
                    Err(_) => Self::passed(scan),
                }
            }
            Self::WokenDrainReaders(scan) => {
                // Acquire: the other half of *leave*. *Any* change will do: a reader that comes and goes must not hold us.
                match cells[usize::from(scan.seat())].word.load(Ordering::Acquire) == READING | FLAG {
                    true => Self::SleepDrainReaders(scan),
                    false => Self::passed(scan),
                }
            }
            Self::Withdraw => {
                // Relaxed: as an exchange it carries on our announcement's *leave*.
                own.swap(IDLE, Ordering::Relaxed);
                Self::LookWithdraw
            }
            Self::LookWithdraw => {
                fence(Ordering::SeqCst); // *queue*: cleared, now look; against `LookWrite` of those behind us
                // Relaxed: only says whether those behind may be asleep because of us.
                let seen = Ownership(owner_word.load(Ordering::Relaxed));
                if seen.is_busy() { Self::Idle } else { Self::Notify(scan_after(seen.seat()), false) }
            }

            Self::Writing | Self::Clear => {
                // Before the owner word is freed: afterwards it would clear a new wish. Relaxed: freeing is a Release.
                own.store(IDLE, Ordering::Relaxed);
                Self::Grant(scan_after(me))
            }
            Self::Grant(scan) => {
                let cell = &cells[usize::from(scan.seat())].word;
                let grant = |seen| match seen {
                    READING => Some(READING | FLAG),
                    seen if seen & !FLAG == READ_WAIT => Some(READING),
                    _ => None,
                };
                // Release: the owner's half of *grant*.
                match update(cell, Ordering::Release, Ordering::Relaxed, grant) {
                    Ok(READING) => Self::GrantWake(scan),
                    _ => Self::granted(scan),
                }
            }
            Self::GrantWake(scan) => {
                wake(scan.seat());
                Self::granted(scan)
            }
            Self::Free => {
                // An exchange, so that a second reclaimer of the same owner, or an owner that was reclaimed by mistake, frees
                // nothing of a later owner's. Release: the owner's half of *free*.
                let (busy, free) = (Ownership::busy(me).0, Ownership::free(me).0);
                let _ = owner_word.compare_exchange(busy, free, Ordering::Release, Ordering::Relaxed);
                fence_after_exchange(Ordering::SeqCst); // *queue*: freed, now look who waits; against `LookAgain` and `LookWrite`
                // Notifying all tells all whom a notify would tell.
                if actor.reclaiming {
                    Self::NotifyAll(scan_after(me))
                } else {
                    Self::Notify(scan_after(me), false)
                }
            }
            Self::Notify(scan, met) => {
                let cell = &cells[usize::from(scan.seat())].word;
                let flag = |seen: u32| match seen & !FLAG {
                    READ_WAIT => Some(seen | FLAG),
                    WRITE_WAIT if !met => Some(seen | FLAG),
                    _ => None,
                };
                // Relaxed: the fence before it (`Free`, `LookWithdraw`) makes visible what the flag stands for.
                match update(cell, Ordering::Relaxed, Ordering::Relaxed, flag) {
                    Ok(told) => Self::NotifyWake(scan, met || told & !FLAG == WRITE_WAIT),
                    Err(_) => Self::notified(scan, met),
                }
            }
            Self::NotifyWake(scan, met) => {
                wake(scan.seat());
                Self::notified(scan, met)
            }

            Self::Reclaim => {
                // Release: *leave*, for the dead one: its byte lock, now ours, ordered what it did before. An exchange,
                // since others may be exchanging the cell, too: it comes after theirs or is seen by them.
                own.swap(IDLE, Ordering::Release);
                Self::ReclaimWake
            }
            Self::ReclaimWake => {
                wake(me);
                Self::ReclaimLook
            }
            Self::ReclaimLook => {
                fence(Ordering::SeqCst); // *queue*: cleared, now look; against `LookWrite` of those behind the dead one
                // Relaxed: if it names the dead one, the byte lock orders us after that.
                // No reader is granted in the dead one's name: this reclaimer may be stopped here while another one finishes, and a
                // grant that comes after the next writer's claim would let a reader in beside it.
                match owner_word.load(Ordering::Relaxed) == Ownership::busy(me).0 {
                    true => Self::Free,
                    false => Self::NotifyAll(scan_after(me)),
                }
            }
            Self::NotifyAll(scan) => {
                let cell = &cells[usize::from(scan.seat())].word;
                let waits = |seen: u32| matches!(seen & !FLAG, READ_WAIT | WRITE_WAIT).then_some(seen | FLAG);
                // Relaxed: as in `Notify`, after the fence in `ReclaimLook`.
                match update(cell, Ordering::Relaxed, Ordering::Relaxed, waits) {
                    Err(IDLE) => Self::all_notified(scan),
                    _ => Self::NotifyAllWake(scan),
                }
            }
            Self::NotifyAllWake(scan) => {
                wake(scan.seat());
                Self::all_notified(scan)
            }
        }
    }

    /// Where one sleeps before this step: on the cell of that seat, while it holds that value.
    #[inline]
    pub fn sleeps(self, actor: Actor) -> Option<(u16, u32)> {
        match self {
            Self::SleepRead => Some((actor.seat, READ_WAIT)),
            Self::SleepWrite => Some((actor.seat, WRITE_WAIT)),
            Self::SleepDrainReaders(scan) => Some((scan.seat(), READING | FLAG)),
            _ => None,
        }
    }

    /// The step after a sleep, however it ended.
    #[must_use]
    pub fn woken(self) -> Self {
        match self {
            Self::SleepRead => Self::WokenRead,
            Self::SleepWrite => Self::WokenWrite,
            Self::SleepDrainReaders(scan) => Self::WokenDrainReaders(scan),
            other => other,
        }
    }

    /// The step after a sleep, or instead of one, for a caller that waits no longer; and instead of queueing, for a reader
    /// that does not want to wait at all. Nowhere else can one give up: between two sleeps nothing waits.
    #[must_use]
    pub fn given_up(self) -> Self {
        match self {
            // As if it had read: a writer that took it for one that is in waits for its leaving.
            Self::QueueRead | Self::SleepRead => Self::LeaveRead,
            Self::SleepWrite => Self::Withdraw,
            Self::SleepDrainReaders(_) => Self::Clear,
            other => other,
        }
    }

    /// Whether there is nothing to do at present: in, or out.
    pub fn is_settled(self) -> bool {
        matches!(self, Self::Idle | Self::Reading | Self::Writing)
    }

    /// A reader found its cell changed: in, if that is a grant. Nothing else is honest; then it begins again.
    fn read_or_restart(seen: u32) -> Self {
        match seen {
            seen if seen & !FLAG == READING => Self::Reading,
            seen if seen & !FLAG == READ_WAIT => Self::WokenRead,
            _ => Self::AnnounceRead,
        }
    }

    /// Goes on with a attempt if the owner word was free.
    fn attempt<P: Parts>(attempt: Attempt, parts: &P, me: u16) -> Self {
        if attempt.seen.is_busy() {
            Self::lost(attempt)
        } else {
            Self::defer(Scan::after(attempt.seen.seat(), count(parts, me)), attempt, me)
        }
    }

    /// Another writer owns the lock, or comes first.
    fn lost(attempt: Attempt) -> Self {
        if attempt.announced { Self::SleepWrite } else { Self::AnnounceWrite }
    }

    /// Defers to the seat where `scan` is, unless the round has come to our own.
    fn defer(scan: Scan, attempt: Attempt, me: u16) -> Self {
        if scan.seat() == me { Self::Claim(attempt) } else { Self::Defer(scan, attempt) }
    }

    fn passed(scan: Scan) -> Self {
        scan.next().map_or(Self::Writing, Self::DrainReaders)
    }

    fn granted(scan: Scan) -> Self {
        scan.next().map_or(Self::Free, Self::Grant)
    }

    fn notified(scan: Scan, met: bool) -> Self {
        scan.next().map_or(Self::Idle, |next| Self::Notify(next, met))
    }

    fn all_notified(scan: Scan) -> Self {
        scan.next().map_or(Self::Idle, Self::NotifyAll)
    }
}

/// Each try fails only because another participant changed the word. Honest peers change one that we change, too, a few times
/// at most before what we want to say of it is no longer true.
const TRIES: u32 = 64;

/// Changes a word in one go: what it holds now, if `Ok`, or what it held when nothing was to be done. It is one step:
/// the exchange that succeeds, or the load that says no.
#[inline(always)]
fn update(
    word: &AtomicU32,
    success: Ordering,
    failure: Ordering,
    to: impl Fn(u32) -> Option<u32>,
) -> Result<u32, u32> {
    let mut seen = word.load(failure);
    for _ in 0..TRIES {
        let Some(new) = to(seen) else { break };
        match word.compare_exchange(seen, new, success, failure) {
            Ok(_) => return Ok(new),
            Err(now) => seen = now,
        }
    }
    Err(seen)
}
