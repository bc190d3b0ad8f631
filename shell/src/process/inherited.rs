//! What forked children inherit, and must not: descriptors that say that this process lives.

use rustix::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicI32, AtomicU32, Ordering};

/// How many forks led from the process that first asked to this one.
static FORKS: AtomicU32 = AtomicU32::new(0);
/// Descriptors that a forked child must not keep open; -1 is none. A table without a lock, for the child's only thread
/// might find a lock held by a thread that it does not have.
static NOT_INHERITED: [AtomicI32; 4096] = [const { AtomicI32::new(-1) }; 4096];

extern "C" fn in_forked_child() {
    FORKS.fetch_add(1, Ordering::Relaxed);
    // Only async-signal-safe calls here, for the parent may have had other threads.
    // SAFETY: a literal path.
    let null = unsafe { libc::open(c"/dev/null".as_ptr(), libc::O_RDWR | libc::O_CLOEXEC) };
    for entry in &NOT_INHERITED {
        let number = entry.swap(-1, Ordering::Relaxed);
        if number >= 0 && null >= 0 {
            // The number stays open, since its owner's copy in this process will close it one day.
            // SAFETY: plain descriptors.
            unsafe { libc::dup3(null, number, libc::O_CLOEXEC) };
        }
    }
    if null >= 0 {
        // SAFETY: opened above.
        unsafe { libc::close(null) };
    }
}

/// A number that differs in a forked child from what it was in its parent.
pub fn forks() -> u32 {
    static WATCHED: OnceLock<()> = OnceLock::new();
    WATCHED.get_or_init(|| {
        // SAFETY: the handler is async-signal-safe and lives as long as the program. Without memory for it forks go
        // unnoticed, which is the state before.
        unsafe { libc::pthread_atfork(None, None, Some(in_forked_child)) };
    });
    FORKS.load(Ordering::Relaxed)
}

/// A descriptor that forked children get without what it refers to: a lock, or a connection, that is this process's alone.
/// (A child made by a raw `clone` gets it all the same.)
#[derive(Debug)]
pub struct NotInherited {
    entry: Option<&'static AtomicI32>,
    number: i32,
}

impl NotInherited {
    /// Makes it so, until this is dropped; to be dropped before the descriptor.
    pub fn new(descriptor: impl AsFd) -> Self {
        forks();
        let number = descriptor.as_fd().as_raw_fd();
        let free = |entry: &&AtomicI32| {
            entry.compare_exchange(-1, number, Ordering::Relaxed, Ordering::Relaxed).is_ok()
        };
        Self { entry: NOT_INHERITED.iter().find(free), number }
    }
}

impl Drop for NotInherited {
    fn drop(&mut self) {
        if let Some(entry) = self.entry {
            // In a child the entry is free already, and may be another's.
            let _ = entry.compare_exchange(self.number, -1, Ordering::Relaxed, Ordering::Relaxed);
        }
    }
}

/// A mark of the process that made something: a forked child is another one. Raw `clone` goes unnoticed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Birthplace(u32);

impl Birthplace {
    /// This process.
    pub fn here() -> Self {
        Self(forks())
    }

    /// Whether this process is a forked child of the one that made the mark.
    pub fn is_elsewhere(self) -> bool {
        forks() != self.0
    }
}

/// A descriptor whose meaning is "this process lives": a lock, a connection, a listener. A forked child gets it without what
/// it refers to, for its copy would say so after we are dead.
#[derive(Debug)]
pub struct Unshared {
    // Dropped before the descriptor.
    _alone: NotInherited,
    fd: OwnedFd,
    born: Birthplace,
}

impl Unshared {
    /// Opens one.
    ///
    /// # Errors
    /// Those of `open`.
    pub fn open<E>(open: impl FnOnce() -> Result<OwnedFd, E>) -> Result<Self, E> {
        let born = Birthplace::here();
        let fd = open()?;
        Ok(Self { _alone: NotInherited::new(&fd), fd, born })
    }

    /// The process that opened it.
    pub fn born(&self) -> Birthplace {
        self.born
    }
}

impl AsFd for Unshared {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
