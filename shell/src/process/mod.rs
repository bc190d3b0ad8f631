//! Forking, reaping and stop signals. The only file that forks, and it forks before this program starts any thread.
//!
//! | module | what it is |
//! |---|---|
//! | `inherited.rs` | what forked children do not inherit |
//! | `signals.rs` | what the command sets when it starts, and blocking signals |
//! | `threads.rs` | starting threads |

mod inherited;
mod pids;
mod signals;
mod threads;

pub use inherited::{Birthplace, ForksWait, Unshared, forks};
pub(crate) use pids::mount_namespace;
pub use pids::{is_own_pid_namespace, pid_in_words, pid_namespace, proc_of, shares_pid_namespace};
pub use signals::set_signals;
pub use threads::{start_scoped_thread, start_thread};

use rustix::event::{EventfdFlags, eventfd};
use rustix::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use rustix::io::Errno;
use rustix::process::{
    Pid, PidfdFlags, Resource, Signal, WaitOptions, WaitStatus, getppid, kill_process, pidfd_open,
    set_parent_process_death_signal, waitpid,
};
use std::panic::{AssertUnwindSafe, catch_unwind};
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
        if !signals::is_ignored(signal) {
            signals::catch(signal, on_stop);
        }
    }
    signals::unblock(STOPPING);
}

/// The same for a server, which a supervisor ends with SIGTERM: noted also if it was ignored when we were started, for a
/// supervisor may ignore it on its own account.
pub fn catch_stop_signals_of_server() {
    signals::catch(libc::SIGTERM, on_stop);
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
pub fn die_of(signal: i32) -> ! {
    // SAFETY: the default action takes no code of ours.
    unsafe { libc::signal(signal, libc::SIG_DFL) };
    signals::unblock([signal]);
    // SAFETY: a plain system call.
    unsafe { libc::raise(signal) };
    std::process::exit(128 + signal) // its default action is none: say it the shells' way
}

/// How a forked process ended.
#[derive(Clone, Copy, Debug)]
pub enum Ending {
    /// As the kernel says.
    Known(WaitStatus),
    /// Something else reaped it, or the kernel did by itself.
    Unknown,
}

/// A forked process that we have to reap.
#[derive(Debug)]
pub struct Child {
    pid: Pid,
}

impl Child {
    /// Its process id.
    pub fn pid(&self) -> Pid {
        self.pid
    }

    /// A descriptor that becomes readable when it ends. Our child, not reaped yet: its pid cannot be another's.
    ///
    /// # Errors
    /// No descriptor was to be had.
    pub fn pidfd(&self) -> Result<OwnedFd, Errno> {
        pidfd_open(self.pid, PidfdFlags::empty())
    }

    /// Reaps it if it has ended.
    pub fn try_reap(&self) -> Option<Ending> {
        match waitpid(Some(self.pid), WaitOptions::NOHANG) {
            Ok(ended) => ended.map(|(_, status)| Ending::Known(status)),
            Err(Errno::INTR) => None,
            Err(_) => Some(Ending::Unknown), // ECHILD: waiting longer would bring nothing
        }
    }

    /// Reaps it.
    ///
    /// # Blocking
    /// Until it ends.
    pub fn reap(&self) -> Ending {
        loop {
            match waitpid(Some(self.pid), WaitOptions::empty()) {
                Err(Errno::INTR) => {}
                Ok(Some((_, status))) => return Ending::Known(status),
                Ok(None) | Err(_) => return Ending::Unknown,
            }
        }
    }

    /// Sends it a signal. It is not reaped yet, so the pid is still its own.
    pub fn kill(&self, signal: Signal) {
        let _ = kill_process(self.pid, signal); // it may have ended just now
    }
}

/// # Panics
/// If this program has started other threads: a fork would copy their locks as they are.
///
/// A preloaded library may have threads of its own, as monitoring agents do. Those hold no lock of this program, and the C
/// library puts its own in order in the child: memory, standard streams, the loader.
fn assert_one_thread() {
    assert_eq!(threads::count(), 0, "forking comes before this program's threads");
}

/// Forks. The child runs `body`, ends with the code it returns, and never outlives its parent for long: the kernel sends it
/// SIGTERM when the parent dies, which then counts even if SIGTERM is otherwise ignored.
///
/// # Panics
/// If this program has started threads already: their locks would be copied as they are.
///
/// # Errors
/// What the kernel said: most often `EAGAIN`, too many processes.
pub fn fork(body: impl FnOnce() -> u8) -> Result<Child, Errno> {
    assert_one_thread();
    // Where it is refused, as by a filter, the child would end without a word.
    rustix::process::parent_process_death_signal()?;
    let parent = rustix::process::getpid();
    // SAFETY: this program has one thread, so the child's copy of the heap and of every lock is in order.
    match unsafe { libc::fork() } {
        -1 => {
            let error = std::io::Error::last_os_error();
            Err(Errno::from_io_error(&error).unwrap_or(Errno::AGAIN))
        }
        0 => {
            // Whoever caught a panic above us is in the parent's copy of the stack: never return there.
            let code = catch_unwind(AssertUnwindSafe(|| born(parent, body))).unwrap_or(1);
            // SAFETY: ends the process without running the parent's destructors or flushing its buffers.
            unsafe { libc::_exit(code.into()) }
        }
        pid => Ok(Child { pid: Pid::from_raw(pid).expect("a child's pid is positive") }),
    }
}

fn born(parent: Pid, body: impl FnOnce() -> u8) -> u8 {
    // A signal to the child is not news for the parent's event loop.
    STOP_EVENT.store(-1, Ordering::Relaxed);
    PARENT.store(parent.as_raw_pid(), Ordering::Relaxed);
    if signals::is_ignored(libc::SIGTERM) {
        signals::catch(libc::SIGTERM, on_orphaned);
    }
    let armed = set_parent_process_death_signal(Some(Signal::TERM));
    if armed.is_err() || getppid() != Some(parent) {
        return 1; // the parent died before it could be watched
    }
    body()
}

/// Raises the soft limit of open descriptors to the hard one and returns how many may be open.
pub fn raise_descriptor_limit() -> u64 {
    let [_, hard] = limit_of(Resource::Nofile);
    let all = libc::rlimit64 { rlim_cur: hard, rlim_max: hard };
    // SAFETY: reads the limits, which live through the call.
    unsafe { libc::setrlimit64(libc::RLIMIT_NOFILE, &raw const all) };
    limit_of(Resource::Nofile)[0]
}

/// The soft and the hard limit of a resource (`RLIMIT_NOFILE` and so on); `u64::MAX` is none, or none that can be asked for.
/// (Not rustix's, which panics where a filter forbids the question.)
pub fn limit_of(resource: Resource) -> [u64; 2] {
    let mut limit = libc::rlimit64 { rlim_cur: u64::MAX, rlim_max: u64::MAX };
    // SAFETY: writes the limits, which live through the call; they stay as they are if it fails.
    unsafe { libc::getrlimit64(resource as _, &raw mut limit) };
    [limit.rlim_cur, limit.rlim_max]
}

/// Closes what whoever started us left open by mistake, from descriptor `first` on, except `kept`. To be called when this
/// process has opened nothing else.
pub fn close_inherited(first: u32, kept: Option<BorrowedFd<'_>>) {
    let close = |first: u32, last: u32| {
        if first <= last {
            // SAFETY: nobody here owns these descriptors; a kernel before 5.9 refuses, and they stay open.
            unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) };
        }
    };
    match kept.map(|kept| kept.as_raw_fd() as u32).filter(|&kept| kept >= first) {
        Some(kept) => {
            if kept > first {
                close(first, kept - 1);
            }
            close(kept + 1, u32::MAX);
        }
        None => close(first, u32::MAX),
    }
}

