//! Threads of the library. The only file that starts any.

use super::signal::BlockedSignals;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::{Builder, JoinHandle, Scope, ScopedJoinHandle};

/// How many threads of the library there are. Orders nothing.
static COUNT: AtomicUsize = AtomicUsize::new(0);

/// A thread that is counted while this lives.
struct Counted;

impl Counted {
    fn new() -> Self {
        COUNT.fetch_add(1, Ordering::Relaxed);
        Self
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        COUNT.fetch_sub(1, Ordering::Relaxed);
    }
}

/// How many threads this library has started that have not ended.
pub(super) fn count() -> usize {
    COUNT.load(Ordering::Relaxed)
}

/// Locks a mutex of data that every panic leaves in order, such as lists and counters.
pub fn unpoisoned<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Starts a thread that takes no signals: they are for the threads of the program around it, which may want to read them from a
/// signalfd. From its first moment on, because a thread is born with its maker's mask.
///
/// # Errors
/// What the kernel said: most often `EAGAIN`, too many threads.
pub fn start_thread<T: Send + 'static>(
    builder: Builder,
    body: impl FnOnce() -> T + Send + 'static,
) -> io::Result<JoinHandle<T>> {
    let counted = Counted::new();
    let _blocked = BlockedSignals::block();
    builder.spawn(move || {
        let _counted = counted;
        body()
    })
}

/// [`start_thread`], within a scope.
///
/// # Errors
/// As there.
pub fn start_scoped_thread<'scope, 'env, T: Send + 'scope>(
    builder: Builder,
    scope: &'scope Scope<'scope, 'env>,
    body: impl FnOnce() -> T + Send + 'scope,
) -> io::Result<ScopedJoinHandle<'scope, T>> {
    let counted = Counted::new();
    let _blocked = BlockedSignals::block();
    builder.spawn_scoped(scope, move || {
        let _counted = counted;
        body()
    })
}
