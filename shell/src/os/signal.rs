//! Signals: the stop signals, the signal settings of the command, and threads that block signals.

use rustix::event::{EventfdFlags, eventfd};
use rustix::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use rustix::io::Errno;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicI32, Ordering};

/// The first stop signal that this process received, or 0.
static STOP: AtomicI32 = AtomicI32::new(0);
/// The descriptor of [`stop_event`], or -1.
static STOP_EVENT: AtomicI32 = AtomicI32::new(-1);

/// In a forked child, the process id of its parent.
static PARENT: AtomicI32 = AtomicI32::new(0);

/// The stop signals: they request that this process stops. The process cleans up, then kills itself with the signal.
const STOP_SIGNALS: [i32; 3] = [libc::SIGINT, libc::SIGTERM, libc::SIGHUP];

extern "C" fn on_stop(signal: i32) {
    // This handler makes only async-signal-safe calls: two atomic accesses and write(2). It restores errno for the interrupted
    // code.
    // SAFETY: the function takes no arguments and returns the address of this thread's errno.
    let errno = unsafe { libc::__errno_location() };
    // SAFETY: that address is valid as long as the thread lives, and only this thread uses it.
    let before = unsafe { *errno };
    let _ = STOP.compare_exchange(0, signal, Ordering::Relaxed, Ordering::Relaxed);
    let event = STOP_EVENT.load(Ordering::Relaxed);
    if event >= 0 {
        let one = 1_u64.to_ne_bytes();
        // The result is not needed: if the eventfd's counter is full, the eventfd is readable already.
        // SAFETY: the call reads the eight bytes of `one`, which live through it.
        unsafe { libc::write(event, one.as_ptr().cast(), one.len()) };
    }
    // SAFETY: the address is still valid, as above.
    unsafe { *errno = before };
}

/// Handles SIGTERM in a forked child that was started with SIGTERM ignored. It accepts only the signal that the kernel sends when
/// the parent dies.
extern "C" fn on_orphaned(signal: i32) {
    // SAFETY: `getppid` has no preconditions and is async-signal-safe.
    if unsafe { libc::getppid() } != PARENT.load(Ordering::Relaxed) {
        on_stop(signal);
    }
}

/// Catches SIGINT, SIGTERM and SIGHUP, so that the process can clean up before it ends.
///
/// A signal stays ignored if the process was started with it ignored. `nohup` ignores SIGHUP, and the shell of a script ignores
/// SIGINT for background jobs. If the process was started with a signal blocked, this unblocks it, because no program blocks one
/// for another on purpose. A caught signal interrupts system calls with `EINTR`.
pub fn catch_stop_signals() {
    for signal in STOP_SIGNALS {
        if !is_ignored(signal) {
            catch(signal, on_stop, 0);
        }
    }
    unblock(STOP_SIGNALS);
}

/// Catches the stop signals in a server. It catches SIGTERM even if the process was started with SIGTERM ignored.
///
/// A supervisor stops a server with SIGTERM, and it may start the server with SIGTERM ignored because it ignores the signal
/// itself.
pub fn catch_stop_signals_of_server() {
    catch(libc::SIGTERM, on_stop, 0);
    catch_stop_signals();
}

/// Returns the stop signal that this process received first, or `None` if it received none.
pub fn stop_signal() -> Option<i32> {
    Some(STOP.load(Ordering::Relaxed)).filter(|&signal| signal != 0)
}

/// Returns a descriptor for event loops. It becomes readable when this process receives a stop signal, and stays readable.
///
/// # Errors
/// The kernel's error, most often because no descriptor is free.
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

/// Ends this process with the default action of `signal`, so that its parent sees that the signal ended it.
pub fn raise_default(signal: i32) -> ! {
    // SAFETY: the default action runs no code of this program.
    unsafe { libc::signal(signal, libc::SIG_DFL) };
    unblock([signal]);
    // SAFETY: `raise` has no preconditions.
    unsafe { libc::raise(signal) };
    std::process::exit(128 + signal) // if the default action does not end the process, use the exit code of the shells
}

/// Prepares the signal handling of a forked child. The child calls it with the process id of its parent.
pub(super) fn enter_child(parent: i32) {
    // The child shares the eventfd with its parent. A signal to the child must not wake the parent's event loop.
    STOP_EVENT.store(-1, Ordering::Relaxed);
    PARENT.store(parent, Ordering::Relaxed);
    if is_ignored(libc::SIGTERM) {
        catch(libc::SIGTERM, on_orphaned, 0);
    }
}

/// A signal setting that the commands need.
struct SignalSetting {
    signal: i32,
    /// The disposition to set. `None` keeps the disposition that the process was started with, so that `nohup` works.
    disposition: Option<libc::sighandler_t>,
}

/// The signal settings of the commands. Dispositions and the signal mask survive exec(2), so the parent process may have changed
/// them. [`set_signals`] also unblocks each of these signals.
const SETTINGS: [SignalSetting; 5] = [
    // If SIGCHLD is ignored, the kernel reaps children itself, and this process cannot learn how they ended.
    SignalSetting { signal: libc::SIGCHLD, disposition: Some(libc::SIG_DFL) },
    // A write to a closed pipe then fails, and the command ends without a message.
    SignalSetting { signal: libc::SIGPIPE, disposition: Some(libc::SIG_IGN) },
    // The stop signals have no effect while they are blocked.
    SignalSetting { signal: libc::SIGINT, disposition: None },
    SignalSetting { signal: libc::SIGTERM, disposition: None },
    SignalSetting { signal: libc::SIGHUP, disposition: None },
];

