//! The processes beside a victim, and the words by which a test synchronises them.
//!
//! Patience counts short waits, not time, because a process that was frozen together with all others must not report a
//! hang.

use libc::pid_t;
use std::io::Write;
use std::sync::atomic::Ordering::SeqCst;
use std::thread::sleep;
use std::time::{Duration, Instant};
use whorl::internal::os::futex::SharedFutex;
use whorl_core::host::Futex;
use whorl_core::sync::AtomicU32;

/// What a survivor found that must not be.
#[derive(Debug)]
pub enum Fault {
    /// It waited without end.
    Hang(String),
    /// Something was torn, lost, or reported wrongly.
    Loss(String),
}

pub type Outcome = Result<(), Fault>;

pub fn hang<T>(what: impl Into<String>) -> Result<T, Fault> {
    Err(Fault::Hang(what.into()))
}

pub fn loss<T>(what: impl Into<String>) -> Result<T, Fault> {
    Err(Fault::Loss(what.into()))
}

/// Returns a loss unless `so`.
pub fn ensure(so: bool, what: impl FnOnce() -> String) -> Outcome {
    if so { Ok(()) } else { loss(what()) }
}

/// How many short waits make a hang: 6 seconds of them. Each is longer than a wait slice, after which a waiter looks
/// for dead processes.
const PATIENCE: u32 = 50;
const SHORT: Duration = Duration::from_millis(120);

/// Tries with a short deadline until there is an answer. Returns a hang when the patience ends.
pub fn retry<T>(what: &str, mut attempt: impl FnMut(Instant) -> Option<T>) -> Result<T, Fault> {
    for _ in 0..PATIENCE {
        if let Some(answer) = attempt(Instant::now() + SHORT) {
            return Ok(answer);
        }
    }
    hang(what)
}

/// Words that the processes of one test share.
#[derive(Clone, Copy)]
pub struct Words(&'static [AtomicU32; 64]);

impl Words {
    /// New zeroes, never freed: a worker makes as many as it needs and ends.
    pub fn new() -> Self {
        Self(shared_zeroes())
    }

    pub fn get(self, index: usize) -> u32 {
        self.0[index].load(SeqCst)
    }

    pub fn set(self, index: usize, value: u32) {
        self.0[index].store(value, SeqCst);
        SharedFutex.wake_all(&self.0[index]);
    }

    pub fn word(self, index: usize) -> &'static AtomicU32 {
        &self.0[index]
    }

    /// Waits until a word is not 0.
    pub fn wait(self, index: usize, what: &str) -> Outcome {
        retry(what, |deadline| match self.get(index) {
            0 => {
                SharedFutex.wait(&self.0[index], 0, Some(deadline));
                (self.get(index) != 0).then_some(())
            }
            _ => Some(()),
        })
    }

    /// Waits without a limit until a word is not 0. For peers that are killed if their tester ends.
    pub fn wait_for_ever(self, index: usize) {
        while self.get(index) == 0 {
            SharedFutex.wait(&self.0[index], 0, None);
        }
    }

    pub fn free(self) {
        // SAFETY: mapped by `shared_zeroes`; the last user frees it.
        unsafe { libc::munmap(self.0 as *const _ as *mut libc::c_void, size_of::<[AtomicU32; 64]>()) };
    }
}

/// Zeroed memory that this process shares with those it forks.
pub fn shared_zeroes<T>() -> &'static T {
    let (read, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED | libc::MAP_ANONYMOUS);
    // SAFETY: a new mapping at an address of the kernel's choice.
    let start = unsafe { libc::mmap(std::ptr::null_mut(), size_of::<T>(), read, flags, -1, 0) };
    assert_ne!(start, libc::MAP_FAILED, "mmap: {}", std::io::Error::last_os_error());
    // SAFETY: aligned to a page, zeroed, long enough; used for types that consist of atomics only.
    unsafe { &*start.cast::<T>() }
}

/// A survivor: a process that runs beside the victim, and reports by its exit code what it found. Killed when dropped.
pub struct Peer {
    pid: pid_t,
    over: bool,
}

impl Peer {
    pub fn fork(name: &str, body: impl FnOnce() -> Outcome) -> Self {
        // SAFETY: this process has one thread (`sweep`), so the child may call anything.
        let pid = unsafe { libc::fork() };
        assert!(pid >= 0, "fork: {}", std::io::Error::last_os_error());
        if pid == 0 {
            // SAFETY: no memory is involved.
            unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
            let code = match std::panic::catch_unwind(std::panic::AssertUnwindSafe(body)) {
                Ok(Ok(())) => 0,
                Ok(Err(Fault::Hang(what))) => say(&format!("{name}: {what}"), 1),
                Ok(Err(Fault::Loss(what))) => say(&format!("{name}: {what}"), 2),
                Err(_) => 3,
            };
            // SAFETY: ends this process without the tester's own exit handlers.
            unsafe { libc::_exit(code) };
        }
        Self { pid, over: false }
    }

    /// Waits until it sleeps in the kernel.
    pub fn asleep(&self) -> Outcome {
        for _ in 0..50_000 {
            let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid)).unwrap_or_default();
            match stat.rsplit_once(") ").map(|(_, rest)| rest.as_bytes()[0]) {
                Some(b'S') => return Ok(()),
                Some(b'Z') | None => return loss("a peer ended before its time"),
                _ => sleep(Duration::from_micros(100)),
            }
        }
        hang("a peer that was to sleep")
    }

    /// Waits for its end, and returns what it found.
    pub fn end(mut self, name: &str) -> Outcome {
        for nap in 0..25_000u64 {
            let mut status = 0;
            // SAFETY: our own child, not reaped yet.
            if unsafe { libc::waitpid(self.pid, &raw mut status, libc::WNOHANG) } == self.pid {
                self.over = true;
                return match (libc::WIFEXITED(status), libc::WEXITSTATUS(status)) {
                    (true, 0) => Ok(()),
                    (true, 1) => hang(name),
                    _ => loss(format!("{name}: status {status:#x}")),
                };
            }
            sleep(Duration::from_micros(nap.clamp(20, 200)));
        }
        hang(format!("{name} never ended"))
    }

    /// Waits for its end without a limit.
    pub fn wait(mut self) -> i32 {
        let mut status = 0;
        // SAFETY: our own child, not reaped yet.
        unsafe { libc::waitpid(self.pid, &raw mut status, 0) };
        self.over = true;
        status
    }

    pub fn signal(&self, signal: i32) {
        // SAFETY: our own child, not reaped yet.
        unsafe { libc::kill(self.pid, signal) };
    }

    /// Kills it, and waits until the kernel has released everything that it held.
    pub fn kill(self) {
        drop(self);
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        if !self.over {
            // SAFETY: our own child, not reaped yet.
            unsafe { libc::kill(self.pid, libc::SIGKILL) };
            // SAFETY: as above.
            unsafe { libc::waitpid(self.pid, std::ptr::null_mut(), 0) };
        }
    }
}

/// Writes to stderr past the capture of a test's output, which a forked process does not share.
pub fn say(what: &str, code: i32) -> i32 {
    let _ = writeln!(std::io::stderr(), "  {what}");
    code
}
