//! Descriptors that mean "this process lives", which forked children do not inherit.
//!
//! A lock on an open file description, a listener or a connection lives as long as any copy of its descriptor. A forked
//! child would keep those of its dead parent. So a table holds every such descriptor, and the fork handlers below
//! replace them in the child:
//!
//! - Opening a descriptor and entering it into the table happen under one lock, and so do removing and closing.
//!   `prepare` takes that lock, so that no fork falls between the two. Signals are blocked while the lock is held.
//!   Otherwise a signal handler that forks would wait for the thread that it interrupted.
//! - The child gets the read end of a pipe that has no writer. The pipe is made with the first entry, so that the child
//!   needs no free descriptor and no file system.
//! - The table stores which file each number led to. If the program has closed the number without the library and
//!   another file has it now, the child keeps that file.
//!
//! Children made by `vfork` or `posix_spawn` execute a program, which closes all of them. Children made by a raw
//! `clone`, or by `_Fork`, run no handlers, and keep everything.

use super::file_id::FileId;
use super::signal::BlockedSignals;
use rustix::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use rustix::io::Errno;
use std::cell::UnsafeCell;
use std::mem::ManuallyDrop;
use std::ops::Deref;
use std::sync::atomic::{AtomicI32, AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The number of forks between the first process that asked and this one.
static FORKS: AtomicU32 = AtomicU32::new(0);
/// The descriptors that a forked child does not get.
static TABLE: Mutex<Table> = Mutex::new(Table { slots: Vec::new(), free: None, null: None });
/// The lock during a fork.
static DURING_FORK: DuringFork = DuringFork(UnsafeCell::new(None));
/// The thread that forks and has put the lock there, or 0.
static FORKING_THREAD: AtomicI32 = AtomicI32::new(0);

struct DuringFork(UnsafeCell<Option<Lock>>);

// SAFETY: only the thread that holds the lock of `TABLE` touches the cell. It fills the cell after it took the lock,
// and empties it before it releases the lock.
unsafe impl Sync for DuringFork {}
#[derive(Debug)]
struct Table {
    slots: Vec<Slot>,
    /// The first free slot.
    free: Option<usize>,
    null: Option<Null>,
}

#[derive(Clone, Copy, Debug)]
enum Slot {
    Used { number: i32, file: FileId },
    Free { next: Option<usize> },
}

/// The pipe end that a child gets in place of a descriptor.
#[derive(Debug)]
struct Null {
    fd: OwnedFd,
    file: FileId,
}

impl Null {
    fn make() -> Result<Self, Errno> {
        let (fd, _) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
        Ok(Self { file: file_of(&fd)?, fd })
    }

    /// Returns whether the number still leads to the file that was made. A program may have closed it.
    fn is_there(&self) -> bool {
        file_of(&self.fd) == Ok(self.file)
    }
}

fn file_of(fd: impl AsFd) -> Result<FileId, Errno> {
    rustix::fs::fstat(fd).map(|stat| FileId::of(&stat))
}

impl Table {
    /// Returns the capacity that it needs before `more` descriptors can be entered; `None` if it has that.
    fn lacks(&self, more: usize) -> Option<usize> {
        // Free slots do not count. One slot too many costs little.
        let needed = self.slots.len() + more;
        (needed > self.slots.capacity()).then(|| needed.max(2 * self.slots.capacity()).max(64))
    }

    /// Makes the pipe end for children, unless it exists.
    fn provide_null(&mut self) -> Result<(), Errno> {
        if let Some(null) = self.null.take_if(|null| !null.is_there()) {
            // Its number now belongs to another descriptor, or is free.
            std::mem::forget(null.fd);
        }
        if self.null.is_none() {
            self.null = Some(Null::make()?);
        }
        Ok(())
    }

    /// Enters a descriptor. The table has room.
    fn enter(&mut self, number: i32, file: FileId) -> usize {
        let used = Slot::Used { number, file };
        match self.free {
            Some(index) => {
                if let Slot::Free { next } = self.slots[index] {
                    self.free = next;
                }
                self.slots[index] = used;
                index
            }
            None => {
                self.slots.push(used);
                self.slots.len() - 1
            }
        }
    }

    fn remove(&mut self, index: usize) {
        self.slots[index] = Slot::Free { next: self.free };
        self.free = Some(index);
    }

    /// Replaces all descriptors in a forked child. It makes only calls that are async-signal-safe, and neither
    /// allocates nor frees, because the parent may have had other threads.
    fn strip(&mut self) {
        let null = self.null.as_ref().filter(|null| null.is_there());
        for slot in &self.slots {
            let Slot::Used { number, file } = *slot else { continue };
            // SAFETY: the borrow serves only to check which file the number leads to. There may be none.
            let there = unsafe { BorrowedFd::borrow_raw(number) };
            if file_of(there) != Ok(file) {
                continue;
            }
            // The number stays open, because the owner's copy in this process will close it.
            let replaced = null.is_some_and(|null| {
                // SAFETY: plain descriptors. The check has shown that the number leads to the library's own file.
                (unsafe { libc::dup3(null.fd.as_raw_fd(), number, libc::O_CLOEXEC) }) != -1
            });
            if !replaced {
                // The program has closed the pipe, or lowered its limit below this number. The owner's copy sees that
                // the file is gone, and does not close it.
                // SAFETY: as above.
                unsafe { libc::close(number) };
            }
        }
        self.slots.clear();
        self.free = None;
    }
}

/// The table, locked, and this thread's signals blocked.
#[derive(Debug)]
struct Lock {
    // Dropped in this order.
    table: MutexGuard<'static, Table>,
    _signals: BlockedSignals,
}

impl Lock {
    fn take() -> Self {
        let signals = BlockedSignals::block();
        Self { table: TABLE.lock().unwrap_or_else(PoisonError::into_inner), _signals: signals }
    }
}

extern "C" fn before_fork() {
    let thread = thread_id();
    if FORKING_THREAD.load(Ordering::Relaxed) == thread {
        return; // the handlers were registered twice
    }
    let lock = Lock::take();
    // SAFETY: the lock was taken just now.
    unsafe { *DURING_FORK.0.get() = Some(lock) };
    FORKING_THREAD.store(thread, Ordering::Relaxed);
}

extern "C" fn after_fork_in_parent() {
    if FORKING_THREAD.load(Ordering::Relaxed) != thread_id() {
        return; // the handlers were registered twice
    }
    FORKING_THREAD.store(0, Ordering::Relaxed);
    // SAFETY: this thread took the lock before the fork.
    drop(unsafe { (*DURING_FORK.0.get()).take() });
}

extern "C" fn after_fork_in_child() {
    // This is the child's only thread, whose number differs from that of the thread that forked.
    FORKING_THREAD.store(0, Ordering::Relaxed);
    // SAFETY: this is the copy of the thread that took the lock before the fork.
    if let Some(mut lock) = unsafe { (*DURING_FORK.0.get()).take() } {
        FORKS.fetch_add(1, Ordering::Relaxed);
        lock.table.strip();
    }
}

fn thread_id() -> i32 {
    rustix::thread::gettid().as_raw_pid()
}

/// Registers the fork handlers, once.
fn watch_forks() -> Result<(), Errno> {
    const NOT_YET: i32 = 0;
    const DONE: i32 = -1;
    /// The other values: the process that registers them just now.
    static STATE: AtomicI32 = AtomicI32::new(NOT_YET);
    if STATE.load(Ordering::Acquire) == DONE {
        return Ok(());
    }
    let process = rustix::process::getpid().as_raw_pid();
    loop {
        match STATE.compare_exchange(NOT_YET, process, Ordering::Acquire, Ordering::Acquire) {
            Ok(_) => break,
            Err(DONE) => return Ok(()),
            Err(other) if other == process => std::thread::yield_now(), // another thread does
            // Another thread of the parent was registering them at the fork, and may have finished. Registering them
            // twice does no harm.
            Err(parent) => _ = STATE.compare_exchange(parent, NOT_YET, Ordering::Acquire, Ordering::Acquire),
        }
    }
    // SAFETY: the handlers live as long as the program; the child's is async-signal-safe.
    let result = unsafe {
        libc::pthread_atfork(Some(before_fork), Some(after_fork_in_parent), Some(after_fork_in_child))
    };
    STATE.store(if result == 0 { DONE } else { NOT_YET }, Ordering::Release);
    if result == 0 { Ok(()) } else { Err(Errno::from_raw_os_error(result)) }
}

/// Returns a number that differs between a process and its forked children.
fn forks() -> u32 {
    // Without memory for the handlers, forks go unnoticed. But then nothing can be opened that needs them.
    let _ = watch_forks();
    FORKS.load(Ordering::Relaxed)
}

/// The process that made something. A forked child is another process. A raw `clone` goes unnoticed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ForkId(u32);

impl ForkId {
    /// Returns this process.
    pub fn current() -> Self {
        Self(forks())
    }

    /// Returns whether this process is a forked child of the one that called [`current`](Self::current).
    pub fn has_forked(self) -> bool {
        forks() != self.0
    }
}

/// Delays forks of this process while it lives. Until then the same thread must not open or drop a [`CloseOnForkFd`].
#[derive(Debug)]
pub struct ForkLock {
    lock: Lock,
    room: usize,
}

impl ForkLock {
    /// Begins, with room to [`keep`](Self::keep) this many descriptors.
    ///
    /// # Blocking
    /// Until other threads that open or close such descriptors, or fork, have finished: the time of a few system calls.
    ///
    /// # Errors
    /// There is no memory, or no descriptor for the pipe end that forked children get.
    pub fn begin(room: usize) -> Result<Self, Errno> {
        watch_forks()?;
        // Allocated and freed without the lock, because the fork handlers of allocators do not know it.
        let mut slots = Vec::new();
        loop {
            let mut lock = Lock::take();
            match lock.table.lacks(room) {
                None => {}
                Some(wanted) if wanted <= slots.capacity() => {
                    slots.extend_from_slice(&lock.table.slots);
                    std::mem::swap(&mut slots, &mut lock.table.slots);
                }
                Some(wanted) => {
                    drop(lock);
                    slots = Vec::new();
                    slots.try_reserve_exact(wanted).map_err(|_| Errno::NOMEM)?;
                    continue;
                }
            }
            lock.table.provide_null()?;
            return Ok(Self { lock, room });
        }
    }

    /// Enters a descriptor that was opened just now, so that forked children do not inherit it.
    ///
    /// # Errors
    /// The kernel's error. The descriptor is closed then.
    ///
    /// # Panics
    /// If there is no more room.
    pub fn keep<T: AsFd>(&mut self, descriptor: T) -> Result<CloseOnForkFd<T>, Errno> {
        self.room = self.room.checked_sub(1).expect("room was asked for");
        let file = file_of(&descriptor)?;
        let slot = self.lock.table.enter(descriptor.as_fd().as_raw_fd(), file);
        let born = ForkId(FORKS.load(Ordering::Relaxed));
        Ok(CloseOnForkFd { descriptor: ManuallyDrop::new(descriptor), slot, born })
    }
}

/// A descriptor that means "this process lives": a lock, a connection, a listener. A forked child gets the number
/// without the file, because its copy would still mean that after its parent's death. A duplicate that the library's
/// caller makes is the caller's.
#[derive(Debug)]
pub struct CloseOnForkFd<T: AsFd = OwnedFd> {
    descriptor: ManuallyDrop<T>,
    slot: usize,
    born: ForkId,
}

impl<T: AsFd> CloseOnForkFd<T> {
    /// Opens a descriptor. `open` should be one system call that does not wait, because forks of this process wait for
    /// it.
    ///
    /// # Errors
    /// The error of `open`; or there is no memory, or no descriptor for the pipe end that forked children get.
    pub fn open<E: From<Errno>>(open: impl FnOnce() -> Result<T, E>) -> Result<Self, E> {
        let mut forks_wait = ForkLock::begin(1)?;
        let descriptor = open()?;
        Ok(forks_wait.keep(descriptor)?)
    }

    /// Enters an open descriptor, so that children forked from now on do not inherit it. Earlier children have it.
    ///
    /// # Errors
    /// There is no memory, or no descriptor for the pipe end that forked children get. The descriptor is closed then.
    pub fn of(descriptor: T) -> Result<Self, Errno> {
        Self::open(|| Ok::<_, Errno>(descriptor))
    }

    /// Returns the process that opened it.
    pub fn born(&self) -> ForkId {
        self.born
    }

    /// Returns the descriptor, which forked children inherit from now on.
    pub fn share(self) -> T {
        let mut this = ManuallyDrop::new(self);
        let mut lock = Lock::take();
        if !this.born.has_forked() {
            lock.table.remove(this.slot);
        }
        // SAFETY: taken once: `this` is neither used again nor dropped.
        unsafe { ManuallyDrop::take(&mut this.descriptor) }
    }
}

impl<T: AsFd> Drop for CloseOnForkFd<T> {
    fn drop(&mut self) {
        let mut lock = Lock::take();
        if !self.born.has_forked() {
            lock.table.remove(self.slot);
        } else if file_of(self.descriptor.as_fd()).ok() != lock.table.null.as_ref().map(|null| null.file) {
            return; // closed at the fork: the number is free, or belongs to another descriptor
        }
        // SAFETY: dropped once, current.
        unsafe { ManuallyDrop::drop(&mut self.descriptor) };
    }
}

impl<T: AsFd> Deref for CloseOnForkFd<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.descriptor
    }
}

impl<T: AsFd> AsFd for CloseOnForkFd<T> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}
