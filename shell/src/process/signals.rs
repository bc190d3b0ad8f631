//! Signals: what the command sets when it starts, and threads that take none.

/// What a command relies on.
struct Reliance {
    signal: i32,
    /// How it must be handled. `None`: as whoever started us wanted, so that `nohup` works.
    disposition: Option<libc::sighandler_t>,
}

/// The dispositions and the signal mask survive exec(2), so a parent may have set them to anything. Each of these signals is
/// also unblocked.
const RELIED_ON: [Reliance; 5] = [
    // Ignored, the kernel reaps children itself, and nobody learns how they ended.
    Reliance { signal: libc::SIGCHLD, disposition: Some(libc::SIG_DFL) },
    // A closed pipe is an error of the write, which a command turns into a quiet end.
    Reliance { signal: libc::SIGPIPE, disposition: Some(libc::SIG_IGN) },
    // They ask to stop. Blocked, they would ask for nothing.
    Reliance { signal: libc::SIGINT, disposition: None },
    Reliance { signal: libc::SIGTERM, disposition: None },
    Reliance { signal: libc::SIGHUP, disposition: None },
];

/// Sets what the commands rely on, whatever this program was started with. To be called first.
pub fn set_signals() {
    for Reliance { signal, disposition } in RELIED_ON {
        // A handler is left alone: at this moment it is that of a preloaded library.
        if let Some(disposition) = disposition.filter(|_| !is_handled(signal)) {
            // SAFETY: the default action and ignoring take no code of ours.
            unsafe { libc::signal(signal, disposition) };
        }
    }
    unblock(RELIED_ON.map(|reliance| reliance.signal));
    survive_file_size_limit();
}

/// Whether this process ignores a signal.
pub(super) fn is_ignored(signal: i32) -> bool {
    disposition_of(signal) == libc::SIG_IGN
}

fn is_handled(signal: i32) -> bool {
    ![libc::SIG_DFL, libc::SIG_IGN].contains(&disposition_of(signal))
}

fn disposition_of(signal: i32) -> libc::sighandler_t {
    // SAFETY: `sigaction` is plain data for which zero is a value.
    let mut old: libc::sigaction = unsafe { std::mem::zeroed() };
    // SAFETY: asks only; `old` lives through the call.
    unsafe { libc::sigaction(signal, std::ptr::null(), &raw mut old) };
    old.sa_sigaction
}

/// Calls `handler`, which is async-signal-safe, on a signal. It interrupts system calls.
pub(super) fn catch(signal: i32, handler: extern "C" fn(i32)) {
    // SAFETY: `sigaction` is plain data for which zero is a value.
    let mut new: libc::sigaction = unsafe { std::mem::zeroed() };
    new.sa_sigaction = handler as usize;
    // SAFETY: the handler is async-signal-safe, as the caller says; `new` lives through the call.
    unsafe { libc::sigaction(signal, &raw const new, std::ptr::null_mut()) };
}

/// Takes back what a daemon inherited: blocked signals, and ignored ones. Those that this program ignores by itself stay
/// so: the errors EPIPE and EFBIG take their place.
pub(super) fn reset_signals() {
    for signal in (1..=libc::SIGRTMAX()).filter(|signal| ![libc::SIGPIPE, libc::SIGXFSZ].contains(signal)) {
        if is_ignored(signal) {
            // SAFETY: the default action takes no code of ours.
            unsafe { libc::signal(signal, libc::SIG_DFL) };
        }
    }
    let none = empty();
    // SAFETY: `none` lives through the call.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut()) };
}

extern "C" fn on_file_size_limit(_: i32) {}

/// From now on a write beyond the limit of file sizes (`ulimit -f`) fails with `EFBIG`, instead of killing this process.
///
/// A handler that does nothing, and not `SIG_IGN`: programs that are executed from here start with the default again.
fn survive_file_size_limit() {
    if is_ignored(libc::SIGXFSZ) {
        return; // which serves as well
    }
    // SAFETY: `sigaction` is plain data for which zero is a value.
    let mut new: libc::sigaction = unsafe { std::mem::zeroed() };
    new.sa_sigaction = on_file_size_limit as extern "C" fn(i32) as usize;
    new.sa_flags = libc::SA_RESTART;
    // SAFETY: the handler is async-signal-safe, because it does nothing; `new` lives through the call.
    unsafe { libc::sigaction(libc::SIGXFSZ, &raw const new, std::ptr::null_mut()) };
}

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
