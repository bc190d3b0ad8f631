//! Becoming a daemon.

use super::error::{last_error, reason};
use super::fork::{Child, assert_one_thread};
use super::signal;
use rustix::fd::{AsRawFd, BorrowedFd, OwnedFd};
use rustix::io::Errno;
use std::panic::{AssertUnwindSafe, catch_unwind};

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
pub struct ReadyPipe {
    pipe: OwnedFd,
}

impl ReadyPipe {
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
/// or ignored, and `/dev/null` as its three standard streams. Returns its verdict: what it [told](ReadyPipe::tell), or nothing if it ended without.
///
/// # Blocking
/// Until the daemon has told its verdict, or ended.
///
/// # Panics
/// If this program has started threads already.
///
/// # Errors
/// What the kernel said.
pub fn daemonize(body: impl FnOnce(ReadyPipe) -> u8) -> Result<String, Errno> {
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
        pid => Child::new(pid),
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
fn detach(pipe: OwnedFd, body: impl FnOnce(ReadyPipe) -> u8) -> u8 {
    if rustix::process::setsid().is_err() {
        return 1;
    }
    // SAFETY: as the first fork.
    match unsafe { libc::fork() } {
        -1 => return 1,
        0 => {}
        _ => return 0,
    }
    signal::reset_signals();
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
    let verdict = ReadyPipe { pipe };
    if let Err(error) = null() {
        verdict.tell(&format!("1cannot open /dev/null for the standard streams: {}", reason(error)));
        return 1;
    }
    body(verdict)
}
