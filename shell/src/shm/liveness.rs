//! Detects dead processes with byte locks that the kernel drops.
//!
//! Each participant holds an exclusive lock on its seat's byte of the segment's control object. It locks the byte through an open
//! file description of its own. The kernel drops the lock when the last descriptor of that description is closed. If a process is
//! killed, the kernel first removes the process's mappings. So a free byte means that its last holder does not write the mapping
//! again. A stopped, slow or traced process keeps its lock. If the kernel does not tell, the process counts as alive.
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
//! | 2048 to 3071 | processes that reclaim that seat (shared), or a newcomer that occupies it (exclusive) |
//! | 3072 to 4095 | a newcomer that checks whether that seat is free |
//!
//! *Reclaiming and sitting down.* A reclaimer takes the seat's reclamation byte, shared, then asks whether the seat's byte is free: then
//! the occupant is dead. So several may reclaim at once, and one that is stopped in the middle keeps nobody from reclaiming. A
//! newcomer takes the newcomer's byte, and goes on only if the seat is free: from then on it stays free, so a newcomer that
//! is stopped here holds up nobody. It takes the reclamation byte, exclusively, then the seat's byte, sits down, and gives back all
//! but the seat's byte. So nobody sits down in a seat for which a reclaimer may still act, and a reclaimer that comes later finds
//! the seat's byte held. The threads of one process ask through one description, which the kernel takes for one holder: a
//! mutex lets one of them reclaim at a time.
//!
//! *The sweeper.* Waiters that ask for every seat take turns, because with a thousand of them all asking takes long. The byte
//! for this changes every 100 ms, so a sweeper that is stopped with a byte in its hand keeps the others from asking for
//! one period at a time, one in sixteen.

use crate::os::ofd_lock::ByteLocks;
use rustix::io::Errno;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, TryLockError};
use whorl_core::host::{Futex, Host, WaitResult};
use whorl_core::layout::MAX_SEATS;
use whorl_core::sync::AtomicU32;

use crate::os::futex::{Backoff, MAX_YIELDS, SharedFutex};
use std::time::{Duration, Instant};

/// The byte that a segment's owner holds.
pub const OWNER: u32 = MAX_SEATS;
/// The first of the bytes that the sweeper holds, each in its period.
pub const SWEEPER: u32 = MAX_SEATS + 1;
/// How many there are.
const SWEEPERS: u32 = 16;
/// How long one of them is the sweeper's.
const PERIOD: Duration = Duration::from_millis(100);
/// The reclamation byte of seat 0; those of the other seats follow.
pub const RECLAIM: u32 = 2 * MAX_SEATS;

/// The newcomer's byte of seat 0; those of the other seats follow.
const NEWCOMER: u32 = 3 * MAX_SEATS;

const _: () = assert!(SWEEPER + SWEEPERS <= RECLAIM);

impl ByteLocks {
    /// Takes a seat's byte and lets `sit` sit down in the seat. Keeps the byte if that returned something. `None` if the
    /// seat is not free, or if a reclaimer may still act for its last occupant. Does not wait.
    ///
    /// # Errors
    /// What the kernel said.
    pub fn occupy<T>(
        &self,
        seat: u32,
        is_free: impl Fn() -> bool,
        sit: impl FnOnce() -> Option<T>,
    ) -> Result<Option<T>, Errno> {
        if !is_free() {
            return Ok(None);
        }
        self.while_holding(NEWCOMER + seat, || {
            // Again: from here on nobody else sits down.
            if !is_free() {
                return Ok(None);
            }
            self.while_holding(RECLAIM + seat, || {
                if !self.try_lock(seat)? {
                    return Ok(None);
                }
                let sat = sit();
                if sat.is_none() {
                    self.unlock(seat);
                }
                Ok(sat)
            })
        })
    }
}

/// How a participant judges whether the segment's owner is dead.
#[derive(Clone, Copy, Debug)]
pub enum Owner {
    /// This process.
    ThisProcess,
    /// The process that forked this one. The kernel gives a dead process's children another parent.
    Parent(rustix::process::Pid),
    /// LockHolder holds the [`OWNER`] byte.
    LockHolder,
}

