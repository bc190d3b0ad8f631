//! Forking and reaping. The program forks before it starts any thread.

use super::error::last_error;
use super::{signal, thread};
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitOptions, WaitStatus, getppid, kill_process, pidfd_open,
    set_parent_process_death_signal, waitpid,
};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::OnceLock;

/// How a forked process ended.
#[derive(Clone, Copy, Debug)]
pub enum Ending {
    /// It ended with this status, as waitpid(2) returned it.
    Known(WaitStatus),
    /// Another part of the program reaped it, or the kernel did.
    Unknown,
}

/// A forked process that this process has to reap.
#[derive(Debug)]
pub struct Child {
    pid: Pid,
    /// The replacement for a pidfd: a pipe whose other end only the child holds.
    lifeline: Option<OwnedFd>,
}

impl Child {
    /// Returns the child that fork(2) just returned.
    pub(super) fn new(pid: i32) -> Self {
        Self { pid: Pid::from_raw(pid).expect("a child's pid is positive"), lifeline: None }
    }

    /// Returns its process id.
    pub fn pid(&self) -> Pid {
        self.pid
    }

    /// Returns a descriptor that becomes readable when the child ends. Call this once. The child is not reaped before,
    /// so its pid cannot be another process's.
    ///
    /// # Errors
    /// The error of pidfd_open(2).
    pub fn end_event(&mut self) -> Result<OwnedFd, Errno> {
        self.lifeline.take().map_or_else(|| pidfd_open(self.pid, PidfdFlags::empty()), Ok)
    }

    /// Reaps the child if it has ended.
    pub fn try_reap(&self) -> Option<Ending> {
        match waitpid(Some(self.pid), WaitOptions::NOHANG) {
            Ok(ended) => ended.map(|(_, status)| Ending::Known(status)),
            Err(Errno::INTR) => None,
            Err(_) => Some(Ending::Unknown), // ECHILD: another wait would fail, too
        }
    }

    /// Reaps the child.
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

    /// Sends the child a signal. It is not reaped yet, so the pid is still its own.
    pub fn kill(&self, signal: Signal) {
        let _ = kill_process(self.pid, signal); // it may have ended just now
    }
}

/// Checks that this program has one thread.
///
/// # Panics
/// If this program has started other threads, because a fork would copy their locks in any state.
///
/// A preloaded library may have threads of its own, as monitoring agents do. Those hold no lock of this program, and
/// the C library repairs its own state in the child: memory, standard streams, the loader.
pub(super) fn assert_one_thread() {
    assert_eq!(thread::count(), 0, "forking comes before this program's threads");
}

/// Forks. The child runs `body` and ends with the code that it returns. It does not outlive its parent for long: the
/// kernel sends it SIGTERM when the parent dies, and that ends it even if SIGTERM is otherwise ignored.
///
/// # Panics
/// If this program has started threads, because a fork would copy their locks in any state.
///
/// # Errors
/// The error of fork(2), most often `EAGAIN`, because there are too many processes.
pub fn fork(body: impl FnOnce() -> u8) -> Result<Child, Errno> {
    assert_one_thread();
    // If a filter refuses this call, the child would end without a report.
    rustix::process::parent_process_death_signal()?;
    let parent = rustix::process::getpid();
    // The kernel closes the child's end when the child ends, however it ends, and the other end becomes readable.
    let (reader, writer) = match has_pidfds() {
        true => (None, None),
        false => pipe_with(PipeFlags::CLOEXEC).map(|(reader, writer)| (Some(reader), Some(writer)))?,
    };
    // SAFETY: this program has one thread, so the child's copies of the heap and of every lock are consistent.
    match unsafe { libc::fork() } {
        -1 => Err(last_error()),
        0 => {
            // The callers of this function belong to the parent. So a panic must not unwind into the child's copy of
            // them.
            let code = catch_unwind(AssertUnwindSafe(|| born(parent, body))).unwrap_or(1);
            // SAFETY: ends the process without running the parent's destructors or flushing its buffers.
            unsafe { libc::_exit(code.into()) }
        }
        pid => {
            // Before the next fork, so that no other child holds it.
            drop(writer);
            Ok(Child { lifeline: reader, ..Child::new(pid) })
        }
    }
}

/// Returns whether the kernel has pidfds, and no filter refuses them.
fn has_pidfds() -> bool {
    static ANSWER: OnceLock<bool> = OnceLock::new();
    *ANSWER.get_or_init(|| {
        let own = pidfd_open(rustix::process::getpid(), PidfdFlags::empty());
        !matches!(own, Err(Errno::NOSYS | Errno::PERM | Errno::ACCESS))
    })
}

fn born(parent: Pid, body: impl FnOnce() -> u8) -> u8 {
    signal::enter_child(parent.as_raw_pid());
    let armed = set_parent_process_death_signal(Some(Signal::TERM));
    if armed.is_err() || getppid() != Some(parent) {
        return 1; // the parent died before it could be watched
    }
    body()
}
