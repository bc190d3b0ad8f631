//! Starts the threads of the library. No other file starts threads.

use super::signal::BlockedSignals;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::{Builder, JoinHandle, Scope, ScopedJoinHandle};

/// The number of threads that the library has started and that have not ended. All accesses are relaxed, because no other data
/// depends on it.
static COUNT: AtomicUsize = AtomicUsize::new(0);

/// Counts one thread while this value lives.
struct CountedThread;

impl CountedThread {
    fn new() -> Self {
        COUNT.fetch_add(1, Ordering::Relaxed);
        Self
    }
}

impl Drop for CountedThread {
    fn drop(&mut self) {
        COUNT.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Returns the number of threads that the library has started and that have not ended.
pub(super) fn count() -> usize {
    COUNT.load(Ordering::Relaxed)
}

/// Locks a mutex of data that every panic leaves in order, such as lists and counters.
pub fn unpoisoned<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Starts a thread that takes no signals.
///
/// The signals are left to the program's own threads, which may read them from a signalfd. A new thread inherits the signal mask
/// of its creator, so this one blocks them from its first instruction.
///
/// # Errors
/// The kernel's error, most often `EAGAIN` because there are too many threads.
pub fn start_thread<T: Send + 'static>(
    builder: Builder,
    body: impl FnOnce() -> T + Send + 'static,
) -> io::Result<JoinHandle<T>> {
    let counted = CountedThread::new();
    let _blocked = BlockedSignals::block();
    builder.spawn(move || {
        let _counted = counted;
        body()
    })
}

/// Starts a thread within a scope. Like a thread of [`start_thread`], it takes no signals.
///
/// # Errors
/// The kernel's error, most often `EAGAIN` because there are too many threads.
pub fn start_scoped_thread<'scope, 'env, T: Send + 'scope>(
    builder: Builder,
    scope: &'scope Scope<'scope, 'env>,
    body: impl FnOnce() -> T + Send + 'scope,
) -> io::Result<ScopedJoinHandle<'scope, T>> {
    let counted = CountedThread::new();
    let _blocked = BlockedSignals::block();
    builder.spawn_scoped(scope, move || {
        let _counted = counted;
        body()
    })
}