/// Sets the signal dispositions and the signal mask that the commands need. `main` calls this first.
pub fn set_signals() {
    for SignalSetting { signal, disposition } in SETTINGS {
        // A handler that exists this early belongs to a preloaded library, so it stays.
        if let Some(disposition) = disposition.filter(|_| !is_handled(signal)) {
            // SAFETY: the default action and ignoring run no code of this program.
            unsafe { libc::signal(signal, disposition) };
        }
    }
    unblock(SETTINGS.map(|setting| setting.signal));
    survive_file_size_limit();
}

/// Returns whether this process ignores a signal.
fn is_ignored(signal: i32) -> bool {
    disposition_of(signal) == libc::SIG_IGN
}

fn is_handled(signal: i32) -> bool {
    ![libc::SIG_DFL, libc::SIG_IGN].contains(&disposition_of(signal))
}

fn disposition_of(signal: i32) -> libc::sighandler_t {
    // SAFETY: `sigaction` is a C struct for which all zeros is a valid value.
    let mut old: libc::sigaction = unsafe { std::mem::zeroed() };
    // SAFETY: the new action is null, so the call only writes `old`, which lives through it.
    unsafe { libc::sigaction(signal, std::ptr::null(), &raw mut old) };
    old.sa_sigaction
}

/// Installs `handler` for a signal. The handler must be async-signal-safe. `flags` are the `sa_flags` of sigaction(2).
fn catch(signal: i32, handler: extern "C" fn(i32), flags: i32) {
    // SAFETY: `sigaction` is a C struct for which all zeros is a valid value.
    let mut new: libc::sigaction = unsafe { std::mem::zeroed() };
    new.sa_sigaction = handler as usize;
    new.sa_flags = flags;
    // SAFETY: each caller passes an async-signal-safe function of this file. The call only reads `new`, which lives through it.
    unsafe { libc::sigaction(signal, &raw const new, std::ptr::null_mut()) };
}

/// Unblocks all signals in a daemon, and sets the ignored ones to their default.
///
/// SIGPIPE and SIGXFSZ stay ignored, because this program handles the errors EPIPE and EFBIG instead.
pub(super) fn reset_signals() {
    for signal in (1..=libc::SIGRTMAX()).filter(|signal| ![libc::SIGPIPE, libc::SIGXFSZ].contains(signal)) {
        if is_ignored(signal) {
            // SAFETY: the default action runs no code of this program.
            unsafe { libc::signal(signal, libc::SIG_DFL) };
        }
    }
    let none = empty_set();
    // SAFETY: the call only reads `none`, which lives through it.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut()) };
}

extern "C" fn on_file_size_limit(_: i32) {}

/// Makes a write beyond the limit of file sizes (`ulimit -f`) fail with `EFBIG`. By default it would kill this process.
///
/// This installs a handler that does nothing, because `SIG_IGN` would also apply to the programs that this process executes.
fn survive_file_size_limit() {
    if !is_ignored(libc::SIGXFSZ) {
        catch(libc::SIGXFSZ, on_file_size_limit, libc::SA_RESTART);
    }
}

/// Unblocks signals in this thread.
fn unblock<const COUNT: usize>(signals: [i32; COUNT]) {
    let mut set = empty_set();
    for signal in signals {
        // SAFETY: the call changes only `set`, which is initialized.
        unsafe { libc::sigaddset(&raw mut set, signal) };
    }
    // SAFETY: the call only reads `set`, which lives through it.
    unsafe { libc::pthread_sigmask(libc::SIG_UNBLOCK, &raw const set, std::ptr::null_mut()) };
}

/// The signals that the kernel sends to the thread that caused them, and SIGABRT, which abort(3) sends. If they were blocked, they
/// would kill the process without running their handlers.
const SYNCHRONOUS: [i32; 7] =
    [libc::SIGSEGV, libc::SIGBUS, libc::SIGFPE, libc::SIGILL, libc::SIGTRAP, libc::SIGSYS, libc::SIGABRT];

/// Blocks all signals except the synchronous ones in its thread until it is dropped. A thread that starts meanwhile inherits the
/// signal mask and keeps it.
#[derive(Debug)]
pub struct BlockedSignals {
    before: libc::sigset_t,
}

impl BlockedSignals {
    /// Blocks the signals. The C library does not block the signals that it uses itself.
    pub fn block() -> Self {
        let mut set = empty_set();
        // SAFETY: the call changes only `set`, which is initialized.
        unsafe { libc::sigfillset(&raw mut set) };
        for signal in SYNCHRONOUS {
            // SAFETY: the call changes only `set`, which is initialized.
            unsafe { libc::sigdelset(&raw mut set, signal) };
        }
        let mut before = empty_set();
        // SAFETY: the call reads `set` and writes `before`, which both live through it. It cannot fail, because `SIG_BLOCK` is
        // valid.
        unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, &raw mut before) };
        Self { before }
    }
}

impl Drop for BlockedSignals {
    fn drop(&mut self) {
        // SAFETY: the call only reads the set, which lives through it.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const self.before, std::ptr::null_mut()) };
    }
}

fn empty_set() -> libc::sigset_t {
    // SAFETY: `sigset_t` is a C struct for which all zeros is a valid value.
    let mut set: libc::sigset_t = unsafe { std::mem::zeroed() };
    // SAFETY: the call writes only `set`, which lives through it.
    unsafe { libc::sigemptyset(&raw mut set) };
    set
}
