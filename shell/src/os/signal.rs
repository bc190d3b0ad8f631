//! Signals: those that ask this program to stop, what the command sets when it starts, and threads that take none.

use rustix::event::{EventfdFlags, eventfd};
use rustix::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use rustix::io::Errno;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicI32, Ordering};

/// The first of the signals that ask this process to stop, or 0.
static STOP: AtomicI32 = AtomicI32::new(0);
/// The descriptor of [`stop_event`], or -1.
static STOP_EVENT: AtomicI32 = AtomicI32::new(-1);

/// In a forked child: who forked it.
static PARENT: AtomicI32 = AtomicI32::new(0);

/// The signals that ask to stop. After cleaning up we die of them.
const STOPPING: [i32; 3] = [libc::SIGINT, libc::SIGTERM, libc::SIGHUP];

extern "C" fn on_stop(signal: i32) {
    // Only async-signal-safe calls here: two atomics and write(2). errno is restored for whoever was interrupted.
    // SAFETY: no arguments; returns the address of this thread's own errno.
    let errno = unsafe { libc::__errno_location() };
    // SAFETY: that address is valid for as long as the thread lives.
    let before = unsafe { *errno };
    let _ = STOP.compare_exchange(0, signal, Ordering::Relaxed, Ordering::Relaxed);
    let event = STOP_EVENT.load(Ordering::Relaxed);
    if event >= 0 {
        let one = 1_u64.to_ne_bytes();
        // SAFETY: eight bytes that live through the call. A full eventfd is readable already.
        unsafe { libc::write(event, one.as_ptr().cast(), one.len()) };
    }
    // SAFETY: as above.
    unsafe { *errno = before };
}

/// In a forked child that was started with SIGTERM ignored: heeds the one by which the kernel says that its parent is dead.
extern "C" fn on_orphaned(signal: i32) {
    // SAFETY: a plain system call, which cannot fail.
    if unsafe { libc::getppid() } != PARENT.load(Ordering::Relaxed) {
        on_stop(signal);
    }
}

/// From now on SIGINT, SIGTERM and SIGHUP are noted instead of killing us at once, except those that were ignored when
/// we were started: `nohup` ignores SIGHUP, and a script's shell ignores SIGINT for its jobs in the background. They are
/// noted also if they were blocked when we were started, which nobody does on purpose. System calls return `EINTR`.
pub fn catch_stop_signals() {
    for signal in STOPPING {
        if !is_ignored(signal) {
            catch(signal, on_stop);
        }
    }
    unblock(STOPPING);
}

/// The same for a server, which a supervisor ends with SIGTERM: noted also if it was ignored when we were started, for a
/// supervisor may ignore it on its own account.
pub fn catch_stop_signals_of_server() {
    catch(libc::SIGTERM, on_stop);
    catch_stop_signals();
}

/// The signal that asked this process to stop, if one did.
pub fn stop_signal() -> Option<i32> {
    Some(STOP.load(Ordering::Relaxed)).filter(|&signal| signal != 0)
}

/// A descriptor that becomes readable, and stays so, when a signal asks this process to stop: for event loops.
///
/// # Errors
/// No descriptor was to be had.
pub fn stop_event() -> Result<BorrowedFd<'static>, Errno> {
    static EVENT: OnceLock<OwnedFd> = OnceLock::new();
    if EVENT.get().is_none() {
        let event = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let event = EVENT.get_or_init(|| event);
        STOP_EVENT.store(event.as_raw_fd(), Ordering::Relaxed);
        if stop_signal().is_some() {
            let _ = rustix::io::write(event, &1_u64.to_ne_bytes());
        }
    }
    Ok(EVENT.get().expect("just set").as_fd())
}

/// Dies of `signal`, as whoever sent it expects.
pub fn raise_default(signal: i32) -> ! {
    // SAFETY: the default action takes no code of ours.
    unsafe { libc::signal(signal, libc::SIG_DFL) };
    unblock([signal]);
    // SAFETY: a plain system call.
    unsafe { libc::raise(signal) };
    std::process::exit(128 + signal) // its default action is none: say it the shells' way
}

/// To be called in a forked child, with the process id of its parent.
pub(super) fn enter_child(parent: i32) {
    // A signal to the child is not news for the parent's event loop.
    STOP_EVENT.store(-1, Ordering::Relaxed);
    PARENT.store(parent, Ordering::Relaxed);
    if is_ignored(libc::SIGTERM) {
        catch(libc::SIGTERM, on_orphaned);
    }
}

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
