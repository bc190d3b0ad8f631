//! Threads of the library. The only file that starts any.

use super::signals::BlockedSignals;
use std::io;
use std::thread::{Builder, JoinHandle, Scope, ScopedJoinHandle};

/// Starts a thread that takes no signals: they are for the threads of the program around it, which may want to read them from a
/// signalfd. From its first moment on, because a thread is born with its maker's mask.
///
/// # Errors
/// What the kernel said: most often `EAGAIN`, too many threads.
pub fn start_thread<T: Send + 'static>(
    builder: Builder,
    body: impl FnOnce() -> T + Send + 'static,
) -> io::Result<JoinHandle<T>> {
    let _blocked = BlockedSignals::block();
    builder.spawn(body)
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
    let _blocked = BlockedSignals::block();
    builder.spawn_scoped(scope, body)
}