/// The one chance of a daemon to say how its start went, to who waits for it.
#[derive(Debug)]
pub struct Verdict {
    pipe: OwnedFd,
}

impl Verdict {
    /// Says it. False: nobody waits for it any more.
    pub fn tell(self, text: &str) -> bool {
        let mut rest = text.as_bytes();
        while !rest.is_empty() {
            match rustix::io::write(&self.pipe, rest) {
                Ok(count) => rest = &rest[count..],
                Err(Errno::INTR) => {}
                Err(_) => return false,
            }
        }
        true
    }
}

/// Runs `body` in a daemon: a process of its own session without a terminal, in `/`, with an umask of 077, no signal blocked
/// or ignored, and `/dev/null` as its three standard streams. Returns its verdict: what it [told](Verdict::tell), or nothing if it ended without.
///
/// # Blocking
/// Until the daemon has told its verdict, or ended.
///
/// # Panics
/// If this program has started threads already.
///
/// # Errors
/// What the kernel said.
pub fn daemonize(body: impl FnOnce(Verdict) -> u8) -> Result<String, Errno> {
    let (answer, pipe) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    assert_one_thread();
    // SAFETY: this program has one thread, so the child's copy of the heap and of every lock is in order.
    let child = match unsafe { libc::fork() } {
        -1 => return Err(last_error()),
        0 => {
            drop(answer);
            let code = catch_unwind(AssertUnwindSafe(|| detach(pipe, body))).unwrap_or(1);
            // SAFETY: ends the process without running the parent's destructors or flushing its buffers.
            unsafe { libc::_exit(code.into()) }
        }
        pid => Child { pid: Pid::from_raw(pid).expect("a child's pid is positive") },
    };
    drop(pipe);
    child.reap();
    let mut verdict = Vec::new();
    let mut bytes = [0; 4096];
    loop {
        match rustix::io::read(&answer, &mut bytes) {
            Ok(0) => return Ok(String::from_utf8_lossy(&verdict).into_owned()),
            Ok(count) => verdict.extend_from_slice(&bytes[..count]),
            Err(Errno::INTR) => {}
            Err(error) if verdict.is_empty() => return Err(error),
            Err(_) => return Ok(String::from_utf8_lossy(&verdict).into_owned()), // told in one go
        }
    }
}

