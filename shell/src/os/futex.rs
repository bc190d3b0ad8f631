//! Core's waiting, twice: for words that several processes map, and for words of one process.
//!
//! A futex between processes must be the shared kind: with the private flag a wake reaches nobody in another process,
//! and nothing reports it. So nobody picks a futex by hand. Each kind of memory names its own in
//! [`Parts::Host`](whorl_core::ring::Parts::Host): a mapping names [`SharedFutex`], a heap [`ThreadFutex`].

use crate::os::signal::stop_signal;
use crate::os::timeout;
use rustix::io::Errno;
use rustix::thread::futex::{self, Flags};
use std::cell::Cell;
use std::time::{Duration, Instant};
use whorl_core::host::{Futex, Wake};
use whorl_core::sync::AtomicU32;

/// The longest sleep before the waiter looks around: the bound on noticing what no wake told.
pub const SLICE: Duration = Duration::from_millis(50);

/// How often a waiter lets others run and looks again, before it sleeps. To sleep and be woken costs both sides some
/// microseconds, and tens of them where the processor has gone idle meanwhile; a yield costs a fraction of one, and where
/// there is work to do it is done meanwhile.
pub const YIELDS: u32 = 100;

/// The same where others work for long on what is waited for, as on blocks of a file: measured, more yields only cost time.
pub const FEW_YIELDS: u32 = 8;

/// No longer than this in all, however long each yield takes: with many others to run they take long, and only who sleeps
/// looks for the dead in time.
const LINGER: Duration = Duration::from_millis(2);

/// Backs off before sleeping. Returns true if the caller should look again, or false if it should sleep. Attempt 0 returns
/// without yielding. The answer is false after `yields` attempts, after 2 ms in all, and once the deadline has passed.
pub fn linger(looks: u32, yields: u32, deadline: Option<Instant>) -> bool {
    thread_local!(static BEGAN: Cell<Option<Instant>> = const { Cell::new(None) });
    if looks >= yields {
        return false;
    }
    let now = Instant::now();
    if deadline.is_some_and(|deadline| now >= deadline) {
        return false;
    }
    if looks == 0 {
        BEGAN.set(Some(now));
        return true;
    }
    let lingers = BEGAN.get().is_none_or(|began| now.saturating_duration_since(began) < LINGER);
    if lingers {
        std::thread::yield_now();
    }
    lingers
}

/// The futex for words that several processes map.
#[derive(Clone, Copy, Debug, Default)]
pub struct SharedFutex;

impl Futex for SharedFutex {
    type Deadline = Instant;

    fn spin(&self, looks: u32, deadline: Option<Instant>) -> bool {
        linger(looks, YIELDS, deadline)
    }

    fn wait(&self, word: &AtomicU32, expected: u32, deadline: Option<Instant>) -> Wake {
        if stop_signal().is_some() {
            return Wake::Interrupted;
        }
        let (nap, last) = match deadline.map(|at| at.saturating_duration_since(Instant::now())) {
            // Before the word is compared: a peer that changes it all the time must not hold the caller.
            Some(Duration::ZERO) => return Wake::TimedOut,
            Some(left) if left <= SLICE => (left, true),
            _ => (SLICE, false),
        };
        match futex::wait(word, Flags::empty(), expected, Some(&timeout::timespec(nap))) {
            Err(Errno::TIMEDOUT) if last => Wake::TimedOut,
            Err(Errno::TIMEDOUT) => Wake::Slice,
            Err(Errno::INTR) if stop_signal().is_some() => Wake::Interrupted,
            _ => Wake::Woken,
        }
    }

    fn wake_one(&self, word: &AtomicU32) {
        // The only possible failure is a bad address, and a reference is none.
        let _ = futex::wake(word, Flags::empty(), 1);
    }

    fn wake_all(&self, word: &AtomicU32) {
        let _ = futex::wake(word, Flags::empty(), i32::MAX as u32);
    }
}

/// The futex for words that live in one process. No slices: threads die together with their process, so there is nobody
/// to look for.
#[derive(Clone, Copy, Debug, Default)]
pub struct ThreadFutex;

impl Futex for ThreadFutex {
    type Deadline = Instant;

    fn spin(&self, looks: u32, deadline: Option<Instant>) -> bool {
        linger(looks, YIELDS, deadline)
    }

    fn wait(&self, word: &AtomicU32, expected: u32, deadline: Option<Instant>) -> Wake {
        let Some(deadline) = deadline else {
            atomic_wait::wait(word, expected);
            return Wake::Woken;
        };
        if Instant::now() >= deadline {
            return Wake::TimedOut;
        }
        // atomic-wait has no timed wait; this is the same private futex with one.
        let (left, is_last) = timeout::until(deadline);
        match futex::wait(word, Flags::PRIVATE, expected, Some(&left)) {
            Err(Errno::TIMEDOUT) if is_last => Wake::TimedOut,
            _ => Wake::Woken,
        }
    }

    fn wake_one(&self, word: &AtomicU32) {
        atomic_wait::wake_one(word);
    }

    fn wake_all(&self, word: &AtomicU32) {
        atomic_wait::wake_all(word);
    }
}
