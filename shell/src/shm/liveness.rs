//! Detects dead processes with byte locks that the kernel drops.
//!
//! Each participant holds an exclusive lock on its seat's byte of the segment's control object. It locks the byte through an open
//! file description of its own. The kernel drops the lock when the last descriptor of that description is closed. If a process is
//! killed, the kernel first removes the process's mappings. So a free byte means that its last holder does not write the mapping
//! again. A stopped, slow or traced process keeps its lock. If the kernel does not report it, the process counts as alive.
//!
//! A forked child inherits open file descriptions together with their locks. So each participant opens a new description after it
//! was forked, and never locks through a shared one. A forked child inherits none of these descriptions
//! ([`CloseOnForkFd`](crate::os::close_on_fork::CloseOnForkFd)).
//!
//! | byte | held by |
//! |---|---|
//! | 0 to 1023 | the occupant of that seat |
//! | 1024 | the owner: a ring's sender |
//! | 1025 to 1040 | the sweeper: the waiter that checks all seats in this period |
//! | 2048 to 3071 | processes that reclaim that seat (shared), or a joining process that occupies it (exclusive) |
//! | 3072 to 4095 | a joining process that checks whether that seat is free |
//!
//! # Reclaiming a seat
//!
//! 1. A reclaimer takes the seat's reclamation byte, shared.
//! 2. It checks the seat's byte. If that byte is free, the occupant is dead.
//!
//! Several processes can reclaim at once, and a reclaimer that is stopped in between does not block the others.
//!
//! # Occupying a seat
//!
//! 1. A joining process takes the seat's joining byte, and continues only if the seat is free. From here on no other joining process can
//!    occupy the seat. A joining process that is stopped here delays no process that uses a seat.
//! 2. It takes the seat's reclamation byte, exclusively, then the seat's byte.
//! 3. It occupies the seat, and unlocks all but the seat's byte.
//!
//! So a joining process cannot occupy a seat for which a reclaimer may still act. A reclaimer that comes later finds the seat's byte
//! held. The threads of one process use one description, which the kernel treats as one holder. So a mutex lets only one of them
//! reclaim at a time.
//!
//! # The sweeper
//!
//! Waiters that check all seats take turns, because a thousand checks in each of a thousand waiters take long. The sweeper's byte
//! changes every 100 ms. So a sweeper that is stopped while it holds a byte blocks the others in one of sixteen periods only.

use crate::os::futex::{Backoff, MAX_YIELDS, SharedFutex};
use crate::os::ofd_lock::ByteLocks;
use crate::os::thread::unpoisoned;
use rustix::io::Errno;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, TryLockError};
use std::time::{Duration, Instant};
use whorl_core::host::{Futex, Host, WaitResult};
use whorl_core::layout::MAX_SEATS;
use whorl_core::sync::AtomicU32;

/// The byte that a segment's owner holds.
pub const OWNER: u32 = MAX_SEATS;
/// The first of the sweeper's bytes. Each belongs to one period.
const SWEEPER: u32 = MAX_SEATS + 1;
/// The number of the sweeper's bytes.
const SWEEPER_BYTES: u32 = 16;
/// How long each of the sweeper's bytes is in use.
const SWEEPER_PERIOD: Duration = Duration::from_millis(100);
/// The reclamation byte of seat 0. The bytes of the other seats follow.
const RECLAIM: u32 = 2 * MAX_SEATS;
/// The joining byte of seat 0. The bytes of the other seats follow.
const JOINING: u32 = 3 * MAX_SEATS;

const _: () = assert!(SWEEPER + SWEEPER_BYTES <= RECLAIM);

impl ByteLocks {
    /// Takes a seat's byte, then lets `try_occupy` occupy the seat, and returns its result. Keeps the byte only if that is `Some`.
    ///
    /// Returns `None` if the seat is not free, or if a reclaimer may still act for its last occupant. Does not wait.
    ///
    /// # Errors
    /// The kernel's error.
    pub fn occupy<T>(
        &self,
        seat: u32,
        is_free: impl Fn() -> bool,
        try_occupy: impl FnOnce() -> Option<T>,
    ) -> Result<Option<T>, Errno> {
        if !is_free() {
            return Ok(None);
        }
        self.while_holding(JOINING + seat, || {
            // From here on no other joining process can occupy the seat. One may have done so since the first check.
            if !is_free() {
                return Ok(None);
            }
            self.while_holding(RECLAIM + seat, || {
                if !self.try_lock(seat)? {
                    return Ok(None);
                }
                let occupied = try_occupy();
                if occupied.is_none() {
                    self.unlock(seat);
                }
                Ok(occupied)
            })
        })
    }
}

/// The owner of a segment, and so the way in which a participant checks whether the owner is dead.
#[derive(Clone, Copy, Debug)]
pub enum Owner {
    /// This process.
    ThisProcess,
    /// The process that forked this one. When it dies, the kernel gives this process another parent.
    Parent(rustix::process::Pid),
    /// The process that holds the [`OWNER`] byte.
    LockHolder,
}

