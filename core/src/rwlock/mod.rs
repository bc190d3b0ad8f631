//! The seat lock: many readers or one writer, and no participant starves.
//!
//! A lock has one [`OwnerWord`], which says whether a writer owns it. It has one [`SeatState`] (a *cell*) per seat, which
//! says what the seat's occupant wants. A writer *takes* ownership itself, with one compare-exchange; no participant
//! ever gives it away. So ownership never passes to a dead participant. Every sleep is on one cell. Leaving, giving up,
//! and reclamation of a dead participant take one path.
//!
//! ```text
//! cell    IDLE     READING          READ_WAIT           WRITE_WAIT
//!           + FLAG   granted: you     look again          look again
//!                    are in; wake
//!                    this word when
//!                    you leave
//! owner   bit 31: busy; the rest: the seat of the owner, or of the last one
//! ```
//!
//! A *reader* stores `READING` and looks at the owner word. If the word is free, the reader is in: that costs its own cache
//! line and one load. Otherwise the reader turns to `READ_WAIT` and sleeps on its cell.
//!
//! A *writer* looks first. If the owner word is free and no other writer waits, the writer claims it. Otherwise it stores
//! `WRITE_WAIT` and looks again. It lets the writers before it go first, in the cyclic order of seats from the last owner
//! on, and then claims. As the owner it drains the readers: it sets the flag in each cell that reads, and waits for that
//! cell to change. When it leaves, it grants each announced reader, frees the owner word, and notifies the waiters.
//!
//! [`Step`] has the steps, one access to shared memory each, with the reason for each.
//!
//! *Why it holds.*
//! - Writers exclude each other by one compare-exchange, free to busy(me). Only the owner or its reclaimer ends that state.
//! - Readers and writers exclude each other by *look*: both announce, fence and look.
//! - A reader is in only because it saw the owner word free, or by a grant. Only an owner outside its section makes grants
//!   (`READ_WAIT` to `READING`, and the flag on `READING`), before the next owner drains the readers.
//! - A draining writer may continue at *any* change of a cell. `READING` without the flag was stored after the claim,
//!   so that reader's own look finds the owner word busy.
//! - A claim that its owner ends, after use or without it, ends with a grant to each announced reader. So a reader
//!   waits for at most one writer. A claim that a reclamation ends grants no reader. So each dead writer may cost a
//!   reader one more writer.
//! - A writer that has not announced itself has only looked, until its claim succeeds. It claims only if it saw no
//!   writer before it wait. So it overtakes each waiter at most once, and only if it looked before the waiter announced
//!   itself.
//! - A participant that announces itself too late for that look sees the owner word free, or a notification reaches it.
//!   The flag keeps the wake from getting lost.
//!
//! *How long a participant waits.* `core/tests/rwlock_search` runs these steps through every interleaving of three and
//! four participants, with deaths and cancellations. Under weak fairness each participant gets in. Without deaths:
//! - from a reader's announcement to its entry **at most one** writer's section begins;
//! - from a writer's claim to its entry each reader that announces itself after the claim enters **at most once**. A
//!   reader that had announced itself before may enter once more;
//! - a queued writer (one that has slept) sees few sections of other writers begin before its own: at most 1 with two
//!   writers, at most 3 with three, and at most 6 with four.
//!
//! The pairs that make one side's writes visible to the other:
//!
//! | name | one half | the other half |
//! |---|---|---|
//! | *look* | a reader exchanges its cell, fence, loads the owner word | a writer claims the owner word, fence, looks at the cells |
//! | *queue* | a waiter announces, fence, looks at the owner word and at the cells before it | a participant frees the owner word or clears its cell, fence, notifies |
//! | *free* | the owner frees the owner word, Release | a reader loads it, Acquire; the next owner claims it and fences |
//! | *leave* | a cell's occupant stores a new state, Release; exchanges carry it on | a draining writer finds the cell changed, Acquire |
//! | *grant* | the owner exchanges a reader's cell, Release, or after the fence of its claim | the reader finds its cell exchanged, Acquire |
//!
//! *Deaths.* A participant may die between any two steps. A participant that knows of the death reclaims the seat in three
//! steps. It clears the dead one's cell. It frees the owner word if the dead one owned it. It notifies every waiter, which
//! makes up for a change that the dead one made without a wake.
//!
//! A reclaimer may die too, or stop in the middle for any time, so reclamation excludes no second reclaimer. Every step may
//! be repeated and may come late, because the host keeps the seat empty until every reclaimer has finished or died.
//! Clearing finds the cell idle. Freeing exchanges busy(dead) and nothing else. A notification is always allowed. A grant
//! is not: a late one would let a reader in beside a later writer.
//!
//! *Hostile words.* No value in a cell or in an owner word leads to memory beyond the table. Each exchange is tried a
//! bounded number of times, each scan counts its steps, and each wait passes the caller's deadline to the host.

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
