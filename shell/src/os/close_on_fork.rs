//! What forked children do not inherit: descriptors whose meaning is "this process lives".
//!
//! A lock on an open file description, a listener or a connection lives as long as any copy of its descriptor. A forked child
//! would keep its dead parent's. So every such descriptor is entered in a table, and the fork handlers below replace it in the
//! child:
//!
//! - Opening and entering happen under one lock, and so do removing and closing. `prepare` takes that lock, so that no fork
//!   falls between the two. Signals are blocked while the lock is held: a signal handler that forks would otherwise wait for
//!   the thread that it interrupted.
//! - The child gets the read end of a pipe that has no writer. It was made when the first entry was, so that the child needs no
//!   free descriptor and no file system.
//! - The table remembers which file a number led to. If the program has closed the number behind our back and something else
//!   has it now, the child keeps that.
//!
//! Children made by `vfork` or `posix_spawn` execute a program, which closes everything current. Children made by a raw `clone`, or
//! by `_Fork`, run no handlers: they get everything.

use super::file_id::FileId;
use super::signal::BlockedSignals;
use rustix::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use rustix::io::Errno;
use std::cell::UnsafeCell;
use std::mem::ManuallyDrop;
use std::ops::Deref;
use std::sync::atomic::{AtomicI32, AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// How many forks led from the process that first asked to this one.
static FORKS: AtomicU32 = AtomicU32::new(0);
/// The descriptors that a forked child does not get.
static TABLE: Mutex<Table> = Mutex::new(Table { slots: Vec::new(), free: None, null: None });
/// The lock during a fork.
static DURING_FORK: DuringFork = DuringFork(UnsafeCell::new(None));
/// The thread that forks and put the lock there, or 0.
static FORKING_THREAD: AtomicI32 = AtomicI32::new(0);

struct DuringFork(UnsafeCell<Option<Lock>>);

// SAFETY: only the thread that holds the lock of `TABLE` touches the cell: it fills it after it took the lock, and empties it
// before it gives the lock back.
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

/// What a child gets in place of a descriptor.
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

    /// Whether the number still stands for the file that was made. A program may have closed it.
    fn is_there(&self) -> bool {
        file_of(&self.fd) == Ok(self.file)
    }
}

fn file_of(fd: impl AsFd) -> Result<FileId, Errno> {
    rustix::fs::fstat(fd).map(|stat| FileId::of(&stat))
}

impl Table {
    /// The capacity that it needs before `more` descriptors can be entered; `None` if it has that.
    fn lacks(&self, more: usize) -> Option<usize> {
        // Free slots are not counted: there may be one too many, which costs little.
        let needed = self.slots.len() + more;
        (needed > self.slots.capacity()).then(|| needed.max(2 * self.slots.capacity()).max(64))
    }

    /// Makes sure that there is something for a child to get.
    fn provide_null(&mut self) -> Result<(), Errno> {
        if let Some(null) = self.null.take_if(|null| !null.is_there()) {
            // Its number is another descriptor's by now, or free.
            std::mem::forget(null.fd);
        }
        if self.null.is_none() {
            self.null = Some(Null::make()?);
        }
        Ok(())
    }

    /// Enters a descriptor. There is room.
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

    /// In a forked child: takes everything away from it. Makes only calls that are async-signal-safe, and neither allocates nor
    /// frees: the parent may have had other threads.
    fn strip(&mut self) {
        let null = self.null.as_ref().filter(|null| null.is_there());
        for slot in &self.slots {
            let Slot::Used { number, file } = *slot else { continue };
            // SAFETY: asks what the number leads to, which may be nothing.
            let there = unsafe { BorrowedFd::borrow_raw(number) };
            if file_of(there) != Ok(file) {
                continue;
            }
            // The number stays open, because its owner's copy in this process will close it one day.
            let replaced = null.is_some_and(|null| {
                // SAFETY: plain descriptors. What the number leads to is ours, as we looked.
                (unsafe { libc::dup3(null.fd.as_raw_fd(), number, libc::O_CLOEXEC) }) != -1
            });
            if !replaced {
                // The program has closed the pipe, or lowered its limit below this number. Its owner's copy sees that it is
                // gone, and leaves it alone.
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
    // Given back in this order.
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
    /// Or the process that registers them just now.
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
            // Another thread of our parent did when we were forked. Perhaps it was done: the handlers can bear that.
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

/// A number that differs in a forked child from what it was in its parent.
fn forks() -> u32 {
    // Without memory for the handlers forks go unnoticed; but then nothing can be opened that would need them.
    let _ = watch_forks();
    FORKS.load(Ordering::Relaxed)
}

/// A mark of the process that made something: a forked child is another one. Raw `clone` goes unnoticed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ForkId(u32);

impl ForkId {
    /// This process.
    pub fn current() -> Self {
        Self(forks())
    }

    /// Whether this process is a forked child of the one that made the mark.
    pub fn has_forked(self) -> bool {
        forks() != self.0
    }
}

/// While this lives, forks of this process wait. In the same thread nothing [`CloseOnForkFd`] may be opened or dropped meanwhile.
#[derive(Debug)]
pub struct ForkLock {
    lock: Lock,
    room: usize,
}

impl ForkLock {
    /// Begins, with room to [`keep`](Self::keep) this many descriptors.
    ///
    /// # Blocking
    /// Until other threads that open or close such descriptors, or fork, are done: the time of a few system calls.
    ///
    /// # Errors
    /// No memory, or no descriptor for what forked children get instead.
    pub fn begin(room: usize) -> Result<Self, Errno> {
        watch_forks()?;
        // Allocated without the lock, which allocators' own fork handlers know nothing of; and freed after it.
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

    /// Keeps from forked children what was opened just now.
    ///
    /// # Errors
    /// What the kernel said of it; it is closed then.
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

/// A descriptor whose meaning is "this process lives": a lock, a connection, a listener. A forked child gets it without what
/// it refers to, because its copy would say so after we are dead. (What the library's caller duplicates is the caller's.)
#[derive(Debug)]
pub struct CloseOnForkFd<T: AsFd = OwnedFd> {
    descriptor: ManuallyDrop<T>,
    slot: usize,
    born: ForkId,
}

impl<T: AsFd> CloseOnForkFd<T> {
    /// Opens one. `open` should be one system call that does not wait, because forks of this process wait for it.
    ///
    /// # Errors
    /// Those of `open`; or there is no memory, or no descriptor for what forked children get instead.
    pub fn open<E: From<Errno>>(open: impl FnOnce() -> Result<T, E>) -> Result<Self, E> {
        let mut forks_wait = ForkLock::begin(1)?;
        let descriptor = open()?;
        Ok(forks_wait.keep(descriptor)?)
    }

    /// Keeps from forked children, from now on, what was opened already. Children that were forked before have it.
    ///
    /// # Errors
    /// As [`open`](Self::open); it is closed then.
    pub fn of(descriptor: T) -> Result<Self, Errno> {
        Self::open(|| Ok::<_, Errno>(descriptor))
    }

    /// The process that opened it.
    pub fn born(&self) -> ForkId {
        self.born
    }

    /// From now on forked children share it.
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
            return; // closed at the fork: the number is free, or another descriptor's by now
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