/// The host of everything that lies in a mapping: the shared futex, and byte locks for who is dead.
#[derive(Clone, Debug)]
pub struct SharedHost {
    asking: Arc<Asking>,
    owner: Owner,
    hooks: Arc<Hooks>,
    yields: u32,
}

/// What the threads of this process ask through, one at a time: the kernel takes them for one holder of a byte.
#[derive(Debug)]
struct Asking {
    locks: ByteLocks,
    reclamation: Mutex<()>,
    round: Mutex<()>,
}

/// What a process hangs on its waits and wakes of one ring.
#[derive(Default)]
pub struct Hooks {
    /// Orders nothing: who sets it rings the events afterwards.
    stopped: AtomicBool,
    on_wake: OnceLock<Box<dyn Fn() + Send + Sync>>,
}

impl Hooks {
    /// From now on this process's waits on the ring are interrupted. Those that sleep already must be rung.
    pub fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
    }

    /// Whether they are.
    pub fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }

    /// Calls `tell` whenever this process wakes all who sleep on a word of the ring, for those that sleep elsewhere. Only
    /// the first call counts.
    pub fn on_wake(&self, tell: impl Fn() + Send + Sync + 'static) {
        let _ = self.on_wake.set(Box::new(tell));
    }
}

impl fmt::Debug for Hooks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hooks").field("stopped", &self.is_stopped()).finish_non_exhaustive()
    }
}

impl SharedHost {
    /// A host that asks through `locks`, a description through which no seat is held.
    pub fn new(locks: ByteLocks, owner: Owner) -> Self {
        let asking = Arc::new(Asking { locks, reclamation: Mutex::default(), round: Mutex::default() });
        Self { asking, owner, hooks: Arc::default(), yields: MAX_YIELDS }
    }

    /// The same, whose waiters yield so many times before they sleep.
    #[must_use]
    pub fn with_yields(self, yields: u32) -> Self {
        Self { yields, ..self }
    }

    /// What hangs on this process's waits and wakes.
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
        if let Some(tell) = self.hooks.on_wake.get() {
            tell();
        }
    }
}

impl Host for SharedHost {
    fn try_reclaim(&self, seat: u32, reclaim: impl FnOnce()) -> bool {
        let Asking { locks, reclamation, .. } = &*self.asking;
        // First without the reclamation byte: nearly always the answer is that the occupant lives.
        if locks.is_held(seat) {
            return false;
        }
        let _one_of_us = reclamation.lock().unwrap_or_else(PoisonError::into_inner);
        if locks.try_share(RECLAIM + seat) != Ok(true) {
            return false; // somebody sits down just now
        }
        let dead = !locks.is_held(seat);
        if dead {
            reclaim();
        }
        locks.unlock(RECLAIM + seat);
        dead
    }

    fn try_sweep(&self, round: impl FnOnce()) {
        let Asking { locks, round: rounds, .. } = &*self.asking;
        let _one_of_us = match rounds.try_lock() {
            Ok(guard) => guard,
            Err(TryLockError::Poisoned(guard)) => guard.into_inner(),
            Err(TryLockError::WouldBlock) => return,
        };
        let byte = SWEEPER + period();
        if locks.try_lock(byte) == Ok(true) {
            round();
            locks.unlock(byte);
        }
    }

    fn owner_is_dead(&self) -> bool {
        match self.owner {
            Owner::ThisProcess => false,
            Owner::Parent(parent) => rustix::process::getppid() != Some(parent),
            Owner::LockHolder => !self.asking.locks.is_held(OWNER),
        }
    }
}

/// Which of the sweeper's bytes this moment belongs to. All processes have the same clock; where one has another, two may
/// ask at once, which is only more work.
fn period() -> u32 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    let now = Duration::try_from(now).unwrap_or_default();
    (now.as_millis() / PERIOD.as_millis() % u128::from(SWEEPERS)) as u32
}
