//! The parking protocol: how a waiter sleeps until a state changes, without losing a wake.
//!
//! An [`EventCount`] lies beside the state that a waiter waits for: a ring's tail, a cursor, a version. Neither side takes
//! a lock. A notifier pays one fence and one load when no waiter sleeps.
//!
//! ```text
//! waiter                                   notifier
//!   s = sequence                 (1)         change the state             (A)
//!   has_waiters = 1              (2)         fence                        (B)
//!   fence                        (3)         has_waiters == 0: done       (C)
//!   look at the state            (4)         has_waiters = 0              (D)
//!   unchanged: sleep on s        (5)         sequence += 1                (E)
//!                                            wake all                     (F)
//! ```
//!
//! *Why no wake is lost.* The two fences have a total order.
//! - If (3) comes first, load (C) sees the announcement (2), or a later clearing (D) by another notifier, whose (E) and (F)
//!   still follow. So the sequence changes after the waiter read it in (1). Either the sleep (5) finds that the word
//!   differs and returns, or the wake (F) reaches the sleeper.
//! - If (B) comes first, the look (4) sees the change, and the waiter does not sleep.
//!
//! *Why (D) does not wipe out a newer announcement.* A waiter that read the sequence after (E) did so with Acquire, so it
//! announces itself after (D). A waiter that read it before (E) does not sleep past (E), with or without an announcement.
//!
//! *If a notifier dies between (D) and (F),* other notifiers may find `has_waiters` clear while a waiter sleeps. The
//! participant that reclaims the dead one notifies unconditionally, and each sleep ends after one poll interval at most.

use crate::host::{Futex, WaitResult};
use crate::sync::{AtomicU32, Ordering, fence};

/// A word to sleep on, and a mark that says whether a waiter may sleep. Any number of waiters and notifiers may share
/// it.
#[repr(C, align(64))]
#[derive(Debug)]
pub struct EventCount {
    /// Counts the notifications, wrapping. Only notifiers change it. *Sequence*: Release increments pair with the Acquire load
    /// in [`prepare_wait`](EventCount::prepare_wait).
    sequence: AtomicU32,
    /// 1 if a waiter may be about to sleep. Waiters set it and notifiers clear it. Relaxed everywhere, because the fences
    /// and *sequence* order it.
    has_waiters: AtomicU32,
}

/// Proof of an announcement, good for one sleep.
#[must_use]
#[derive(Debug)]
pub struct Ticket {
    sequence: u32,
}

impl EventCount {
    /// Returns an event count without waiters, which is zeroed memory.
    #[expect(
        clippy::new_without_default,
        reason = "shared types come from a cast of memory, or from a model"
    )]
    pub fn new() -> Self {
        Self { sequence: AtomicU32::new(0), has_waiters: AtomicU32::new(0) }
    }

    /// Announces that the caller may sleep, and returns a ticket for one sleep. The caller must look at the state again before
    /// it sleeps.
    pub fn prepare_wait(&self) -> Ticket {
        // Acquire: the waiter's half of *sequence*. It puts the announcement below after the clearing that precedes
        // that notification.
        let sequence = self.sequence.load(Ordering::Acquire);
        self.has_waiters.store(1, Ordering::Relaxed);
        fence(Ordering::SeqCst); // (3), against (B): announce, then look
        Ticket { sequence }
    }

    /// Sleeps until the next notification, the end of a poll interval, or the deadline. Returns which of them ended the
    /// sleep.
    ///
    /// # Blocking
    /// Waits at most one poll interval of the host.
    pub fn wait<F: Futex>(&self, futex: &F, ticket: Ticket, deadline: Option<F::Deadline>) -> WaitResult {
        futex.wait(&self.sequence, ticket.sequence, deadline)
    }

    /// Takes the announcement back. Meant for an event count with a single waiter that found a change without sleeping.
    pub fn cancel_wait(&self) {
        self.has_waiters.store(0, Ordering::Relaxed);
    }

    /// Returns whether a waiter may sleep. Only a hint unless a `SeqCst` fence stands between the caller's change of the state
    /// and this call.
    pub fn has_waiters(&self) -> bool {
        self.has_waiters.load(Ordering::Relaxed) != 0
    }

    /// Wakes the waiters, if there are any, after the caller has changed the state.
    pub fn notify<F: Futex>(&self, futex: &F) {
        fence(Ordering::SeqCst); // (B), against (3): change, then look for announcements
        if self.has_waiters() {
            self.notify_all(futex);
        }
    }

    /// Wakes all waiters, including a waiter whose announcement has been cleared.
    pub fn notify_all<F: Futex>(&self, futex: &F) {
        self.has_waiters.store(0, Ordering::Relaxed);
        // Release: the notifier's half of *sequence*.
        self.sequence.fetch_add(1, Ordering::Release);
        futex.wake_all(&self.sequence);
    }
}
