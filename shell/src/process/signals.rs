//! Signals: threads that take none.

/// Lets this thread take signals.
pub(super) fn unblock<const COUNT: usize>(signals: [i32; COUNT]) {
    let mut set = empty();
    for signal in signals {
        // SAFETY: `set` lives through the call.
        unsafe { libc::sigaddset(&raw mut set, signal) };
    }
    // SAFETY: `set` lives through the call.
    unsafe { libc::pthread_sigmask(libc::SIG_UNBLOCK, &raw const set, std::ptr::null_mut()) };
}

/// Signals that the kernel sends to the thread that caused them, or that the runtime sends to itself to end. Blocked, they
/// would kill without their handlers.
const SYNCHRONOUS: [i32; 7] =
    [libc::SIGSEGV, libc::SIGBUS, libc::SIGFPE, libc::SIGILL, libc::SIGTRAP, libc::SIGSYS, libc::SIGABRT];

/// While this lives, its thread takes no signals but the synchronous ones. A thread that is started meanwhile never does.
pub struct BlockedSignals {
    before: libc::sigset_t,
}

impl BlockedSignals {
    /// Blocks them. (The C library keeps the signals that it needs itself from being blocked.)
    pub fn block() -> Self {
        let mut set = empty();
        // SAFETY: `set` lives through the call.
        unsafe { libc::sigfillset(&raw mut set) };
        for signal in SYNCHRONOUS {
            // SAFETY: as above.
            unsafe { libc::sigdelset(&raw mut set, signal) };
        }
        let mut before = empty();
        // SAFETY: both sets live through the call. It cannot fail: what is to be done is valid.
        unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, &raw mut before) };
        Self { before }
    }
}

impl Drop for BlockedSignals {
    fn drop(&mut self) {
        // SAFETY: the set lives through the call.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const self.before, std::ptr::null_mut()) };
    }
}

fn empty() -> libc::sigset_t {
    // SAFETY: plain data for which zero is a value.
    let mut set: libc::sigset_t = unsafe { std::mem::zeroed() };
    // SAFETY: `set` lives through the call.
    unsafe { libc::sigemptyset(&raw mut set) };
    set
}
