//! What an embedder supplies: how to wait on a word, and which participants are dead.
//!
//! No algorithm can know either. On Linux a host sleeps on a futex, and the byte locks that the kernel drops tell it
//! which participants died. On a microcontroller a host spins or waits for an event, and no participant dies: see
//! [`SpinHost`].

use crate::sync::{AtomicU32, Ordering, spin_loop};
use core::convert::Infallible;

/// Why a wait returned. No value says that the word has changed: the caller looks at the word again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum WaitResult {
    /// A wake arrived, the word differed from the start, or the wait ended spuriously.
    Woken,
    /// A poll interval ended. The caller asks which participants are dead, then waits again.
    PollInterval,
    /// The caller's deadline has passed.
    TimedOut,
    /// The host wants this wait to end (a signal arrived that asks the program to stop).
    Interrupted,
}

/// Waiting on a shared word.
///
/// - Comparing and going to sleep is one atomic step with respect to wakes. A wake that follows a change of the word
///   reaches each waiter that went to sleep on the old value.
/// - Spurious returns are allowed.
/// - No memory ordering is promised: callers bring their own.
/// - A sleep lasts one poll interval of at most 50 ms, because a wake is only a hint.
/// - Once the deadline has passed, a wait returns [`WaitResult::TimedOut`] even if the word differs. So a peer that
///   keeps changing words cannot hold a waiter.
/// - Words in memory that several processes map need the shared kind of futex.
pub trait Futex {
    /// A point in time in the host's own terms. This crate only passes it on: it reads no clock.
    type Deadline: Copy;

    /// Backs off before sleeping. Returns true if the caller should look again, or false if it should sleep.
    ///
    /// `attempt` counts the caller's looks from 0. Attempt 0 should return without yielding, because the caller's
    /// announcement may hold up other participants. A host returns true a bounded number of times in a row, and never
    /// after the deadline. The default always returns false, which is correct everywhere. Returning true pays where the
    /// other side runs meanwhile.
    fn spin(&self, attempt: u32, deadline: Option<Self::Deadline>) -> bool {
        let _ = (attempt, deadline);
        false
    }

    /// Sleeps while `word` holds `expected`, and returns why it woke. It sleeps at most until the poll interval or the
    /// deadline ends.
    fn wait(&self, word: &AtomicU32, expected: u32, deadline: Option<Self::Deadline>) -> WaitResult;

    /// Wakes all waiters that sleep on `word`.
    fn wake_all(&self, word: &AtomicU32);
}

/// A [`Futex`] that also knows which participants are dead. A host that does not know reports that they are alive.
pub trait Host: Futex {
    /// Runs `reclaim` if the occupant of `seat` is surely dead, and only while no participant can occupy that seat.
    /// Returns whether it ran.
    ///
    /// Several callers may reclaim one seat at the same time. A caller that is stopped inside `reclaim` holds up no
    /// other caller. Only the seat stays empty, until that caller continues or dies.
    fn try_reclaim(&self, seat: u32, reclaim: impl FnOnce()) -> bool;

    /// Runs `round` unless another participant is inside its own round. So only one waiter at a time looks at every
    /// seat after a poll interval, which saves work. A participant that is stopped inside its round must not hold up
    /// the rounds of others for more than a few poll intervals.
    fn try_sweep(&self, round: impl FnOnce());

    /// Returns whether the segment's owner (a ring's sender) is surely dead.
    fn owner_is_dead(&self) -> bool;
}

/// A [`Host`] that spins, for memory in which no participant dies: threads, cores, or interrupt handlers.
///
/// ```
/// use std::time::Instant;
/// use whorl_core::host::SpinHost;
///
/// let without_clock = SpinHost::new();
/// let with_clock = SpinHost::with_clock(|deadline: Option<Instant>| {
///     std::thread::yield_now();
///     deadline.is_none_or(|deadline| Instant::now() < deadline)
/// });
/// ```
#[derive(Clone, Copy, Debug)]
pub struct SpinHost<D = Infallible> {
    relax: fn(Option<D>) -> bool,
}

impl SpinHost {
    /// Returns a host whose waits have no deadline.
    pub const fn new() -> Self {
        Self::with_clock(|_| {
            spin_loop();
            true
        })
    }
}

impl Default for SpinHost {
    fn default() -> Self {
        Self::new()
    }
}

impl<D> SpinHost<D> {
    /// The number of times that a wait compares the word before it returns [`WaitResult::PollInterval`].
    const LOOKS: u32 = 1000;
    /// The number of times that a participant looks before it announces that it waits.
    const ATTEMPTS: u32 = 16;

    /// Returns a host that calls `relax` between two looks. `relax` may yield, or halt the processor until the next
    /// event. It returns false once the deadline has passed.
    pub const fn with_clock(relax: fn(Option<D>) -> bool) -> Self {
        Self { relax }
    }
}

impl<D: Copy> Futex for SpinHost<D> {
    type Deadline = D;

    fn spin(&self, attempt: u32, deadline: Option<D>) -> bool {
        attempt < Self::ATTEMPTS && (self.relax)(deadline)
    }

    fn wait(&self, word: &AtomicU32, expected: u32, deadline: Option<D>) -> WaitResult {
        for _ in 0..Self::LOOKS {
            if !(self.relax)(deadline) {
                return WaitResult::TimedOut;
            }
            // Relaxed: callers bring their own ordering.
            if word.load(Ordering::Relaxed) != expected {
                return WaitResult::Woken;
            }
        }
        WaitResult::PollInterval
    }

    fn wake_all(&self, _: &AtomicU32) {}
}

impl<D: Copy> Host for SpinHost<D> {
    fn try_reclaim(&self, _: u32, _: impl FnOnce()) -> bool {
        false
    }

    fn try_sweep(&self, _: impl FnOnce()) {}

    fn owner_is_dead(&self) -> bool {
        false
    }
}
