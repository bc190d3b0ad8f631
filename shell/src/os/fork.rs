//! Forking and reaping. Forks come before this program starts any thread.

use super::error::last_error;
use super::{signal, thread};
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitOptions, WaitStatus, getppid, kill_process, pidfd_open,
    set_parent_process_death_signal, waitpid,
};
use std::panic::{AssertUnwindSafe, catch_unwind};

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
    /// The child that fork(2) just returned.
    pub(super) fn new(pid: i32) -> Self {
        Self { pid: Pid::from_raw(pid).expect("a child's pid is positive") }
    }

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
pub(super) fn assert_one_thread() {
    assert_eq!(thread::count(), 0, "forking comes before this program's threads");
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
        -1 => Err(last_error()),
        0 => {
            // Whoever caught a panic above us is in the parent's copy of the stack: never return there.
            let code = catch_unwind(AssertUnwindSafe(|| born(parent, body))).unwrap_or(1);
            // SAFETY: ends the process without running the parent's destructors or flushing its buffers.
            unsafe { libc::_exit(code.into()) }
        }
        pid => Ok(Child::new(pid)),
    }
}

fn born(parent: Pid, body: impl FnOnce() -> u8) -> u8 {
    signal::enter_child(parent.as_raw_pid());
    let armed = set_parent_process_death_signal(Some(Signal::TERM));
    if armed.is_err() || getppid() != Some(parent) {
        return 1; // the parent died before it could be watched
    }
    body()
}
