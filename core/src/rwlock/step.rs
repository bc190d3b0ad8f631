//! The lock's steps. Each step is at most one access to one shared word, or one wake, with the fence that belongs to it. No
//! step loops or sleeps. `participant.rs` takes the steps one after another, and sleeps where a step says so. The models and
//! the state search take the same steps in their own order.

use super::parts::state::{FLAG, IDLE, READ_WAIT, READING, WRITE_WAIT};
use super::parts::{Ownership, Parts, count};
use super::scan::Scan;
use crate::host::Futex;
use crate::sync::{AtomicU32, Ordering, exchange_before_fence, fence, fence_after_exchange};

/// The seat for which a step is taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Actor {
    /// The number of the seat.
    pub seat: u16,
    /// Whether the seat's occupant is dead and a reclaimer acts for it.
    pub reclaiming: bool,
}

/// A writer's attempt at the owner word.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Attempt {
    /// The free owner word that the writer saw.
    pub seen: Ownership,
    /// Whether the writer's cell says that it waits.
    pub announced: bool,
}

/// The step that a participant takes next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    /// The participant is out, with nothing left to do.
    Idle,

    /// A reader sets its cell to `READING`.
    AnnounceRead,
    /// The reader looks whether the owner word is free. If so, it is in.
    LookRead,
    /// A writer owns the lock: the reader's cell changes to waiting, unless a grant came meanwhile.
    QueueRead,
    /// The reader looks at the owner word again before it sleeps.
    LookAgain,
    /// The owner word is free: the reader's cell changes back from waiting, and the reader looks again.
    ReturnRead,
    /// The reader sleeps on its own cell.
    SleepRead,
    /// The reader is awake, and finds a grant or a request to look again.
    WokenRead,
    /// **The reader is in.** The next step leaves.
    Reading,
    /// The reader leaves or gives up, and clears its cell.
    LeaveRead,
    /// The reader wakes the writer that sleeps on the reader's cell.
    LeaveWake,

    /// A writer looks whether the owner word is free, before it announces anything.
    PeekWrite,
    /// The writer must wait, and sets its cell to `WRITE_WAIT`.
    AnnounceWrite,
    /// The writer looks whether the owner word is free now.
    LookWrite,
    /// The owner word is free: the writer looks whether another writer comes first.
    Defer(Scan, Attempt),
    /// No other writer comes first: the writer exchanges the owner word that it saw for its own.
    Claim(Attempt),
    /// The writer sleeps on its own cell.
    SleepWrite,
    /// The writer is awake, clears its cell's flag, and looks again.
    WokenWrite,
    /// The owner looks at each seat, and flags the cell of each reader that is in.
    DrainReaders(Scan),
    /// The owner sleeps on the cell of a flagged reader.
    SleepDrainReaders(Scan),
    /// The owner is awake, and looks whether that cell has changed.
    WokenDrainReaders(Scan),
    /// **The writer is in.** The next step leaves.
    Writing,
    /// A writer that does not own the lock gives up, and clears its cell.
    Withdraw,
    /// That writer looks whether participants behind it may sleep because of it.
    LookWithdraw,

    /// The owner leaves or gives up, and clears its cell.
    Clear,
    /// The owner grants a reader that waits, or flags the cell of a reader that has just announced itself.
    Grant(Scan),
    /// The owner wakes the reader that it granted.
    GrantWake(Scan),
    /// The owner frees the owner word.
    Free,
    /// The owner that left tells waiters to look again: each reader, and the first writer. `true` after it met that writer.
    Notify(Scan, bool),
    /// It wakes the waiter that it told.
    NotifyWake(Scan, bool),

    /// A reclaimer clears the cell of a dead participant.
    Reclaim,
    /// The reclaimer wakes the writer that may sleep on that cell.
    ReclaimWake,
    /// The reclaimer looks whether the dead participant owned the lock.
    ReclaimLook,
    /// The reclaimer tells every waiter to look again, because the dead participant may have changed a word without a wake.
    NotifyAll(Scan),
    /// The reclaimer wakes the waiter that it told.
    NotifyAllWake(Scan),
}

