//! The parking protocol: how to sleep until something changed, without losing a wake.
//!
//! An [`EventCount`] stands beside the state that people wait for (a ring's tail, a cursor, a version). Neither side takes a
//! lock, and the side that makes news pays one fence and one load when nobody sleeps.
//!
//! ```text
//! waiter                                   notifier
//!   b = bell                     (1)         change the state             (A)
//!   waited = 1                   (2)         fence                        (B)
//!   fence                        (3)         waited == 0: done            (C)
//!   look at the state            (4)         waited = 0                   (D)
//!   still nothing: sleep on b    (5)         bell += 1                    (E)
//!                                            wake all                     (F)
//! ```
//!
//! *Why no wake is lost.* The fences (3) and (B) are totally ordered. If (3) comes first, the notifier's load (C) sees
//! the announcement (2), or a later clearing (D) of another notifier, whose (E) and (F) are still to come. If (B) comes
//! first, the look (4) sees the change. In the first case the bell moves after the waiter read it in (1): either the
//! sleep (5) finds that it differs, or the wake (F) reaches the sleeper.
//!
//! *Why clearing does not wipe out a newer announcement.* Who read the bell after (E) did so with Acquire, hence
//! announces after (D). Who read it before (E) does not sleep past (E), whatever became of the announcement.
//!
//! *If a notifier dies between (D) and (F)* others may find `waited` clear while somebody sleeps. Whoever reclaims it
//! rings unconditionally, and sleeps are bounded: that stall is at most a slice.

use crate::host::{Futex, WaitResult};
use crate::sync::{AtomicU32, Ordering, fence};

/// A word to sleep on, and whether somebody does. Any number of waiters and notifiers.
#[repr(C, align(64))]
pub struct EventCount {
    /// Counts the rings, wrapping. Changed by notifiers only. *Sequence*: its Release increments pair with the Acquire load
    /// in [`prepare_wait`](EventCount::prepare_wait).
    sequence: AtomicU32,
    /// 1: somebody may be about to sleep; 0: nobody. Set by waiters, cleared by notifiers, ordered by the fences and by
    /// *sequence*; hence Relaxed everywhere.
    has_waiters: AtomicU32,
}

/// Proof of an announcement, good for one sleep.
#[must_use]
pub struct Ticket {
    sequence: u32,
}

impl EventCount {
    /// An event nobody waits for; the same as zeroed memory.
    #[expect(
        clippy::new_without_default,
        reason = "shared types come from a cast of memory, or from a model"
    )]
    pub fn new() -> Self {
        Self { sequence: AtomicU32::new(0), has_waiters: AtomicU32::new(0) }
    }

    /// Announces that the caller may sleep. Afterwards it must look at the state again before it does.
    pub fn prepare_wait(&self) -> Ticket {
        // Acquire: the waiter's half of *sequence*: the announcement below comes after the clearing before that ring.
        let sequence = self.sequence.load(Ordering::Acquire);
        self.has_waiters.store(1, Ordering::Relaxed);
        fence(Ordering::SeqCst); // (3), against (B): announce, then look
        Ticket { sequence }
    }

    /// Sleeps until the next ring, a slice or the deadline.
    ///
    /// # Blocking
    /// At most one slice of the host's futex.
    pub fn wait<F: Futex>(&self, futex: &F, ticket: Ticket, deadline: Option<F::Deadline>) -> WaitResult {
        futex.wait(&self.sequence, ticket.sequence, deadline)
    }

    /// Takes the announcement back: for an event with a single waiter that found what it wanted without sleeping.
    pub fn cancel_wait(&self) {
        self.has_waiters.store(0, Ordering::Relaxed);
    }

    /// Whether somebody may sleep. Only a hint unless a `SeqCst` fence stands between the caller's change of the state
    /// and this call.
    pub fn has_waiters(&self) -> bool {
        self.has_waiters.load(Ordering::Relaxed) != 0
    }

    /// Tells the waiters, if there are any, of a change that the caller has made.
    pub fn notify<F: Futex>(&self, futex: &F) {
        fence(Ordering::SeqCst); // (B), against (3): change, then look for announcements
        if self.has_waiters() {
            self.notify_all(futex);
        }
    }

    /// Wakes all waiters, announced or not.
    pub fn notify_all<F: Futex>(&self, futex: &F) {
        self.has_waiters.store(0, Ordering::Relaxed);
        // Release: the notifier's half of *sequence*.
        self.sequence.fetch_add(1, Ordering::Release);
        futex.wake_all(&self.sequence);
    }
}