/// The host of the algorithms in a shared mapping. It waits with the shared futex, and detects dead processes with byte locks.
#[derive(Clone, Debug)]
pub struct SharedHost {
    probe: Arc<Probe>,
    owner: Owner,
    hooks: Arc<Hooks>,
    yields: u32,
}

/// The description through which the threads of this process check the bytes of others. The kernel treats the threads as one
/// holder, so the mutexes let one thread at a time use it.
#[derive(Debug)]
struct Probe {
    locks: ByteLocks,
    reclaiming: Mutex<()>,
    sweeping: Mutex<()>,
}

/// What a process adds to its own waits and wakes of one ring.
#[derive(Default)]
pub struct Hooks {
    /// Accesses are relaxed, because the thread that sets it notifies the ring's events afterwards.
    stopped: AtomicBool,
    on_wake: OnceLock<Box<dyn Fn() + Send + Sync>>,
}

impl Hooks {
    /// Interrupts this process's later waits on the ring. The caller must notify the threads that already sleep.
    pub fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
    }

    /// Returns whether [`stop`](Self::stop) was called.
    pub fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }

    /// Calls `notify` whenever this process wakes all sleepers on a word of the ring. So `notify` can wake waiters that sleep in
    /// another way. Only the first call of this function has an effect.
    pub fn on_wake(&self, notify: impl Fn() + Send + Sync + 'static) {
        let _ = self.on_wake.set(Box::new(notify));
    }
}

impl fmt::Debug for Hooks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hooks").field("stopped", &self.is_stopped()).finish_non_exhaustive()
    }
}

impl SharedHost {
    /// Returns a host that checks bytes through `locks`. No seat's byte may be held through that description.
    pub fn new(locks: ByteLocks, owner: Owner) -> Self {
        let probe = Arc::new(Probe { locks, reclaiming: Mutex::default(), sweeping: Mutex::default() });
        Self { probe, owner, hooks: Arc::default(), yields: MAX_YIELDS }
    }

    /// Sets how many times a waiter yields before it sleeps.
    #[must_use]
    pub fn with_yields(self, yields: u32) -> Self {
        Self { yields, ..self }
    }

    /// Returns the hooks of this process's waits and wakes.
    pub fn hooks(&self) -> &Arc<Hooks> {
        &self.hooks
    }
}

impl Futex for SharedHost {
    type Deadline = Instant;

    fn spin(&self, attempt: u32, deadline: Option<Instant>) -> bool {
        Backoff { max_yields: self.yields }.spin(attempt, deadline)
    }

    fn wait(&self, word: &AtomicU32, expected: u32, deadline: Option<Instant>) -> WaitResult {
        match self.hooks.is_stopped() {
            true => WaitResult::Interrupted,
            false => SharedFutex.wait(word, expected, deadline),
        }
    }
    fn wake_all(&self, word: &AtomicU32) {
        SharedFutex.wake_all(word);
        if let Some(notify) = self.hooks.on_wake.get() {
            notify();
        }
    }
}

impl Host for SharedHost {
    fn try_reclaim(&self, seat: u32, reclaim: impl FnOnce()) -> bool {
        let Probe { locks, reclaiming, .. } = &*self.probe;
        // Nearly always the occupant lives, and this check without the reclamation byte is enough.
        if locks.is_held(seat) {
            return false;
        }
        let _guard = unpoisoned(reclaiming);
        if locks.try_share(RECLAIM + seat) != Ok(true) {
            return false; // a joining process is occupying the seat
        }
        let is_dead = !locks.is_held(seat);
        if is_dead {
            reclaim();
        }
        locks.unlock(RECLAIM + seat);
        is_dead
    }

    fn try_sweep(&self, sweep: impl FnOnce()) {
        let Probe { locks, sweeping, .. } = &*self.probe;
        let _guard = match sweeping.try_lock() {
            Ok(guard) => guard,
            Err(TryLockError::Poisoned(guard)) => guard.into_inner(),
            Err(TryLockError::WouldBlock) => return,
        };
        let byte = SWEEPER + sweeper_period();
        if locks.try_lock(byte) == Ok(true) {
            sweep();
            locks.unlock(byte);
        }
    }

    fn owner_is_dead(&self) -> bool {
        match self.owner {
            Owner::ThisProcess => false,
            Owner::Parent(parent) => rustix::process::getppid() != Some(parent),
            Owner::LockHolder => !self.probe.locks.is_held(OWNER),
        }
    }
}

/// Returns the number of the sweeper's byte that is in use now.
///
/// All processes read the same clock, except in another time namespace. Then two processes may sweep at once, which only costs
/// time.
fn sweeper_period() -> u32 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    let now = Duration::try_from(now).unwrap_or_default();
    (now.as_millis() / SWEEPER_PERIOD.as_millis() % u128::from(SWEEPER_BYTES)) as u32
}
