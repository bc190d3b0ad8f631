//! Starts a daemon.

use super::error::{last_error, reason};
use super::fork::{Child, assert_one_thread};
use super::signal;
use rustix::fd::{AsRawFd, BorrowedFd, OwnedFd};
use rustix::io::Errno;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Closes the descriptors from `first` on, except `kept`, because the process that started this one may have left some open. The
/// caller has not opened any descriptor of its own yet.
pub fn close_inherited(first: u32, kept: Option<BorrowedFd<'_>>) {
    let close = |first: u32, last: u32| {
        if first <= last {
            // SAFETY: no value of this process owns these descriptors yet, by the contract above. A kernel before 5.9 refuses the
            // call, and then the descriptors stay open.
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

/// The pipe through which a daemon reports the result of its start to the process that called [`daemonize`].
#[derive(Debug)]
pub struct ReadyPipe {
    pipe: OwnedFd,
}

impl ReadyPipe {
    /// Sends the result. Returns `false` if the starting process no longer waits for it.
    pub fn send(self, text: &str) -> bool {
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

/// Starts a daemon that runs `body`. Returns the text that the daemon [sent](ReadyPipe::send), or an empty text if it ended without
/// sending one.
///
/// The daemon has:
/// - a session of its own, without a terminal;
/// - `/` as its working directory and 077 as its umask;
/// - no blocked or ignored signals, except those that this program ignores itself;
/// - `/dev/null` as its three standard streams.
///
/// # Errors
/// The kernel's error.
///
/// # Blocking
/// Blocks until the daemon has sent its result or has ended.
///
/// # Panics
/// Panics if this program has already started threads.
pub fn daemonize(body: impl FnOnce(ReadyPipe) -> u8) -> Result<String, Errno> {
    let (reader, writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    assert_one_thread();
    // SAFETY: this program has one thread, so the child's copies of the heap and of each lock are consistent.
    let child = match unsafe { libc::fork() } {
        -1 => return Err(last_error()),
        0 => {
            drop(reader);
            let code = catch_unwind(AssertUnwindSafe(|| detach(writer, body))).unwrap_or(1);
            // SAFETY: `_exit` has no preconditions. It does not run the parent's destructors or flush the parent's buffers.
            unsafe { libc::_exit(code.into()) }
        }
        pid => Child::new(pid),
    };
    drop(writer);
    child.reap();
    let mut text = Vec::new();
    let mut bytes = [0; 4096];
    loop {
        match rustix::io::read(&reader, &mut bytes) {
            Ok(0) => return Ok(String::from_utf8_lossy(&text).into_owned()),
            Ok(count) => text.extend_from_slice(&bytes[..count]),
            Err(Errno::INTR) => {}
            Err(error) if text.is_empty() => return Err(error),
            // The daemon writes its text at once, so the text is most likely complete.
            Err(_) => return Ok(String::from_utf8_lossy(&text).into_owned()),
        }
    }
}

/// Runs in the child. It starts a new session and forks again, so that the daemon does not lead that session and can never get a
/// terminal. Returns the exit code.
fn detach(writer: OwnedFd, body: impl FnOnce(ReadyPipe) -> u8) -> u8 {
    if rustix::process::setsid().is_err() {
        return 1;
    }
    // SAFETY: this process is a fork of a process with one thread, so it has one thread too.
    match unsafe { libc::fork() } {
        -1 => return 1,
        0 => {}
        _ => return 0,
    }
    signal::reset_signals();
    let private = rustix::fs::Mode::RWXG | rustix::fs::Mode::RWXO;
    rustix::process::umask(private);
    let enter_root_without_streams = || -> Result<(), Errno> {
        rustix::process::chdir("/")?;
        let flags = rustix::fs::OFlags::RDWR | rustix::fs::OFlags::CLOEXEC;
        let null = rustix::fs::open("/dev/null", flags, rustix::fs::Mode::empty())?;
        rustix::stdio::dup2_stdin(&null)?;
        rustix::stdio::dup2_stdout(&null)?;
        rustix::stdio::dup2_stderr(&null)
    };
    let ready = ReadyPipe { pipe: writer };
    if let Err(error) = enter_root_without_streams() {
        ready.send(&format!("1cannot open /dev/null for the standard streams: {}", reason(error)));
        return 1;
    }
    body(ready)
}
