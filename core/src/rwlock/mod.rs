//! The seat lock: many readers or one writer, and nobody starves.
//!
//! Per lock there is one word, [`OwnerWord`], that says whether a writer owns it, and one padded word per seat, its
//! [`SeatState`], that says what the seat's occupant wants. Ownership is only ever *taken* by the owner itself, with one
//! compare-exchange, and never given: so there is no moment in which a dead heir owns the lock. Every sleep is on one
//! cell. Leaving, giving up, and reclamation in the dead one's name are one path.
//!
//! ```text
//! cell    IDLE     READING          READ_WAIT           WRITE_WAIT
//!           + FLAG   granted: you     look again          look again
//!                    are in; wake
//!                    this word when
//!                    you leave
//! owner word   bit 31: busy; the rest: the seat of the owner, or of the last one
//! ```
//!
//! A *reader* puts `READING` there and looks at the owner word; if it is free, the reader is in: its own cache line and one load.
//! Otherwise it turns to `READ_WAIT` and sleeps on its cell. A *writer* looks; if the owner word is free and no other writer
//! waits, it claims it. Otherwise it stores `WRITE_WAIT`, looks again, lets those before it (in the cyclic order of seats
//! from the last owner on) go first, and then claims. Owning the owner word, it passes each seat that is reading: it sets the
//! flag there and waits for the cell to change. Leaving, it grants everybody who announced reading, frees the owner word, and
//! notifies the waiters. [`Step`] has the steps, one access to shared memory each, and why each is as it is.
//!
//! *Why it holds.*
//! - Writers exclude each other by one compare-exchange, free to busy(me); only its owner, or who reclaims the owner,
//!   leaves that state. Readers and writers exclude each other by *look*: both announce, fence and look.
//! - A reader is in only because it saw the owner word free, or by a grant. Grants (`READ_WAIT` to `READING`, and the flag on
//!   `READING`) are made only by the owner outside its section, before the next owner passes the seats.
//! - A passing writer may go on at *any* change of a cell: `READING` without the flag was stored after the claim, so that
//!   reader's own look finds the owner word busy.
//! - Every claim that its owner ends, used or given up, ends by granting all who announced reading. So a reader waits for
//!   at most one writer. A claim that a reclamation ends grants nobody: each writer that dies may cost a reader one writer more.
//! - A writer that has not announced itself has only looked, until its claim succeeds; and it claims only past writers that
//!   have. So those that wait are overtaken by it once at most, if it looked before they announced.
//! - Who announced too late for that either sees the owner word free, or is seen by the notify; the flag makes the wake stick.
//!
//! *How long one waits.* `core/tests/rwlock_search` runs these very steps through every interleaving of three and four
//! participants, deaths and cancellations included. Under weak fairness everybody who wants in gets in, and, without deaths:
//! - from a reader's announcement to its entry **at most one** writer's section begins;
//! - from a writer's claim to its entry each other reader that announced itself after the claim enters **at most once**
//!   (and once before that, if it had announced itself already);
//! - a queued writer (one that has slept) sees at most 1 other writer's section begin before its own with two writers, at
//!   most 3 with three, and at most 6 with four.
//!
//! The pairs that make one side's writes visible to the other:
//!
//! | name | one half | the other half |
//! |---|---|---|
//! | *look* | a reader exchanges its cell, fence, loads the owner word | a writer claims the owner word, fence, looks at the cells |
//! | *queue* | a waiter announces, fence, looks at the owner word and at the cells before it | who frees the owner word, or clears its cell, fences and notifies |
//! | *free* | the owner frees the owner word, Release | a reader loads it, Acquire; the next owner claims it and fences |
//! | *leave* | a cell's occupant stores a new state, Release; exchanges carry it on | a passing writer finds the cell changed, Acquire |
//! | *grant* | the owner exchanges a reader's cell, Release, or after the fence of its claim | the reader finds its cell exchanged, Acquire |
//!
//! *Deaths.* A participant may die between any two steps. Whoever knows of its death reclaims it, in three steps: it clears
//! the dead one's cell, frees the owner word if the dead one owned it, and notifies everybody, which makes up for what the dead one
//! may have done without waking anybody. A reclaimer may die, too, or be stopped in the middle for any time. So reclamation excludes
//! no second reclaimer: every step may be repeated, and may come late, because nobody sits down in the seat before every reclaimer
//! has finished or died (the host sees to that). Clearing finds the cell idle. Freeing exchanges busy(dead) and nothing else.
//! Notifying all tells waiters to look again, which is always allowed. A grant would not be: from a reclaimer that was stopped before
//! it, it would let a reader in beside a later writer.
//!
//! *Hostile words.* A cell or an owner word that holds nonsense is never used to reach memory beyond the table, each exchange
//! is tried a bounded number of times, each scan counts its steps, and each wait passes the caller's deadline to the host.

mod participant;
mod parts;
mod scan;
mod seat_lock;
mod skip;
mod step;

pub use participant::{Participant, ReadGuard, WriteGuard, has_traces, reclaim, reclaim_dead};
pub use parts::{OwnerWord, Ownership, Parts, SeatState, SeatsUsed, state};
pub use scan::Scan;
pub use seat_lock::{LockWords, SeatLock};
pub use step::{Actor, Attempt, Step};
