//! What the host supplies: how to sleep, and who is dead.
//!
//! An algorithm cannot know either. On Linux the sleeping half is a futex and the dead are known by byte locks that the
//! kernel drops; on a microcontroller waiting is a spin or a "wait for event" instruction and nobody dies.

use crate::sync::{AtomicU32, Ordering, spin_loop};
use core::convert::Infallible;

/// Why a wait returned. None of these says that the word has changed: the word is the truth, the caller looks again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum WaitResult {
    /// Woken, or spuriously so, or the word differed from the start.
    Woken,
    /// A slice ended: time to ask who is dead, then to wait on.
    PollInterval,
    /// The caller's deadline passed.
    TimedOut,
    /// The host wants this wait to end (a signal arrived that asks the program to stop).
    Interrupted,
}

/// Waiting on a shared word.
///
/// The contract: comparing and going to sleep is one step with respect to wakes, so a wake that follows a change of the
/// word reaches everybody who went to sleep on the old value. Spurious returns are allowed. No memory ordering is
/// promised: callers bring their own. A sleep is bounded by a slice of at most 50 ms, for a wake is only a hint. A deadline
/// that has passed is told even if the word differs, so a peer that changes words all the time cannot hold a waiter.
/// Words in memory that several processes map need the shared kind of futex.
pub trait Futex {
    /// A point in time in the host's own terms. This crate only passes it on: it reads no clock.
    type Deadline: Copy;

    /// Lets a moment pass before the caller looks again: true; or says that it is time to sleep: false. `attempt` counts the
    /// caller's looks so far, from 0. For a given host it is true a bounded number of times in a row, and never after the
    /// deadline. Never true, the default, is right everywhere; looking again pays where the other side runs meanwhile. At 0
    /// it should answer at once, without giving the processor away: what the caller has announced may hold others up, until
    /// it knows whether to take it back.
    fn spin(&self, attempt: u32, deadline: Option<Self::Deadline>) -> bool {
        let _ = (attempt, deadline);
        false
    }

    /// Sleeps while `word` holds `expected`, at most until a slice or the deadline ends.
    fn wait(&self, word: &AtomicU32, expected: u32, deadline: Option<Self::Deadline>) -> WaitResult;

    /// Wakes all that sleep on `word`.
    fn wake_all(&self, word: &AtomicU32);
}

/// A [`Futex`] that also knows who is dead. "Cannot tell" counts as alive.
pub trait Host: Futex {
    /// Runs `reclaim` if the occupant of `seat` is surely dead, and only while nobody can sit down in that seat. Returns
    /// whether it ran.
    ///
    /// Others may reclaim the same seat at the same time. So a participant that is stopped in the middle of a reclamation holds
    /// up nobody, except that its host gives the seat to nobody until it goes on or dies.
    fn try_reclaim(&self, seat: u32, reclaim: impl FnOnce()) -> bool;

    /// Runs `round` unless another participant is making such a round just now: of all the waiters whose slice ends, one
    /// at a time asks for every seat. This only saves work. A participant that is stopped in the middle of its round must
    /// not keep the others from theirs for more than a few slices.
    fn try_sweep(&self, round: impl FnOnce());

    /// Whether the segment's owner (a ring's sender) is surely dead.
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
#[derive(Clone, Copy)]
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
    /// How often a wait compares the word before it returns [`WaitResult::PollInterval`].
    const LOOKS: u32 = 1000;
    /// How often a participant looks before it announces that it waits.
    const ATTEMPTS: u32 = 16;

    /// Returns a host that calls `relax` between two looks. `relax` may yield or halt the processor until the next event;
    /// it returns false once the deadline has passed.
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
