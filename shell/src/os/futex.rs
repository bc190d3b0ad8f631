//! The two hosts' waiting: for words that several processes map, and for words of one process.
//!
//! A futex between processes must be the shared kind. With the private flag a wake reaches no waiter in another
//! process, and no call reports that. So no caller picks a futex by hand. Each kind of memory names its own in
//! [`Parts::Host`](whorl_core::ring::Parts::Host): a mapping names [`SharedFutex`], a heap [`ThreadFutex`].

use crate::os::signal::stop_signal;
use crate::os::timeout;
use rustix::io::Errno;
use rustix::thread::futex::{self, Flags};
use std::cell::Cell;
use std::time::{Duration, Instant};
use whorl_core::host::{Futex, WaitResult};
use whorl_core::sync::AtomicU32;

/// The longest sleep before the waiter checks again. It bounds the time until a waiter notices a change without a wake.
pub const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// How often a waiter yields and checks again before it sleeps. Sleeping and waking up cost both sides some
/// microseconds, and tens of them if the processor has gone idle. A yield costs a fraction of one, and lets other
/// threads work.
pub const MAX_YIELDS: u32 = 100;

/// How often a waiter yields if the other side works for long, as on blocks of a file. Measured: more yields only cost
/// time.
pub const FEW_YIELDS: u32 = 8;

/// The longest backoff in all, however long each yield takes. On a busy machine a yield takes long, and only a waiter
/// that sleeps checks for dead processes in time.
const MAX_BACKOFF: Duration = Duration::from_millis(2);

/// How a waiter backs off before it sleeps.
#[derive(Debug)]
pub struct Backoff {
    /// The waiter yields at most this often.
    pub max_yields: u32,
}

impl Backoff {
    /// Backs off before sleeping. Returns `true` if the caller should check again, or `false` if it should sleep.
    /// Attempt 0 returns without yielding. The result is `false` after `max_yields` attempts, after 2 ms in all, and
    /// after the deadline.
    pub fn spin(&self, attempt: u32, deadline: Option<Instant>) -> bool {
        thread_local!(static BEGAN: Cell<Option<Instant>> = const { Cell::new(None) });
        if attempt >= self.max_yields {
            return false;
        }
        let now = Instant::now();
        if deadline.is_some_and(|deadline| now >= deadline) {
            return false;
        }
        if attempt == 0 {
            BEGAN.set(Some(now));
            return true;
        }
        let may_yield = BEGAN.get().is_none_or(|began| now.saturating_duration_since(began) < MAX_BACKOFF);
        if may_yield {
            std::thread::yield_now();
        }
        may_yield
    }
}

/// The futex for words that several processes map.
#[derive(Clone, Copy, Debug, Default)]
pub struct SharedFutex;

impl Futex for SharedFutex {
    type Deadline = Instant;

    fn spin(&self, attempt: u32, deadline: Option<Instant>) -> bool {
        Backoff { max_yields: MAX_YIELDS }.spin(attempt, deadline)
    }

    fn wait(&self, word: &AtomicU32, expected: u32, deadline: Option<Instant>) -> WaitResult {
        if stop_signal().is_some() {
            return WaitResult::Interrupted;
        }
        let (nap, last) = match deadline.map(|at| at.saturating_duration_since(Instant::now())) {
            // This comes before the comparison, because a peer that changes the word all the time must not delay the
            // caller.
            Some(Duration::ZERO) => return WaitResult::TimedOut,
            Some(left) if left <= POLL_INTERVAL => (left, true),
            _ => (POLL_INTERVAL, false),
        };
        match futex::wait(word, Flags::empty(), expected, Some(&timeout::timespec(nap))) {
            Err(Errno::TIMEDOUT) if last => WaitResult::TimedOut,
            Err(Errno::TIMEDOUT) => WaitResult::PollInterval,
            Err(Errno::INTR) if stop_signal().is_some() => WaitResult::Interrupted,
            _ => WaitResult::Woken,
        }
    }

    fn wake_all(&self, word: &AtomicU32) {
        let _ = futex::wake(word, Flags::empty(), i32::MAX as u32);
    }
}

/// The futex for words of one process. It has no poll interval, because threads die together with their process, so
/// there are no dead participants to check for.
#[derive(Clone, Copy, Debug, Default)]
pub struct ThreadFutex;

impl Futex for ThreadFutex {
    type Deadline = Instant;

    fn spin(&self, attempt: u32, deadline: Option<Instant>) -> bool {
        Backoff { max_yields: MAX_YIELDS }.spin(attempt, deadline)
    }

    fn wait(&self, word: &AtomicU32, expected: u32, deadline: Option<Instant>) -> WaitResult {
        let Some(deadline) = deadline else {
            atomic_wait::wait(word, expected);
            return WaitResult::Woken;
        };
        if Instant::now() >= deadline {
            return WaitResult::TimedOut;
        }
        // atomic-wait has no timed wait. This is the same private futex with a timeout.
        let (left, is_last) = timeout::until(deadline);
        match futex::wait(word, Flags::PRIVATE, expected, Some(&left)) {
            Err(Errno::TIMEDOUT) if is_last => WaitResult::TimedOut,
            _ => WaitResult::Woken,
        }
    }

    fn wake_all(&self, word: &AtomicU32) {
        atomic_wait::wake_all(word);
    }
}