/// In the child: leaves the session, and forks again, so that the daemon leads none and can never get a terminal.
fn detach(pipe: OwnedFd, body: impl FnOnce(Verdict) -> u8) -> u8 {
    if rustix::process::setsid().is_err() {
        return 1;
    }
    // SAFETY: as the first fork.
    match unsafe { libc::fork() } {
        -1 => return 1,
        0 => {}
        _ => return 0,
    }
    signals::reset_signals();
    let private = rustix::fs::Mode::RWXG | rustix::fs::Mode::RWXO;
    rustix::process::umask(private);
    let null = || -> Result<(), Errno> {
        rustix::process::chdir("/")?;
        let flags = rustix::fs::OFlags::RDWR | rustix::fs::OFlags::CLOEXEC;
        let null = rustix::fs::open("/dev/null", flags, rustix::fs::Mode::empty())?;
        rustix::stdio::dup2_stdin(&null)?;
        rustix::stdio::dup2_stdout(&null)?;
        rustix::stdio::dup2_stderr(&null)
    };
    let verdict = Verdict { pipe };
    if let Err(error) = null() {
        verdict.tell(&format!("1cannot open /dev/null for the standard streams: {}", crate::reason(error)));
        return 1;
    }
    body(verdict)
}

fn last_error() -> Errno {
    Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::AGAIN)
}

/// Who is at the other end of a unix socket, as the kernel saw it when the connection was made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Peer {
    /// Its process id in our namespace; 0 if it has none there.
    pub pid: u32,
    /// Its user.
    pub uid: u32,
}

/// Asks who is at the other end of a unix socket.
///
/// # Errors
/// What the kernel said.
pub fn peer_of(socket: impl AsFd) -> Result<Peer, Errno> {
    // Not rustix's: a process of another namespace has pid 0, which its type cannot hold.
    // SAFETY: `ucred` is plain integers, for which zero is a value.
    let mut found: libc::ucred = unsafe { std::mem::zeroed() };
    let mut length = size_of::<libc::ucred>() as libc::socklen_t;
    let (socket, to) = (socket.as_fd().as_raw_fd(), (&raw mut found).cast());
    // SAFETY: writes at most `length` bytes to `found`, which lives through the call.
    let result =
        unsafe { libc::getsockopt(socket, libc::SOL_SOCKET, libc::SO_PEERCRED, to, &raw mut length) };
    if result == -1 {
        return Err(last_error());
    }
    Ok(Peer { pid: found.pid.try_into().unwrap_or(0), uid: found.uid })
}

/// How much of what was sent through a unix stream socket lies unread at its other end: as the kernel counts memory, so
/// only 0, and whether it changes, mean something.
///
/// # Errors
/// What the kernel said.
pub fn unread(socket: impl AsFd) -> Result<u32, Errno> {
    let mut count: libc::c_int = 0;
    // SAFETY: writes one integer to `count`, which lives through the call.
    match unsafe { libc::ioctl(socket.as_fd().as_raw_fd(), libc::TIOCOUTQ, &raw mut count) } {
        -1 => Err(last_error()),
        _ => Ok(count.try_into().unwrap_or(0)),
    }
}

/// Writes from memory that another process may change meanwhile: the kernel reads it, we do not.
///
/// # Safety
/// - `length` bytes from `start` on are mapped for reading until this returns.
///
/// # Blocking
/// As the descriptor does. With `at`, as pwrite(2) there.
///
/// # Errors
/// What the kernel said.
pub unsafe fn write_raw(
    to: impl AsFd,
    start: *const u8,
    length: usize,
    at: Option<u64>,
) -> Result<usize, Errno> {
    let fd = to.as_fd().as_raw_fd();
    let count = match at {
        // SAFETY: by the caller's contract.
        None => unsafe { libc::write(fd, start.cast(), length) },
        // Not `pwrite`, whose offsets have 32 bits on 32-bit machines.
        // SAFETY: by the caller's contract.
        Some(at) => unsafe { libc::pwrite64(fd, start.cast(), length, at as libc::off64_t) },
    };
    usize::try_from(count).map_err(|_| last_error())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};

    #[test]
    fn the_kernel_says_who_is_at_the_other_end() {
        let (here, _there) = std::os::unix::net::UnixStream::pair().unwrap();
        let peer = peer_of(&here).unwrap();
        assert_eq!(peer, Peer { pid: std::process::id(), uid: rustix::process::geteuid().as_raw() });
    }

    #[test]
    fn the_kernel_says_whether_everything_was_read() {
        let (mut here, mut there) = std::os::unix::net::UnixStream::pair().unwrap();
        assert_eq!(unread(&here), Ok(0));
        here.write_all(b"text").unwrap();
        assert!(unread(&here).unwrap() > 0);
        there.read_exact(&mut [0; 4]).unwrap();
        assert_eq!(unread(&here), Ok(0));
    }
}