impl Step {
    /// Takes this step, and returns the next one. A step that sleeps ([`sleeps`](Self::sleeps)) and `Idle` return themselves.
    ///
    /// # Safety
    /// - The caller is the seat's occupant and acts alone for it in this lock. Or it reclaims: then the occupant never acts
    ///   again, and no participant takes the seat before every reclaimer has finished or died. Several reclaimers may act for
    ///   one seat at the same time.
    /// - The caller takes the step that the last step, [`woken`](Self::woken) or [`given_up`](Self::given_up) returned. After
    ///   `Idle` it begins with `PeekWrite`, `AnnounceRead`, `AnnounceWrite` or `Reclaim`; `AnnounceWrite` may replace `Idle`.
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
                // Relaxed: an exchange continues the release sequence of this reader's last *leave*. A writer that waits for
                // that section may miss its end and see this value instead. An exchange is also a full fence on some
                // machines, where the fence of the next step then costs nothing.
                exchange_before_fence(own, READING);
                Self::LookRead
            }
            Self::LookRead => {
                fence_after_exchange(Ordering::SeqCst); // *look*: announce, then look; the other half is the fence in `Claim`
                // Acquire: the reader's half of *free*. A reader that is in sees what the last writer wrote.
                match Ownership(owner_word.load(Ordering::Acquire)).is_busy() {
                    false => Self::Reading,
                    true => Self::QueueRead,
                }
            }
            // A compare-exchange, not a swap: a flag means that the reader is in. If writers came and gave up without end, a
            // swap could miss every grant.
            // Relaxed: it continues the announcement's release sequence. Acquire on failure: the reader's half of *grant*.
            Self::QueueRead => {
                match own.compare_exchange(READING, READ_WAIT, Ordering::Relaxed, Ordering::Acquire) {
                    Ok(_) => Self::LookAgain,
                    Err(seen) => Self::read_or_restart(seen),
                }
            }
            Self::LookAgain => {
                fence(Ordering::SeqCst); // *queue*: announce the wait, then look; the other half is the fence in `Free`
                // Relaxed: it only decides where to look next.
                match Ownership(owner_word.load(Ordering::Relaxed)).is_busy() {
                    false => Self::ReturnRead,
                    true => Self::SleepRead,
                }
            }
            Self::ReturnRead => {
                // Relaxed: it continues the announcement's release sequence. Acquire without a change: the half of *grant*.
                let back = |seen| (seen & !FLAG == READ_WAIT).then_some(READING);
                match update(own, Ordering::Relaxed, Ordering::Acquire, back) {
                    Ok(_) => Self::LookRead,
                    Err(seen) => Self::read_or_restart(seen),
                }
            }
            Self::WokenRead => {
                // Relaxed: it continues the announcement's release sequence, and the fence in `LookAgain` makes visible what the
                // flag stands for. Acquire without a change: the reader's half of *grant*.
                let unflag = |seen| (seen == READ_WAIT | FLAG).then_some(READ_WAIT);
                match update(own, Ordering::Relaxed, Ordering::Acquire, unflag) {
                    Ok(_) | Err(READ_WAIT) => Self::LookAgain,
                    Err(seen) => Self::read_or_restart(seen),
                }
            }
            Self::Reading | Self::LeaveRead => {
                // Release: the reader's half of *leave*. What it read comes before what the next writer writes.
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
                // Relaxed: `Claim` checks it again.
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
                fence(Ordering::SeqCst); // *queue*: announce, then look; the other halves: `Free`, `LookWithdraw`, `ReclaimLook`
                // Relaxed: as in `PeekWrite`.
                Self::attempt(
                    Attempt { seen: Ownership(owner_word.load(Ordering::Relaxed)), announced: true },
                    parts,
                    me,
                )
            }
            Self::Defer(scan, attempt) => {
                // Relaxed: the order is advice. A writer that comes first notifies this one when it leaves, gives up or is
                // reclaimed (*queue*).
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
                // Relaxed: the fence after it is the other half of *free*. If it fails, another writer owns the lock, and notifies
                // this one if it is announced.
                if owner_word
                    .compare_exchange(attempt.seen.0, busy, Ordering::Relaxed, Ordering::Relaxed)
                    .is_err()
                {
                    return Self::lost(attempt);
                }
                fence_after_exchange(Ordering::SeqCst); // *look*: claim, then look at the cells; the other half: `LookRead`
                Self::DrainReaders(scan_after(me))
            }
            Self::WokenWrite => {
                // Relaxed: the fence in `LookWrite` makes visible what the flag stands for.
                let unflag = |seen| (seen == WRITE_WAIT | FLAG).then_some(WRITE_WAIT);
                match update(own, Ordering::Relaxed, Ordering::Relaxed, unflag) {
                    Ok(_) | Err(WRITE_WAIT) => Self::LookWrite,
                    Err(_) => Self::AnnounceWrite, // no honest peer stores that: begin again
                }
            }
            Self::DrainReaders(scan) => {
                let cell = &cells[usize::from(scan.seat())].word;
                // Relaxed: the flag tells the reader that it is in, also past its next look. The fence after the claim is the
                // owner's half of *grant* here. Acquire without a change: the owner's half of *leave*.
                let flag = |seen| (seen == READING).then_some(READING | FLAG);
                match update(cell, Ordering::Relaxed, Ordering::Acquire, flag) {
                    Ok(_) => Self::SleepDrainReaders(scan),
                    Err(seen) if seen == READING | FLAG => Self::SleepDrainReaders(scan),
                    // Also `READING` if every try failed: the cell has changed since the claim.
                    Err(_) => Self::passed(scan),
                }
            }
            Self::WokenDrainReaders(scan) => {
                // Acquire: the owner's half of *leave*. Any change counts, so a reader that comes and goes cannot hold the owner.
                match cells[usize::from(scan.seat())].word.load(Ordering::Acquire) == READING | FLAG {
                    true => Self::SleepDrainReaders(scan),
                    false => Self::passed(scan),
                }
            }
            Self::Withdraw => {
                // Relaxed: an exchange continues the release sequence of the announcement's *leave*.
                own.swap(IDLE, Ordering::Relaxed);
                Self::LookWithdraw
            }
            Self::LookWithdraw => {
                fence(Ordering::SeqCst); // *queue*: clear, then look; the other half is `LookWrite` of the writers behind
                // Relaxed: it only tells whether participants behind this one may sleep because of it.
                let seen = Ownership(owner_word.load(Ordering::Relaxed));
                if seen.is_busy() { Self::Idle } else { Self::Notify(scan_after(seen.seat()), false) }
            }

            Self::Writing | Self::Clear => {
                // Before the owner word is free: later it would clear a new announcement. Relaxed: `Free` is a Release.
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
                // A compare-exchange, so that a second reclaimer of this owner, or an owner that was reclaimed by mistake, does
                // not free the word of a later owner. Release: the owner's half of *free*.
                let (busy, free) = (Ownership::busy(me).0, Ownership::free(me).0);
                let _ = owner_word.compare_exchange(busy, free, Ordering::Release, Ordering::Relaxed);
                fence_after_exchange(Ordering::SeqCst); // *queue*: free, then look at waiters; the other halves: `LookAgain`, `LookWrite`
                // `NotifyAll` tells every waiter that `Notify` would tell.
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
                // Release: *leave*, for the dead participant. The reclaimer holds its byte lock, which orders what it did before.
                // An exchange, because others may exchange the cell too: it comes after theirs, or they see it.
                own.swap(IDLE, Ordering::Release);
                Self::ReclaimWake
            }
            Self::ReclaimWake => {
                wake(me);
                Self::ReclaimLook
            }
            Self::ReclaimLook => {
                fence(Ordering::SeqCst); // *queue*: clear, then look; the other half is `LookWrite` of the writers behind
                // Relaxed: if the word names the dead participant, the byte lock orders this load after that store.
                // A reclaimer grants no reader. It may be stopped here while another reclaimer finishes, and a grant after the
                // next writer's claim would let a reader in beside that writer.
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

    /// The cell on which the participant sleeps at this step, by its seat, and the value during which it sleeps.
    #[inline]
    pub fn sleeps(self, actor: Actor) -> Option<(u16, u32)> {
        match self {
            Self::SleepRead => Some((actor.seat, READ_WAIT)),
            Self::SleepWrite => Some((actor.seat, WRITE_WAIT)),
            Self::SleepDrainReaders(scan) => Some((scan.seat(), READING | FLAG)),
            _ => None,
        }
    }

    /// The step after a sleep, for whatever reason it ended.
    #[must_use]
    pub fn woken(self) -> Self {
        match self {
            Self::SleepRead => Self::WokenRead,
            Self::SleepWrite => Self::WokenWrite,
            Self::SleepDrainReaders(scan) => Self::WokenDrainReaders(scan),
            other => other,
        }
    }

    /// The step for a caller that gives up: after a sleep, in place of one, or in place of `QueueRead` for a reader that never
    /// waits. A participant gives up nowhere else, because no other step waits.
    #[must_use]
    pub fn given_up(self) -> Self {
        match self {
            // It leaves as a reader does, because a writer may have flagged it and waits until it leaves.
            Self::QueueRead | Self::SleepRead => Self::LeaveRead,
            Self::SleepWrite => Self::Withdraw,
            Self::SleepDrainReaders(_) => Self::Clear,
            other => other,
        }
    }

    /// Whether the participant is in or out, and so has no step to take now.
    pub fn is_settled(self) -> bool {
        matches!(self, Self::Idle | Self::Reading | Self::Writing)
    }

    /// The step of a reader whose cell has changed: it is in after a grant. No honest peer stores another value; then it begins
    /// again.
    fn read_or_restart(seen: u32) -> Self {
        match seen {
            seen if seen & !FLAG == READING => Self::Reading,
            seen if seen & !FLAG == READ_WAIT => Self::WokenRead,
            _ => Self::AnnounceRead,
        }
    }

    /// Continues an attempt if the owner word was free.
    fn attempt<P: Parts>(attempt: Attempt, parts: &P, me: u16) -> Self {
        if attempt.seen.is_busy() {
            Self::lost(attempt)
        } else {
            Self::defer(Scan::after(attempt.seen.seat(), count(parts, me)), attempt, me)
        }
    }

    /// The next step of a writer when another writer owns the lock or comes first.
    fn lost(attempt: Attempt) -> Self {
        if attempt.announced { Self::SleepWrite } else { Self::AnnounceWrite }
    }

    /// Defers to the seat at `scan`, unless the scan has reached the writer's own seat.
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

/// Each try fails only because another participant changed the word. Honest peers change a word at most a few times before the
/// wanted change no longer applies.
const TRIES: u32 = 64;

/// Changes a word atomically. Returns the new value, or as an error the value for which `to` wants no change. It counts as one
/// step: the exchange that succeeds, or the load that finds no change to make.
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
