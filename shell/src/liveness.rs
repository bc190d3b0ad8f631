//! Who is dead: byte locks that the kernel drops.
//!
//! Each participant holds a write lock on its seat's byte of the segment's control object, through an open file
//! description of its own. The kernel drops the lock when the last copy of that description closes, which for a process
//! that is killed happens after its memory is gone: a free byte means "will not write the mapping again". A stopped, slow
//! or traced process keeps its lock. Whatever cannot be told counts as alive.
//!
//! Open-file-description locks are inherited by fork, together with the description. So each participant opens a fresh
//! one, after it was forked, and never locks through one that it shares; and a forked child closes its copies at once
//! ([`Unshared`]).
//!
//! | byte | held by |
//! |---|---|
//! | 0 to 1023 | the occupant of that seat, or for a moment whoever buries it |
//! | 1024 | the owner: a ring's sender |
//! | 1025 | the watchman: the one waiter that is asking for every seat just now |

use crate::named::path_of;
use crate::process::Unshared;
use rustix::fd::{AsFd, AsRawFd};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use whorl_core::futex::{Futex, Host, Wake};
use whorl_core::segment::MAX_SEATS;
use whorl_core::sync::AtomicU32;

use crate::futex::{SharedFutex, YIELDS, linger};
use std::time::Instant;

/// The byte that a segment's owner holds.
pub const OWNER: u32 = MAX_SEATS;
/// The byte that the watchman holds.
pub const WATCHMAN: u32 = MAX_SEATS + 1;

/// An open file description of one's own, to lock bytes through. Dropping it drops its locks. In a forked child it is closed.
#[derive(Debug)]
pub struct ByteLocks {
    file: Unshared,
}

impl ByteLocks {
    /// Opens the object behind `object` anew.
    ///
    /// # Errors
    /// What the kernel said; `/proc` must be mounted.
    pub fn open(object: impl AsFd) -> Result<Self, Errno> {
        let flags = OFlags::RDWR | OFlags::CLOEXEC;
        let open = || rustix::fs::open(path_of(object.as_fd()), flags, Mode::empty());
        Unshared::open(open).map(|file| Self { file })
    }

    /// Takes a byte, without waiting; false if somebody else holds it.
    ///
    /// # Errors
    /// What the kernel said.
    pub fn try_lock(&self, byte: u32) -> Result<bool, Errno> {
        match self.command(libc::F_OFD_SETLK, libc::F_WRLCK, byte) {
            Ok(_) => Ok(true),
            Err(Errno::AGAIN | Errno::ACCESS) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Gives a byte back.
    pub fn unlock(&self, byte: u32) {
        // Unlocking what is ours cannot fail; and if it did, the byte would only count as alive for longer.
        let _ = self.command(libc::F_OFD_SETLK, libc::F_UNLCK, byte);
    }

    /// Whether anybody else holds a byte. "Cannot tell" is true.
    pub fn is_held(&self, byte: u32) -> bool {
        let free = self.command(libc::F_OFD_GETLK, libc::F_WRLCK, byte) == Ok(libc::F_UNLCK as i16);
        !free
    }

    fn command(&self, command: i32, kind: i32, byte: u32) -> Result<i16, Errno> {
        self.range(command, kind, byte, 1)
    }

    fn whole(&self, command: i32, kind: i32) -> Result<i16, Errno> {
        self.range(command, kind, 0, 0) // length 0: to the end of everything
    }

    fn range(&self, command: i32, kind: i32, start: u32, length: u32) -> Result<i16, Errno> {
        // SAFETY: `flock` is plain integers, for which zero is a value.
        let mut lock: libc::flock = unsafe { std::mem::zeroed() };
        lock.l_type = kind as i16;
        lock.l_whence = libc::SEEK_SET as i16;
        // Bytes below two thousand: they fit wherever offsets have 32 bits, too.
        lock.l_start = start as libc::off_t;
        lock.l_len = length as libc::off_t;
        // SAFETY: `lock` lives through the call, which reads and writes only it.
        let result = unsafe { libc::fcntl(self.file.as_fd().as_raw_fd(), command, &raw mut lock) };
        if result == -1 {
            let error = std::io::Error::last_os_error();
            return Err(Errno::from_io_error(&error).unwrap_or(Errno::IO));
        }
        Ok(lock.l_type)
    }
}

impl AsFd for ByteLocks {
    fn as_fd(&self) -> rustix::fd::BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl Drop for ByteLocks {
    fn drop(&mut self) {
        // A child that was forked just now may not have closed its copy yet: the locks go with us, not with it.
        if !self.file.born().is_elsewhere() {
            let _ = self.whole(libc::F_OFD_SETLK, libc::F_UNLCK);
        }
    }
}

/// How a participant judges whether the segment's owner is dead.
#[derive(Clone, Copy, Debug)]
pub enum OwnerIs {
    /// This process.
    Myself,
    /// The process that forked this one. The kernel gives a dead process's children another parent.
    Parent(rustix::process::Pid),
    /// Whoever holds the [`OWNER`] byte.
    Whoever,
}

/// The host of everything that lies in a mapping: the shared futex, and byte locks for who is dead.
#[derive(Clone, Debug)]
pub struct SharedHost {
    locks: Arc<ByteLocks>,
    owner: OwnerIs,
    hooks: Arc<Hooks>,
    yields: u32,
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
    pub fn new(locks: ByteLocks, owner: OwnerIs) -> Self {
        Self { locks: Arc::new(locks), owner, hooks: Arc::default(), yields: YIELDS }
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

    fn spin(&self, looks: u32) -> bool {
        linger(looks, self.yields)
    }

    fn wait(&self, word: &AtomicU32, expected: u32, deadline: Option<Instant>) -> Wake {
        match self.hooks.is_stopped() {
            true => Wake::Interrupted,
            false => SharedFutex.wait(word, expected, deadline),
        }
    }
    fn wake_one(&self, word: &AtomicU32) {
        SharedFutex.wake_one(word);
    }
    fn wake_all(&self, word: &AtomicU32) {
        SharedFutex.wake_all(word);
        if let Some(tell) = self.hooks.on_wake.get() {
            tell();
        }
    }
}

impl Host for SharedHost {
    fn try_bury(&self, seat: u32, bury: impl FnOnce()) -> bool {
        // Holding the dead one's byte keeps other buriers and its successor away; a burier that dies drops it.
        let dead = self.locks.try_lock(seat) == Ok(true);
        if dead {
            bury();
            self.locks.unlock(seat);
        }
        dead
    }

    fn watch(&self, round: impl FnOnce()) {
        if self.locks.try_lock(WATCHMAN) == Ok(true) {
            round();
            self.locks.unlock(WATCHMAN);
        }
    }

    fn owner_is_dead(&self) -> bool {
        match self.owner {
            OwnerIs::Myself => false,
            OwnerIs::Parent(parent) => rustix::process::getppid() != Some(parent),
            OwnerIs::Whoever => !self.locks.is_held(OWNER),
        }
    }
}
